//! What can go wrong, in three treatments: bad data is output (dead letters), operating errors are
//! [`Error`], programmer errors are panics that end the job.

use std::fmt;

/// What an [`Error`] is about; decides the exit code of a job binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The world outside failed: a disk, a broker, a file. A restart may help. Exit 1.
    Operating,
    /// The job was asked for nonsense: a flag, a port, a parameter. Exit 2.
    Usage,
    /// State or log do not allow to go on. Exit 3.
    State,
    /// Another instance owns the job. Exit 4.
    Owned,
    /// A limit that was set or defaulted was reached. Exit 5.
    Limit,
    /// A signal ended a bounded run; holds the signal's number. Exit 128 + number.
    Interrupted(i32),
    /// User code or the engine itself panicked.
    Panic,
}

/// Whether to try the same thing again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call may succeed later.
    Later,
    /// It will not, before somebody changes something.
    Never,
}

/// An operating or usage error: one lower-case sentence that names the thing, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of most fallible calls here.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `context` names the thing it is about.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// An operating error, worth a restart.
    pub fn operating(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Operating, context)
    }

    /// A usage error: somebody has to change the call.
    pub fn usage(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, context)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// What it is about.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether a restart may help.
    pub fn retry(&self) -> Retry {
        match self.kind {
            ErrorKind::Operating => Retry::Later,
            _ => Retry::Never,
        }
    }

    /// The exit code of a job binary that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Operating => 1,
            ErrorKind::Usage => 2,
            ErrorKind::State => 3,
            ErrorKind::Owned => 4,
            ErrorKind::Limit => 5,
            ErrorKind::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(130),
            ErrorKind::Panic => 101,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// ` (did you mean ..?)`, if a known name is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let close = |other: &&str| distance(name, other) <= 1 + name.len() / 4;
    let near = known
        .filter(close)
        .min_by_key(|other| distance(name, other));
    near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

/// Edits that lead from one name to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        let known = || ["size", "lag", "allowed-lateness"].into_iter();
        assert_eq!(nearest("sise", known()), " (did you mean `size`?)");
        assert_eq!(
            nearest("allowed-latenes", known()),
            " (did you mean `allowed-lateness`?)"
        );
        assert_eq!(nearest("colour", known()), "");
    }
}
