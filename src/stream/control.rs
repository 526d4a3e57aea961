//! How a run is stopped: from outside, or by its first fault.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

type Wake = Box<dyn Fn() + Send + Sync>;

/// The fault cell and the stop request of a run. An operator that meets an operating error puts it
/// here and keeps its capability: dropping it would announce that the epoch is complete.
#[derive(Default)]
pub(crate) struct Control {
    stop: AtomicBool,
    signal: AtomicI32,
    faulty: AtomicBool,
    fault: Mutex<Option<Error>>,
    wakers: Mutex<Vec<Wake>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Calls `wake` whenever something happens that every worker must see at once.
    pub(crate) fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(wake));
    }

    /// Ends the run with `error`, unless another one came first.
    pub(crate) fn fail(&self, error: Error) {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.faulty.store(true, SeqCst);
        self.wake();
    }

    /// Asks doors to close where they stand, because of `signal`; what is open does not fire.
    pub(crate) fn stop(&self, signal: i32) {
        self.signal.store(signal, SeqCst);
        self.stop.store(true, SeqCst);
        self.wake();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(SeqCst)
    }

    pub(crate) fn signal(&self) -> i32 {
        self.signal.load(SeqCst)
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.faulty.load(SeqCst)
    }

    pub(crate) fn take_fault(&self) -> Option<Error> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn wake(&self) {
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.iter().for_each(|wake| wake());
    }
}
