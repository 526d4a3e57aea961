//! When a checkpoint saves everything anew instead of what changed: before the logs become much
//! more than the state.

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
}

impl Growth {
    pub(super) fn new(small: u64, forgets: bool) -> Self {
        Self {
            small,
            forgets,
            changed: 0,
            live: None,
        }
    }

    /// A checkpoint is gathered: `changed` bytes, and everything would have taken `live`.
    pub(super) fn gathered(&mut self, changed: u64, live: u64, full: bool) {
        (self.changed, self.live) = (changed, Some(live));
        self.forgets &= !full;
    }

    /// Whether the next checkpoint saves everything. The logs have `bytes`, and had `full` when
    /// everything was last saved. State may have shrunk since: windows fire, and keys are
    /// forgotten.
    pub(super) fn is_due(&self, bytes: u64, full: u64) -> bool {
        let all = self.live.map_or(full, |live| live.min(full));
        let grown = all.max(self.small).saturating_mul(GROWN.0) / GROWN.1;
        self.forgets || bytes + self.changed > grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_saved_when_logs_have_grown_and_when_state_has_shrunk() {
        let mut growth = Growth::new(100, false);
        assert!(!growth.is_due(150, 0), "too small");
        assert!(growth.is_due(151, 0));
        growth.gathered(1_000, 1_000, true);
        assert!(!growth.is_due(500, 1_000));
        assert!(growth.is_due(501, 1_000), "with what will change");
        growth.gathered(0, 1_000, false);
        assert!(!growth.is_due(1_500, 1_000));
        growth.gathered(0, 900, false);
        assert!(!growth.is_due(1_350, 1_000));
        assert!(growth.is_due(1_351, 1_000), "less is left than was saved");
        growth.gathered(0, 10, false);
        assert!(growth.is_due(1_000, 1_000), "most of it is gone");
        growth.gathered(0, 10, true);
        assert!(!growth.is_due(12, 12), "too small again");
    }

    #[test]
    fn what_is_to_be_forgotten_is_saved_without() {
        let mut growth = Growth::new(100, true);
        assert!(growth.is_due(0, 0));
        growth.gathered(0, 0, false);
        assert!(growth.is_due(0, 0));
        growth.gathered(0, 0, true);
        assert!(!growth.is_due(0, 0));
    }
}
