//! What does not fit is refused with exit 3 and one sentence, word for word; and what the sentence
//! says to do next helps.
//!
//! Caught here: a gap in the log that is read over, a topic or a file that is another one under the
//! same name, state that is another's; a sentence that says too little, or advises what is refused
//! in its turn.

#![cfg(all(feature = "kafka", feature = "dev-broker"))]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod once;
mod program;
mod topics;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use once::{Place, expected};
use program::{Ended, Running, bid, program, run};
use serde_json::Value;
use tempfile::{TempDir, tempdir};
use topics::Topics;

const AFRESH: &str = "start afresh with another --job-id and an empty --state-dir";
const LOST: &str = "start with --rebuild, which reads the log again, or, without a Kafka sink, \
                    afresh with an empty --state-dir";
const SPOILED: &str = "start with another --from-savepoint, or without one";
const REBUILD: &str = "start with --rebuild, which reads the log again";

/// It was refused, with just this sentence.
#[track_caller]
fn assert_refused(ended: &Ended, sentence: &str) {
    let errors = ended.err.iter().filter(|line| line.starts_with("error: "));
    let errors: Vec<_> = errors.map(|line| &line["error: ".len()..]).collect();
    assert_eq!((ended.code, &errors[..]), (3, &[sentence][..]));
}

#[track_caller]
fn assert_runs(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}", ended.said());
}

/// What the newest checkpoint of `state` holds.
fn shown(folder: &Path, state: &str) -> Value {
    let arguments = ["checkpoint", "show", state, "-o", "json"];
    let ended = run("anabranch", folder, &arguments);
    assert_runs(&ended);
    serde_json::from_str(&ended.out.join("\n")).unwrap()
}

/// The path of its manifest.
fn manifest(folder: &Path, state: &str) -> PathBuf {
    let name = shown(folder, state)["manifest"].clone();
    folder.join(state).join(name.as_str().unwrap())
}

/// Changes a manifest, and its checksum with it.
fn edit(manifest: &Path, change: impl FnOnce(&str) -> String) {
    let text = fs::read_to_string(manifest).unwrap();
    let (body, _) = text.split_once("crc32c").unwrap();
    let changed = change(body);
    assert_ne!(changed, body);
    let crc = crc32c::crc32c(changed.as_bytes());
    fs::write(manifest, format!("{changed}crc32c {crc:08x}\n")).unwrap();
}

/// A job of its own over the bids of `place`, and where it keeps its state.
fn afresh(place: &Place, state: &str) -> Ended {
    let id = Topics::fresh("afresh");
    let arguments = place.arguments(&["--bounded", "--create-topics"]);
    let arguments: Vec<_> = arguments
        .into_iter()
        .map(|it| match it {
            it if it == place.id => &*id,
            "state" => state,
            it => it,
        })
        .collect();
    run("bid_stats", place.path(), &arguments)
}

#[test]
fn records_that_are_gone_are_counted_and_their_offsets_said() {
    let (topics, bids) = (Topics::new(), Topics::fresh("bids"));
    topics.create(&bids, 4);
    let place = Place::reading(topics, &bids);
    let fill = |from: i64, to: i64| {
        let lines: Vec<_> = (from..to).map(|nth| bid(nth % 7, nth, nth * 10)).collect();
        let records = lines.iter();
        let records = records.map(|line| (None, None, Some(line.trim().as_bytes())));
        place.topics.fill(&bids, 3, records);
    };
    fill(0, 812);
    assert_runs(&place.run(&["--catch-up"]));
    fill(812, 5_000);
    place.topics.truncate(&bids, 3, 4_908);
    let gone = |what: &str| {
        format!(
            "topic {bids}: partition 3: {what}; they were deleted before they were read, so \
             restore the topic, or {AFRESH}"
        )
    };
    let gap = gone("4,096 records are gone: [812, 4908)");
    assert_refused(&place.run(&["--bounded"]), &gap);
    assert_refused(&place.run(&["--check"]), &gap);
    // Nor can the state be made again.
    let gap = gone("4,908 records are gone: [0, 4908)");
    assert_refused(&place.run(&["--rebuild", "--bounded"]), &gap);
    assert_refused(&place.run(&["--rebuild", "--check"]), &gap);
    let ended = afresh(&place, "other");
    assert_runs(&ended);
    assert_eq!(ended.balance()[0], 5_000 - 4_908);
}

