//! What may be visible at which cut of the log: the oracle's answer to the whole log, and for each
//! part of it the cut from which on it is there.
//!
//! One answer serves all cuts, because the door judges a record by its own partition's past alone:
//! what a prefix says of a record the whole log says too, and once the horizon has reached the end
//! of a window nothing enters there any more. [`Expected::slowly`] does not rely on it, and
//! computes a prefix from scratch.

use std::collections::{BTreeSet, HashMap};

use super::log::Log;
use crate::oracle::json::canonical;
use crate::oracle::object::{Field, Object};
use crate::oracle::{self, At, Letter, Params};

/// A sink of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Port {
    Results,
    Late,
    Dead,
}

impl Port {
    pub(crate) const ALL: [Self; 3] = [Self::Results, Self::Late, Self::Dead];

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn name(self) -> &'static str {
        ["result", "late record", "dead letter"][self.index()]
    }
}

/// What makes an output record that one and no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Id {
    /// Key, as it is written in JSON, and start of the window.
    Result(String, i64),
    /// Where the record stood: partition and offset of the source.
    Letter(Port, i32, i64),
}

/// One output record of the whole log.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: Id,
    /// The record's key in Kafka.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// In one spelling.
    Result(String),
    Letter(Letter),
}

impl Item {
    pub(crate) fn port(&self) -> Port {
        match self.id {
            Id::Result(..) => Port::Results,
            Id::Letter(port, ..) => port,
        }
    }
}

/// How far the source has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The next offset of each partition.
    pub(crate) next: Vec<i64>,
    /// Whether nothing more comes there.
    pub(crate) ended: Vec<bool>,
}

/// Before any time, and after all.
pub(crate) const NEVER: i64 = i64::MIN;
pub(crate) const ALWAYS: i64 = i64::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) params: Params,
    pub(crate) items: Vec<Item>,
    pub(crate) by_id: HashMap<Id, usize>,
    /// For each partition the largest event time before each offset, and at its end.
    largest: Vec<Vec<Option<i64>>>,
}

impl Expected {
    /// # Panics
    /// When the oracle does not balance, which would be its own mistake.
    pub(crate) fn of(log: &Log) -> Self {
        let input = log.input();
        let outcome = oracle::run(&input, &log.params);
        assert!(outcome.counts.balanced(), "{:?}", outcome.counts);
        let mut items: Vec<_> = outcome.results.iter().map(|line| result(line)).collect();
        for (port, letters) in [(Port::Late, outcome.late), (Port::Dead, outcome.dead)] {
            items.extend(
                letters
                    .into_iter()
                    .map(|letter| of_letter(log, port, letter)),
            );
        }
        let ids = items.iter().map(|item| item.id.clone());
        let by_id: HashMap<_, _> = ids.zip(0..).collect();
        assert_eq!(by_id.len(), items.len(), "the oracle repeats itself");
        let mut largest: Vec<Vec<Option<i64>>> = Vec::new();
        for records in &log.partitions {
            largest.push(vec![None; records.len() + 1]);
        }
        for (partition, offset, time) in oracle::times(&input, &log.params) {
            largest[partition][usize::try_from(offset).expect("an offset") + 1] = Some(time);
        }
        for partition in &mut largest {
            for at in 1..partition.len() {
                partition[at] = partition[at].max(partition[at - 1]);
            }
        }
        Self {
            params: log.params.clone(),
            items,
            by_id,
            largest,
        }
    }

    /// The largest event time of a partition before an offset, if there is one.
    pub(crate) fn largest(&self, partition: usize, next: i64) -> Option<i64> {
        let next = usize::try_from(next).ok()?;
        self.largest.get(partition)?.get(next).copied().flatten()
    }

    pub(crate) fn partitions(&self) -> usize {
        self.largest.len()
    }

    /// The whole log, read and ended.
    pub(crate) fn end(&self) -> Cut {
        let next = self.largest.iter().map(|all| all.len() - 1);
        Cut {
            next: next.map(|n| i64::try_from(n).expect("a length")).collect(),
            ended: vec![true; self.largest.len()],
        }
    }

    /// The log not read at all.
    pub(crate) fn start(&self) -> Cut {
        Cut {
            next: vec![0; self.largest.len()],
            ended: vec![false; self.largest.len()],
        }
    }

