//! The job binaries keep what their command line promises: exit codes, messages, streams, signals.
//!
//! Caught here: a wrong exit code; a message that does not name the thing or what to do; data among
//! diagnostics; a half output under its final name; a signal that loses or invents results.
//! Everything is waited for with a deadline, and nothing by sleeping.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;
#[cfg(all(feature = "kafka", feature = "dev-broker"))]
mod topics;
#[cfg(all(feature = "kafka", feature = "dev-broker"))]
#[path = "cli/with_kafka.rs"]
mod with_kafka;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use program::{DEADLINE, Ended, Running, bid, names, program, run};
use tempfile::{TempDir, tempdir};

/// A folder with `bids.jsonl`: 5 bids on one auction, in the windows from 0 and 10,000.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    let lines: String = (0..5).map(|n| bid(1, n, n * 4_000)).collect();
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    folder
}

const STATS: [&str; 2] = [
    r#"{"auction":1,"window_start":0,"cnt":3,"sum_price":3,"max_price":2}"#,
    r#"{"auction":1,"window_start":10000,"cnt":2,"sum_price":7,"max_price":4}"#,
];

/// The arguments of a run over `bids.jsonl` to standard output, and `more`.
fn to_stdout<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let bound = "--source bids=file:bids.jsonl --sink stats=- --sink late=null: --sink dead=null:";
    bound.split(' ').chain(more.iter().copied()).collect()
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], code: i32, says: &[&str]) {
    let ended = run("bid_stats", folder, arguments);
    let said = ended.said();
    assert_eq!(ended.code, code, "{arguments:?}: {said}");
    for part in says {
        assert!(said.contains(part), "{arguments:?}: `{part}` in: {said}");
    }
    assert!(ended.out.is_empty(), "{arguments:?}: {:?}", ended.out);
}

#[test]
fn wrong_usage_ends_with_2_and_names_what_is_meant() {
    let folder = folder();
    let cases: [(&[&str], &[&str]); 15] = [
        (&["--sorce", "bids=-"], &["--sorce", "--source"]),
        (&["--source", "bids"], &["--source", "KEY=VALUE"]),
        (&["--source", "bidz=-"], &["`bidz`", "did you mean `bids`?"]),
        (
            &["--sink", "stat=-"],
            &["sink `stat`", "did you mean `stats`?"],
        ),
        (
            &["--set", "sise=5s"],
            &["`sise`", "did you mean `size`?", "--help"],
        ),
        (
            &["--set", "size=fast"],
            &["`size`", "a duration such as", "`fast`"],
        ),
        (&["--set", "size=0s"], &["at least 1ms"]),
        (
            &["--set", "timestamp_unit=h"],
            &["`timestamp-unit`", "s, ms, us, ns or auto"],
        ),
        (&["--workers", "0"], &["workers", "1 to 256"]),
        (
            &["--max-dead", "some"],
            &["--max-dead", "a percentage such as 5%"],
        ),
        (
            &["--idle-timeout", "5"],
            &["--idle-timeout", "10s", "or off"],
        ),
        (&["--start", "never"], &["earliest, latest"]),
        (
            &["--guarantee", "exactly-once"],
            &["exactly-once", "needs --state-dir DIR"],
        ),
        (
            &["--guarantee", "perhaps"],
            &["--guarantee", "exactly-once or at-least-once"],
        ),
        (
            &["--state-dir", "state", "--sink", "stats=-"],
            &["stdout", "exactly-once takes kafka:TOPIC, file:"],
        ),
    ];
    for (arguments, says) in cases {
        let bound = ["--source", "bids=file:bids.jsonl"];
        let given = arguments.contains(&"--source");
        let bound = if given { &bound[..0] } else { &bound[..] };
        let all = [&["--output-dir", "."], bound, arguments].concat();
        refused(folder.path(), &all, 2, says);
    }
    assert_eq!(names(folder.path()), ["bids.jsonl"]);
}

