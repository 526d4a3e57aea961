//! What a step refuses, or what has no time, leaves as a letter that says why, and is counted on
//! the right side of entry.
//!
//! Caught here: a refusal that is lost, that enters, or that is counted twice; a letter without the
//! record's own bytes before entry; the reason of the one kind for the other; a stamp that is
//! taken for a time where there is none.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

use anabranch::Summary;
use anabranch::connectors::MemoryRecord;
use anabranch::event::DeadReason;
use anabranch::prelude::*;
use anabranch::testing::{self, Answer};

/// The lines of the second port, each as it is written; sorted by place.
fn letters(answer: &Answer) -> Vec<&str> {
    answer.lines[1].iter().map(String::as_str).collect()
}

/// How many of each kind, where there are any.
fn reasons(summary: &Summary) -> Vec<(DeadReason, u64)> {
    let all = summary.dead_by_reason.iter().copied();
    all.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn what_is_refused_before_entry_is_a_dead_letter_of_its_record() {
    let job = Job::new("parse", |flow: &Flow<'_>| {
        flow.source::<String>("lines")
            .decode(|record| String::from_utf8(record.value().to_vec()))
            .filter(|line| line != "skip")
            .try_map(|line: String| line.parse::<i64>())
            .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
            .sink("out", |s| s.json());
        Ok(())
    });
    let lines = [&b"1"[..], b"2x", b"\xff\xfe", b"skip", b"3"].map(<[u8]>::to_vec);
    let answer = testing::run(job)
        .source("lines", [lines])
        .answer(&["out", "dead"]);
    assert_eq!(answer.lines[0], ["1", "3"]);
    assert_eq!(
        letters(&answer),
        [
            r#"{"source":"lines","topic":"lines","partition":0,"offset":1,"reason":"decode","#
                .to_owned()
                + r#""error":"invalid digit found in string","raw":"2x"}"#,
            r#"{"source":"lines","topic":"lines","partition":0,"offset":2,"reason":"decode","#
                .to_owned()
                + r#""error":"invalid utf-8 sequence of 1 bytes from index 0","#
                + r#""raw_base64":"//4="}"#,
        ]
    );
    let summary = &answer.summary;
    assert!(summary.balances(), "{summary}");
    let counts = [summary.read, summary.used, summary.dead, summary.results];
    assert_eq!(counts, [5, 3, 2, 2], "{summary}");
    assert_eq!(summary.dead_after_entry, 0, "{summary}");
    assert_eq!(reasons(summary), [(DeadReason::Decode, 2)]);
}

#[test]
fn what_is_refused_after_entry_is_a_letter_of_its_value_and_counted_apart() {
    let job = Job::new("narrow", |flow: &Flow<'_>| {
        flow.source::<i64>("numbers")
            .decode(|record| {
                String::from_utf8_lossy(record.value())
                    .trim()
                    .parse::<i64>()
            })
            .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
            .try_map(|n| u8::try_from(*n).map_err(|_| format!("{n} is no byte")))
            .sink("out", |s| s.json());
        Ok(())
    });
    let answer = testing::run(job)
        .source("numbers", [["1", "no", " 300", "255"]])
        .answer(&["out", "dead"]);
    assert_eq!(answer.lines[0], ["1", "255"]);
    let [decode, processing] = letters(&answer)[..] else {
        panic!("two letters: {answer:?}");
    };
    assert!(
        decode.contains(r#""offset":1,"reason":"decode""#),
        "{decode}"
    );
    // Of what it was when it was refused, not of the bytes that were read.
    assert_eq!(
        processing,
        r#"{"source":"numbers","topic":"numbers","partition":0,"offset":2,"#.to_owned()
            + r#""reason":"processing","error":"300 is no byte","raw":"300"}"#
    );
    let summary = &answer.summary;
    assert!(summary.balances(), "{summary}");
    let counts = [summary.read, summary.used, summary.dead, summary.results];
    assert_eq!(counts, [4, 3, 1, 2], "{summary}");
    assert_eq!(summary.dead_after_entry, 1, "{summary}");
    let one_each = [(DeadReason::Decode, 1), (DeadReason::Processing, 1)];
    assert_eq!(reasons(summary), one_each);
}

#[test]
fn the_stamp_of_the_record_is_the_time_and_without_one_there_is_none() {
    let job = Job::new("stamped", |flow: &Flow<'_>| {
        flow.source::<String>("lines")
            .decode(|record| String::from_utf8(record.value().to_vec()))
            .event_time_from_record(Watermarks::lag(Duration::ZERO))
            .key_by(|_| 0u8)
            .window(Tumbling::of(Duration::from_millis(10)))
            .aggregate(|a| (a.first(|line: &String| line.clone()), a.count()))
            .emit_final()
            .map(|w| (w.window.start.millis(), w.value))
            .sink("out", |s| s.json());
        Ok(())
    });
    let record = |value: &str, stamp: Option<i64>| MemoryRecord {
        timestamp: stamp.map(EventTime::from_millis),
        ..MemoryRecord::from(value)
    };
    let records = [
        record("b", Some(9)),
        record("none", None),
        record("a", Some(3)),
        record("c", Some(25)),
        record("late", Some(4)),
        // A time like others, for it is no "none".
        record("old", Some(0)),
    ];
    let answer = testing::run(job)
        .source("lines", [records])
        .answer(&["out", "dead", "late"]);
    assert_eq!(answer.lines[0], [r#"[0,["a",2]]"#, r#"[20,["c",1]]"#]);
    assert_eq!(
        letters(&answer),
        [
            r#"{"source":"lines","topic":"lines","partition":0,"offset":1,"#.to_owned()
                + r#""reason":"no-event-time","error":"the event has no time","raw":"none"}"#
        ]
    );
    assert_eq!(answer.lines[2].len(), 2, "{:?}", answer.lines[2]);
    let summary = &answer.summary;
    assert!(summary.balances(), "{summary}");
    let counts = [summary.read, summary.used, summary.late, summary.dead];
    assert_eq!(counts, [6, 3, 2, 1], "{summary}");
    assert_eq!(reasons(summary), [(DeadReason::NoEventTime, 1)]);
}
