//! A job on a Kafka that is not as it should be: the development broker, and, by
//! `scripts/test-kafka`, a real one.
//!
//! Caught here: a topic that is missing, is created wrongly, or is gone meanwhile; limits of a
//! topic that are found out by losing records; a broker that dies and is not waited for, or is
//! waited for for ever, by who was told to stop above all.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;
mod topics;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anabranch::broker::DevBroker;
use program::{Ended, Running, bid, now, program, run};
use tempfile::tempdir;
use topics::{Message, Topics};

/// Where a job answers over HTTP: at any port that is free.
const ANSWERS: &str = "127.0.0.1:0";

/// Names of a job's topics, none of which exists yet: source, results, late, dead.
fn names() -> [String; 4] {
    ["bids", "stats", "late", "dead"].map(Topics::fresh)
}

/// The arguments that bind them.
fn bound(topics: &Topics, names: &[String; 4]) -> Vec<String> {
    let [source, stats, late, dead] = names;
    let mut arguments = vec!["--bootstrap".to_owned(), topics.bootstrap().to_owned()];
    arguments.extend(["--source".to_owned(), format!("bids=kafka:{source}")]);
    for (port, topic) in [("stats", stats), ("late", late), ("dead", dead)] {
        arguments.extend(["--sink".to_owned(), format!("{port}=kafka:{topic}")]);
    }
    arguments
}

fn with(arguments: &[String], more: &[&str]) -> Ended {
    let arguments = arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied());
    let folder = tempdir().unwrap();
    run("bid_stats", folder.path(), &arguments.collect::<Vec<_>>())
}

fn started(arguments: &[String], more: &[&str]) -> Running {
    let arguments = arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied());
    let arguments: Vec<_> = arguments.collect();
    Running::start(&mut program("bid_stats", Path::new("."), &arguments))
}

/// Bids of one auction at these seconds, to partition 0.
fn fill(topics: &Topics, topic: &str, seconds: &[i64]) {
    let bids = seconds.iter().map(|second| bid(1, 2, second * 1_000));
    let bids: Vec<_> = bids.collect();
    let records = bids
        .iter()
        .map(|bid| (None, None, Some(bid.trim_end().as_bytes())));
    topics.fill(topic, 0, records);
}

fn kafka(verb: &str) {
    let done = Command::new("scripts/kafka").arg(verb).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{verb}: {said}");
}

