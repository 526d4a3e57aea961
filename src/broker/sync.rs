//! Locks that outlive a panic, and what a long poll waits on.

use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Instant;

use crate::observe::now;

/// Locks; a thread that panicked with the lock leaves data that are still whole, for every change
/// here is complete before anything that could panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until somebody notifies or the deadline has come; may also wake for nothing.
pub(super) fn wait_until<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Instant,
) -> MutexGuard<'a, T> {
    let left = deadline.saturating_duration_since(now());
    let waited = changed.wait_timeout(guard, left);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// What a connection sleeps on while it has a fetch that finds too little; appends notify it.
///
/// A notice that comes before the wait is kept, so that nothing slips between look and sleep.
#[derive(Debug, Default)]
pub(super) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn raise(&self) {
        *lock(&self.raised) = true;
        self.changed.notify_all();
    }

    /// Waits for a notice or the deadline, and forgets the notice.
    pub(super) fn wait(&self, deadline: Instant) {
        let mut raised = lock(&self.raised);
        while !*raised && now() < deadline {
            raised = wait_until(&self.changed, raised, deadline);
        }
        *raised = false;
    }
}
