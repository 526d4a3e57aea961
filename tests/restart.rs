//! A log that is read in parts, each by a run of its own that goes on from the state of the one
//! before, with another number of workers, gives what one run over all of it gives: for every
//! operator that keeps state.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::time::Duration;

use anabranch::connectors::{MemorySink, MemorySource, NullSink, Style};
use anabranch::prelude::*;
use anabranch::{Guarantee, Settings};
use proptest::prelude::*;

/// An event: key, id, and a number.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    key: u32,
    id: u64,
    time: i64,
}

/// Counts the events of a key, says so when it was silent for 30 ms, and forgets it.
struct Silence;

impl Process for Silence {
    type Key = u32;
    type In = Item;
    type Out = (u32, u64, i64);
    type State = (u64, i64);

    fn on_event(
        &self,
        seen: &mut (u64, i64),
        event: &Event<Item>,
        cx: &mut ProcessContext<'_, Self>,
    ) {
        let time = event.at.time.millis();
        cx.clear_timer(seen.1 + 30);
        *seen = (seen.0 + 1, time);
        cx.set_timer(time + 30);
    }

    fn on_timer(&self, seen: &mut (u64, i64), at: EventTime, cx: &mut ProcessContext<'_, Self>) {
        let key = *cx.key();
        cx.emit((key, seen.0, at.millis()));
        *seen = (0, 0);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a description")]
fn describe(flow: &Flow<'_>) -> Result {
    let all = flow
        .source::<Item>("items")
        .json()
        .event_time(|item| item.time, Watermarks::lag(Duration::from_millis(20)));
    // Behind `dedup` all is in order already, and nothing is held any more.
    let keyed = all.clone().key_by(|item| item.key).order().events();
    keyed
        .map(|item| (item.key, item.id, item.time))
        .sink("ordered", |s| s.json());
    all.clone()
        .key_by(|item| item.key)
        .process("held", Silence)
        .sink("held", |s| s.json());
    let items = all.dedup(|item| item.id, Duration::from_millis(200));
    items
        .clone()
        .key_by(|item| item.key)
        .order()
        .window(Tumbling::of(Duration::from_millis(50)))
        .aggregate(|a| {
            (
                a.count(),
                a.sum(|item| i64::from(item.key) + item.time),
                a.first(|i| i.id),
            )
        })
        .emit_final()
        .map(|w| {
            (
                w.key,
                w.window.start.millis(),
                w.value.0,
                w.value.1,
                w.value.2,
            )
        })
        .sink("windows", |s| s.json());
    items
        .dedup_eager(|item| item.id, Duration::from_millis(500))
        .key_by(|item| item.key)
        .process("silence", Silence)
        .sink("silence", |s| s.json());
    Ok(())
}

type Log = Vec<Vec<Item>>;

/// Runs the job over the first `parts` of each partition, in twelfths.
fn run(log: &Log, parts: usize, workers: usize, state: Option<&std::path::Path>) -> Vec<String> {
    let partitions = log.iter().map(|items| {
        let some = &items[..items.len() * parts / 12];
        some.iter()
            .map(|item| serde_json::to_vec(item).unwrap())
            .collect::<Vec<_>>()
    });
    let sinks = ["windows", "silence", "ordered", "held"];
    let sinks = sinks.map(|name| (name, MemorySink::new(Style::Lines)));
    let mut settings = Settings::new()
        .workers(workers)
        .bind_source("items", MemorySource::new("items", partitions))
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    for (name, sink) in &sinks {
        settings = settings.bind_sink(name, sink.clone());
    }
    if let Some(dir) = state {
        settings = settings
            .state_dir(dir)
            .checkpoint_interval(Duration::from_millis(1))
            .guarantee(Guarantee::AtLeastOnce)
            .catch_up(parts < 12);
    }
    let summary = Job::new("restart", describe).run(settings).unwrap();
    assert!(summary.balances(), "{summary}");
    let lines = |(name, sink): &(&str, MemorySink)| {
        let lines = sink.lines().into_iter();
        lines
            .map(|line| format!("{name} {line}"))
            .collect::<Vec<_>>()
    };
    sinks.iter().flat_map(lines).collect()
}

fn logs() -> impl Strategy<Value = Log> {
    let item = (0..6u32, 0..80u64, -25..25i64);
    let partition = prop::collection::vec(item, 0..120);
    let timed = partition.prop_map(|items| {
        let times = 0i64..;
        let items = items.into_iter().zip(times);
        items
            .map(|((key, id, late), nth)| Item {
                key,
                id,
                time: 4 * nth + late,
            })
            .collect()
    });
    prop::collection::vec(timed, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn parts_give_what_the_whole_gives(
        log in logs(),
        cuts in prop::collection::btree_set(0..12usize, 0..4),
        workers in prop::collection::vec(1..4usize, 5),
    ) {
        let mut expected = run(&log, 12, 2, None);
        expected.sort_unstable();
        let state = tempfile::tempdir().unwrap();
        let mut found = Vec::new();
        for (parts, workers) in cuts.iter().copied().chain([12]).zip(workers) {
            found.extend(run(&log, parts, workers, Some(state.path())));
        }
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
