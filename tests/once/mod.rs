//! A job on Kafka with a state directory, and what its results have to be.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "tests may fail, and each uses a part of it"
)]

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::program::{DEADLINE, Ended, Running, bid, now, program, run};
use crate::topics::Topics;

const PARTITIONS: i32 = 2;

/// Topics of one job, and where its state lies.
pub(crate) struct Place {
    pub(crate) topics: Arc<Topics>,
    /// The job's id.
    pub(crate) id: String,
    bids: String,
    stats: String,
    ports: [String; 2],
    folder: tempfile::TempDir,
    /// Bids of the seconds before it are written.
    written: Cell<i64>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let (topics, bids) = (Topics::new(), Topics::fresh("bids"));
        topics.create(&bids, PARTITIONS);
        Self::on(Arc::new(topics), bids)
    }

    /// A job that reads these bids.
    pub(crate) fn reading(topics: Topics, bids: &str) -> Self {
        Self::on(Arc::new(topics), bids.to_owned())
    }

    /// Another job, with all its own but the bids.
    pub(crate) fn beside(&self) -> Self {
        Self::on(Arc::clone(&self.topics), self.bids.clone())
    }

    fn on(topics: Arc<Topics>, bids: String) -> Self {
        let [id, stats] = ["job", "stats"].map(Topics::fresh);
        topics.create(&stats, 2);
        for letters in ["late", "dead"] {
            topics.create(&format!("{id}.{letters}"), 1);
        }
        Self {
            ports: [format!("bids=kafka:{bids}"), format!("stats=kafka:{stats}")],
            topics,
            id,
            bids,
            stats,
            folder: tempfile::tempdir().unwrap(),
            written: Cell::new(0),
        }
    }

    /// The topics that it reads and writes.
    pub(crate) fn names(&self) -> [&str; 2] {
        [&self.bids, &self.stats]
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes bids of the seconds `from..to`, five a second, by turns to the partitions.
    pub(crate) fn write(&self, from: i64, to: i64) {
        self.fill(from, to, PARTITIONS);
        self.written.set(to);
    }

    /// As [`Place::write`], to so many partitions.
    pub(crate) fn fill(&self, from: i64, to: i64, partitions: i32) {
        for partition in 0..partitions {
            let seconds = (from..to).flat_map(|second| (0..5).map(move |nth| (second, nth)));
            let here =
                seconds.filter(|(_, nth)| *nth % i64::from(partitions) == i64::from(partition));
            let lines: Vec<_> = here
                .map(|(second, nth)| bid(nth, second + nth, second * 1_000 + nth * 200))
                .collect();
            let records = lines
                .iter()
                .map(|line| (None, None, Some(line.trim().as_bytes())));
            self.topics.fill(&self.bids, partition, records);
        }
    }

    /// Writes what is missing of the seconds before `to`.
    pub(crate) fn write_missing(&self, to: i64) {
        self.write(self.written.get(), to);
    }

    pub(crate) fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let [bids, stats] = &self.ports;
        let ours = [
            "--bootstrap",
            self.topics.bootstrap(),
            "--source",
            bids,
            "--sink",
            stats,
        ];
        let kept = ["--job-id", &self.id, "--state-dir", "state"];
        let calm = ["--idle-timeout", "off", "--checkpoint-interval", "20ms"];
        [&ours[..], &kept, &calm, more].concat()
    }

    pub(crate) fn start(&self, more: &[&str]) -> Running {
        Running::start(&mut program(
            "bid_stats",
            self.path(),
            &self.arguments(more),
        ))
    }

    pub(crate) fn run(&self, more: &[&str]) -> Ended {
        run("bid_stats", self.path(), &self.arguments(more))
    }

    /// What a reader sees of the results: sorted.
    pub(crate) fn seen(&self) -> Vec<String> {
        let all = self.topics.read(&self.stats);
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
        let mut seen: Vec<_> = all.into_iter().map(|record| text(record.value)).collect();
        seen.sort_unstable();
        seen
    }

    /// How many checkpoints a reader sees in the topic of progress.
    pub(crate) fn commits(&self) -> usize {
        self.topics.read(&format!("{}.progress", self.id)).len()
    }

    /// Waits until a reader sees so many results.
    pub(crate) fn wait_for(&self, results: usize) -> Vec<String> {
        assert!(self.wait_while(results, || true));
        self.seen()
    }

    /// Waits until a reader sees so many results, as long as `alive`; whether it does.
    pub(crate) fn wait_while(&self, results: usize, mut alive: impl FnMut() -> bool) -> bool {
        let deadline = now() + DEADLINE;
        while alive() {
            let seen = self.seen().len();
            if seen >= results {
                return true;
            }
            assert!(now() < deadline, "{seen} of {results} results");
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// Five auctions in each of the windows of ten seconds before `second`.
pub(crate) fn expected(second: i64) -> Vec<String> {
    windows(0, second / 10 * 10, 10)
}

/// Five auctions in each of the windows of `size` seconds between two of their ends.
pub(crate) fn windows(from: i64, to: i64, size: i64) -> Vec<String> {
    let mut all: Vec<_> = (from / size..to / size)
        .flat_map(|window| (0..5).map(move |auction| (window * size, auction)))
        .map(|(start, auction)| {
            let sum: i64 = (start..start + size).map(|second| second + auction).sum();
            let most = start + size - 1 + auction;
            format!(
                "{{\"auction\":{auction},\"window_start\":{},\"cnt\":{size},\"sum_price\":{sum},\
                 \"max_price\":{most}}}",
                start * 1_000
            )
        })
        .collect();
    all.sort_unstable();
    all
}
