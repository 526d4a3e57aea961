//! Event time: what the producer of an event says about when it happened.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::rfc3339;

/// Milliseconds since 1970 UTC, claimed by the producer of an event. Negative before 1970.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct EventTime(i64);

impl EventTime {
    /// Before every event: the watermark of a log of which nothing is known.
    pub const NEVER: Self = Self(i64::MIN);
    /// After every event: the watermark of a log that has ended.
    pub const END: Self = Self(i64::MAX);

    /// The last time that an event may claim: the end of year 9999.
    pub const LATEST: Self = Self(rfc3339::MAX_MS);

    /// The time `millis` milliseconds after 1970 UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 UTC.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This time and `millis` more. [`Self::NEVER`] and [`Self::END`] stay what they are.
    #[must_use]
    pub const fn plus(self, millis: i64) -> Self {
        match self {
            Self::NEVER | Self::END => self,
            Self(time) => Self(time.saturating_add(millis)),
        }
    }

    /// This time less `millis`. [`Self::NEVER`] and [`Self::END`] stay what they are.
    #[must_use]
    pub const fn minus(self, millis: i64) -> Self {
        self.plus(millis.saturating_neg())
    }

    /// Whether it lies in the years 0000 to 9999, which is what an event may claim.
    pub const fn is_plausible(self) -> bool {
        self.0 >= rfc3339::MIN_MS && self.0 <= rfc3339::MAX_MS
    }
}

/// `duration` in whole milliseconds; what is too long for that is cut to the longest.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<i64> for EventTime {
    fn from(millis: i64) -> Self {
        Self(millis)
    }
}

impl From<SystemTime> for EventTime {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(before) => {
                let before = before.duration();
                let whole = millis(before).saturating_neg();
                let cut = i64::from(before.subsec_nanos() % 1_000_000 != 0);
                Self(whole.saturating_sub(cut))
            }
        }
    }
}

/// Cut to milliseconds, toward the past.
#[cfg(feature = "jiff")]
impl From<jiff::Timestamp> for EventTime {
    fn from(time: jiff::Timestamp) -> Self {
        // Years -9999 to 9999 fit.
        let millis = time.as_nanosecond().div_euclid(1_000_000);
        Self(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

/// The instant, cut to milliseconds, toward the past; the zone is not kept.
#[cfg(feature = "jiff")]
impl From<jiff::Zoned> for EventTime {
    fn from(time: jiff::Zoned) -> Self {
        Self::from(time.timestamp())
    }
}

/// The instant, cut to milliseconds, toward the past; the zone is not kept.
#[cfg(feature = "chrono")]
impl<Z: chrono::TimeZone> From<chrono::DateTime<Z>> for EventTime {
    fn from(time: chrono::DateTime<Z>) -> Self {
        Self(time.timestamp_millis())
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.write_str("-inf"),
            Self::END => f.write_str("+inf"),
            Self(millis) => write!(f, "{}", rfc3339::format(millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ends_absorb() {
        assert_eq!(EventTime::NEVER.plus(5), EventTime::NEVER);
        assert_eq!(EventTime::END.minus(5), EventTime::END);
        assert_eq!(EventTime::from(3).minus(5), EventTime::from(-2));
    }

    #[cfg(feature = "jiff")]
    #[test]
    fn times_of_jiff_are_cut_toward_the_past() {
        for (nanos, millis) in [(-1_500_000, -2), (-1_000_000, -1), (1_999_999, 1)] {
            let time = jiff::Timestamp::from_nanosecond(nanos).unwrap();
            assert_eq!(EventTime::from(time), EventTime::from(millis));
            let zoned = time.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(5)));
            assert_eq!(EventTime::from(zoned), EventTime::from(millis));
        }
    }

    #[cfg(feature = "chrono")]
    #[test]
    fn times_of_chrono_are_cut_toward_the_past() {
        for (nanos, millis) in [(-1_500_000, -2), (-1_000_000, -1), (1_999_999, 1)] {
            let time = chrono::DateTime::from_timestamp_nanos(nanos);
            assert_eq!(EventTime::from(time), EventTime::from(millis));
            let zone = chrono::FixedOffset::east_opt(18_000).unwrap();
            assert_eq!(
                EventTime::from(time.with_timezone(&zone)),
                EventTime::from(millis)
            );
        }
    }

    #[test]
    fn times_before_1970_are_cut_toward_the_past() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_micros(1_500);
        assert_eq!(EventTime::from(time), EventTime::from(-2));
    }
}
