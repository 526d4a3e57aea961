//! What the job must have said, counted again from the log in plain loops over sorted vectors.
//!
//! There are no epochs, workers or operators here. Who is late follows from a record's own
//! partition alone; only which records were late because their partition had been silent (`idle`)
//! is taken from the late topic, for that depends on the time of arrival and not on the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::envelope;
use super::rules::Rules;

/// Partition and offset.
pub(super) type Place = (i32, i64);

/// One result, with its fields in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Activity {
    #[serde(rename = "userId")]
    pub(super) user: String,
    pub(super) window_start: i64,
    pub(super) window_end: i64,
    pub(super) events: u64,
    pub(super) by_type: BTreeMap<String, u64>,
    pub(super) first_event_id: String,
    pub(super) last_event_id: String,
}

/// What became of the records of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recount {
    pub(super) read: u64,
    pub(super) used: u64,
    pub(super) duplicates: u64,
    pub(super) held: u64,
    /// Late by their own partition's past.
    pub(super) late: BTreeSet<Place>,
    pub(super) dead: BTreeSet<Place>,
    /// By user and start.
    pub(super) results: BTreeMap<(String, i64), Activity>,
}

/// An event that entered. Ordered by its position: there is one source.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entered {
    time: i64,
    place: Place,
    id: String,
    user: u32,
    kind: u32,
}

/// Takes the records of a log, those of a partition in their order, and then counts.
#[derive(Debug)]
pub(super) struct Counter {
    rules: Rules,
    idle: BTreeSet<Place>,
    /// The largest event time of each partition so far.
    largest: BTreeMap<i32, i64>,
    entered: Vec<Entered>,
    names: Names,
    seen: Recount,
}

impl Counter {
    /// `idle`: the records that left as late with this reason.
    pub(super) fn new(rules: Rules, idle: BTreeSet<Place>) -> Self {
        Self {
            rules,
            idle,
            largest: BTreeMap::new(),
            entered: Vec::new(),
            names: Names::default(),
            seen: Recount::default(),
        }
    }

    /// Takes a record, with the stamp that the log gave it.
    pub(super) fn take(&mut self, place: Place, stamp: Option<i64>, value: Option<&[u8]>) {
        self.seen.read += 1;
        let too_far = |time: i64| stamp.is_some_and(|stamp| time - stamp > self.rules.max_ahead);
        let event = envelope::read(value).filter(|event| !too_far(event.time));
        let Some(event) = event else {
            self.seen.dead.insert(place);
            return;
        };
        let before = self.largest.get(&place.0).copied();
        let largest = before.map_or(event.time, |before| before.max(event.time));
        self.largest.insert(place.0, largest);
        if self.idle.contains(&place) {
            return;
        }
        // Dedup comes first in this job: late is what is older than the watermark.
        if before.is_some_and(|before| event.time < before - self.rules.lag) {
            self.seen.late.insert(place);
            return;
        }
        self.entered.push(Entered {
            time: event.time,
            place,
            user: self.names.number(event.user),
            kind: self.names.number(event.kind),
            id: event.id,
        });
    }

    /// Counts what has closed when the last records of `partitions` partitions were read.
    pub(super) fn count(self, partitions: usize) -> Recount {
        let slowest = self.largest.values().min().copied();
        let slowest = slowest.filter(|_| self.largest.len() == partitions);
        let watermark = slowest.map_or(i64::MIN, |slowest| slowest - self.rules.lag);
        self.count_until(watermark)
    }

    /// Counts what has closed at `watermark`.
    pub(super) fn count_until(mut self, watermark: i64) -> Recount {
        self.entered.sort_unstable();
        let settled = self.entered.partition_point(|event| event.time < watermark);
        self.seen.held = (self.entered.len() - settled) as u64;
        let mut kept_at: HashMap<&str, i64> = HashMap::new();
        for event in &self.entered[..settled] {
            let kept = kept_at.get(event.id.as_str());
            if kept.is_some_and(|kept| event.time - kept < self.rules.retention) {
                self.seen.duplicates += 1;
                continue;
            }
            kept_at.insert(&event.id, event.time);
            self.seen.used += 1;
            let start = event.time.div_euclid(self.rules.size) * self.rules.size;
            let end = start + self.rules.size;
            if end <= watermark {
                let user = self.names.name(event.user);
                add(&mut self.seen.results, user, start..end, event, &self.names);
            }
        }
        self.seen
    }
}

