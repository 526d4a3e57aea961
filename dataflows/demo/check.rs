//! The proof: the whole log read again by an ordinary consumer, counted again, and held against
//! what the job wrote.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::cli::{Resumed, Status};
use anabranch::{Error, Result};
use rdkafka::Message;
use sha2::{Digest as _, Sha256};

use super::recount::{Activity, Counter, Place, Recount};
use super::rules::{self, ACTIVITY, DEAD, EVENTS, LATE, PARTITIONS};
use super::topic::{header, number, read_whole};

/// How many differences are told in full.
const TOLD: usize = 5;

/// What the job wrote.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Value and, if it is not the user, key.
    pub(super) results: Vec<(Activity, Option<String>)>,
    /// Results in canonical JSON.
    pub(super) canonical: Vec<String>,
    pub(super) late: Vec<Place>,
    pub(super) idle: BTreeSet<Place>,
    pub(super) dead: Vec<Place>,
    /// Records that were called `idle` although nothing of theirs was closed.
    pub(super) too_early: Vec<Place>,
}

/// What was compared, and what differs.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) results: usize,
    pub(super) digest: String,
    pub(super) differences: Vec<String>,
}

/// Reads everything again and compares; `status` has the job's last numbers.
pub(super) fn check(bootstrap: &str, status: &Status) -> Result<Verdict> {
    let written = read_written(bootstrap)?;
    let mut counter = Counter::new(rules::rules(), written.idle.clone());
    read_whole(bootstrap, EVENTS, |message| {
        let place = (message.partition(), message.offset());
        counter.take(place, message.timestamp().to_millis(), message.payload());
        Ok(())
    })?;
    let recount = counter.count(PARTITIONS as usize);
    Ok(compare(&recount, &written, status))
}

/// What is written, held against the log up to a checkpoint.
#[derive(Debug)]
pub(super) struct Cut {
    /// Results and letters that the log has up to there, and that cannot be seen.
    pub(super) lost: usize,
    /// Those that can be seen more than once.
    pub(super) twice: usize,
    /// What a job that goes on there has counted before: the rest it counts itself.
    pub(super) before: Status,
}

/// Counts the log again up to where a job went on.
pub(super) fn check_cut(bootstrap: &str, resumed: &Resumed) -> Result<Cut> {
    let source = resumed.sources.first();
    let ends = source.map_or(&[][..], |source| &source.next);
    let ends: BTreeMap<i32, i64> = ends
        .iter()
        .map(|(partition, next)| (partition.cast_signed(), next.cast_signed()))
        .collect();
    let written = read_written(bootstrap)?;
    let is_before =
        |(partition, offset): &Place| ends.get(partition).is_some_and(|end| offset < end);
    let idle: BTreeSet<Place> = written.idle.iter().copied().filter(is_before).collect();
    let late_idle = idle.len() as u64;
    let mut counter = Counter::new(rules::rules(), idle);
    read_whole(bootstrap, EVENTS, |message| {
        let place = (message.partition(), message.offset());
        if is_before(&place) {
            counter.take(place, message.timestamp().to_millis(), message.payload());
        }
        Ok(())
    })?;
    let watermark = source.and_then(|source| source.watermark);
    let recount = counter.count_until(watermark.unwrap_or(i64::MIN));
    Ok(compare_cut(&recount, &written, late_idle))
}

fn compare_cut(recount: &Recount, written: &Written, late_idle: u64) -> Cut {
    let results = written.results.iter();
    let results: Vec<_> = results
        .map(|(result, _)| ((&*result.user, result.window_start), result))
        .collect();
    let by_window: BTreeMap<_, _> = results.iter().copied().collect();
    let mut twice = results.len() - by_window.len();
    let wanted = recount.results.iter();
    let mut lost = wanted
        .filter(|((user, start), result)| by_window.get(&(&**user, *start)) != Some(result))
        .count();
    for (expected, written) in [
        (&recount.late, &written.late),
        (&recount.dead, &written.dead),
    ] {
        let seen: BTreeSet<Place> = written.iter().copied().collect();
        twice += written.len() - seen.len();
        lost += expected.difference(&seen).count();
    }
    Cut {
        lost,
        twice,
        before: Status {
            // What was held then is read once more from the state.
            read: recount.read - recount.held,
            used: recount.used,
            duplicates: recount.duplicates,
            late: recount.late.len() as u64 + late_idle,
            late_idle,
            dead: recount.dead.len() as u64,
            results: recount.results.len() as u64,
            ..Status::default()
        },
    }
}

