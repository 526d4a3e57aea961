//! The jobs on Kafka answer what the oracle answers: on the development broker in `cargo test`, and
//! more of it on a real Kafka by `scripts/test-kafka`.
//!
//! Caught here: offsets, stamps, keys or headers that a topic changes on the way in or out; a
//! partition that ends too early or never; letters that lose what they were; results in another
//! partition than the Java client would choose.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "tests may fail"
)]

mod oracle;
mod topics;

#[path = "../dataflows/bid_stats.rs"]
mod bid_stats;
#[path = "../dataflows/user_activity.rs"]
mod user_activity;

use std::sync::atomic::{AtomicU32, Ordering};

use anabranch::DeadLimit;
use anabranch::prelude::*;
use oracle::hostile::{self, Plan};
use oracle::malformed::{apply, members, odd, wrong};
use oracle::time::Unit;
use oracle::{At, Input, Letter, Params, TopicPart, TopicRecord, compare};
use topics::{Headers, Message, Sent, Topics, header};

/// A record of a letter topic as the oracle says it.
fn letter(message: &Message) -> Letter {
    let text = |name: &str| header(message, name).unwrap_or_else(|| panic!("{name}: {message:?}"));
    let number = |name: &str| header(message, name).map(|text| text.parse::<i64>().unwrap());
    Letter {
        at: At::Topic {
            topic: text("anabranch.topic"),
            partition: text("anabranch.partition").parse().unwrap(),
            offset: text("anabranch.offset").parse().unwrap(),
        },
        source: text("anabranch.source"),
        reason: text("anabranch.reason"),
        event_time: number("anabranch.event-time"),
        watermark: number("anabranch.watermark"),
        raw: message.value.clone(),
        raw_bytes: number("anabranch.raw-bytes").map(i64::unsigned_abs),
    }
}

struct Case {
    job: Job,
    params: Params,
    sink: &'static str,
}

fn cases() -> [Case; 2] {
    let (bids, activity) = (Params::bid_stats(), Params::user_activity());
    [
        Case {
            job: bid_stats::job(),
            params: bids,
            sink: "stats",
        },
        Case {
            job: user_activity::job(),
            params: activity,
            sink: "activity",
        },
    ]
}

/// The same, and nothing as it is by default.
fn other_cases() -> [Case; 2] {
    cases().map(|case| Case {
        params: Params {
            size: 7_000,
            lag: 500,
            allowed_lateness: 3_000,
            retention: 5_000,
            unit: Unit::Microseconds,
            ..case.params
        },
        ..case
    })
}

/// Runs a bounded job from `input`, which lies in a topic, to fresh topics.
fn hold(topics: &Topics, case: &Case, name: &str, input: &Input, workers: usize) {
    static RUN: AtomicU32 = AtomicU32::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let expected = oracle::run(input, &case.params);
    let began = now();
    let out = ["results", "late", "dead"].map(|kind| format!("{name}-{kind}-{run}"));
    for topic in &out {
        topics.create(topic, 3);
    }
    let kafka = |topic: &str| format!("kafka:{topic}");
    let mut settings = Settings::new()
        .workers(workers)
        .bootstrap(topics.bootstrap())
        .bounded(true)
        .max_dead(DeadLimit::Off)
        .source_uri(case.params.source(), &kafka(name))
        .sink_uri(case.sink, &kafka(&out[0]))
        .sink_uri("late", &kafka(&out[1]))
        .sink_uri("dead", &kafka(&out[2]));
    for setting in case.params.settings() {
        let (key, value) = setting.split_once('=').unwrap();
        settings = settings.set(key, value);
    }
    let summary = case
        .job
        .run(settings)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(summary.balances(), "{name}: {summary}");
    let [results, late, dead] = out.map(|topic| topics.read(&topic));
    let lines: Vec<_> = results.iter().map(Message::text).collect();
    compare::results_of(&expected, &lines.join("\n"))
        .unwrap_or_else(|why| panic!("{name}, {workers} workers: {why}"));
    for (what, wanted, found) in [
        ("late", &expected.late, late),
        ("dead", &expected.dead, dead),
    ] {
        let letters: Vec<_> = found.iter().map(letter).collect();
        compare::letters(wanted, &letters)
            .unwrap_or_else(|why| panic!("{name}, {workers} workers: {what}: {why}"));
        for (letter, message) in letters.iter().zip(&found) {
            let error = header(message, "anabranch.error");
            let says_why = error.is_some_and(|error| !error.is_empty());
            assert_eq!(says_why, what == "dead", "{message:?}");
            check_unchanged(input, &letter.at, message);
        }
    }
    check_stamps(case, input, &results, began);
    for message in &results {
        let key = message.key.as_deref().expect("results have keys");
        assert_eq!(
            message.partition,
            topics::java_partition(key, 3),
            "{message:?}"
        );
    }
}

