//! What has come of the parts of the declared checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connectors::Source;
use crate::state::manifest::{SourceState, to_json};
use crate::state::{Left, PartitionFact};
use crate::time::{Epoch, Progress};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) epoch: Option<Epoch>,
    pub(super) full: bool,
    /// When each operator began to hand over what it has, and had done so.
    pub(super) saved: Vec<(Instant, Instant)>,
    /// Bytes of what changed, whether or not everything is saved; and about what everything takes.
    pub(super) changed: u64,
    pub(super) live: u64,
    pub(super) doors: usize,
    pub(super) facts: BTreeMap<u16, Vec<PartitionFact>>,
    pub(super) left: BTreeMap<u16, Vec<Left>>,
    pub(super) progress: BTreeMap<u16, Progress>,
}

impl Gathered {
    /// For how long there was an operator that handed over. What they waited for before is not in
    /// it, nor what comes behind them: an outage of Kafka makes no state large.
    pub(super) fn took(&mut self) -> Duration {
        self.saved.sort_unstable();
        let (mut took, mut until) = (Duration::ZERO, None);
        for (began, ended) in &self.saved {
            let from = until.map_or(*began, |until: Instant| until.max(*began));
            took += ended.saturating_duration_since(from);
            until = until.max(Some(*ended));
        }
        took
    }

    /// Puts what is known of `sources` into `states`, and takes out what can be read no more.
    ///
    /// # Panics
    /// An offset or a watermark goes back: the run must not commit that.
    pub(super) fn tell(&self, states: &mut [SourceState], sources: &[Arc<dyn Source>]) {
        for (number, source) in (0u16..).zip(&mut *states) {
            let facts = self.facts.get(&number).into_iter().flatten();
            facts.for_each(|fact| source.set_partition(fact));
            let left = self.left.get(&number).into_iter().flatten();
            left.for_each(|left| source.leave(left));
            if let Some(progress) = self.progress.get(&number) {
                assert!(
                    to_json(progress.watermark) >= source.watermark,
                    "the watermark of `{}` went back",
                    source.port
                );
                source.set_progress(*progress);
            }
        }
        for (state, source) in states.iter_mut().zip(sources) {
            state.forget_left(&source.begins());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::now;

    #[test]
    fn what_was_saved_at_the_same_time_is_counted_once_and_pauses_are_not() {
        let (begin, seconds) = (now(), Duration::from_secs);
        let span = |from, to| (begin + seconds(from), begin + seconds(to));
        let took = |saved: &[_]| {
            let saved = saved.to_vec();
            let mut gathered = Gathered {
                saved,
                ..Gathered::default()
            };
            gathered.took()
        };
        assert_eq!(took(&[]), Duration::ZERO);
        assert_eq!(took(&[span(1, 3), span(0, 2)]), seconds(3));
        assert_eq!(took(&[span(5, 6), span(0, 10)]), seconds(10), "one within");
        assert_eq!(took(&[span(0, 2), span(40, 41)]), seconds(3));
    }
}