fn read_written(bootstrap: &str) -> Result<Written> {
    let mut written = Written::default();
    read_whole(bootstrap, ACTIVITY, |message| {
        let value = message.payload().unwrap_or_default();
        let broken = |cause| {
            let (partition, offset) = (message.partition(), message.offset());
            let place = format!("topic `{ACTIVITY}`: partition {partition}, offset {offset}");
            Error::operating(place).because(cause)
        };
        let result: Activity = serde_json::from_slice(value).map_err(broken)?;
        let canonical: serde_json::Value = serde_json::from_slice(value).map_err(broken)?;
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let key = (key != result.user).then_some(key);
        written.results.push((result, key));
        written.canonical.push(canonical.to_string());
        Ok(())
    })?;
    for topic in [LATE, DEAD] {
        read_whole(bootstrap, topic, |message| {
            let part = number(message, "partition").and_then(|part| i32::try_from(part).ok());
            let (Some(part), Some(offset)) = (part, number(message, "offset")) else {
                let why = format!("topic `{topic}`: a letter does not say where it was read");
                return Err(Error::operating(why));
            };
            match header(message, "reason").as_deref() {
                Some("idle") => {
                    written.idle.insert((part, offset));
                    if number(message, "event-time") >= number(message, "watermark") {
                        written.too_early.push((part, offset));
                    }
                }
                Some("late") => written.late.push((part, offset)),
                _ => written.dead.push((part, offset)),
            }
            Ok(())
        })?;
    }
    Ok(written)
}

/// Every way in which the two differ, in words.
pub(super) fn compare(recount: &Recount, written: &Written, status: &Status) -> Verdict {
    let mut differences = Vec::new();
    compare_results(&recount.results, written, &mut differences);
    compare_letters("late", &recount.late, &written.late, &mut differences);
    compare_letters("dead", &recount.dead, &written.dead, &mut differences);
    compare_letters(
        "idle too early",
        &BTreeSet::new(),
        &written.too_early,
        &mut differences,
    );
    let idle = written.idle.len() as u64;
    for (name, counted, told) in [
        ("read", recount.read, status.read),
        ("used", recount.used, status.used),
        ("duplicates", recount.duplicates, status.duplicates),
        ("late", recount.late.len() as u64 + idle, status.late),
        ("idle", idle, status.late_idle),
        ("dead", recount.dead.len() as u64, status.dead),
        ("held", recount.held, status.held),
        ("results", recount.results.len() as u64, status.results),
    ] {
        if counted != told {
            differences.push(format!(
                "{name}: the job says {told}, the log says {counted}"
            ));
        }
    }
    Verdict {
        results: written.results.len(),
        digest: digest(&written.canonical),
        differences,
    }
}

fn compare_results(
    expected: &BTreeMap<(String, i64), Activity>,
    written: &Written,
    differences: &mut Vec<String>,
) {
    let mut found: BTreeMap<(&str, i64), &Activity> = BTreeMap::new();
    for (result, other_key) in &written.results {
        let key = (result.user.as_str(), result.window_start);
        if let Some(other) = other_key {
            differences.push(format!("{key:?}: its key is `{other}`"));
        }
        if found.insert(key, result).is_some() {
            differences.push(format!("{key:?}: written twice"));
        }
    }
    for ((user, start), result) in expected {
        match found.remove(&(user.as_str(), *start)) {
            None => differences.push(format!("not written: {}", json(result))),
            Some(other) if other != result => differences.push(format!(
                "written: {}\n    the log says: {}",
                json(other),
                json(result)
            )),
            Some(_) => {}
        }
    }
    let more = found.into_values();
    differences.extend(more.map(|result| format!("not in the log: {}", json(result))));
}

