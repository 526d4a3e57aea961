//! A job whose state grows without end says so in time, and ends at its limit.
//!
//! Caught here: state that is not counted; a limit that names neither who holds the watermark nor
//! which operator holds how much; a limit that ends a job whose state is let go in time.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::fmt::Write as _;
use std::fs;

use program::run;
use tempfile::{TempDir, tempdir};

/// A folder with `bids.jsonl`: as many auctions as bids, a bid a second.
fn folder(bids: u32) -> TempDir {
    let folder = tempdir().unwrap();
    let mut lines = String::new();
    for n in 0..bids {
        let time = n * 1_000;
        let bid = r#""bidder":2,"price":3,"channel":"c""#;
        writeln!(lines, "{{\"auction\":{n},{bid},\"date_time\":{time}}}").unwrap();
    }
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    folder
}

const BOUND: &str = "--source bids=file:bids.jsonl --output-dir . --memory 64MiB --workers 1";

#[test]
fn windows_that_never_close_end_with_5_and_every_name() {
    let folder = folder(1_000_000);
    let arguments: Vec<_> = BOUND.split(' ').chain(["--set", "size=36500d"]).collect();
    let ended = run("bid_stats", folder.path(), &arguments);
    assert_eq!(ended.code, 5, "{}", ended.said());
    let says: Vec<_> = (ended.err.iter())
        .filter(|line| line.contains("state takes"))
        .collect();
    let [warned, failed] = says[..] else {
        panic!("a warning and an error: {}", ended.said());
    };
    assert!(warned.contains("WARN"), "{warned}");
    assert!(failed.starts_with("error: "), "{failed}");
    for part in [
        "of 48.0 MiB",
        "--memory 64.0 MiB",
        ": window ",
        " entries; watermark ",
        "held by bids[0]",
    ] {
        assert!(failed.contains(part), "`{part}` in: {failed}");
        assert!(warned.contains(part), "`{part}` in: {warned}");
    }
    assert!(!folder.path().join("stats.jsonl").exists());
}

#[test]
fn windows_that_close_never_come_near_it() {
    let folder = folder(300_000);
    let arguments: Vec<_> = BOUND.split(' ').collect();
    let ended = run("bid_stats", folder.path(), &arguments);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(!ended.said().contains("state takes"), "{}", ended.said());
}
