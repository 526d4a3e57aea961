//! What is promised of the order in which records of one key are written, run in every way.
//!
//! Caught here: an order that depends on the number of workers, or on where epochs are cut; a
//! partition whose records change places behind steps that hold nothing back, or because a union
//! took them two ways; `order` that is not the naive sort; an event that is let in although one of
//! two operators has closed; a type that is not read back as it was written; an event that becomes
//! more than there are places for, without a word.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::convert::Infallible;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{JobTest, run};
use crate::connectors::{MemorySink, MemorySource, Style};
use crate::error::{ErrorKind, Result};
use crate::event::Position;
use crate::job::Job;
use crate::observe::Summary;
use crate::runtime::Settings;
use crate::state::codec;
use crate::stream::{EventStream, Flow};
use crate::time::{Tumbling, Watermarks};

/// An event: its time, key, partition and offset.
type Item = (i64, u32, u32, u64);

/// Longer than any event is behind its partition.
const LAG: Duration = Duration::from_millis(20);

/// Partitions whose times are out of order and repeat, also among each other, and that share keys.
fn log(partitions: u32, seed: u64) -> Vec<Vec<Item>> {
    let mut state = seed + 1;
    let mut below = |limit: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % limit
    };
    let mut item = |partition: u32, offset: u64| {
        let time = 2 * offset + below(16);
        let key = u32::try_from(below(3)).unwrap();
        let time = i64::try_from(time / 4 * 4).unwrap();
        (time, key, partition, offset)
    };
    (0..partitions)
        .map(|nth| (0..60).map(|offset| item(nth, offset)).collect())
        .collect()
}

/// A test of a job that reads `log`, does `steps`, and writes by key.
fn test<F>(log: &[Vec<Item>], steps: F) -> JobTest
where
    F: for<'scope> Fn(EventStream<'scope, Item>) -> EventStream<'scope, Item>
        + Send
        + Sync
        + 'static,
{
    let job = Job::new("steps", move |flow: &Flow<'_>| {
        let items = flow
            .source::<Item>("items")
            .decode(|record| codec::decode::<Item>(record.value.unwrap_or_default()))
            .event_time(|item| item.0, Watermarks::lag(LAG));
        steps(items).sink("out", |s| s.encode(write_item).key(|item| item.1));
        Ok(())
    });
    let partitions = log.iter().map(|items| items.iter().map(bytes));
    run(job).source("items", partitions).workers(3)
}

fn write_item(item: &Item, out: &mut Vec<u8>) -> std::io::Result<()> {
    let (time, key, partition, offset) = item;
    write!(out, "{time} {key} {partition} {offset}")
}

fn bytes(item: &Item) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(item, &mut bytes).unwrap();
    bytes
}

fn read_item(text: &str) -> Item {
    let mut words = text.split(' ');
    let mut next = || words.next().unwrap();
    (
        next().parse().unwrap(),
        next().parse().unwrap(),
        next().parse().unwrap(),
        next().parse().unwrap(),
    )
}

/// Runs the job in every way into a sink of records; `check` sees what was written of each key.
fn check_keys(test: JobTest, check: impl Fn(&str, u32, Vec<Item>)) {
    test.check_records("out", |run, records| {
        let values = records.into_iter().map(|record| record.value.unwrap());
        let items = values.map(|value| read_item(&String::from_utf8(value).unwrap()));
        let items: Vec<Item> = items.collect();
        for key in 0..3 {
            let of_key = items.iter().copied().filter(|item| item.1 == key);
            check(run, key, of_key.collect());
        }
    });
}

/// What of `log` has key `key`, partition after partition.
fn of_key(log: &[Vec<Item>], key: u32) -> Vec<Item> {
    let items = log.iter().flatten().copied();
    items.filter(|item| item.1 == key).collect()
}

/// By time, then by place in the log.
fn in_order(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by_key(|(time, _, partition, offset)| (*time, *partition, *offset));
    items
}

/// Each partition's records in the order in which they come, partition after partition.
fn by_partition(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by_key(|item| item.2); // stable
    items
}

fn ordered(items: EventStream<'_, Item>) -> EventStream<'_, Item> {
    items.key_by(|item| item.1).order().events()
}

/// Asserts that records of one key and partition are written in the order of the log.
fn assert_log_order<F>(steps: F)
where
    F: for<'scope> Fn(EventStream<'scope, Item>) -> EventStream<'scope, Item>
        + Send
        + Sync
        + 'static,
{
    let log = log(2, 1);
    check_keys(test(&log, steps), |run, key, items| {
        assert_eq!(by_partition(items), of_key(&log, key), "{run}: key {key}");
    });
}

