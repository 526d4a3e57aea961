//! The same work in plain loops over the same items: what this machine takes for it on this day,
//! without an engine, without late records, and without state that outlives the loop.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::thread;

use crate::jobs::{Case, Shape};
use crate::made::{Item, Total, mix};

/// A hash that costs next to nothing, for keys that are integers.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are integers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = mix(key);
    }

    #[expect(clippy::cast_possible_truncation, reason = "an id is mixed already")]
    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Mixes = BuildHasherDefault<Mixed>;

/// A loop on a thread of its own, which gives `expected`.
pub(crate) fn case(
    name: &'static str,
    records: u64,
    expected: u64,
    work: impl Fn() -> u64 + Send + Sync + 'static,
) -> Case {
    let run = move || {
        let total = Total::default();
        let mut part = total.part();
        thread::scope(|scope| {
            scope.spawn(|| {
                part.add(work());
                drop(part);
            });
        });
        assert_eq!(total.get(), expected, "{name}");
    };
    Case {
        name,
        records,
        run: Box::new(run),
    }
}

/// Nothing is left out because nobody looks at it.
fn item(shape: Shape, offset: u64) -> Item {
    std::hint::black_box(shape.item(offset))
}

/// Makes the items and nothing else.
fn none(shape: Shape) -> Case {
    let made = move |offset: &u64| item(shape, *offset).time >= 0;
    let work = move || (0..shape.records).filter(made).count() as u64;
    case("loop", shape.records, shape.records, work)
}

/// Count, sum and maximum of each key in one hash map.
pub(crate) fn tumbling(shape: Shape) -> [Case; 2] {
    let work = move || {
        let mut window: HashMap<u64, (u64, i128, i64), Mixes> = HashMap::default();
        for offset in 0..shape.records {
            let item = item(shape, offset);
            let (count, sum, max) = window.entry(item.key).or_insert((0, 0, i64::MIN));
            *count += 1;
            *sum += i128::from(item.value);
            *max = item.value.max(*max);
        }
        let weigh = |value: &(u64, i128, i64)| std::hint::black_box(value).0 << 32 | 1;
        window.values().map(weigh).sum()
    };
    let expected = shape.records << 32 | shape.keys;
    let with = case("loop-tumbling", shape.records, expected, work);
    [with, none(shape)]
}

/// The ids in one hash set.
pub(crate) fn dedup(shape: Shape) -> [Case; 2] {
    let work = move || {
        let mut seen: HashSet<u128, Mixes> = HashSet::default();
        let is_new = |offset: &u64| {
            let key = item(shape, *offset).key;
            seen.insert(u128::from(mix(key)) << 64 | u128::from(mix(!key)))
        };
        (0..shape.records).filter(is_new).count() as u64
    };
    let with = case("loop-dedup", shape.records, shape.keys, work);
    [with, none(shape)]
}

/// Buckets of 16 ms, each sorted when the watermark is past it.
pub(crate) fn order(shape: Shape) -> [Case; 2] {
    let work = move || {
        let lag = shape.disorder.cast_signed();
        let (mut buckets, mut next) = (Vec::<Vec<Item>>::new(), 0);
        let (mut last, mut ordered) = (i64::MIN, 0);
        let mut release = |bucket: &mut Vec<Item>| {
            bucket.sort_by_key(|item| item.time);
            for item in std::mem::take(bucket) {
                ordered += u64::from(std::hint::black_box(item.time) >= last);
                last = item.time;
            }
        };
        let bucket_of = |time: i64| usize::try_from(time >> 4).expect("not before 1970");
        for offset in 0..shape.records {
            let item = item(shape, offset);
            let bucket = bucket_of(item.time);
            if buckets.len() <= bucket {
                buckets.resize_with(bucket + 1, Vec::new);
            }
            buckets[bucket].push(item);
            while next < bucket_of((item.time - lag).max(0)) {
                release(&mut buckets[next]);
                next += 1;
            }
        }
        buckets[next..].iter_mut().for_each(&mut release);
        ordered
    };
    let with = case("loop-order", shape.records, shape.records, work);
    [with, none(shape)]
}
