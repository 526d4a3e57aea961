//! What each stateful operator holds. Told by the operator that runs them all
//! (`operators/by_epoch.rs`), so that none has to count for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Entries of state, and the bytes of memory that they take, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// What one operator holds on one worker.
#[derive(Debug)]
pub(crate) struct Holding {
    worker: usize,
    /// Its name without and with its number among those of that name.
    kind: Arc<str>,
    operator: Arc<str>,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Holding {
    pub(super) fn new(others: &[Arc<Self>], worker: usize, kind: &str) -> Self {
        let same = |other: &&Arc<Self>| other.worker == worker && &*other.kind == kind;
        let operator = match others.iter().filter(same).count() {
            0 => kind.to_owned(),
            before => format!("{kind} {}", before + 1),
        };
        Self {
            worker,
            kind: Arc::from(kind),
            operator: Arc::from(operator),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, entries: usize, bytes: usize) {
        self.entries.store(entries as u64, Relaxed);
        self.bytes.store(bytes as u64, Relaxed);
    }

    pub(super) fn held(&self) -> Held {
        Held {
            entries: self.entries.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}

/// The sums over workers, in the order in which operators were built.
pub(super) fn by_operator(holdings: &[Arc<Holding>]) -> Vec<(Arc<str>, Held)> {
    let mut sums: Vec<(Arc<str>, Held)> = Vec::new();
    for holding in holdings {
        let held = holding.held();
        match sums.iter_mut().find(|(name, _)| *name == holding.operator) {
            Some((_, sum)) => {
                sum.entries += held.entries;
                sum.bytes += held.bytes;
            }
            None => sums.push((Arc::clone(&holding.operator), held)),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_and_operators_of_one_name_are_told_apart() {
        let mut holdings = Vec::new();
        for (worker, kind, bytes) in [
            (0, "window", 1),
            (1, "window", 2),
            (0, "dedup", 4),
            (0, "window", 8),
            (1, "window", 16),
        ] {
            let holding = Holding::new(&holdings, worker, kind);
            holding.set(1, bytes);
            holdings.push(Arc::new(holding));
        }
        let sums = by_operator(&holdings);
        let sums: Vec<_> = sums
            .iter()
            .map(|(name, held)| (&**name, held.entries, held.bytes))
            .collect();
        assert_eq!(
            sums,
            [("window", 2, 3), ("dedup", 1, 4), ("window 2", 2, 24)]
        );
    }
}
