//! What the users do now: the generator's behaviour, brought to this moment.
//!
//! The generator says who does what, which records are repeats, late or broken, and how the broken
//! ones look. When it happened is told here, because the demo has real time.

use std::collections::VecDeque;

use anabranch::connectors::generator::{BehaviourKind, Make, behaviour, behaviour_kind};

use super::clock::whole;
use super::rules::{LAG, PARTITIONS};

/// One event in so many is up to nearly the lag older than its place says.
const DISORDERED: u64 = 7;
/// How much older the others are, at most, in milliseconds.
const JITTER: u64 = 120;
/// Late events are older than the lag by 1 to 8 s.
const LATE: (u64, u64) = (1_000, 7_000);
/// Repeats are of the last so many events of a partition.
const RECENT: usize = 200;
/// How much older than the lag an event is that is sent late on purpose.
const VERY_LATE: i64 = 3_400;

/// Makes the events of all partitions.
pub(super) struct Maker {
    make: Make,
    seed: u64,
    partitions: Vec<Partition>,
    random: u64,
    sent_late: u64,
}

#[derive(Default)]
struct Partition {
    index: u64,
    recent: VecDeque<(i64, Vec<u8>)>,
}

impl Maker {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            make: behaviour(seed),
            seed,
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            random: seed | 1,
            sent_late: 0,
        }
    }

    /// Replaces `out` by what `partition` is given at `time`.
    pub(super) fn next(&mut self, partition: u32, time: i64, out: &mut Vec<u8>) {
        let index = self.partitions[partition as usize].index;
        self.partitions[partition as usize].index += 1;
        out.clear();
        let kind = behaviour_kind(self.seed, partition, index);
        if kind == BehaviourKind::Duplicate && self.repeat(partition, time, out) {
            return;
        }
        (self.make)(partition, index, out);
        let delay = match kind {
            BehaviourKind::Late => self.below(LATE.1) + LATE.0 + lag(),
            _ if self.below(DISORDERED) == 0 => self.below(lag() - JITTER),
            _ => self.below(JITTER),
        };
        let happened = time - i64::try_from(delay).unwrap_or(0);
        stamp(out, happened);
        if kind == BehaviourKind::Event {
            let recent = &mut self.partitions[partition as usize].recent;
            recent.push_back((happened, out.clone()));
            if recent.len() > RECENT {
                recent.pop_front();
            }
        }
    }

    /// An event of one's own that is late in every partition that is being written.
    pub(super) fn late(&mut self, time: i64) -> String {
        self.sent_late += 1;
        event("you", "late", self.sent_late, time - whole(LAG) - VERY_LATE)
    }

    /// Sends an event again that this partition or the one before had, if it is still in time.
    fn repeat(&mut self, partition: u32, time: i64, out: &mut Vec<u8>) -> bool {
        let from = (partition as usize).saturating_sub(usize::from(self.below(2) == 1));
        let back = usize::try_from(self.below(RECENT as u64)).unwrap_or(0);
        let recent = &self.partitions[from].recent;
        let in_time = |(happened, _): &&(i64, Vec<u8>)| {
            time - happened < whole(LAG) - i64::try_from(JITTER).unwrap_or(0)
        };
        let copy = recent.iter().skip(back).find(in_time);
        if let Some((_, line)) = copy {
            out.extend_from_slice(line);
        }
        copy.is_some()
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64: even enough for a show.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }
}

/// The event that ends the demo in its partition: so far ahead that every window before it closes.
pub(super) fn closing(partition: u32, time: i64) -> String {
    event("the-end", "end", u64::from(partition), time)
}

fn event(user: &str, kind: &str, number: u64, time: i64) -> String {
    format!(
        "{{\"eventId\":\"{user}-{number}\",\"eventType\":\"{kind}\",\"userId\":\"{user}\",\
         \"timestamp\":{time},\"data\":{{}}}}"
    )
}

fn lag() -> u64 {
    whole(LAG).unsigned_abs()
}

/// Puts `time` where a line has a number as its timestamp; a broken line may have none.
fn stamp(line: &mut Vec<u8>, time: i64) {
    const FIELD: &[u8] = b"\"timestamp\":";
    let Some(field) = line.windows(FIELD.len()).position(|part| part == FIELD) else {
        return;
    };
    let start = field + FIELD.len();
    let digits = line[start..].iter().take_while(|c| c.is_ascii_digit());
    let end = start + digits.count();
    if end > start {
        line.splice(start..end, time.to_string().into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const START: i64 = 1_000_000_000_000;

    /// 60,000 records of two partitions at 1,000 a second each, with the time of each.
    fn made() -> Vec<(u32, i64, Vec<u8>)> {
        let mut maker = Maker::new(1);
        let mut out = Vec::new();
        let mut all = Vec::new();
        for (n, partition) in (0..60_000).zip([0, 1].into_iter().cycle()) {
            let time = START + n / 2;
            maker.next(partition, time, &mut out);
            all.push((partition, time, out.clone()));
        }
        all
    }

    #[test]
    fn some_events_are_repeats_some_late_some_broken_and_the_rest_is_in_time() {
        let (mut ids, mut counts) = (HashMap::new(), HashMap::new());
        let mut largest = HashMap::new();
        for (partition, time, line) in made() {
            let parsed = serde_json::from_slice::<serde_json::Value>(&line);
            let event = parsed.ok().filter(|event| event["timestamp"].is_i64());
            let Some(event) = event else {
                *counts.entry("broken").or_insert(0) += 1;
                continue;
            };
            let happened = event["timestamp"].as_i64().unwrap();
            assert!(happened <= time && happened > time - 11_000);
            let largest = largest.entry(partition).or_insert(happened);
            if happened < *largest - 2_000 {
                *counts.entry("late").or_insert(0) += 1;
            }
            *largest = happened.max(*largest);
            let id = event["eventId"].as_str().unwrap_or_default().to_owned();
            if let Some(before) = ids.insert(id, line.clone()) {
                assert_eq!(before, line);
                *counts.entry("repeats").or_insert(0) += 1;
            }
        }
        assert!((2..40).contains(&counts["broken"]), "{counts:?}");
        assert!((10..60).contains(&counts["late"]), "{counts:?}");
        assert!((300..600).contains(&counts["repeats"]), "{counts:?}");
    }

    #[test]
    fn repeats_cross_partitions_too() {
        let (mut first, mut second) = (HashSet::new(), HashSet::new());
        for (partition, _, line) in made() {
            let of = if partition == 0 {
                &mut first
            } else {
                &mut second
            };
            of.insert(line);
        }
        assert!(first.intersection(&second).count() > 50);
    }

    #[test]
    fn what_is_sent_late_is_late_by_more_than_the_lag() {
        let mut maker = Maker::new(1);
        let (one, two) = (maker.late(START), maker.late(START));
        assert_ne!(one, two);
        let event: serde_json::Value = serde_json::from_str(&one).unwrap();
        assert!(event["timestamp"].as_i64().unwrap() < START - 5_000);
        assert!(event["data"].is_object());
    }
}