#[test]
fn every_port_is_bound_once_and_to_a_place_of_its_own() {
    let folder = folder();
    let source = ["--source", "bids=file:bids.jsonl"];
    let unbound = "--sink stats=URI --sink late=URI --sink dead=URI";
    refused(folder.path(), &source, 2, &[unbound, "--output-dir DIR"]);
    let sinks = [
        "--sink",
        "stats=file:a",
        "--sink",
        "late=file:a",
        "--sink",
        "dead=-",
    ];
    let shared = [&source[..], &sinks].concat();
    refused(folder.path(), &shared, 2, &["two sinks", "file:a"]);
    let twice = to_stdout(&["--sink", "stats=null:"]);
    refused(folder.path(), &twice, 2, &["`stats`", "twice"]);
    for (uri, says) in [
        ("ftp:bids", "file:PATH, kafka:TOPIC or -"),
        ("file:", "file:PATH, kafka:TOPIC or -"),
        ("bids.jsonl", "SCHEME:PATH or -"),
    ] {
        let bound = format!("bids={uri}");
        let unknown = ["--source", &bound, "--output-dir", "."];
        refused(folder.path(), &unknown, 2, &["port `bids`", says, uri]);
    }
    let kafka = ["--source", "bids=kafka:bids", "--output-dir", "."];
    refused(folder.path(), &kafka, 2, &["--bootstrap"]);
}

#[test]
fn one_place_under_two_names_is_one_place() {
    let folder = folder();
    let before = text(folder.path(), "bids.jsonl");
    let dead = ["--sink", "dead=null:"];
    for sinks in [
        ["--sink", "stats=file:a", "--sink", "late=file:./a"],
        ["--sink", "stats=file:bids.jsonl", "--sink", "late=null:"],
    ] {
        let source = ["--source", "bids=file:bids.jsonl"];
        let all = [&source[..], &sinks, &dead].concat();
        refused(folder.path(), &all, 2, &["bound to"]);
    }
    assert_eq!(text(folder.path(), "bids.jsonl"), before);
}

#[test]
fn input_that_is_not_there_ends_with_1_and_leaves_no_output() {
    let folder = folder();
    fs::create_dir(folder.path().join("none")).unwrap();
    fs::write(folder.path().join("none/notes.txt"), "").unwrap();
    for (uri, says) in [
        ("bids=file:gone.jsonl", ["`gone.jsonl`", "No such file"]),
        ("bids=file:none", ["`none`", "no *.jsonl"]),
    ] {
        let arguments = ["--source", uri, "--output-dir", "."];
        refused(folder.path(), &arguments, 1, &says);
    }
    assert_eq!(names(folder.path()), ["bids.jsonl", "none"]);
}

#[test]
fn a_failed_run_leaves_the_output_that_was_there() {
    let folder = folder();
    let whole = packed_gzip(&bid(1, 1, 1).repeat(1_000));
    fs::write(
        folder.path().join("cut.jsonl.gz"),
        &whole[..whole.len() - 9],
    )
    .unwrap();
    fs::write(folder.path().join("stats.jsonl"), "before\n").unwrap();
    let arguments = ["--source", "bids=file:cut.jsonl.gz", "--output-dir", "."];
    refused(folder.path(), &arguments, 1, &["`cut.jsonl.gz`"]);
    let stays = ["bids.jsonl", "cut.jsonl.gz", "stats.jsonl"];
    assert_eq!(names(folder.path()), stays);
    assert_eq!(text(folder.path(), "stats.jsonl"), "before\n");
}

