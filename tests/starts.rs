//! What a run says and does at its start: what it guarantees, where it begins to read, and what of
//! its arguments cannot be.
//!
//! Caught here: a guarantee that is said and not held, or held and not said; a start that does not
//! reach the topic; exactly-once without a name; a limit or an option that is taken and ignored.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;
mod topics;

use std::fs;
use std::path::Path;

use program::{Ended, bid, run};
use tempfile::{TempDir, tempdir};
use topics::{Topics, header};

/// A folder with `bids.jsonl`: 5 bids on one auction, in the windows from 0 and 10,000.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    let lines: String = (0..5).map(|n| bid(1, n, n * 4_000)).collect();
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    folder
}

/// Runs `bid_stats` with arguments that are words.
fn words(folder: &Path, arguments: &str) -> Ended {
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    run("bid_stats", folder, &arguments)
}

const FILE: &str = "--source bids=file:bids.jsonl";
const LETTERS: &str = "--sink late=null: --sink dead=null:";

/// Arguments, and the one line that refuses them.
const REFUSED: [(&str, &str); 5] = [
    (
        "--source bids=file:x --bootstrap 127.0.0.1:1 --state-dir state --sink stats=kafka:t",
        "exactly-once into Kafka needs --job-id ID: transactions, progress and group are of this \
         name",
    ),
    (
        "--source bids=kafka:t?x=y --bootstrap 127.0.0.1:1 --sink stats=null:",
        "port `bids`: unknown option `x`",
    ),
    (
        "--source bids=file:bids.jsonl --bootstrap 127.0.0.1:1 --sink stats=kafka:t?x=y",
        "port `stats`: unknown option `x=y`; expected timestamp=write",
    ),
    (
        "--source bids=file:bids.jsonl --sink stats=null: --memory 7MiB",
        "--memory: expected at least 8.0 MiB, found 7.0 MiB",
    ),
    (
        "--source bids=file:bids.jsonl --sink stats=null: --memory much",
        "--memory: expected a size such as 512MiB or 4GiB, found `much`",
    ),
];

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let folder = folder();
    for (arguments, says) in REFUSED {
        let ended = words(folder.path(), &format!("{arguments} {LETTERS}"));
        let said = ended.said();
        assert_eq!((ended.code, ended.err.len()), (2, 1), "{arguments}: {said}");
        assert!(said.contains(says), "{arguments}: `{says}` in: {said}");
    }
    assert_eq!(program::names(folder.path()), ["bids.jsonl"]);
}

/// The first line that a run says.
#[track_caller]
fn assert_starts(ended: &Ended, line: &str) {
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(ended.err[0], line);
}

#[test]
fn with_a_state_directory_the_guarantee_is_said_with_its_interval() {
    let folder = folder();
    let exactly = format!("{FILE} {LETTERS} -w 1 --sink stats=file:out.jsonl --state-dir exactly");
    let ended = words(folder.path(), &exactly);
    assert_starts(
        &ended,
        "bid_stats: 1 workers · guarantee: exactly-once (checkpoint every 1s)",
    );
    // Standard output cannot be committed, and need not be.
    let once = format!("{FILE} {LETTERS} -w 1 --sink stats=- --state-dir least");
    let refused = words(folder.path(), &once);
    assert_eq!(refused.code, 2, "{}", refused.said());
    let least = format!("{once} --guarantee at-least-once --checkpoint-interval 250ms");
    let ended = words(folder.path(), &least);
    assert_starts(
        &ended,
        "bid_stats: 1 workers · guarantee: at-least-once (checkpoint every 250ms)",
    );
    assert_eq!(ended.out.len(), 2, "{:?}", ended.out);
    // It has made checkpoints: the job is known to be finished.
    let again = words(folder.path(), &least);
    assert_eq!(again.code, 3, "{}", again.said());
    assert!(again.said().contains("is finished"), "{}", again.said());
}

/// A topic with a bid at each of the seconds 1 to 5, with a stamp to match.
fn topic(topics: &Topics) -> String {
    let bids = Topics::fresh("bids");
    topics.create(&bids, 1);
    let lines: Vec<_> = (1..6).map(|n| (n * 1_000, bid(1, n, n * 1_000))).collect();
    let records = lines
        .iter()
        .map(|(stamp, line)| (Some(*stamp), None, Some(line.trim().as_bytes())));
    topics.fill(&bids, 0, records);
    bids
}

#[test]
fn a_run_without_state_starts_where_it_is_told_and_says_what_that_guarantees() {
    let (topics, folder) = (Topics::new(), tempdir().unwrap());
    let bids = topic(&topics);
    let least = |from: &str| {
        format!("at-least-once: a restart reads again from {from} and repeats results")
    };
    let from_third = least("1970-01-01T00:00:03.000Z");
    for (start, read, guarantee) in [
        ("", 5, least("earliest")),
        ("--start earliest", 5, least("earliest")),
        ("--start timestamp:3000", 3, from_third.clone()),
        ("--start timestamp:1970-01-01T01:00:03+01:00", 3, from_third),
        (
            "--start timestamp:5001",
            0,
            least("1970-01-01T00:00:05.001Z"),
        ),
        (
            "--start latest",
            0,
            "none: a restart begins at the latest records".to_owned(),
        ),
    ] {
        let bootstrap = topics.bootstrap();
        let ended = words(
            folder.path(),
            &format!(
                "--bootstrap {bootstrap} --source bids=kafka:{bids} --sink stats=- {LETTERS} \
                 --bounded -w 1 {start}"
            ),
        );
        let line = format!("bid_stats: 1 workers · guarantee: {guarantee}");
        assert_starts(&ended, &line);
        assert_eq!(ended.balance()[0], read, "{start}: {}", ended.said());
    }
}

#[test]
fn exactly_once_into_kafka_needs_a_name_and_at_least_once_does_not() {
    let (topics, folder) = (Topics::new(), tempdir().unwrap());
    let (bids, stats, dead) = (
        topic(&topics),
        Topics::fresh("stats"),
        Topics::fresh("dead"),
    );
    topics.create(&stats, 1);
    topics.create(&dead, 1);
    topics.fill(&bids, 0, [(Some(6_000), None, Some(&b"?"[..]))].into_iter());
    let bootstrap = topics.bootstrap();
    let bound = format!(
        "--bootstrap {bootstrap} --source bids=kafka:{bids} --sink stats=kafka:{stats} \
         --sink late=null: --sink dead=kafka:{dead} --bounded --state-dir state"
    );
    let refused = words(folder.path(), &bound);
    assert_eq!(refused.code, 2, "{}", refused.said());
    assert!(refused.said().contains("--job-id ID"), "{}", refused.said());
    let ended = words(
        folder.path(),
        &format!("{bound} --guarantee at-least-once -w 1"),
    );
    assert_starts(
        &ended,
        "bid_stats: 1 workers · guarantee: at-least-once (checkpoint every 1s)",
    );
    assert_eq!(topics.read(&stats).len(), 1);
    let letters = topics.read(&dead);
    let reasons = letters
        .iter()
        .map(|letter| header(letter, "anabranch.reason").unwrap());
    assert_eq!(reasons.collect::<Vec<_>>(), ["decode"]);
}
