//! A job binary of somebody else keeps what `cli::run` promises, also where the jobs here cannot
//! show it: one that panics, one with two sources, one whose operator refuses an event, one whose
//! answer may depend on the cut.
//!
//! The binary is this program once more, told by its environment which job it is.
//!
//! Caught here: a panic that ends with another code, hides its operator, leaves a half output under
//! its final name or replaces a whole one; two sources that share standard input; a letter that
//! came after entry and is in no summary; a `describe` that keeps a condition to itself; state that
//! is dropped, or begun with nothing, and not named.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use std::process::ExitCode;

use anabranch::prelude::*;

const JOB: &str = "TEST_OWN_BINARY";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(JOB) {
        return anabranch::cli::run(job(&name));
    }
    tests::a_panic_ends_the_process_and_names_the_operator();
    tests::two_sources_cannot_share_standard_input();
    tests::letters_after_entry_are_in_the_summary();
    tests::describe_says_when_dedup_eager_is_exact();
    tests::what_becomes_of_state_is_told_of_each_operator();
    ExitCode::SUCCESS
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Number {
    n: i64,
}

/// Refuses 13.
struct Careful;

impl Process for Careful {
    type Key = ();
    type In = Number;
    type Out = i64;
    type State = ();

    fn on_event(&self, (): &mut (), event: &Event<Number>, cx: &mut ProcessContext<'_, Self>) {
        match event.value.n {
            13 => cx.dead_letter("thirteen"),
            n => cx.emit(n),
        }
    }
}

fn numbers<'scope>(flow: &Flow<'scope>, port: &str) -> EventStream<'scope, Number> {
    flow.source::<Number>(port)
        .json()
        .event_time(|number| number.n, Watermarks::lag(Duration::ZERO))
}

fn job(name: &str) -> Job {
    match name {
        "fragile" => Job::new(name, |flow: &Flow<'_>| {
            let doubled = numbers(flow, "numbers").map(|number| {
                assert!(number.n != 13, "thirteen is too much");
                number.n * 2
            });
            doubled.sink("out", |s| s.json());
            Ok(())
        }),
        "pair" => Job::new(name, |flow: &Flow<'_>| {
            let both = numbers(flow, "left").union(numbers(flow, "right"));
            both.sink("out", |s| s.json());
            Ok(())
        }),
        "careful" => Job::new(name, |flow: &Flow<'_>| {
            let kept = numbers(flow, "numbers").key_by(|_| ());
            kept.process("careful", Careful).sink("out", |s| s.json());
            Ok(())
        }),
        // As `careful`, with one operator more.
        "once" => Job::new(name, |flow: &Flow<'_>| {
            let once = numbers(flow, "numbers").dedup(|number| number.n, Duration::from_secs(1));
            let kept = once.key_by(|_| ());
            kept.process("careful", Careful).sink("out", |s| s.json());
            Ok(())
        }),
        _ => Job::new(name, |flow: &Flow<'_>| {
            let once = numbers(flow, "numbers");
            let once = once.dedup_eager(|number| number.n, Duration::from_secs(1));
            once.sink("out", |s| s.json());
            Ok(())
        }),
    }
}

mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::tempdir;

    use super::JOB;
    use super::program::{Ended, Running, binary_at, names};

    /// Runs the job `name` of this program in `folder`.
    fn run(name: &str, folder: &Path, arguments: &[&str]) -> Ended {
        let this = std::env::current_exe().expect("this program");
        let mut command = binary_at(&this, folder, arguments);
        command.env(JOB, name).env_remove("RUST_BACKTRACE");
        Running::start(&mut command).ended()
    }

    fn write(folder: &Path, count: i64) {
        let lines: Vec<_> = (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        fs::write(folder.join("numbers.jsonl"), lines.concat()).expect("it can be written");
    }

    const FILES: [&str; 4] = [
        "--source",
        "numbers=file:numbers.jsonl",
        "--output-dir",
        "out",
    ];

    pub(super) fn a_panic_ends_the_process_and_names_the_operator() {
        for workers in ["1", "2"] {
            let folder = tempdir().expect("a folder");
            let folder = folder.path();
            let arguments = [&FILES[..], &["--workers", workers]].concat();
            write(folder, 13);
            let ended = run("fragile", folder, &arguments);
            assert_eq!(ended.code, 0, "{}", ended.said());
            let all = ["dead.jsonl", "late.jsonl", "out.jsonl"];
            assert_eq!(names(&folder.join("out")), all);
            let before = fs::read_to_string(folder.join("out/out.jsonl")).expect("results");
            assert_eq!(before.lines().count(), 13);

            write(folder, 10_000);
            let ended = run("fragile", folder, &arguments);
            assert_eq!(ended.code, 134, "{}", ended.said());
            let said = ended.said();
            assert!(said.contains("thirteen is too much"), "{said}");
            let last = "error: operator `map` panicked; a restart recovers";
            assert_eq!(ended.err.last().map(String::as_str), Some(last), "{said}");
            assert!(!said.contains("read 10,000 ="), "{said}");
            let after = fs::read_to_string(folder.join("out/out.jsonl")).expect("results");
            assert_eq!(after, before, "what was whole stays");

            fs::remove_dir_all(folder.join("out")).expect("it is there");
            let json = [&arguments[..], &["--log-format", "json"]].concat();
            let ended = run("fragile", folder, &json);
            assert_eq!(ended.code, 134, "{}", ended.said());
            let last = ended.err.last().expect("it says why");
            let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
            assert_eq!(last["exit"], 134, "{last}");
            let left = names(&folder.join("out"));
            assert!(!left.iter().any(|name| all.contains(&&**name)), "{left:?}");
        }
    }

    pub(super) fn two_sources_cannot_share_standard_input() {
        let folder = tempdir().expect("a folder");
        let arguments = ["--source", "left=-", "--source", "right=-"];
        let arguments = [&arguments[..], &["--output-dir", "out"]].concat();
        let ended = run("pair", folder.path(), &arguments);
        assert_eq!((ended.code, ended.err.len()), (2, 1), "{}", ended.said());
        let why = "two sources are bound to standard input";
        assert!(ended.said().contains(why), "{}", ended.said());
        assert!(names(folder.path()).is_empty());
    }

    pub(super) fn letters_after_entry_are_in_the_summary() {
        let folder = tempdir().expect("a folder");
        write(folder.path(), 20);
        let ended = run("careful", folder.path(), &FILES);
        assert_eq!(ended.code, 0, "{}", ended.said());
        let summary = "read 20 = used 20 + duplicates 0 + late 0 + dead 0 · results 19 · \
                       dead after entry 1 · lateness p99 0ms, max 0ms";
        let last = ended.err.last().map(String::as_str);
        assert_eq!(last, Some(summary), "{}", ended.said());
        let letters = fs::read_to_string(folder.path().join("out/dead.jsonl")).expect("letters");
        assert!(letters.contains("\"reason\":\"processing\""), "{letters}");
    }

    pub(super) fn what_becomes_of_state_is_told_of_each_operator() {
        for (was, is, refusal, told) in [
            (
                "once",
                "careful",
                "which the job has no more",
                "state: reused: careful; dropped: dedup",
            ),
            (
                "careful",
                "once",
                "has no state in `state`: it is new",
                "state: reused: careful; starts empty: dedup",
            ),
        ] {
            let folder = tempdir().expect("a folder");
            write(folder.path(), 5);
            let start = |name: &str, more: &[&str]| {
                let kept = ["--job-id", "job", "--state-dir", "state"];
                run(name, folder.path(), &[&FILES[..], &kept, more].concat())
            };
            let ended = start(was, &["--catch-up"]);
            assert_eq!(ended.code, 0, "{}", ended.said());
            let refused = start(is, &[]);
            assert_eq!(refused.code, 3, "{}", refused.said());
            let said = refused.said();
            let says = ["operator `dedup` (", refusal, "--allow-empty dedup"];
            assert!(says.iter().all(|part| said.contains(part)), "{said}");
            let ended = start(is, &["--allow-empty", "dedup"]);
            assert_eq!(ended.code, 0, "{}", ended.said());
            let lines = ended.err.iter().filter(|line| line.contains("state: "));
            let lines: Vec<_> = lines.collect();
            assert!(lines.len() == 1 && lines[0].ends_with(told), "{lines:?}");
        }
    }

    pub(super) fn describe_says_when_dedup_eager_is_exact() {
        let folder = tempdir().expect("a folder");
        let ended = run("eager", folder.path(), &["describe"]);
        assert_eq!(ended.code, 0, "{}", ended.said());
        let step = "  dedup_eager within 1s, exact if the copies of an id share a partition";
        let said = ended.out.join("\n");
        assert!(ended.out.iter().any(|line| line == step), "{said}");
    }
}
