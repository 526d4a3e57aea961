//! The watermark: of a partition, from its own past alone; of an epoch, the smallest over the
//! partitions that are being read.
//!
//! A record is judged by nothing but the records before it in its own partition, so the verdict is
//! a function of the log. The watermark of an epoch is a fact that all workers learn in the same
//! epoch, so whatever they do with it is a function of the log too.

use std::time::Duration;

use super::{Closing, EventTime, millis};

/// How far out of order a source may be, and how late its events may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    pub(crate) lag: i64,
    pub(crate) allowed: i64,
}

impl Watermarks {
    /// A partition's watermark follows its largest event time at a distance of `lag`.
    pub fn lag(lag: Duration) -> Self {
        Self {
            lag: millis(lag),
            allowed: 0,
        }
    }

    /// Final results wait `allowed` longer than the watermark, and events that come within it still
    /// count. Where results are final this is the same as more lag.
    #[must_use]
    pub fn allowed_lateness(self, allowed: Duration) -> Self {
        Self {
            allowed: millis(allowed),
            ..self
        }
    }
}

/// Why an event left on the late stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LateReason {
    /// What it belongs to may be closed, by its own partition's past.
    Late,
    /// Its partition had been declared silent, or was not there, and what it belongs to was closed.
    Idle,
}

impl LateReason {
    /// Its spelling in letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Idle => "idle",
        }
    }
}

/// What the door says of a record that can be decoded and has an event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Enters,
    /// The watermark is what it was held against: the partition's, or for `Idle` the floor.
    Late {
        reason: LateReason,
        watermark: EventTime,
    },
}

/// The event-time past of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionClock {
    /// Largest event time of its records so far, late ones included.
    pub(crate) largest: EventTime,
    /// What closes by here had closed before the partition woke or joined.
    pub(crate) floor: EventTime,
}

impl PartitionClock {
    /// A partition read since the first epoch has no floor: `EventTime::NEVER`.
    pub(crate) fn starting_at(floor: EventTime) -> Self {
        Self {
            largest: EventTime::NEVER,
            floor,
        }
    }

    /// No later record of this partition is expected before it.
    #[inline]
    pub(crate) fn watermark(&self, rules: Watermarks) -> EventTime {
        self.largest.minus(rules.lag)
    }

    /// The verdict on an event of `time` that closes at `closes`. The floor is asked first: the
    /// other order would make the answer depend on when the partition woke.
    #[inline]
    pub(crate) fn judge(&self, closes: EventTime, rules: Watermarks) -> Verdict {
        if closes <= self.floor {
            return Verdict::Late {
                reason: LateReason::Idle,
                watermark: self.floor,
            };
        }
        let watermark = self.watermark(rules);
        if closes.plus(rules.allowed) <= watermark {
            return Verdict::Late {
                reason: LateReason::Late,
                watermark,
            };
        }
        Verdict::Enters
    }

    /// Judges an event of `time`; does not yet count it as past.
    #[inline]
    pub(crate) fn judge_at(
        &self,
        time: EventTime,
        closings: &[Closing],
        rules: Watermarks,
    ) -> Verdict {
        // Nothing closes before its own time: the common case needs no division.
        if time > self.floor && time.plus(rules.allowed) >= self.watermark(rules) {
            return Verdict::Enters;
        }
        self.judge(Closing::earliest(closings, time), rules)
    }

    /// Counts an event as past.
    #[inline]
    pub(crate) fn saw(&mut self, time: EventTime) {
        self.largest = self.largest.max(time);
    }
}

/// What one worker says of its partitions of one source at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Some are being read; the smallest of their watermarks.
    Reading(EventTime),
    /// None is being read, some are silent.
    Idle,
    /// None is left: nothing will ever come.
    Ended,
}

/// Watermark and horizon of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// No event before it is expected any more.
    pub watermark: EventTime,
    /// The watermark less the allowed lateness: no event that closes by here can come any more.
    pub horizon: EventTime,
    /// The largest event time that was read, once all sources have ended.
    pub last: EventTime,
}

impl Progress {
    /// Before the first mark.
    pub const START: Self = Self {
        watermark: EventTime::NEVER,
        horizon: EventTime::NEVER,
        last: EventTime::NEVER,
    };

    /// What is known where two streams meet.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        Self {
            watermark: self.watermark.min(other.watermark),
            horizon: self.horizon.min(other.horizon),
            last: self.last.max(other.last),
        }
    }

    /// What is known behind an operator that holds everything back until the horizon.
    #[must_use]
    pub fn settled(self) -> Self {
        Self {
            watermark: self.horizon,
            horizon: self.horizon,
            last: self.last,
        }
    }
}

/// The watermark of a source, epoch by epoch, from the marks of all its doors.
#[derive(Clone, Debug)]
pub(crate) struct SourceClock {
    marks: Vec<Mark>,
    watermark: EventTime,
}