#[test]
fn every_bound_output_exists_after_success_and_replaces_what_was_there() {
    let folder = folder();
    fs::write(folder.path().join("stats.jsonl"), "before\n").unwrap();
    let arguments = ["--source", "bids=file:bids.jsonl", "--output-dir", "."];
    let ended = run("bid_stats", folder.path(), &arguments);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(ended.out.is_empty(), "{:?}", ended.out);
    assert_eq!(
        lines(&text(folder.path(), "stats.jsonl")),
        STATS,
        "{}",
        ended.said()
    );
    for port in ["late.jsonl", "dead.jsonl"] {
        assert_eq!(text(folder.path(), port), "", "{port}");
    }
    let all = ["bids.jsonl", "dead.jsonl", "late.jsonl", "stats.jsonl"];
    assert_eq!(names(folder.path()), all);
}

#[test]
fn an_output_folder_that_is_not_there_is_made() {
    let folder = folder();
    let arguments = ["--source", "bids=file:bids.jsonl", "--output-dir", "a/b"];
    let ended = run("bid_stats", folder.path(), &arguments);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let made = folder.path().join("a/b");
    assert_eq!(names(&made), ["dead.jsonl", "late.jsonl", "stats.jsonl"]);
}

#[test]
fn an_output_folder_wins_over_a_broker() {
    let folder = folder();
    // Nobody answers there, and nobody is asked.
    for flag in ["-b", "--bootstrap", "--bootstrap-server"] {
        let source = ["--source", "bids=file:bids.jsonl"];
        let both = [flag, "127.0.0.1:1", "--output-dir", "out"];
        let arguments = [&source[..], &both].concat();
        let ended = run("bid_stats", folder.path(), &arguments);
        assert_eq!(ended.code, 0, "{flag}: {}", ended.said());
        let out = folder.path().join("out");
        assert_eq!(names(&out), ["dead.jsonl", "late.jsonl", "stats.jsonl"]);
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn a_folder_of_parts_that_is_not_empty_needs_overwrite() {
    let folder = folder();
    let parts = "--source bids=file:bids.jsonl --sink stats=file:parts/ --sink late=null: \
                 --sink dead=null:";
    let arguments: Vec<_> = parts.split_whitespace().collect();
    assert_eq!(run("bid_stats", folder.path(), &arguments).code, 0);
    let first = names(&folder.path().join("parts"));
    assert!(
        first.iter().all(|name| name.starts_with("part-")),
        "{first:?}"
    );
    refused(
        folder.path(),
        &arguments,
        2,
        &["`parts/`", "not empty", "--overwrite"],
    );
    let over = [&arguments[..], &["--overwrite"]].concat();
    assert_eq!(run("bid_stats", folder.path(), &over).code, 0);
    let parts = folder.path().join("parts");
    let written: String = names(&parts)
        .iter()
        .map(|name| text(&parts, name))
        .collect();
    assert_eq!(lines(&written), STATS);
}

#[test]
fn packed_files_are_read_and_written_by_their_endings() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("in");
    fs::create_dir(&input).unwrap();
    let early: String = (0..3).map(|n| bid(1, n, n * 4_000)).collect();
    let later: String = (3..5).map(|n| bid(1, n, n * 4_000)).collect();
    fs::write(input.join("a.jsonl.gz"), packed_gzip(&early)).unwrap();
    let zstd = zstd::encode_all(later.as_bytes(), 0).unwrap();
    fs::write(input.join("b.ndjson.zst"), zstd).unwrap();
    fs::write(input.join("notes.txt"), "no bids").unwrap();
    let arguments = "--source bids=file:in --sink stats=file:stats.gz --sink late=file:late.zst \
                     --sink dead=file:dead.gz --set lag=1m";
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    let ended = run("bid_stats", folder.path(), &arguments);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(ended.said().contains("notes.txt"), "{}", ended.said());
    assert_eq!(
        lines(&unpacked_gzip(&folder.path().join("stats.gz"))),
        STATS
    );
    assert_eq!(unpacked_gzip(&folder.path().join("dead.gz")), "");
    let late = fs::read(folder.path().join("late.zst")).unwrap();
    assert!(zstd::decode_all(&late[..]).unwrap().is_empty());
}

#[test]
fn stdout_carries_data_alone_and_stderr_says_what_became_of_each_record() {
    let folder = folder();
    let odd = "?\n".to_owned() + &bid(1, 9, 60_000) + &bid(1, 9, 1_000);
    let path = folder.path().join("bids.jsonl");
    let all = text(folder.path(), "bids.jsonl") + &odd;
    fs::write(path, all).unwrap();
    let ended = run("bid_stats", folder.path(), &to_stdout(&["-w", "2"]));
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(ended.out[..2], STATS);
    assert_eq!(ended.out.len(), 3);
    let [read, used, duplicates, late, dead, results] = ended.balance();
    assert_eq!(
        [read, used, duplicates, late, dead, results],
        [8, 6, 0, 1, 1, 3]
    );
    let start = &ended.err[0];
    assert!(
        start.starts_with("bid_stats: 2 workers · guarantee: at-least-once"),
        "{start}"
    );
    let quiet = run("bid_stats", folder.path(), &to_stdout(&["--quiet"]));
    assert_eq!((quiet.code, quiet.out.len()), (0, 3));
    assert!(quiet.err.is_empty(), "{:?}", quiet.err);
}

#[test]
fn dead_letters_may_go_to_stderr() {
    let folder = folder();
    let all = text(folder.path(), "bids.jsonl") + "?\n";
    fs::write(folder.path().join("bids.jsonl"), all).unwrap();
    let bound = "--source bids=file:bids.jsonl --sink stats=- --sink late=null: \
                 --sink dead=stderr:";
    let arguments: Vec<_> = bound.split_whitespace().collect();
    let ended = run("bid_stats", folder.path(), &arguments);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(ended.out, STATS);
    let letters: Vec<_> = ended
        .err
        .iter()
        .filter(|line| line.starts_with('{'))
        .collect();
    assert_eq!(letters.len(), 1, "{}", ended.said());
    let letter: serde_json::Value = serde_json::from_str(letters[0]).unwrap();
    assert_eq!(letter["line"], 6);
    assert_eq!([&letter["reason"], &letter["raw"]], ["decode", "?"]);
}

#[test]
fn the_summary_says_how_late_events_came() {
    let folder = folder();
    // In order; a second behind the newest, which the lag allows; and too late.
    let times = (0..200)
        .map(|n| n * 200)
        .chain([38_800; 10])
        .chain([19_800]);
    let lines: String = times.map(|time| bid(1, 1, time)).collect();
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    let ended = run("bid_stats", folder.path(), &to_stdout(&[]));
    assert_eq!(ended.code, 0, "{}", ended.said());
    let summary = "read 211 = used 210 + duplicates 0 + late 1 + dead 0 · results 4 · \
                   lateness p99 1s, max 20s";
    let last = ended.err.last().map(String::as_str);
    assert_eq!(last, Some(summary), "{}", ended.said());
}

#[test]
fn too_many_dead_letters_end_with_5_and_quote_the_first() {
    let folder = folder();
    let path = folder.path().join("bids.jsonl");
    let limited = |limit: &[&str]| run("bid_stats", folder.path(), &to_stdout(limit));
    fs::write(&path, "{\"auction\":}\n".repeat(1_000)).unwrap();
    let all = limited(&[]);
    assert_eq!(all.code, 5, "{}", all.said());
    for part in ["1,000", "--max-dead", "line 1"] {
        assert!(all.said().contains(part), "`{part}` in: {}", all.said());
    }
    assert_eq!(limited(&["--max-dead", "off"]).code, 0);
    fs::write(
        &path,
        "?\n".repeat(999) + &bid(1, 1, 1) + &"?\n".repeat(5_000),
    )
    .unwrap();
    assert_eq!(limited(&[]).code, 0, "one of the first 1,000 is good");
    for (limit, code) in [("5998", 5), ("5999", 0), ("99%", 5), ("100%", 0)] {
        let ended = limited(&["--max-dead", limit]);
        assert_eq!(ended.code, code, "--max-dead {limit}: {}", ended.said());
    }
    fs::write(&path, bid(1, 1, 1) + "?\n").unwrap();
    assert_eq!(limited(&["--max-dead", "0"]).code, 5);
    assert_eq!(limited(&["--max-dead", "1"]).code, 0);
}

#[test]
fn a_good_record_behind_the_first_thousand_dead_ones_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("bids.jsonl");
    fs::write(&path, "?\n".repeat(1_000) + &bid(1, 1, 1)).unwrap();
    let ended = run("bid_stats", folder.path(), &to_stdout(&[]));
    assert_eq!(ended.code, 5, "{}", ended.said());
    fs::write(&path, "?\n".repeat(500)).unwrap();
    let ended = run("bid_stats", folder.path(), &to_stdout(&["--max-dead=5%"]));
    assert_eq!(
        ended.code,
        5,
        "at its end a short run counts whole: {}",
        ended.said()
    );
}

