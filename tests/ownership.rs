//! Two instances of one job: the second has the first one's directory, another or a copy; the first
//! lives, was stopped for longer than its session, or was killed; and the second was told what to
//! do, or not. Whoever lives is shut out by no one but who was told to.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod once;
mod program;
mod topics;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use once::{Place, expected};
use program::{Ended, Running, now, program};

/// What the second one has for a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dir {
    Same,
    Empty,
    Copied,
}

/// What has become of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Lives,
    /// Past its session.
    Stopped,
    /// A moment ago: the group has not noticed.
    Killed,
}

/// What is to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The second one ends so, and the first one, if it lives, goes on.
    Ends(i32),
    /// The second one goes on at once; the first one, if it lives or wakes up, ends with 4.
    GoesOn,
    /// The second one waits until the first one is gone, and then ends so or goes on.
    Waits(Option<i32>),
}

/// A lock that is free, or whose holder is not in the group any more, is that of a dead one. An
/// empty directory where there is progress is of no use, except to make the state again; a copy is
/// of none once the first one has gone on.
fn due(dir: Dir, first: First, flag: &str) -> Then {
    let useless = dir == Dir::Empty && flag != "--rebuild";
    match (first, flag) {
        (_, "--take-over") | (First::Stopped | First::Killed, _) if useless => Then::Ends(3),
        (_, "--take-over") | (First::Stopped | First::Killed, _) => Then::GoesOn,
        (First::Lives, "--standby") => Then::Waits((dir != Dir::Same).then_some(3)),
        (First::Lives, _) => Then::Ends(4),
    }
}

/// A job that has answered so often, and has written nothing meanwhile, has nothing to write.
const AT_REST: usize = 50;
/// It answers so when every worker of it runs.
const READY: (&str, &str) = ("/readyz", "HTTP/1.1 200 ");

/// The second one's command.
fn second(place: &Place, dir: Dir, flag: &str) -> Command {
    let state = if dir == Dir::Same { "state" } else { "other" };
    let flags = ["--http", "127.0.0.1:0", flag];
    let flags = flags.strip_suffix(&[""]).unwrap_or(&flags);
    let arguments = place.arguments(flags);
    let arguments: Vec<_> = arguments
        .into_iter()
        .map(|it| if it == "state" { state } else { it })
        .collect();
    program("bid_stats", place.path(), &arguments)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied);
        } else if fs::copy(&path, &copied).is_err() {
            assert!(!path.exists()); // a log or a manifest that was deleted meanwhile
        }
    }
}

/// Waits until a job that runs has nothing more to commit: a copy of its directory is not to be
/// older than the topic of progress.
fn rests(place: &Place, running: &mut Running) {
    let (address, state) = (running.address(), place.path().join("state"));
    let deadline = now() + program::DEADLINE;
    let (mut before, mut answers) = (newest(&state), 0);
    while answers < AT_REST {
        // Not one that only waits for the machine.
        running.wait_for_answer(&address, READY.0, READY.1);
        thread::sleep(Duration::from_millis(20));
        let after = newest(&state);
        answers = if after == before { answers + 1 } else { 0 };
        before = after;
        assert!(now() < deadline, "it goes on: {before:?}");
    }
}

/// Copies its directory.
fn copied(place: &Place) {
    let state = place.path().join("state");
    let other = place.path().join("other");
    loop {
        let before = newest(&state);
        copy(&state, &other);
        if newest(&state) == before && newest(&other) == before {
            return;
        }
        fs::remove_dir_all(&other).unwrap();
    }
}

fn newest(state: &Path) -> Vec<String> {
    let folders = fs::read_dir(state).unwrap().map(|it| it.unwrap().path());
    let mut all: Vec<_> = folders
        .filter(|path| path.is_dir())
        .flat_map(|folder| program::names(&folder))
        .collect();
    all.sort_unstable();
    all
}

fn says_who(ended: &Ended) {
    let says = [
        "runs already",
        "process ",
        " since ",
        "--take-over",
        "--standby",
    ];
    let said = ended.said();
    assert!(says.iter().all(|part| said.contains(part)), "{said}");
}

/// Whether the job goes on, after what was seen of it.
fn goes_on(place: &Place, row: &str) {
    place.write_missing(60);
    let seen = place.wait_for(expected(50).len());
    assert_eq!(seen, expected(50), "{row}");
}

