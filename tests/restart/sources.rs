//! Two sources, of which one is always some epochs ahead: a checkpoint covers of both what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anabranch::connectors::{
    Fetched, Found, MemorySink, MemorySource, NullSink, Reader, Share, Source, SourceCut, Style,
};
use anabranch::prelude::*;
use anabranch::{Guarantee, Settings};

const AHEAD: usize = 300_000;
const BEHIND: usize = 400;

/// A log of which each record takes a while to come, so its reader is always busy and never full.
struct Slow(MemorySource);

impl Source for Slow {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn bounded(&self) -> bool {
        true
    }
    fn prepare(&self) -> Result {
        self.0.prepare()
    }
    fn cut(&self) -> Result<Option<SourceCut>> {
        self.0.cut()
    }
    fn resume(&self, cut: &SourceCut) -> Result {
        self.0.resume(cut)
    }
    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        Ok(Box::new(SlowReader(self.0.open(share)?)))
    }
}

struct SlowReader(Box<dyn Reader>);

impl Reader for SlowReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        self.0.discover()
    }
    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        _max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        thread::sleep(Duration::from_millis(1));
        self.0.fetch(partition, 1, records)
    }
}

/// Counts both sources, each by itself, and breaks down where the slow one has `breaks`.
fn job(breaks: &Arc<AtomicBool>) -> Job {
    let breaks = Arc::clone(breaks);
    Job::new("two", move |flow: &Flow<'_>| {
        for port in ["ahead", "behind"] {
            let breaks = Arc::clone(&breaks);
            let last = u64::try_from(BEHIND / 2).expect("small");
            flow.source::<u64>(port)
                .decode(|record| {
                    String::from_utf8_lossy(record.value.unwrap_or_default()).parse::<u64>()
                })
                .event_time(|_| 5_i64, Watermarks::lag(Duration::ZERO))
                .inspect(move |_, number| {
                    let is_there = port == "behind" && *number == last;
                    assert!(!is_there || !breaks.load(SeqCst), "it breaks down");
                })
                .key_by(|_| 0_u8)
                .window(Tumbling::of(Duration::from_secs(1)))
                .aggregate(|a| a.count())
                .emit_final()
                .map(|w| w.value)
                .sink(&format!("{port}-count"), |s| s.json());
        }
        Ok(())
    })
}

#[test]
fn what_the_faster_of_two_sources_gave_is_counted_once() {
    for workers in [1, 2] {
        let state = tempfile::tempdir().unwrap();
        let breaks = Arc::new(AtomicBool::new(true));
        let counts = ["ahead-count", "behind-count"].map(|_| MemorySink::new(Style::Lines));
        let run = || {
            let log = |count: usize| (0..count).map(|n| n.to_string().into_bytes());
            let ahead = MemorySource::new("ahead", [log(AHEAD)]);
            let behind = MemorySource::new("behind", [log(BEHIND)]);
            let settings = Settings::new()
                .workers(workers)
                .bind_source("ahead", ahead)
                .bind_source("behind", Slow(behind))
                .bind_sink("ahead-count", counts[0].clone())
                .bind_sink("behind-count", counts[1].clone())
                .bind_sink("late", NullSink::new())
                .bind_sink("dead", NullSink::new())
                .state_dir(state.path())
                .checkpoint_interval(Duration::from_millis(1))
                .guarantee(Guarantee::AtLeastOnce);
            job(&breaks).run(settings)
        };
        let error = run().unwrap_err();
        assert!(error.to_string().contains("it breaks down"), "{error}");
        breaks.store(false, SeqCst);
        run().unwrap();
        let found = counts.map(|sink| sink.lines());
        let expected = [AHEAD, BEHIND].map(|count| vec![count.to_string()]);
        assert_eq!(found, expected, "{workers} workers");
    }
}
