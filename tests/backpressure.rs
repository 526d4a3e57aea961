//! A sink slowed to 1 % holds back everything before it: memory stays within the budget for
//! buffers, however fast the source is and however large the window that fires; and in the end
//! every result is there. Where two workers write a keyed log, an epoch is held besides, once.
//!
//! Caught here, each planted once and seen to fail: epochs in flight that nothing limits
//! (`in_flight_max` a million); a window that is copied when it fires (no limit of pressure); a
//! sink and an operator before it that wait for each other (pressure that counts epochs which are
//! still open: the engine once hung here).
//!
//! Memory is a process's, so each scenario runs in a process of its own: this test again, told by
//! its environment which one.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anabranch::connectors::{
    Batch, Fetched, Found, MemorySink, Reader, Share, Sink, Source, Style, Writer, Written,
};
use anabranch::event::Origin;
use anabranch::prelude::*;

const BUDGET: usize = 64 << 20;
/// Bytes of an event's payload.
const PAYLOAD: usize = 1_000;
/// Results a second that a sink takes of a window: less than 1 % of what one gives.
const WINDOW_RATE: f64 = 10_000.0;
/// Bytes that a window holds of a key.
const OF_KEY: usize = 48;
/// Bytes of a result that waits: the event, and its text as the allocator rounds it up.
const EVENT: usize = 72;
const TEXT: usize = 208;
const SCENARIO: &str = "ANABRANCH_TEST_BACKPRESSURE";

#[expect(clippy::disallowed_methods, reason = "the pace of a scripted sink")]
fn now() -> Instant {
    Instant::now()
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// The largest resident size while it lives.
struct Peak {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Peak {
    fn watch() -> Self {
        let (stop, most) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stops, notes) = (Arc::clone(&stop), Arc::clone(&most));
        let thread = thread::spawn(move || {
            while !stops.load(SeqCst) {
                notes.fetch_max(resident() as u64, SeqCst);
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, most, thread }
    }

    fn end(self) -> usize {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap();
        usize::try_from(self.most.load(SeqCst)).unwrap()
    }
}

/// Events are made as fast as they are read, until the time is up or there are enough.
#[derive(Clone)]
struct Generator {
    until: Option<Duration>,
    count: u64,
    read: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    payload: usize,
}

impl Generator {
    fn new(until: Option<Duration>, count: u64, payload: usize) -> Self {
        Self {
            until,
            count,
            read: Arc::default(),
            ended: Arc::default(),
            payload,
        }
    }
}

impl Source for Generator {
    fn describe(&self) -> String {
        "generator".to_owned()
    }
    fn bounded(&self) -> bool {
        true
    }
    fn prepare(&self) -> Result {
        Ok(())
    }
    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        let found = (0..2).filter(|partition| share.owns(*partition));
        Ok(Box::new(Generating {
            of: self.clone(),
            found: found.collect(),
            next: [0; 2],
            since: now(),
            bytes: Vec::new(),
        }))
    }
}

struct Generating {
    of: Generator,
    found: Vec<u32>,
    next: [u64; 2],
    since: Instant,
    bytes: Vec<u8>,
}

impl Reader for Generating {
    fn discover(&mut self) -> Result<Vec<Found>> {
        let found = self.found.drain(..).map(|partition| Found {
            partition,
            origin: Origin::Memory(Arc::from("generator"), partition),
        });
        Ok(found.collect())
    }

    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let next = &mut self.next[partition as usize];
        let over = self
            .of
            .until
            .is_some_and(|until| self.since.elapsed() >= until);
        if over || *next == self.of.count {
            self.of.ended.store(true, SeqCst);
            return Ok(Fetched::End);
        }
        let from = *next;
        *next = self.of.count.min(from + max as u64);
        self.bytes.clear();
        self.bytes.resize(self.of.payload, b'x');
        for number in (from..*next).map(|nth| 2 * nth + u64::from(partition)) {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        let (payload, numbers) = self.bytes.split_at(self.of.payload);
        for (offset, number) in (from..*next).zip(numbers.chunks(8)) {
            records.push(Record {
                key: Some(number),
                ..Record::line(offset, payload)
            });
        }
        self.of.read.fetch_add(*next - from, SeqCst);
        Ok(Fetched::Some)
    }
}

/// Takes so many records a second until it is opened wide.
#[derive(Clone)]
struct Tap {
    style: Style,
    per_second: Option<f64>,
    wide: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    /// Resident bytes when the first record came.
    at_first: Arc<AtomicU64>,
    wakers: Arc<Mutex<Vec<anabranch::connectors::Waker>>>,
}

impl Tap {
    fn new(style: Style, per_second: Option<f64>) -> Self {
        Self {
            style,
            per_second,
            wide: Arc::default(),
            taken: Arc::default(),
            at_first: Arc::default(),
            wakers: Arc::default(),
        }
    }

    /// Wakes the writers now and then until all is over: a slow sink's own clock.
    fn drip(&self) {
        let tap = self.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(5));
                let wakers = tap.wakers.lock().unwrap();
                wakers.iter().for_each(anabranch::connectors::Waker::wake);
            }
        });
    }
}

