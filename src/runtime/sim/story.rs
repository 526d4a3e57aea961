//! What a seed tells: a log, a job, and what befalls the instances that run it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dice::Dice;
use crate::connectors::Cut;
use crate::runtime::Describe;
use crate::state::lossy::Fault;
use crate::stream::{EventStream, Flow};
use crate::time::{Tumbling, Watermarks};

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) key: u32,
    pub(super) id: u64,
    pub(super) time: i64,
    /// Its number in the log.
    pub(super) n: u64,
}

/// What the job does with events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Repeats go; then order and windows.
    Dedup,
    /// Windows alone.
    Windows,
    /// Order; then windows.
    Order,
    /// Order and windows beside it.
    Both,
}

/// A second source, with operators of its own: the doors of one are not behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Second {
    /// It has the partitions from here on.
    from: usize,
    /// Its results go to sinks of their own, and not by a union to those of the first.
    apart: bool,
}

/// Keys of the second source begin here: between its results and those of the first is no order.
const KEYS: u32 = 100;

/// The source ports of the job.
pub(super) const SOURCES: [&str; 2] = ["items", "others"];

/// What befalls an instance: at its effect of a number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Lives,
    /// The process is killed; the machine goes on.
    Killed {
        at: u64,
    },
    /// The machine loses what was not synced, with all processes on it.
    PowerFails {
        at: u64,
    },
    /// The machine is lost, and its disk.
    Lost {
        at: u64,
    },
    /// It is stopped, and woken up when so many other things have happened.
    Sleeps {
        at: u64,
        turns: u64,
    },
    /// Somebody asks it to stop.
    Asked {
        at: u64,
    },
    /// An operation of the disk fails.
    DiskFails {
        at: u64,
        fault: Fault,
    },
    /// The broker gives up the transaction that is open.
    TimesOut {
        at: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) seed: u64,
    pub(super) shape: Shape,
    pub(super) lag: i64,
    pub(super) allowed: i64,
    pub(super) size: i64,
    pub(super) retention: i64,
    pub(super) bounded: bool,
    pub(super) idle: Option<Duration>,
    pub(super) cut: Cut,
    pub(super) drift: Duration,
    /// By partition; `None` cannot be read.
    pub(super) log: Vec<Vec<Option<Item>>>,
    /// The last partition is not there at first.
    pub(super) joins: bool,
    pub(super) second: Option<Second>,
    /// Of the first instances; all others live.
    pub(super) fates: Vec<Fate>,
}

/// When the last events are: behind everything else.
pub(super) const LAST: i64 = 1_000_000;

impl Story {
    pub(super) fn of(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let shapes = [Shape::Dedup, Shape::Windows, Shape::Order, Shape::Both];
        let bounded = dice.one_in(4);
        let log = log(&dice);
        let some = dice.between(1, 6);
        let story = Self {
            seed,
            shape: shapes[dice.index(4)],
            lag: signed(dice.between(0, 30)),
            allowed: signed([0, 0, 10][dice.index(3)]),
            size: signed([10, 25, 60][dice.index(3)]),
            retention: signed([20, 100, 10_000][dice.index(3)]),
            bounded,
            idle: (!bounded && dice.one_in(2))
                .then(|| Duration::from_millis(dice.between(60, 400))),
            cut: Cut::Records(dice.index(12) + 1),
            drift: Duration::from_millis([20, 10_000][dice.index(2)]),
            joins: !bounded && log.len() > 1 && dice.one_in(4),
            log,
            fates: (0..some).map(|_| fate(&dice)).collect(),
            second: None,
        };
        // Last, so that without it a seed tells what it told before there were two.
        story.perhaps_split(&dice)
    }

    /// Gives the last partitions to a second source.
    fn perhaps_split(mut self, dice: &Dice) -> Self {
        // No source begins without a partition.
        let ends = self.log.len() - usize::from(self.joins);
        if ends < 2 || !dice.one_in(2) {
            return self;
        }
        let from = 1 + dice.index(ends - 1);
        let others = self.log[from..].iter_mut().flatten().flatten();
        others.for_each(|item| item.key += KEYS);
        let apart = dice.one_in(2);
        self.second = Some(Second { from, apart });
        self
    }

    /// The partitions of each source, as they are numbered in the log.
    pub(super) fn sources(&self) -> Vec<Range<usize>> {
        let all = self.log.len();
        let from = self.second.map_or(all, |it| it.from);
        let sources = [0..from, from..all].into_iter();
        sources.filter(|it| !it.is_empty()).collect()
    }

    /// The sink ports of released events and of windows, for a source.
    pub(super) fn ports(&self, source: usize) -> [&'static str; 2] {
        if source == 1 && self.second.is_some_and(|it| it.apart) {
            ["other_first", "other_windows"]
        } else {
            ["first", "windows"]
        }
    }

