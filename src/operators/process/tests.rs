//! A model that keeps all events in one sorted list would say the same; and what is to be
//! forgotten is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::keyed::Keyed;
use super::{Process, ProcessContext};
use crate::connectors::{DeadLimit, MemorySink, MemorySource, Style};
use crate::event::{Event, Position};
use crate::observe::Metrics;
use crate::operators::ByEpoch;
use crate::stream::{EventStream, Flow, Pressure, Shared};
use crate::testing;
use crate::time::{EventTime, Progress, Watermarks};
use crate::{Job, Settings};

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Ask {
    /// A timer, so many milliseconds from now.
    Set(i64),
    Clear(i64),
    Reset,
    Twice,
}

/// Key, ask.
type Asks = (u8, Ask);
/// Key, what happened, how often it had, the watermark.
type Says = (u8, char, u32, i64);

struct Script {
    ttl: Option<Duration>,
}

impl Process for Script {
    type Key = u8;
    type In = Asks;
    type Out = Says;
    type State = u32;

    fn on_event(&self, seen: &mut u32, event: &Event<Asks>, cx: &mut ProcessContext<'_, Self>) {
        *seen += 1;
        let (key, now) = (*cx.key(), cx.watermark().millis());
        cx.emit((key, 'e', *seen, now));
        match event.value.1 {
            Ask::Set(after) => cx.set_timer(now + after),
            Ask::Clear(after) => cx.clear_timer(now + after),
            Ask::Reset => *seen = 0,
            Ask::Twice => cx.emit((key, 'x', *seen, now)),
        }
    }

    fn on_timer(&self, seen: &mut u32, at: EventTime, cx: &mut ProcessContext<'_, Self>) {
        let key = *cx.key();
        cx.emit((key, 't', *seen, cx.watermark().millis()));
        // Three of four times it goes on, and once backward.
        match *seen % 4 {
            0 => *seen = 0,
            1 => cx.set_timer(at.plus(-5)),
            _ => cx.set_timer(at.plus(3)),
        }
        *seen += u32::from(*seen > 0);
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl
    }
}

/// A key in the model: state, when it was last touched by an event, timers with their makers.
#[derive(Default)]
struct Of {
    seen: u32,
    until: Option<i64>,
    timers: BTreeMap<i64, bool>,
}

impl Of {
    fn at(&mut self, now: i64, ttl: Option<i64>) {
        if self.until.is_some_and(|until| now >= until) {
            self.seen = 0;
            self.until = ttl.map(|ttl| now + ttl);
        }
    }

    fn set(&mut self, at: i64, by_timer: bool) {
        *self.timers.entry(at).or_insert(true) &= by_timer;
    }

    fn fire(&mut self, key: u8, at: i64, out: &mut Vec<(i64, Says)>) {
        out.push((at, (key, 't', self.seen, at)));
        match self.seen % 4 {
            0 => self.seen = 0,
            1 => self.set(at + 1, true),
            _ => self.set(at + 3, true),
        }
        self.seen += u32::from(self.seen > 0);
    }

    fn take(&mut self, now: i64, (key, ask): Asks, out: &mut Vec<(i64, Says)>) {
        self.seen += 1;
        out.push((now, (key, 'e', self.seen, now)));
        match ask {
            Ask::Set(after) => self.set((now + after).max(now), false),
            Ask::Clear(after) => drop(self.timers.remove(&(now + after).max(now))),
            Ask::Reset => self.seen = 0,
            Ask::Twice => out.push((now, (key, 'x', self.seen, now))),
        }
    }
}

/// Partitions in, results out: everything sorted first, key by key, then the end.
fn model(partitions: &[Vec<(i64, Asks)>], lag: i64, ttl: Option<i64>) -> Vec<(i64, Says)> {
    let (mut last, mut events) = (i64::MIN, Vec::new());
    for (partition, records) in partitions.iter().enumerate() {
        let mut largest = None;
        for (offset, (time, asks)) in records.iter().enumerate() {
            if largest.is_none_or(|largest: i64| *time >= largest - lag) {
                events.push((*time, partition, offset, *asks));
            }
            largest = largest.max(Some(*time));
            last = last.max(*time);
        }
    }
    events.sort_unstable();
    let keys: BTreeSet<u8> = events.iter().map(|event| event.3.0).collect();
    let mut out = Vec::new();
    for key in keys {
        let mut of = Of::default();
        let own = events.iter().filter(|event| event.3.0 == key);
        for &(now, .., asks) in own {
            while let Some((&at, _)) = of.timers.first_key_value().filter(|(at, _)| **at < now) {
                of.timers.remove(&at);
                of.at(at, ttl);
                of.fire(key, at, &mut out);
            }
            of.at(now, ttl);
            of.take(now, asks, &mut out);
            of.until = ttl.map(|ttl| now + ttl);
        }
        while let Some((at, by_timer)) = of.timers.pop_first() {
            of.at(at, ttl);
            if !(by_timer && at > last) {
                of.fire(key, at, &mut out);
            }
        }
    }
    out
}

