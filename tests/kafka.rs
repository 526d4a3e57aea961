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

use anabranch::{DeadLimit, Job, Settings};
use oracle::hostile::{self, Plan};
use oracle::{At, Input, Letter, Params, TopicPart, compare};
use topics::{Message, Topics, header};

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

/// Runs a bounded job from `input`, which lies in a topic, to fresh topics.
fn hold(topics: &Topics, case: &Case, name: &str, input: &Input, workers: usize) {
    static RUN: AtomicU32 = AtomicU32::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let expected = oracle::run(input, &case.params);
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
        let found: Vec<_> = found.iter().map(letter).collect();
        compare::letters(wanted, &found)
            .unwrap_or_else(|why| panic!("{name}, {workers} workers: {what}: {why}"));
    }
    for message in &results {
        let key = message.key.as_deref().expect("results have keys");
        assert_eq!(
            message.partition,
            topics::java_partition(key, 3),
            "{message:?}"
        );
    }
}

fn fill(topics: &Topics, name: &str, input: &Input) {
    let Input::Topic { partitions, .. } = input else {
        panic!("not a topic")
    };
    topics.create(name, partitions.len().max(1) as i32);
    for TopicPart { number, records } in partitions {
        topics.fill(
            name,
            *number,
            records.iter().map(|record| {
                (
                    record.timestamp,
                    record.key.as_deref(),
                    record.value.as_deref(),
                )
            }),
        );
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
    for case in cases() {
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
