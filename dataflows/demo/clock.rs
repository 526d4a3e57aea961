//! The demo's clock. Here it may be read: behaviour is made up *now*, and no result depends on it.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the demo's clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970 UTC.
#[expect(clippy::disallowed_methods, reason = "this is the demo's clock")]
pub(super) fn millis() -> i64 {
    let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    whole(passed.unwrap_or_default())
}

/// A duration in whole milliseconds.
pub(super) fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
