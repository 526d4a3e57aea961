//! Shows that the checker can fail: what a reader of a correct job would see passes, and the same
//! with one thing wrong does not, for each thing that it looks at.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::checker::Entry;
use super::expected::{Cut, Expected, Port};
use super::log::Log;
use super::story::Story;
use crate::oracle::Job;
use crate::oracle::text::Rng;

/// What is done to a story, and what the checker has to say of it.
type Tampering = (&'static str, fn(&mut Story), &'static str);

/// Holds the checker to all of it.
///
/// # Errors
/// A correct story that does not pass, or a tampering that does.
pub(crate) fn run() -> Result<usize, String> {
    let mut caught = 0;
    for job in [Job::BidStats, Job::UserActivity] {
        for seed in 0..3 {
            prefixes(seed, job)?;
            let checker = Story::of(seed, job).judged();
            if !checker.problems.is_empty() {
                let said = checker.problems.join("\n");
                return Err(format!("{job:?} {seed}, correct, is refused:\n{said}"));
            }
        }
        let correct = Story::of(7, job);
        for tampering in TAMPERINGS {
            catch(correct.clone(), tampering)?;
            caught += 1;
        }
    }
    Ok(caught)
}

fn catch(mut story: Story, (name, tamper, wanted): &Tampering) -> Result<(), String> {
    tamper(&mut story);
    let checker = story.judged();
    let mut problems = checker.problems.iter();
    if problems.any(|problem| problem.contains(wanted)) {
        return Ok(());
    }
    let said = checker.problems.join("\n");
    let job = story.log.params.job;
    Err(format!(
        "{job:?}, {name}: not caught as `{wanted}`:\n{said}"
    ))
}

/// What the checker takes from the answer to the whole log is the answer to a prefix of it.
fn prefixes(seed: u64, job: Job) -> Result<(), String> {
    let log = Log::make(seed, job, "log", 1_500);
    let expected = Expected::of(&log);
    let mut rng = Rng(seed);
    for nth in 0..5 {
        let mut cut: Cut = expected.end();
        cut.ended.fill(nth == 0);
        // Partitions are cut at about the same time: else no window is closed.
        let part = rng.between(1, 1_000);
        for next in &mut cut.next {
            *next = if nth == 0 {
                *next
            } else {
                *next * part / 1_000
            };
        }
        agrees(&log, &expected, &cut)?;
    }
    Ok(())
}

/// The quick answer to a cut is the slow one.
///
/// # Errors
/// The first difference.
pub(crate) fn agrees(log: &Log, expected: &Expected, cut: &Cut) -> Result<(), String> {
    let horizon = expected.horizon(cut);
    let items = expected.items.iter().enumerate();
    let shown = items.filter(|(item, _)| expected.is_shown(*item, cut, horizon));
    let quickly: BTreeSet<_> = shown.map(|(_, item)| item.id.clone()).collect();
    let slowly = expected.slowly(log, cut);
    match quickly.symmetric_difference(&slowly).next() {
        None => Ok(()),
        Some(one) => Err(format!("the oracle differs at {cut:?}: {one:?}")),
    }
}

// ------------------------------------------------------------------------------------- tamperings

fn drop_one(story: &mut Story, port: Port) {
    let place = story.some(port);
    story.entries.remove(place);
}

fn repeat_one(story: &mut Story, port: Port) {
    let place = story.some(port);
    let mut record = story.record(place).clone();
    record.offset = 1_000_000;
    story.entries.push(Entry::Output(record));
}

fn change_value(story: &mut Story, port: Port, from: &str, to: &str) {
    let has = |entry: &Entry| match entry {
        Entry::Output(record) if record.port == port => {
            let value = record.value.as_deref().unwrap_or_default();
            String::from_utf8_lossy(value).contains(from)
        }
        _ => false,
    };
    let place = story.places(has)[0];
    let record = story.record(place);
    let value = record.value.take().unwrap_or_default();
    let value = String::from_utf8_lossy(&value).replacen(from, to, 1);
    record.value = Some(value.into_bytes());
}

fn change_header(story: &mut Story, port: Port, name: &str, to: &str) {
    let place = story.some(port);
    let headers = &mut story.record(place).headers;
    let header = headers.iter_mut().find(|(other, _)| other == name);
    to.clone_into(&mut header.expect("the header").1);
}