#[test]
fn a_topic_of_the_same_name_is_another_topic() {
    let place = Place::new();
    place.write(0, 30);
    assert_runs(&place.run(&["--catch-up"]));
    let [bids, _] = place.names();
    let identity = |state: &str| {
        let shown = shown(place.path(), state);
        let identity = shown["sources"][0]["identity"].as_str().unwrap();
        assert!(!identity.is_empty());
        identity.to_owned()
    };
    let was = identity("state");
    place.topics.delete(bids);
    place.topics.create(bids, 2);
    place.write(0, 60);
    let refused = [place.run(&["--bounded"]), place.run(&["--check"])];
    let rebuilt = place.run(&["--rebuild", "--bounded"]);
    assert_runs(&afresh(&place, "other"));
    let is = identity("other");
    for refused in refused.iter().chain([&rebuilt]) {
        assert_refused(
            refused,
            &format!(
                "topic {bids}: it was deleted and created again (id {was}, now {is}), and equal \
                 offsets are other records; {AFRESH}"
            ),
        );
    }
}

/// As in a cluster that tells no ids; without a Kafka sink, so the manifest is the commit.
#[test]
fn a_topic_that_is_shorter_than_what_was_read_is_another_too() {
    let place = Place::new();
    place.write(0, 30);
    let [bids, _] = place.names();
    let source = format!("bids=kafka:{bids}");
    let run = |state: &str| {
        let sinks = ["stats=null:", "late=null:", "dead=null:"];
        let sinks = sinks.iter().flat_map(|sink| ["--sink", sink]);
        let ours = ["--bootstrap", place.topics.bootstrap(), "--source", &source];
        let state = ["--state-dir", state, "--catch-up"];
        let arguments: Vec<_> = ours.into_iter().chain(sinks).chain(state).collect();
        run("bid_stats", place.path(), &arguments)
    };
    assert_runs(&run("state"));
    let shown = shown(place.path(), "state");
    let source = &shown["sources"][0];
    let identity = format!("\"identity\":{}", source["identity"]);
    edit(&manifest(place.path(), "state"), |text| {
        text.replace(&identity, "\"identity\":\"\"")
    });
    place.topics.delete(bids);
    place.topics.create(bids, 2);
    let next = source["partitions"][0]["next"].as_u64().unwrap();
    let shorter = format!(
        "topic {bids}: partition 0: it ends at 0, before {next}, up to where it was read; restore \
         the topic, or {AFRESH}"
    );
    assert_refused(&run("state"), &shorter);
    place.topics.delete(bids);
    place.topics.create(bids, 1);
    place.fill(0, 60, 1);
    let fewer =
        format!("topic {bids}: partition 1 is no more, and the topic another one; {AFRESH}");
    assert_refused(&run("state"), &fewer);
    assert_runs(&run("other"));
}

/// A folder with bids, of which a job into files has read all it was given.
fn caught_up() -> TempDir {
    let folder = tempdir().unwrap();
    let bids: String = (0..300).map(|nth| bid(nth % 7, nth, nth * 100)).collect();
    fs::write(folder.path().join("bids.jsonl"), bids).unwrap();
    assert_runs(&with_files(folder.path(), "state", &["--catch-up"]));
    folder
}

/// Bids from a file, and results into files.
fn with_files(folder: &Path, state: &str, more: &[&str]) -> Ended {
    let out = format!("out-{state}");
    let ours = ["--source", "bids=file:bids.jsonl", "--output-dir", &out];
    let state = ["--state-dir", state];
    run("bid_stats", folder, &[&ours[..], &state, more].concat())
}

#[test]
fn a_file_that_has_changed_is_not_read_on() {
    let folder = caught_up();
    let folder = folder.path();
    let path = folder.join("bids.jsonl");
    let stamp = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
    };
    let (whole, was) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap());
    let was = (was.len(), was.modified().unwrap());
    fs::write(&path, [&whole[..], bid(1, 2, 3).as_bytes()].concat()).unwrap();
    let is = fs::metadata(&path).unwrap();
    let is = (is.len(), is.modified().unwrap());
    let [said_was, said_is] = [was, is]
        .map(|(bytes, time)| format!("bids.jsonl: {bytes} bytes, changed {}", stamp(time)));
    let changed = format!(
        "a file that was read has changed: was `{said_was}`, is `{said_is}`; put it back with its \
         time, or {AFRESH}"
    );
    assert_refused(&with_files(folder, "state", &[]), &changed);
    assert_refused(&with_files(folder, "state", &["--check"]), &changed);
    assert_runs(&with_files(folder, "other", &["--job-id", "other"]));
    fs::write(&path, &whole).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(was.1)
        .unwrap();
    assert_runs(&with_files(folder, "state", &[]));
}

