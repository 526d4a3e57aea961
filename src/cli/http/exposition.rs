//! Prometheus' text form, version 0.0.4. The counters are ours, kept by workers and added up when
//! somebody asks, so all that is wanted of a client library is its way of writing.

use std::fmt::{self, Write};

/// What a family of metrics is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A number as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Count(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Real(real) if real == f64::INFINITY => f.write_str("+Inf"),
            Self::Real(real) if real == f64::NEG_INFINITY => f.write_str("-Inf"),
            Self::Real(real) => write!(f, "{real}"),
        }
    }
}

/// The text, as it grows.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    pub(super) text: String,
}

impl Exposition {
    /// Writes a family: its help, its type, and a line for each sample: labels and value. A family
    /// without samples is left out.
    pub(super) fn family<'a, V: Into<Value>>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'a str, String)>, V)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let mut head = Some(head);
        for (labels, value) in samples {
            self.text.push_str(&head.take().unwrap_or_default());
            self.text.push_str(name);
            for (nth, (label, value)) in labels.iter().enumerate() {
                let before = if nth == 0 { '{' } else { ',' };
                let value = Escaped(value);
                write!(self.text, "{before}{label}=\"{value}\"").expect("a string takes it");
            }
            let after = if labels.is_empty() { "" } else { "}" };
            writeln!(self.text, "{after} {}", value.into()).expect("a string takes it");
        }
    }

    /// Writes a family of one sample without labels.
    pub(super) fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Into<Value>) {
        self.family(name, kind, help, [(Vec::new(), value)]);
    }
}

/// The value of a label, in which a backslash, a quote and a line's end are escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str(r"\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str(r"\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_labels_are_written_as_the_form_wants() {
        let mut out = Exposition::default();
        out.one("up", Kind::Gauge, "Whether.", 1);
        let nothing: [(Vec<(&str, String)>, u64); 0] = [];
        out.family("none_total", Kind::Counter, "Nothing.", nothing);
        let odd = vec![("name", "a\"b\\c\nd".to_owned()), ("n", "ü".to_owned())];
        let samples = [(odd, 1.5), (vec![("name", String::new())], f64::INFINITY)];
        out.family("x_total", Kind::Counter, "Odd names.", samples);
        let expected = "# HELP up Whether.\n# TYPE up gauge\nup 1\n\
             # HELP x_total Odd names.\n# TYPE x_total counter\n\
             x_total{name=\"a\\\"b\\\\c\\nd\",n=\"ü\"} 1.5\nx_total{name=\"\"} +Inf\n";
        assert_eq!(out.text, expected);
    }
}
