//! The jobs that are measured: each is run whole, and asserts what came out.

use std::sync::Arc;
use std::time::Duration;

use anabranch::State;
use anabranch::connectors::{NullSink, SinkPort, Source};
use anabranch::prelude::*;
use anabranch::timely::dataflow::operators::Exchange;

use crate::activations::Longest;
use crate::json::{decode, encode};
use crate::made::{Item, Made, Total, mix};
use crate::plain;

/// A job ready to run.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) records: u64,
    pub(crate) run: Box<dyn Fn()>,
}

/// One operator.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// Nanoseconds a record.
    pub(crate) goal: f64,
    pub(crate) with: Case,
    pub(crate) without: Case,
    /// The same work in a plain loop, and that loop without it.
    pub(crate) plain: Option<[Case; 2]>,
}

const SMALL: u64 = 2_000_000;
const LARGE: u64 = 10_000_000;
const SPAN: i64 = 10_000;
/// Bytes of an id that is remembered: twice the goal.
const ID_MAX: f64 = 64.0;

/// Runs `job` on `source`; nothing but its results reaches a sink. Gives duplicates and state.
pub(crate) fn go(
    job: &Job,
    source: impl Source + 'static,
    workers: usize,
    results: u64,
) -> (u64, u64) {
    let sink = NullSink::new();
    let settings = Settings::new()
        .workers(workers)
        .bind_source("in", source)
        .bind_sink("out", sink.clone())
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    let summary = job.run(settings).expect("the job runs");
    assert!(
        summary.balances() && summary.late == 0 && summary.dead == 0,
        "{summary}"
    );
    assert_eq!(sink.records(), results, "{summary}");
    (summary.duplicates, summary.state_bytes)
}

/// Which events there are.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) records: u64,
    pub(crate) keys: u64,
    /// How many windows they fill.
    pub(crate) windows: u64,
    /// Milliseconds of disorder.
    pub(crate) disorder: u64,
}

impl Shape {
    pub(crate) fn item(self, offset: u64) -> Item {
        // An odd number that shares no divisor with the keys: each comes once in a round.
        let key = offset.wrapping_mul(7_368_787) % self.keys;
        let span = self.windows * SPAN.unsigned_abs();
        let jitter = if self.disorder > 0 {
            mix(offset) % self.disorder
        } else {
            0
        };
        let time = self.disorder + offset * span / self.records - jitter;
        Item {
            key,
            value: (offset & 0xFFF).cast_signed(),
            time: time.cast_signed(),
        }
    }
}

/// A job that makes items, does `step` to them and sums what comes out of it.
fn case<U: State, S>(
    name: &'static str,
    shape: Shape,
    workers: u32,
    step: S,
    weigh: impl Fn(&U) -> u64 + Clone + Send + Sync + 'static,
    check: impl Fn(u64, (u64, u64)) + 'static,
) -> Case
where
    S: for<'s> Fn(EventStream<'s, Item>) -> EventStream<'s, U> + Clone + Send + Sync + 'static,
{
    let records = shape.records * u64::from(workers);
    let run = move || {
        let (total, step, weigh) = (Total::default(), step.clone(), weigh.clone());
        let sum = total.clone();
        let lag = Duration::from_millis(shape.disorder);
        let job = Job::new(name, move |flow: &Flow<'_>| {
            let items = flow
                .source::<Item>("in")
                .decode(move |record| Ok::<_, String>(shape.item(record.offset)))
                .event_time(|item| item.time, Watermarks::lag(lag));
            let (mut part, weigh) = (sum.part(), weigh.clone());
            step(items)
                .filter(move |result| {
                    part.add(weigh(result));
                    false
                })
                .map(|_| 0_u64)
                .sink("out", SinkPort::json);
            Ok(())
        });
        let source = Made {
            partitions: workers,
            records: shape.records,
            ..Made::default()
        };
        let ended = go(&job, source, workers as usize, 0);
        check(total.get(), ended);
    };
    Case {
        name,
        records,
        run: Box::new(run),
    }
}