#[test]
fn missing_topics_are_named_and_created_when_asked_for() {
    let (topics, names) = (Topics::new(), names());
    let arguments = bound(&topics, &names);
    let refused = with(&arguments, &["--bounded"]);
    assert_eq!(refused.code, 2, "{}", refused.said());
    let command = |name: &str, count| format!("--create --topic {name} --partitions {count}, or");
    let said = refused.said();
    assert!(said.contains(&command(&names[0], 1)), "{said}");
    let checked = with(&arguments, &["--check"]);
    assert_eq!(checked.code, 2, "{}", checked.said());
    for name in &names {
        let no = |line: &&String| line.starts_with("no  ") && line.contains(&**name);
        assert_eq!(
            checked.out.iter().filter(no).count(),
            1,
            "{:?}",
            checked.out
        );
    }
    let checked = with(&arguments, &["--check", "--create-topics"]);
    assert_eq!(checked.code, 0, "{}", checked.said());
    assert_eq!(topics.partitions(&names[0]), 0, "a check creates nothing");

    topics.create(&names[0], 3);
    fill(&topics, &names[0], &[1, 2, 30]);
    // All of them at once, with as many partitions as the source has.
    let refused = with(&arguments, &["--bounded"]);
    assert_eq!(refused.code, 2, "{}", refused.said());
    for name in &names[1..] {
        let said = refused.err.last().unwrap();
        assert!(said.contains(&command(name, 3)), "{said}");
    }
    let ended = with(&arguments, &["--bounded", "--create-topics"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    for name in &names[1..] {
        assert_eq!(topics.partitions(name), 3, "{name}");
        let line =
            format!("created topic `{name}` with 3 partitions (as many as the sources have)");
        assert!(ended.err.contains(&line), "{}", ended.said());
    }
    assert_eq!(topics.read(&names[1]).len(), 2);
    let checked = with(&arguments, &["--check"]);
    assert_eq!(checked.code, 0, "{:?}", checked.out);
    // The development broker tells no rights.
    let rights = if topics::is_real() {
        "right "
    } else {
        "rights "
    };
    let told = format!("3 partitions, {rights}");
    let right = checked.out.iter().filter(|line| line.contains(&told));
    assert_eq!(right.count(), 4, "{:?}", checked.out);
}

#[test]
fn limits_of_result_topics_are_known_before_they_bite() {
    let (topics, names) = (Topics::new(), names());
    topics.create(&names[0], 1);
    fill(&topics, &names[0], &[1, 2, 30]);
    let hour = ("retention.ms", "3600000");
    let minute = ("message.timestamp.after.max.ms", "60000");
    topics.create_with(&names[1], 1, &[minute, hour]);
    names[2..].iter().for_each(|name| topics.create(name, 1));
    let arguments = bound(&topics, &names);
    for more in ["--bounded", "--check"] {
        let refused = with(&arguments, &[more]);
        let said = refused.said();
        assert_eq!(refused.code, 2, "{said}");
        for part in [&*names[1], "up to 1m ahead", "--max-ahead is 10m"] {
            assert!(said.contains(part), "`{part}` in: {said}");
        }
    }
    let ended = with(&arguments, &["--bounded", "--max-ahead", "1m"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let old = ended
        .err
        .iter()
        .filter(|line| line.contains("retention.ms"));
    let old: Vec<_> = old.collect();
    assert_eq!(old.len(), 1, "{}", ended.said());
    assert!(
        old[0].contains(&names[1]) && old[0].contains("WARN"),
        "{}",
        old[0]
    );
    let stats = format!("stats=kafka:{}?timestamp=write", names[1]);
    let mut arguments = arguments;
    let place = arguments
        .iter()
        .position(|argument| argument.starts_with("stats="));
    arguments[place.unwrap()] = stats;
    let ended = with(&arguments, &["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(!ended.said().contains("retention.ms"), "{}", ended.said());
}

#[test]
fn a_result_of_a_file_that_is_ahead_of_the_broker_is_refused_with_the_remedy() {
    let (topics, stats) = (Topics::new(), Topics::fresh("stats"));
    topics.create_with(&stats, 1, &[("message.timestamp.after.max.ms", "3600000")]);
    let folder = tempdir().unwrap();
    // The year 2100: files have no rule about times that are ahead.
    let lines = bid(1, 2, 4_102_444_800_000) + &bid(1, 2, 4_102_444_830_000);
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    let place = format!("stats=kafka:{stats}");
    let write = format!("{place}?timestamp=write");
    let job = [
        "--bootstrap",
        topics.bootstrap(),
        "--source",
        "bids=file:bids.jsonl",
    ];
    let bound = [
        &job[..],
        &["--sink", "late=null:", "--sink", "dead=null:", "--sink"],
    ]
    .concat();
    let ended = |stats| run("bid_stats", folder.path(), &[&bound[..], &[stats]].concat());
    let refused = ended(&place);
    assert_eq!(refused.code, 1, "{}", refused.said());
    let error = refused.err.last().unwrap();
    for part in [
        &*format!("`{stats}[0]`"),
        "message.timestamp.after.max.ms",
        &write["stats=".len()..],
    ] {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
    let taken = ended(&write);
    assert_eq!(taken.code, 0, "{}", taken.said());
    assert_eq!(topics.read(&stats).len(), 2);
}

#[test]
fn a_letter_that_is_too_large_for_its_topic_is_cut() {
    let (topics, names) = (Topics::new(), names());
    names[..3].iter().for_each(|name| topics.create(name, 1));
    topics.create_with(&names[3], 1, &[("max.message.bytes", "2000")]);
    let large = format!("{{\"auction\":\"{}\"}}", "x".repeat(5_000));
    topics.fill(
        &names[0],
        0,
        [(None, None, Some(large.as_bytes()))].into_iter(),
    );
    let ended = with(&bound(&topics, &names), &["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let letters = topics.read(&names[3]);
    let values: Vec<_> = letters
        .iter()
        .map(|letter| letter.value.as_deref())
        .collect();
    assert_eq!(values, [Some(&large.as_bytes()[..1_024])]);
}

#[test]
fn a_topic_that_is_deleted_meanwhile_ends_the_run_and_is_named() {
    let (topics, names) = (Topics::new(), names());
    for name in &names {
        topics.create(name, 1);
    }
    let mut from = started(&reading(&topics, &names[0]), &[]);
    fill(&topics, &names[0], &[1, 30]);
    from.next_out();
    topics.delete(&names[0]);
    let ended = from.ended_with_open_input();
    assert_eq!(ended.code, 1, "{}", ended.said());
    let error = ended.err.last().unwrap();
    assert!(
        error.starts_with("error: ") && error.contains(&names[0]),
        "{error}"
    );

    let mut into = started(&writing(&topics, &names[1]), &[]);
    into.write(&(bid(1, 2, 1_000) + &bid(1, 2, 30_000)));
    topics.wait_for(&names[1], 1, || into.assert_runs());
    topics.delete(&names[1]);
    into.write_if_open(&bid(1, 2, 60_000));
    let ended = into.ended_with_open_input();
    assert_eq!(ended.code, 1, "{}", ended.said());
    let error = ended.err.last().unwrap();
    assert!(
        error.starts_with("error: ") && error.contains(&names[1]),
        "{error}"
    );
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// From a topic to standard output.
fn reading(topics: &Topics, topic: &str) -> Vec<String> {
    let bootstrap = topics.bootstrap();
    words(&format!(
        "--bootstrap {bootstrap} --source bids=kafka:{topic} --sink stats=- --sink late=null: \
         --sink dead=null:"
    ))
}

/// From standard input to a topic.
fn writing(topics: &Topics, topic: &str) -> Vec<String> {
    let bootstrap = topics.bootstrap();
    words(&format!(
        "--bootstrap {bootstrap} --source bids=- --sink stats=kafka:{topic} --sink late=null: \
         --sink dead=null:"
    ))
}

/// The broker of a job that is busy goes, and somebody stops it.
#[track_caller]
fn ends_in_time(running: Running, broker: DevBroker, says: &str) {
    drop(broker);
    running.signal("TERM");
    let start = now();
    let ended = running.ended_with_open_input();
    let took = start.elapsed();
    assert_eq!(ended.code, 1, "{}", ended.said());
    let error = ended.err.last().unwrap();
    assert!(error.contains(says), "`{says}` in: {error}");
    // Ten seconds are promised; the rest is for a machine with more to do.
    assert!(took < Duration::from_secs(15), "{took:?}: {error}");
}

#[test]
fn a_stream_whose_broker_is_gone_ends_in_time_after_a_signal() {
    let broker = DevBroker::builder().topic("stats", 1).start().unwrap();
    let topics = Topics::at(broker.bootstrap());
    // What it has written stays on its way.
    let slow = ["-X", "linger.ms=30000", "-w", "1", "--http", ANSWERS];
    let mut running = started(&writing(&topics, "stats"), &slow);
    let address = running.address();
    running.write(&(bid(1, 2, 1_000) + &bid(1, 2, 30_000)));
    let says = "\nanabranch_sink_records_total{sink=\"stats\"} 1\n";
    running.wait_for_answer(&address, "/metrics", says);
    ends_in_time(
        running,
        broker,
        "stopped: topic `stats` has not acknowledged",
    );
}

#[test]
fn a_commit_whose_broker_is_gone_ends_in_time_after_a_signal() {
    let names = ["bids", "stats", "late", "dead"].map(str::to_owned);
    let broker = DevBroker::start().unwrap();
    let topics = Topics::at(broker.bootstrap());
    for name in &names {
        topics.create(name, 1);
    }
    fill(&topics, "bids", &[1, 30]);
    let folder = tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let kept = ["--job-id", "job", "--state-dir", &state];
    let seldom = ["--checkpoint-interval", "1m", "--http", ANSWERS];
    let more = [&kept[..], &seldom].concat();
    let mut running = started(&bound(&topics, &names), &more);
    let address = running.address();
    topics.wait_for("stats", 1, || running.assert_runs());
    fill(&topics, "bids", &[60]);
    running.wait_for_records(&address, 3);
    ends_in_time(running, broker, "stopped: results were not all taken");
}

#[test]
#[ignore = "needs a Kafka that may be killed: scripts/test-kafka"]
fn a_broker_that_dies_is_waited_for_until_the_timeout() {
    let (topics, names) = (Topics::new(), names());
    for name in &names {
        topics.create(name, 1);
    }
    fill(&topics, &names[0], &[1, 30]);
    let patient = reading(&topics, &names[0]);
    let mut patient = started(&patient, &[]);
    let hasty = ["--broker-timeout", "3s"];
    let mut from = started(&reading(&topics, &names[0]), &hasty);
    let mut into = started(&writing(&topics, &names[1]), &hasty);
    let mut patient_into = started(&writing(&topics, &names[2]), &[]);
    patient.next_out();
    from.next_out();
    for (into, topic) in [(&mut into, &names[1]), (&mut patient_into, &names[2])] {
        into.write(&(bid(1, 2, 1_000) + &bid(1, 2, 30_000)));
        topics.wait_for(topic, 1, || into.assert_runs());
    }
    kafka("kill");
    let start = now();
    into.write(&bid(1, 2, 60_000));
    patient_into.write(&bid(1, 2, 60_000));
    for (running, topic) in [(from, &names[0]), (into, &names[1])] {
        let ended = running.ended_with_open_input();
        assert_eq!(ended.code, 1, "{}", ended.said());
        let error = ended.err.last().unwrap();
        for part in ["error: ", "--broker-timeout", topic] {
            assert!(error.contains(part), "`{part}` in: {error}");
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    kafka("up");
    fill(&topics, &names[0], &[60]);
    assert!(patient.next_out().contains("\"window_start\":30000"));
    // What had to be written while nobody took it.
    let written = topics.wait_for(&names[2], 2, || patient_into.assert_runs());
    let later = |message: &Message| message.text().contains("\"window_start\":30000");
    assert!(written.iter().any(later), "{written:?}");
    patient.signal("TERM");
    for ended in [patient.ended_with_open_input(), patient_into.ended()] {
        assert_eq!(ended.code, 0, "{}", ended.said());
    }
}
