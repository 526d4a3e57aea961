//! A job that is killed and started again, with any number of workers, leaves what one run leaves;
//! and state that does not fit is refused by one sentence, with nobody shut out.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod once;
mod program;
mod topics;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use once::{Place, expected};
use program::{Ended, Running, bid, program, run};
use topics::Topics;

#[test]
fn a_job_that_is_killed_again_and_again_leaves_what_one_run_leaves() {
    let place = Place::new();
    for (round, workers) in (1..).zip(["1", "2", "3", "1", "2"]) {
        let second = round * 50;
        place.write(second - 50, second);
        let running = place.start(&["--workers", workers]);
        // The lag is two seconds, and each partition misses some of the last second.
        let due = expected(second - 10);
        let seen = place.wait_for(due.len());
        assert_eq!(seen, due, "round {round}");
        drop(running); // killed
    }
    let ended = place.run(&["--bounded", "--workers", "2"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(250));
    // It is finished, and says so.
    let again = place.run(&["--bounded"]);
    assert_eq!(again.code, 3, "{}", again.said());
    assert!(again.said().contains("is finished"), "{}", again.said());
    assert_eq!(place.seen(), expected(250));
}

#[test]
fn a_signal_commits_what_is_complete_and_the_next_run_goes_on() {
    let place = Place::new();
    place.write(0, 30);
    let arguments = place.arguments(&["--workers", "2", "--http", "127.0.0.1:0"]);
    let arguments: Vec<_> = arguments
        .into_iter()
        .map(|it| if it == "20ms" { "5m" } else { it })
        .collect();
    let mut running = Running::start(&mut program("bid_stats", place.path(), &arguments));
    let address = running.address();
    // The first results are not kept waiting; those behind them wait for the next checkpoint.
    assert_eq!(place.wait_for(expected(20).len()), expected(20));
    place.write(30, 60);
    running.wait_for_records(&address, 300);
    assert_eq!(place.seen(), expected(20));
    running.signal("TERM");
    let ended = running.ended_with_open_input();
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(50));
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(60));
}

#[test]
fn a_job_with_nothing_to_do_commits_nothing_and_writes_nothing() {
    let place = Place::new();
    place.write(0, 30);
    let running = place.start(&["--workers", "2"]);
    place.wait_for(expected(20).len());
    let stand = || (place.commits(), written(&place.path().join("state")));
    let (mut before, mut since) = (stand(), program::now());
    let deadline = since + program::DEADLINE;
    // For fifty times the interval, at the latest when all that was read is committed.
    while since.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(50));
        let after = stand();
        if after != before {
            (before, since) = (after, program::now());
        }
        assert!(program::now() < deadline, "it goes on: {before:?}");
    }
    assert!(before.0 >= 2, "{before:?}");
    // It lives all the same.
    place.write(30, 40);
    place.wait_for(expected(30).len());
    assert!(stand().0 > before.0);
    drop(running);
}

#[test]
fn a_disk_that_takes_no_more_ends_the_job_and_what_was_committed_stays() {
    let place = Place::new();
    place.write(0, 30);
    // What asks for more than it may have is told so, and not ended by a signal.
    let job = program("bid_stats", place.path(), &place.arguments(&[]));
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    shell.arg(job.get_program()).args(job.get_args());
    let running = Running::start(shell.current_dir(place.path()));
    place.wait_for(expected(20).len());
    let mut limit = Command::new("prlimit");
    limit.args(["--fsize=1:1", "--pid", &running.id().to_string()]);
    assert!(limit.status().unwrap().success());
    place.write(30, 60);
    let ended = running.ended_with_open_input();
    assert_eq!(ended.code, 1, "{}", ended.said());
    let says = ["error: state: `state/gen=", "File too large"];
    let said = ended.said();
    assert!(says.iter().all(|part| said.contains(part)), "{said}");
    assert_eq!(
        place.seen(),
        expected(20),
        "nothing is shown that is not kept"
    );
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(60));
}

#[test]
fn what_was_only_handed_over_does_not_count_for_a_checkpoint_at_least_once() {
    // A job may be done before its broker is stopped: then another has more to do.
    let was_in_time = (1..=5).any(|nth| nothing_is_lost_behind_a_broker(nth * 80_000));
    assert!(was_in_time, "the broker was stopped too late each time");
}

