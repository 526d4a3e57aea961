//! A job whose description has changed goes on with what is still its own; what is not has to be
//! named, for it is lost.
//!
//! Caught here: an operator that begins empty unasked, or that is said to be new and is not; state
//! that goes to another operator; a source that was never read and is taken for one that was; a
//! type that is written into a checkpoint and could not be read back from it.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use anabranch::connectors::{MemorySink, MemorySource, NullSink, Style};
use anabranch::prelude::*;
use anabranch::{Error, ErrorKind, Guarantee, Json, Settings, State};

/// An event: key, id, and when it happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    key: u32,
    id: u64,
    time: i64,
}

/// How many events of a key there were.
struct Total;

impl Process for Total {
    type Key = u32;
    type In = Item;
    type Out = (u32, u64);
    type State = u64;

    fn on_event(&self, seen: &mut u64, event: &Event<Item>, cx: &mut ProcessContext<'_, Self>) {
        *seen += 1;
        cx.emit((event.value.key, *seen));
    }
}

/// What is kept of a key, by two versions of a job: in the same place, by the same name.
mod before {
    use anabranch::prelude::*;

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub(crate) struct Kept {
        pub(crate) count: u64,
    }
}

mod after {
    use anabranch::prelude::*;

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub(crate) struct Kept {
        pub(crate) count: u64,
        /// The id of the last event.
        #[serde(default)]
        pub(crate) last: Option<u64>,
    }
}

/// What no checkpoint can hold.
mod unfit {
    use anabranch::prelude::*;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    pub(crate) enum Kept {
        Count(u64),
    }

    impl Default for Kept {
        fn default() -> Self {
            Self::Count(0)
        }
    }

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub(crate) struct Skips {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub(crate) last: Option<u64>,
        pub(crate) count: u64,
    }

    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    pub(crate) enum Read {
        Item(super::Item),
    }
}

/// Counts, and keeps that in a type that evolves.
struct Counts<S>(PhantomData<S>, fn(&mut S, &Item) -> (u64, Option<u64>));

impl<S: State + Default> Process for Counts<S> {
    type Key = u32;
    type In = Item;
    type Out = (u64, Option<u64>);
    type State = S;

    fn on_event(&self, kept: &mut S, event: &Event<Item>, cx: &mut ProcessContext<'_, Self>) {
        cx.emit((self.1)(kept, &event.value));
    }
}

/// What the job has beside the totals.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    dedup: bool,
    lag: u64,
    /// One more source.
    more: bool,
}

fn describe(flow: &Flow<'_>, shape: Shape) {
    let lag = Watermarks::lag(Duration::from_millis(shape.lag));
    let items = |name| {
        let items = flow.source::<Item>(name).json();
        items.event_time(|item: &Item| item.time, lag)
    };
    let mut all = items("items");
    if shape.more {
        all = all.union(items("more"));
    }
    if shape.dedup {
        all = all.dedup(|item| item.id, Duration::from_secs(1));
    }
    let totals = all.key_by(|item| item.key).process("total", Total);
    totals.sink("totals", |s| s.json());
}

fn run(shape: Shape, parts: i64, state: &Path, allowed: &[&str]) -> Result<Vec<String>, Error> {
    let job = Job::new("upgrade", move |flow: &Flow<'_>| {
        describe(flow, shape);
        Ok(())
    });
    run_job(&job, shape, parts, (state, allowed))
}

/// Runs the job over the first `parts` quarters of a log; what it wrote.
fn run_job(
    job: &Job,
    shape: Shape,
    parts: i64,
    (state, allowed): (&Path, &[&str]),
) -> Result<Vec<String>, Error> {
    let item = |nth: i64| Item {
        key: u32::try_from(nth % 2).unwrap(),
        id: nth.unsigned_abs(),
        time: nth * 10,
    };
    let log = (0..parts * 10).map(|nth| serde_json::to_vec(&item(nth)).unwrap());
    let totals = MemorySink::new(Style::Lines);
    let mut settings = Settings::new()
        .workers(1)
        .bind_source(
            "items",
            MemorySource::new("items", [log.collect::<Vec<_>>()]),
        )
        .bind_sink("totals", totals.clone())
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new())
        .state_dir(state)
        .guarantee(Guarantee::AtLeastOnce)
        .catch_up(parts < 4);
    if shape.more {
        let nothing: [Vec<Vec<u8>>; 1] = [Vec::new()];
        settings = settings.bind_source("more", MemorySource::new("more", nothing));
    }
    for name in allowed {
        settings = settings.allow_empty(name);
    }
    job.run(settings)?;
    let mut lines = totals.lines();
    lines.sort_unstable();
    Ok(lines)
}