/// Asserts that all records of a key are written by time, then by place in the log.
fn assert_one_order<F>(steps: F)
where
    F: for<'scope> Fn(EventStream<'scope, Item>) -> EventStream<'scope, Item>
        + Send
        + Sync
        + 'static,
{
    let log = log(2, 2);
    check_keys(test(&log, steps), |run, key, items| {
        assert_eq!(items, in_order(of_key(&log, key)), "{run}: key {key}");
    });
}

#[test]
fn steps_that_hold_nothing_back_keep_a_partition_in_the_order_of_the_log() {
    assert_log_order(|items| items.map(|item| item).filter(|_| true));
}

#[test]
fn eager_dedup_keeps_a_partition_in_the_order_of_the_log() {
    // The copies of an id go to the worker of the id, and from there to that of the key.
    assert_log_order(|items| items.dedup_eager(|item| (item.2, item.3), Duration::from_millis(5)));
}

#[test]
fn two_ways_that_meet_keep_a_partition_in_the_order_of_the_log() {
    assert_log_order(|items| {
        let even = items.clone().filter(|item| item.3 % 2 == 0);
        even.union(items.filter(|item| item.3 % 2 == 1))
    });
}

#[test]
fn what_was_put_in_order_is_written_in_one_order() {
    assert_one_order(ordered);
    // Here an operator has other keys than the sink.
    assert_one_order(|items| {
        items
            .key_by(|item| item.3)
            .order()
            .events()
            .map(|item| item)
    });
    assert_one_order(|items| items.dedup(|item| (item.2, item.3), Duration::from_millis(5)));
}

#[test]
fn a_union_keeps_the_order_of_each_of_its_streams() {
    let log = log(2, 3);
    check_keys(test(&log, both_ways), |run, key, items| {
        let (ordered, as_read): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.2 < 10);
        assert_eq!(ordered, in_order(of_key(&log, key)), "{run}: key {key}");
        let as_read = as_read
            .into_iter()
            .map(|item| (item.0, item.1, item.2 - 10, item.3));
        let as_read = by_partition(as_read.collect());
        assert_eq!(as_read, of_key(&log, key), "{run}: key {key}");
    });
}

/// Every item twice: once put in order, and once as it was read, marked by its partition.
fn both_ways(items: EventStream<'_, Item>) -> EventStream<'_, Item> {
    ordered(items.clone()).union(items.map(|item| (item.0, item.1, item.2 + 10, item.3)))
}

#[test]
fn results_of_windows_are_written_in_the_order_of_windows() {
    check_keys(test(&log(2, 4), counts), |run, key, items| {
        assert!(
            items.is_sorted_by_key(|item| item.0),
            "{run}: key {key}: {items:?}"
        );
        assert!(key > 0 || items.len() > 20, "{run}: {items:?}");
    });
}

/// How many items each partition has in each window, under one key.
fn counts(items: EventStream<'_, Item>) -> EventStream<'_, Item> {
    items
        .key_by(|item| item.2)
        .window(Tumbling::of(Duration::from_millis(8)))
        .aggregate(|a| a.count())
        .emit_final()
        .map(|w| (w.window.start.millis(), 0, w.key, w.value))
}

#[test]
fn order_is_the_naive_sort_of_each_key() {
    for seed in 10..13 {
        let log = log(3, seed);
        test(&log, ordered).check(&["out", "late"], |run, answer| {
            assert!(answer.lines[1].is_empty(), "{run}: {:?}", answer.lines[1]);
            let items: Vec<Item> = answer.lines[0].iter().map(|line| read_item(line)).collect();
            for key in 0..3 {
                let items = items.iter().copied().filter(|item| item.1 == key);
                let expected = in_order(of_key(&log, key));
                assert_eq!(items.collect::<Vec<_>>(), expected, "{run}: key {key}");
            }
        });
    }
}

/// Two sources, of which the first feeds a window and `dedup`, and the second the window alone.
fn window_and_dedup() -> Job {
    Job::new("window-and-dedup", |flow: &Flow<'_>| {
        let source = |name| {
            let items = flow.source::<Item>(name);
            items
                .decode(|record| codec::decode::<Item>(record.value.unwrap_or_default()))
                .event_time(|item| item.0, Watermarks::lag(Duration::from_millis(5)))
        };
        let (first, second) = (source("first"), source("second"));
        let kept = first.clone().dedup(|item| item.3, Duration::from_millis(5));
        kept.sink("kept", |s| s.encode(write_item));
        first
            .union(second)
            .key_by(|_| ())
            .window(Tumbling::of(Duration::from_millis(30)))
            .aggregate(|a| a.count())
            .emit_final()
            .map(|w| (w.window.start.millis(), 0, 0, w.value))
            .sink("counts", |s| s.encode(write_item));
        Ok(())
    })
}

#[test]
fn of_two_operators_behind_a_source_the_one_that_closes_first_decides() {
    // At 25 the watermark is 20. The window of 19 is open until 30, `dedup` takes 19 no more.
    let items = [(25, 0, 0, 0), (19, 0, 0, 1)];
    let bytes = items.map(|item: Item| bytes(&item));
    let answer = run(window_and_dedup())
        .source("first", [bytes.clone()])
        .source("second", [bytes])
        .workers(3)
        .answer(&["kept", "counts", "late"]);
    assert_eq!(answer.lines[0], ["25 0 0 0"]);
    assert_eq!(answer.lines[1], ["0 0 0 3"]);
    assert_eq!((answer.summary.late, answer.lines[2].len()), (1, 1));
    assert!(
        answer.lines[2][0].contains("\"first\""),
        "{:?}",
        answer.lines[2]
    );
}

/// A type that the form of state cannot read back.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
}

