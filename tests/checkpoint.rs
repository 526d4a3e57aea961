//! `anabranch checkpoint` says what a state directory holds, finds every damage, and changes
//! nothing.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use program::{Ended, Running, bid, program, run};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

const MANIFEST: &str = "gen=00000002/checkpoint-0000000003.json";
const LOGS: [&str; 2] = [
    "gen=00000001/worker=000.0000000001.log",
    "gen=00000002/worker=000.0000000003.log",
];

/// A folder in which `state` is a state directory of format 1.
fn place() -> TempDir {
    let folder = tempdir().unwrap();
    for file in [MANIFEST, LOGS[0], LOGS[1]] {
        let to = folder.path().join("state").join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(Path::new("tests/state/format-1").join(file), to).unwrap();
    }
    folder
}

fn file(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join("state").join(name)
}

/// Every file in `folder` and below, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let file = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    };
    let (folders, others): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| files(folder));
    below.chain(others.into_iter().map(file)).collect()
}

/// Bytes of a file, as people read it.
fn bytes(folder: &TempDir, name: &str) -> u64 {
    fs::metadata(file(folder, name)).unwrap().len()
}

fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

fn checkpoint(folder: &TempDir, arguments: &[&str]) -> Ended {
    run(
        "anabranch",
        folder.path(),
        &[&["checkpoint"], arguments].concat(),
    )
}

#[track_caller]
fn said(folder: &TempDir, arguments: &[&str]) -> Vec<String> {
    let ended = checkpoint(folder, arguments);
    assert_eq!((ended.code, ended.err.len()), (0, 0), "{}", ended.said());
    ended.out
}

fn json(folder: &TempDir, arguments: &[&str]) -> Value {
    let out = said(folder, &[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&out.join("\n")).unwrap()
}

#[test]
fn a_list_has_a_line_for_each_checkpoint() {
    let folder = place();
    let all = LOGS.map(|log| bytes(&folder, log)).iter().sum();
    let expected = [
        "checkpoint  generation  made                      watermark                           \
         bytes  finished"
            .to_owned(),
        format!(
            "{:>10}  {:>10}  2023-11-14T22:13:20.123Z  1970-01-01T00:00:00.120Z  {:>15}  no",
            3,
            2,
            grouped(all)
        ),
    ];
    assert_eq!(said(&folder, &["list", "state"]), expected);
    let told = &json(&folder, &["list", "state"])[0];
    assert_eq!(told["manifest"], MANIFEST);
    let numbers = ["checkpoint", "generation", "bytes"].map(|name| told[name].as_u64().unwrap());
    assert_eq!(numbers, [3, 2, all]);
    assert_eq!(
        (&told["job"], &told["finished"]),
        (&"kinds-7".into(), &false.into())
    );
}

#[test]
fn a_checkpoint_is_shown_with_offsets_operators_and_logs() {
    let folder = place();
    let shown = said(&folder, &["show", "state"]);
    assert_eq!(said(&folder, &["show", "state", "3"]), shown);
    for line in [
        "checkpoint 3 of job `kinds-7` (kinds), generation 2",
        "source items: kafka:items, watermark 1970-01-01T00:00:00.120Z",
        "  partition 2: next offset 102, began at 2, idle, 3 left as idle",
        "  partition 3: next offset 103, began at 3, ended, ends at 103, 3 left as idle",
    ] {
        assert!(shown.iter().any(|it| it == line), "{line} in {shown:#?}");
    }
    assert!(shown.iter().any(|line| line.contains(LOGS[0])));
    let widest = shown.iter().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?}");

    let told = json(&folder, &["show", "state"]);
    let operators = told["operators"].as_array().unwrap();
    let names: Vec<_> = operators
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "dedup",
            "dedup_eager",
            "order",
            "window",
            "window 2",
            "silence"
        ]
    );
    let mut sum = 0;
    for operator in operators {
        let [entries, bytes, slots] =
            ["entries", "bytes", "slots"].map(|name| operator[name].as_u64().unwrap());
        assert!(
            entries >= slots && bytes > entries && slots > 0,
            "{operator}"
        );
        // Few keys in 1,024 slots: the fewer, the more of the bytes lie in one.
        let skew = operator["skew"].as_f64().unwrap();
        assert!((1.0..=1_024.0).contains(&skew), "{operator}");
        sum += bytes;
    }
    // The rest are heads of frames, parcels and entries.
    let all: u64 = LOGS.map(|log| bytes(&folder, log)).iter().sum();
    assert!((all / 2..all).contains(&sum), "{sum} of {all}");
    assert_eq!(told["sources"][0]["partitions"][1]["next"], 101);
    assert_eq!(told["logs"][1]["path"], LOGS[1]);
}

#[test]
fn what_is_whole_is_verified() {
    let folder = place();
    let lines = said(&folder, &["verify", "state"]);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], format!("ok  {MANIFEST}: checkpoint 3, 2 logs"));
    let first = format!(
        "ok  {}: {} bytes, ",
        LOGS[0],
        grouped(bytes(&folder, LOGS[0]))
    );
    assert!(lines[1].starts_with(&first), "{}", lines[1]);

    // What a run that died has left belongs to no checkpoint, and does no harm.
    let path = file(&folder, LOGS[1]);
    let longer = [&fs::read(&path).unwrap()[..], &[0; 1_234]].concat();
    fs::write(&path, longer).unwrap();
    let left = "gen=00000002/worker=001.0000000004.log";
    fs::write(file(&folder, left), "torn").unwrap();
    let before = files(folder.path());
    for command in ["list", "show"] {
        said(&folder, &[command, "state"]);
    }
    let lines = said(&folder, &["verify", "state"]);
    assert!(
        lines[2].ends_with("; 1,234 more belong to no checkpoint"),
        "{}",
        lines[2]
    );
    assert!(
        lines[3].starts_with(&format!("--  {left}: 4 bytes")),
        "{}",
        lines[3]
    );
    let left = &json(&folder, &["verify", "state"])[3];
    assert_eq!(left["ok"], Value::Null);
    assert!(left["file"].is_string(), "it is still there");
    assert_eq!(files(folder.path()), before, "nothing is changed");
}

