//! The balanced summary of a run.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use super::Metrics;
use crate::event::DeadReason;

/// What became of every record that was read.
///
/// It balances: read = used + duplicates + late + dead + held. Letters that came after entry are
/// counted apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records read.
    pub read: u64,
    /// Records that entered and were no duplicates.
    pub used: u64,
    /// Records that repeated an event.
    pub duplicates: u64,
    /// Late records, `idle` among them.
    pub late: u64,
    /// Late records whose partition had been silent: the only ones that depend on arrival.
    pub late_idle: u64,
    /// Dead letters before entry.
    pub dead: u64,
    /// Dead letters after entry (`processing`, `result-too-large`).
    pub dead_after_entry: u64,
    /// Records that had entered and waited for a verdict when the run was stopped.
    pub held: u64,
    /// Results written.
    pub results: u64,
    /// Milliseconds that 99 in 100 events were at most behind the largest time of their partition.
    pub lateness_p99: u64,
    /// The most.
    pub lateness_max: u64,
    /// Bytes of state at the end.
    pub state_bytes: u64,
    /// Dead letters by reason.
    pub dead_by_reason: Vec<(DeadReason, u64)>,
}

impl Summary {
    pub(crate) fn of(metrics: &Metrics) -> Self {
        let dead_by_reason = metrics.dead_by_reason();
        let dead_where = |after: bool| -> u64 {
            let of = dead_by_reason
                .iter()
                .filter(|(reason, _)| reason.is_after_entry() == after);
            of.map(|(_, count)| count).sum()
        };
        let entered = metrics.sum(|worker| &worker.entered);
        let duplicates = metrics.sum(|worker| &worker.duplicates);
        let held = metrics.workers().iter().map(|worker| &worker.held);
        let held: i64 = held.map(|held| held.load(Relaxed)).sum();
        // Whatever was counted wrongly shows: what is below nothing counts as nothing, and then the
        // sum of all is more than was read.
        let used = i128::from(entered) - i128::from(duplicates) - i128::from(held);
        let late_idle = metrics.sum(|worker| &worker.idle);
        let (lateness_p99, lateness_max) = metrics.lateness(0.99);
        Self {
            read: metrics.sum(|worker| &worker.read),
            used: u64::try_from(used).unwrap_or(0),
            duplicates,
            late: metrics.sum(|worker| &worker.late) + late_idle,
            late_idle,
            dead: dead_where(false),
            dead_after_entry: dead_where(true),
            held: u64::try_from(held).unwrap_or(0),
            results: metrics.sum(|worker| &worker.results),
            lateness_p99,
            lateness_max,
            state_bytes: metrics.state_bytes(),
            dead_by_reason,
        }
    }

    /// Whether every record that was read is accounted for.
    pub fn balances(&self) -> bool {
        self.read == self.used + self.duplicates + self.late + self.dead + self.held
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "read {} {} used {} + duplicates {} + late {} + dead {}",
            grouped(self.read),
            if self.balances() {
                "="
            } else {
                "DOES NOT BALANCE WITH"
            },
            grouped(self.used),
            grouped(self.duplicates),
            grouped(self.late),
            grouped(self.dead),
        )?;
        if self.held > 0 {
            write!(f, " + held {}", grouped(self.held))?;
        }
        write!(f, " · results {}", grouped(self.results))?;
        if self.dead_after_entry > 0 {
            write!(f, " · dead after entry {}", grouped(self.dead_after_entry))?;
        }
        let (p99, max) = (duration(self.lateness_p99), duration(self.lateness_max));
        write!(f, " · lateness p99 {p99}, max {max}")
    }
}

/// A count with its thousands set apart: `5,000,000`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Milliseconds in the largest unit that says them shortly: `340ms`, `1.9s`, `12m`, `2h`, `3d`.
pub(crate) fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 if millis % 1_000 < 100 => format!("{}s", millis / 1_000),
        1_000..60_000 => format!("{}.{}s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{}m", millis / 60_000),
        3_600_000..172_800_000 => format!("{}h", millis / 3_600_000),
        _ => format!("{}d", grouped(millis / 86_400_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_a_balance() {
        let summary = Summary {
            read: 5_000_000,
            used: 4_999_944,
            duplicates: 41,
            late: 12,
            dead: 3,
            results: 1_264_583,
            lateness_p99: 1_900,
            lateness_max: 7_200_000,
            ..Summary::default()
        };
        assert_eq!(
            summary.to_string(),
            "read 5,000,000 = used 4,999,944 + duplicates 41 + late 12 + dead 3 \
             · results 1,264,583 · lateness p99 1.9s, max 2h"
        );
        let broken = Summary {
            late: 13,
            ..summary
        };
        assert!(broken.to_string().contains("DOES NOT BALANCE"));
    }

    #[test]
    fn what_is_counted_twice_or_let_go_twice_does_not_balance() {
        let of = |entered, duplicates, held| {
            let metrics = Metrics::new(2);
            let (one, other) = (metrics.worker(0), metrics.worker(1));
            one.read.store(entered, Relaxed);
            one.entered.store(entered, Relaxed);
            other.duplicates.store(duplicates, Relaxed);
            other.held.store(held, Relaxed);
            Summary::of(&metrics)
        };
        let right = of(10, 3, 2);
        assert!(right.balances() && right.used == 5, "{right}");
        assert!(of(10, 8, 2).balances());
        for (duplicates, held) in [(11, 0), (8, 3), (0, 11), (3, -1), (0, -1), (10, -1)] {
            let wrong = of(10, duplicates, held);
            assert!(!wrong.balances(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_short() {
        let said = [0, 999, 1_000, 59_999, 60_000, 7_200_000, 200_000_000].map(duration);
        assert_eq!(said, ["0ms", "999ms", "1s", "59.9s", "1m", "2h", "2d"]);
    }
}
