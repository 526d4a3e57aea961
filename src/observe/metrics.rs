//! Counters of a run, one set a worker, so that nobody waits for anybody.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::holding::{self, Held, Holding};
use super::{Life, SourceStatus};
use crate::event::DeadReason;
use crate::time::{EventTime, LateReason};

/// Reasons in the order of [`WorkerMetrics::dead`].
pub(crate) const DEAD_REASONS: [DeadReason; 7] = [
    DeadReason::Decode,
    DeadReason::NoEventTime,
    DeadReason::TooLarge,
    DeadReason::NullValue,
    DeadReason::TooFarAhead,
    DeadReason::Processing,
    DeadReason::ResultTooLarge,
];

/// Buckets of a histogram whose widths are an eighth of their value.
const BUCKETS: usize = 64 * 8;

/// All counters of a run.
#[derive(Debug)]
pub(crate) struct Metrics {
    workers: Vec<WorkerMetrics>,
    /// Largest event time read by any worker.
    largest: AtomicI64,
    /// A record was read that is no dead letter.
    alive: AtomicBool,
    /// The first thousand records were all dead letters.
    condemned: AtomicBool,
    holdings: Mutex<Vec<Arc<Holding>>>,
}

/// The counters of one worker.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    pub(crate) read: AtomicU64,
    pub(crate) entered: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) idle: AtomicU64,
    pub(crate) dead: [AtomicU64; DEAD_REASONS.len()],
    pub(crate) results: AtomicU64,
    /// Events that entered and wait for a verdict (of `dedup`).
    pub(crate) held: AtomicI64,
    pub(crate) windows_open: AtomicI64,
    /// The earliest end of an open window; [`EventTime::END`]: none is open.
    pub(crate) next_end: AtomicI64,
    /// The epoch that its doors fill, and the first that is not complete behind all sinks.
    opened: AtomicU64,
    pub(crate) complete: AtomicU64,
    pub(crate) life: Life,
    pub(crate) lateness_max: AtomicU64,
    lateness: Vec<AtomicU64>,
}

impl WorkerMetrics {
    fn new() -> Self {
        Self {
            read: AtomicU64::default(),
            entered: AtomicU64::default(),
            duplicates: AtomicU64::default(),
            late: AtomicU64::default(),
            idle: AtomicU64::default(),
            dead: Default::default(),
            results: AtomicU64::default(),
            held: AtomicI64::default(),
            windows_open: AtomicI64::default(),
            next_end: AtomicI64::new(EventTime::END.millis()),
            opened: AtomicU64::default(),
            complete: AtomicU64::default(),
            life: Life::default(),
            lateness_max: AtomicU64::default(),
            lateness: (0..BUCKETS).map(|_| AtomicU64::default()).collect(),
        }
    }

    /// Its doors fill epoch number `epoch` from now on.
    pub(crate) fn opens(&self, epoch: u64) {
        self.opened.store(epoch, Relaxed);
    }

    pub(crate) fn count_dead(&self, reason: DeadReason) {
        let at = DEAD_REASONS.iter().position(|other| *other == reason);
        self.dead[at.expect("every reason is listed")].fetch_add(1, Relaxed);
    }
}

impl Metrics {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| WorkerMetrics::new()).collect(),
            largest: AtomicI64::new(EventTime::NEVER.millis()),
            alive: AtomicBool::new(false),
            condemned: AtomicBool::new(false),
            holdings: Mutex::default(),
        }
    }

    /// Where an operator of `worker` tells what it holds. The second one of a name is `name 2`.
    pub(crate) fn holding(&self, worker: usize, operator: &str) -> Arc<Holding> {
        let mut holdings = self.holdings.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Arc::new(Holding::new(&holdings, worker, operator));
        holdings.push(Arc::clone(&new));
        new
    }

    /// What each operator holds on all workers together.
    pub(crate) fn held(&self) -> Vec<(Arc<str>, Held)> {
        let holdings = self.holdings.lock().unwrap_or_else(PoisonError::into_inner);
        holding::by_operator(&holdings)
    }

    /// Bytes of all state.
    pub(crate) fn state_bytes(&self) -> u64 {
        let holdings = self.holdings.lock().unwrap_or_else(PoisonError::into_inner);
        holdings.iter().map(|holding| holding.held().bytes).sum()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Relaxed)
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.condemned.load(Relaxed)
    }

    /// A record died, and none had lived when this one was read.
    pub(crate) fn died_first(&self) {
        if !self.is_alive() && self.dead() >= 1_000 {
            self.condemned.store(true, Relaxed);
        }
    }

    pub(crate) fn set_alive(&self) {
        self.alive.store(true, Relaxed);
    }

    /// Dead letters, all reasons together.
    pub(crate) fn dead(&self) -> u64 {
        self.dead_by_reason().iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn workers(&self) -> &[WorkerMetrics] {
        &self.workers
    }

    /// Epochs that doors have opened and that are not complete behind all sinks.
    pub(crate) fn in_flight(&self) -> u64 {
        let opened = self
            .workers
            .iter()
            .map(|worker| worker.opened.load(Relaxed));
        let complete = self
            .workers
            .iter()
            .map(|worker| worker.complete.load(Relaxed));
        let (opened, complete) = (opened.max().unwrap_or(0), complete.min().unwrap_or(0));
        (opened + 1).saturating_sub(complete)
    }

    pub(crate) fn worker(&self, worker: usize) -> &WorkerMetrics {
        &self.workers[worker]
    }

    /// The largest event time that was read. Complete as soon as a watermark says that all sources
    /// have ended, for doors note it before they say so.
    pub(crate) fn largest(&self) -> EventTime {
        EventTime::from_millis(self.largest.load(Relaxed))
    }

    pub(crate) fn saw(&self, largest: EventTime) {
        self.largest.fetch_max(largest.millis(), Relaxed);
    }

    pub(crate) fn sum(&self, of: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
        self.workers
            .iter()
            .map(|worker| of(worker).load(Relaxed))
            .sum()
    }

    pub(crate) fn gauge(&self, of: impl Fn(&WorkerMetrics) -> &AtomicI64) -> u64 {
        let sum: i64 = self
            .workers
            .iter()
            .map(|worker| of(worker).load(Relaxed))
            .sum();
        u64::try_from(sum).unwrap_or(0)
    }

    pub(crate) fn dead_by_reason(&self) -> Vec<(DeadReason, u64)> {
        let count = |nth: usize| self.sum(|worker| &worker.dead[nth]);
        DEAD_REASONS
            .iter()
            .enumerate()
            .map(|(nth, reason)| (*reason, count(nth)))
            .collect()
    }

    /// The earliest end of an open window.
    pub(crate) fn next_end(&self) -> EventTime {
        let ends = self
            .workers
            .iter()
            .map(|worker| worker.next_end.load(Relaxed));
        EventTime::from_millis(ends.min().unwrap_or(i64::MAX))
    }

    /// How far behind their partition's largest time events were: the value that `share` of them
    /// did not exceed, and the largest; in milliseconds.
    pub(crate) fn lateness(&self, share: f64) -> (u64, u64) {
        let max = self
            .workers
            .iter()
            .map(|worker| worker.lateness_max.load(Relaxed))
            .max();
        let max = max.unwrap_or(0);
        let count = |bucket: usize| self.sum(|worker| &worker.lateness[bucket]);
        let total: u64 = (0..BUCKETS).map(count).sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count, for show"
        )]
        let mut left = (total as f64 * share).ceil() as u64;
        for bucket in 0..BUCKETS {
            let here = count(bucket);
            if here >= left {
                return (bucket_end(bucket).min(max), max);
            }
            left -= here;
        }
        (max, max)
    }
}

