//! Which partition is read next: the one that is furthest behind, and none too far ahead. Pure.

use std::time::{Duration, Instant};

use super::{Fetched, Found};
use crate::event::Origin;
use crate::time::watermark::{Mark, PartitionClock};
use crate::time::{EventTime, Watermarks};

/// A partition that has given nothing for this long restrains nobody's reading.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// What a partition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It came while the job ran; it is read once the watermark before it is known.
    Joining,
    Reading,
    /// Silent for so long that it no longer holds the watermark.
    Idle,
    Ended,
}

/// One partition of a door.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) number: u32,
    pub(crate) origin: Origin,
    pub(crate) clock: PartitionClock,
    pub(crate) doing: Doing,
    /// What the last fetch said, and since when it says so.
    pub(crate) last: Fetched,
    pub(crate) since: Instant,
    /// Whether it is worth asking in this activation.
    pub(crate) worth_asking: bool,
    pub(crate) last_record: Option<Instant>,
    /// The offset behind its last record.
    pub(crate) next: u64,
    /// It gave records of the epoch that is open.
    pub(crate) uncut: bool,
}

impl Partition {
    pub(crate) fn new(found: Found, doing: Doing, now: Instant) -> Self {
        Self {
            number: found.partition,
            origin: found.origin,
            clock: PartitionClock::starting_at(EventTime::NEVER),
            doing,
            last: Fetched::Wait,
            since: now,
            worth_asking: true,
            last_record: None,
            next: 0,
            uncut: false,
        }
    }

    /// Takes note of what a fetch said.
    pub(crate) fn said(&mut self, fetched: Fetched, records: usize, now: Instant) {
        if records > 0 {
            self.last_record = Some(now);
            self.uncut = true;
        }
        // Records before an end-of-partition mark begin a new silence.
        if fetched != self.last || records > 0 {
            (self.last, self.since) = (fetched, now);
        }
        self.worth_asking = fetched == Fetched::Some;
        if fetched == Fetched::End {
            self.doing = Doing::Ended;
        }
    }

    /// Whether others have to keep to its pace: it has records to read, as far as is known.
    fn restrains(&self, now: Instant) -> bool {
        self.doing == Doing::Reading
            && match self.last {
                Fetched::Some => true,
                Fetched::Wait => now.duration_since(self.since) < GRACE,
                Fetched::CaughtUp | Fetched::End => false,
            }
    }

    /// When it will have been silent long enough to be idle, if nothing comes.
    pub(crate) fn idle_at(&self, timeout: Duration) -> Option<Instant> {
        let silent = self.doing == Doing::Reading && self.last == Fetched::CaughtUp;
        silent.then(|| self.since + timeout)
    }
}

/// The smallest watermark among partitions that have records to read.
pub(crate) fn behind(partitions: &[Partition], rules: Watermarks, now: Instant) -> EventTime {
    let restraining = partitions
        .iter()
        .filter(|partition| partition.restrains(now));
    restraining
        .map(|partition| partition.clock.watermark(rules))
        .min()
        .unwrap_or(EventTime::END)
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Read this one, by its place in the list.
    Read(usize),
    /// There are records, but they are too far ahead of what others have to read.
    TooFarAhead,
    Nothing,
}

/// The partition to read next: the furthest behind of those worth asking, unless it is more than
/// `drift_max` milliseconds ahead of `behind`.
pub(crate) fn pick(
    partitions: &[Partition],
    rules: Watermarks,
    behind: EventTime,
    drift_max: i64,
) -> Pick {
    let candidates = partitions
        .iter()
        .enumerate()
        .filter(|(_, partition)| partition.worth_asking && partition.doing == Doing::Reading);
    let furthest = candidates
        .map(|(nth, partition)| (partition.clock.watermark(rules), partition.number, nth))
        .min();
    match furthest {
        None => Pick::Nothing,
        Some((watermark, _, _)) if watermark > behind.plus(drift_max) => Pick::TooFarAhead,
        Some((_, _, nth)) => Pick::Read(nth),
    }
}

/// What the door says at the end of an epoch.
pub(crate) fn mark(partitions: &[Partition], rules: Watermarks) -> Mark {
    let reading = partitions
        .iter()
        .filter(|partition| partition.doing == Doing::Reading);
    if let Some(smallest) = reading
        .map(|partition| partition.clock.watermark(rules))
        .min()
    {
        return Mark::Reading(smallest);
    }
    let all_ended = partitions
        .iter()
        .all(|partition| partition.doing == Doing::Ended);
    if all_ended { Mark::Ended } else { Mark::Idle }
}

#[cfg(test)]
mod tests;