fn asks() -> impl Strategy<Value = Asks> {
    let ask = prop_oneof![
        4 => (-6i64..40).prop_map(Ask::Set),
        2 => (-2i64..10).prop_map(Ask::Clear),
        1 => Just(Ask::Reset),
        1 => Just(Ask::Twice),
    ];
    (0u8..5, ask)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Out of order, late, twice, with many of one time; in every cut, on 1 to 3 workers.
    #[test]
    fn it_says_what_a_sorted_list_would(
        partitions in prop::collection::vec(
            prop::collection::vec((0i64..120, asks()), 0..40), 1..4),
        lag in prop::sample::select(vec![0i64, 5, 200]),
        ttl in prop::option::of(prop::sample::select(vec![0i64, 4, 30])),
    ) {
        let of = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap());
        let expected = model(&partitions, lag, ttl);
        let ttl = ttl.map(of);
        let mut test = testing::drive(move |events: EventStream<'_, Asks>| {
            events.key_by(|asks| asks.0).process("script", Script { ttl })
        })
        .lag(of(lag))
        .seeds(3);
        for partition in partitions {
            test = test.input(partition);
        }
        test.expect(expected);
    }
}

#[test]
fn a_timer_stands_behind_the_events_of_its_time_and_in_order() {
    testing::drive(|events: EventStream<'_, Asks>| {
        events
            .key_by(|asks| asks.0)
            .process("script", Script { ttl: None })
            .key_by(|_| 0u8)
            .order()
            .events()
    })
    .input([(1, (0, Ask::Set(4))), (5, (0, Ask::Twice))])
    .expect_in_order([
        (1, (0, 'e', 1, 1)),
        (5, (0, 'e', 2, 5)),
        (5, (0, 'x', 2, 5)),
        (5, (0, 't', 2, 5)),
    ]);
}

#[test]
fn a_timer_that_sets_itself_again_ends_with_the_log() {
    /// Beats every 10 ms from the first event on.
    struct Heart;
    impl Process for Heart {
        type Key = ();
        type In = ();
        type Out = ();
        type State = bool;
        fn on_event(&self, beats: &mut bool, _: &Event<()>, cx: &mut ProcessContext<'_, Self>) {
            if !std::mem::replace(beats, true) {
                cx.set_timer(cx.watermark().plus(10));
            }
        }
        fn on_timer(&self, _: &mut bool, at: EventTime, cx: &mut ProcessContext<'_, Self>) {
            cx.emit(());
            cx.set_timer(at.plus(10));
        }
    }
    fn heart(events: EventStream<'_, ()>) -> EventStream<'_, ()> {
        events.key_by(|()| ()).process("heart", Heart)
    }
    let beats = |to: i64| (1..=to).map(|nth| (nth * 10, ()));
    testing::drive(heart)
        .input([(0, ()), (1_003, ())])
        .expect(beats(100));
    // What an event has set fires, however far behind the end.
    testing::drive(heart)
        .input([(0, ()), (3, ())])
        .expect(beats(1));
}

fn number(record: &crate::event::Record<'_>) -> Result<i64, sonic_rs::Error> {
    sonic_rs::from_slice(record.value())
}

#[test]
fn what_is_refused_is_a_letter_that_can_be_taken() {
    /// Refuses negative numbers, and every timer.
    struct Picky;
    impl Process for Picky {
        type Key = String;
        type In = i64;
        type Out = i64;
        type State = ();
        fn on_event(&self, (): &mut (), event: &Event<i64>, cx: &mut ProcessContext<'_, Self>) {
            if event.value < 0 {
                return cx.dead_letter("it is negative");
            }
            cx.set_timer(event.at.time.plus(5));
            cx.emit(event.value);
        }
        fn on_timer(&self, (): &mut (), at: EventTime, cx: &mut ProcessContext<'_, Self>) {
            cx.dead_letter(format!("{} is no time", at.millis()));
        }
    }
    let job = Job::new("picky", |flow: &Flow<'_>| {
        flow.source::<i64>("numbers")
            .decode(number)
            .event_time(|n| n.abs(), Watermarks::lag(Duration::from_secs(1)))
            .key_by(|n| format!("of {}", n % 2))
            .process("picky", Picky)
            .dead(|dead| dead.sink("refused"))
            .sink("taken", |s| s.json());
        Ok(())
    });
    let answer = testing::run(job)
        .source("numbers", [["4", "-7", "x"]])
        .answer(&["taken", "refused", "dead"]);
    let [taken, refused, dead] = &answer.lines[..] else {
        panic!("three ports");
    };
    assert_eq!(*taken, ["4"]);
    assert_eq!(
        *refused,
        [
            concat!(
                r#"{"source":"numbers","topic":"numbers","partition":0,"offset":1,"#,
                r#""reason":"processing","error":"it is negative","raw":"-7"}"#
            ),
            concat!(
                r#"{"source":"results","topic":"results","partition":116,"#,
                r#""offset":3082510225032436460,"reason":"processing","#,
                r#""error":"9 is no time","raw":"\"of 0\""}"#
            ),
        ]
    );
    assert_eq!(dead.len(), 1, "what cannot be decoded goes its own way");
    assert_eq!(answer.summary.dead_after_entry, 2);
}

