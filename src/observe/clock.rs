//! The clock: the one place where the machine's is read. Nothing that it says reaches an operator.

use std::time::{Duration, Instant, SystemTime};

use crate::time::EventTime;

/// The monotonic clock. How long ago something was is asked by [`since`], not by the instant
/// itself, which would look at the machine's.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = simulated::now() {
        return now;
    }
    Instant::now()
}

/// How long ago `then` was.
pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// The time of day: a claim of this machine, for stamps that are told to others.
pub(crate) fn time_of_day() -> EventTime {
    #[cfg(test)]
    if let Some(time) = simulated::time_of_day() {
        return time;
    }
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    SystemTime::now().into()
}

/// How long this machine has been up: nobody can set it. `None`: the system does not tell.
pub(crate) fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split(' ').next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The number of this process.
pub(crate) fn process() -> u32 {
    #[cfg(test)]
    if simulated::now().is_some() {
        return 1; // a seed gives the same in every process
    }
    std::process::id()
}

/// A clock of a thread that goes on only when it is told to.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
    use std::sync::{Arc, OnceLock};
    use std::time::{Duration, Instant};

    use crate::time::EventTime;

    thread_local! {
        static CLOCK: RefCell<Option<Clock>> = const { RefCell::new(None) };
    }

    /// Time that has passed, and the time of day. A clone is the same clock.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Clock {
        nanos: Arc<AtomicU64>,
        /// By how many milliseconds the time of day was set.
        set_by: Arc<AtomicI64>,
    }

    impl Clock {
        /// This thread goes by this clock from now on.
        pub(crate) fn install(&self) {
            CLOCK.with_borrow_mut(|clock| *clock = Some(self.clone()));
        }

        /// This thread goes by the machine's clock again.
        pub(crate) fn remove() {
            CLOCK.with_borrow_mut(|clock| *clock = None);
        }

        pub(crate) fn advance(&self, by: Duration) {
            let nanos = u64::try_from(by.as_nanos()).expect("not for centuries");
            self.nanos.fetch_add(nanos, SeqCst);
        }

        /// The time of day jumps by `millis`, and no time has passed.
        pub(crate) fn jump(&self, millis: i64) {
            self.set_by.fetch_add(millis, SeqCst);
        }

        pub(crate) fn passed(&self) -> Duration {
            Duration::from_nanos(self.nanos.load(SeqCst))
        }

        fn time_of_day(&self) -> EventTime {
            let passed = i64::try_from(self.passed().as_millis()).expect("not for centuries");
            EventTime::from_millis(1_700_000_000_000 + passed + self.set_by.load(SeqCst))
        }
    }

    fn passed() -> Option<Duration> {
        CLOCK.with_borrow(|clock| clock.as_ref().map(Clock::passed))
    }

    pub(super) fn now() -> Option<Instant> {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "only differences to it are seen")]
        let began = BEGAN.get_or_init(Instant::now);
        Some(*began + passed()?)
    }

    pub(super) fn time_of_day() -> Option<EventTime> {
        CLOCK.with_borrow(|clock| clock.as_ref().map(Clock::time_of_day))
    }
}
