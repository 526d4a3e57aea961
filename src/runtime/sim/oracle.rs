//! What the job has to have written when it has read so much: from the log, from scratch, without
//! any of the engine.

use std::collections::BTreeMap;
use std::ops::Range;

use super::story::{Item, Shape, Story};

/// How far the log was read, and what of that is not in the log.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// Of each partition, the offset of the next record.
    pub(super) next: Vec<u64>,
    /// Of each partition, records that left as late with reason `idle`.
    pub(super) left: Vec<Vec<(u64, u64)>>,
    /// Of each source.
    pub(super) horizons: Vec<i64>,
}

/// By topic and key: values in their order, or sorted where there is no key.
pub(super) type Outputs = BTreeMap<(&'static str, u32), Vec<String>>;

/// See the module.
pub(super) fn expected(story: &Story, cut: &Cut) -> Outputs {
    let mut outputs = Outputs::new();
    let mut put = |topic, key, value| {
        let values: &mut Vec<String> = outputs.entry((topic, key)).or_default();
        values.push(value);
    };
    for (source, partitions) in story.sources().into_iter().enumerate() {
        let items = entered(story, cut, partitions, &mut put);
        results(
            story,
            &items,
            cut.horizons[source],
            story.ports(source),
            &mut put,
        );
    }
    for topic in ["late", "dead"] {
        outputs.entry((topic, 0)).or_default().sort();
    }
    outputs
}

/// What of a source entered, in its order; what did not is put.
fn entered<'a>(
    story: &'a Story,
    cut: &Cut,
    partitions: Range<usize>,
    put: &mut impl FnMut(&'static str, u32, String),
) -> Vec<&'a Item> {
    let mut items = Vec::new();
    for partition in partitions {
        let mut largest = None;
        let read = usize::try_from(cut.next[partition]).expect("a small log");
        for (offset, record) in (0u64..).zip(&story.log[partition][..read]) {
            let Some(item) = record else {
                put("dead", 0, "?".to_owned());
                continue;
            };
            let among = |(first, end): &(u64, u64)| (*first..*end).contains(&offset);
            let left = cut.left[partition].iter().any(among);
            if left || is_late(story, item, largest) {
                put("late", 0, text(item));
            } else {
                items.push(((item.time, partition, offset), item));
            }
            largest = largest.max(Some(item.time));
        }
    }
    items.sort_by_key(|(place, _)| *place);
    items.into_iter().map(|(_, item)| item).collect()
}

/// What comes of the `items` of a source up to its `horizon`.
fn results(
    story: &Story,
    items: &[&Item],
    horizon: i64,
    [first_port, windows_port]: [&'static str; 2],
    put: &mut impl FnMut(&'static str, u32, String),
) {
    let items = match story.shape {
        Shape::Dedup => without_repeats(items, story.retention),
        Shape::Windows | Shape::Order | Shape::Both => items.to_vec(),
    };
    if story.shape != Shape::Windows {
        let released = items.iter().filter(|item| item.time < horizon);
        released.for_each(|item| put(first_port, item.key, text(item)));
    }
    let mut windows = BTreeMap::new();
    for item in &items {
        let start = item.time.div_euclid(story.size) * story.size;
        let (count, sum, _) = windows
            .entry((start, item.key))
            .or_insert((0u64, 0i64, item.n));
        (*count, *sum) = (*count + 1, *sum + item.time);
    }
    let fired = windows
        .iter()
        .filter(|((start, _), _)| start + story.size <= horizon);
    for ((start, key), (count, sum, first)) in fired {
        let row = format!("[{key},{start},{count},{sum},{first}]");
        put(windows_port, *key, row);
    }
}

fn is_late(story: &Story, item: &Item, largest: Option<i64>) -> bool {
    largest.is_some_and(|largest| closes(story, item) + story.allowed <= largest - story.lag)
}

/// When the first operator can take it no more.
pub(super) fn closes(story: &Story, item: &Item) -> i64 {
    match story.shape {
        Shape::Windows => (item.time.div_euclid(story.size) + 1) * story.size,
        Shape::Dedup | Shape::Order | Shape::Both => item.time + 1,
    }
}

fn without_repeats<'a>(items: &[&'a Item], retention: i64) -> Vec<&'a Item> {
    let mut kept: BTreeMap<u64, i64> = BTreeMap::new();
    let mut first = items.to_vec();
    first.retain(|item| {
        let before = kept.get(&item.id);
        let repeats = before.is_some_and(|before| item.time < before + retention);
        if !repeats {
            kept.insert(item.id, item.time);
        }
        !repeats
    });
    first
}

fn text(Item { key, id, time, n }: &Item) -> String {
    format!(r#"{{"key":{key},"id":{id},"time":{time},"n":{n}}}"#)
}