/// Two results of one key, in one partition, in each other's place.
fn exchange_two_of_a_key(story: &mut Story) {
    let is = |entry: &Entry| matches!(entry, Entry::Output(r) if r.port == Port::Results);
    let places = story.places(is);
    let first = story.record(places[0]).clone();
    let same = |place: &&usize| match &story.entries[**place] {
        Entry::Output(other) => other.key == first.key,
        _ => false,
    };
    let other = *places[1..].iter().find(same).expect("keys come again");
    let second = story.record(other).clone();
    story.record(places[0]).value = second.value;
    story.record(other).value = first.value;
}

/// The place of the progress record in the middle becomes another one.
fn set(story: &mut Story, path: &str, change: impl Fn(&Value) -> Value) {
    story.alter(story.middle(), |record| {
        let field = record.pointer_mut(path).expect("a field");
        *field = change(field);
    });
}

fn add(value: &Value, more: i64) -> Value {
    json!(value.as_i64().expect("a number") + more)
}

/// The progress record in the middle tells the cut of the first one.
fn an_old_cut(story: &mut Story) {
    let first = match &story.entries[0] {
        Entry::Progress { value, .. } => value.clone(),
        other => panic!("{other:?} is no progress"),
    };
    let first: Value = serde_json::from_slice(&first).expect("progress");
    for name in ["sources", "watermark", "horizon"] {
        set(story, &format!("/{name}"), |_| first[name].clone());
    }
}

const NEXT: &str = "/sources/0/partitions/0/next";
const LARGEST: &str = "/sources/0/partitions/1/largest";

