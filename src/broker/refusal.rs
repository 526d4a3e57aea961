//! Why a request, or a part of it, was not done: Kafka's code, and a sentence for who reads logs.

use std::fmt;

pub(super) use kafka_protocol::error::ResponseError as Code;
use kafka_protocol::protocol::StrBytes;

/// A part of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    why: String,
}

/// What a handler gives for one topic, partition, group or record batch.
pub(super) type Answer<T = ()> = Result<T, Refusal>;

impl Refusal {
    pub(super) fn new(code: Code, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { code, why }
    }

    /// The sentence, where a response has a place for it.
    fn message(&self) -> StrBytes {
        StrBytes::from_string(self.to_string())
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code, String::new())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.why.is_empty() {
            return write!(f, "{}", self.code);
        }
        f.write_str(&self.why)
    }
}

/// The code of a response: 0 where nothing was refused.
pub(super) fn code<T>(answer: &Answer<T>) -> i16 {
    answer
        .as_ref()
        .err()
        .map_or(0, |refusal| refusal.code.code())
}

/// The message of a response: none where nothing was refused.
pub(super) fn message<T>(answer: &Answer<T>) -> Option<StrBytes> {
    answer.as_ref().err().map(Refusal::message)
}
