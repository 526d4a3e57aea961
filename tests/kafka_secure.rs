//! A job on a real Kafka by TLS and SCRAM, with no more rights than it was given; run by
//! `scripts/test-kafka` with the feature `ssl`.
//!
//! Caught here: a client that cannot connect, or connects to whom nobody vouches for; a secret in
//! anything that is said; a missing right that is not named before the run.

#![cfg(feature = "ssl")]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;
mod topics;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use program::{Ended, bid, run};
use topics::Topics;

fn variable(name: &str) -> String {
    std::env::var(name).expect("run scripts/test-kafka")
}

/// Lets `alice` do `operation` to `topic`.
fn allow(operation: &str, topic: &str) {
    allow_to(operation, "--topic", topic);
}

/// Lets `alice` do `operation` to what has this name: `--topic`, `--group` or `--transactional-id`.
fn allow_to(operation: &str, kind: &str, name: &str) {
    let acl = "tool AclCommand --add --allow-principal User:alice --operation";
    let done = Command::new("scripts/kafka")
        .args(acl.split(' '))
        .args([operation, kind, name])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// Runs the job as `alice` with `password` and these topics.
fn as_alice(password: &str, topics: &[String; 2], more: &[&str]) -> Ended {
    let secure = variable("ANABRANCH_KAFKA_SECURE");
    let ca = format!("ssl.ca.location={}", variable("ANABRANCH_KAFKA_CA"));
    let password = format!("sasl.password={password}");
    let (source, sink) = (
        format!("bids=kafka:{}", topics[0]),
        format!("stats=kafka:{}", topics[1]),
    );
    let mut arguments = vec!["--bootstrap", &secure, "--source", &source, "--sink", &sink];
    arguments.extend(["--sink", "late=null:", "--sink", "dead=null:"]);
    for property in [
        "security.protocol=SASL_SSL",
        "sasl.mechanism=SCRAM-SHA-512",
        "sasl.username=alice",
        &password,
        &ca,
    ] {
        arguments.extend(["-X", property]);
    }
    arguments.extend(more);
    run("bid_stats", Path::new("."), &arguments)
}

fn fresh(topics: &Topics) -> [String; 2] {
    let names = ["bids", "stats"].map(Topics::fresh);
    names.iter().for_each(|name| topics.create(name, 2));
    let bids = [1_000, 30_000].map(|time| bid(1, 2, time));
    let records = bids.iter().map(|bid| (None, None, Some(bid.as_bytes())));
    topics.fill(&names[0], 0, records);
    names
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "measures how long a job waits")]
    Instant::now()
}

#[test]
#[ignore = "needs a Kafka: scripts/test-kafka"]
fn every_missing_right_is_named_and_nothing_more_is_needed() {
    let topics = Topics::new();
    let names = fresh(&topics);
    let says = |ended: &Ended, line: &str| {
        assert!(
            ended.out.iter().any(|said| said.contains(line)),
            "`{line}` in: {:?}",
            ended.out
        );
    };
    let (reads, writes) = (
        format!("topic `{}`: right Read is missing for User:alice", names[0]),
        format!(
            "topic `{}`: right Write is missing for User:alice",
            names[1]
        ),
    );
    let checked = as_alice("wonderland", &names, &["--check"]);
    assert_eq!(checked.code, 1, "{}", checked.said());
    says(&checked, &reads);
    says(&checked, &writes);
    // She may see both now, and read or write neither.
    names.iter().for_each(|name| allow("Describe", name));
    let checked = as_alice("wonderland", &names, &["--check"]);
    assert_eq!(checked.code, 1, "{}", checked.said());
    says(&checked, &reads);
    says(&checked, &writes);
    let ran = as_alice("wonderland", &names, &["--bounded"]);
    assert_eq!(ran.code, 1, "{}", ran.said());
    assert!(
        ran.said().contains("is missing for User:alice"),
        "{}",
        ran.said()
    );
    allow("Read", &names[0]);
    allow("Write", &names[1]);
    let checked = as_alice("wonderland", &names, &["--check"]);
    assert_eq!(checked.code, 0, "{:?}", checked.out);
    let ran = as_alice("wonderland", &names, &["--bounded"]);
    assert_eq!(ran.code, 0, "{}", ran.said());
    assert_eq!(topics.read(&names[1]).len(), 2);
}