/// A letter has key, headers and stamp of its record; what an earlier journey said is replaced.
fn check_unchanged(input: &Input, at: &At, message: &Message) {
    let (
        Input::Topic { partitions, .. },
        At::Topic {
            partition, offset, ..
        },
    ) = (input, at)
    else {
        panic!("not of a topic: {at:?}")
    };
    let mut parts = partitions.iter();
    let part = parts.find(|part| part.number == *partition).unwrap();
    let record = &part.records[usize::try_from(*offset).unwrap()];
    assert_eq!(record.offset, *offset);
    let own = |headers: &Headers| -> Headers {
        let own = headers
            .iter()
            .filter(|(name, _)| !name.starts_with("anabranch."));
        own.cloned().collect()
    };
    assert_eq!(message.key, record.key, "{at:?}: key");
    assert_eq!(message.timestamp, record.timestamp, "{at:?}: stamp");
    assert_eq!(
        own(&message.headers),
        own(&record.headers),
        "{at:?}: headers"
    );
}

/// Results are stamped as the oracle says; what has no stamp, in the time since `began`.
fn check_stamps(case: &Case, input: &Input, results: &[Message], began: i64) {
    let times = oracle::times(input, &case.params);
    let largest = times.iter().map(|(_, _, time)| *time).max();
    for message in results {
        let text = message.text();
        let result = oracle::object::Object::parse(text.as_bytes()).unwrap();
        let start = result.integer("window_start").unwrap();
        let stamp = message.timestamp.expect("results have stamps");
        match oracle::stamp(start, largest.unwrap(), &case.params) {
            Some(expected) => assert_eq!(stamp, expected, "{message:?}"),
            None => assert!((began..=now()).contains(&stamp), "{message:?}"),
        }
    }
}

/// The time of writing, as clients see it.
fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_millis() as i64
}

fn fill(topics: &Topics, name: &str, input: &Input) {
    let Input::Topic { partitions, .. } = input else {
        panic!("not a topic")
    };
    topics.create(name, partitions.len().max(1) as i32);
    for TopicPart { number, records } in partitions {
        let sent = records.iter().map(|record| Sent {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        });
        topics.write(name, *number, sent);
    }
}

#[test]
fn hostile_topics_have_one_answer() {
    let topics = Topics::new();
    let (seeds, workers) = if topics::is_real() {
        (0..3, &[1, 2, 3][..])
    } else {
        (1..3, &[1, 3][..])
    };
    for case in cases().into_iter().chain(other_cases()) {
        for seed in seeds.clone() {
            let name = Topics::fresh(&format!("hostile-{seed}"));
            let partitions = 1 + seed as usize * 2;
            let plan = Plan {
                seed: 300 + seed,
                partitions,
                records: 150,
                huge: seed == 2,
            };
            let input = hostile::topic(&plan, &case.params, &name);
            fill(&topics, &name, &input);
            for workers in workers {
                hold(&topics, &case, &name, &input, *workers);
            }
        }
    }
}

/// A topic with each kind of record that is wrong or odd.
fn malformed(params: &Params, name: &str) -> Input {
    let (wrong, odd) = (wrong(params.job), odd(params.job));
    let edits = (0_i64..).zip(wrong.iter().chain(&odd));
    let records = edits.map(|(nth, edit)| {
        let mut members = members(params.job);
        if params.job == oracle::Job::UserActivity {
            members[0].1 = format!("\"e{nth}\""); // else all of them repeat one event
        }
        if nth < wrong.len() as i64 {
            // Were one of them believed, all behind it would be late.
            let time = members.iter_mut().find(|(name, _)| name.contains("time"));
            "90000000000".clone_into(&mut time.unwrap().1);
        }
        TopicRecord {
            offset: nth,
            timestamp: Some(4_102_444_800_000), // 2100: no time is too far ahead of it
            key: None,
            value: Some(apply(*edit, &members)),
            headers: Vec::new(),
        }
    });
    Input::Topic {
        name: name.to_owned(),
        partitions: vec![TopicPart {
            number: 0,
            records: records.collect(),
        }],
    }
}

