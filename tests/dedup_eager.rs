//! `dedup_eager` is exact where the copies of an id share a partition: one answer in every run,
//! that of a plain loop over each partition.
//!
//! Caught here: a copy that is dropped though none was passed within its retention, or passed
//! though one was; an id that is forgotten too early; a late event that counts as a copy.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::collections::HashMap;

use anabranch::prelude::*;
use anabranch::testing;

const LAG: i64 = 15;
const RETENTION: i64 = 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    id: u64,
    time: i64,
    /// Which copy it is.
    nth: usize,
}

fn span(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

fn job() -> Job {
    Job::new("eager", |flow: &Flow<'_>| {
        flow.source::<Item>("items")
            .json()
            .event_time(|item| item.time, Watermarks::lag(span(LAG)))
            .dedup_eager(|item| item.id, span(RETENTION))
            .sink("kept", |s| s.json());
        Ok(())
    })
}

/// Copies of few ids, which go back and forth in time, within the lag and beyond it.
fn partition(number: u64) -> Vec<Item> {
    let mut random = number + 1;
    let mut below = |end: u64| {
        random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        (random >> 33) % end
    };
    let (mut clock, mut items) = (0, Vec::new());
    for nth in 0..150 {
        clock += i64::try_from(below(7)).unwrap();
        let back = [0, 0, 0, below(15), below(40)][usize::try_from(below(5)).unwrap()];
        items.push(Item {
            id: number * 10 + below(4),
            time: clock - i64::try_from(back).unwrap(),
            nth,
        });
    }
    items
}

/// What is passed of a partition, and how many are late and are duplicates.
fn loop_over(items: &[Item]) -> (Vec<&Item>, [u64; 2]) {
    let mut passed: HashMap<u64, i64> = HashMap::new();
    let (mut kept, mut newest, mut counts) = (Vec::new(), None, [0; 2]);
    for item in items {
        let late = newest.is_some_and(|newest| item.time < newest - LAG);
        newest = newest.max(Some(item.time));
        let before = passed.get(&item.id);
        if late {
            counts[0] += 1;
        } else if before.is_some_and(|before| (item.time - before).abs() < RETENTION) {
            counts[1] += 1;
        } else {
            passed.insert(item.id, item.time);
            kept.push(item);
        }
    }
    (kept, counts)
}

#[test]
fn copies_that_share_a_partition_have_one_answer() {
    let partitions = [0, 1, 2].map(partition);
    let (mut expected, mut counts) = (Vec::new(), [0; 2]);
    for items in &partitions {
        let (kept, here) = loop_over(items);
        expected.extend(kept.iter().map(|item| serde_json::to_string(item).unwrap()));
        counts = [counts[0] + here[0], counts[1] + here[1]];
    }
    expected.sort_unstable();
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    let lines = partitions.map(|items| {
        let lines = items.iter().map(|item| serde_json::to_vec(item).unwrap());
        lines.collect::<Vec<_>>()
    });
    let answer = testing::run(job())
        .source("items", lines)
        .seeds(8)
        .answer(&["kept"]);
    assert_eq!(answer.lines[0], expected);
    let summary = &answer.summary;
    assert_eq!([summary.late, summary.duplicates], counts, "{summary}");
}
