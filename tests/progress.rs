//! The progress of a run on a terminal is one line, written anew each second, of what is at work.
//!
//! Caught here: a line that is left behind, in the middle or at the end; a run that is told of when
//! it has ended.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod once;
mod program;
mod terminal;
mod topics;

use std::fs;

use once::Place;
use terminal::{Terminal, kill};

const BID_STATS: &str = env!("CARGO_BIN_EXE_bid_stats");
/// How a line is written anew.
const ANEW: &str = "\r\u{1b}[K";

#[test]
fn a_terminal_has_one_line_that_is_written_anew() {
    let bound = "--source bids=- --sink stats=null: --sink late=null: --sink dead=null:";
    let arguments: Vec<_> = bound.split(' ').collect();
    let mut terminal = Terminal::start(BID_STATS, 120, 24, &arguments, &[]);
    // Of the last one something is on the screen.
    terminal.wait_written(&format!("{ANEW}0/s · read 0 · watermark"), 3);
    let screen = terminal.screen();
    assert_eq!(screen.matches("/s · read 0").count(), 1, "{screen}");
    kill("INT", terminal.process());
    let all = terminal.closed(0);
    let (_, end) = all.rsplit_once(ANEW).unwrap();
    assert!(end.starts_with("read 0 = used 0"), "{end:?}");
}

#[test]
fn when_the_log_was_read_again_nothing_more_is_told_of_that() {
    let place = Place::new();
    place.write(0, 40);
    let ended = place.run(&["--catch-up"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let state = place.path().join("state");
    fs::remove_dir_all(&state).unwrap();
    let state = state.to_str().unwrap();
    let arguments = place.arguments(&["--rebuild"]).into_iter();
    let arguments: Vec<_> = arguments
        .map(|one| if one == "state" { state } else { one })
        .collect();
    let mut terminal = Terminal::start(BID_STATS, 120, 24, &arguments, &[]);
    place.write(40, 41);
    // The 200 records before were read again.
    terminal.wait_written("/s · read 5 · ", 1);
    let before = terminal.written();
    terminal.wait_written(ANEW, before.matches(ANEW).count() + 4);
    let behind = &terminal.written()[before.len()..];
    assert!(!behind.contains("read 200 "), "{behind:?}");
    kill("INT", terminal.process());
    terminal.closed(0);
}