#[test]
fn an_operator_that_panics_is_named() {
    struct Panics;
    impl Process for Panics {
        type Key = ();
        type In = i64;
        type Out = ();
        type State = ();
        fn on_event(&self, (): &mut (), _: &Event<i64>, _: &mut ProcessContext<'_, Self>) {
            panic!("too much");
        }
    }
    let job = Job::new("panics", |flow: &Flow<'_>| {
        flow.source::<i64>("numbers")
            .decode(number)
            .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
            .key_by(|_| ())
            .process("my operator", Panics)
            .sink("out", |s| s.json());
        Ok(())
    });
    let settings = Settings::new()
        .workers(2)
        .max_dead(DeadLimit::Off)
        .bind_source("numbers", MemorySource::new("numbers", [["1"]]))
        .bind_sink("out", MemorySink::new(Style::Lines))
        .bind_sink("late", MemorySink::new(Style::Lines))
        .bind_sink("dead", MemorySink::new(Style::Lines));
    let error = job.run(settings).unwrap_err();
    assert_eq!(
        error.to_string(),
        "operator `my operator` panicked: too much"
    );
}

fn alone() -> Rc<Shared> {
    Rc::new(Shared {
        checkpoints: None,
        worker: 0,
        workers: 1,
        control: Arc::default(),
        metrics: Arc::new(Metrics::new(1)),
        board: Arc::default(),
        budget: Arc::default(),
        pressure: Pressure::with_limit(usize::MAX),
        plugs: Rc::new(()),
        round_trip: false,
    })
}

/// The operator on its own, with `keys` that each come once with `ask` at time 0.
fn fed(ttl: Option<Duration>, keys: u8, ask: Ask) -> Keyed<Script> {
    let key = Rc::new(|asks: &Asks| asks.0);
    let mut operator = Keyed::new(Script { ttl }, key, alone(), "script");
    let event = |key: u8| Event {
        at: Position {
            time: EventTime::from_millis(0),
            source: 0,
            partition: 0,
            offset: u64::from(key),
            index: 0,
        },
        value: (key, ask),
    };
    operator.apply(&mut (0..keys).map(event).collect(), &mut Vec::new());
    operator
}

fn advance(operator: &mut Keyed<Script>, horizon: i64) {
    let horizon = EventTime::from_millis(horizon);
    let progress = Progress {
        watermark: horizon,
        horizon,
        ..Progress::START
    };
    while operator.advance(progress, 7, &mut Vec::new()) {}
}

#[test]
fn a_key_whose_state_is_the_default_is_forgotten() {
    let mut operator = fed(None, 100, Ask::Reset);
    advance(&mut operator, 1);
    assert_eq!(operator.sizes(), (0, 0));
    let mut operator = fed(None, 100, Ask::Twice);
    advance(&mut operator, 1_000_000);
    assert_eq!(operator.sizes(), (100, 0), "unbounded, as it says");
}

#[test]
fn a_key_is_forgotten_after_its_time_but_not_before_its_timers() {
    let ttl = Some(Duration::from_millis(50));
    let mut operator = fed(ttl, 100, Ask::Twice);
    (1..=50).for_each(|horizon| advance(&mut operator, horizon.min(49)));
    assert_eq!(operator.sizes(), (100, 0));
    // A few at a time.
    (0..50).for_each(|_| advance(&mut operator, 50));
    assert_eq!(operator.sizes(), (0, 0));

    let mut operator = fed(ttl, 10, Ask::Set(100));
    (0..50).for_each(|_| advance(&mut operator, 99));
    assert_eq!(operator.sizes(), (10, 10), "a timer keeps its key");
    (0..50).for_each(|_| advance(&mut operator, 101));
    assert_eq!(
        operator.sizes(),
        (0, 0),
        "its state was the default when it fired"
    );
}