#[test]
fn each_damage_is_found_and_named() {
    for name in [MANIFEST, LOGS[0], LOGS[1]] {
        let folder = place();
        let path = file(&folder, name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        for damaged in [&flipped[..], &whole[..whole.len() - 1], &[]] {
            fs::write(&path, damaged).unwrap();
            assert_refused(&folder, name);
        }
        if name != MANIFEST {
            fs::remove_file(&path).unwrap();
            assert_refused(&folder, name);
        }
    }
}

/// `verify` says what is wrong with this file, and with no other.
#[track_caller]
fn assert_refused(folder: &TempDir, name: &str) {
    let ended = checkpoint(folder, &["verify", "state"]);
    assert_eq!((ended.code, ended.err.len()), (3, 1), "{}", ended.said());
    assert!(ended.said().starts_with("error: "), "{}", ended.said());
    assert!(
        ended.said().contains(&format!("`state/{name}` ")),
        "{}",
        ended.said()
    );
    let wrong: Vec<_> = ended
        .out
        .iter()
        .filter(|line| line.starts_with("no  "))
        .collect();
    assert_eq!(wrong.len(), 1, "{:?}", ended.out);
    let other = checkpoint(folder, &["show", "state"]);
    assert_eq!(other.code, 3, "{}", other.said());
    let list = checkpoint(folder, &["list", "state"]);
    assert_eq!(list.code == 3, name == MANIFEST, "{}", list.said());
}

#[test]
fn what_is_not_there_is_said() {
    let folder = place();
    fs::create_dir(folder.path().join("empty")).unwrap();
    for (arguments, code, says) in [
        (
            &["list", "gone"][..],
            1,
            "state directory `gone`: No such file",
        ),
        (&["verify", "empty"], 3, "`empty` has no checkpoint"),
        (&["list", "empty"], 3, "`empty` has no checkpoint"),
        (&["show", "empty"], 3, "`empty` has no checkpoint"),
        (
            &["show", "state", "7"],
            3,
            "`state` has no checkpoint 7; `anabranch checkpoint list`",
        ),
        (&["show", "state", "x"], 2, "found `x`"),
        (&["list"], 2, "<DIR>"),
        // How to speak to a Kafka that nobody names would be without effect.
        (
            &["save", "state", "saved", "--kafka-config", "c.properties"],
            2,
            "--bootstrap",
        ),
        (&["verify", "state", "-X", "debug=all"], 2, "--bootstrap"),
    ] {
        let ended = checkpoint(&folder, arguments);
        assert_eq!((ended.code, ended.err.len()), (code, 1), "{}", ended.said());
        assert!(ended.said().contains(says), "{says} in {}", ended.said());
    }
    assert!(!folder.path().join("saved").exists());
    let newer = fs::read_to_string(file(&folder, MANIFEST)).unwrap();
    let (body, _) = newer.split_once("crc32c").unwrap();
    let body = body.replace("\"format\":1", "\"format\":2");
    let crc = crc32c::crc32c(body.as_bytes());
    fs::write(file(&folder, MANIFEST), format!("{body}crc32c {crc:08x}\n")).unwrap();
    let ended = checkpoint(&folder, &["verify", "state"]);
    assert_eq!(ended.code, 3);
    assert!(
        ended
            .said()
            .contains("has format 2, and this version reads up to 1")
    );
}

#[test]
fn a_job_that_runs_may_be_looked_at() {
    let folder = tempdir().unwrap();
    let lines: String = (0..300_000)
        .map(|nth| bid(nth % 997, 7, nth * 10))
        .collect();
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    let sinks = [
        "--sink",
        "stats=null:",
        "--sink",
        "late=null:",
        "--sink",
        "dead=null:",
    ];
    let state = ["--state-dir", "state", "--checkpoint-interval", "1ms"];
    let arguments = [&["--source", "bids=file:bids.jsonl"], &sinks[..], &state].concat();
    let mut job = program("bid_stats", folder.path(), &arguments);
    let job = Running::start(&mut job);
    let verified = |ended: &Ended| {
        // Before its first checkpoint there is none.
        let early = ["has no checkpoint", "state directory `state`"];
        early.iter().any(|says| ended.said().contains(says)) || ended.code == 0
    };
    for _ in 0..20 {
        let ended = checkpoint(&folder, &["verify", "state"]);
        assert!(verified(&ended), "{} {:?}", ended.said(), ended.out);
    }
    let ended = job.ended();
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(checkpoint(&folder, &["verify", "state"]).code, 0);
    let told = json(&folder, &["list", "state"]);
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert_eq!(told[0]["finished"], true);
    let shown = said(&folder, &["show", "state"]);
    assert!(shown[0].ends_with(", finished"), "{}", shown[0]);
}
