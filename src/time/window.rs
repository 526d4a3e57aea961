//! Windows of event time, and when what belongs to them is closed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EventTime, millis};

/// A span of event time: `start` belongs to it, `end` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first time in it.
    pub start: EventTime,
    /// The first time behind it.
    pub end: EventTime,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// Windows of one size, side by side, without gap or overlap, aligned to 1970 UTC.
///
/// Each event belongs to exactly one, also before 1970: division is floored.
///
/// # Example
/// ```
/// use anabranch::time::{EventTime, Tumbling};
/// use std::time::Duration;
///
/// let windows = Tumbling::of(Duration::from_secs(10));
/// let window = windows.window(EventTime::from_millis(-1));
/// assert_eq!((window.start.millis(), window.end.millis()), (-10_000, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    size: i64,
    offset: i64,
}

impl Tumbling {
    /// Windows of `size`, cut to whole milliseconds. A size below one millisecond is refused where
    /// the windows are put to use, as an error of the job's description.
    pub fn of(size: Duration) -> Self {
        Self {
            size: millis(size),
            offset: 0,
        }
    }

    /// The same windows, beginning `offset` later.
    #[must_use]
    pub fn offset(self, offset: Duration) -> Self {
        Self {
            offset: millis(offset),
            ..self
        }
    }

    /// Their size in milliseconds.
    pub fn size_millis(self) -> i64 {
        self.size
    }

    /// The window that holds `time`.
    #[inline]
    pub fn window(self, time: EventTime) -> Window {
        let size = self.size.max(1);
        // Saturation matters only for sizes near the range of the clock itself.
        let into = time.millis().saturating_sub(self.offset).rem_euclid(size);
        let start = time.minus(into);
        Window {
            start,
            end: start.plus(size),
        }
    }
}

/// When an operator can take no more events of a time: `c(t)`, once the horizon reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Right behind the event: whatever handles events in order.
    Next,
    /// The end of the window that holds it.
    WindowEnd(Tumbling),
}

impl Closing {
    pub(crate) fn of(self, time: EventTime) -> EventTime {
        match self {
            Self::Next => time.plus(1),
            Self::WindowEnd(windows) => windows.window(time).end,
        }
    }

    /// The smallest closing time over all operators that a source feeds first; none asks for
    /// nothing, and no event is late.
    pub(crate) fn earliest(all: &[Self], time: EventTime) -> EventTime {
        all.iter()
            .map(|closing| closing.of(time))
            .min()
            .unwrap_or(EventTime::END)
    }
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Next => f.write_str("time < partition's watermark - allowed lateness"),
            Self::WindowEnd(windows) => write!(
                f,
                "end of its window of {} ms + allowed lateness <= partition's watermark",
                windows.size
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_of_a_window_belongs_to_the_next() {
        let windows = Tumbling::of(Duration::from_millis(10));
        let start_of = |time| windows.window(EventTime::from(time)).start.millis();
        assert_eq!(
            [-11, -10, -1, 0, 9, 10].map(start_of),
            [-20, -10, -10, 0, 0, 10]
        );
    }

    #[test]
    fn an_offset_moves_every_border() {
        let windows = Tumbling::of(Duration::from_millis(10)).offset(Duration::from_millis(3));
        let start_of = |time| windows.window(EventTime::from(time)).start.millis();
        assert_eq!(
            [-8, -7, 2, 3, 12, 13].map(start_of),
            [-17, -7, -7, 3, 3, 13]
        );
    }

    proptest! {
        #[test]
        fn every_time_lies_in_its_window(
            time in -1_000_000_000_000i64..1_000_000_000_000,
            size in 1i64..100_000_000,
            offset in 0u64..1_000_000,
        ) {
            let windows = Tumbling { size, offset: 0 }.offset(Duration::from_millis(offset));
            let window = windows.window(EventTime::from(time));
            prop_assert!(window.start.millis() <= time && time < window.end.millis());
            prop_assert_eq!(window.end.millis() - window.start.millis(), size);
            prop_assert_eq!(windows.window(window.start), window);
            let distance = window.start.millis() - i64::try_from(offset).unwrap();
            prop_assert_eq!(distance.rem_euclid(size), 0);
        }
    }
}