fn compare_letters(
    name: &str,
    expected: &BTreeSet<Place>,
    written: &[Place],
    differences: &mut Vec<String>,
) {
    let found: BTreeSet<Place> = written.iter().copied().collect();
    if found.len() != written.len() {
        differences.push(format!("{name}: a record left more than once"));
    }
    let mut tell = |(partition, offset): &Place, what: &str| {
        differences.push(format!("{EVENTS}[{partition}]@{offset}: {what} {name}"));
    };
    expected
        .difference(&found)
        .for_each(|place| tell(place, "the log says"));
    found
        .difference(expected)
        .for_each(|place| tell(place, "the job says"));
}

fn json(result: &Activity) -> String {
    serde_json::to_string(result).unwrap_or_default()
}

/// SHA-256 of the sorted records, each followed by a newline; as `anabranch digest` has it.
fn digest(canonical: &[String]) -> String {
    let mut sorted: Vec<&String> = canonical.iter().collect();
    sorted.sort_unstable();
    let mut hash = Sha256::new();
    for record in sorted {
        hash.update(record.as_bytes());
        hash.update(b"\n");
    }
    let digits = hash.finalize();
    let digits = digits.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    digits.collect()
}

impl Verdict {
    /// What differs, the first few in full.
    pub(super) fn told(&self) -> String {
        let mut lines: Vec<String> = self.differences.iter().take(TOLD).cloned().collect();
        let more = self.differences.len().saturating_sub(TOLD);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines.insert(0, String::new());
        lines.join("\n  ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Rules;
    use super::*;

    const BASE: i64 = 1_000_000_000_000;

    /// Two users in two windows, a late record, a repeat and a dead letter; and what a job wrote
    /// that is right.
    fn right() -> (Recount, Written, Status) {
        let rules = Rules {
            size: 10,
            lag: 5,
            retention: 20,
            max_ahead: 1_000,
        };
        let mut counter = Counter::new(rules, BTreeSet::from([(0, 5)]));
        let events = [
            ("a", "u", 1),
            ("b", "v", 2),
            ("b", "v", 2),
            ("c", "u", 12),
            ("d", "u", 0),
        ];
        let late_and_end = [("e", "u", 11), ("z", "end", 99)];
        for (offset, (id, user, time)) in (0..).zip(events.into_iter().chain(late_and_end)) {
            let time = BASE + time;
            let line = format!(
                "{{\"eventId\":\"{id}\",\"eventType\":\"k\",\"userId\":\"{user}\",\
                 \"timestamp\":{time},\"data\":{{}}}}"
            );
            counter.take((0, offset), Some(time), Some(line.as_bytes()));
        }
        counter.take((0, 7), None, Some(b"no event"));
        let recount = counter.count(1);
        let results: Vec<_> = recount
            .results
            .values()
            .cloned()
            .map(|it| (it, None))
            .collect();
        let canonical = results.iter().map(|(result, _)| json(result)).collect();
        let written = Written {
            results,
            canonical,
            late: vec![(0, 4)],
            idle: BTreeSet::from([(0, 5)]),
            dead: vec![(0, 7)],
            too_early: Vec::new(),
        };
        let status = Status {
            read: 8,
            used: 3,
            duplicates: 1,
            late: 2,
            late_idle: 1,
            dead: 1,
            held: 1,
            results: 3,
            ..Status::default()
        };
        (recount, written, status)
    }

    #[test]
    fn what_the_log_says_is_no_difference() {
        let (recount, written, status) = right();
        let verdict = compare(&recount, &written, &status);
        assert_eq!(verdict.differences, Vec::<String>::new());
        assert_eq!((verdict.results, verdict.digest.len()), (3, 64));
    }

    /// Asserts that a job which wrote this instead is caught, with these words.
    #[track_caller]
    fn caught(tamper: impl FnOnce(&mut Written, &mut Status), words: &str) {
        let (recount, mut written, mut status) = right();
        tamper(&mut written, &mut status);
        let told = compare(&recount, &written, &status).told();
        assert!(told.contains(words), "`{words}` in: {told}");
    }

    #[test]
    fn every_wrong_result_is_caught() {
        caught(
            |written, _| written.results[0].0.events += 1,
            "\n    the log says: {\"userId\":\"u\"",
        );
        caught(
            |written, _| written.results[1].0.first_event_id.push('x'),
            "written: ",
        );
        caught(
            |written, _| written.results[1].0.window_start -= 1_000,
            "not in the log: ",
        );
        caught(|written, _| _ = written.results.remove(2), "not written: ");
        caught(
            |written, _| written.results.push(written.results[0].clone()),
            "written twice",
        );
        caught(
            |written, _| written.results[0].1 = Some("v".to_owned()),
            "its key is `v`",
        );
    }

    #[test]
    fn every_wrong_letter_is_caught() {
        caught(
            |written, _| written.late.clear(),
            "events[0]@4: the log says late",
        );
        caught(
            |written, _| written.late.push((0, 0)),
            "events[0]@0: the job says late",
        );
        caught(
            |written, _| written.late.push((0, 4)),
            "late: a record left more than once",
        );
        caught(
            |written, _| written.dead.clear(),
            "events[0]@7: the log says dead",
        );
        caught(
            |written, _| written.dead[0].1 = 6,
            "events[0]@6: the job says dead",
        );
        caught(
            |written, _| written.too_early.push((0, 5)),
            "the job says idle too early",
        );
        caught(
            |written, _| _ = written.idle.insert((0, 9)),
            "idle: the job says 1, the log says 2",
        );
    }

    #[test]
    fn every_wrong_number_is_caught() {
        caught(
            |_, status| status.read += 1,
            "read: the job says 9, the log says 8",
        );
        caught(|_, status| status.used -= 1, "used: the job says 2");
        caught(
            |_, status| status.duplicates = 0,
            "duplicates: the job says 0",
        );
        caught(|_, status| status.held = 0, "held: the job says 0");
        caught(
            |_, status| status.results = 7,
            "results: the job says 7, the log says 3",
        );
    }

    #[test]
    fn what_a_kill_loses_or_repeats_is_caught() {
        let told = |tamper: fn(&mut Written)| {
            let (recount, mut written, _) = right();
            tamper(&mut written);
            let cut = compare_cut(&recount, &written, 1);
            (cut.lost, cut.twice)
        };
        assert_eq!(told(|_| ()), (0, 0));
        assert_eq!(told(|written| _ = written.results.pop()), (1, 0));
        assert_eq!(told(|written| written.results[0].0.events += 1), (1, 0));
        assert_eq!(told(|written| written.late.clear()), (1, 0));
        let again = |written: &mut Written| written.results.push(written.results[0].clone());
        assert_eq!(told(again), (0, 1));
        assert_eq!(told(|written| written.dead.push((0, 7))), (0, 1));
        // What comes behind the checkpoint is no difference.
        assert_eq!(told(|written| written.late.push((1, 9))), (0, 0));
    }

    #[test]
    fn what_was_counted_before_balances_without_what_is_held() {
        let (recount, written, status) = right();
        let before = compare_cut(&recount, &written, 1).before;
        assert_eq!(before.read + status.held, status.read);
        assert_eq!(
            before.read,
            before.used + before.duplicates + before.late + before.dead
        );
    }

    #[test]
    fn the_digest_is_one_of_sorted_lines() {
        let lines = |all: &[&str]| digest(&all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(lines(&["b", "a"]), lines(&["a", "b"]));
        assert_ne!(lines(&["a", "b"]), lines(&["a"]));
        // printf 'a\nb\n' | sha256sum
        let known = "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2";
        assert_eq!(lines(&["b", "a"]), known);
    }
}
