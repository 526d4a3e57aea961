//! The process ends at each place that the code names, the first, second and third time that it
//! comes there, with one and two workers; and what is left, with what the next run adds, is what
//! one run leaves. So it is when it had begun with state, and when it ends while it makes its state
//! again from the log: until that is committed the state that there was is still there, and may be
//! gone on with.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod once;
mod places;
mod program;
mod topics;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use once::{Place, expected};
use places::{CRASH_AT, places};
use program::{Running, program};

/// Where a process comes once, at its start, but for a producer that is replaced.
const AT_START: [&str; 4] = [
    "fenced",
    "generation made",
    "state loaded",
    "state looked for",
];

/// Runs a job from the second `begin` on until it ends at `place`; returns whether it did.
fn crash(place: &Place, begin: i64, (name, hit, workers): (&str, u32, &str)) -> bool {
    let mut command = program(
        "bid_stats",
        place.path(),
        &place.arguments(&["-w", workers]),
    );
    command.env(CRASH_AT, format!("{name}:{hit}"));
    // Before the job is there: then results are on their way at its first checkpoints.
    place.write(begin, begin + 30);
    let mut running = Running::start(&mut command);
    for second in [30, 60, 90, 120].map(|second| begin + second) {
        // Its results, or its end.
        if !place.wait_while(expected(second - 10).len(), || running.is_running()) {
            break;
        }
        place.write(second, (second + 30).min(begin + 120));
    }
    let crashed = !running.is_running();
    if crashed {
        let ended = running.ended_with_open_input();
        assert_eq!(ended.code, 128 + 6, "{name}:{hit}: {}", ended.said());
    }
    crashed
}

/// Ends a process at `name`, and holds what is left against what one run leaves; whether it ended.
fn hold(name: &str, hit: u32, workers: &str) -> bool {
    hold_from(0, (name, hit, workers))
}

/// As [`hold`], but it begins with the state of a run before it.
fn hold_restart(name: &str, hit: u32, workers: &str) -> bool {
    hold_from(60, (name, hit, workers))
}

fn hold_from(begin: i64, (name, hit, workers): (&str, u32, &str)) -> bool {
    let place = Place::new();
    if begin > 0 {
        catch_up(&place, begin);
    }
    let crashed = crash(&place, begin, (name, hit, workers));
    // It commits behind each of four steps, so it comes three times wherever it comes again.
    let comes = hit == 1 || !AT_START.contains(&name);
    assert!(crashed || !comes, "it never came to `{name}:{hit}`");
    let end = begin + 120;
    place.write_missing(end);
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{name}:{hit}: {}", ended.said());
    let what = format!("from {begin}, {name}:{hit}, {workers} workers");
    assert_eq!(place.seen(), expected(end), "{what}");
    crashed
}

/// Leaves state of the seconds before `end`.
fn catch_up(place: &Place, end: i64) {
    place.write(0, end);
    let caught_up = place.run(&["--catch-up"]);
    assert_eq!(caught_up.code, 0, "{}", caught_up.said());
}

/// Ends a process at `name` that makes its state again, and goes on with what there was or is.
fn hold_rebuild(name: &str, hit: u32, workers: &str) -> bool {
    let place = Place::new();
    catch_up(&place, 60);
    place.write(60, 120);
    let arguments = ["--rebuild", "--catch-up", "-w", workers];
    let mut command = program("bid_stats", place.path(), &place.arguments(&arguments));
    command.env(CRASH_AT, format!("{name}:{hit}"));
    let rebuilt = Running::start(&mut command).ended_with_open_input();
    let crashed = rebuilt.code == 128 + 6;
    assert!(crashed || rebuilt.code == 0, "{}", rebuilt.said());
    assert!(crashed || hit > 1, "it never came to `{name}`");
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{name}:{hit}: {}", ended.said());
    let what = format!("rebuild, {name}:{hit}, {workers} workers");
    assert_eq!(place.seen(), expected(120), "{what}");
    crashed
}

/// Of a job that writes to Kafka only; one that writes files comes to those of outputs, too:
/// `tests/exactly_once_files.rs`.
fn of_kafka() -> BTreeSet<String> {
    let mut places = places(|_| false);
    places.retain(|name| !name.starts_with("output"));
    assert!(places.len() >= 10, "{places:?}");
    let known = |name: &&str| places.contains(*name);
    assert!(AT_START.iter().all(known), "{places:?}");
    places
}

#[test]
fn whatever_was_on_its_way_is_there_once() {
    count(&of_kafka(), &HITS, hold);
}

#[test]
fn whatever_was_on_its_way_is_there_once_behind_state_that_there_was() {
    count(&of_kafka(), &[(1, "1"), (1, "2"), (2, "2")], hold_restart);
}

#[test]
fn what_there_was_stays_until_it_is_made_again() {
    let places = of_kafka();
    let ends = count(&places, &HITS, hold_rebuild);
    let most = HITS.len() * places.len();
    assert!(ends >= most / 2, "only {ends} ends of {most}");
}

const HITS: [(u32, &str); 6] = [(1, "1"), (2, "2"), (3, "1"), (1, "2"), (2, "1"), (3, "2")];

/// How often `hold` comes to a place, of so many hits of each.
fn count(
    places: &BTreeSet<String>,
    hits: &[(u32, &'static str)],
    hold: fn(&str, u32, &str) -> bool,
) -> usize {
    let cases = places.iter().flat_map(|name| {
        let hits = hits.iter();
        hits.map(move |(hit, workers)| (name, *hit, *workers))
    });
    let cases: Vec<_> = cases.collect();
    let (next, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Most of it is waiting for the broker.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((name, hit, workers)) = cases.get(next.fetch_add(1, SeqCst)) {
                    ends.fetch_add(usize::from(hold(name, *hit, workers)), SeqCst);
                }
            });
        }
    });
    ends.into_inner()
}