#[test]
fn a_file_of_results_that_was_taken_away_is_missed() {
    let folder = caught_up();
    let folder = folder.path();
    let path = folder.canonicalize().unwrap().join("out-state/stats.jsonl");
    let results = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let missing = format!(
        "output `{}` is missing: {} bytes of it were committed; put it back, or {AFRESH}",
        path.display(),
        results.len()
    );
    assert_refused(&with_files(folder, "state", &["--check"]), &missing);
    assert_refused(&with_files(folder, "state", &[]), &missing);
    assert_runs(&with_files(folder, "other", &["--job-id", "other"]));
    fs::write(&path, &results).unwrap();
    assert_runs(&with_files(folder, "state", &["--check"]));
    assert_runs(&with_files(folder, "state", &[]));
}

#[test]
fn another_plan_without_a_kafka_sink_cannot_be_made_again() {
    let folder = caught_up();
    let folder = folder.path();
    let shape = shown(folder, "state")["operators"][0]["shape"].clone();
    let was = shape.as_str().unwrap();
    let is = was.replace("10000 ms", "5000 ms");
    let other = ["--set", "size=5s"];
    let changed = format!(
        "operator `window` was `{was}` when its state was saved in `state`, and is `{is}` now; \
         start afresh with an empty --state-dir, or with --allow-empty window"
    );
    for more in [&other[..], &[&other[..], &["--check"]].concat()] {
        assert_refused(&with_files(folder, "state", more), &changed);
    }
    let rebuilt = with_files(folder, "state", &[&other[..], &["--rebuild"]].concat());
    assert_eq!(rebuilt.code, 2, "{}", rebuilt.said());
    let why = "--rebuild: needs a Kafka sink, where progress is committed; without one start \
               afresh with an empty --state-dir";
    assert!(rebuilt.said().contains(why), "{}", rebuilt.said());
    assert_runs(&with_files(folder, "other", &other));
    let named = [&other[..], &["--allow-empty", "window"]].concat();
    let ended = with_files(folder, "state", &named);
    assert_runs(&ended);
    // Whatever is lost is said, whether it is asked for or not.
    let said = ended.said();
    assert!(said.contains("state: starts empty: window"), "{said}");
}

/// Saves what a job has caught up with.
fn save(folder: &Path, to: &str) {
    let arguments = ["checkpoint", "save", "state", to];
    assert_runs(&run("anabranch", folder, &arguments));
}

#[test]
fn a_savepoint_that_cannot_be_begun_with_is_no_reason_to_read_the_log_again() {
    let folder = caught_up();
    let folder = folder.path();
    save(folder, "saved");
    save(folder, "whole");
    let from = |saved| ["--from-savepoint", saved];
    let log = shown(folder, "saved")["logs"][0]["path"].clone();
    let log = format!("saved/{}", log.as_str().unwrap());
    let about = manifest(folder, "saved");
    let name = about.strip_prefix(folder).unwrap().display();
    fs::remove_file(folder.join(&log)).unwrap();
    let missing = format!("log `{log}` is missing; {SPOILED}");
    let check = [&from("saved")[..], &["--check"]].concat();
    assert_refused(&with_files(folder, "other", &check), &missing);
    assert_refused(&with_files(folder, "other", &from("saved")), &missing);
    fs::write(&about, "no manifest").unwrap();
    let damaged = format!("manifest `{name}` is damaged: its checksum is another; {SPOILED}");
    assert_refused(&with_files(folder, "other", &check), &damaged);
    assert_refused(&with_files(folder, "other", &from("saved")), &damaged);
    let nothing = format!("`gone` is no savepoint: there is no checkpoint in it; {SPOILED}");
    assert_refused(&with_files(folder, "other", &from("gone")), &nothing);
    // Nor is another plan.
    let shape = shown(folder, "whole")["operators"][0]["shape"].clone();
    let was = shape.as_str().unwrap();
    let is = was.replace("10000 ms", "5000 ms");
    let changed = format!(
        "operator `window` was `{was}` when its state was saved in `whole`, and is `{is}` now; \
         {SPOILED}, or with --allow-empty window"
    );
    let other = [&from("whole")[..], &["--set", "size=5s"]].concat();
    assert_refused(&with_files(folder, "other", &other), &changed);
    assert_runs(&with_files(folder, "other", &from("whole")));
    assert_runs(&with_files(folder, "another", &[]));
}

