//! `anabranch digest` says the same of the same results, wherever they lie and however they are
//! written, and another thing of others.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::fs;
use std::path::Path;

use program::{Ended, bid, run};
use tempfile::tempdir;

fn digest(folder: &Path, arguments: &[&str]) -> Ended {
    run("anabranch", folder, &[&["digest"], arguments].concat())
}

#[track_caller]
fn of(folder: &Path, place: &str) -> String {
    let ended = digest(folder, &[place]);
    assert_eq!((ended.code, ended.out.len()), (0, 1), "{}", ended.said());
    ended.out[0].clone()
}

#[test]
fn one_worker_or_three_one_file_or_parts_packed_or_not() {
    let folder = tempdir().unwrap();
    let at = folder.path();
    let lines: String = (0..20_000).map(|n| bid(n % 97, n, n * 100)).collect();
    fs::write(at.join("bids.jsonl"), lines).unwrap();
    let job = |sink: &str, workers: &str| {
        let sink = format!("stats=file:{sink}");
        let rest = "--source bids=file:bids.jsonl --sink late=null: --sink dead=null:";
        let arguments = rest.split(' ').chain(["--sink", &sink, "-w", workers]);
        let ended = run("bid_stats", at, &arguments.collect::<Vec<_>>());
        assert_eq!(ended.code, 0, "{}", ended.said());
    };
    let places = [
        ("a.jsonl", "1"),
        ("b.jsonl.gz", "3"),
        ("c.zst", "2"),
        ("parts/", "3"),
    ];
    for (sink, workers) in places {
        job(sink, workers);
    }
    let expected = of(at, "a.jsonl");
    assert!(expected.starts_with("digest sha256:"), "{expected}");
    assert!(expected.ends_with(" records 19,400"), "{expected}");
    for (place, _) in places {
        assert_eq!(of(at, place), expected, "{place}");
    }
    assert_eq!(of(at, "file:a.jsonl"), expected);
    let json = digest(at, &["a.jsonl", "-o", "json"]).out.join("");
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    let text = format!("digest {} records 19,400", told["digest"].as_str().unwrap());
    assert_eq!((text, &told["records"]), (expected.clone(), &19_400.into()));

    let other = fs::read_to_string(at.join("a.jsonl")).unwrap();
    fs::write(
        at.join("d.jsonl"),
        other.replacen("\"cnt\":1", "\"cnt\":2", 1),
    )
    .unwrap();
    assert_ne!(of(at, "d.jsonl"), expected);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("cut.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    for (arguments, code, says) in [
        (&["gone.jsonl"][..], 1, "`gone.jsonl`"),
        (&["empty"], 1, "no file to read"),
        (&["cut.gz"], 1, "`cut.gz`"),
        (&[], 2, "<PATH|kafka:TOPIC>"),
        (&["kafka:t"], 2, "--bootstrap"),
        (
            &["kafka:t", "-b", "127.0.0.1:1", "-X", "acks=1"],
            2,
            "`acks`",
        ),
        (&["a", "--outptu", "json"], 2, "did you mean `--output`?"),
    ] {
        let ended = digest(folder.path(), arguments);
        assert_eq!(
            (ended.code, ended.out.len()),
            (code, 0),
            "{arguments:?}: {}",
            ended.said()
        );
        assert!(ended.said().contains(says), "`{says}` in: {}", ended.said());
    }
    fs::write(folder.path().join("odd.jsonl"), "?\n{}\n").unwrap();
    let odd = digest(folder.path(), &["odd.jsonl"]);
    assert!(
        odd.said().contains("1 records are no JSON"),
        "{}",
        odd.said()
    );
    let none = of(folder.path(), "/dev/null");
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(none, format!("digest {empty} records 0"));
}
