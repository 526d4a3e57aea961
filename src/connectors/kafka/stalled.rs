//! Partitions that the client has ceased to fetch, though their log goes on.
//!
//! It happens, though rarely, that librdkafka (2.12.1) does not go on with a partition after its
//! broker was killed and came back, and tells nobody. Nothing is wrong then but that the watermark
//! stands still for ever. So a reader notes what is silent, the scout asks the broker whether there
//! is more, and if that stays so, the run ends: a restart reads on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::options::KafkaOptions;

/// A partition is silent after this long without a word, and stalled when there has been more to
/// read for as long.
pub(super) const AFTER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// What was told longer ago is no longer true: the worker is busy elsewhere.
const TOLD: Duration = Duration::from_secs(3);

/// Silent partitions, and the offset at which each is.
#[derive(Debug, Default)]
pub(super) struct Silent {
    told: Option<Instant>,
    at: BTreeMap<u32, u64>,
}

impl Silent {
    /// The reader tells which are, at `now`.
    pub(super) fn tell(&mut self, at: BTreeMap<u32, u64>, now: Instant) {
        (self.at, self.told) = (at, Some(now));
    }

    /// Those that are at `now`.
    pub(super) fn at(&self, now: Instant) -> BTreeMap<u32, u64> {
        match self.told {
            Some(told) if now.duration_since(told) < TOLD => self.at.clone(),
            _ => BTreeMap::new(),
        }
    }
}

/// Since when there has been more to read, and from where.
#[derive(Debug)]
pub(super) struct Stalled {
    after: Duration,
    since: BTreeMap<u32, (u64, Instant)>,
}

impl Stalled {
    /// Of a client with these options.
    pub(super) fn new(options: &KafkaOptions) -> Self {
        // A broker may keep a fetch for so long until it has enough for it.
        let wait = options.property(&["fetch.wait.max.ms"]);
        let wait = wait.and_then(|millis| millis.parse().ok()).unwrap_or(0);
        Self {
            after: AFTER + Duration::from_millis(wait),
            since: BTreeMap::new(),
        }
    }

    /// Takes what is silent, and the ends of the logs that were asked for (`None`: no answer); says
    /// which partition is stalled, at which offset, and where its log ends. Of one that was not
    /// asked for nothing new is known.
    pub(super) fn look(
        &mut self,
        silent: &BTreeMap<u32, u64>,
        now: Instant,
        asked: &BTreeMap<u32, Option<u64>>,
    ) -> Option<(u32, u64, u64)> {
        let same =
            |partition: &u32, (at, _): &mut (u64, Instant)| silent.get(partition) == Some(at);
        self.since.retain(same);
        for (partition, at) in silent {
            let Some(end) = asked.get(partition) else {
                continue;
            };
            let Some(end) = end.filter(|end| end > at) else {
                self.since.remove(partition);
                continue;
            };
            let (_, since) = *self.since.entry(*partition).or_insert((*at, now));
            if now.duration_since(since) >= self.after {
                return Some((*partition, *at, end));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::now;

    #[test]
    fn only_what_stays_silent_before_the_end_of_its_log_is_stalled() {
        let options = KafkaOptions::new("there:1", "job");
        let (mut stalled, begin) = (Stalled::new(&options), now());
        let silent = |at| BTreeMap::from([(3, at)]);
        let mut look = |at, seconds, end| {
            let asked = BTreeMap::from([(3, end)]);
            stalled.look(&silent(at), begin + AFTER * seconds, &asked)
        };
        // At the end, without an answer, or on its way: it is not.
        assert_eq!(look(7, 0, Some(7)), None);
        assert_eq!(look(7, 1, Some(9)), None);
        assert_eq!(look(7, 2, None), None);
        assert_eq!(look(7, 3, Some(9)), None);
        assert_eq!(look(8, 4, Some(9)), None);
        assert_eq!(look(8, 5, Some(10)), Some((3, 8, 10)));
    }

    #[test]
    fn one_that_is_not_asked_for_meanwhile_is_stalled_all_the_same() {
        let (mut stalled, begin) = (Stalled::new(&KafkaOptions::new("there:1", "job")), now());
        let silent = BTreeMap::from([(0, 4), (5, 7)]);
        let five = BTreeMap::from([(5, Some(9))]);
        assert_eq!(stalled.look(&silent, begin, &five), None);
        let zero = BTreeMap::from([(0, None)]);
        assert_eq!(stalled.look(&silent, begin + AFTER, &zero), None);
        assert_eq!(stalled.look(&silent, begin + AFTER, &five), Some((5, 7, 9)));
    }

    #[test]
    fn a_reader_that_tells_nothing_more_has_nothing_silent() {
        let (mut silent, begin) = (Silent::default(), now());
        assert!(silent.at(begin).is_empty());
        silent.tell(BTreeMap::from([(3, 7)]), begin);
        assert_eq!(silent.at(begin + TOLD / 2).len(), 1);
        assert!(silent.at(begin + TOLD).is_empty());
    }
}
