//! A stretch of a log: whole batches in the order of their offsets. Retention drops whole segments.

use std::time::Instant;

use bytes::Bytes;

use super::batch::Header;

/// What a batch costs beside its bytes: its entry here, and what an allocation takes.
const OVERHEAD: usize = size_of::<Stored>() + 32;

/// What a batch of so many bytes costs.
pub(super) fn cost(bytes: usize) -> usize {
    bytes + OVERHEAD
}

/// A batch in its place.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) base: i64,
    /// The offset of its last record.
    pub(super) last: i64,
    pub(super) max_timestamp: i64,
    pub(super) bytes: Bytes,
}

impl Stored {
    pub(super) fn header(&self) -> Header {
        Header::read(&self.bytes)
    }

    pub(super) fn cost(&self) -> usize {
        cost(self.bytes.len())
    }
}

/// A stretch of a log, never empty.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) batches: Vec<Stored>,
    pub(super) cost: usize,
    pub(super) max_timestamp: i64,
    /// When its first batch came.
    pub(super) born: Instant,
}

impl Segment {
    pub(super) fn new(first: Stored, born: Instant) -> Self {
        Self {
            cost: first.cost(),
            max_timestamp: first.max_timestamp,
            batches: vec![first],
            born,
        }
    }

    pub(super) fn push(&mut self, batch: Stored) {
        self.cost += batch.cost();
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
        self.batches.push(batch);
    }

    /// The offset of its last record.
    pub(super) fn last(&self) -> i64 {
        self.batches.last().map_or(-1, |batch| batch.last)
    }
}