/// The files of the job that it was saved from are not gone on with.
#[test]
fn a_savepoint_brings_no_files_of_results() {
    let folder = caught_up();
    let folder = folder.path();
    save(folder, "saved");
    assert_runs(&with_files(folder, "state", &[]));
    let begin = ["--from-savepoint", "saved", "--output-dir", "out-state"];
    let ours = ["--source", "bids=file:bids.jsonl", "--state-dir", "other"];
    let begin = [&ours[..], &begin].concat();
    let checked = run("bid_stats", folder, &[&begin[..], &["--check"]].concat());
    assert_runs(&checked);
    assert_runs(&run("bid_stats", folder, &begin));
}

#[test]
fn a_directory_that_was_moved_or_copied_is_noticed() {
    let folder = caught_up();
    let folder = folder.path();
    let state = folder.join("state");
    fs::rename(state.join("gen=00000001"), state.join("gen=00000005")).unwrap();
    let name = program::names(&state.join("gen=00000005"));
    let name = name.iter().find(|name| name.starts_with("checkpoint-"));
    let name = name.unwrap();
    let moved = format!(
        "manifest `state/gen=00000005/{name}` was written as `gen=00000001/{name}`: it was moved \
         or copied here; put it back, or {LOST}"
    );
    assert_refused(&with_files(folder, "state", &[]), &moved);
    assert_refused(&with_files(folder, "state", &["--check"]), &moved);
    assert_runs(&with_files(folder, "other", &[]));
    fs::rename(state.join("gen=00000005"), state.join("gen=00000001")).unwrap();
    // All of it somewhere else is the same.
    fs::rename(&state, folder.join("elsewhere")).unwrap();
    assert_runs(&with_files(folder, "elsewhere", &[]));
}

/// A copy that was left behind when the job went on.
#[test]
fn a_copy_of_older_state_is_not_gone_on_with() {
    let place = Place::new();
    place.write(0, 30);
    assert_runs(&place.run(&["--catch-up"]));
    let (state, aside) = (place.path().join("state"), place.path().join("aside"));
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-r").args([from, to]).status();
        assert!(copied.unwrap().success());
    };
    copy(&state, &aside);
    place.write(30, 60);
    assert_runs(&place.run(&["--catch-up"]));
    let committed = manifest(place.path(), "state");
    let committed = committed.strip_prefix(place.path()).unwrap();
    let missing = format!("manifest `{}` is missing; {LOST}", committed.display());
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&aside, &state).unwrap();
    assert_refused(&place.run(&["--check", "--bounded"]), &missing);
    assert_refused(&place.run(&["--bounded"]), &missing);
    assert_runs(&place.run(&["--rebuild", "--bounded"]));
    assert_eq!(place.seen(), expected(60));
}

/// A process with the id and topics of `job`, and the directory of `place`.
fn astray(job: &Place, place: &Place, more: &[&str]) -> Ended {
    let arguments = job.arguments(more);
    Running::start(&mut program("bid_stats", place.path(), &arguments)).ended()
}