/// What a door counts between two cuts, before it shows.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) read: u64,
    pub(crate) entered: u64,
    pub(crate) late: u64,
    pub(crate) idle: u64,
    in_order: u64,
    lateness_max: u64,
    lateness: Vec<u32>,
}

impl Default for Tally {
    fn default() -> Self {
        let lateness = vec![0; BUCKETS];
        Self {
            read: 0,
            entered: 0,
            late: 0,
            idle: 0,
            in_order: 0,
            lateness_max: 0,
            lateness,
        }
    }
}

impl Tally {
    pub(crate) fn count_late(&mut self, reason: LateReason) {
        match reason {
            LateReason::Late => self.late += 1,
            LateReason::Idle => self.idle += 1,
        }
    }

    /// An event `behind` milliseconds behind the largest time of its partition.
    #[inline]
    pub(crate) fn saw(&mut self, behind: i64) {
        if behind <= 0 {
            self.in_order += 1;
            return;
        }
        let behind = behind.unsigned_abs();
        self.lateness_max = self.lateness_max.max(behind);
        self.lateness[bucket_of(behind)] += 1;
    }

    /// Adds it to what is shown of the worker and of its source, and begins anew.
    pub(crate) fn flush(&mut self, to: &WorkerMetrics, source: &SourceStatus) {
        if self.read == 0 {
            return;
        }
        source.read.fetch_add(self.read, Relaxed);
        to.read.fetch_add(self.read, Relaxed);
        to.entered.fetch_add(self.entered, Relaxed);
        to.late.fetch_add(self.late, Relaxed);
        to.idle.fetch_add(self.idle, Relaxed);
        to.lateness[0].fetch_add(self.in_order, Relaxed);
        if self.lateness_max > 0 {
            to.lateness_max.fetch_max(self.lateness_max, Relaxed);
            for (count, shown) in self.lateness.iter_mut().zip(&to.lateness) {
                if *count > 0 {
                    shown.fetch_add(u64::from(std::mem::take(count)), Relaxed);
                }
            }
        }
        (self.read, self.entered, self.late, self.idle) = (0, 0, 0, 0);
        (self.in_order, self.lateness_max) = (0, 0);
    }
}

/// Bucket 0 holds nothing but zero; each power of two has eight buckets.
fn bucket_of(value: u64) -> usize {
    if value < 8 {
        return usize::try_from(value).unwrap_or(0);
    }
    let exponent = value.ilog2();
    let eighth = value >> (exponent - 3) & 7;
    (exponent as usize - 2) * 8 + usize::try_from(eighth).unwrap_or(0)
}

/// The largest value of a bucket.
fn bucket_end(bucket: usize) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let (exponent, eighth) = (bucket / 8 + 2, bucket as u64 % 8);
    let end = u128::from(8 + eighth + 1) << (exponent - 3);
    u64::try_from(end - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Board;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..100).chain([1_023, 1_024, 1_025, 999_999, u64::MAX / 3, u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(value <= bucket_end(bucket), "{value} in {bucket}");
            assert!(
                bucket == 0 || value > bucket_end(bucket - 1),
                "{value} in {bucket}"
            );
            assert!(bucket < BUCKETS);
        }
    }

    #[test]
    fn lateness_is_told_within_an_eighth() {
        let metrics = Metrics::new(2);
        let mut tally = Tally {
            read: 1,
            ..Tally::default()
        };
        (0..990).for_each(|_| tally.saw(0));
        (0..10).for_each(|n| tally.saw(1_000 + n));
        tally.flush(metrics.worker(1), &Board::default().source("s", 1));
        assert_eq!(metrics.lateness(0.5), (0, 1_009));
        assert_eq!(metrics.lateness(0.999), (1_009, 1_009));
    }
}
