//! Whoever looks at a job that runs finds nothing amiss: a check before an upgrade, and whoever
//! lists, verifies and saves its checkpoints.
//!
//! Caught here: a file that the job has deleted meanwhile, because it is of no use any more, and
//! that is said to be missing.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod once;
mod program;
mod topics;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use once::Place;
use program::{bid, run};
use topics::Topics;

const ROUNDS: usize = 10;
/// Auctions of a second, each of which is new: so much changes that the logs are soon written anew.
const AUCTIONS: i64 = 4_000;

/// Writes bids until it is told to stop.
fn feed(topics: &Topics, bids: &str, stop: &AtomicBool) {
    for second in 0.. {
        for partition in 0..2 {
            let nth = (0..AUCTIONS / 2).map(|nth| nth * 2 + i64::from(partition));
            let lines: Vec<_> = nth
                .map(|nth| bid(second * AUCTIONS + nth, 1, second * 1_000))
                .collect();
            let records = lines.iter();
            let records = records.map(|line| (None, None, Some(line.trim().as_bytes())));
            topics.fill(bids, partition, records);
            if stop.load(SeqCst) {
                return;
            }
            thread::sleep(Duration::from_millis(25));
        }
    }
}

/// The newest checkpoint of the job, and the first of its logs, as soon as it has any.
fn stand(place: &Place) -> (u64, String) {
    let arguments = ["checkpoint", "show", "state", "-o", "json"];
    let deadline = program::now() + program::DEADLINE;
    loop {
        let ended = run("anabranch", place.path(), &arguments);
        if ended.code == 0 {
            let shown: serde_json::Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
            if let Some(log) = shown["logs"][0]["path"].as_str() {
                return (shown["checkpoint"].as_u64().unwrap(), log.to_owned());
            }
        }
        assert!(program::now() < deadline, "no checkpoint: {}", ended.said());
    }
}

#[test]
fn a_job_that_commits_and_rewrites_all_the_time_is_never_said_to_be_broken() {
    let place = Place::new();
    let [bids, _] = place.names();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| feed(&Topics::new(), bids, &stop));
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&place)));
        stop.store(true, SeqCst);
        if let Err(panic) = looked {
            std::panic::resume_unwind(panic);
        }
    });
}

fn look(place: &Place) {
    let mut job = place.start(&["--workers", "2"]);
    let (checkpoint, log) = stand(place);
    let asked = ["--bootstrap", place.topics.bootstrap()];
    let (mut round, mut deadline) = (0, program::now());
    // At least until the logs are written anew.
    while round < ROUNDS || stand(place).1 == log {
        if round < ROUNDS {
            deadline = program::now() + program::DEADLINE;
        }
        assert!(program::now() < deadline, "it writes no log anew");
        job.assert_runs();
        round += 1;
        let checked = place.run(&["--check"]);
        assert_eq!(checked.code, 0, "{round}: {:?}", checked.out);
        let to = format!("saved-{round}");
        for command in [
            &["list", "state"][..],
            &["show", "state"],
            &["verify", "state"],
            &["save", "state", &to],
        ] {
            let arguments = [&["checkpoint"], command, &asked].concat();
            let ended = run("anabranch", place.path(), &arguments);
            assert_eq!(ended.code, 0, "{round}: {command:?}: {}", ended.said());
        }
        let saved = run("anabranch", place.path(), &["checkpoint", "verify", &to]);
        assert_eq!(saved.code, 0, "{}", saved.said());
    }
    let now = stand(place);
    job.signal("TERM");
    let ended = job.ended_with_open_input();
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(now.0 > checkpoint, "it commits: {}", ended.said());
}
