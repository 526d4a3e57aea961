//! What a reader of a correct job would see, made from the oracle without a job or a broker.

use std::time::Duration;

use serde_json::json;

use super::checker::{Checker, Entry, GRACE};
use super::expected::{ALWAYS, Content, Cut, Expected, Id, NEVER, Port};
use super::log::Log;
use super::progress::Names;
use super::visible::Visible;
use crate::oracle::text::Rng;
use crate::oracle::{Job, Letter};
use crate::topics::java_partition;

const PARTITIONS: usize = 3;

/// What a reader sees, and the ways to change it.
pub(crate) struct Story {
    pub(crate) log: Log,
    pub(crate) entries: Vec<Entry>,
    /// What a second reader sees in the end.
    pub(crate) again: [Vec<Visible>; 3],
    /// Whether progress records tell the ends of outputs.
    told: bool,
    rng: Rng,
}

fn names(log: &Log) -> Names {
    Names {
        job: match log.params.job {
            Job::BidStats => "bid_stats".to_owned(),
            Job::UserActivity => "user_activity".to_owned(),
        },
        port: log.params.source().to_owned(),
        source: log.topic.clone(),
        outputs: ["results", "late", "dead"].map(str::to_owned),
    }
}

fn letter_headers(letter: &Letter, partition: i32, offset: i64) -> Vec<(String, String)> {
    let mut headers = vec![
        ("anabranch.reason", letter.reason.clone()),
        ("anabranch.source", letter.source.clone()),
        ("anabranch.topic", "log".to_owned()),
        ("anabranch.partition", partition.to_string()),
        ("anabranch.offset", offset.to_string()),
    ];
    let numbers = [
        ("anabranch.event-time", letter.event_time),
        ("anabranch.watermark", letter.watermark),
        (
            "anabranch.raw-bytes",
            letter.raw_bytes.map(u64::cast_signed),
        ),
    ];
    let numbers = numbers
        .iter()
        .filter_map(|(name, n)| Some((*name, n.as_ref()?.to_string())));
    headers.extend(numbers);
    headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

impl Story {
    /// A job of a seed that commits now and then, restarts, and reads to the end.
    pub(crate) fn of(seed: u64, job: Job, told: bool) -> Self {
        let log = Log::make(seed, job, "log", 3_000);
        let mut story = Self {
            entries: Vec::new(),
            again: Default::default(),
            told,
            rng: Rng(seed ^ 0x570),
            log,
        };
        let expected = Expected::of(&story.log);
        let (mut cut, end) = (expected.start(), expected.end());
        let mut ends = [(); 3].map(|()| vec![0; PARTITIONS]);
        let mut checkpoint = 0;
        story.commit(&expected, (checkpoint, &cut, false), &ends);
        while cut != end {
            let before = cut.clone();
            for (next, last) in cut.next.iter_mut().zip(&end.next) {
                *next = (*next + story.rng.between(0, 150)).min(*last);
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
            let (value, headers) = match (&item.content, &item.id) {
                (Content::Result(line), _) => (Some(line.clone().into_bytes()), Vec::new()),
                (Content::Letter(letter), Id::Letter(_, partition, offset)) => {
                    let headers = letter_headers(letter, *partition, *offset);
                    (letter.raw.clone(), headers)
                }
                (Content::Letter(_), _) => unreachable!("a letter's id"),
            };
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
        let parts = cut.next.iter().zip(&cut.ended).enumerate();
        let parts = parts.map(|(partition, (next, ended))| {
            json!({
                "partition": partition, "next": next, "floor": null,
                "largest": expected.largest(partition, *next).flatten(),
                "state": if *ended { "ended" } else { "reading" },
            })
        });
        let time = |time: i64| (![NEVER, ALWAYS].contains(&time)).then_some(time);
        let names = names(&self.log);
        let outputs = names.outputs.iter().zip(ends).map(|(topic, ends)| {
            let ends = ends.iter().map(|end| (*end > 0).then_some(*end));
            json!({"topic": topic, "ends": ends.collect::<Vec<_>>()})
        });
        let outputs: Vec<_> = outputs.collect();
        let mut value = json!({
            "format": 1, "job": names.job, "checkpoint": checkpoint,
            "generation": 1 + checkpoint / 5, "manifest": format!("m{checkpoint}"),
            "crc": "0123abcd", "finished": finished, "left_idle": [],
            "watermark": time(expected.watermark(cut)),
            "horizon": time(expected.horizon(cut)),
            "sources": [{
                "port": names.port, "topic": names.source, "topic_id": "id",
                "partitions": parts.collect::<Vec<_>>(),
            }],
        });
        if self.told {
            value["outputs"] = json!(outputs);
        }
        let before = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Progress { offset, .. } => Some(*offset),
            _ => None,
        });
        self.entries.push(Entry::Progress {
            offset: before.map_or(0, |offset| offset + 2),
            key: Some(b"progress".to_vec()),
            value: value.to_string().into_bytes(),
        });
        // Without offsets only time tells what belongs together.
        if !self.told {
            self.entries.extend([Entry::Time, Entry::Time]);
        }
    }

    /// The checker's verdict.
    pub(crate) fn judged(&self) -> Checker {
        let expected = Expected::of(&self.log);
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

    /// The place of a progress record in the middle.
    pub(crate) fn middle(&self) -> usize {
        let places = self.places(|entry| matches!(entry, Entry::Progress { .. }));
        places[places.len() / 2]
    }

    /// Changes that progress record.
    pub(crate) fn alter(&mut self, change: impl Fn(&mut serde_json::Value)) {
        let place = self.middle();
        if let Entry::Progress { value, .. } = &mut self.entries[place] {
            let mut record = serde_json::from_slice(value).expect("a progress record");
            change(&mut record);
            *value = record.to_string().into_bytes();
        }
    }
}