impl Sink for Tap {
    fn describe(&self) -> String {
        "tap".to_owned()
    }
    fn style(&self) -> Style {
        self.style
    }
    fn prepare(&self) -> Result {
        Ok(())
    }
    fn open(&self, share: Share) -> Result<Box<dyn Writer>> {
        self.wakers.lock().unwrap().push(share.waker);
        let workers = f64::from(u32::try_from(share.workers).unwrap());
        Ok(Box::new(Dripping {
            per_second: self.per_second.map(|rate| rate / workers),
            tap: self.clone(),
            since: now(),
            taken: 0,
        }))
    }
    fn finish(&self, _: bool) -> Result {
        Ok(())
    }
}

struct Dripping {
    tap: Tap,
    per_second: Option<f64>,
    since: Instant,
    taken: u64,
}

impl Writer for Dripping {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small count"
    )]
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        if self.tap.at_first.load(SeqCst) == 0 {
            self.tap.at_first.store(resident() as u64, SeqCst);
            self.since = now();
        }
        let left = batch.records.len() - from;
        let room = match self.per_second {
            Some(rate) if !self.tap.wide.load(SeqCst) => {
                let due = (self.since.elapsed().as_secs_f64() * rate) as u64;
                usize::try_from(due.saturating_sub(self.taken)).unwrap()
            }
            _ => left,
        };
        let takes = left.min(room);
        self.taken += takes as u64;
        self.tap.taken.fetch_add(takes as u64, SeqCst);
        Ok(if takes == left {
            Written::All
        } else {
            Written::Full(from + takes)
        })
    }
    fn flush(&mut self) -> Result {
        Ok(())
    }
    fn close(&mut self) -> Result {
        Ok(())
    }
}

type Wide = (u64, String);

/// Passes wide events on as they are.
fn copy() -> Job {
    Job::new("copy", |flow: &Flow<'_>| {
        flow.source::<Wide>("events")
            .decode(decode)
            .event_time(
                |event| i64::try_from(event.0).unwrap(),
                Watermarks::lag(Duration::ZERO),
            )
            .sink("out", |s| s.json().key(|event| event.0));
        Ok(())
    })
}

fn decode(record: &Record<'_>) -> std::result::Result<Wide, String> {
    let number = record.key.unwrap_or_default().try_into();
    let number = u64::from_le_bytes(number.map_err(|_| "no number".to_owned())?);
    let text = std::str::from_utf8(record.value.unwrap_or_default());
    Ok((number, text.map_err(|why| why.to_string())?.to_owned()))
}

/// One window that holds a key for each event; what comes of it is wider than what it holds.
fn one_window() -> Job {
    Job::new("one-window", |flow: &Flow<'_>| {
        flow.source::<Wide>("events")
            .decode(decode)
            .event_time(|_| 0, Watermarks::lag(Duration::ZERO))
            .key_by(|event| event.0)
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate(|a| (a.count(), a.max(|event| event.0)))
            .emit_final()
            .map(|window| (window.key, "x".repeat(200)))
            .sink("out", |s| s.json().key(|result| result.0));
        Ok(())
    })
}

fn run(job: &Job, workers: usize, source: &Generator, sink: &Tap) -> anabranch::Summary {
    let settings = Settings::new()
        .workers(workers)
        .buffer_bytes(BUDGET)
        .bind_source("events", source.clone())
        .bind_sink("out", sink.clone())
        .bind_sink("late", MemorySink::new(Style::Lines))
        .bind_sink("dead", MemorySink::new(Style::Lines));
    let summary = job.run(settings).unwrap();
    assert!(summary.balances(), "{summary}");
    assert_eq!(summary.results, sink.taken.load(SeqCst));
    summary
}

/// Runs beside the caller until it ends, and opens the tap as soon as `when` holds.
fn open_when(sink: &Tap, when: impl Fn() -> bool + Send + 'static) {
    let wide = Arc::clone(&sink.wide);
    thread::spawn(move || {
        while !when() {
            thread::sleep(Duration::from_millis(5));
        }
        wide.store(true, SeqCst);
    });
}

