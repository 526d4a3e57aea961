//! The epoch: the timely timestamp of the engine.

use std::fmt;

use differential_dataflow::lattice::Lattice;
use serde::{Deserialize, Serialize};
use timely::order::{PartialOrder, TotalOrder};
use timely::progress::Timestamp;
use timely::progress::timestamp::{PathSummary, Refines};

/// A slice of the input, cut at the sources: for each partition one contiguous range of offsets.
/// Its frontier is the checkpoint clock; it says nothing about event time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(u64);

impl Epoch {
    /// The first epoch of a run.
    pub const FIRST: Self = Self(0);

    /// Epoch number `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialOrder for Epoch {
    fn less_equal(&self, other: &Self) -> bool {
        self <= other
    }
}

impl TotalOrder for Epoch {}

impl Timestamp for Epoch {
    type Summary = Epoch;
    fn minimum() -> Self {
        Self::FIRST
    }
}

impl PathSummary<Epoch> for Epoch {
    fn results_in(&self, source: &Epoch) -> Option<Epoch> {
        self.0.checked_add(source.0).map(Epoch)
    }
    fn followed_by(&self, other: &Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Epoch)
    }
}

impl Refines<()> for Epoch {
    fn to_inner((): ()) -> Self {
        Self::FIRST
    }
    fn to_outer(self) {}
    fn summarize(_: Self) {}
}

impl Lattice for Epoch {
    fn join(&self, other: &Self) -> Self {
        *self.max(other)
    }
    fn meet(&self, other: &Self) -> Self {
        *self.min(other)
    }
}