const TAMPERINGS: &[Tampering] = &[
    ("a result is lost", |s| drop_one(s, Port::Results), "Lost: "),
    (
        "a late record is lost",
        |s| drop_one(s, Port::Late),
        "Lost: ",
    ),
    (
        "a dead letter is lost",
        |s| drop_one(s, Port::Dead),
        "Lost: ",
    ),
    (
        "a result is repeated",
        |s| repeat_one(s, Port::Results),
        "Twice: ",
    ),
    (
        "a late record is repeated",
        |s| repeat_one(s, Port::Late),
        "Twice: ",
    ),
    (
        "a dead letter is repeated",
        |s| repeat_one(s, Port::Dead),
        "Twice: ",
    ),
    (
        "a result is another",
        |s| {
            change_value(
                s,
                Port::Results,
                "\"window_start\":1",
                "\"window_start\": 11",
            );
        },
        "the oracle knows nothing of it",
    ),
    (
        "a result has another count",
        |s| {
            let name = ["\"cnt\":", "\"events\":"];
            let of = usize::from(s.log.params.job == Job::UserActivity);
            change_value(s, Port::Results, name[of], &format!("{}1", name[of]));
        },
        "expected {",
    ),
    (
        "a late record has another value",
        |s| change_value(s, Port::Late, "{", "{\"x\":1,"),
        "Different: late record",
    ),
    (
        "a late record has another watermark",
        |s| change_header(s, Port::Late, "anabranch.watermark", "1"),
        "Different: late record",
    ),
    (
        "a dead letter has another reason",
        |s| change_header(s, Port::Dead, "anabranch.reason", "processing"),
        "Different: dead letter",
    ),
    (
        "a dead letter comes from nowhere",
        |s| change_header(s, Port::Dead, "anabranch.offset", "99999"),
        "the oracle knows nothing of it",
    ),
    (
        "a result has another key",
        |s| {
            let place = s.some(Port::Results);
            s.record(place).key = Some(b"other".to_vec());
        },
        "its key should be",
    ),
    (
        "a result goes to another partition",
        |s| {
            let place = s.some(Port::Results);
            let record = s.record(place);
            record.partition = (record.partition + 1) % 3;
            record.offset = 1_000_000;
        },
        "it belongs to partition",
    ),
    (
        "a key's results change places",
        exchange_two_of_a_key,
        "its key was at",
    ),
    (
        "a partition goes back",
        |s| {
            let place = s.some(Port::Results);
            let record = s.record(place).clone();
            s.entries.push(Entry::Output(record));
        },
        "comes after a later one",
    ),
    (
        "progress is repeated",
        |s| {
            let middle = s.middle();
            if let Entry::Progress { offset, key, value } = s.entries[middle].clone() {
                let offset = offset + 1;
                s.entries
                    .insert(middle + 1, Entry::Progress { offset, key, value });
            }
        },
        "comes after",
    ),
    (
        "a checkpoint goes back",
        |s| set(s, "/checkpoint", |n| add(n, -5)),
        "comes after",
    ),
    (
        "a generation goes back",
        |s| set(s, "/generation", |_| json!(0)),
        "generation 0 comes after",
    ),
    (
        "a generation goes far ahead",
        |s| set(s, "/generation", |_| json!(99)),
        "comes after 99",
    ),
    (
        "the cut goes back",
        |s| set(s, NEXT, |_| json!(0)),
        "the largest time before 0",
    ),
    (
        "the cut goes back, consistently",
        an_old_cut,
        "partition 0 goes back",
    ),
    (
        "the cut goes beyond the log",
        |s| set(s, NEXT, |n| add(n, 90_000)),
        "is beyond the log",
    ),
    (
        "the largest time is another",
        |s| set(s, LARGEST, |n| add(n, 1)),
        "the largest time",
    ),
    (
        "the watermark is another",
        |s| set(s, "/watermark", |n| add(n, 1)),
        "the watermark is",
    ),
    (
        "the horizon is another",
        |s| set(s, "/horizon", |n| add(n, -1)),
        "the horizon is",
    ),
    (
        "a partition is idle",
        |s| set(s, "/sources/0/partitions/0/state", |_| json!("idle")),
        "idle",
    ),
    (
        "a partition ends early",
        |s| {
            // At the very start, where no partition can have ended.
            s.alter(0, |record| {
                record["sources"][0]["partitions"][0]["state"] = json!("ended");
            });
        },
        "a partition has ended at",
    ),
    (
        "it is finished early",
        |s| set(s, "/finished", |_| json!(true)),
        "is not the end",
    ),
    (
        "the source is another",
        |s| set(s, "/sources/0/identity", |_| json!("x")),
        "the source's id",
    ),
    (
        "a partition is missing",
        |s| set(s, "/sources/0/partitions", |_| json!([])),
        "missing",
    ),
    (
        "the job is another",
        |s| set(s, "/name", |_| json!("x")),
        "name is `x`",
    ),
    (
        "records left as idle",
        |s| set(s, "/sources/0/partitions/0/left", |_| json!([[1, 2]])),
        "left as idle",
    ),
    (
        "there is no checksum",
        |s| set(s, "/crc", |_| json!("")),
        "no checksum",
    ),
    (
        "progress is no JSON",
        |s| {
            let middle = s.middle();
            if let Entry::Progress { value, .. } = &mut s.entries[middle] {
                value.truncate(9);
            }
        },
        "progress at",
    ),
    (
        "the last progress is lost",
        |s| {
            let is = |entry: &Entry| matches!(entry, Entry::Progress { .. });
            let last = s.places(is).pop().expect("progress");
            s.entries.remove(last);
        },
        "no progress record covers it",
    ),
    (
        "a second reader misses one",
        |s| drop(s.again[0].pop()),
        "read again, it differs",
    ),
    (
        "a second reader reads another",
        |s| s.again[2][0].key = Some(b"other".to_vec()),
        "read again, it differs",
    ),
    (
        "a second reader reads one more",
        |s| {
            let mut more = s.again[1][0].clone();
            more.offset = 1_000_000;
            s.again[1].push(more);
        },
        "nobody saw it when it came",
    ),
    (
        "a record is visible one checkpoint early",
        |s| move_end(s, true),
        "it belongs to a later one",
    ),
    (
        "a record is visible one checkpoint late",
        |s| move_end(s, false),
        "it is missing there",
    ),
    (
        "an output's end goes back",
        |s| set(s, "/written/0/ends", |_| json!([1, 1, 1])),
        "an output's end goes back",
    ),
    (
        "the progress topic goes back",
        |s| {
            let middle = s.middle();
            if let Entry::Progress { offset, .. } = &mut s.entries[middle] {
                *offset = 0;
            }
        },
        "it comes after",
    ),
    (
        "the job goes on after its end",
        |s| go_on(s, |_| {}),
        "went on after it was finished",
    ),
    (
        "a partition goes on after its end",
        goes_on_after_its_end,
        "that had ended goes on",
    ),
    (
        "the port is another",
        |s| set(s, "/sources/0/port", |_| json!("x")),
        "port is `x`",
    ),
    (
        "the place is another",
        |s| set(s, "/sources/0/place", |_| json!("kafka:x")),
        "place is `kafka:x`",
    ),
    (
        "an output that nobody knows",
        |s| set(s, "/written/0/topic", |_| json!("x")),
        "`x` is no output",
    ),
    (
        "a late record does not say why",
        |s| header(s, Port::Late, "anabranch.reason", false),
        "no header anabranch.reason",
    ),
    (
        "a dead letter says twice where it comes from",
        |s| header(s, Port::Dead, "anabranch.offset", true),
        "is there twice",
    ),
    (
        "what is told of does not come within a minute",
        |s| {
            // What is due at the first checkpoint that tells of a late record comes at the end.
            let late = |entry: &Entry| matches!(entry, Entry::Output(r) if r.port == Port::Late);
            let first = s.places(late)[0];
            let partition = s.record(first).partition;
            let its = |entry: &Entry| match entry {
                Entry::Output(r) => r.port == Port::Late && r.partition == partition,
                _ => false,
            };
            let (held, rest) = std::mem::take(&mut s.entries).into_iter().partition(its);
            s.entries = rest;
            s.entries.extend([Entry::Time, Entry::Time, Entry::Time]);
            let held: Vec<Entry> = held;
            s.entries.extend(held);
        },
        "told of what is not visible",
    ),
    (
        "what is visible is not covered within a minute",
        |s| {
            let is = |entry: &Entry| matches!(entry, Entry::Progress { .. });
            let last = s.places(is).pop().expect("progress");
            s.entries
                .splice(last..last, [Entry::Time, Entry::Time, Entry::Time]);
        },
        "no progress record covers it",
    ),
    (
        "an end lies beyond what is there",
        |s| {
            let last = s.entries.len() - 1;
            if let Entry::Progress { value, .. } = &mut s.entries[last] {
                let mut record: Value = serde_json::from_slice(value).expect("progress");
                record["written"][0]["ends"][0] = json!(1_000_000);
                *value = record.to_string().into_bytes();
            }
        },
        "told of",
    ),
];

