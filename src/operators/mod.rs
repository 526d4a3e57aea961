//! Operators: what happens to events between source and sink.
//!
//! Whoever keeps state does it behind one contract, [`ByEpoch`]: it is given the records of an
//! epoch, then the watermark at the epoch's end, epoch after epoch, and may look at nothing else:
//! not at a clock, not at which worker sent a record, not at what came of a later epoch. So its
//! state at the end of an epoch is the consistent cut "all input up to here", and its output a
//! function of the log.

mod by_epoch;
mod dedup;
mod freezing;
mod key_by;
mod letters;
mod map;
mod order;
mod process;
mod steps;
mod timely;
mod union;
pub(crate) mod watermark;
mod window;

pub(crate) use by_epoch::{ByEpoch, by_epoch};
pub use dedup::Ids;
pub use process::{Process, ProcessContext};
pub use timely::Events;
pub use window::{
    Aggregate, Aggregated, Aggregates, Avg, Count, CountBy, ExactSum, Extreme, First, Fold, IntSum,
    Last, Max, Min, Number, Sum, Windowed,
};

#[cfg(test)]
mod tests;