#[test]
fn help_fits_100_columns_and_shows_an_example() {
    let folder = tempdir().unwrap();
    for name in ["bid_stats", "user_activity"] {
        let help = run(name, folder.path(), &["--help"]);
        assert_eq!((help.code, help.err.len()), (0, 0));
        for line in &help.out {
            assert!(line.chars().count() <= 100, "{line}");
        }
        let text = help.out.join("\n");
        for part in ["Example", "--source", "--output-dir", "--bootstrap"] {
            assert!(text.contains(part), "`{part}` in: {text}");
        }
        assert_eq!(run(name, folder.path(), &["--version"]).code, 0);
    }
}

/// A run over a pipe that is filled as long as somebody reads: bounded, and never at its end. It
/// gets `signal` when it has read for a while.
fn cut_short(signal: &str) -> (Ended, TempDir) {
    let folder = tempdir().unwrap();
    let pipe = folder.path().join("bids.jsonl");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let (tell, filled) = channel();
    thread::spawn(move || {
        let mut pipe = fs::OpenOptions::new().write(true).open(pipe).unwrap();
        let mut time = 0;
        loop {
            let lines: String = (0..1_000).map(|n| bid(n % 7, n, time + n)).collect();
            if pipe.write_all(lines.as_bytes()).is_err() {
                return; // nobody reads any more
            }
            time += 1_000;
            if time == 100_000 {
                tell.send(()).unwrap();
            }
        }
    });
    let arguments = ["--source", "bids=file:bids.jsonl", "--output-dir", "."];
    let running = Running::start(&mut program("bid_stats", folder.path(), &arguments));
    filled.recv_timeout(DEADLINE).expect("the pipe is read");
    running.signal(signal);
    (running.ended(), folder)
}