/// Says the type of a step, which no closure can by itself.
fn over<U, F>(step: F) -> F
where
    F: for<'s> Fn(EventStream<'s, Item>) -> EventStream<'s, U>,
{
    step
}

/// The items and nothing else.
fn bare(name: &'static str, shape: Shape, workers: u32) -> Case {
    let expected = shape.records * u64::from(workers);
    let check = move |sum, _| assert_eq!(sum, expected, "{name}");
    case(name, shape, workers, over(|items| items), |_| 1, check)
}

fn tumbling(name: &'static str, shape: Shape, watched: Option<&Longest>) -> Case {
    let watched = watched.cloned();
    let step = over(move |items| {
        let windows = items
            .key_by(|item| item.key)
            .window(Tumbling::of(Duration::from_millis(SPAN.unsigned_abs())))
            .aggregate(|a| {
                (
                    a.count(),
                    a.sum(|item| item.value),
                    a.max(|item| item.value),
                )
            })
            .emit_final();
        match &watched {
            Some(watched) => watched.watch(windows),
            None => windows,
        }
    });
    let weigh = |w: &Windowed<u64, (u64, i128, i64)>| weight(w.value);
    let expected = weights(shape);
    let check = move |sum, _| assert_eq!(sum, expected, "{name}");
    case(name, shape, 1, step, weigh, check)
}

/// One for the result, and count, sum and maximum each by a factor of its own: no error of one
/// makes good another's.
fn weight((count, sum, max): (u64, i128, i64)) -> u64 {
    let sum = u64::try_from(sum).expect("values are small");
    count
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(sum.wrapping_mul(0xBF58_476D_1CE4_E5B9))
        .wrapping_add(max.cast_unsigned().wrapping_mul(0x94D0_49BB_1331_11EB))
        .wrapping_add(1)
}

/// Of one result for each key and window: a key comes back after as many records as there are keys.
fn weights(shape: Shape) -> u64 {
    let window = shape.records / shape.windows;
    let of = |first: u64| {
        let end = first / window * window + window;
        let its = (first..end).step_by(usize::try_from(shape.keys).expect("few"));
        let stats = its.fold((0, 0, i64::MIN), |(count, sum, max), offset| {
            let value = shape.item(offset).value;
            (count + 1, sum + i128::from(value), value.max(max))
        });
        weight(stats)
    };
    let firsts = (0..shape.windows).flat_map(|nth| nth * window..nth * window + shape.keys);
    firsts.map(of).fold(0, u64::wrapping_add)
}

/// Every tenth id comes a second time, a million events later.
fn dedup(name: &'static str, shape: Shape, watched: Option<&Longest>) -> Case {
    let watched = watched.cloned();
    let step = over(move |items| {
        let id = |item: &Item| u128::from(mix(item.key)) << 64 | u128::from(mix(!item.key));
        let kept = items.dedup(id, Duration::from_hours(1));
        match &watched {
            Some(watched) => watched.watch(kept),
            None => kept,
        }
    });
    let check = move |sum, (duplicates, bytes): (u64, u64)| {
        assert_eq!(
            (sum, duplicates),
            (shape.keys, shape.records - shape.keys),
            "{name}"
        );
        let each = bytes as f64 / shape.keys as f64;
        // A table that has just grown takes more.
        let most = if shape.keys >= LARGE { ID_MAX } else { 200.0 };
        assert!(each < most, "{name}: {each:.1} bytes an id");
        if shape.keys >= LARGE {
            println!("|   dedup: {each:.1} bytes an id (goal 32), {bytes} in all |");
        }
    };
    case(name, shape, 1, step, |_| 1, check)
}

fn order(shape: Shape) -> Case {
    let step = over(|items| {
        let mut last = i64::MIN;
        items
            .key_by(|item| item.key)
            .order()
            .events()
            .map(move |item| {
                let is_in_order = item.time >= last;
                last = item.time;
                is_in_order
            })
    });
    let check = move |sum, _| assert_eq!(sum, shape.records, "order");
    case(
        "order",
        shape,
        1,
        step,
        |in_order| u64::from(*in_order),
        check,
    )
}

