//! The clock: the one place where the machine's is read. Nothing that it says reaches an operator.

use std::time::{Instant, SystemTime};

use crate::time::EventTime;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day: a claim of this machine, for stamps that are told to others.
pub(crate) fn time_of_day() -> EventTime {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    SystemTime::now().into()
}
