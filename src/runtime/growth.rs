//! When a checkpoint saves everything anew instead of what changed: before the logs become much
//! more than the state.

use std::time::Duration;

use humantime::format_duration;
use tracing::warn;

/// Logs are written anew before they grow beyond this part of what everything takes: so they, and
/// what replaces them, take at most two and a half times the state.
const GROWN: (u64, u64) = (3, 2);
/// Logs smaller than this are not worth it.
pub(super) const SMALL: u64 = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Growth {
    /// Logs that are smaller stay; see [`SMALL`].
    small: u64,
    /// The logs have state that nobody goes on with.
    forgets: bool,
    /// Bytes of what changed for the last checkpoint; the next one will have about as many.
    changed: u64,
    /// About what everything would have taken then; unknown before the first.
    live: Option<u64>,
    /// What is written and not committed is given up after so long.
    timeout: Option<Duration>,
    /// That it would take too long was said.
    said: bool,
}

impl Growth {
    pub(super) fn new(small: u64, forgets: bool, timeout: Option<Duration>) -> Self {
        Self {
            small,
            forgets,
            changed: 0,
            live: None,
            timeout,
            said: false,
        }
    }

    /// A checkpoint is gathered: `changed` bytes, and everything would have taken `live`.
    pub(super) fn gathered(&mut self, changed: u64, live: u64, full: bool) {
        (self.changed, self.live) = (changed, Some(live));
        self.forgets &= !full;
    }

    /// Whether the next checkpoint saves everything. The logs have `bytes`, and had `full` when
    /// everything was last saved, which `took` so long. State may have shrunk since: windows fire,
    /// and keys are forgotten.
    pub(super) fn is_due(&mut self, bytes: u64, full: u64, took: Duration) -> bool {
        let all = self.live.map_or(full, |live| live.min(full));
        let grown = all.max(self.small).saturating_mul(GROWN.0) / GROWN.1;
        // What is to be forgotten would be found again.
        self.forgets || bytes + self.changed > grown && !self.is_too_long(took)
    }

    /// A transaction that is open for too long is given up, and a restart would try the same again.
    /// `took` is what the state asks for: a time for which Kafka was away would stand there for
    /// good, since only saving everything measures it anew.
    fn is_too_long(&mut self, took: Duration) -> bool {
        let Some(timeout) = self.timeout.filter(|timeout| took > *timeout / 2) else {
            return false;
        };
        if !std::mem::replace(&mut self.said, true) {
            let [took, timeout] = [took, timeout].map(format_duration);
            warn!(
                "saving all state took {took}, and Kafka gives up what is not committed after \
                 {timeout}: until that is more than twice as long only changes are saved, and the \
                 state directory grows; give a longer one with -X transaction.timeout.ms=.."
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_due(growth: &mut Growth, bytes: u64, full: u64) -> bool {
        growth.is_due(bytes, full, Duration::from_hours(1))
    }

    #[test]
    fn everything_is_saved_when_logs_have_grown_and_when_state_has_shrunk() {
        let mut growth = Growth::new(100, false, None);
        assert!(!is_due(&mut growth, 150, 0), "too small");
        assert!(is_due(&mut growth, 151, 0));
        growth.gathered(1_000, 1_000, true);
        assert!(!is_due(&mut growth, 500, 1_000));
        assert!(is_due(&mut growth, 501, 1_000), "with what will change");
        growth.gathered(0, 1_000, false);
        assert!(!is_due(&mut growth, 1_500, 1_000));
        growth.gathered(0, 900, false);
        assert!(!is_due(&mut growth, 1_350, 1_000));
        assert!(
            is_due(&mut growth, 1_351, 1_000),
            "less is left than was saved"
        );
        growth.gathered(0, 10, false);
        assert!(is_due(&mut growth, 1_000, 1_000), "most of it is gone");
        growth.gathered(0, 10, true);
        assert!(!is_due(&mut growth, 12, 12), "too small again");
    }

    #[test]
    fn what_is_to_be_forgotten_is_saved_without() {
        let mut growth = Growth::new(100, true, None);
        assert!(is_due(&mut growth, 0, 0));
        growth.gathered(0, 0, false);
        assert!(is_due(&mut growth, 0, 0));
        growth.gathered(0, 0, true);
        assert!(!is_due(&mut growth, 0, 0));
    }

    #[test]
    fn what_takes_too_long_for_a_transaction_is_not_done_again() {
        let seconds = Duration::from_secs;
        let mut growth = Growth::new(100, false, Some(seconds(60)));
        growth.gathered(0, 1_000, true);
        assert!(growth.is_due(1_501, 1_000, seconds(30)));
        assert!(!growth.said);
        assert!(!growth.is_due(1_500, 1_000, seconds(31)), "it is not due");
        assert!(!growth.said);
        assert!(!growth.is_due(1_501, 1_000, seconds(31)));
        assert!(growth.said);
        let mut longer = Growth::new(100, false, Some(seconds(62)));
        assert!(longer.is_due(1_501, 1_000, seconds(31)));
        // State that is to be forgotten would be found again.
        let mut forgets = Growth::new(100, true, Some(seconds(60)));
        assert!(forgets.is_due(0, 1_000, seconds(31)));
    }
}
