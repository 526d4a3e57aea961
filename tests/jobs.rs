//! The two jobs answer what the oracle answers, on hostile files, however they are run.
//!
//! Caught here: any dependence on workers, epochs or timing; a wrong verdict at any edge of
//! lateness; a record that is lost, used twice, or refused although it is good; a sum that is not
//! exact; an order within a key that is not the log's.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests may fail"
)]

mod oracle;

#[path = "../dataflows/bid_stats.rs"]
mod bid_stats;
#[path = "../dataflows/user_activity.rs"]
mod user_activity;

use anabranch::{Job, testing};
use oracle::hostile::{self, Plan};
use oracle::{FilePart, Input, Params, compare};

/// Runs `job` over files in every way and holds each run against the oracle.
fn hold(job: &Job, params: &Params, input: &Input, seeds: u64) {
    let expected = oracle::run(input, params);
    assert!(
        expected.counts.balanced(),
        "the oracle: {:?}",
        expected.counts
    );
    let folder = tempfile::tempdir().unwrap();
    input.write_to(folder.path());
    let uri = format!("file:{}", folder.path().display());
    let (source, sink) = match job.name() {
        "bid_stats" => ("bids", "stats"),
        _ => ("events", "activity"),
    };
    let mut test = testing::run(job.clone())
        .source_uri(source, &uri)
        .seeds(seeds);
    for setting in params.settings() {
        let (key, value) = setting.split_once('=').unwrap();
        test = test.set(key, value);
    }
    test.check(&[sink, "late", "dead"], |run, answer| {
        let [results, late, dead] = [0, 1, 2].map(|port: usize| answer.lines[port].join("\n"));
        let same = compare::files(&expected, &results, &late, &dead);
        same.unwrap_or_else(|why| panic!("{run}: {why}"));
        let counts = [
            (answer.summary.read, expected.counts.read as u64),
            (answer.summary.used, expected.counts.used as u64),
            (answer.summary.duplicates, expected.counts.duplicates as u64),
            (answer.summary.late, expected.counts.late as u64),
            (answer.summary.dead, expected.counts.dead as u64),
            (answer.summary.results, expected.counts.results as u64),
        ];
        let equal = |(found, wanted): &(u64, u64)| found == wanted;
        assert!(counts.iter().all(equal), "{run}: {counts:?}");
    });
}

fn both(params: impl Fn(Params, u64) -> Params, plan: impl Fn(u64) -> Plan, runs: u64) {
    let jobs = [
        (bid_stats::job(), Params::bid_stats()),
        (user_activity::job(), Params::user_activity()),
    ];
    for (job, defaults) in jobs {
        for seed in 0..runs {
            let params = params(defaults.clone(), seed);
            let input = hostile::files(&plan(seed), &params);
            hold(&job, &params, &input, 3);
        }
    }
}

#[test]
fn hostile_logs_have_one_answer() {
    let plan = |seed| Plan {
        seed,
        partitions: 1 + seed as usize % 5,
        records: 120,
        huge: false,
    };
    both(|params, _| params, plan, 10);
}

#[test]
fn hostile_logs_have_one_answer_with_lateness_and_other_sizes() {
    let plan = |seed| Plan {
        seed: 100 + seed,
        partitions: 3,
        records: 120,
        huge: false,
    };
    let params = |params: Params, seed| Params {
        size: [1, 7, 1_000, 86_400_000][seed as usize % 4],
        lag: [0, 1, 500, 10_000][seed as usize / 2 % 4],
        allowed_lateness: [0, 1, 3_000][seed as usize % 3],
        ..params
    };
    both(params, plan, 8);
}

#[test]
fn records_of_the_largest_size_are_used_and_larger_ones_are_dead() {
    let plan = |seed| Plan {
        seed: 200 + seed,
        partitions: 2,
        records: 20,
        huge: true,
    };
    both(|params, _| params, plan, 1);
}

#[test]
fn empty_files_and_single_records_are_ordinary() {
    let file = |name: &str, bytes: &[u8]| FilePart {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
    };
    let bid = br#"{"auction":1,"bidder":2,"price":3,"channel":"c","date_time":-1}"#;
    let inputs = [
        vec![file("a.jsonl", b"")],
        vec![file("a.jsonl", bid)],
        vec![file("a.jsonl", b"\n \n\r\n"), file("b.jsonl", bid)],
        vec![file("a.jsonl", b"\xef\xbb\xbf")],
    ];
    for input in inputs {
        hold(
            &bid_stats::job(),
            &Params::bid_stats(),
            &Input::Files(input),
            2,
        );
    }
}
