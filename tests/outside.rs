//! What goes wrong outside of a job (files, disks, pipes, terminals) ends it with the right code,
//! one line that names the thing, and no half output under its final name.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use program::{DEADLINE, Running, bid, names, program, run};
use tempfile::{TempDir, tempdir};

/// A folder with so many bids, each in a window of its own.
fn folder(bids: i64) -> TempDir {
    let folder = tempdir().unwrap();
    let lines: String = (0..bids).map(|n| bid(1, n, n * 10_000)).collect();
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    folder
}

fn to<'a>(stats: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let bound = "--source bids=file:bids.jsonl --sink late=null: --sink dead=null: --sink";
    bound
        .split(' ')
        .chain([stats])
        .chain(more.iter().copied())
        .collect()
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], says: &[&str]) {
    let ended = run("bid_stats", folder, arguments);
    assert_eq!(ended.code, 1, "{arguments:?}: {}", ended.said());
    let last = ended.err.last().unwrap();
    for part in [&["error: "], says].concat() {
        assert!(last.contains(part), "`{part}` in: {last}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = folder(3);
    let at = folder.path();
    symlink("loop.jsonl", at.join("loop.jsonl")).unwrap();
    fs::create_dir(at.join("some")).unwrap();
    fs::copy(at.join("bids.jsonl"), at.join("some/a.jsonl")).unwrap();
    symlink("b.jsonl", at.join("some/b.jsonl")).unwrap();
    let closed = at.join("closed.jsonl");
    fs::write(&closed, "").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    let mut cases = vec![
        ("bids=file:loop.jsonl", ["`loop.jsonl`", "Too many levels"]),
        (
            "bids=file:bids.jsonl/x",
            ["`bids.jsonl/x`", "Not a directory"],
        ),
        ("bids=file:some", ["`some/b.jsonl`", "Too many levels"]),
    ];
    // Root may read everything.
    if File::open(&closed).is_err() {
        cases.push((
            "bids=file:closed.jsonl",
            ["`closed.jsonl`", "Permission denied"],
        ));
    }
    for (source, says) in cases {
        refused(at, &["--source", source, "--output-dir", "out"], &says);
    }
    assert!(!at.join("out").exists());
}

#[test]
fn a_full_disk_ends_with_1_and_leaves_what_was_there() {
    let folder = folder(5_000);
    let at = folder.path();
    refused(
        at,
        &to("stats=file:/dev/full", &[]),
        &["`/dev/full`", "No space left"],
    );
    refused(
        at,
        &to("stats=file:gone/stats.jsonl", &[]),
        &["`gone`", "`gone/stats.jsonl`"],
    );
    // A file may grow to 8 blocks and no further.
    fs::write(at.join("stats.jsonl"), "before\n").unwrap();
    let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    for place in ["stats.jsonl", "parts/"] {
        let sink = format!("stats=file:{place}");
        let whole = program("bid_stats", at, &to(&sink, &["-w", "1"]));
        let mut command = Command::new("sh");
        command
            .args(["-c", limited])
            .arg(whole.get_program())
            .args(whole.get_args());
        let ended = Running::start(command.current_dir(at)).ended();
        assert_eq!(ended.code, 1, "{}", ended.said());
        let last = ended.err.last().unwrap();
        assert!(
            last.contains(place) && last.contains("File too large"),
            "{last}"
        );
    }
    assert_eq!(
        fs::read_to_string(at.join("stats.jsonl")).unwrap(),
        "before\n"
    );
    let left: Vec<_> = names(at)
        .into_iter()
        .filter(|name| name != "parts")
        .collect();
    assert_eq!(left, ["bids.jsonl", "stats.jsonl"]);
    let parts = at.join("parts");
    assert!(
        !parts.exists() || names(&parts).is_empty(),
        "{:?}",
        names(&parts)
    );
}

#[test]
fn what_is_read_is_never_written() {
    let folder = folder(3);
    let at = folder.path();
    let part = "in/part-000-0000000000.jsonl";
    fs::create_dir(at.join("in")).unwrap();
    fs::copy(at.join("bids.jsonl"), at.join(part)).unwrap();
    let before = fs::read(at.join(part)).unwrap();
    let file = format!("file:{part}");
    for (source, stats) in [
        (file.as_str(), "file:in/"),
        (&file, &file),
        ("file:in", &file),
        ("file:in", "file:in/"),
        ("file:in", "file:in/../in/stats.jsonl.gz"),
    ] {
        let (source, stats) = (format!("bids={source}"), format!("stats={stats}"));
        let flags = "--overwrite --sink late=null: --sink dead=null: --source";
        let flags: Vec<_> = flags
            .split(' ')
            .chain([&*source, "--sink", &stats])
            .collect();
        let ended = run("bid_stats", at, &flags);
        assert_eq!(ended.code, 2, "{source} {stats}: {}", ended.said());
        assert!(ended.said().contains("bound to a sink") || ended.said().contains("to a source"));
        assert_eq!(fs::read(at.join(part)).unwrap(), before);
    }
    // A file that no source would take is in nobody's way.
    let beside = "--source bids=file:in --sink stats=file:in/stats --sink late=null: \
                  --sink dead=null:";
    let beside: Vec<_> = beside.split_whitespace().collect();
    assert_eq!(run("bid_stats", at, &beside).code, 0);
}

#[test]
fn overwriting_a_folder_replaces_its_parts_when_the_run_is_done_and_not_before() {
    let folder = folder(3);
    let at = folder.path();
    let parts = to("stats=file:parts/", &["-w", "3"]);
    assert_eq!(run("bid_stats", at, &parts).code, 0);
    let content = || -> Vec<_> {
        let place = at.join("parts");
        let read = |name: &String| fs::read_to_string(place.join(name)).unwrap();
        names(&place).iter().map(read).collect()
    };
    fs::write(at.join("parts/part-077-0000000000.jsonl"), "old\n").unwrap();
    fs::write(at.join("parts/notes.txt"), "kept\n").unwrap();
    let before = content();
    let over = [&parts[..], &["--overwrite"]].concat();
    fs::write(at.join("bids.jsonl"), bid(1, 1, 1) + "?\n").unwrap();
    let failed = run("bid_stats", at, &[&over[..], &["--max-dead", "0"]].concat());
    assert_eq!((failed.code, content()), (5, before), "{}", failed.said());
    assert_eq!(run("bid_stats", at, &over).code, 0);
    let after = content().concat();
    assert!(after.contains("kept") && !after.contains("old"), "{after}");
    assert_eq!(after.matches("auction").count(), 1, "{after}");
    // Nothing but another file is not empty either.
    fs::create_dir(at.join("other")).unwrap();
    fs::write(at.join("other/notes.txt"), "").unwrap();
    let other = run("bid_stats", at, &to("stats=file:other/", &[]));
    assert_eq!(other.code, 2, "{}", other.said());
    assert!(
        other.said().contains("`other/` is not empty"),
        "{}",
        other.said()
    );
}

#[test]
fn a_limit_of_dead_letters_is_a_number_a_share_or_off_in_every_layer() {
    let folder = folder(3);
    let at = folder.path();
    fs::write(
        at.join("bids.jsonl"),
        bid(1, 1, 1).repeat(97) + &"?\n".repeat(3),
    )
    .unwrap();
    let limited = |variable: Option<&str>, file: &str, flags: &[&str]| {
        fs::write(at.join("c.toml"), file).unwrap();
        let mut command = program("bid_stats", at, &to("stats=null:", flags));
        command.args(["--config", "c.toml"]);
        command.envs(variable.map(|limit| ("ANABRANCH_MAX_DEAD", limit)));
        let ended = Running::start(&mut command).ended();
        let quoted = ended
            .said()
            .contains("the first is bids: bids.jsonl: line 98");
        assert!(ended.code != 5 || quoted, "{}", ended.said());
        ended.code
    };
    assert_eq!(limited(None, "max-dead = 2", &[]), 5);
    assert_eq!(limited(None, "max-dead = 3", &[]), 0);
    assert_eq!(limited(None, "max-dead = \"2.9%\"", &[]), 5);
    assert_eq!(limited(None, "max-dead = \"3%\"", &[]), 0);
    assert_eq!(limited(Some("2"), "max-dead = \"off\"", &[]), 5);
    assert_eq!(limited(Some("2"), "", &["--max-dead=off"]), 0);
    assert_eq!(limited(Some("off"), "", &["--max-dead=0%"]), 5);
    for wrong in ["-1", "3 %", "1e3", "100.1%", "NaN%", "%", ""] {
        let flag = format!("--max-dead={wrong}");
        assert_eq!(limited(None, "", &[&flag]), 2, "{flag}");
    }
}

/// Runs a program with its standard output at `/dev/full`.
#[track_caller]
fn onto_full(name: &str, folder: &Path, arguments: &[&str]) {
    let mut command = program(name, folder, arguments);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = command.stdin(Stdio::null()).stdout(full).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("error: stdout: No space left"),
        "{arguments:?}: {last}"
    );
}

#[test]
fn standard_output_on_a_full_disk_ends_with_1() {
    let folder = folder(10);
    onto_full("bid_stats", folder.path(), &to("stats=-", &[]));
    onto_full("bid_stats", folder.path(), &["describe"]);
    onto_full("bid_stats", folder.path(), &["--help"]);
    onto_full("anabranch", folder.path(), &["digest", "bids.jsonl"]);
}

/// Runs a program whose reader takes one byte and leaves, as `head` does.
#[track_caller]
fn into_head(name: &str, folder: &Path, arguments: &[&str]) -> String {
    let mut running = Running::start_unread(&mut program(name, folder, arguments));
    let mut out = running.take_out();
    out.read_exact(&mut [0; 1]).unwrap();
    drop(out);
    let ended = running.ended();
    assert_eq!(ended.code, 1, "{}", ended.said());
    ended.said()
}

#[test]
fn a_pipe_that_is_closed_ends_a_run_with_1() {
    // Far more than a pipe holds.
    let folder = folder(20_000);
    let said = into_head("bid_stats", folder.path(), &to("stats=-", &[]));
    assert!(said.contains("stdout: closed pipe"), "{said}");
    // Whoever closes stderr does not want to hear it, and gets the data.
    let mut command = program("bid_stats", folder.path(), &to("stats=-", &["-vv"]));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = command
        .stdin(Stdio::null())
        .stderr(writer)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let lines = String::from_utf8(ended.stdout).unwrap().lines().count();
    assert_eq!(lines, 20_000);
}

/// A stream whose results nobody takes, with far more of them under way than a pipe holds.
fn stuck_stream(folder: &Path) -> Running {
    let arguments = "--source bids=- --sink stats=- --sink late=null: --sink dead=null:";
    let arguments: Vec<_> = arguments.split(' ').collect();
    let mut running = Running::start_unread(&mut program("bid_stats", folder, &arguments));
    let mut input = running.take_input();
    let (tell, fed) = channel();
    thread::spawn(move || {
        for n in 0.. {
            // Each in a window of its own.
            if input.write_all(bid(1, n, n * 10_000).as_bytes()).is_err() {
                return; // it has ended
            }
            if n == 20_000 {
                tell.send(()).unwrap();
            }
        }
    });
    fed.recv_timeout(DEADLINE).expect("it reads");
    running
}

#[test]
fn a_stream_that_is_stuck_ends_in_time_after_a_signal() {
    let folder = tempdir().unwrap();
    let mut running = stuck_stream(folder.path());
    let _unread = running.take_out();
    running.signal("TERM");
    let since = now();
    let ended = running.ended_with_open_input();
    let took = since.elapsed();
    assert_eq!(ended.code, 1, "{}", ended.said());
    assert!(
        ended.said().contains("results were not all taken"),
        "{}",
        ended.said()
    );
    // Ten seconds are promised; the rest is for a machine with more to do.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_second_signal_ends_a_stream_at_once() {
    let folder = tempdir().unwrap();
    let mut running = stuck_stream(folder.path());
    let _unread = running.take_out();
    // Two of a kind could be seen as one.
    running.signal("TERM");
    running.signal("INT");
    let since = now();
    let ended = running.ended_with_open_input();
    let took = since.elapsed();
    assert!([130, 143].contains(&ended.code), "{ended:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[expect(clippy::disallowed_methods, reason = "a test of how long it takes")]
fn now() -> Instant {
    Instant::now()
}

/// What a run that warns shows on a terminal.
fn on_a_terminal(folder: &Path, variables: &[(&str, &str)], more: &[&str]) -> String {
    let whole = program("bid_stats", folder, &to("stats=null:", more));
    let words: Vec<_> = [whole.get_program()]
        .into_iter()
        .chain(whole.get_args())
        .collect();
    let line: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
    let mut command = Command::new("script");
    command
        .args(["-qec", &line.join(" "), "/dev/null"])
        .current_dir(folder);
    command
        .env_remove("NO_COLOR")
        .env("ANABRANCH_X", "1")
        .envs(variables.iter().copied());
    let ended = Running::start(&mut command).ended();
    assert_eq!(ended.code, 0, "{:?}", ended.out);
    let said = ended.out.join("\n");
    assert!(said.contains("ANABRANCH_X"), "{said}");
    said
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let folder = folder(3);
    let yellow = "\x1b[33m";
    let said = on_a_terminal(folder.path(), &[], &[]);
    assert!(said.contains(yellow), "{said:?}");
    let said = on_a_terminal(folder.path(), &[("NO_COLOR", "1")], &[]);
    assert!(!said.contains(yellow), "{said:?}");
    assert!(on_a_terminal(folder.path(), &[("NO_COLOR", "")], &[]).contains(yellow));
    let said = on_a_terminal(folder.path(), &[], &["--log-format", "json"]);
    assert!(!said.contains('\x1b'), "{said:?}");
    let mut command = program("bid_stats", folder.path(), &to("stats=null:", &[]));
    let piped = Running::start(command.env("ANABRANCH_X", "1"))
        .ended()
        .said();
    assert!(
        piped.contains("ANABRANCH_X") && !piped.contains('\x1b'),
        "{piped:?}"
    );
}