#[test]
fn a_bounded_run_cut_short_by_a_signal_leaves_nothing_under_its_final_name() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let (ended, folder) = cut_short(signal);
        assert_eq!(ended.code, code, "{}", ended.said());
        assert!(ended.said().contains("interrupted"), "{}", ended.said());
        assert_eq!(names(folder.path()), ["bids.jsonl"], "{signal}");
    }
}

#[test]
fn a_bounded_run_whose_output_nobody_takes_ends_at_a_signal() {
    let folder = folder();
    // A result for each bid: far more than pipes, buffers and epochs in flight hold.
    let lines: String = (0..150_000).map(|n| bid(1, n, n * 10_000)).collect();
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    let mut command = program("bid_stats", folder.path(), &to_stdout(&[]));
    let mut running = Running::start_unread(&mut command);
    let mut out = running.take_out();
    out.read_exact(&mut [0; 1]).unwrap();
    running.signal("TERM");
    let ended = running.ended();
    assert_eq!(ended.code, 143, "{}", ended.said());
}

/// `bid_stats` on standard input; results go to `stats.jsonl`, dead letters to standard output.
fn on_stdin(folder: &Path) -> Running {
    let bound = "--source bids=- --sink stats=file:stats.jsonl --sink late=null: --sink dead=-";
    let arguments: Vec<_> = bound.split(' ').collect();
    Running::start(&mut program("bid_stats", folder, &arguments))
}

