//! Help, for those who ask and for those who mistype: every command of every binary is rendered.
//!
//! `docs/running.md` quotes the help of every command; `BLESS=1 cargo test --test help` writes it
//! there again.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::fs;
use std::path::Path;

use program::run;

const BINARIES: [&str; 3] = ["anabranch", "bid_stats", "user_activity"];

fn help(binary: &str, command: &[&str], flag: &str) -> Vec<String> {
    let ended = run(binary, Path::new("."), &[command, &[flag]].concat());
    assert_eq!(
        (ended.code, ended.err.len()),
        (0, 0),
        "{binary} {command:?}: {}",
        ended.said()
    );
    ended.out
}

/// The commands that a help lists, without `help` itself.
fn commands(help: &[String]) -> Vec<String> {
    let list = help.iter().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    let entries = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = entries.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// A binary and each command of it, with its help; the binary itself too.
fn all(binary: &str) -> Vec<(String, Vec<String>)> {
    below(binary, &[])
}

fn below(binary: &str, command: &[&str]) -> Vec<(String, Vec<String>)> {
    let own = help(binary, command, "--help");
    let names = commands(&own);
    let mut all = vec![([&[binary], command].concat().join(" "), own)];
    for name in &names {
        all.extend(below(binary, &[command, &[name]].concat()));
    }
    all
}

#[test]
fn every_help_fits_100_columns_and_shows_an_example() {
    let mut seen = Vec::new();
    for binary in BINARIES {
        for (name, text) in all(binary) {
            for line in &text {
                assert!(line.chars().count() <= 100, "{name}: {line}");
            }
            let example = text.iter().position(|line| line.starts_with("Example"));
            let example = example.unwrap_or_else(|| panic!("{name} shows no example"));
            let shown = &text[example + 1..];
            let own = |line: &String| line.trim_start().starts_with(binary);
            assert!(
                !shown.is_empty() && shown.iter().all(own),
                "{name}: {shown:?}"
            );
            seen.push(name);
        }
        let version = run(binary, Path::new("."), &["--version"]);
        let line = format!("{binary} {}", env!("CARGO_PKG_VERSION"));
        assert_eq!((version.code, version.out), (0, vec![line]));
    }
    for known in [
        "anabranch demo",
        "anabranch checkpoint verify",
        "anabranch digest",
        "bid_stats describe",
        "user_activity run",
    ] {
        assert!(seen.iter().any(|name| name == known), "{known} in {seen:?}");
    }
}

/// Binary, arguments, and what the answer says.
const MISTYPED: &[(&str, &[&str], &str)] = &[
    (
        "bid_stats",
        &["--sorce", "bids=-"],
        "`--sorce` (did you mean `--source`?)",
    ),
    (
        "bid_stats",
        &["run", "--worker", "2"],
        "(did you mean `--workers`?)",
    ),
    (
        "bid_stats",
        &["descrbe"],
        "unknown command `descrbe` (did you mean `describe`?)",
    ),
    (
        "bid_stats",
        &["describe", "--outptu=json"],
        "(did you mean `--output`?)",
    ),
    (
        "bid_stats",
        &["describe", "-o", "jsno"],
        "`jsno` (did you mean `json`?)",
    ),
    (
        "bid_stats",
        &["--source", "bids=flie:x", "--output-dir=."],
        "(did you mean `file`?)",
    ),
    (
        "anabranch",
        &["diges", "x"],
        "unknown command `diges` (did you mean `digest`?)",
    ),
    (
        "anabranch",
        &["checkpoint", "verfy", "x"],
        "unknown command `verfy` (did you mean `verify`?)",
    ),
    (
        "anabranch",
        &["demo", "--rat", "2"],
        "(did you mean `--rate`?)",
    ),
    ("bid_stats", &["--zzz"], "unknown flag `--zzz`"),
    ("bid_stats", &["--workers"], "--workers: a value is missing"),
    (
        "bid_stats",
        &["--workers", "x"],
        "--workers: invalid digit found in string, found `x`",
    ),
    ("anabranch", &["digest"], "<PATH|kafka:TOPIC>"),
];

#[test]
fn what_is_mistyped_is_answered_with_the_nearest_name() {
    for (binary, arguments, says) in MISTYPED {
        let ended = run(binary, Path::new("."), arguments);
        assert_eq!(
            (ended.code, ended.err.len()),
            (2, 1),
            "{arguments:?}: {}",
            ended.said()
        );
        assert!(
            ended.said().contains(says),
            "{arguments:?}: `{says}` in: {}",
            ended.said()
        );
        assert!(ended.out.is_empty());
    }
    // Without anything to do, help is the answer, but not the data.
    let nothing = run("anabranch", Path::new("."), &[]);
    assert_eq!((nothing.code, nothing.out.len()), (2, 0));
    assert!(nothing.said().contains("Usage: anabranch <COMMAND>"));
}

const BEGIN: &str = "<!-- help: from here on written by `BLESS=1 cargo test --test help` -->\n";

#[test]
fn the_documentation_quotes_every_help() {
    let path = Path::new("docs/running.md");
    let text = fs::read_to_string(path).unwrap();
    let (own, quoted) = text.split_once(BEGIN).expect("where the helps begin");
    let mut lines = Vec::new();
    for (name, help) in ["bid_stats", "anabranch"].into_iter().flat_map(all) {
        // Without a command it says what `run` says.
        if name != "bid_stats" {
            lines.extend([String::new(), format!("### `{name}`"), String::new()]);
            lines.push("```text".to_owned());
            lines.extend(help.iter().map(|line| line.trim_end().to_owned()));
            lines.push("```".to_owned());
        }
    }
    let expected = lines.join("\n") + "\n";
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, format!("{own}{BEGIN}{expected}")).unwrap();
    } else {
        let hint = "docs/running.md is not what --help says: BLESS=1 cargo test --test help";
        assert!(quoted == expected, "{hint}");
    }
}
