//! A worker that sleeps, and those who wake it: once a sleep, however often they ring.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};

use crate::connectors::Waker;

/// Wakes one worker.
#[derive(Debug, Default)]
pub(super) struct Bell {
    armed: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Bell {
    /// Whom to wake; told once.
    pub(super) fn wakes(&self, waker: Waker) {
        // A second opening is refused elsewhere.
        let _ = self.waker.set(waker);
    }

    /// The worker will sleep. It has to look once more for what it waits for: what came before
    /// this call rang no bell.
    pub(super) fn arm(&self) {
        self.armed.store(true, SeqCst);
        fence(SeqCst);
    }

    /// Something has changed for which the worker may wait. Costs a fence and a load while it
    /// works.
    pub(super) fn ring(&self) {
        fence(SeqCst);
        if self.armed.load(SeqCst)
            && self.armed.swap(false, SeqCst)
            && let Some(waker) = self.waker.get()
        {
            waker.wake();
        }
    }
}