impl SourceClock {
    /// Before any mark each door counts as reading a partition of which nothing is known. It goes
    /// on from `watermark`.
    pub(crate) fn new(doors: usize, watermark: EventTime) -> Self {
        Self {
            marks: vec![Mark::Reading(EventTime::NEVER); doors],
            watermark,
        }
    }

    /// Door `door` says `mark`.
    pub(crate) fn mark(&mut self, door: usize, mark: Mark) {
        self.marks[door] = mark;
    }

    /// The watermark of the epoch whose marks are all in: never less than the one before.
    pub(crate) fn close(&mut self) -> EventTime {
        let reading = self.marks.iter().filter_map(|mark| match mark {
            Mark::Reading(watermark) => Some(*watermark),
            Mark::Idle | Mark::Ended => None,
        });
        let smallest = match reading.min() {
            Some(smallest) => smallest,
            None if self.marks.contains(&Mark::Idle) => self.watermark,
            None => EventTime::END,
        };
        self.watermark = self.watermark.max(smallest);
        self.watermark
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tumbling;
    use super::*;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    const RULES: Watermarks = Watermarks { lag: 5, allowed: 0 };

    #[test]
    fn the_first_record_of_a_partition_is_never_late() {
        let clock = PartitionClock::starting_at(EventTime::NEVER);
        assert_eq!(
            clock.judge_at(at(-1_000_000), &[Closing::Next], RULES),
            Verdict::Enters
        );
    }

    #[test]
    fn an_event_is_late_only_when_its_window_may_be_closed() {
        let mut clock = PartitionClock::starting_at(EventTime::NEVER);
        clock.saw(at(24)); // watermark 19
        let windows = [Closing::WindowEnd(Tumbling::of(Duration::from_millis(10)))];
        assert_eq!(clock.judge_at(at(10), &windows, RULES), Verdict::Enters);
        clock.saw(at(25)); // watermark 20
        let late = Verdict::Late {
            reason: LateReason::Late,
            watermark: at(20),
        };
        assert_eq!(clock.judge_at(at(19), &windows, RULES), late);
        assert_eq!(clock.judge_at(at(19), &[], RULES), Verdict::Enters);
        let patient = Watermarks {
            allowed: 1,
            ..RULES
        };
        assert_eq!(clock.judge_at(at(19), &windows, patient), Verdict::Enters);
    }

    #[test]
    fn whoever_needs_order_closes_right_behind_the_event() {
        let mut clock = PartitionClock::starting_at(EventTime::NEVER);
        clock.saw(at(25));
        assert_eq!(
            clock.judge_at(at(20), &[Closing::Next], RULES),
            Verdict::Enters
        );
        let late = Verdict::Late {
            reason: LateReason::Late,
            watermark: at(20),
        };
        assert_eq!(clock.judge_at(at(19), &[Closing::Next], RULES), late);
    }

    #[test]
    fn of_several_operators_the_one_that_closes_first_decides() {
        let mut clock = PartitionClock::starting_at(EventTime::NEVER);
        clock.saw(at(25)); // watermark 20
        let late = Verdict::Late {
            reason: LateReason::Late,
            watermark: at(20),
        };
        let window = |millis| Closing::WindowEnd(Tumbling::of(Duration::from_millis(millis)));
        let verdict = |closings: &[Closing]| clock.judge_at(at(19), closings, RULES);
        assert_eq!(verdict(&[window(30)]), Verdict::Enters);
        assert_eq!(verdict(&[window(30), Closing::Next]), late);
        assert_eq!(verdict(&[Closing::Next, window(30)]), late);
        assert_eq!(verdict(&[window(30), window(10)]), late);
        assert_eq!(verdict(&[window(30), window(15)]), Verdict::Enters);
    }

    #[test]
    fn the_floor_is_asked_before_the_watermark() {
        let mut clock = PartitionClock::starting_at(at(20));
        clock.saw(at(100));
        let idle = Verdict::Late {
            reason: LateReason::Idle,
            watermark: at(20),
        };
        assert_eq!(clock.judge_at(at(19), &[Closing::Next], RULES), idle);
    }

    #[test]
    fn silence_stops_the_watermark_and_an_end_releases_it() {
        let mut clock = SourceClock::new(2, EventTime::NEVER);
        assert_eq!(clock.close(), EventTime::NEVER);
        clock.mark(0, Mark::Reading(at(7)));
        clock.mark(1, Mark::Idle);
        assert_eq!(clock.close(), at(7));
        clock.mark(0, Mark::Idle);
        assert_eq!(clock.close(), at(7));
        clock.mark(0, Mark::Ended);
        assert_eq!(clock.close(), at(7));
        clock.mark(1, Mark::Reading(at(3)));
        assert_eq!(clock.close(), at(7), "it never goes back");
        clock.mark(1, Mark::Ended);
        assert_eq!(clock.close(), EventTime::END);
    }
}
