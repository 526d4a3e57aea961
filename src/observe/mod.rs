//! What a run tells about itself: counters that balance, who holds the watermark, and why results
//! wait. Counters are written once a batch, never once a record.

mod board;
mod budget;
#[cfg_attr(
    not(feature = "cli"),
    allow(unreachable_pub, reason = "what `cli` tells is public there")
)]
mod checkpoints;
mod clock;
mod crash;
mod holding;
mod life;
mod metrics;
mod summary;

pub(crate) use board::{Board, PartitionStatus, SinkStatus, SourceStatus};
pub(crate) use budget::Budget;
pub(crate) use checkpoints::CheckpointBoard;
#[cfg_attr(
    not(feature = "cli"),
    allow(unreachable_pub, reason = "what `cli` tells is public there")
)]
pub use checkpoints::{Resumed, ResumedSource};
#[cfg(test)]
pub(crate) use clock::simulated;
pub(crate) use clock::{now, process, since, time_of_day, uptime};
pub(crate) use crash::crash_point;
pub(crate) use holding::{Held, Holding};
pub(crate) use life::Life;
pub(crate) use metrics::{Metrics, Tally, WorkerMetrics};
pub use summary::Summary;
pub(crate) use summary::{duration, grouped};