/// What a test says that has to fail.
fn said_by(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

#[test]
fn a_type_that_does_not_come_back_is_found_where_nothing_has_state() {
    let log = [[bytes(&(1, 0, 0, 0))]];
    let read = Job::new("read", |flow: &Flow<'_>| {
        flow.source::<Untagged>("items")
            .decode(|_| Ok::<_, Infallible>(Untagged::Number(1)))
            .event_time(|_| 1, Watermarks::lag(LAG))
            .map(|_| 1)
            .sink("out", |s| s.json());
        Ok(())
    });
    let test = run(read).source("items", log.clone());
    let said = said_by(|| drop(test.answer(&["out"])));
    assert!(
        said.contains("Untagged") && said.contains("cannot be read back"),
        "{said}"
    );
    let written = Job::new("written", |flow: &Flow<'_>| {
        flow.source::<i64>("items")
            .decode(|_| Ok::<_, Infallible>(1))
            .event_time(|_| 1, Watermarks::lag(LAG))
            .map(Untagged::Number)
            .sink("out", |s| s.json());
        Ok(())
    });
    let test = run(written).source("items", log);
    let said = said_by(|| drop(test.answer(&["out"])));
    assert!(
        said.contains("Untagged") && said.contains("cannot be read back"),
        "{said}"
    );
}

/// Runs a job that turns one event into `parts`, and each of these, on as many `levels`.
fn parted(levels: usize, parts: u64) -> Result<Summary> {
    let job = Job::new("parted", move |flow: &Flow<'_>| {
        let mut items = flow
            .source::<Item>("items")
            .decode(|record| codec::decode::<Item>(record.value.unwrap_or_default()))
            .event_time(|item| item.0, Watermarks::lag(LAG));
        for _ in 0..levels {
            items = items.flat_map(move |item| (0..parts).map(move |_| item));
        }
        items.sink("out", |s| s.encode(write_item));
        Ok(())
    });
    let partitions = [Vec::new(), vec![bytes(&(1, 0, 1, 0))]];
    let settings = Settings::new()
        .workers(1)
        .bind_source("items", MemorySource::new("items", partitions))
        .bind_sink("out", MemorySink::new(Style::Lines))
        .bind_sink("late", MemorySink::new(Style::Lines))
        .bind_sink("dead", MemorySink::new(Style::Lines));
    job.run(settings)
}

#[test]
fn an_event_becomes_as_many_as_there_are_places_and_one_more_ends_the_job() {
    let most = Position::CHILDREN_MAX;
    assert_eq!(parted(1, most).unwrap().results, most);
    assert_eq!(parted(3, 2).unwrap().results, 8);
    for (levels, parts, part) in [(1, most + 1, most), (4, 2, 0)] {
        let error = parted(levels, parts).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        let said = format!(
            "flat_map: source 0: partition 1: offset 0: no room for part {part} of an event: \
             65536 parts on three levels are the most"
        );
        assert_eq!(error.to_string(), said);
    }
}