/// Removes a header of a letter, or puts it there once more.
fn header(story: &mut Story, port: Port, name: &str, twice: bool) {
    let place = story.some(port);
    let headers = &mut story.record(place).headers;
    let at = headers.iter().position(|(other, _)| other == name);
    let header = headers.remove(at.expect("the header"));
    if twice {
        headers.extend([header.clone(), header]);
    }
}

/// Another progress record behind the last one, which is `changed` in it.
fn go_on(story: &mut Story, changed: impl Fn(&mut Value)) {
    let is = |entry: &Entry| matches!(entry, Entry::Progress { .. });
    let last = story.places(is).pop().expect("progress");
    let Entry::Progress { offset, key, value } = story.entries[last].clone() else {
        return;
    };
    let offset = offset + 2;
    story.entries.push(Entry::Progress { offset, key, value });
    story.alter(story.entries.len() - 1, |record| {
        record["checkpoint"] = add(&record["checkpoint"], 1);
        changed(record);
    });
}

/// All partitions have ended and one goes on, in a job that is not finished.
fn goes_on_after_its_end(story: &mut Story) {
    let expected = Expected::of(&story.log);
    let mut cut = expected.end();
    cut.ended[0] = false;
    let (watermark, horizon) = (expected.watermark(&cut), expected.horizon(&cut));
    story.alter(story.entries.len() - 1, |record| {
        record["finished"] = json!(false);
    });
    go_on(story, |record| {
        record["sources"][0]["partitions"][0]["state"] = json!("reading");
        record["watermark"] = json!(watermark);
        record["horizon"] = json!(horizon);
    });
}

/// Moves the end of a partition of letters so that the progress record in the middle covers one
/// record more, or one less.
fn move_end(story: &mut Story, more: bool) {
    let middle = story.middle();
    let is = |entry: &Entry| matches!(entry, Entry::Output(r) if r.port == Port::Late);
    let late = story.places(is);
    let after = late.partition_point(|place| *place < middle);
    let place = if more { late[after] } else { late[after - 1] };
    let record = story.record(place).clone();
    let end = record.offset + i64::from(more);
    set(
        story,
        &format!("/written/1/ends/{}", record.partition),
        |_| json!(end),
    );
}