#[test]
fn state_of_another_job_is_refused_and_whose_it_is_goes_on() {
    let place = Place::new();
    let (other, third) = (place.beside(), place.beside());
    place.write(0, 30);
    assert_runs(&place.run(&["--catch-up"]));
    assert_runs(&other.run(&["--catch-up"]));
    // One that has committed nothing yet.
    let number = shown(place.path(), "state")["checkpoint"].clone();
    let no_progress = format!(
        "state directory `state` has checkpoint {number} of job `{}`, and kafka:{}.progress has no \
         progress: it is another cluster, or the topic was deleted, or the job ran at-least-once; \
         to start afresh empty the directory",
        place.id, third.id
    );
    assert_refused(&astray(&third, &place, &["--bounded"]), &no_progress);
    assert_refused(
        &astray(&third, &place, &["--bounded", "--check"]),
        &no_progress,
    );
    assert_runs(&third.run(&["--bounded"]));
    // One that was told to take over, and has progress of its own; either way round.
    let swapped = |job: &Place, theirs: &Place| {
        format!(
            "state directory `state` is of another run than kafka:{0}.progress: job `{0}` there, \
             job `{1}` here; give its own --state-dir, or {REBUILD}",
            job.id, theirs.id
        )
    };
    let mut owner = place.start(&[]);
    place.write(30, 60);
    place.wait_for(expected(50).len());
    let pairs = [(&other, &place), (&place, &other)];
    for (job, theirs) in pairs {
        let refused = astray(job, theirs, &["--take-over"]);
        assert_refused(&refused, &swapped(job, theirs));
    }
    place.write(60, 90);
    assert_eq!(place.wait_for(expected(80).len()), expected(80));
    owner.assert_runs();
    owner.signal("TERM");
    assert_runs(&owner.ended_with_open_input());
    for (job, theirs) in pairs {
        let sentence = swapped(job, theirs);
        assert_refused(&astray(job, theirs, &["--bounded"]), &sentence);
        assert_refused(&astray(job, theirs, &["--bounded", "--check"]), &sentence);
        assert_runs(&job.run(&["--bounded"]));
        assert_eq!(job.seen(), expected(90));
    }
}

/// Where no progress in Kafka tells whose it is.
#[test]
fn state_of_another_job_that_writes_files_is_refused() {
    let folder = caught_up();
    let folder = folder.path();
    let job = shown(folder, "state")["job"].clone();
    let theirs = format!(
        "state directory `state` is of job `{}`, and this is `another`; give each job a \
         --state-dir of its own",
        job.as_str().unwrap()
    );
    let another = ["--job-id", "another"];
    let check = ["--job-id", "another", "--check"];
    assert_refused(&with_files(folder, "state", &another), &theirs);
    assert_refused(&with_files(folder, "state", &check), &theirs);
    assert_runs(&with_files(folder, "other", &another));
    assert_runs(&with_files(folder, "state", &[]));
}

#[test]
fn damaged_state_is_made_again_from_the_log() {
    let place = Place::new();
    for (nth, kind) in (1..).zip(["log", "manifest", "newer", "empty"]) {
        place.write(nth * 30 - 30, nth * 30);
        let more = ["--rebuild", "--catch-up"];
        assert_runs(&place.run(&more[usize::from(nth == 1)..]));
        let path = manifest(place.path(), "state");
        let about = path.strip_prefix(place.path()).unwrap().display();
        let said = match kind {
            "log" => {
                let log = shown(place.path(), "state")["logs"][0]["path"].clone();
                let log = format!("state/{}", log.as_str().unwrap());
                fs::remove_file(place.path().join(&log)).unwrap();
                format!("log `{log}` is missing; {LOST}")
            }
            "manifest" => {
                fs::write(&path, "no manifest").unwrap();
                format!("manifest `{about}` is damaged: its checksum is another; {LOST}")
            }
            "newer" => {
                edit(&path, |text| text.replace("\"format\":1", "\"format\":2"));
                format!(
                    "manifest `{about}` has format 2, and this version reads up to 1: start a \
                     newer one"
                )
            }
            _ => {
                let number = shown(place.path(), "state")["checkpoint"].clone();
                fs::remove_dir_all(place.path().join("state")).unwrap();
                let id = &place.id;
                format!(
                    "state directory `state` is empty, and kafka:{id}.progress says that job \
                     `{id}` has committed checkpoint {number}; give its own --state-dir, or \
                     {REBUILD} and repeats nothing"
                )
            }
        };
        assert_refused(&place.run(&["--catch-up", "--check"]), &said);
        assert_refused(&place.run(&["--catch-up"]), &said);
    }
    assert_runs(&place.run(&["--rebuild", "--catch-up"]));
    assert_eq!(place.seen(), expected(110));
    assert_runs(&place.run(&["--bounded"]));
    assert_eq!(place.seen(), expected(120));
    let number = shown(place.path(), "state")["checkpoint"].clone();
    let finished = format!(
        "job `{0}` is finished: checkpoint {number} in `state` was its last; to run it again give \
         it another --job-id and an empty --state-dir",
        place.id
    );
    assert_refused(&place.run(&["--bounded"]), &finished);
    assert_refused(&place.run(&["--bounded", "--check"]), &finished);
    assert_runs(&afresh(&place, "other"));
}