#[test]
fn a_stream_closed_by_a_signal_ends_with_0_and_open_windows_do_not_fire() {
    for signal in ["TERM", "INT"] {
        let folder = tempdir().unwrap();
        let mut running = on_stdin(folder.path());
        running.write(&(bid(1, 5, 1_000) + &bid(1, 6, 15_000) + "?\n"));
        // Records of a partition are judged in order: with the letter, the bids are in.
        assert!(running.next_out().contains("\"reason\":\"decode\""));
        running.signal(signal);
        let ended = running.ended_with_open_input();
        assert_eq!(ended.code, 0, "{}", ended.said());
        assert_eq!(ended.balance()[..5], [3, 2, 0, 0, 1]);
        let stats = text(folder.path(), "stats.jsonl");
        assert!(lines(&stats).len() <= 1, "the window from 10,000: {stats}");
        assert!(!stats.contains("10000"), "{stats}");
    }
}

#[test]
fn what_dedup_holds_when_a_stream_is_closed_is_told_as_held() {
    let folder = tempdir().unwrap();
    let bound = "--source events=- --sink activity=file:out.jsonl --sink late=null: --sink dead=-";
    let arguments: Vec<_> = bound.split(' ').collect();
    let mut running = Running::start(&mut program("user_activity", folder.path(), &arguments));
    let event = r#"{"eventId":"e","eventType":"t","userId":"u","timestamp":5,"data":{}}"#;
    running.write(&format!("{event}\n{event}\n?\n"));
    running.next_out();
    running.signal("TERM");
    let ended = running.ended_with_open_input();
    assert_eq!(ended.code, 0, "{}", ended.said());
    let summary = ended.said();
    assert!(
        summary.contains("read 3 = used 0 + duplicates 0 + late 0 + dead 1 + held 2"),
        "{summary}"
    );
}

#[test]
fn at_the_end_of_standard_input_all_windows_fire() {
    let folder = tempdir().unwrap();
    let mut running = on_stdin(folder.path());
    running.write(&(0..5).map(|n| bid(1, n, n * 4_000)).collect::<String>());
    let ended = running.ended();
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(lines(&text(folder.path(), "stats.jsonl")), STATS);
}

#[test]
fn a_closed_pipe_at_stdout_ends_with_1() {
    let folder = folder();
    let mut command = program("bid_stats", folder.path(), &to_stdout(&[]));
    let mut running = Running::start_unread(&mut command);
    drop(running.take_out());
    let ended = running.ended();
    assert_eq!(ended.code, 1, "{}", ended.said());
    assert!(
        ended.said().contains("stdout: closed pipe"),
        "{}",
        ended.said()
    );
}

#[test]
fn progress_is_told_and_so_is_why_windows_wait() {
    let folder = tempdir().unwrap();
    let mut running = on_stdin(folder.path());
    running.write(&bid(1, 5, 1_000));
    let progress = running.wait_err("/s · read 1 · watermark");
    for part in ["held by bids[0]", "1 windows open", "late 0 · dead 0"] {
        assert!(progress.contains(part), "`{part}` in: {progress}");
    }
    let why = running.wait_err("windows wait");
    assert!(
        why.contains("next end 00:00:10, held by bids[0] (no data for"),
        "{why}"
    );
    running.signal("TERM");
    assert_eq!(running.ended_with_open_input().code, 0);
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

fn packed_gzip(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

fn unpacked_gzip(path: &Path) -> String {
    let mut text = String::new();
    let mut unpacker = flate2::read::MultiGzDecoder::new(fs::File::open(path).unwrap());
    unpacker.read_to_string(&mut text).unwrap();
    text
}
