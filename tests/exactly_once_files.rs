//! A job that writes files and is killed, again and again and at each place that the code names,
//! leaves what one run leaves. What would be caught: a result lost, repeated or torn, a file that
//! is seen before it is committed or not at all, and one of somebody else that is touched.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod places;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use places::{CRASH_AT, places};
use program::{DEADLINE, Ended, Running, bid, names, now, program, run};
use tempfile::{TempDir, tempdir};

const SINKS: [&str; 3] = [
    "stats=file:out/",
    "late=file:late.jsonl",
    "dead=file:dead.jsonl.gz",
];

/// A folder with so many bids, some of them late, and some that are none.
fn folder(bids: i64) -> TempDir {
    let folder = tempdir().unwrap();
    let mut lines = String::new();
    for nth in 0..bids {
        let late = if nth % 1_000 == 999 { 60_000 } else { 0 };
        lines.push_str(&bid(nth % 97, nth % 1_009, nth * 10 - late));
        if nth % 1_500 == 0 {
            lines.push_str("no bid\n");
        }
    }
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    folder
}

fn arguments<'a>(sinks: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["--source", "bids=file:bids.jsonl", "--max-dead", "off"];
    all.extend(sinks.iter().flat_map(|sink| ["--sink", sink]));
    all.extend(more);
    all
}

fn with_state<'a>(sinks: &[&'a str], workers: &'a str) -> Vec<&'a str> {
    let state = ["--state-dir", "state", "--checkpoint-interval", "1ms"];
    arguments(sinks, &[&state[..], &["--workers", workers]].concat())
}

/// The lines of a file or of the part files in a folder, sorted; nothing hidden counts.
fn lines(path: &Path) -> Vec<String> {
    let paths: Vec<PathBuf> = if path.is_dir() {
        let parts = names(path).into_iter();
        let parts = parts.filter(|name| name.starts_with("part-"));
        parts.map(|name| path.join(name)).collect()
    } else {
        vec![path.to_owned()]
    };
    let mut all = Vec::new();
    for path in paths {
        let mut text = String::new();
        let bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|it| it == "gz") {
            let mut unpacked = flate2::read::MultiGzDecoder::new(&bytes[..]);
            std::io::Read::read_to_string(&mut unpacked, &mut text).unwrap();
        } else {
            text = String::from_utf8(bytes).unwrap();
        }
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{}",
            path.display()
        );
        all.extend(text.lines().map(str::to_owned));
    }
    all.sort_unstable();
    all
}

/// What is seen of all outputs.
fn seen(folder: &Path) -> [Vec<String>; 3] {
    ["out", "late.jsonl", "dead.jsonl.gz"].map(|name| lines(&folder.join(name)))
}

/// What one run leaves, without checkpoints.
fn expected(folder: &Path) -> [Vec<String>; 3] {
    let ended = run("bid_stats", folder, &arguments(&SINKS, &[]));
    assert_eq!(ended.code, 0, "{}", ended.said());
    let all = seen(folder);
    assert!(all.iter().all(|lines| lines.len() > 10));
    fs::remove_dir_all(folder.join("out")).unwrap();
    fs::remove_file(folder.join("late.jsonl")).unwrap();
    fs::remove_file(folder.join("dead.jsonl.gz")).unwrap();
    all
}

/// The newest checkpoint.
fn checkpoint(folder: &Path) -> u64 {
    let mut newest = 0;
    let generations = fs::read_dir(folder.join("state")).into_iter().flatten();
    for generation in generations {
        let files = fs::read_dir(generation.unwrap().path());
        for file in files.into_iter().flatten() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let number = name.strip_prefix("checkpoint-");
            let number = number.and_then(|name| name.strip_suffix(".json"));
            newest = newest.max(number.map_or(0, |number| number.parse().unwrap()));
        }
    }
    newest
}

fn ended_well(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}", ended.said());
}

#[test]
fn a_job_that_is_killed_again_and_again_leaves_what_one_run_leaves() {
    // A job that is done too soon is followed by one that has more to do.
    let mut kills = (1..=5).map(|nth| killed_again_and_again(nth * 400_000));
    assert!(kills.any(|kills| kills >= 3), "each job was done too soon");
}