fn add(
    results: &mut BTreeMap<(String, i64), Activity>,
    user: &str,
    window: std::ops::Range<i64>,
    event: &Entered,
    names: &Names,
) {
    let key = (user.to_owned(), window.start);
    let result = results.entry(key).or_insert_with(|| Activity {
        user: user.to_owned(),
        window_start: window.start,
        window_end: window.end,
        events: 0,
        by_type: BTreeMap::new(),
        first_event_id: event.id.clone(),
        last_event_id: String::new(),
    });
    result.events += 1;
    let kind = names.name(event.kind).to_owned();
    *result.by_type.entry(kind).or_default() += 1;
    result.last_event_id.clone_from(&event.id);
}

/// Names that occur often, by number, so that a long log fits into memory.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: String) -> u32 {
        if let Some(known) = self.numbers.get(&name) {
            return *known;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        size: 10,
        lag: 5,
        retention: 20,
        max_ahead: 1_000,
    };
    /// Integers above are milliseconds.
    const BASE: i64 = 1_000_000_000_000;

    fn line(id: &str, user: &str, time: i64) -> Vec<u8> {
        format!(
            "{{\"eventId\":\"{id}\",\"eventType\":\"k-{id}\",\"userId\":\"{user}\",\
             \"timestamp\":{},\"data\":{{}}}}",
            BASE + time
        )
        .into_bytes()
    }

    /// Records: partition, id, time; all of user `u`.
    fn counted(idle: &[Place], records: &[(i32, &str, i64)], partitions: usize) -> Recount {
        let mut counter = Counter::new(RULES, idle.iter().copied().collect());
        let mut next = BTreeMap::new();
        for (partition, id, time) in records {
            let offset = next.entry(*partition).or_insert(0);
            counter.take(
                (*partition, *offset),
                Some(BASE),
                Some(&line(id, "u", *time)),
            );
            *offset += 1;
        }
        counter.count(partitions)
    }

    #[test]
    fn late_is_what_is_older_than_its_own_partitions_watermark() {
        let records = [
            (0, "a", 20),
            (0, "b", 15),
            (0, "c", 14),
            (1, "d", 3),
            (1, "e", 0),
        ];
        let recount = counted(&[], &records, 2);
        assert_eq!(recount.late, BTreeSet::from([(0, 2)]));
        assert_eq!((recount.read, recount.held), (5, 4));
    }

    #[test]
    fn a_late_event_counts_as_past_and_a_dead_one_does_not() {
        let records = [(0, "a", 9), (0, "b", 5_000), (0, "c", 7)];
        let recount = counted(&[], &records, 1);
        assert_eq!(recount.dead, BTreeSet::from([(0, 1)])); // too far ahead
        assert!(recount.late.is_empty());
        let recount = counted(&[(0, 1)], &[(0, "a", 9), (0, "b", 90), (0, "c", 7)], 1);
        assert_eq!(recount.late, BTreeSet::from([(0, 2)]));
    }

    #[test]
    fn a_repeat_is_dropped_within_the_retention_of_one_that_was_kept() {
        // 30 lies 30 after the kept one at 0; the dropped one at 15 protects nobody.
        let records = [
            (0, "a", 15),
            (1, "a", 0),
            (0, "a", 30),
            (0, "z", 99),
            (1, "z", 98),
        ];
        let recount = counted(&[], &records, 2);
        assert_eq!((recount.used, recount.duplicates, recount.held), (2, 1, 2));
        let starts: Vec<_> = recount.results.keys().map(|key| key.1 - BASE).collect();
        assert_eq!(starts, [0, 30]);
    }

    #[test]
    fn first_and_last_go_by_time_then_partition_then_offset() {
        let records = [
            (0, "c", 4),
            (1, "b", 4),
            (0, "a", 4),
            (0, "z", 99),
            (1, "z", 99),
        ];
        let recount = counted(&[], &records, 2);
        let result = &recount.results[&("u".to_owned(), BASE)];
        assert_eq!(result.first_event_id, "c");
        assert_eq!(result.last_event_id, "b");
        assert_eq!(result.events, 3);
        assert_eq!(result.by_type.len(), 3);
    }

    #[test]
    fn a_window_closes_when_every_partition_has_passed_its_end_by_the_lag() {
        let closed = |last: i64| {
            let recount = counted(&[], &[(0, "a", 4), (0, "z", 99), (1, "y", last)], 2);
            recount.results.len()
        };
        assert_eq!((closed(14), closed(15)), (0, 1));
        assert_eq!(
            counted(&[], &[(0, "a", 4), (0, "z", 99)], 2).results.len(),
            0
        );
    }
}