/// Stops the broker of a job that has bids of so many seconds to read, then kills the job: the next
/// one leaves all results. Whether the job was not done before.
fn nothing_is_lost_behind_a_broker(seconds: i64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let lines = (0..seconds).flat_map(|second| {
        (0..5).map(move |nth| bid(nth, second + nth, second * 1_000 + nth * 200))
    });
    fs::write(folder.path().join("bids.jsonl"), lines.collect::<String>()).unwrap();
    let listen = ["broker", "--listen", "127.0.0.1:0", "--topic", "stats:2"];
    let mut broker = Running::start(&mut program("anabranch", folder.path(), &listen));
    let bootstrap = broker.next_out();
    let ports = "--source bids=file:bids.jsonl --sink stats=kafka:stats --sink late=null: --sink \
                 dead=null: --state-dir state --guarantee at-least-once --checkpoint-interval 20ms";
    let more = ["--bootstrap", &bootstrap];
    let arguments: Vec<&str> = ports.split(' ').chain(more).collect();
    let topics = Topics::at(bootstrap.clone());
    let seen = || -> BTreeSet<String> {
        let all = topics.read("stats");
        all.iter().map(topics::Message::text).collect()
    };
    let running = Running::start(&mut program("bid_stats", folder.path(), &arguments));
    wait_until(|| !seen().is_empty());
    broker.signal("STOP");
    // It goes on as long as it may.
    let stand = || written(&folder.path().join("state"));
    let (mut before, mut since) = (stand(), program::now());
    while since.elapsed() < Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(50));
        let after = stand();
        if after != before {
            (before, since) = (after, program::now());
        }
    }
    drop(running); // killed
    broker.signal("CONT");
    let expected: BTreeSet<String> = once::windows(0, seconds, 10).into_iter().collect();
    if seen().len() >= expected.len() {
        return false;
    }
    let ended = run("bid_stats", folder.path(), &arguments);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(seen() == expected, "results are lost");
    true
}

/// A check finds who runs the job, and nothing amiss.
fn looks_on(place: &Place, process: u32) {
    let checked = place.run(&["--check"]);
    assert_eq!(checked.code, 0, "{:?}", checked.out);
    let says = format!("ok  job {}: process {} since ", place.id, process);
    let line = checked.out.iter().find(|line| line.starts_with(&says));
    assert!(
        line.is_some_and(|line| line.ends_with(" is in its group")),
        "{:?}",
        checked.out
    );
}

/// Every file in `folder` and below, its length, and when it was written last.
fn written(folder: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .flat_map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => written(&entry.path()),
            Ok(about) => vec![(entry.path(), about.len(), about.modified().unwrap())],
            Err(_) => Vec::new(), // deleted meanwhile
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_touched() {
    let place = Place::new();
    place.write(0, 30);
    let running = place.start(&[]);
    place.wait_for(10);
    // Another process on the same directory.
    let second = place.run(&[]);
    assert_eq!(second.code, 4, "{}", second.said());
    let says = ["is in use by process", "since", "--take-over", "--standby"];
    assert!(
        says.iter().all(|part| second.said().contains(part)),
        "{}",
        second.said()
    );
    looks_on(&place, running.id());
    // Nor is one shut out by another that could not go on with its state.
    let other = place.run(&["--take-over", "--set", "size=5s"]);
    assert_eq!(other.code, 3, "{}", other.said());
    // The first one does not notice.
    place.write(30, 60);
    place.wait_for(20);
    drop(running);
    // Another window is another state.
    let other = place.run(&["--bounded", "--set", "size=5s"]);
    assert_eq!(other.code, 3, "{}", other.said());
    let says = ["operator `window` was", "10000 ms", "5000 ms", "--rebuild"];
    assert!(
        says.iter().all(|part| other.said().contains(part)),
        "{}",
        other.said()
    );
    // Another job.
    let id = Topics::fresh("other");
    let arguments = place.arguments(&["--bounded"]);
    let arguments: Vec<_> = arguments
        .into_iter()
        .map(|it| if it == place.id { &*id } else { it })
        .collect();
    for letters in ["late", "dead"] {
        place.topics.create(&format!("{id}.{letters}"), 1);
    }
    let other = run("bid_stats", place.path(), &arguments);
    assert_eq!(other.code, 3, "{}", other.said());
    assert!(other.said().contains("checkpoint"), "{}", other.said());
    // An empty directory, though there is progress.
    fs::rename(place.path().join("state"), place.path().join("aside")).unwrap();
    let empty = place.run(&["--bounded"]);
    assert_eq!(empty.code, 3, "{}", empty.said());
    assert!(empty.said().contains("is empty"), "{}", empty.said());
    fs::remove_dir_all(place.path().join("state")).unwrap();
    fs::rename(place.path().join("aside"), place.path().join("state")).unwrap();
    damage(&place);
    // None of it did any harm.
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(60));
}

