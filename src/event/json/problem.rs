//! Why a record cannot be decoded, in one short sentence.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

/// How much of a sentence is kept: it travels in a header of the dead letter.
const CHARS_MAX: usize = 200;

/// Why a record cannot be decoded. One pointer wide, since it is part of every result.
#[derive(Debug)]
pub(super) struct Problem(Box<Kind>);

#[derive(Debug)]
enum Kind {
    /// No JSON.
    Syntax { byte: usize, what: &'static str },
    /// JSON, but not of the type.
    Value { path: String, what: String },
}

impl Problem {
    /// The record is no JSON at the byte `at`, counted from 0.
    #[cold]
    pub(super) fn syntax(at: usize, what: &'static str) -> Self {
        Problem(Box::new(Kind::Syntax { byte: at + 1, what }))
    }

    /// Adds the field that encloses the problem.
    #[cold]
    pub(super) fn within(mut self, field: &str) -> Self {
        if let Kind::Value { path, .. } = &mut *self.0 {
            let dot = if path.is_empty() || path.starts_with('[') {
                ""
            } else {
                "."
            };
            *path = format!("{field}{dot}{path}");
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match &*self.0 {
            Kind::Syntax { byte, what } => return write!(f, "byte {byte}: {what}"),
            Kind::Value { path, what } if path.is_empty() => what,
            Kind::Value { path, what } => &format!("`{path}`: {what}"),
        };
        match sentence.char_indices().nth(CHARS_MAX) {
            Some((end, _)) => write!(f, "{}…", &sentence[..end]),
            None => f.write_str(sentence),
        }
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    #[cold]
    fn custom<T: fmt::Display>(what: T) -> Self {
        Problem(Box::new(Kind::Value {
            path: String::new(),
            what: what.to_string(),
        }))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {}", Found(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format_args!("field `{field}` is given twice"))
    }
}

/// A value in the words of JSON.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "{value}"),
            Unexpected::Unsigned(value) => write!(f, "{value}"),
            Unexpected::Signed(value) => write!(f, "{value}"),
            Unexpected::Float(value) => write!(f, "{value:?}"),
            Unexpected::Str(value) => write!(f, "{value:?}"),
            Unexpected::Unit => f.write_str("null"),
            Unexpected::Seq => f.write_str("an array"),
            Unexpected::Map => f.write_str("an object"),
            other => write!(f, "{other}"),
        }
    }
}
