//! What is amiss is said before a run, by `--check` or at its start, and in time.
//!
//! Caught here: a check that passes what a run would refuse, or that leaves a trace; a start that
//! waits for ever for a broker that is not there or is none, or waits on though it is to stop; an
//! error that names no address.

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use program::{Ended, Running, bid, names, program, run};
use tempfile::{TempDir, tempdir};

fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("bids.jsonl"), bid(1, 2, 3)).unwrap();
    folder
}

fn checked(folder: &Path, arguments: &str) -> Ended {
    let arguments: Vec<_> = arguments.split(' ').chain(["--check"]).collect();
    run("bid_stats", folder, &arguments)
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "measures how long a start waits")]
    Instant::now()
}

#[test]
fn a_check_of_files_says_what_it_saw_and_leaves_no_trace() {
    let folder = folder();
    let bound = "--source bids=file:bids.jsonl --output-dir out/deep";
    let ended = checked(folder.path(), bound);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let expected = [
        "ok  configuration: ",
        "ok  source bids: file:bids.jsonl: readable, 1 partitions",
        "ok  sink stats: file:out/deep/stats.jsonl: is new, and may be written",
        "ok  sink late: ",
        "ok  sink dead: ",
    ];
    assert_eq!(ended.out.len(), expected.len(), "{:?}", ended.out);
    for (line, start) in ended.out.iter().zip(expected) {
        assert!(line.starts_with(start), "`{start}`: {line}");
    }
    assert_eq!(names(folder.path()), ["bids.jsonl"]);
}

/// Arguments, how the check and the run end, and what is said.
type Case = (&'static str, i32, &'static str);

const PORTS: &[Case] = &[
    (
        "--source bids=file:gone.jsonl --output-dir out",
        1,
        "gone.jsonl",
    ),
    (
        "--source bids=file:bids.jsonl --sink stats=file:full/ NULL",
        2,
        "not empty",
    ),
    (
        "--source bids=file:bids.jsonl --sink stats=file:no/x NULL",
        1,
        "no/x",
    ),
    (
        "--source bids=file:bids.jsonl --output-dir full/notes",
        1,
        "full/notes",
    ),
    ("--source bids=file:bids.jsonl", 2, "not bound"),
];

const STATES: &[Case] = &[
    (
        "STATE none",
        0,
        "ok  state none: empty: the job begins with",
    ),
    (
        "STATE fine --catch-up",
        0,
        "ok  state fine: goes on behind checkpoint ",
    ),
    (
        "STATE fine --set lag=5s --catch-up",
        0,
        "goes on behind checkpoint ",
    ),
    ("STATE fine --set size=5s", 3, "operator `window` was"),
    (
        "STATE fine --job-id other",
        3,
        "is of job `bid_stats`, and this is `other`",
    ),
    ("STATE fine --rebuild", 2, "needs a Kafka sink"),
    ("STATE damaged", 3, "checkpoint-0000000001.json` is damaged"),
    ("STATE torn", 3, "worker=000.0000000001.log` is damaged"),
    (
        "STATE fine --from-savepoint torn --catch-up",
        0,
        "goes on behind checkpoint ",
    ),
    ("STATE none-yet --from-savepoint torn", 3, "log` is damaged"),
    (
        "STATE finished",
        3,
        "is finished: checkpoint 1 in `finished`",
    ),
    (
        "STATE fine --set size=5s --allow-empty window --catch-up",
        0,
        "; state: starts empty: window",
    ),
];