#[test]
fn a_stopped_instance_that_is_taken_over_ends_and_does_no_harm() {
    let place = Place::new();
    place.write(0, 30);
    let zombie = place.start(&["--workers", "2"]);
    place.wait_for(expected(20).len());
    zombie.signal("STOP");
    let mut waiting = place.start(&["--standby"]);
    let second = place.start(&["--take-over"]);
    place.write(30, 60);
    place.wait_for(expected(50).len());
    zombie.signal("CONT");
    let ended = zombie.ended_with_open_input();
    assert_eq!(ended.code, 4, "{}", ended.said());
    assert!(
        ended.said().contains("another instance has taken over"),
        "{}",
        ended.said()
    );
    place.write(60, 90);
    assert_eq!(place.wait_for(expected(80).len()), expected(80));
    // The one that waits goes on when nobody is left.
    waiting.wait_err("guarantee: exactly-once");
    drop(second);
    place.write(90, 120);
    assert_eq!(place.wait_for(expected(110).len()), expected(110));
    drop(waiting);
    let ended = place.run(&["--bounded", "--take-over"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(120));
}

#[test]
fn what_was_caught_up_with_is_gone_on_with() {
    let place = Place::new();
    for second in [35, 70] {
        place.write(second - 35, second);
        let ended = place.run(&["--catch-up", "--workers", "2"]);
        assert_eq!(ended.code, 0, "{}", ended.said());
        let due = expected(second - 5);
        assert_eq!(place.seen(), due, "what is open stays open");
    }
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(70));
}

#[test]
fn a_lost_state_is_made_again_from_the_log_and_nothing_is_written_twice() {
    let place = Place::new();
    let state = place.path().join("state");
    for (round, workers) in (1..).zip(["2", "1", "3"]) {
        let second = round * 40;
        place.write(second - 40, second);
        let arguments = ["--workers", workers, "--rebuild"];
        let given = if round == 1 { 2 } else { 3 };
        let running = place.start(&arguments[..given]);
        assert_eq!(
            place.wait_for(expected(second - 10).len()),
            expected(second - 10)
        );
        drop(running); // killed
        fs::remove_dir_all(&state).unwrap();
    }
    let ended = place.run(&["--rebuild", "--catch-up", "--workers", "2"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(110));
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(120));
    // There is nothing to be made again of what never was.
    let fresh = Place::new();
    let refused = fresh.run(&["--rebuild"]);
    assert_eq!(refused.code, 2, "{}", refused.said());
    assert!(
        refused.said().contains("has no progress"),
        "{}",
        refused.said()
    );
}

