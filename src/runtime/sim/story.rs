//! What a seed tells: a log, a job, and what befalls the instances that run it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dice::Dice;
use crate::connectors::Cut;
use crate::runtime::Describe;
use crate::state::lossy::Fault;
use crate::stream::Flow;
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
        Self {
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
        }
    }

    /// The sink ports of the job.
    pub(super) fn topics(&self) -> &'static [&'static str] {
        match self.shape {
            Shape::Windows => &["windows", "late", "dead"],
            Shape::Dedup | Shape::Order | Shape::Both => &["first", "windows", "late", "dead"],
        }
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
        let (shape, size) = (self.shape, self.size);
        let rules = Watermarks::lag(span(self.lag)).allowed_lateness(span(self.allowed));
        let retention = span(self.retention);
        Arc::new(move |flow: &Flow<'_>| {
            let items = flow.source::<Item>("items").json();
            let items = items.event_time(|item| item.time, rules);
            let items = match shape {
                Shape::Dedup => items.dedup(|item| item.id, retention),
                Shape::Order => items.key_by(|item| item.key).order().events(),
                Shape::Windows | Shape::Both => items,
            };
            if shape != Shape::Windows {
                let first = items.clone().key_by(|item| item.key).order().events();
                first.sink("first", |s| s.json().key(|item| item.key));
            }
            items
                .key_by(|item| item.key)
                .window(Tumbling::of(span(size)))
                .aggregate(|a| (a.count(), a.sum(|item| item.time), a.first(|item| item.n)))
                .emit_final()
                .map(|w| {
                    let (count, sum, first) = w.value;
                    (w.key, w.window.start.millis(), count, sum, first)
                })
                .sink("windows", |s| s.json().key(|w| w.0));
            Ok(())
        })
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
