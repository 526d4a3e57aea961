//! A stop is no end. Planted once and seen to fail: a stopped door that says it has ended. And a
//! reader that goes back is noticed.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crate::connectors::{
    Cut, Fetched, Found, MemorySink, MemorySource, Reader, Share, SinkPort, Source, Style, embedded,
};
use crate::error::Result;
use crate::event::Record;
use crate::job::Job;
use crate::runtime::{Run, Settings, run};
use crate::stream::Flow;
use crate::time::{Tumbling, Watermarks};

/// Records in memory, of which each fetch is seen, and may be changed, by `change`.
struct Altered {
    records: MemorySource,
    bounded: bool,
    change: Change,
    /// How far behind it says that it is, when it says something.
    backlog: Arc<AtomicU64>,
}

type Change = fn(Fetched, &mut [Record<'_>]) -> Fetched;

const UNSAID: u64 = u64::MAX;

/// More may come: it never ends.
fn unending(fetched: Fetched, records: &mut [Record<'_>]) -> Fetched {
    match fetched {
        Fetched::End if records.is_empty() => Fetched::CaughtUp,
        _ => Fetched::Some,
    }
}

/// The first record of each batch has the offset of the one before it.
fn repeating(fetched: Fetched, records: &mut [Record<'_>]) -> Fetched {
    if let Some(first) = records.first_mut() {
        first.offset = first.offset.saturating_sub(1);
    }
    fetched
}

impl Altered {
    fn unending(records: MemorySource) -> Self {
        Self {
            records,
            bounded: false,
            change: unending,
            backlog: Arc::new(AtomicU64::new(UNSAID)),
        }
    }

    fn repeating(records: MemorySource) -> Self {
        Self {
            bounded: true,
            change: repeating,
            ..Self::unending(records)
        }
    }
}

impl Source for Altered {
    fn describe(&self) -> String {
        self.records.describe()
    }
    fn bounded(&self) -> bool {
        self.bounded
    }
    fn prepare(&self) -> Result {
        self.records.prepare()
    }
    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        Ok(Box::new(Alters {
            reader: self.records.open(share)?,
            change: self.change,
            backlog: Arc::clone(&self.backlog),
        }))
    }
}

struct Alters {
    reader: Box<dyn Reader>,
    change: Change,
    backlog: Arc<AtomicU64>,
}

impl Reader for Alters {
    fn discover(&mut self) -> Result<Vec<Found>> {
        self.reader.discover()
    }
    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let fetched = self.reader.fetch(partition, max.min(10), records)?;
        Ok((self.change)(fetched, records))
    }
    fn backlog(&self, _partition: u32) -> Option<u64> {
        Some(self.backlog.load(Relaxed)).filter(|said| *said != UNSAID)
    }
}

/// Whether `done` comes, looked at each millisecond.
fn comes(mut done: impl FnMut() -> bool) -> bool {
    (0..20_000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        done()
    })
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
            .bind_source("times", Altered::unending(source))
            .bind_sink("counts", out.clone())
            .bind_sink("late", MemorySink::new(Style::Lines))
            .bind_sink("dead", MemorySink::new(Style::Lines));
        let plan = Job::new("minutes", minutes).plan(&settings).unwrap();
        let handle = Run::new(&plan);
        let runs = handle.clone();
        let running = thread::spawn(move || run(plan, &runs));
        // The slower partition is at 94: the window that ends at 90 is the last to fire.
        let fired = comes(|| out.lines().len() == 9);
        assert!(fired, "{workers} workers: {:?}", out.lines());
        handle.control.stop(15);
        let ended = comes(|| running.is_finished());
        assert!(ended, "{workers} workers: it goes on");
        let summary = running.join().unwrap().unwrap();
        assert_eq!(out.lines().len(), 9, "{workers} workers");
        assert_eq!((summary.read, summary.used), (190, 190), "{summary}");
    }
}

#[test]
fn a_reader_that_gives_an_offset_twice_ends_the_run() {
    let times = (0..95).map(|time| time.to_string().into_bytes());
    let settings = Settings::new()
        .bind_source(
            "times",
            Altered::repeating(MemorySource::new("times", [times])),
        )
        .bind_sink("counts", MemorySink::new(Style::Lines))
        .bind_sink("late", MemorySink::new(Style::Lines))
        .bind_sink("dead", MemorySink::new(Style::Lines));
    let plan = Job::new("minutes", minutes).plan(&settings).unwrap();
    let handle = Run::new(&plan);
    let error = run(plan, &handle).unwrap_err();
    let says = "source `times`: partition 0 gives offset 9 where 10 or a later one is next";
    assert!(error.to_string().starts_with(says), "{error}");
}

/// Results of `minutes` as they are, for whoever takes them.
#[expect(clippy::unnecessary_wraps, reason = "the shape of a description")]
fn given(flow: &Flow<'_>) -> Result {
    flow.source::<i64>("times")
        .decode(|record| String::from_utf8_lossy(record.value.unwrap_or_default()).parse::<i64>())
        .event_time(|time| *time, Watermarks::lag(Duration::ZERO))
        .map(|time| time)
        .sink("given", SinkPort::json);
    Ok(())
}

/// Planted once and seen to fail: a door that waits for room and does not look at the board.
#[test]
fn a_door_that_waits_for_room_still_tells_how_far_behind_it_is() {
    let times = (0..9_500).map(|time| time.to_string().into_bytes());
    let source = Altered::unending(MemorySource::new("times", [times]));
    let backlog = Arc::clone(&source.backlog);
    let (sink, mut taken) = embedded::sink::<i64>(1);
    let settings = Settings::new()
        .bind_source("times", source)
        .bind_sink("given", sink)
        .bind_sink("late", MemorySink::new(Style::Lines))
        .bind_sink("dead", MemorySink::new(Style::Lines));
    let mut plan = Job::new("given", given).plan(&settings).unwrap();
    plan.tuning.cut = Cut::Records(10);
    let handle = Run::new(&plan);
    let runs = handle.clone();
    let running = thread::spawn(move || run(plan, &runs));
    let told = |handle: &Run| -> Option<Option<u64>> {
        let partitions = handle.board.sources().first()?.partitions();
        Some(partitions.first()?.backlog)
    };
    assert!(comes(|| told(&handle) == Some(None)));
    // Nothing is taken, so all epochs in flight are full by then.
    let mut before = (0, 0);
    let stands = comes(|| {
        let read = handle.board.sources()[0].read.load(Relaxed);
        before = (read, if read == before.0 { before.1 + 1 } else { 0 });
        before.1 > 500
    });
    assert!(stands && before.0 < 9_500, "{before:?}");
    backlog.store(7, Relaxed);
    assert!(comes(|| told(&handle) == Some(Some(7))));
    handle.control.stop(15);
    while taken.blocking_recv().is_some() {}
    running.join().unwrap().unwrap();
}