#[test]
fn a_check_ends_as_the_run_would() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("full")).unwrap();
    fs::write(folder.path().join("full/notes"), "").unwrap();
    states(folder.path());
    for &(arguments, code, says) in PORTS.iter().chain(STATES) {
        let arguments =
            &arguments.replace("STATE", "--source bids=file:bids.jsonl STATS --state-dir");
        let arguments = &arguments.replace("STATS", "--sink stats=null: NULL");
        let arguments = &arguments.replace("NULL", "--sink late=null: --sink dead=null:");
        let before = files(folder.path());
        let checked = checked(folder.path(), arguments);
        let said = format!("{}\n{}", checked.said(), checked.out.join("\n"));
        assert_eq!(checked.code, code, "{arguments}: {said}");
        assert!(said.contains(says), "{arguments}: {said}");
        assert_eq!(
            files(folder.path()),
            before,
            "{arguments}: it leaves no trace"
        );
        let arguments: Vec<_> = arguments.split(' ').collect();
        let ran = run("bid_stats", folder.path(), &arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.said());
    }
    let states = ["damaged", "fine", "finished", "none", "none-yet", "torn"];
    let mut all = [&["bids.jsonl", "full"], &states[..]].concat();
    all.sort_unstable();
    assert_eq!(names(folder.path()), all);
}

/// State directories: one that can be gone on with, and three that cannot.
fn states(folder: &Path) {
    let make = |name: &str, more: &[&str]| {
        let sinks = ["stats=null:", "late=null:", "dead=null:"];
        let sinks = sinks.iter().flat_map(|sink| ["--sink", sink]);
        let ours = [
            "--source",
            "bids=file:bids.jsonl",
            "--state-dir",
            name,
            "-w",
            "1",
        ];
        let arguments: Vec<_> = ours.into_iter().chain(sinks).collect();
        let ended = run("bid_stats", folder, &[&arguments, more].concat());
        assert_eq!(ended.code, 0, "{}", ended.said());
        folder.join(name).join("gen=00000001")
    };
    make("fine", &["--catch-up"]);
    make("finished", &[]);
    let damaged = make("damaged", &["--catch-up"]).join("checkpoint-0000000001.json");
    fs::write(damaged, "garbage").unwrap();
    let torn = make("torn", &["--catch-up"]).join("worker=000.0000000001.log");
    let mut bytes = fs::read(&torn).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(torn, bytes).unwrap();
}

/// All files below `folder`, with their sizes.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for name in names(folder) {
        let path = folder.join(&name);
        let about = fs::metadata(&path).unwrap();
        let size = if about.is_dir() { 0 } else { about.len() };
        all.push((path.display().to_string(), size));
        if about.is_dir() {
            all.extend(files(&path));
        }
    }
    all
}

/// A server that answers every request with the same bytes, and its address.
fn garbage() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = |mut stream: TcpStream| {
        let mut request = [0; 512];
        while stream.read(&mut request).is_ok_and(|read| read > 0) {
            if stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .is_err()
            {
                return;
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

#[test]
fn a_broker_that_is_none_is_named_in_time() {
    let folder = folder();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    for (address, says) in [(address, "refused"), (garbage(), "no answer from Kafka")] {
        for check in [&[][..], &["--check"]] {
            let start = now();
            let bound = ["--bootstrap", &address, "--broker-timeout", "3s"];
            let ended = run("bid_stats", folder.path(), &[&bound[..], check].concat());
            let said = ended.said();
            assert_eq!(ended.code, 1, "{said}");
            let errors = ended.err.iter().filter(|line| line.starts_with("error: "));
            let error: Vec<_> = errors.collect();
            assert_eq!(error.len(), 1, "{said}");
            assert!(
                error[0].contains(&address) && error[0].contains(says),
                "{said}"
            );
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{:?}",
                start.elapsed()
            );
        }
    }
}

#[test]
fn a_start_that_waits_for_a_broker_ends_in_time_after_a_signal() {
    let folder = folder();
    // Whoever connects gets no answer.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut command = program("bid_stats", folder.path(), &["--bootstrap", &address]);
    let running = Running::start(&mut command);
    thread::sleep(Duration::from_secs(2));
    running.signal("TERM");
    let start = now();
    let ended = running.ended_with_open_input();
    let took = start.elapsed();
    assert_eq!(ended.code, 143, "{}", ended.said());
    assert!(
        ended.said().contains("while it was starting"),
        "{}",
        ended.said()
    );
    // Ten seconds are promised; the rest is for a machine with more to do.
    assert!(took < Duration::from_secs(15), "{took:?}");
}