/// Totals of both keys, from the one to the other.
fn totals(from: u64, to: u64) -> Vec<String> {
    let both = (0..2).flat_map(|key| (from..to).map(move |total| format!("[{key},{total}]")));
    let mut both: Vec<_> = both.collect();
    both.sort_unstable();
    both
}

#[track_caller]
fn assert_refused(found: Result<Vec<String>, Error>, sentence: &str) {
    let error = found.unwrap_err();
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (ErrorKind::State, sentence)
    );
}

const DEDUP: &str = "dedup within 1s, of (u64, Item)";
const PLAIN: Shape = Shape {
    dedup: false,
    lag: 0,
    more: false,
};

#[test]
fn an_operator_that_is_new_begins_empty_if_it_is_named() {
    let state = tempfile::tempdir().unwrap();
    let (state, dir) = (state.path(), state.path().display());
    let mut seen = run(PLAIN, 1, state, &[]).unwrap();
    let added = Shape {
        dedup: true,
        ..PLAIN
    };
    let sentence = format!(
        "operator `dedup` ({DEDUP}) has no state in `{dir}`: it is new; start afresh with an empty \
         --state-dir, or with --allow-empty dedup"
    );
    assert_refused(run(added, 2, state, &[]), &sentence);
    assert_refused(run(added, 2, state, &["total"]), &sentence);
    // The totals go on. What is held for now comes with what is behind it.
    seen.extend(run(added, 2, state, &["dedup"]).unwrap());
    seen.extend(run(added, 4, state, &[]).unwrap());
    seen.sort_unstable();
    assert_eq!(seen, totals(1, 21));
}

#[test]
fn an_operator_that_is_gone_is_given_up_if_it_is_named() {
    let state = tempfile::tempdir().unwrap();
    let (state, dir) = (state.path(), state.path().display());
    let before = Shape {
        dedup: true,
        ..PLAIN
    };
    let seen = run(before, 1, state, &[]).unwrap().len();
    let sentence = format!(
        "the state in `{dir}` has operator `dedup` ({DEDUP}), which the job has no more; start \
         afresh with an empty --state-dir, or with --allow-empty dedup"
    );
    assert_refused(run(PLAIN, 2, state, &[]), &sentence);
    let after = run(PLAIN, 4, state, &["dedup"]).unwrap();
    // What `dedup` held went with it; the totals of what it had let go did not.
    let held = 10 - seen;
    assert_eq!(after.len(), 30);
    assert!(held <= 2, "{held}");
    assert!(
        after.contains(&format!("[0,{}]", 20 - held / 2)),
        "{after:?}"
    );
    // It is gone, and needs no name any more.
    assert!(!after.contains(&"[0,1]".to_owned()), "{after:?}");
}

