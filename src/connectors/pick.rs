//! Which partition is read next: the one that is furthest behind, and none too far ahead. Pure.

use std::time::{Duration, Instant};

use super::{Ends, Fetched, Found};
use crate::error::{Error, Result};
use crate::event::{Origin, Record};
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
    /// Offsets that are left out: first, and behind the last.
    pub(crate) skips: Vec<(u64, u64)>,
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
            skips: Vec::new(),
        }
    }

    /// Whether `records` lie behind those that it gave before.
    ///
    /// # Errors
    /// They do not: what the reader gives twice would be counted twice.
    pub(crate) fn check_next(&self, port: &str, records: &[Record<'_>]) -> Result {
        let (number, next) = (self.number, self.next);
        match records.first() {
            Some(Record { offset, .. }) if *offset < next => Err(Error::operating(format!(
                "source `{port}`: partition {number} gives offset {offset} where {next} or a later \
                 one is next: a restart reads on"
            ))),
            _ => Ok(()),
        }
    }

    /// Takes those out of `records` that are to be left out.
    pub(crate) fn leave_out(&self, records: &mut Vec<Record<'_>>) {
        if self.skips.is_empty() {
            return;
        }
        let skips = &self.skips;
        records.retain(|record| {
            let nth = skips.partition_point(|(_, end)| *end <= record.offset);
            skips
                .get(nth)
                .is_none_or(|(first, _)| record.offset < *first)
        });
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

/// What the door says at the end of an epoch. Where partitions end `ForNow` only, those go on to
/// hold the watermark.
pub(crate) fn mark(partitions: &[Partition], rules: Watermarks, ends: Ends) -> Mark {
    let reading = partitions.iter().filter(|partition| match partition.doing {
        Doing::Reading => true,
        Doing::Ended => ends == Ends::ForNow,
        Doing::Idle | Doing::Joining => false,
    });
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
