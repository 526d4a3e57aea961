//! What state may take: a warning at four fifths, an error at all of it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytesize::ByteSize;
use tracing::warn;

use super::{Board, Held, Metrics, grouped, now};
use crate::error::{Error, ErrorKind, Result};

/// The memory of a run, divided: buffers pause sources, state does not (windows close only if
/// reading goes on), so state has a limit.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Bytes for everything, and what of it is for state.
    memory: u64,
    state: u64,
    warned: AtomicBool,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(u64::MAX, u64::MAX)
    }
}

impl Budget {
    pub(crate) fn new(memory: u64, state: u64) -> Self {
        Self {
            memory,
            state,
            warned: AtomicBool::new(false),
        }
    }

    /// Bytes that all state may take.
    pub(crate) fn state(&self) -> u64 {
        self.state
    }

    /// Holds what operators have told against the budget; warns once.
    ///
    /// # Errors
    /// State has reached its limit.
    pub(crate) fn check(&self, metrics: &Metrics, board: &Board) -> Result {
        let bytes = metrics.state_bytes();
        if bytes < self.state / 5 * 4 {
            return Ok(());
        }
        let said = || {
            let (held, watermark) = (held(&metrics.held()), board.reached());
            let holder = board.holder(now()).unwrap_or_default();
            let (bytes, state) = (ByteSize(bytes), ByteSize(self.state));
            let memory = ByteSize(self.memory);
            format!(
                "state takes {bytes} of {state} (what --memory {memory} leaves for it): {held}; \
                 {watermark} {holder}"
            )
        };
        if bytes >= self.state {
            return Err(Error::new(ErrorKind::Limit, said()));
        }
        if !self.warned.swap(true, Relaxed) {
            warn!("{}: at all of it the run ends", said());
        }
        Ok(())
    }
}

/// `window 41.0 MiB in 812,330 entries, dedup 7.2 MiB in 12,113 entries`, the largest first.
fn held(operators: &[(std::sync::Arc<str>, Held)]) -> String {
    let mut operators: Vec<_> = operators
        .iter()
        .filter(|(_, held)| held.bytes > 0)
        .collect();
    operators.sort_by_key(|(_, held)| std::cmp::Reverse(held.bytes));
    let each = operators.iter().map(|(name, held)| {
        let (bytes, entries) = (ByteSize(held.bytes), grouped(held.entries));
        format!("{name} {bytes} in {entries} entries")
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_warns_once_and_ends_at_the_limit_with_every_name() {
        let (metrics, board) = (Metrics::new(1), Board::default());
        let budget = Budget::new(1 << 30, 1_000_000);
        let (window, dedup) = (metrics.holding(0, "window"), metrics.holding(0, "dedup"));
        window.set(10, 700_000);
        budget.check(&metrics, &board).unwrap();
        assert!(!budget.warned.load(Relaxed));
        dedup.set(5, 100_000);
        budget.check(&metrics, &board).unwrap();
        assert!(budget.warned.load(Relaxed));
        dedup.set(1_234, 300_000);
        let error = budget.check(&metrics, &board).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        let said = error.to_string();
        for part in [
            "--memory 1.0 GiB",
            "window 683.6 KiB in 10 entries, dedup 293.0 KiB in 1,234 entries",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
