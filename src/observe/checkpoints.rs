//! What is known of a run's checkpoints, for whoever reports.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::now;

/// Where a run went on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The number of the checkpoint.
    pub checkpoint: u64,
    /// What each source had come to.
    pub sources: Vec<ResumedSource>,
}

/// What a source had come to at a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedSource {
    /// Its port.
    pub source: String,
    /// Its watermark in milliseconds since 1970 UTC, if one was known.
    pub watermark: Option<i64>,
    /// Partitions, and in each the offset of the next record.
    pub next: Vec<(u32, u64)>,
}

/// A checkpoint that is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub(crate) number: u64,
    /// Bytes of all that it names.
    pub(crate) bytes: u64,
    pub(crate) at: Instant,
    /// From when its parts were gathered until it was committed.
    pub(crate) took: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct CheckpointBoard {
    resumed: OnceLock<Resumed>,
    last: Mutex<Option<Committed>>,
}

impl CheckpointBoard {
    /// The run goes on from there. Only the first word counts.
    pub(crate) fn resume(&self, resumed: Resumed) {
        let _ = self.resumed.set(resumed);
    }

    pub(crate) fn resumed(&self) -> Option<&Resumed> {
        self.resumed.get()
    }

    /// A checkpoint of so many bytes is committed, which took since `began`.
    pub(crate) fn commit(&self, number: u64, bytes: u64, began: Instant) {
        let at = now();
        let took = at.duration_since(began);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Committed {
            number,
            bytes,
            at,
            took,
        });
    }

    /// The last one that this run has committed.
    pub(crate) fn last(&self) -> Option<Committed> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
