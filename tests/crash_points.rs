//! The process ends at each place that the code names, the first, second and third time that it
//! comes there, with one and two workers; and what is left, with what the next run adds, is what
//! one run leaves. So it is when it ends while it makes its state again from the log: until that is
//! committed the state that there was is still there, and may be gone on with.

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

/// Runs a job until it ends at `place`; returns whether it did.
fn crash(place: &Place, name: &str, hit: u32, workers: &str) -> bool {
    let mut command = program(
        "bid_stats",
        place.path(),
        &place.arguments(&["-w", workers]),
    );
    command.env(CRASH_AT, format!("{name}:{hit}"));
    // Before the job is there: then results are on their way at its first checkpoints.
    place.write(0, 30);
    let mut running = Running::start(&mut command);
    for second in [30_i64, 60, 90, 120] {
        // Its results, or its end.
        if !place.wait_while(expected(second - 10).len(), || running.is_running()) {
            break;
        }
        place.write(second, (second + 30).min(120));
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
    let place = Place::new();
    let crashed = crash(&place, name, hit, workers);
    assert!(crashed || hit > 1, "it never came to `{name}`");
    place.write_missing(120);
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{name}:{hit}: {}", ended.said());
    assert_eq!(
        place.seen(),
        expected(120),
        "{name}:{hit}, {workers} workers"
    );
    crashed
}

/// Ends a process at `name` that makes its state again, and goes on with what there was or is.
fn hold_rebuild(name: &str, hit: u32, workers: &str) -> bool {
    let place = Place::new();
    place.write(0, 60);
    let caught_up = place.run(&["--catch-up"]);
    assert_eq!(caught_up.code, 0, "{}", caught_up.said());
    place.write(60, 120);
    let arguments = ["--rebuild", "--catch-up", "-w", workers];
    let mut command = program("bid_stats", place.path(), &place.arguments(&arguments));
    command.env(CRASH_AT, format!("{name}:{hit}"));
    let rebuilt = Running::start(&mut command).ended_with_open_input();
    let crashed = rebuilt.code == 128 + 6;
    assert!(crashed || rebuilt.code == 0, "{}", rebuilt.said());
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{name}:{hit}: {}", ended.said());
    let what = format!("rebuild, {name}:{hit}, {workers} workers");
    assert_eq!(place.seen(), expected(120), "{what}");
    crashed
}

#[test]
fn whatever_was_on_its_way_is_there_once() {
    // A job that writes files comes to those of outputs: `tests/exactly_once_files.rs`.
    let mut places = places(|_| false);
    places.retain(|name| !name.starts_with("output"));
    assert!(places.len() >= 10, "{places:?}");
    let ends = count(&places, hold);
    let most = 6 * places.len();
    assert!(ends >= most / 2, "only {ends} ends of {most}");
}

#[test]
fn what_there_was_stays_until_it_is_made_again() {
    let places = places(|_| false);
    let ends = count(&places, hold_rebuild);
    let most = 6 * places.len();
    assert!(ends >= most / 2, "only {ends} ends of {most}");
}

/// How often `hold` comes to a place, of six times each.
fn count(places: &BTreeSet<String>, hold: fn(&str, u32, &str) -> bool) -> usize {
    let cases = places.iter().flat_map(|name| {
        let hits = [(1, "1"), (2, "2"), (3, "1"), (1, "2"), (2, "1"), (3, "2")];
        hits.map(|(hit, workers)| (name, hit, workers))
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
