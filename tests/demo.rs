//! `anabranch demo` keeps what it shows: in a pseudo-terminal of several sizes, without one, with
//! each key and each way to end it.
//!
//! Caught here: a balance that does not add up at some moment; a key without effect; a picture that
//! breaks when the terminal is resized; colours where `NO_COLOR` forbids them; a terminal that is
//! left raw; an end without its proof; a job that is no process of its own or outlives the demo.
//! Everything is waited for with a deadline, and nothing by sleeping.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod terminal;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use terminal::{Terminal, kill, wait_gone};

const ANABRANCH: &str = env!("CARGO_BIN_EXE_anabranch");

/// A terminal of this size with a demo in it, that shows its first results' count line.
fn demo(columns: u16, rows: u16, arguments: &[&str], environment: &[(&str, &str)]) -> Terminal {
    let arguments = [&["demo", "--rate", "2000"], arguments].concat();
    let mut terminal = Terminal::start(ANABRANCH, columns, rows, &arguments, environment);
    terminal.wait("the balance", |screen| {
        balance(screen).is_some_and(|all| all[0] > 0)
    });
    terminal
}

/// What is on a screen, wherever its lines are broken.
fn flat(screen: &str) -> String {
    screen.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The numbers of the balance on a screen: read, used, duplicates, late, dead, held.
fn balance(screen: &str) -> Option<[u64; 6]> {
    let flat = flat(screen);
    let words = ["read ", "used ", "duplicates ", "late ", "dead ", "held "];
    let from = flat.rfind("read ")?;
    let mut rest = &flat[from..];
    let mut numbers = [0; 6];
    for (word, number) in words.iter().zip(&mut numbers) {
        rest = &rest[rest.find(word)? + word.len()..];
        let digits = rest.split(' ').next()?.replace(',', "");
        *number = digits.parse().ok()?;
    }
    Some(numbers)
}

/// The rate behind the balance on a screen.
fn rate(screen: &str) -> Option<u64> {
    let flat = flat(screen);
    let (before, _) = flat.split_once("/s watermark ")?;
    before.rsplit(' ').next()?.replace(',', "").parse().ok()
}

/// The count of results on a screen.
fn results(screen: &str) -> u64 {
    let flat = flat(screen);
    let count = flat.split_once(", the newest on top");
    let count = count.and_then(|(before, _)| before.rsplit(' ').next());
    count.map_or(0, |count| count.replace(',', "").parse().unwrap_or(0))
}

/// Asserts the end of a demo, and gives the count of results that were checked.
#[track_caller]
fn proven(text: &str) -> u64 {
    let all = balance(text).unwrap_or_else(|| panic!("no balance in: {text}"));
    assert_eq!(all[0], all[1..].iter().sum::<u64>(), "{text}");
    let checked = text
        .split("checked: ")
        .nth(1)
        .unwrap_or_else(|| panic!("no proof in: {text}"));
    assert!(
        checked.contains("results equal a plain recount of the log · digest "),
        "{text}"
    );
    let digest = checked
        .split("digest ")
        .nth(1)
        .unwrap()
        .split('…')
        .next()
        .unwrap();
    assert!(
        digest.len() == 16 && digest.chars().all(|c| c.is_ascii_hexdigit()),
        "{text}"
    );
    for command in [
        "anabranch broker --topic",
        "user_activity describe",
        "bid_stats --source",
    ] {
        assert!(text.contains(command), "`{command}` in: {text}");
    }
    let count = checked.split(' ').next().unwrap().replace(',', "");
    count.parse().unwrap()
}

/// Runs it without a terminal.
fn piped(arguments: &[&str]) -> Output {
    let mut command = Command::new(ANABRANCH);
    command
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("CARGO");
    command.output().unwrap()
}

#[test]
fn without_a_terminal_it_writes_lines_and_ends_with_the_proof() {
    let ended = piped(&["--rate", "3000", "--for", "3s"]);
    let out = String::from_utf8(ended.stdout).unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{out}\n{err}");
    assert!(err.is_empty(), "{err}");
    assert!(proven(&out) > 500, "{out}");
    let moments: Vec<_> = out
        .lines()
        .filter(|line| line.contains("watermark"))
        .collect();
    assert!((2..=4).contains(&moments.len()), "{out}");
    for line in moments {
        let all = balance(line).unwrap();
        assert_eq!(all[0], all[1..].iter().sum::<u64>(), "{line}");
        assert!(!line.contains("idle"), "{line}");
    }
    assert!(!out.contains('\u{1b}'), "{out}");
}

/// Columns and rows.
type Size = (u16, u16);

const SMALL: Size = (80, 24);
const WIDE: Size = (200, 60);

#[test]
fn every_moment_on_a_small_screen_balances_and_results_come() {
    every_moment_balances_and_results_come(SMALL);
}

#[test]
fn every_moment_on_a_wide_screen_balances_and_results_come() {
    every_moment_balances_and_results_come(WIDE);
}

fn every_moment_balances_and_results_come((columns, rows): Size) {
    let mut terminal = demo(columns, rows, &[], &[]);
    let mut moments = 0;
    terminal.wait("results", |screen| {
        if let Some(all) = balance(screen) {
            assert_eq!(all[0], all[1..].iter().sum::<u64>(), "{screen}");
            moments += 1;
        }
        let results = screen.matches(" events  ").count() == 8;
        // A busy machine shows fewer moments before there are results.
        moments > 10 && results && screen.contains("held by events[")
    });
    terminal.wait("a late record and a dead letter", |screen| {
        screen.contains("\nlate u-") && screen.contains("\ndead events[")
    });
    terminal.wait("a rate", |screen| rate(screen).is_some_and(|rate| rate > 0));
    let screen = flat(&terminal.screen());
    for part in [
        "Kafka on 127.0.0.1:",
        "kcat -b 127.0.0.1:",
        "windows of 5 s",
        " s behind)",
        " windows open, next closes ",
        "[q] quit",
    ] {
        assert!(screen.contains(part), "`{part}` in: {screen}");
    }
    terminal.press("q");
    proven(&terminal.ended(0));
}

#[test]
fn a_job_that_is_killed_goes_on_and_loses_nothing_on_a_small_screen() {
    a_job_that_is_killed_goes_on_and_loses_nothing(SMALL);
}

#[test]
fn a_job_that_is_killed_goes_on_and_loses_nothing_on_a_wide_screen() {
    a_job_that_is_killed_goes_on_and_loses_nothing(WIDE);
}

fn a_job_that_is_killed_goes_on_and_loses_nothing((columns, rows): Size) {
    let mut terminal = demo(columns, rows, &[], &[]);
    terminal.wait("results", |screen| screen.matches(" events  ").count() == 8);
    let recoveries = ["a first", "a second"].map(|checkpoint| {
        terminal.press("k");
        terminal.wait(checkpoint, |screen| {
            screen.contains("killed: another process goes on")
        });
        terminal.wait(checkpoint, |screen| {
            screen.contains("recovered from checkpoint ") && screen.contains(": 0 lost, 0 twice")
        });
        let took = recovery(&terminal.screen());
        let before = balance(&terminal.screen()).unwrap();
        terminal.wait("more records", |screen| {
            let all = balance(screen).unwrap();
            assert_eq!(all[0], all[1..].iter().sum::<u64>(), "{screen}");
            all[0] > before[0] + 1_000
        });
        took
    });
    terminal.press("q");
    assert!(proven(&terminal.ended(0)) > 100);
    // Other demos run beside it.
    let took = recoveries.into_iter().fold(f64::INFINITY, f64::min);
    assert!(took <= 1.0, "{recoveries:?} s");
}

/// How many seconds a recovery took: `recovered from checkpoint 41 in 0.5 s: …`.
fn recovery(screen: &str) -> f64 {
    let (_, said) = screen.split_once("recovered from checkpoint ").unwrap();
    said.split(' ').nth(2).unwrap().parse().unwrap()
}

#[test]
fn the_keys_have_their_effects_in_a_terminal_that_grows() {
    the_keys_have_their_effects(SMALL, WIDE);
}

#[test]
fn the_keys_have_their_effects_in_a_terminal_that_shrinks() {
    the_keys_have_their_effects(WIDE, SMALL);
}

/// In a terminal of this size, which is resized while a partition is paused.
fn the_keys_have_their_effects((columns, rows): Size, then: Size) {
    let mut terminal = demo(columns, rows, &[], &[]);
    let shows = |terminal: &mut Terminal, what: &str, part: &str| {
        terminal.wait(what, |screen| flat(screen).contains(part));
    };
    terminal.press("l");
    shows(&mut terminal, "the late event", "late you by ");
    terminal.press("r");
    shows(&mut terminal, "the other rate", "[r] rate 5,000/s");
    terminal.press("p");
    shows(&mut terminal, "the pause", "[p] resume events[2] (");
    terminal.resize(then.0, then.1);
    terminal.wait("the other size", |screen| {
        last(screen).ends_with("quit") && balance(screen).is_some()
    });
    let holds = "held by events[2] (no data for ";
    shows(&mut terminal, "who holds the watermark", holds);
    terminal.wait("the idle rule", |screen| {
        let flat = flat(screen);
        flat.contains("events[2] idle, holds nothing") && !flat.contains("held by events[2]")
    });
    // What has closed meanwhile is late when the partition is back.
    let before = results(&terminal.screen());
    terminal.wait("results without it", |screen| results(screen) > before);
    terminal.press("p");
    let silent = "its partition had been silent";
    shows(&mut terminal, "the idle records", silent);
    terminal.wait("the partition that is read again", |screen| {
        !flat(screen).contains(" idle, holds")
    });
    shows(&mut terminal, "the keys as before", "[p] pause a partition");
    terminal.press("q");
    proven(&terminal.ended(0));
}

#[test]
fn a_terminal_may_be_resized_and_small() {
    let mut terminal = demo(80, 24, &[], &[]);
    terminal.wait("the keys at the end", |screen| {
        last(screen).contains("[q] quit")
    });
    terminal.resize(200, 60);
    terminal.wait("the wide picture", |screen| {
        let title = screen.lines().next().unwrap_or_default();
        title.ends_with("-t user-activity)")
            && screen.lines().count() == 60
            && last(screen).starts_with("[l] send")
    });
    terminal.resize(30, 6);
    terminal.wait("the small picture", |screen| {
        screen.lines().all(|line| line.chars().count() <= 30) && last(screen).contains("[q] quit")
    });
    terminal.resize(80, 24);
    terminal.wait("the first picture", |screen| {
        screen.starts_with("anabranch demo · user_activity · 2 workers · Kafka on")
            && balance(screen).is_some()
            && last(screen).contains("[q] quit")
    });
    terminal.press("\u{1b}");
    proven(&terminal.ended(0));
}

#[test]
fn the_first_picture_comes_at_once() {
    let starts = (0..3).map(|_| {
        let since = terminal::now();
        let mut terminal = Terminal::start(ANABRANCH, 80, 24, &["demo"], &[]);
        terminal.wait("the first picture", |screen| balance(screen).is_some());
        let took = since.elapsed();
        terminal.press("q");
        proven(&terminal.ended(0));
        took
    });
    let took = starts.min().unwrap();
    // Less than a second on a machine with nothing else to do; here other demos run beside it.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn colours_are_shown_unless_they_are_unwanted() {
    let mut coloured = demo(80, 24, &[], &[]);
    assert!(coloured.ever_coloured());
    coloured.press("\u{3}"); // Ctrl-C is a key of a raw terminal
    proven(&coloured.ended(0));
    for (columns, rows) in [(80, 24), (200, 60)] {
        let mut plain = demo(columns, rows, &[], &[("NO_COLOR", "1")]);
        plain.press("l");
        plain.wait("the late event", |screen| screen.contains("late you by "));
        assert!(!plain.ever_coloured(), "{columns} × {rows}");
        plain.press("q");
        proven(&plain.ended(0));
    }
}

#[test]
fn a_signal_or_the_time_ends_it_well_and_restores_the_terminal() {
    for signal in ["TERM", "INT", "HUP"] {
        let terminal = demo(80, 24, &[], &[]);
        kill(signal, terminal.process());
        proven(&terminal.ended(0));
    }
    let timed = demo(80, 24, &["--for", "2s"], &[]);
    proven(&timed.ended(0));
}

#[test]
fn the_job_is_a_process_of_its_own_and_its_death_is_told() {
    let terminal = demo(80, 24, &[], &[]);
    let job = terminal.child();
    kill("KILL", job);
    let text = terminal.ended(1);
    assert!(
        text.contains("error: the job's process ended (signal: 9 (SIGKILL))"),
        "{text}"
    );
    assert!(!text.contains("checked:"), "{text}");
}

#[test]
fn the_job_ends_when_the_demo_dies() {
    let terminal = demo(80, 24, &[], &[]);
    let job = terminal.child();
    kill("KILL", terminal.process());
    wait_gone(job);
}

#[test]
fn wrong_arguments_are_told() {
    for (arguments, says) in [
        (["--for", "soon"], "a duration such as 20s"),
        (["--rate", "0"], "1..=200000"),
    ] {
        let ended = piped(&arguments);
        let err = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{err}");
        assert!(err.contains(says), "{err}");
    }
    let help = piped(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.contains("Examples:") && !help.contains("run-user-activity"),
        "{help}"
    );
    assert!(
        help.lines().all(|line| line.chars().count() <= 100),
        "{help}"
    );
}

fn last(screen: &str) -> &str {
    screen.lines().last().unwrap_or_default()
}

#[test]
fn the_next_commands_do_what_they_say() {
    let ended = Command::new(ANABRANCH)
        .args(["demo", "--for", "1s", "--rate", "100"])
        .env("CARGO", "cargo")
        .output()
        .unwrap();
    let out = String::from_utf8(ended.stdout).unwrap();
    for command in [
        "-- broker --topic",
        "--bin user_activity -- describe",
        "--bin bid_stats --",
    ] {
        let spelled = format!("cargo run -q --release {command}");
        assert!(out.contains(&spelled), "{out}");
    }
    // The last of them, with the binary that cargo would run.
    let (_, pasted) = out.split_once("  echo ").unwrap();
    let pasted = pasted.replace(
        "cargo run -q --release --bin bid_stats --",
        env!("CARGO_BIN_EXE_bid_stats"),
    );
    let ran = Command::new("sh")
        .args(["-c", &format!("echo {pasted}")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    let result = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    let expected = r#"{"auction":1,"window_start":0,"cnt":1,"#;
    assert!(result.starts_with(expected), "{result} {said}");
}