fn exchange(shape: Shape) -> Case {
    let step = over(|items| items.timely(|events| events.exchange(|event| mix(event.value.key))));
    let check = move |sum, _| assert_eq!(sum, 2 * shape.records, "exchange");
    case("exchange", shape, 2, step, |_| 1, check)
}

/// What criterion measures.
pub(crate) fn small() -> Vec<Measured> {
    let few = Shape {
        records: SMALL,
        keys: 100_000,
        windows: 1,
        disorder: 0,
    };
    let ids = Shape {
        records: 1_100_000,
        keys: 1_000_000,
        windows: 1,
        disorder: 0,
    };
    let disordered = Shape {
        disorder: 1_000,
        ..few
    };
    let [bid, envelope] = decode();
    vec![
        Measured {
            name: "tumbling, 100 k keys",
            goal: 17.0,
            with: tumbling("tumbling", few, None),
            without: bare("bare", few, 1),
            plain: Some(plain::tumbling(few)),
        },
        Measured {
            name: "dedup, 1 M ids",
            goal: 100.0,
            with: dedup("dedup", ids, None),
            without: bare("bare-ids", ids, 1),
            plain: Some(plain::dedup(ids)),
        },
        Measured {
            name: "order",
            goal: 25.0,
            with: order(disordered),
            without: bare("bare-disordered", disordered, 1),
            plain: Some(plain::order(disordered)),
        },
        Measured {
            name: "exchange, 2 workers",
            goal: 12.5,
            with: exchange(few),
            without: bare("bare-2", few, 2),
            plain: None,
        },
        bid,
        envelope,
        encode(few),
    ]
}

/// What takes too long for criterion.
pub(crate) fn large(watched: &Longest) -> Vec<Measured> {
    let twice = Shape {
        records: 2 * LARGE,
        keys: LARGE,
        windows: 1,
        disorder: 0,
    };
    let ids = Shape {
        records: LARGE + 1_000_000,
        keys: LARGE,
        windows: 1,
        disorder: 0,
    };
    vec![
        Measured {
            name: "tumbling, 10 M keys",
            goal: 125.0,
            with: tumbling("tumbling-large", twice, Some(watched)),
            without: bare("bare-large", twice, 1),
            plain: Some(plain::tumbling(twice)),
        },
        Measured {
            name: "dedup, 10 M ids",
            goal: 100.0,
            with: dedup("dedup-large", ids, Some(watched)),
            without: bare("bare-large-ids", ids, 1),
            plain: Some(plain::dedup(ids)),
        },
    ]
}

/// Fills a window with keys; `look` is called before and after. Gives their number.
pub(crate) fn window_state(look: impl Fn() + Send + Sync + 'static) -> u64 {
    const KEYS: u64 = 1_000_000;
    let look: Arc<dyn Fn() + Send + Sync> = Arc::new(look);
    let job = Job::new("state", |flow: &Flow<'_>| {
        flow.source::<Item>("in")
            .decode(|record| {
                let (key, value) = (record.offset.saturating_sub(KEYS), 5);
                Ok::<_, String>(Item {
                    key: mix(key),
                    value,
                    time: 0,
                })
            })
            .event_time(|item| item.time, Watermarks::lag(Duration::ZERO))
            .key_by(|item| item.key)
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate(|a| {
                (
                    a.count(),
                    a.sum(|item| item.value),
                    a.max(|item| item.value),
                )
            })
            .emit_final()
            .map(|w| w.key)
            .sink("out", SinkPort::json);
        Ok(())
    });
    let source = Made {
        partitions: 1,
        records: 2 * KEYS,
        pauses: vec![(KEYS, Arc::clone(&look)), (2 * KEYS, look)],
        ..Made::default()
    };
    go(&job, source, 1, KEYS);
    KEYS
}
