//! Events that cost nothing to make, and sums that show that all of them came through.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anabranch::connectors::{Fetched, Found, PartitionCut, Reader, Share, Source, SourceCut};
use anabranch::event::Origin;
use anabranch::prelude::*;

/// An event of fixed size, a function of its offset.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) key: u64,
    pub(crate) value: i64,
    pub(crate) time: i64,
}

/// Spreads `n` over all of `u64`, each to a place of its own.
pub(crate) fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (n ^ n >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// At this record of partition 0 the source pauses until all before it is processed, and calls.
pub(crate) type Pause = (u64, Arc<dyn Fn() + Send + Sync>);

/// Offsets, and the same byte as the value of each.
#[derive(Clone, Default)]
pub(crate) struct Made {
    pub(crate) partitions: u32,
    pub(crate) records: u64,
    pub(crate) pauses: Vec<Pause>,
    /// Where each partition begins, if it is not read from its start.
    pub(crate) from: Arc<Mutex<Vec<u64>>>,
}

impl Made {
    fn begins(&self) -> Vec<u64> {
        let mut from = self
            .from
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        from.resize(self.partitions as usize, 0);
        from
    }
}

impl Source for Made {
    fn describe(&self) -> String {
        "made".to_owned()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn cut(&self) -> Result<Option<SourceCut>> {
        let partitions = (0..)
            .zip(self.begins())
            .map(|(partition, next)| PartitionCut {
                partition,
                next,
                end: None,
            });
        Ok(Some(SourceCut {
            identity: "made".to_owned(),
            partitions: partitions.collect(),
        }))
    }

    fn resume(&self, cut: &SourceCut) -> Result {
        let mut from = self.begins();
        for known in &cut.partitions {
            from[known.partition as usize] = known.next;
        }
        *self.from.lock().unwrap_or_else(PoisonError::into_inner) = from;
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        let partitions = (0..self.partitions).filter(|partition| share.owns(*partition));
        Ok(Box::new(MadeReader {
            partitions: partitions.collect(),
            next: self.begins(),
            made: self.clone(),
            since: None,
        }))
    }
}

struct MadeReader {
    partitions: Vec<u32>,
    next: Vec<u64>,
    made: Made,
    since: Option<Instant>,
}

/// Long enough for a worker to process what it has, and that the engine looks again.
const PAUSE: Duration = Duration::from_millis(600);

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    Instant::now()
}

impl Reader for MadeReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        let found = |partition| Found {
            partition,
            origin: Origin::Memory(Arc::from("made"), partition),
        };
        Ok(std::mem::take(&mut self.partitions)
            .into_iter()
            .map(found)
            .collect())
    }

    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let next = &mut self.next[partition as usize];
        let mut end = self.made.records.min(*next + max as u64);
        if let Some((at, call)) = self.made.pauses.first() {
            if *next == *at {
                if self.since.get_or_insert_with(now).elapsed() < PAUSE {
                    return Ok(Fetched::Wait);
                }
                call();
                self.made.pauses.remove(0);
                self.since = None;
            } else {
                end = end.min(*at);
            }
        }
        records.extend((*next..end).map(|offset| Record::line(offset, b"x")));
        *next = end;
        let is_last = end == self.made.records && self.made.pauses.is_empty();
        Ok(if is_last { Fetched::End } else { Fetched::Some })
    }
}

/// A sum over all workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total(Arc<AtomicU64>);

impl Total {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// The part of one worker.
    pub(crate) fn part(&self) -> Part {
        Part {
            total: Arc::clone(&self.0),
            sum: 0,
        }
    }
}

/// Nanoseconds of processor time of the workers that have ended.
static SPENT: AtomicU64 = AtomicU64::new(0);

/// Processor time of the workers since the last call: what a busy machine does beside does not
/// count.
pub(crate) fn take_spent() -> Duration {
    Duration::from_nanos(SPENT.swap(0, Ordering::SeqCst))
}

/// Is added to its total in the end, and the processor time of its worker to that of all.
pub(crate) struct Part {
    total: Arc<AtomicU64>,
    sum: u64,
}

impl Part {
    #[inline]
    pub(crate) fn add(&mut self, value: u64) {
        self.sum = self.sum.wrapping_add(value);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.sum == 0 {
            return; // of a description that was only held together
        }
        self.total.fetch_add(self.sum, Ordering::SeqCst);
        let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let spent = text.split(' ').next().and_then(|spent| spent.parse().ok());
        SPENT.fetch_add(spent.expect("a number"), Ordering::SeqCst);
    }
}

/// Bytes that lie in memory now.
pub(crate) fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number") * 4_096
}