#[test]
fn the_lag_may_be_another() {
    let state = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for (parts, lag) in [(1, 0), (2, 500), (4, 20)] {
        let shape = Shape { lag, ..PLAIN };
        seen.extend(run(shape, parts, state.path(), &[]).unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, totals(1, 21));
}

#[test]
fn a_source_that_is_new_was_never_read() {
    let state = tempfile::tempdir().unwrap();
    let (state, dir) = (state.path(), state.path().display());
    run(PLAIN, 1, state, &[]).unwrap();
    let more = Shape {
        more: true,
        ..PLAIN
    };
    let sentence = format!(
        "source `more` has no state in `{dir}`: it is new; start afresh with an empty --state-dir"
    );
    assert_refused(run(more, 2, state, &[]), &sentence);
    let other = tempfile::tempdir().unwrap();
    assert_eq!(run(more, 4, other.path(), &[]).unwrap(), totals(1, 21));
}

/// The job that counts in a state of this type.
fn counting<S: State + Default>(count: fn(&mut S, &Item) -> (u64, Option<u64>)) -> Job {
    Job::new("upgrade", move |flow| {
        let items = flow.source::<Item>("items").json();
        let items = items.event_time(|item: &Item| item.time, Watermarks::lag(Duration::ZERO));
        let counts = Counts(PhantomData, count);
        let counted = items.key_by(|item| item.key).process("count", counts);
        counted.sink("totals", |s| s.json());
        Ok(())
    })
}

#[test]
fn a_type_of_state_that_lies_in_json_may_get_a_field() {
    let state = tempfile::tempdir().unwrap();
    let old = counting::<Json<before::Kept>>(|Json(kept), _| {
        kept.count += 1;
        (kept.count, None)
    });
    let new = counting::<Json<after::Kept>>(|Json(kept), item| {
        kept.count += 1;
        (kept.count, kept.last.replace(item.id))
    });
    run_job(&old, PLAIN, 1, (state.path(), &[])).unwrap();
    // Of each key one is without an id before it: the first that the new version saw.
    let seen = run_job(&new, PLAIN, 4, (state.path(), &[])).unwrap();
    let without = seen.iter().filter(|line| line.ends_with("null]"));
    let without: Vec<_> = without.collect();
    assert_eq!(without.len(), 2, "{seen:?}");
    assert!(seen.contains(&"[20,37]".to_owned()), "{seen:?}");
    assert!(seen.contains(&"[20,36]".to_owned()), "{seen:?}");
}

#[test]
fn a_type_of_state_that_lies_in_no_json_may_not() {
    let state = tempfile::tempdir().unwrap();
    let old = counting::<before::Kept>(|kept, _| {
        kept.count += 1;
        (kept.count, None)
    });
    let new = counting::<after::Kept>(|kept, item| {
        kept.count += 1;
        (kept.count, kept.last.replace(item.id))
    });
    run_job(&old, PLAIN, 1, (state.path(), &[])).unwrap();
    let error = run_job(&new, PLAIN, 4, (state.path(), &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    let said = error.to_string();
    let sentence = "operator `count` cannot read its state, of which a type has changed; start \
                    with --rebuild, which reads the log again, or, without a Kafka sink, afresh \
                    with an empty --state-dir: type `";
    assert!(said.starts_with(sentence), "{said}");
    assert!(said.contains("upgrade::after::Kept"), "{said}");
}

#[track_caller]
fn assert_unfit(job: &Job, operator: &str, of_type: &str) {
    let state = tempfile::tempdir().unwrap();
    let error = run_job(job, PLAIN, 1, (state.path(), &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let said = error.to_string();
    let sentence = format!(
        "operator `{operator}` cannot keep what a restart could not read; a `Json` around the type \
         can be read: type `"
    );
    assert!(said.starts_with(&sentence), "{said}");
    assert!(said.contains(of_type), "{said}");
    // Checkpoint 0 was there before anything was read.
    let mut names = Vec::new();
    for folder in std::fs::read_dir(state.path()).unwrap() {
        let Ok(files) = std::fs::read_dir(folder.unwrap().path()) else {
            continue; // a file
        };
        names.extend(files.map(|file| file.unwrap().file_name().into_string().unwrap()));
    }
    names.retain(|name| name.starts_with("checkpoint-"));
    assert_eq!(names, ["checkpoint-0000000000.json"]);
}

#[test]
fn a_type_of_state_that_no_restart_could_read_is_not_committed() {
    let untagged = counting::<unfit::Kept>(|unfit::Kept::Count(count), _| {
        *count += 1;
        (*count, None)
    });
    assert_unfit(&untagged, "count", "upgrade::unfit::Kept");
    let skips = counting::<unfit::Skips>(|kept, _| {
        kept.count += 1;
        (kept.count, kept.last)
    });
    assert_unfit(&skips, "count", "upgrade::unfit::Skips");
    // The way out that is named.
    let state = tempfile::tempdir().unwrap();
    let wrapped = counting::<Json<unfit::Kept>>(|Json(unfit::Kept::Count(count)), _| {
        *count += 1;
        (*count, None)
    });
    run_job(&wrapped, PLAIN, 1, (state.path(), &[])).unwrap();
    let seen = run_job(&wrapped, PLAIN, 4, (state.path(), &[])).unwrap();
    assert!(seen.contains(&"[20,null]".to_owned()), "{seen:?}");
}

#[test]
fn a_type_of_records_that_no_restart_could_read_is_not_committed() {
    let job = Job::new("upgrade", |flow| {
        let items = flow.source::<unfit::Read>("items").json();
        let time = |unfit::Read::Item(item): &unfit::Read| item.time;
        let items = items.event_time(time, Watermarks::lag(Duration::ZERO));
        let id = |unfit::Read::Item(item): &unfit::Read| item.id;
        let once = items.dedup(id, Duration::from_secs(1));
        once.sink("totals", |s| s.json());
        Ok(())
    });
    assert_unfit(&job, "dedup", "upgrade::unfit::Read");
}