fn fast_source(workers: usize, style: Style) {
    // How fast it is when nothing holds it back.
    let brief = Duration::from_millis(500);
    let (source, sink) = (
        Generator::new(Some(brief), u64::MAX, PAYLOAD),
        Tap::new(style, None),
    );
    run(&copy(), workers, &source, &sink);
    let read = u32::try_from(source.read.load(SeqCst)).unwrap();
    let rate = f64::from(read) / brief.as_secs_f64();
    // The same with a sink of 1 % of that, over a time in which gigabytes would have been read.
    let time = Duration::from_secs(5);
    let source = Generator::new(Some(time), u64::MAX, PAYLOAD);
    let sink = Tap::new(style, Some(rate / 100.0));
    sink.drip();
    let ended = Arc::clone(&source.ended);
    open_when(&sink, move || ended.load(SeqCst));
    let (before, peak) = (resident(), Peak::watch());
    let summary = run(&copy(), workers, &source, &sink);
    let grown = peak.end().saturating_sub(before);
    let could = rate * time.as_secs_f64() * f64::from(u32::try_from(PAYLOAD).unwrap());
    assert!(could > 5.0 * f64::from(u32::try_from(BUDGET).unwrap()));
    assert_eq!(summary.results, source.read.load(SeqCst));
    assert!(grown <= BUDGET + BUDGET / 10, "{grown} bytes");
}

fn large_window(workers: usize, style: Style) {
    let keys = 1_500_000;
    let source = Generator::new(None, keys / 2, 0);
    let sink = Tap::new(style, Some(WINDOW_RATE));
    sink.drip();
    let first = Arc::clone(&sink.at_first);
    let since = Mutex::new(None::<Instant>);
    open_when(&sink, move || {
        let mut since = since.lock().unwrap();
        if first.load(SeqCst) > 0 && since.is_none() {
            *since = Some(now());
        }
        since.is_some_and(|since| since.elapsed() > Duration::from_secs(2))
    });
    let (before, peak) = (resident(), Peak::watch());
    let summary = run(&one_window(), workers, &source, &sink);
    let first = usize::try_from(sink.at_first.load(SeqCst)).unwrap();
    assert_eq!(summary.results, keys);
    let buffers = BUDGET + BUDGET / 10;
    if style == Style::Lines || workers == 1 {
        let grown = peak.end().saturating_sub(first);
        assert!(grown <= buffers, "{grown} bytes");
        return;
    }
    // Two workers put an epoch in order before they write it. Beside the window all its results are
    // held, and the events, but not their texts, once more while they move into order.
    let grown = peak.end().saturating_sub(before);
    let epoch = usize::try_from(keys).unwrap() * (OF_KEY + TEXT + 2 * EVENT);
    assert!(
        grown <= buffers + epoch,
        "{grown} bytes, {epoch} of the epoch"
    );
}

fn scenario(name: &str) {
    match name {
        "source-1" => fast_source(1, Style::Lines),
        "source-2" => fast_source(2, Style::Records),
        "window-1" => large_window(1, Style::Lines),
        "window-2" => large_window(2, Style::Lines),
        "keyed-1" => large_window(1, Style::Records),
        "keyed-2" => large_window(2, Style::Records),
        _ => panic!("no scenario {name}"),
    }
}

/// Runs a scenario in a process of its own; one that hangs is ended.
fn in_own_process(name: &str) {
    if let Ok(name) = std::env::var(SCENARIO) {
        return scenario(&name);
    }
    let test = thread::current().name().unwrap().to_owned();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(SCENARIO, name)
        .spawn()
        .unwrap();
    let since = now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > Duration::from_secs(40) {
            child.kill().unwrap();
            panic!("{name}: no end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success(), "{name}");
}

#[test]
fn a_fast_source_waits_for_a_slow_sink() {
    in_own_process("source-1");
}

#[test]
fn a_fast_source_waits_for_a_slow_sink_on_two_workers() {
    in_own_process("source-2");
}

#[test]
fn a_large_window_waits_for_a_slow_sink() {
    in_own_process("window-1");
}

#[test]
fn a_large_window_waits_for_a_slow_sink_on_two_workers() {
    in_own_process("window-2");
}

#[test]
fn a_large_window_waits_for_a_slow_keyed_log() {
    in_own_process("keyed-1");
}

#[test]
fn a_large_window_into_a_keyed_log_on_two_workers_is_held_once() {
    in_own_process("keyed-2");
}