/// The second one goes on, and the first one, if it is there, ends with 4.
fn takes_over(place: &Place, old: Option<Running>, mut new: Running, first: First, row: &str) {
    // A copy is of use as long as the first one commits nothing more.
    let address = new.address();
    new.wait_for_answer(&address, READY.0, READY.1);
    place.write_missing(60);
    if !place.wait_while(expected(50).len(), || new.is_running()) {
        let ended = new.ended_with_open_input();
        panic!("{row}: {}", ended.said());
    }
    assert_eq!(place.seen(), expected(50), "{row}");
    if let Some(old) = old {
        if first == First::Stopped {
            old.signal("CONT");
        }
        let ended = old.ended_with_open_input();
        assert_eq!(ended.code, 4, "{row}: {}", ended.said());
        assert_eq!(place.seen(), expected(50), "{row}: woken, it did harm");
    }
    assert!(new.is_running(), "{row}");
}

fn plays(dir: Dir, first: First, flag: &str) {
    let row = format!("{dir:?}, {first:?}, `{flag}`");
    let place = Place::new();
    place.write_missing(30);
    let mut running = Some(place.start(&["--http", "127.0.0.1:0"]));
    assert_eq!(place.wait_for(expected(20).len()), expected(20), "{row}");
    match first {
        First::Lives if dir == Dir::Copied => rests(&place, running.as_mut().unwrap()),
        First::Lives => {}
        First::Stopped => running.as_ref().unwrap().signal("STOP"),
        First::Killed => drop(running.take()),
    }
    if dir == Dir::Copied {
        copied(&place);
    }
    if first == First::Stopped {
        place.topics.wait_for_group(&place.id, 0);
    }
    let began = now();
    let mut other = Running::start(&mut second(&place, dir, flag));
    let then = due(dir, first, flag);
    match then {
        Then::Ends(code) => {
            let ended = other.ended();
            assert_eq!(ended.code, code, "{row}: {}", ended.said());
            if code == 4 {
                says_who(&ended);
                assert!(began.elapsed() < Duration::from_secs(11), "{row}: at once");
            }
            if first == First::Lives {
                goes_on(&place, &row);
                assert!(running.as_mut().unwrap().is_running(), "{row}");
            }
        }
        Then::GoesOn => takes_over(&place, running.take(), other, first, &row),
        Then::Waits(code) => {
            goes_on(&place, &row);
            assert!(
                other.is_running() && running.as_mut().unwrap().is_running(),
                "{row}"
            );
            drop(running.take());
            if let Some(code) = code {
                let ended = other.ended();
                assert_eq!(ended.code, code, "{row}: {}", ended.said());
            } else {
                place.write_missing(90);
                assert_eq!(place.wait_for(expected(80).len()), expected(80), "{row}");
            }
        }
    }
}

/// A broker ends a transaction that was left open for a minute.
#[test]
#[ignore = "takes more than a minute: scripts/test-kafka"]
fn who_was_stopped_for_longer_than_a_transaction_may_take_is_taken_over_and_does_no_harm() {
    let place = Place::new();
    place.write_missing(30);
    let arguments = place.arguments(&["--http", "127.0.0.1:0"]);
    let arguments: Vec<_> = arguments
        .into_iter()
        .map(|it| if it == "20ms" { "30s" } else { it })
        .collect();
    let mut old = Running::start(&mut program("bid_stats", place.path(), &arguments));
    let address = old.address();
    assert_eq!(place.wait_for(expected(20).len()), expected(20));
    // It is stopped with results in its transaction, long before it would commit them.
    place.write_missing(60);
    let results = expected(50).len();
    let says = format!("\nanabranch_sink_records_total{{sink=\"stats\"}} {results}\n");
    old.wait_for_answer(&address, "/metrics", &says);
    old.signal("STOP");
    thread::sleep(Duration::from_secs(65));
    assert_eq!(place.seen(), expected(20));
    let new = Running::start(&mut second(&place, Dir::Same, ""));
    takes_over(&place, Some(old), new, First::Stopped, "for a minute");
}

#[test]
fn of_two_instances_the_first_goes_on_unless_it_is_dead_or_the_second_was_told_to() {
    let dirs = [Dir::Same, Dir::Empty, Dir::Copied];
    let flags = ["", "--standby", "--take-over", "--rebuild"];
    let rows = [First::Stopped, First::Killed, First::Lives]
        .map(|first| dirs.map(|dir| flags.map(|flag| (dir, first, flag))));
    let rows: Vec<_> = rows.into_iter().flatten().flatten().collect();
    assert_eq!(rows.len(), 36);
    // All at once they would wait for the machine, and for each other's rows.
    let next = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let row = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(&(dir, first, flag)) = rows.get(row) else {
                        return;
                    };
                    plays(dir, first, flag);
                }
            });
        }
    });
}
