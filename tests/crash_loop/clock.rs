//! The clocks of the machine, which pace the loop and name its seed.

use std::time::{Instant, SystemTime};

#[expect(
    clippy::disallowed_methods,
    reason = "a test harness waits in real time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A number that the next run does not have.
pub(crate) fn any_seed() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ since.as_secs().rotate_left(20)
}