    /// The sink ports of the job.
    pub(super) fn topics(&self) -> BTreeSet<&'static str> {
        let sources = 0..self.sources().len();
        let ports = sources.flat_map(|source| {
            let [first, windows] = self.ports(source);
            (self.shape != Shape::Windows)
                .then_some(first)
                .into_iter()
                .chain([windows])
        });
        ports.chain(["late", "dead"]).collect()
    }

    /// The records of a partition, as they lie in the log.
    pub(super) fn records(&self) -> Vec<Vec<String>> {
        let text = |item: &Option<Item>| match item {
            Some(Item { key, id, time, n }) => {
                format!(r#"{{"key":{key},"id":{id},"time":{time},"n":{n}}}"#)
            }
            None => "?".to_owned(),
        };
        let texts = |items: &Vec<_>| items.iter().map(text).collect();
        self.log.iter().map(texts).collect()
    }

    /// The job.
    pub(super) fn describe(&self) -> Arc<Describe> {
        let rules = Watermarks::lag(span(self.lag)).allowed_lateness(span(self.allowed));
        let work = Work {
            shape: self.shape,
            size: span(self.size),
            retention: span(self.retention),
            rules,
        };
        let others = (self.second).map(|second| (second.apart, self.ports(1)));
        Arc::new(move |flow: &Flow<'_>| {
            let results = work.results(flow, SOURCES[0]);
            match others.map(|(apart, ports)| (apart, ports, work.results(flow, SOURCES[1]))) {
                None => results.sink(["first", "windows"]),
                Some((false, ports, others)) => results.union(others).sink(ports),
                Some((true, ports, others)) => {
                    results.sink(["first", "windows"]);
                    others.sink(ports);
                }
            }
            Ok(())
        })
    }
}

/// What the job does with the events of a source.
#[derive(Clone, Copy)]
struct Work {
    shape: Shape,
    size: Duration,
    retention: Duration,
    rules: Watermarks,
}

/// What comes of a source: released events, if there are any, and windows.
struct Results<'scope> {
    first: Option<EventStream<'scope, Item>>,
    windows: EventStream<'scope, Row>,
}

/// Key, start, count, sum and first of a window.
type Row = (u32, i64, u64, i128, u64);

impl Work {
    fn results<'scope>(&self, flow: &Flow<'scope>, source: &str) -> Results<'scope> {
        let retention = self.retention;
        let items = flow.source::<Item>(source).json();
        let items = items.event_time(|item| item.time, self.rules);
        let items = match self.shape {
            Shape::Dedup => items.dedup(|item| item.id, retention),
            Shape::Order => items.key_by(|item| item.key).order().events(),
            Shape::Windows | Shape::Both => items,
        };
        let released = (self.shape != Shape::Windows).then(|| items.clone());
        let windows = items
            .key_by(|item| item.key)
            .window(Tumbling::of(self.size))
            .aggregate(|a| (a.count(), a.sum(|item| item.time), a.first(|item| item.n)))
            .emit_final();
        Results {
            first: released.map(|items| items.key_by(|item| item.key).order().events()),
            windows: windows.map(|w| {
                let (count, sum, first) = w.value;
                (w.key, w.window.start.millis(), count, sum, first)
            }),
        }
    }
}

impl Results<'_> {
    fn union(self, others: Self) -> Self {
        let first = self.first.zip(others.first);
        Self {
            first: first.map(|(first, others)| first.union(others)),
            windows: self.windows.union(others.windows),
        }
    }

    fn sink(self, [first, windows]: [&str; 2]) {
        if let Some(items) = self.first {
            items.sink(first, |s| s.json().key(|item| item.key));
        }
        self.windows.sink(windows, |s| s.json().key(|w| w.0));
    }
}

fn fate(dice: &Dice) -> Fate {
    // Some while it starts, most at work.
    let at = match dice.below(4) {
        0 => dice.below(30),
        1 => dice.below(400),
        _ => dice.below(150),
    };
    let turns = dice.between(1, 10).pow(2) * 20;
    let faults = [Fault::NoSpace, Fault::ReadOnly, Fault::Io];
    match dice.below(16) {
        0..4 => Fate::Killed { at },
        4..7 => Fate::PowerFails { at },
        7..12 => Fate::Sleeps { at, turns },
        12 => Fate::Lost { at },
        13 => Fate::Asked { at },
        14 => Fate::DiskFails {
            at,
            fault: faults[dice.index(3)],
        },
        _ => Fate::TimesOut { at },
    }
}

fn log(dice: &Dice) -> Vec<Vec<Option<Item>>> {
    let partitions = dice.between(1, 5);
    let (keys, ids) = (dice.between(1, 6), dice.between(5, 200));
    let mut n = 0;
    let mut partition = || {
        let (records, pace) = (dice.below(50), dice.between(1, 6));
        let disorder = dice.between(1, 60);
        let mut items: Vec<_> = (0..records)
            .map(|nth| {
                n += 1;
                let item = Item {
                    key: u32::try_from(dice.below(keys)).expect("few"),
                    id: dice.below(ids),
                    time: signed(nth * pace + 60) - signed(dice.below(disorder)),
                    n,
                };
                (!dice.one_in(30)).then_some(item)
            })
            .collect();
        n += 1;
        items.push(Some(Item {
            key: 0,
            id: 1_000 + n,
            time: LAST,
            n,
        }));
        items
    };
    (0..partitions).map(|_| partition()).collect()
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("a small number")
}

pub(super) fn span(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}
