//! What a run tells about itself: counters that balance, who holds the watermark, and why results
//! wait. Counters are written once a batch, never once a record.

mod board;
mod clock;
mod metrics;
mod summary;

pub(crate) use board::{Board, PartitionStatus, SourceStatus};
pub(crate) use clock::now;
#[cfg(feature = "dev-broker")]
pub(crate) use clock::time_of_day;
pub(crate) use metrics::{Metrics, Tally, WorkerMetrics};
pub use summary::Summary;
pub(crate) use summary::{duration, grouped};
