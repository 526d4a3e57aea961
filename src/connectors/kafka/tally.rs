//! The count of delivery reports of one writer.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::connectors::Waker;

/// What a record costs in memory beside its bytes: 190 until it is sent, and then its share of a
/// request.
const OVERHEAD: usize = 256;
/// No writer waits for room.
const NEVER: u64 = u64::MAX;

/// What is acknowledged of one writer's records.
pub(super) struct Tally {
    waker: Waker,
    records: AtomicU64,
    bytes: AtomicU64,
    /// Wakes the worker when so many bytes are acknowledged.
    wake_at: AtomicU64,
    closing: Mutex<()>,
    progress: Condvar,
}

impl Tally {
    /// Nothing yet. `waker` wakes the worker.
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            waker,
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            wake_at: AtomicU64::new(NEVER),
            closing: Mutex::default(),
            progress: Condvar::new(),
        }
    }

    /// What a record with `len` bytes of key and value counts in flight.
    pub(super) fn cost(len: usize) -> u64 {
        (len + OVERHEAD) as u64
    }

    /// Records acknowledged.
    pub(super) fn records(&self) -> u64 {
        self.records.load(SeqCst)
    }

    /// What the acknowledged records counted in flight.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }

    /// Asks to be woken when `bytes` are acknowledged in all; `false`: they are.
    ///
    /// Either this sees the acknowledgement, or whoever counts it sees the wish.
    pub(super) fn ask(&self, bytes: u64) -> bool {
        self.wake_at.store(bytes, SeqCst);
        self.bytes() < bytes
    }

    /// Sleeps until something is acknowledged, at most `nap`; how long that may have been.
    pub(super) fn nap(&self, nap: Duration) -> Duration {
        let closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.progress.wait_timeout(closing, nap);
        nap
    }

    /// So much is acknowledged.
    pub(super) fn count(&self, records: u64, bytes: u64) {
        if records > 0 {
            self.records.fetch_add(records, SeqCst);
            self.bytes.fetch_add(bytes, SeqCst);
            self.progress.notify_all();
        }
        let wish = self.wake_at.load(SeqCst);
        if wish != NEVER && self.bytes() >= wish {
            // A wish that was made meanwhile is kept.
            let _ = self.wake_at.compare_exchange(wish, NEVER, SeqCst, SeqCst);
            self.waker.wake();
        }
    }

    /// No more is acknowledged: whoever waits for it wakes.
    pub(super) fn give_up(&self) {
        self.progress.notify_all();
        self.waker.wake();
    }
}
