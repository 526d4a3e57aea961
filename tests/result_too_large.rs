//! A result that is larger than its topic takes is a dead letter: it does not end the job, and what
//! is in the same transaction is written. Caught here: a record that only the broker refuses, a
//! letter that does not fit either, be it for its error; a property of a sink without effect; and a
//! count that does not balance.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;
mod topics;

use anabranch::connectors::{MemorySource, NullSink};
use anabranch::prelude::*;
use program::run;
use topics::{Message, Topics, header};

/// Ids of half of what the topic takes: the result holds the first and the last.
const LARGE: usize = 60_000;

fn event(id: &str, user: &str, second: u32) -> String {
    format!(
        "{{\"eventId\":\"{id}\",\"eventType\":\"click\",\"userId\":\"{user}\",\
         \"timestamp\":\"2026-01-02T03:04:{second:02}Z\",\"data\":{{}}}}"
    )
}

#[test]
fn a_result_that_is_too_large_is_a_letter_and_the_others_are_written() {
    for exactly_once in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let topics = Topics::new();
        let [id, events, activity] = ["job", "events", "activity"].map(Topics::fresh);
        topics.create(&events, 1);
        topics.create_with(&activity, 1, &[("max.message.bytes", "100000")]);
        for letters in ["late", "dead"] {
            topics.create_with(
                &format!("{id}.{letters}"),
                1,
                &[("max.message.bytes", "100000")],
            );
        }
        let large = "x".repeat(LARGE);
        let no_event = "y".repeat(2 * LARGE);
        let lines = [
            event("a", "small", 1),
            event(&large, "large", 2),
            no_event.clone(),
            event("b", "small", 3),
        ];
        let records = lines.iter().map(|line| (None, None, Some(line.as_bytes())));
        topics.fill(&events, 0, records);
        let (source, sink) = (
            format!("events=kafka:{events}"),
            format!("activity=kafka:{activity}"),
        );
        let mut arguments = vec![
            "--bootstrap",
            topics.bootstrap(),
            "--bounded",
            "--job-id",
            &id,
        ];
        arguments.extend(["--source", &source, "--sink", &sink]);
        if exactly_once {
            arguments.extend(["--state-dir", "state"]);
        }
        let ended = run("user_activity", folder.path(), &arguments);
        assert_eq!(ended.code, 0, "{}", ended.said());
        let [read, used, _, _, dead, results] = ended.balance();
        assert_eq!(
            [read, used, dead, results],
            [4, 3, 1, 1],
            "{}",
            ended.said()
        );
        let after = "· results 1 · dead after entry 1 · lateness";
        assert!(ended.said().contains(after), "{}", ended.said());
        let results = topics.read(&activity);
        assert_eq!(results.len(), 1);
        assert!(results[0].text().contains("\"userId\":\"small\""));
        check_letters(&topics.read(&format!("{id}.dead")), &events, no_event.len());
    }
}

#[test]
fn a_property_of_one_sink_is_that_of_its_producer() {
    let folder = tempfile::tempdir().unwrap();
    let topics = Topics::new();
    let [id, events, activity] = ["job", "events", "activity"].map(Topics::fresh);
    for topic in [
        &events,
        &activity,
        &format!("{id}.late"),
        &format!("{id}.dead"),
    ] {
        topics.create(topic, 1);
    }
    let lines = [
        event("a", "small", 1),
        event(&"x".repeat(LARGE), "large", 2),
    ];
    let records = lines.iter().map(|line| (None, None, Some(line.as_bytes())));
    topics.fill(&events, 0, records);
    let (source, sink) = (
        format!("events=kafka:{events}"),
        format!("activity=kafka:{activity}"),
    );
    let job = [
        "--bootstrap",
        topics.bootstrap(),
        "--job-id",
        &id,
        "--bounded",
    ];
    let bound = ["--source", &source, "--sink", &sink];
    let small = ["-X", "activity:message.max.bytes=50000"];
    let ended = run(
        "user_activity",
        folder.path(),
        &[&job[..], &bound, &small].concat(),
    );
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(topics.read(&activity).len(), 1);
    let dead = topics.read(&format!("{id}.dead"));
    assert_eq!(dead.len(), 1);
    let error = header(&dead[0], "anabranch.error").unwrap();
    let says = "sink `activity` takes records up to 49872";
    assert!(error.contains(says), "{error}");
}

#[test]
fn a_letter_whose_error_quotes_a_large_value_fits() {
    let (topics, dead) = (Topics::new(), Topics::fresh("dead"));
    topics.create_with(&dead, 1, &[("max.message.bytes", "100000")]);
    let job = Job::new("echo", |flow: &Flow<'_>| {
        flow.source::<String>("lines")
            .decode(|record| String::from_utf8(record.value().to_vec()))
            .try_map(|line: String| {
                if line.starts_with('?') {
                    return Err(format!("before: {line}"));
                }
                Ok(line)
            })
            .event_time(|_| 1_000_i64, Watermarks::lag(Duration::ZERO))
            .try_map(|line| Err::<u8, _>(format!("behind: {line}")))
            .sink("out", |s| s.json());
        Ok(())
    });
    let large = "é".repeat(350_000);
    let lines = [format!("?{large}"), large].map(String::into_bytes);
    let settings = Settings::new()
        .bootstrap(topics.bootstrap())
        .bind_source("lines", MemorySource::new("lines", [lines]))
        .bind_sink("out", NullSink::new())
        .bind_sink("late", NullSink::new())
        .sink_uri("dead", &format!("kafka:{dead}"));
    let summary = job.run(settings).unwrap();
    assert!(summary.balances(), "{summary}");
    let letters = topics.read(&dead);
    assert_eq!(letters.len(), 2);
    for (reason, says) in [("decode", "before: ?é"), ("processing", "behind: é")] {
        let of = |letter: &&Message| header(letter, "anabranch.reason").unwrap() == reason;
        let letter = letters.iter().find(of).unwrap();
        let error = header(letter, "anabranch.error").unwrap();
        assert!(error.starts_with(says) && error.ends_with("é…"), "{error}");
        assert!(error.len() <= 1_024, "{}", error.len());
        let bytes = header(letter, "anabranch.raw-bytes").unwrap();
        assert!(bytes.parse::<u64>().unwrap() >= 700_000, "{bytes}");
    }
}

/// One of a record that could not be decoded, and one of a result; both are cut.
fn check_letters(dead: &[Message], events: &str, no_event: usize) {
    let of = |reason: &str| {
        let of = |letter: &&Message| header(letter, "anabranch.reason").unwrap() == reason;
        dead.iter()
            .find(of)
            .unwrap_or_else(|| panic!("no {reason} in {dead:?}"))
    };
    let said = |letter: &Message, name: &str| header(letter, &format!("anabranch.{name}")).unwrap();
    assert_eq!(dead.len(), 2);
    assert_eq!(said(of("decode"), "raw-bytes"), no_event.to_string());
    let result = of("result-too-large");
    assert!(said(result, "error").contains("sink `activity`"));
    // Behind a window a result is of no single record.
    assert_eq!(said(result, "topic"), "results");
    assert_eq!(said(of("decode"), "topic"), events);
    assert!(said(result, "raw-bytes").parse::<usize>().unwrap() > 2 * LARGE);
    assert_eq!(result.key.as_deref(), Some(&b"large"[..]));
    for letter in dead {
        assert_eq!(letter.value.as_ref().unwrap().len(), 1_024);
    }
}
