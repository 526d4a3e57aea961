//! What is amiss is said before a run, by `--check` or at its start, and in time.
//!
//! Caught here: a check that passes what a run would refuse, or that leaves a trace; a start that
//! waits for ever for a broker that is not there or is none; an error that names no address.

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use program::{Ended, bid, names, run};
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

#[test]
fn a_check_ends_as_the_run_would() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("full")).unwrap();
    fs::write(folder.path().join("full/notes"), "").unwrap();
    let cases = [
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
    for (arguments, code, says) in cases {
        let arguments = &arguments.replace("NULL", "--sink late=null: --sink dead=null:");
        let checked = checked(folder.path(), arguments);
        let said = checked.said();
        assert_eq!(checked.code, code, "{arguments}: {said}");
        assert!(said.contains(says), "{arguments}: {said}");
        let arguments: Vec<_> = arguments.split(' ').collect();
        let ran = run("bid_stats", folder.path(), &arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.said());
    }
    assert_eq!(names(folder.path()), ["bids.jsonl", "full"]);
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
