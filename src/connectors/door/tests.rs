//! A stop is no end. Planted once and seen to fail: a stopped door that says it has ended. And a
//! reader that goes back is noticed.

use std::thread;
use std::time::Duration;

use crate::connectors::{
    Fetched, Found, MemorySink, MemorySource, Reader, Share, SinkPort, Source, Style,
};
use crate::error::Result;
use crate::event::Record;
use crate::job::Job;
use crate::runtime::{Run, Settings, run};
use crate::stream::Flow;
use crate::time::{Tumbling, Watermarks};

/// Records in memory behind which more may come: it never ends.
struct Unending(MemorySource);

impl Source for Unending {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn bounded(&self) -> bool {
        false
    }
    fn prepare(&self) -> Result {
        self.0.prepare()
    }
    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        Ok(Box::new(NeverEnds(self.0.open(share)?)))
    }
}

struct NeverEnds(Box<dyn Reader>);

impl Reader for NeverEnds {
    fn discover(&mut self) -> Result<Vec<Found>> {
        self.0.discover()
    }
    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        match self.0.fetch(partition, max, records)? {
            Fetched::End if records.is_empty() => Ok(Fetched::CaughtUp),
            _ => Ok(Fetched::Some),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a description")]
fn minutes(flow: &Flow<'_>) -> Result {
    flow.source::<i64>("times")
        .decode(|record| String::from_utf8_lossy(record.value.unwrap_or_default()).parse::<i64>())
        .event_time(|time| *time, Watermarks::lag(Duration::ZERO))
        .key_by(|_| 0u8)
        .window(Tumbling::of(Duration::from_millis(10)))
        .aggregate(|a| a.count())
        .emit_final()
        .sink("counts", SinkPort::json);
    Ok(())
}

#[test]
fn a_live_run_that_is_stopped_fires_nothing_that_is_open() {
    for workers in 1..=3 {
        let times = |from: i64| (from..from + 95).map(|time| time.to_string().into_bytes());
        let source = MemorySource::new("times", [times(0), times(3)]);
        let out = MemorySink::new(Style::Lines);
        let settings = Settings::new()
            .workers(workers)
            .bind_source("times", Unending(source))
            .bind_sink("counts", out.clone())
            .bind_sink("late", MemorySink::new(Style::Lines))
            .bind_sink("dead", MemorySink::new(Style::Lines));
        let plan = Job::new("minutes", minutes).plan(&settings).unwrap();
        let handle = Run::new(&plan);
        let runs = handle.clone();
        let running = thread::spawn(move || run(plan, &runs));
        // The slower partition is at 94: the window that ends at 90 is the last to fire.
        let deadline = 20_000;
        let fired = (0..deadline).any(|_| {
            thread::sleep(Duration::from_millis(1));
            out.lines().len() == 9
        });
        assert!(fired, "{workers} workers: {:?}", out.lines());
        handle.control.stop(15);
        let ended = (0..deadline).any(|_| {
            thread::sleep(Duration::from_millis(1));
            running.is_finished()
        });
        assert!(ended, "{workers} workers: it goes on");
        let summary = running.join().unwrap().unwrap();
        assert_eq!(out.lines().len(), 9, "{workers} workers");
        assert_eq!((summary.read, summary.used), (190, 190), "{summary}");
    }
}

/// Gives the last record of each batch once more.
struct Repeating(MemorySource);

impl Source for Repeating {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn bounded(&self) -> bool {
        true
    }
    fn prepare(&self) -> Result {
        self.0.prepare()
    }
    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        Ok(Box::new(Repeats(self.0.open(share)?)))
    }
}

struct Repeats(Box<dyn Reader>);

impl Reader for Repeats {
    fn discover(&mut self) -> Result<Vec<Found>> {
        self.0.discover()
    }
    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let fetched = self.0.fetch(partition, max.min(10), records)?;
        if let Some(first) = records.first_mut() {
            first.offset = first.offset.saturating_sub(1);
        }
        Ok(fetched)
    }
}

#[test]
fn a_reader_that_gives_an_offset_twice_ends_the_run() {
    let times = (0..95).map(|time| time.to_string().into_bytes());
    let settings = Settings::new()
        .bind_source("times", Repeating(MemorySource::new("times", [times])))
        .bind_sink("counts", MemorySink::new(Style::Lines))
        .bind_sink("late", MemorySink::new(Style::Lines))
        .bind_sink("dead", MemorySink::new(Style::Lines));
    let plan = Job::new("minutes", minutes).plan(&settings).unwrap();
    let handle = Run::new(&plan);
    let error = run(plan, &handle).unwrap_err();
    let says = "source `times`: partition 0 gives offset 9 where 10 or a later one is next";
    assert!(error.to_string().starts_with(says), "{error}");
}