    /// The watermark at a cut: the least of the partitions that are read.
    pub(crate) fn watermark(&self, cut: &Cut) -> i64 {
        let parts = cut.next.iter().zip(&cut.ended).enumerate();
        let open = parts.filter(|(_, (_, ended))| !**ended);
        let each = open.map(|(partition, (next, _))| {
            let largest = self.largest(partition, *next);
            largest.map_or(NEVER, |time| time - self.params.lag)
        });
        each.min().unwrap_or(ALWAYS)
    }

    /// Up to where results are final at a cut.
    pub(crate) fn horizon(&self, cut: &Cut) -> i64 {
        match self.watermark(cut) {
            forever @ (NEVER | ALWAYS) => forever,
            watermark => watermark - self.params.allowed_lateness,
        }
    }

    /// Whether the item is visible at a cut that has this horizon.
    pub(crate) fn is_shown(&self, item: usize, cut: &Cut, horizon: i64) -> bool {
        match &self.items[item].id {
            Id::Result(_, start) => start + self.params.size <= horizon,
            Id::Letter(_, partition, offset) => {
                let next = usize::try_from(*partition).map(|p| cut.next[p]);
                next.is_ok_and(|next| *offset < next)
            }
        }
    }

    /// All that is visible at a cut, from the prefix of the log alone.
    pub(crate) fn slowly(&self, log: &Log, cut: &Cut) -> BTreeSet<Id> {
        let outcome = oracle::run(&log.until(&cut.next), &self.params);
        let horizon = self.horizon(cut);
        let results = outcome.results.iter().map(|line| result(line));
        let mut shown: BTreeSet<Id> = BTreeSet::new();
        for item in results {
            let Id::Result(_, start) = item.id else {
                continue;
            };
            if start + self.params.size > horizon {
                continue;
            }
            // Its content must be what the whole log says, else it is another record.
            let whole = self.by_id.get(&item.id).map(|known| &self.items[*known]);
            let same = whole.is_some_and(|whole| match (&whole.content, &item.content) {
                (Content::Result(whole), Content::Result(now)) => whole == now,
                _ => false,
            });
            let key = if same { "" } else { "another content of " };
            shown.insert(match item.id {
                Id::Result(name, start) => Id::Result(format!("{key}{name}"), start),
                letter @ Id::Letter(..) => letter,
            });
        }
        for (port, letters) in [(Port::Late, &outcome.late), (Port::Dead, &outcome.dead)] {
            shown.extend(letters.iter().map(|letter| id_of(port, letter)));
        }
        shown
    }
}

/// The key as text, its bytes in Kafka, and the start of the window.
///
/// # Errors
/// When it is no result of either job.
pub(crate) fn parts_of(line: &[u8]) -> Result<(String, Vec<u8>, i64), String> {
    let object = Object::parse(line)?;
    let start = object.integer("window_start")?;
    match object.members.first() {
        Some((_, Field::Number(number))) => {
            Ok(((*number).to_owned(), number.as_bytes().to_vec(), start))
        }
        Some((_, Field::Text(text))) => Ok((format!("{text:?}"), text.clone().into_bytes(), start)),
        other => Err(format!("{other:?} is no key")),
    }
}

fn result(line: &str) -> Item {
    let (name, key, start) = parts_of(line.as_bytes()).expect("the oracle's own line");
    let content = canonical(line.as_bytes()).expect("the oracle's own line");
    Item {
        id: Id::Result(name, start),
        key: Some(key),
        content: Content::Result(content),
    }
}

pub(crate) fn id_of(port: Port, letter: &Letter) -> Id {
    match &letter.at {
        At::Topic {
            partition, offset, ..
        } => Id::Letter(port, *partition, *offset),
        At::File { .. } => unreachable!("the log is a topic"),
    }
}

fn of_letter(log: &Log, port: Port, letter: Letter) -> Item {
    let id = id_of(port, &letter);
    let Id::Letter(_, partition, offset) = &id else {
        unreachable!("a letter's id");
    };
    let at = |number: i64| usize::try_from(number).expect("a place in the log");
    let record = &log.partitions[at(i64::from(*partition))][at(*offset)];
    Item {
        key: record.key.clone(),
        id,
        content: Content::Letter(letter),
    }
}
