//! The log of one partition: segments of whole batches in memory, and what readers may see of them.
//!
//! Offsets `[start, end)` are in the log. Everything below the *stable end* is decided: no
//! transaction that began there is open. Readers of committed records see no further, and are told
//! which of what they see was aborted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::batch::{Batch, Header};
use super::budget::Budget;
use super::producers::{Aborted, Producers, Verdict};
use super::refusal::Answer;
use super::segment::{Segment, Stored, cost};
use super::sync::Signal;

/// When a segment is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roll {
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

/// What a fetch finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) batches: Vec<Bytes>,
    pub(super) bytes: usize,
    /// The offset behind the last of them.
    pub(super) next: i64,
    pub(super) aborted: Vec<Aborted>,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Log {
    start: i64,
    end: i64,
    pub(super) segments: VecDeque<Segment>,
    pub(super) cost: usize,
    /// Offsets below it have been compacted.
    pub(super) clean_end: i64,
    producers: Producers,
    pub(super) aborted: Vec<Aborted>,
    waiting: Vec<Arc<Signal>>,
    pub(super) budget: Arc<Budget>,
    deleted: bool,
}

impl Log {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            start: 0,
            end: 0,
            segments: VecDeque::new(),
            cost: 0,
            clean_end: 0,
            producers: Producers::default(),
            aborted: Vec::new(),
            waiting: Vec::new(),
            budget,
            deleted: false,
        }
    }

    /// The first offset that is there.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The offset that comes next.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Below it everything is decided.
    pub(super) fn stable_end(&self) -> i64 {
        let open = self.producers.first_open();
        open.map_or(self.end, |open| open.max(self.start))
    }

    /// Whether its topic was deleted.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    // ---------------------------------------------------------------------------------- writing

    pub(super) fn judge(&self, header: &Header) -> Answer<Verdict> {
        self.producers.judge(header)
    }

    /// Appends a batch whose cost the caller has reserved; gives its base offset.
    pub(super) fn append(&mut self, batch: Batch, roll: Roll, now: Instant) -> i64 {
        let header = batch.header;
        self.producers.note(&header, self.end, now);
        self.store(batch, roll, now)
    }

    fn store(&mut self, batch: Batch, roll: Roll, now: Instant) -> i64 {
        let (base, header) = (self.end, batch.header);
        let batch = Stored {
            base,
            last: base + i64::from(header.last_offset_delta),
            max_timestamp: header.max_timestamp,
            bytes: batch.place(base),
        };
        self.end = batch.last + 1;
        self.cost += batch.cost();
        let fits = |segment: &&mut Segment| {
            segment.cost + batch.cost() <= roll.bytes
                && now.saturating_duration_since(segment.born) < roll.age
        };
        match self.segments.back_mut().filter(fits) {
            Some(segment) => segment.push(batch),
            None => self.segments.push_back(Segment::new(batch, now)),
        }
        self.notify();
        base
    }

    /// Lets the transaction of a producer write here.
    pub(super) fn enlist(&mut self, producer: (i64, i16), now: Instant) {
        self.producers.enlist(producer, now);
    }

    /// Ends the transaction of a producer. The marker is written even where memory is full: without
    /// it nobody reads on.
    pub(super) fn end_transaction(
        &mut self,
        producer: (i64, i16),
        commit: bool,
        (time, now): (i64, Instant),
        roll: Roll,
    ) {
        let marker = Batch::marker(producer, commit, time);
        self.budget.force(cost(marker.bytes().len()));
        let at = self.store(marker, roll, now);
        let aborted = self.producers.end(producer, commit, at, now);
        self.aborted.extend(aborted);
    }

    // ---------------------------------------------------------------------------------- reading

    /// Batches from the one that holds `from`, below `limit`, of at most `bytes`; the first one
    /// whatever its size, if `some` must be given.
    pub(super) fn read(&self, from: i64, limit: i64, bytes: usize, some: bool) -> Found {
        let mut found = Found::default();
        for batch in self
            .batches_from(from)
            .take_while(|batch| batch.base < limit)
        {
            let first = some && found.batches.is_empty();
            if !first && found.bytes + batch.bytes.len() > bytes {
                break;
            }
            found.bytes += batch.bytes.len();
            found.next = batch.last + 1;
            found.batches.push(batch.bytes.clone());
        }
        found
    }

    /// The aborted transactions with records in `[from, to)`.
    pub(super) fn aborted_within(&self, from: i64, to: i64) -> Vec<Aborted> {
        let first = self.aborted.partition_point(|aborted| aborted.last < from);
        let within = self.aborted[first..].iter();
        within
            .filter(|aborted| aborted.first < to)
            .copied()
            .collect()
    }

    /// The batches from the one that holds `offset`, or the next one.
    pub(super) fn batches_from(&self, offset: i64) -> impl Iterator<Item = &Stored> {
        let segment = self
            .segments
            .partition_point(|segment| segment.last() < offset);
        let mut inside = self.segments.iter().skip(segment);
        let first = inside.next().map_or(&[][..], |segment| {
            let batch = segment.batches.partition_point(|batch| batch.last < offset);
            &segment.batches[batch..]
        });
        first
            .iter()
            .chain(inside.flat_map(|segment| &segment.batches))
    }

    // --------------------------------------------------------------------------------- retention

    /// When the oldest segment came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.segments.front().map(|segment| segment.born)
    }

    /// Drops the oldest segment.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.start = self.start.max(segment.last() + 1);
            self.give_back(segment.cost);
            self.forget_below_start();
        }
    }

    /// Drops segments that are beyond `bytes` or whose newest record is older than `oldest`.
    pub(super) fn retain(&mut self, bytes: Option<usize>, oldest: Option<i64>) {
        while let Some(segment) = self.segments.front() {
            let too_much = bytes.is_some_and(|bytes| self.cost - segment.cost >= bytes);
            let too_old = oldest.is_some_and(|oldest| segment.max_timestamp < oldest);
            if !too_much && !too_old {
                break;
            }
            self.drop_oldest();
        }
    }

    /// Moves the start of the log, as far as `offset`.
    pub(super) fn delete_before(&mut self, offset: i64) {
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.last() < offset)
        {
            self.drop_oldest();
        }
        if let Some(segment) = self.segments.front_mut() {
            let gone = segment.batches.partition_point(|batch| batch.last < offset);
            let freed = segment
                .batches
                .drain(..gone)
                .map(|batch| batch.cost())
                .sum();
            segment.cost -= freed;
            self.give_back(freed);
        }
        self.start = self.start.max(offset);
        self.forget_below_start();
    }

    fn forget_below_start(&mut self) {
        let start = self.start;
        let gone = self.aborted.partition_point(|aborted| aborted.last < start);
        self.aborted.drain(..gone);
    }

    pub(super) fn give_back(&mut self, cost: usize) {
        self.cost -= cost;
        self.budget.release(cost);
    }

    pub(super) fn expire_producers(&mut self, now: Instant) {
        self.producers.expire(now);
    }

    /// Gives all memory back, and lets nobody wait here any more.
    pub(super) fn delete(&mut self) {
        self.deleted = true;
        self.segments.clear();
        self.give_back(self.cost);
        self.notify();
    }

    // ----------------------------------------------------------------------------------- waiting

    /// Notifies `signal` at the next change.
    pub(super) fn wake(&mut self, signal: &Arc<Signal>) {
        // Those whose connection has ended are held here alone.
        self.waiting
            .retain(|other| Arc::strong_count(other) > 1 && !Arc::ptr_eq(other, signal));
        self.waiting.push(Arc::clone(signal));
    }

    fn notify(&mut self) {
        for signal in self.waiting.drain(..) {
            signal.raise();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.budget.release(self.cost);
    }
}