/// Kills a job with so many bids whenever it has made some checkpoints; how often.
fn killed_again_and_again(bids: i64) -> usize {
    let folder = folder(bids);
    let expected = expected(folder.path());
    let mut kills = 0;
    for workers in ["1", "2", "3"].into_iter().cycle() {
        let before = checkpoint(folder.path());
        let mut job = program("bid_stats", folder.path(), &with_state(&SINKS, workers));
        let mut job = Running::start(&mut job);
        let deadline = now() + DEADLINE;
        while job.is_running() && checkpoint(folder.path()) < before + 2 {
            assert!(now() < deadline, "no checkpoint");
            thread::sleep(Duration::from_millis(1));
        }
        if !job.is_running() {
            let ended = job.ended();
            // It may have been killed between its last checkpoint and its end.
            let finished = ended.code == 3 && ended.said().contains("is finished");
            assert!(ended.code == 0 || finished, "{}", ended.said());
            break;
        }
        kills += 1;
        drop(job); // killed
        // Of what is one file nothing is seen before the end.
        let beside = ["late.jsonl", "dead.jsonl.gz"].map(|name| folder.path().join(name));
        let all_seen = beside.iter().all(|path| path.exists());
        assert!(all_seen || beside.iter().all(|path| !path.exists()));
    }
    assert_eq!(seen(folder.path()), expected);
    let hidden = |name: &String| name.starts_with('.');
    assert!(!names(folder.path()).iter().any(hidden));
    assert!(!names(&folder.path().join("out")).iter().any(hidden));
    let again = run("bid_stats", folder.path(), &with_state(&SINKS, "1"));
    assert_eq!(again.code, 3, "{}", again.said());
    assert_eq!(seen(folder.path()), expected);
    kills
}

/// Runs the job until it ends at a place; whether it did.
fn crash(folder: &Path, place: &str, hit: u32, workers: &str) -> bool {
    let mut job = program("bid_stats", folder, &with_state(&SINKS, workers));
    job.env(CRASH_AT, format!("{place}:{hit}"));
    let ended = Running::start(&mut job).ended();
    let codes = [0, 3, 128 + 6];
    assert!(
        codes.contains(&ended.code),
        "{place}:{hit}: {}",
        ended.said()
    );
    ended.code == 128 + 6
}

#[test]
fn whatever_was_on_its_way_is_there_once() {
    let whole = folder(150_000);
    let expected = expected(whole.path());
    // A job without Kafka does not come to its places.
    let places = places(|folder| folder.ends_with("kafka"));
    assert!(
        places.iter().any(|name| name == "output renamed"),
        "{places:?}"
    );
    let cases = places.iter().flat_map(|name| {
        [(1, "1"), (2, "2"), (3, "3"), (5, "2")].map(|(hit, workers)| (name, hit, workers))
    });
    let cases: Vec<_> = cases.collect();
    let (next, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((place, hit, workers)) = cases.get(next.fetch_add(1, SeqCst)) {
                    let folder = tempdir().unwrap();
                    let folder = folder.path();
                    fs::copy(whole.path().join("bids.jsonl"), folder.join("bids.jsonl")).unwrap();
                    // At its start it finds what another left.
                    assert!(crash(folder, "checkpoint told", 1, "2"));
                    let crashed = crash(folder, place, *hit, workers);
                    assert!(crashed || *hit > 1, "it never came to `{place}`");
                    ends.fetch_add(usize::from(crashed), SeqCst);
                    let ended = run("bid_stats", folder, &with_state(&SINKS, workers));
                    let finished = ended.code == 3 && ended.said().contains("is finished");
                    assert!(
                        ended.code == 0 || finished,
                        "{place}:{hit}: {}",
                        ended.said()
                    );
                    assert_eq!(seen(folder), expected, "{place}:{hit}");
                }
            });
        }
    });
    let ends = ends.into_inner();
    assert!(ends >= 2 * places.len(), "only {ends} ends");
}