#[test]
fn a_job_begins_with_the_state_of_a_savepoint_and_then_has_its_own() {
    let place = Place::new();
    place.write(0, 45);
    let ended = place.run(&["--catch-up", "--workers", "2"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(40));
    let saved = place.path().join("saved");
    let saved = saved.to_str().unwrap();
    let save = |to: &str| {
        run(
            "anabranch",
            place.path(),
            &["checkpoint", "save", "state", to],
        )
    };
    let told = save(saved);
    assert_eq!(told.code, 0, "{}", told.said());
    assert_eq!(save(saved).code, 2, "it holds a savepoint already");
    let sound = run("anabranch", place.path(), &["checkpoint", "verify", saved]);
    assert_eq!(sound.code, 0, "{}", sound.said());
    // The first job goes on, and the savepoint stays what it is.
    place.write(45, 80);
    let ended = place.run(&["--bounded"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(place.seen(), expected(80));
    // The other one has the window that was open, and none that was written.
    let other = place.beside();
    let begin = ["--from-savepoint", saved];
    let ended = other.run(&[&begin[..], &["--set", "size=5s", "--bounded"]].concat());
    assert_eq!(ended.code, 3, "{}", ended.said());
    let running = other.start(&[&begin[..], &["--workers", "3"]].concat());
    let due: Vec<_> = expected(80)
        .into_iter()
        .filter(|it| !expected(40).contains(it))
        .collect();
    other.wait_for(due.len() - expected(10).len());
    drop(running); // killed
    let ended = other.run(&[&begin[..], &["--bounded"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(other.seen(), due);
    // What is no savepoint is refused by its name.
    let nothing = place.beside();
    let refused = nothing.run(&["--from-savepoint", "nowhere", "--bounded"]);
    assert_eq!(refused.code, 3, "{}", refused.said());
    assert!(
        refused.said().contains("`nowhere` is no savepoint"),
        "{}",
        refused.said()
    );
}

/// A job that was killed when a checkpoint was prepared, and the one before it committed.
fn half_committed() -> Place {
    let place = Place::new();
    place.write(0, 30);
    let ended = place.run(&["--catch-up"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    place.write(30, 60);
    let mut job = program("bid_stats", place.path(), &place.arguments(&["--catch-up"]));
    job.env("ANABRANCH_CRASH_AT", "manifest durable:1");
    assert_eq!(Running::start(&mut job).ended().code, 128 + 6);
    place
}

/// What `anabranch checkpoint` says, which may ask Kafka.
fn checkpoint(place: &Place, arguments: &[&str]) -> Ended {
    let asked = ["--bootstrap", place.topics.bootstrap()];
    let arguments = [&["checkpoint"], arguments, &asked].concat();
    run("anabranch", place.path(), &arguments)
}

#[track_caller]
fn told(place: &Place, arguments: &[&str]) -> String {
    let ended = checkpoint(place, arguments);
    assert_eq!(ended.code, 0, "{}", ended.said());
    ended.out.join("\n")
}

#[test]
fn what_is_committed_is_told_from_what_is_only_prepared() {
    let place = half_committed();
    let listed = told(&place, &["list", "state", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let standings = [0, 1].map(|nth| listed[nth]["standing"].as_str().unwrap());
    assert_eq!(standings, ["committed", "prepared"]);
    let lines = told(&place, &["list", "state"]);
    let ends: Vec<_> = lines.lines().map(|line| line.rsplit(' ').next()).collect();
    let expected = ["progress", "committed", "prepared"].map(Some);
    assert_eq!(ends, expected);
    let numbers = [0, 1].map(|nth| listed[nth]["checkpoint"].to_string());
    assert!(told(&place, &["show", "state"]).contains(", prepared\n"));
    assert!(told(&place, &["show", "state", &numbers[0]]).contains(", committed\n"));
    assert!(told(&place, &["verify", "state"]).contains(" logs, committed\n"));
    let saved = told(&place, &["save", "state", "saved"]);
    assert!(
        saved.starts_with(&format!("checkpoint {} of", numbers[0])),
        "{saved}"
    );
    // Who does not ask takes the newest.
    let arguments = ["checkpoint", "save", "state", "newest"];
    let saved = run("anabranch", place.path(), &arguments);
    let says = format!("checkpoint {} of", numbers[1]);
    assert!(saved.out[0].starts_with(&says), "{:?}", saved.out);
    let ended = place.run(&["--catch-up"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let lines = told(&place, &["list", "state"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.ends_with("committed"), "{lines}");
}

#[test]
fn what_is_committed_and_not_there_is_missed() {
    let place = half_committed();
    let state = place.path().join("state");
    let listed = told(&place, &["list", "state", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let committed = listed[0]["manifest"].as_str().unwrap();
    fs::remove_file(state.join(committed)).unwrap();
    for command in ["list", "show", "verify"] {
        let ended = checkpoint(&place, &[command, "state"]);
        assert_eq!(ended.code, 3, "{}", ended.said());
        let says = format!(
            "`state/{committed}` is missing, which kafka:{}.progress says is committed",
            place.id
        );
        assert!(ended.said().contains(&says), "{}", ended.said());
    }
}

#[test]
fn part_files_beside_topics_hold_what_was_committed_with_them() {
    let place = Place::new();
    let stats = format!("stats=file:{}/", place.path().join("parts").display());
    let letters = place.path().join("late");
    let late = format!("late=file:{}/", letters.display());
    let arguments = |more: &[&'static str]| -> Vec<String> {
        let ours = place.arguments(more).into_iter().map(|it| match it {
            it if it.starts_with("stats=") => stats.clone(),
            it => it.to_owned(),
        });
        ours.chain(["--sink".to_owned(), late.clone()]).collect()
    };
    let command = |more: &[&'static str]| {
        let arguments = arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(|it| &**it).collect();
        program("bid_stats", place.path(), &arguments)
    };
    let parts = place.path().join("parts");
    for (round, workers) in (1..).zip(["1", "2", "3", "2"]) {
        place.write(round * 50 - 50, round * 50);
        let running = Running::start(&mut command(&["--workers", workers]));
        // What the one before it has committed is seen soon, and its own grows beside.
        let due = expected(round * 50 - 10).len();
        wait_until(|| {
            part_lines(&parts, "part-").len() + part_lines(&parts, ".part-").len() >= due
        });
        drop(running); // killed
    }
    place.write(200, 230);
    let running = Running::start(&mut command(&["--workers", "2"]));
    wait_until(|| {
        let hidden = part_lines(&parts, ".part-").len();
        part_lines(&parts, "part-").len() + hidden >= expected(220).len()
    });
    running.signal("TERM");
    let ended = running.ended_with_open_input();
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(
        part_lines(&parts, ".part-").is_empty(),
        "a stream that ends shows all"
    );
    assert_eq!(part_lines(&parts, "part-"), expected(220));
    // What the directory told is gone, but not what was committed.
    fs::remove_dir_all(place.path().join("state")).unwrap();
    let checked = Running::start(&mut command(&["--bounded", "--rebuild", "--check"])).ended();
    assert_eq!(checked.code, 0, "{:?}", checked.out);
    let ended = Running::start(&mut command(&["--bounded", "--rebuild"])).ended();
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert_eq!(part_lines(&parts, "part-"), expected(230));
    assert_eq!(part_lines(&letters, "part-").len(), 0);
}

/// The lines of the files in `folder` whose names begin so, sorted; a torn one does not count.
fn part_lines(folder: &Path, begin: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(begin)
        {
            // It may have been renamed since.
            let text = fs::read_to_string(&path).unwrap_or_default();
            lines.extend(
                text.split_inclusive('\n')
                    .filter_map(|line| line.strip_suffix('\n'))
                    .map(str::to_owned),
            );
        }
    }
    lines.sort_unstable();
    lines
}

#[track_caller]
fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = program::now() + program::DEADLINE;
    while !holds() {
        assert!(program::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A damaged or missing manifest or log is refused; they are put back.
fn damage(place: &Place) {
    for name in ["checkpoint-", "worker="] {
        let file = newest(&place.path().join("state"), name);
        let whole = fs::read(&file).unwrap();
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&file, &damaged).unwrap();
        let refused = place.run(&["--bounded"]);
        assert_eq!(refused.code, 3, "{}", refused.said());
        assert!(refused.said().contains("damaged"), "{}", refused.said());
        fs::remove_file(&file).unwrap();
        let refused = place.run(&["--bounded"]);
        assert_eq!(refused.code, 3, "{}", refused.said());
        assert!(refused.said().contains("is missing"), "{}", refused.said());
        fs::write(&file, &whole).unwrap();
    }
}

/// The newest file whose name begins so.
fn newest(state: &Path, name: &str) -> PathBuf {
    let mut found = Vec::new();
    for generation in fs::read_dir(state).unwrap() {
        let generation = generation.unwrap().path();
        if generation.is_dir() {
            let files = fs::read_dir(generation)
                .unwrap()
                .map(|file| file.unwrap().path());
            found.extend(files.filter(|file| {
                file.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with(name)
            }));
        }
    }
    found.sort();
    found.pop().unwrap()
}
