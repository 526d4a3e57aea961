//! What the time of an event can be given as.

use std::fmt;
use std::time::SystemTime;

use crate::event::DeadReason;
use crate::time::EventTime;

/// What the time of an event can be given as.
pub trait ToEventTime {
    /// The time, or a sentence that says why there is none.
    ///
    /// # Errors
    /// Makes the record a dead letter.
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)>;
}

// Whatever is an `Into<EventTime>`; a blanket implementation would leave no room for those below.
macro_rules! times {
    ($($(#[$feature:meta])? $time:ty),* $(,)?) => {$(
        $(#[$feature])?
        impl ToEventTime for $time {
            #[inline]
            fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
                Ok(self.into())
            }
        }
    )*};
}
times!(
    EventTime,
    i64,
    SystemTime,
    #[cfg(feature = "jiff")]
    jiff::Timestamp,
    #[cfg(feature = "jiff")]
    jiff::Zoned,
);

#[cfg(feature = "chrono")]
impl<Z: chrono::TimeZone> ToEventTime for chrono::DateTime<Z> {
    #[inline]
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
        Ok(self.into())
    }
}

impl<T: ToEventTime> ToEventTime for Option<T> {
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
        match self {
            Some(time) => time.to_event_time(),
            None => Err((DeadReason::NoEventTime, "the event has no time".to_owned())),
        }
    }
}

impl<T: ToEventTime, E: fmt::Display> ToEventTime for Result<T, E> {
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
        match self {
            Ok(time) => time.to_event_time(),
            Err(why) => Err((DeadReason::Decode, why.to_string())),
        }
    }
}
