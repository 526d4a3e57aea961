//! When events of a partition happen: so many a second, whether they are delivered or wait.

/// Events of one partition that wait are at most so many; older ones are lost on the way, as in a
/// device whose memory is full.
const WAITING_MAX: f64 = 200_000.0;

/// What has happened in a partition and was not delivered yet: `owed` events, spread evenly from
/// `made_to` until `now`.
#[derive(Debug)]
pub(super) struct Tempo {
    made_to: f64,
    now: f64,
    owed: f64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and counts far below 2^52, none negative"
)]
impl Tempo {
    /// Begins at a time of day, in milliseconds.
    pub(super) fn new(now: i64) -> Self {
        Self {
            made_to: now as f64,
            now: now as f64,
            owed: 0.0,
        }
    }

    /// Time goes on until `now`, with `rate` events a second.
    pub(super) fn pass(&mut self, now: i64, rate: f64) {
        let now = (now as f64).max(self.now);
        self.owed += (now - self.now) / 1_000.0 * rate;
        self.now = now;
        if self.owed > WAITING_MAX {
            self.take(self.owed - WAITING_MAX);
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        self.owed as u64
    }

    /// When the next one happened, in milliseconds, if one waits.
    pub(super) fn next(&mut self) -> Option<i64> {
        (self.owed >= 1.0).then(|| {
            self.take(1.0);
            self.made_to as i64
        })
    }

    fn take(&mut self, events: f64) {
        self.made_to += (self.now - self.made_to) / self.owed * events;
        self.owed -= events;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_spread_evenly_over_the_time_that_passed() {
        let mut tempo = Tempo::new(1_000);
        tempo.pass(2_000, 4.0);
        let times: Vec<_> = std::iter::from_fn(|| tempo.next()).collect();
        assert_eq!(times, [1_250, 1_500, 1_750, 2_000]);
    }

    #[test]
    fn what_waited_is_delivered_with_the_times_at_which_it_happened() {
        let mut tempo = Tempo::new(0);
        for now in 1..=100 {
            tempo.pass(now * 100, 100.0);
        }
        assert_eq!(tempo.waiting(), 1_000);
        let times: Vec<_> = std::iter::from_fn(|| tempo.next()).collect();
        assert!(times.len() >= 999, "{}", times.len());
        assert!(times.is_sorted() && times[0] <= 11 && times[998] >= 9_980);
    }

    #[test]
    fn another_rate_changes_no_time_that_has_passed_by_more_than_it_waited() {
        let mut tempo = Tempo::new(0);
        tempo.pass(10, 1_000.0);
        while tempo.next().is_some() {}
        tempo.pass(20, 50_000.0);
        assert_eq!(tempo.waiting(), 500);
        assert!((10..=20).contains(&tempo.next().unwrap()));
    }

    #[test]
    fn only_so_many_wait_and_the_oldest_are_lost() {
        let mut tempo = Tempo::new(0);
        tempo.pass(1_000_000, 1_000.0);
        assert_eq!(tempo.waiting(), 200_000);
        assert!((799_999..=800_001).contains(&(tempo.next().unwrap() - 1)));
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_event() {
        let mut tempo = Tempo::new(1_000);
        tempo.pass(500, 1_000.0);
        assert_eq!(tempo.next(), None);
    }
}
