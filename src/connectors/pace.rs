//! Epochs belong to the job: all doors of a process go through them together, and in step.
//!
//! Any door with enough to cut raises the common epoch, and all others follow, also those with
//! nothing to give; otherwise the limits on drift and on epochs in flight, and a silent source,
//! would wait for each other for ever. None of this reaches the answer.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use super::Waker;
use crate::time::{Epoch, EventTime};

/// What the doors of a process know of each other.
#[derive(Debug)]
pub(crate) struct Pace {
    target: AtomicU64,
    doors: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    /// The smallest watermark among its partitions that have records to read.
    behind: AtomicI64,
    /// It waits for others to catch up.
    waits: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Pace {
    pub(crate) fn new(doors: usize) -> Self {
        let step = || Step {
            behind: AtomicI64::new(EventTime::NEVER.millis()),
            waits: AtomicBool::new(false),
            waker: Mutex::new(None),
        };
        Self {
            target: AtomicU64::new(0),
            doors: (0..doors).map(|_| step()).collect(),
        }
    }

    /// Door `door` is woken by `waker`.
    pub(crate) fn register(&self, door: usize, waker: Waker) {
        *self.doors[door]
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// The epoch that every door is to reach.
    pub(crate) fn target(&self) -> Epoch {
        Epoch::new(self.target.load(SeqCst))
    }

    /// Door `door` asks all to reach `epoch`.
    pub(crate) fn raise(&self, door: usize, epoch: Epoch) {
        if self.target.fetch_max(epoch.number(), SeqCst) < epoch.number() {
            self.wake_others(door, |_| true);
        }
    }

    /// The smallest watermark of a partition that has records to read, in the whole process.
    pub(crate) fn behind(&self) -> EventTime {
        let all = self.doors.iter().map(|step| step.behind.load(SeqCst));
        EventTime::from_millis(all.min().unwrap_or(i64::MAX))
    }

    /// Door `door` is at `behind`; whoever waited for it is woken.
    pub(crate) fn post(&self, door: usize, behind: EventTime) {
        let before = self.doors[door].behind.swap(behind.millis(), SeqCst);
        if before < behind.millis() {
            self.wake_others(door, |step| step.waits.swap(false, SeqCst));
        }
    }

    /// Door `door` will wait for the others to catch up.
    pub(crate) fn wait(&self, door: usize) {
        self.doors[door].waits.store(true, SeqCst);
    }

    fn wake_others(&self, door: usize, which: impl Fn(&Step) -> bool) {
        for (other, step) in self.doors.iter().enumerate() {
            if other != door && which(step) {
                let waker = step.waker.lock().unwrap_or_else(PoisonError::into_inner);
                waker.iter().for_each(Waker::wake);
            }
        }
    }
}