#[test]
#[ignore = "needs a Kafka: scripts/test-kafka"]
fn what_exactly_once_needs_is_named_right_by_right() {
    let topics = Topics::new();
    let names = fresh(&topics);
    allow("Read", &names[0]);
    allow("Write", &names[1]);
    let (id, state) = (Topics::fresh("job"), tempfile::tempdir().unwrap());
    let progress = format!("{id}.progress");
    topics.create(&progress, 1);
    let state = state.path().to_str().unwrap();
    let kept = ["--bounded", "--job-id", &id, "--state-dir", state];
    let lacks = |what: &str| {
        let ran = as_alice("wonderland", &names, &kept);
        assert_eq!(ran.code, 1, "{}", ran.said());
        let says = format!("{what} is missing for User:alice");
        assert!(ran.said().contains(&says), "`{says}` in: {}", ran.said());
        // A check says so, too, but for what no cluster tells before it is used.
        let checked = as_alice("wonderland", &names, &[&kept[..], &["--check"]].concat());
        let told = checked.out.iter().any(|line| line.contains(&says));
        let asked = !what.starts_with("transactional id");
        let code = i32::from(asked);
        assert_eq!(
            (told, checked.code),
            (asked, code),
            "`{says}`: {:?}",
            checked.out
        );
    };
    lacks(&format!("topic `{progress}`: right Write"));
    allow("Read", &progress);
    lacks(&format!("topic `{progress}`: right Write"));
    allow("Write", &progress);
    // Without it a second instance would take this one for dead.
    lacks(&format!("group `{id}`: right Read"));
    allow_to("Describe", "--group", &id);
    lacks(&format!("group `{id}`: right Read"));
    allow_to("Read", "--group", &id);
    lacks(&format!("transactional id `{id}`: right Write"));
    allow_to("Write", "--transactional-id", &id);
    let ran = as_alice("wonderland", &names, &kept);
    assert_eq!(ran.code, 0, "{}", ran.said());
    assert_eq!(topics.read(&names[1]).len(), 2);
}

#[test]
#[ignore = "needs a Kafka: scripts/test-kafka"]
fn a_wrong_password_is_one_line_that_does_not_hold_it() {
    let topics = Topics::new();
    let names = fresh(&topics);
    for more in [&["--bounded"][..], &["--check"], &["--bounded", "-v"]] {
        let start = now();
        let ended = as_alice("jabberwocky", &names, more);
        let said = ended.said() + &ended.out.join("\n");
        assert_eq!(ended.code, 1, "{said}");
        assert!(!said.contains("jabberwocky"), "{said}");
        let errors = ended.err.iter().filter(|line| line.starts_with("error: "));
        let errors: Vec<_> = errors.collect();
        let [error] = errors[..] else {
            panic!("{said}")
        };
        for part in [
            &*variable("ANABRANCH_KAFKA_SECURE"),
            "SCRAM-SHA-512",
            "uthentication",
        ] {
            assert!(error.contains(part), "`{part}` in: {error}");
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
        if more == ["--bounded"] {
            let warned = ended.err.iter().any(|line| line.contains("WARN"));
            assert!(!warned, "more than one line: {said}");
        }
    }
}

#[test]
#[ignore = "needs a Kafka: scripts/test-kafka"]
fn a_broker_that_nobody_vouches_for_is_refused() {
    let topics = Topics::new();
    let names = fresh(&topics);
    let nobody = ["--bounded", "-X", "ssl.ca.location=Cargo.toml"];
    let ended = as_alice("wonderland", &names, &nobody);
    assert!([1, 2].contains(&ended.code), "{}", ended.said());
    let system = ["--bounded", "-X", "ssl.ca.location=/etc/ssl/certs"];
    let ended = as_alice("wonderland", &names, &system);
    assert_eq!(ended.code, 1, "{}", ended.said());
    let said = ended.said();
    assert!(said.contains("certificate verify failed"), "{said}");
    assert!(said.contains(&variable("ANABRANCH_KAFKA_SECURE")), "{said}");
}