#[test]
fn every_kind_of_malformed_record_is_dead_and_every_odd_one_is_used() {
    let topics = Topics::new();
    for case in cases() {
        let name = Topics::fresh("malformed");
        let input = malformed(&case.params, &name);
        let counts = oracle::run(&input, &case.params).counts;
        let due = (wrong(case.params.job).len(), odd(case.params.job).len());
        assert_eq!((counts.dead, counts.used), due);
        fill(&topics, &name, &input);
        hold(&topics, &case, &name, &input, 2);
    }
}

/// Counts lines by the stamps of their records.
fn by_stamp() -> Job {
    Job::new("stamped", |flow: &Flow<'_>| {
        flow.source::<String>("lines")
            .decode(|record| String::from_utf8(record.value().to_vec()))
            .event_time_from_record(Watermarks::lag(Duration::from_secs(1)))
            .key_by(|_| 0u8)
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate(|a| (a.count(), a.first(|line: &String| line.clone())))
            .emit_final()
            .map(|w| (w.window.start.millis(), w.value))
            .sink("out", |s| s.json());
        Ok(())
    })
}

#[test]
fn the_stamp_of_a_record_is_its_time_and_without_one_it_is_dead() {
    let topics = Topics::new();
    let [name, out, dead] = ["stamped", "stamped-out", "stamped-dead"].map(Topics::fresh);
    for topic in [&name, &out, &dead] {
        topics.create(topic, 1);
    }
    let sent = [(5_000, "a"), (-1, "none"), (4_999, "b"), (7_001, "c")];
    let sent = sent.map(|(stamp, value)| (Some(stamp), Some(&b"k"[..]), Some(value.as_bytes())));
    topics.fill(&name, 0, sent.into_iter());
    let kafka = |topic: &str| format!("kafka:{topic}");
    let settings = Settings::new()
        .workers(2)
        .bootstrap(topics.bootstrap())
        .bounded(true)
        .source_uri("lines", &kafka(&name))
        .sink_uri("out", &kafka(&out))
        .sink_uri("dead", &kafka(&dead))
        .sink_uri("late", "null:");
    let summary = by_stamp().run(settings).unwrap();
    assert!(summary.balances(), "{summary}");
    assert_eq!(
        [summary.read, summary.used, summary.dead],
        [4, 3, 1],
        "{summary}"
    );
    let results = topics.read(&out);
    let of = |message: &Message| (message.text(), message.timestamp.unwrap());
    let results: Vec<_> = results.iter().map(of).collect();
    let expected = [
        (r#"[4000,[1,"b"]]"#, 4_999),
        (r#"[5000,[1,"a"]]"#, 5_999),
        (r#"[7000,[1,"c"]]"#, 7_001),
    ];
    assert_eq!(
        results,
        expected.map(|(text, stamp)| (text.to_owned(), stamp))
    );
    let letters = topics.read(&dead);
    let [letter] = &letters[..] else {
        panic!("one letter: {letters:?}")
    };
    assert_eq!(header(letter, "anabranch.reason").unwrap(), "no-event-time");
    assert_eq!(header(letter, "anabranch.offset").unwrap(), "1");
    let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
    assert_eq!((key, value), (Some(&b"k"[..]), Some(&b"none"[..])));
}

#[test]
fn an_empty_topic_ends_at_once() {
    let topics = Topics::new();
    for case in cases() {
        let name = Topics::fresh("empty");
        let part = |number| TopicPart {
            number,
            records: Vec::new(),
        };
        let input = Input::Topic {
            name: name.clone(),
            partitions: vec![part(0), part(1)],
        };
        fill(&topics, &name, &input);
        hold(&topics, &case, &name, &input, 2);
    }
}

#[test]
fn a_topic_has_the_digest_of_a_file_with_the_same_records() {
    let topics = Topics::new();
    let name = Topics::fresh("digest");
    topics.create(&name, 2);
    let lines: Vec<_> = (0..9_000)
        .map(|n| format!(r#"{{"a":{n},"b":"x"}}"#))
        .collect();
    for (partition, lines) in [(0, &lines[..2_000]), (1, &lines[2_000..])] {
        let values = lines.iter().rev().map(|line| Some(line.as_bytes()));
        topics.fill(&name, partition, values.map(|value| (None, None, value)));
    }
    // What was aborted was never there; its marker is the last thing in the partition.
    topics.abort(&name, 0, b"{\"a\":-1}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("same.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let digest = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_anabranch"));
        let ended = command.arg("digest").args(arguments).output().unwrap();
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    };
    let of_topic = digest(&[&format!("kafka:{name}"), "-b", topics.bootstrap()]);
    assert_eq!(of_topic, digest(&[path.to_str().unwrap()]));
    assert!(of_topic.ends_with(" records 9,000\n"), "{of_topic}");
}
