//! A record as a source gives it: borrowed bytes and where they stand in the log.

use std::fmt;
use std::sync::Arc;

use crate::time::EventTime;

/// Where the records of one partition come from; names the place in letters and errors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Lines of a file; `offset` is the line's number less one.
    File(Arc<str>),
    /// A partition of a Kafka topic.
    Topic(Arc<str>, i32),
    /// Records that a program feeds or makes, by partition.
    Memory(Arc<str>, u32),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => write!(f, "{name}"),
            Self::Topic(name, partition) => write!(f, "{name}[{partition}]"),
            Self::Memory(name, partition) => write!(f, "{name}[{partition}]"),
        }
    }
}

/// Headers of a record, looked up only where somebody asks.
pub trait Headers {
    /// Calls `each` with name and value of every header, in order.
    fn each(&self, each: &mut dyn FnMut(&str, Option<&[u8]>));
}

/// One record of a partition, as read. It borrows from the batch that was fetched.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Place in the partition: Kafka's offset, or the line's number less one.
    pub offset: u64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a null value (a tombstone).
    pub value: Option<&'a [u8]>,
    /// The stamp that the log itself gives the record; files have none.
    pub timestamp: Option<EventTime>,
    /// Headers, if the log has them.
    pub headers: Option<&'a dyn Headers>,
    /// The value's true length, if a connector had to cut it (it is too large for a record).
    pub full_len: Option<u64>,
}

impl<'a> Record<'a> {
    /// A record without key, stamp and headers.
    pub fn line(offset: u64, value: &'a [u8]) -> Self {
        Self {
            offset,
            key: None,
            value: Some(value),
            timestamp: None,
            headers: None,
            full_len: None,
        }
    }

    /// The key, if there is one.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; nothing where it is null, which no decoder ever sees.
    pub fn value(&self) -> &'a [u8] {
        self.value.unwrap_or_default()
    }

    /// The stamp that the log itself gives the record; files have none.
    pub fn timestamp(&self) -> Option<EventTime> {
        self.timestamp
    }

    /// Names and values of its headers, in order. They are copied here, and only here.
    pub fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let mut all = Vec::new();
        if let Some(headers) = self.headers {
            headers.each(&mut |name, value| {
                all.push((name.to_owned(), value.map(<[u8]>::to_vec)));
            });
        }
        all
    }

    /// Bytes of key and value.
    pub fn len(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }

    /// Whether neither key nor value has a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("bytes", &self.len())
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}
