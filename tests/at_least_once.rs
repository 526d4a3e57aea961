//! A job at least once is killed or stopped while nobody takes its results, and started again. What
//! would be caught: a checkpoint that counts lines which only waited for their reader, and are
//! missing then.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use program::{DEADLINE, Running, bid, names, program, run};

/// Their results are several times what waits inside a job, and packed more than a pipe holds.
const SECONDS: i64 = 80_000;
const STATE: [&str; 6] = [
    "--state-dir",
    "state",
    "--guarantee",
    "at-least-once",
    "--checkpoint-interval",
    "1ms",
];

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a deadline")]
    Instant::now()
}

fn arguments<'a>(stats: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let ports = "--source bids=file:bids.jsonl --sink late=null: --sink dead=null: --sink";
    let ports = ports.split(' ').chain([stats]);
    ports.chain(more.iter().copied()).collect()
}

/// Takes the first byte of what a job writes, and the rest when it is told to.
struct Reader {
    begun: Receiver<()>,
    go_on: Sender<()>,
    read: Receiver<Vec<u8>>,
}

impl Reader {
    fn of<R: Read>(open: impl FnOnce() -> R + Send + 'static) -> Self {
        let ((start, begun), (go_on, told), (give, read)) = (channel(), channel(), channel());
        thread::spawn(move || {
            let (mut from, mut all) = (open(), vec![0]);
            from.read_exact(&mut all).unwrap();
            start.send(()).unwrap();
            if told.recv().is_ok() {
                from.read_to_end(&mut all).unwrap();
                give.send(all).unwrap();
            }
        });
        Self { begun, go_on, read }
    }

    fn rest(&self) -> Vec<u8> {
        self.go_on.send(()).unwrap();
        self.read.recv_timeout(DEADLINE).unwrap()
    }
}

/// All manifests of a job.
fn checkpoints(folder: &Path) -> Vec<String> {
    let state = folder.join("state");
    let generations = names(&state).into_iter().map(|name| state.join(name));
    let generations = generations.filter(|path| path.is_dir());
    generations.flat_map(|path| names(&path)).collect()
}

/// Starts a job whose results nobody takes, and sends it `signal` when it stands still; returns
/// what was in the pipe.
fn interrupted(folder: &Path, stats: &str, signal: &str) -> Vec<u8> {
    let job = arguments(stats, &STATE);
    let mut running = Running::start_unread(&mut program("bid_stats", folder, &job));
    let out = running.take_out();
    let reader = match stats.strip_prefix("stats=file:") {
        None => Reader::of(|| out),
        Some(pipe) => {
            let pipe = folder.join(pipe);
            Reader::of(|| File::open(pipe).unwrap())
        }
    };
    reader.begun.recv_timeout(DEADLINE).unwrap();
    // It goes on as long as it may.
    let deadline = now() + DEADLINE;
    let (mut before, mut since) = (checkpoints(folder), now());
    while since.elapsed() < Duration::from_millis(500) {
        assert!(now() < deadline, "it goes on: {before:?}");
        thread::sleep(Duration::from_millis(10));
        let after = checkpoints(folder);
        if after != before {
            (before, since) = (after, now());
        }
    }
    assert!(running.is_running(), "there was room for all results");
    running.signal(signal);
    let ended = running.ended_with_open_input();
    let code = if signal == "KILL" { 137 } else { 143 };
    assert_eq!(ended.code, code, "{}", ended.said());
    reader.rest()
}

fn whole_lines(bytes: &[u8], packed: bool) -> Vec<String> {
    let mut text = Vec::new();
    if packed {
        // The last member is torn; what is before that stays.
        let _ = flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut text);
    } else {
        text.extend_from_slice(bytes);
    }
    let text = String::from_utf8(text).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

#[test]
fn what_nobody_has_taken_does_not_count_for_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let lines = (0..SECONDS).flat_map(|second| {
        (0..5).map(move |nth| bid(nth, second + nth, second * 1_000 + nth * 200))
    });
    fs::write(folder.join("bids.jsonl"), lines.collect::<String>()).unwrap();
    let pipe = Command::new("mkfifo").arg(folder.join("pipe.gz")).status();
    assert!(pipe.unwrap().success());
    let expected: BTreeSet<String> = run("bid_stats", folder, &arguments("stats=-", &[]))
        .out
        .into_iter()
        .collect();
    for (stats, packed, signal) in [
        ("stats=-", false, "KILL"),
        ("stats=-", false, "TERM"),
        ("stats=file:pipe.gz", true, "KILL"),
    ] {
        let taken = whole_lines(&interrupted(folder, stats, signal), packed);
        assert!(taken.len() < expected.len(), "{stats} {signal}");
        let ended = run("bid_stats", folder, &arguments("stats=-", &STATE));
        assert_eq!(ended.code, 0, "{}", ended.said());
        let all: BTreeSet<String> = taken.into_iter().chain(ended.out).collect();
        assert!(all == expected, "{stats} {signal}: results are missing");
        fs::remove_dir_all(folder.join("state")).unwrap();
    }
}
