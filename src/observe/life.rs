//! Signs of life of a worker, for whoever watches from outside.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::now;

/// When a worker last took a step, and which thread it is.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// The first step.
    born: OnceLock<Instant>,
    /// Milliseconds from the first step to the last.
    age: AtomicU64,
    ended: AtomicBool,
    /// What Linux tells of the thread.
    thread: OnceLock<PathBuf>,
}

impl Life {
    /// To be called on the worker's own thread, before its first step.
    pub(crate) fn begin(&self) {
        let _ = self.born.set(now());
        if let Ok(thread) = std::fs::read_link("/proc/thread-self") {
            let _ = self.thread.set(PathBuf::from("/proc").join(thread));
        }
    }

    /// A step was taken.
    pub(crate) fn step(&self) {
        let age = self.born.get().map_or(0, |born| born.elapsed().as_millis());
        self.age
            .store(u64::try_from(age).unwrap_or(u64::MAX), Relaxed);
    }

    /// It has nothing more to do.
    pub(crate) fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.born.get().is_some()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// How long ago the last step was; zero before the first and after the end.
    pub(crate) fn silent(&self, now: Instant) -> Duration {
        match self.born.get() {
            Some(born) if !self.has_ended() => {
                let last = *born + Duration::from_millis(self.age.load(Relaxed));
                now.saturating_duration_since(last)
            }
            _ => Duration::ZERO,
        }
    }

    /// Time that the thread has spent on a processor, where the system tells.
    pub(crate) fn busy(&self) -> Option<Duration> {
        let told = std::fs::read_to_string(self.thread.get()?.join("schedstat")).ok()?;
        let nanos = told.split(' ').next()?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_last_step_until_the_end() {
        let life = Life::default();
        let later = || now() + Duration::from_secs(90);
        assert_eq!(life.silent(later()), Duration::ZERO);
        assert!(!life.has_begun());
        life.begin();
        life.step();
        assert!(life.silent(now()) < Duration::from_secs(30));
        assert!(life.silent(later()) >= Duration::from_mins(1));
        life.end();
        assert_eq!(life.silent(later()), Duration::ZERO);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_works_is_busy() {
        let life = Life::default();
        life.begin();
        let before = life.busy().unwrap();
        let start = now();
        while life.busy().unwrap() <= before {
            assert!(start.elapsed() < Duration::from_mins(1));
        }
    }
}