#[test]
fn a_part_that_is_missing_or_changed_is_refused_and_what_is_not_ours_stays() {
    let folder = folder(200_000);
    let expected = expected(folder.path());
    let folder = folder.path();
    assert!(crash(folder, "checkpoint told", 2, "1"));
    let out = folder.join("out");
    let hidden = names(&out)
        .into_iter()
        .find(|name| name.starts_with(".part-"));
    let hidden = out.join(hidden.unwrap());
    let whole = fs::read(&hidden).unwrap();
    let arguments = with_state(&SINKS, "2");
    let refused = |what: &str| {
        let ended = run("bid_stats", folder, &arguments);
        assert_eq!(ended.code, 3, "{}", ended.said());
        let says = ["part-000-000000000", what];
        assert!(
            says.iter().all(|part| ended.said().contains(part)),
            "{}",
            ended.said()
        );
    };
    fs::write(&hidden, &whole[..10]).unwrap();
    refused("has changed");
    let mut changed = whole.clone();
    changed[7] ^= 1;
    fs::write(&hidden, &changed).unwrap();
    refused("has changed");
    fs::remove_file(&hidden).unwrap();
    refused("is missing");
    fs::write(&hidden, &whole).unwrap();
    // A torn tail, a part that nobody knows of, and files of somebody else.
    fs::write(&hidden, [&whole[..], b"{\"auction\":1,"].concat()).unwrap();
    fs::write(out.join(".part-007-0000000000.jsonl.tmp"), "half").unwrap();
    for theirs in ["notes.txt", ".part", "other.jsonl"] {
        fs::write(out.join(theirs), "mine").unwrap();
    }
    let check = run(
        "bid_stats",
        folder,
        &[&arguments[..], &["--check"]].concat(),
    );
    ended_well(&check);
    ended_well(&run("bid_stats", folder, &arguments));
    assert_eq!(seen(folder), expected);
    assert!(!out.join(".part-007-0000000000.jsonl.tmp").exists());
    for theirs in ["notes.txt", ".part", "other.jsonl"] {
        assert_eq!(fs::read_to_string(out.join(theirs)).unwrap(), "mine");
    }
}

#[test]
fn a_job_that_catches_up_shows_what_is_complete_and_goes_on() {
    let folder = folder(30_000);
    let expected = expected(folder.path());
    let arguments = with_state(&SINKS, "2");
    let catch_up = [&arguments[..], &["--catch-up"]].concat();
    for _ in 0..2 {
        ended_well(&run("bid_stats", folder.path(), &catch_up));
        let [stats, late, dead] = seen(folder.path());
        assert!(stats.len() < expected[0].len() && stats.len() > 100);
        assert_eq!([&late, &dead], [&expected[1], &expected[2]]);
    }
    ended_well(&run("bid_stats", folder.path(), &arguments));
    assert_eq!(seen(folder.path()), expected);
}

#[test]
fn a_bounded_run_that_is_stopped_shows_no_file_and_the_next_one_goes_on() {
    let was_in_time = (1..=5).any(|nth| shows_no_file_when_stopped(nth * 400_000));
    assert!(was_in_time, "each job was done too soon");
}

/// Stops a job with so many bids, and starts it again; whether it was not done before.
fn shows_no_file_when_stopped(bids: i64) -> bool {
    let folder = folder(bids);
    let expected = expected(folder.path());
    let arguments = with_state(&SINKS, "1");
    let mut job = Running::start(&mut program("bid_stats", folder.path(), &arguments));
    let deadline = now() + DEADLINE;
    while job.is_running() && checkpoint(folder.path()) < 2 {
        assert!(now() < deadline, "no checkpoint");
        thread::sleep(Duration::from_millis(1));
    }
    if job.is_running() {
        job.signal("TERM");
    }
    let ended = job.ended();
    if ended.code == 0 {
        return false;
    }
    assert_eq!(ended.code, 143, "{}", ended.said());
    assert!(!folder.path().join("late.jsonl").exists());
    ended_well(&run("bid_stats", folder.path(), &arguments));
    assert_eq!(seen(folder.path()), expected);
    true
}

#[test]
fn what_cannot_be_exactly_once_is_refused_by_one_sentence() {
    let folder = folder(10);
    let sinks = ["late=null:", "dead=null:"];
    let refused = |sink: &str, source: &str, says: &[&str]| {
        let state = ["--state-dir", "state", "-b", "127.0.0.1:1", "--job-id", "a"];
        let bound = ["--source", source, "--sink", sink];
        let sinks = sinks.iter().flat_map(|sink| ["--sink", sink]);
        let all: Vec<_> = state.into_iter().chain(bound).chain(sinks).collect();
        let ended = run("bid_stats", folder.path(), &all);
        assert_eq!(ended.code, 2, "{}", ended.said());
        assert!(
            says.iter().all(|part| ended.said().contains(part)),
            "{}",
            ended.said()
        );
    };
    let file = "bids=file:bids.jsonl";
    refused("stats=-", file, &["stdout", "file:PATH", "at-least-once"]);
    refused(
        "stats=file:/dev/null",
        file,
        &["/dev/null", "at-least-once"],
    );
    if cfg!(feature = "kafka") {
        let says = [
            "stats.jsonl",
            "this run has no end",
            "file:DIR/",
            "--bounded",
        ];
        refused("stats=file:stats.jsonl", "bids=kafka:bids", &says);
    }
    assert_eq!(names(folder.path()), ["bids.jsonl"]);
}
