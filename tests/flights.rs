//! A year of real departures, as bids: the job on files answers what the oracle answers.
//!
//! Caught here: what made-up data does not think of, such as real delays, cancelled flights without
//! a time, thousands of keys, and a year of windows.
//!
//! `ANABRANCH_FLIGHTS` is the path of `flights.csv`, as `scripts/fetch-flights` prints it.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod oracle;

#[path = "../dataflows/bid_stats.rs"]
mod bid_stats;

use std::fs;
use std::path::Path;

use anabranch::{Settings, Summary};
use oracle::{Input, Outcome, Params, compare, flights};

/// Runs the job from a folder of files to three files, and returns the files and the summary.
fn run(input: &Path, params: &Params, workers: usize) -> ([String; 3], Summary) {
    let out = tempfile::tempdir().unwrap();
    let mut settings = Settings::new()
        .workers(workers)
        .source_uri("bids", &format!("file:{}", input.display()))
        .output_dir(out.path());
    for setting in params.settings() {
        let (key, value) = setting.split_once('=').unwrap();
        settings = settings.set(key, value);
    }
    let summary = bid_stats::job().run(settings).unwrap();
    let files = ["stats", "late", "dead"]
        .map(|port| fs::read_to_string(out.path().join(format!("{port}.jsonl"))).unwrap());
    (files, summary)
}

fn hold(input: &Input, folder: &Path, params: &Params) -> Outcome {
    let expected = oracle::run(input, params);
    let counts = expected.counts;
    assert!(counts.balanced(), "the oracle: {counts:?}");
    for workers in [1, 2] {
        let ([stats, late, dead], summary) = run(folder, params, workers);
        let same = compare::files(&expected, &stats, &late, &dead);
        same.unwrap_or_else(|why| panic!("{workers} workers: {why}"));
        let text = summary.to_string();
        assert!(
            text.starts_with(&counts.summary()),
            "{workers} workers: {text}"
        );
    }
    expected
}

#[test]
fn a_year_of_flights_has_one_answer() {
    let Some(path) = std::env::var_os("ANABRANCH_FLIGHTS") else {
        eprintln!("flights: SKIPPED, since ANABRANCH_FLIGHTS is not set (scripts/fetch-flights)");
        return;
    };
    let input = flights::bids(&fs::read_to_string(path).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    input.write_to(folder.path());
    let minute = 60_000;
    for (size, lag) in [(60 * minute, 15 * minute), (24 * 60 * minute, 120 * minute)] {
        let params = Params {
            size,
            lag,
            ..Params::bid_stats()
        };
        let expected = hold(&input, folder.path(), &params);
        let counts = expected.counts;
        assert_eq!((counts.read, counts.dead), (336_776, 8_255));
        assert!(counts.late > 0 && counts.results > 1_000, "{counts:?}");
    }
}
