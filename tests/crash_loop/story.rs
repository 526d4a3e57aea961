//! What a reader of a correct job would see, made from the oracle without a job or a broker.

use std::time::Duration;

use super::checker::{Checker, Entry, GRACE};
use super::expected::{Cut, Expected, Port};
use super::log::Log;
use super::progress::{Names, PROGRESS_KEY};
use super::record::{output_of, outputs_record, progress_record};
use super::visible::Visible;
use crate::oracle::Job;
use crate::oracle::text::Rng;
use crate::topics::java_partition;

const PARTITIONS: usize = 3;

/// What a reader sees, and the ways to change it.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) log: Log,
    expected: Expected,
    pub(crate) entries: Vec<Entry>,
    /// What a second reader sees in the end.
    pub(crate) again: [Vec<Visible>; 3],
    rng: Rng,
}

fn names(log: &Log) -> Names {
    Names::of(log, ["results", "late", "dead"].map(str::to_owned))
}

impl Story {
    /// A job of a seed that commits now and then, restarts, and reads to the end.
    pub(crate) fn of(seed: u64, job: Job) -> Self {
        let log = Log::make(seed, job, "log", 1_200);
        let expected = Expected::of(&log);
        let mut story = Self {
            expected: expected.clone(),
            entries: Vec::new(),
            again: Default::default(),
            rng: Rng(seed ^ 0x570),
            log,
        };
        let (mut cut, end) = (expected.start(), expected.end());
        let mut ends = [(); 3].map(|()| vec![0; PARTITIONS]);
        let mut checkpoint = 0;
        story.commit(&expected, (checkpoint, &cut, false), &ends);
        while cut != end {
            let before = cut.clone();
            for (next, last) in cut.next.iter_mut().zip(&end.next) {
                *next = (*next + story.rng.between(0, 60)).min(*last);
            }
            let whole = cut.next == end.next;
            cut.ended.fill(whole);
            checkpoint += story.rng.bits() % 2 + 1;
            story.outputs(&expected, &before, &cut, &mut ends);
            story.commit(&expected, (checkpoint, &cut, whole), &ends);
        }
        for entry in &story.entries {
            if let Entry::Output(record) = entry {
                story.again[record.port.index()].push(record.clone());
            }
        }
        story
    }

    /// What becomes visible between two cuts, in some order in which keys keep theirs.
    fn outputs(&mut self, expected: &Expected, old: &Cut, new: &Cut, ends: &mut [Vec<i64>; 3]) {
        let (from, to) = (expected.horizon(old), expected.horizon(new));
        for (number, item) in expected.items.iter().enumerate() {
            let was = expected.is_shown(number, old, from);
            if was || !expected.is_shown(number, new, to) {
                continue;
            }
            let port = item.port();
            let key = item.key.clone();
            let partition = match (port, &key) {
                (Port::Results, Some(key)) => java_partition(key, 3).unsigned_abs() as usize,
                _ => self.rng.below(PARTITIONS),
            };
            let end = &mut ends[port.index()][partition];
            // Markers and aborted records leave gaps.
            let offset = *end + self.rng.between(0, 2);
            *end = offset + 1;
            let (value, headers) = output_of(item, &self.log.topic);
            self.entries.push(Entry::Output(Visible {
                port,
                partition,
                offset,
                key,
                value,
                headers,
            }));
        }
    }

    fn commit(
        &mut self,
        expected: &Expected,
        (checkpoint, cut, finished): (u64, &Cut, bool),
        ends: &[Vec<i64>; 3],
    ) {
        let about = (checkpoint, 1 + checkpoint / 5, finished);
        let names = names(&self.log);
        let mut value = progress_record(expected, &names, about, cut);
        value["written"] = outputs_record(&names, ends);
        let before = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Progress { offset, .. } => Some(*offset),
            _ => None,
        });
        self.entries.push(Entry::Progress {
            offset: before.map_or(0, |offset| offset + 2),
            key: Some(PROGRESS_KEY.as_bytes().to_vec()),
            value: value.to_string().into_bytes(),
        });
    }

    /// The checker's verdict.
    pub(crate) fn judged(&self) -> Checker {
        let expected = self.expected.clone();
        let mut checker = Checker::new(expected, names(&self.log), PARTITIONS, true);
        let mut at = Duration::ZERO;
        for entry in &self.entries {
            if matches!(entry, Entry::Time) {
                at += GRACE / 2;
            }
            checker.take(entry, at);
        }
        checker.finish();
        for port in Port::ALL {
            checker.reread(port, &self.again[port.index()]);
        }
        checker
    }

    /// The places of the entries of a kind.
    pub(crate) fn places(&self, is: impl Fn(&Entry) -> bool) -> Vec<usize> {
        let all = self.entries.iter().enumerate();
        all.filter(|(_, entry)| is(entry))
            .map(|(place, _)| place)
            .collect()
    }

    /// Some output record of a port.
    pub(crate) fn some(&mut self, port: Port) -> usize {
        let is = |entry: &Entry| matches!(entry, Entry::Output(record) if record.port == port);
        let places = self.places(is);
        self.rng.pick(&places)
    }

    pub(crate) fn record(&mut self, place: usize) -> &mut Visible {
        match &mut self.entries[place] {
            Entry::Output(record) => record,
            other => panic!("{other:?} is no record"),
        }
    }

    /// The place of a progress record in the second half that covers a late record.
    pub(crate) fn middle(&self) -> usize {
        let places = self.places(|entry| matches!(entry, Entry::Progress { .. }));
        let is_late = |entry: &Entry| matches!(entry, Entry::Output(r) if r.port == Port::Late);
        let pairs = places[places.len() / 2..].windows(2);
        let mut covers = pairs.filter(|pair| self.entries[pair[0]..pair[1]].iter().any(is_late));
        covers.next().expect("late records come all along")[1]
    }

    /// Changes the progress record there.
    pub(crate) fn alter(&mut self, place: usize, change: impl Fn(&mut serde_json::Value)) {
        if let Entry::Progress { value, .. } = &mut self.entries[place] {
            let mut record = serde_json::from_slice(value).expect("a progress record");
            change(&mut record);
            *value = record.to_string().into_bytes();
        }
    }
}
