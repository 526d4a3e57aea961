//! A job with state that is started with another plan: what it goes on with, what is made again
//! from the log, and what is refused.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod once;
mod program;
mod topics;

use once::{Place, expected, windows};
use program::{Running, program, run};

#[test]
fn an_operator_that_is_another_starts_empty_if_it_is_named_and_is_then_what_it_is() {
    let place = Place::new();
    place.write(0, 30);
    let running = place.start(&[]);
    place.wait_for(expected(20).len());
    drop(running);
    let refused = place.run(&["--catch-up", "--set", "size=5s"]);
    assert_eq!(refused.code, 3, "{}", refused.said());
    let says = ["--allow-empty window", "--rebuild"];
    assert!(
        says.iter().all(|part| refused.said().contains(part)),
        "{}",
        refused.said()
    );
    let wrong = place.run(&["--catch-up", "--set", "size=5s", "--allow-empty", "order"]);
    assert_eq!(wrong.code, 3, "{}", wrong.said());
    // What is open of the windows of ten seconds goes, and nothing comes of it later.
    let other = ["--set", "size=5s", "--allow-empty", "window"];
    let ended = place.run(&[&["--catch-up"], &other[..]].concat());
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(
        ended.said().contains("state: starts empty: window"),
        "{}",
        ended.said()
    );
    place.write(30, 60);
    let ended = place.run(&[&["--bounded"], &other[..]].concat());
    assert_eq!(ended.code, 0, "{}", ended.said());
    // It was named again, and goes on with what it has all the same.
    assert!(!ended.said().contains("starts empty"), "{}", ended.said());
    let seen = place.seen();
    let before = seen
        .iter()
        .filter(|line| line.contains("\"cnt\":10,"))
        .count();
    let after = seen
        .iter()
        .filter(|line| line.contains("\"cnt\":5,"))
        .count();
    assert!(before >= expected(20).len(), "{seen:?}");
    assert!(after >= 5 * 5, "{seen:?}");
    let beyond = |line: &&String| {
        let start = line.split("window_start\":").nth(1).unwrap();
        let start: i64 = start.split(',').next().unwrap().parse().unwrap();
        start >= 30_000
    };
    assert_eq!(seen.iter().filter(beyond).count(), 5 * 6, "{seen:?}");
}

#[test]
fn what_a_savepoint_has_of_an_operator_that_starts_empty_is_not_found_after_a_kill() {
    let place = Place::new();
    place.write(0, 45);
    let ended = place.run(&["--catch-up"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let save = ["checkpoint", "save", "state", "saved"];
    let told = run("anabranch", place.path(), &save);
    assert_eq!(told.code, 0, "{}", told.said());
    let saved = place.path().join("saved");
    let (other, size) = (place.beside(), ["--set", "size=5s"]);
    let begin = ["--from-savepoint", saved.to_str().unwrap()];
    let begin = [&begin[..], &size, &["--allow-empty", "window"]].concat();
    // Killed when its first checkpoint is committed, before there is any other.
    let mut command = program("bid_stats", other.path(), &other.arguments(&begin));
    command.env("ANABRANCH_CRASH_AT", "commit answered:1");
    assert_eq!(Running::start(&mut command).ended().code, 128 + 6);
    // The windows of ten seconds are still there: they have to be left behind by their name again.
    let refused = other.run(&[&size[..], &["--bounded"]].concat());
    assert_eq!(refused.code, 3, "{}", refused.said());
    place.write(45, 60);
    let ended = other.run(&[&begin[..], &["--bounded"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.said());
    let seen = other.seen();
    assert_eq!(seen.len(), 5 * 3, "{seen:?}");
    assert!(seen.iter().all(|it| it.contains("\"cnt\":5,")), "{seen:?}");
}

#[test]
fn another_window_is_made_from_the_log_and_what_was_visible_stays() {
    let place = Place::new();
    place.write(0, 30);
    let ended = place.run(&["--catch-up", "--workers", "2"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(20));
    place.write(30, 60);
    let other = ["--set", "size=5s"];
    let refused = place.run(&[&other[..], &["--catch-up"]].concat());
    assert_eq!(refused.code, 3, "{}", refused.said());
    // The job is killed when it has the state of the new window, and goes on with that.
    let running = place.start(&[&other[..], &["--rebuild", "--workers", "2"]].concat());
    // The cut is between 25 and 30: of the windows of five seconds, those that end behind it are
    // results; the last two are open.
    place.wait_for(expected(20).len() + 5 * 6);
    drop(running); // killed
    let ended = place.run(&[&other[..], &["--bounded", "--workers", "3"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(!ended.said().contains("state:"), "{}", ended.said());
    let mut due = [expected(20), windows(25, 60, 5)].concat();
    due.sort_unstable();
    assert_eq!(place.seen(), due);
}

#[test]
fn another_lag_goes_on_with_the_state_there_is() {
    let place = Place::new();
    place.write(0, 30);
    let ended = place.run(&["--catch-up"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    place.write(30, 60);
    let ended = place.run(&["--catch-up", "--set", "lag=15s"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(!ended.said().contains("state:"), "{}", ended.said());
    assert_eq!(place.seen(), expected(40));
    let ended = place.run(&["--bounded", "--set", "lag=1s"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(60));
}
