//! A log that a test writes while a job reads it, and the job that counts what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anabranch::connectors::{
    Fetched, Found, MemoryRecord, MemorySink, MemorySource, Reader, Share, SinkPort, Source, Style,
    Waker,
};
use anabranch::event::Origin;
use anabranch::prelude::*;
use anabranch::{DeadLimit, Summary};

/// Nothing that is waited for takes longer than this, unless it never comes.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `holds`.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = now();
    while !holds() {
        assert!(since.elapsed() < DEADLINE, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[expect(clippy::disallowed_methods, reason = "deadlines of a test")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What a partition says when nothing is left to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Says {
    #[default]
    CaughtUp,
    /// It does not know whether there is more.
    Wait,
    End,
}

/// One record: time and key.
pub(crate) type Entry = (i64, u32);

#[derive(Clone, Debug, Default)]
struct Part {
    entries: Vec<Entry>,
    /// Stamps of the log, for those records that have one.
    stamps: BTreeMap<usize, i64>,
    says: Says,
    /// Given by a reader so far, and the largest time among them.
    given: usize,
    largest: Option<i64>,
    /// It makes up records without end: so many milliseconds apart.
    endless: Option<i64>,
}

/// The smallest of the largest times given, of partitions that have records left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slowest {
    /// One has given nothing yet.
    Unread,
    At(i64),
    /// None has anything left.
    Nobody,
}

/// One call that gave records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    pub(crate) partition: usize,
    /// The largest time that this partition had given before.
    pub(crate) before: Option<i64>,
    pub(crate) slowest: Slowest,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<Part>,
    wakers: Vec<Waker>,
    fetches: Vec<Fetch>,
}

/// A log in memory that can be written while it is read.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    name: Arc<str>,
    live: bool,
    state: Arc<Mutex<State>>,
}

impl Log {
    fn new(name: &str, live: bool, parts: Vec<Part>) -> Self {
        let state = State {
            parts,
            ..State::default()
        };
        Self {
            name: Arc::from(name),
            live,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A live log with so many empty partitions.
    pub(crate) fn live(name: &str, partitions: usize) -> Self {
        Self::new(name, true, vec![Part::default(); partitions])
    }

    /// A log that ends with what it holds.
    pub(crate) fn bounded(name: &str, partitions: impl IntoIterator<Item = Vec<Entry>>) -> Self {
        let part = |entries| Part {
            entries,
            says: Says::End,
            ..Part::default()
        };
        Self::new(name, false, partitions.into_iter().map(part).collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state();
        let result = change(&mut state);
        let wakers = state.wakers.clone();
        drop(state);
        wakers.iter().for_each(Waker::wake);
        result
    }

    /// Appends records to a partition and wakes whoever reads it.
    pub(crate) fn append(&self, partition: usize, entries: impl IntoIterator<Item = Entry>) {
        self.change(|state| state.parts[partition].entries.extend(entries));
    }

    /// Appends a record that the log stamps with `stamp`.
    pub(crate) fn append_stamped(&self, partition: usize, entry: Entry, stamp: i64) {
        self.change(|state| {
            let part = &mut state.parts[partition];
            part.stamps.insert(part.entries.len(), stamp);
            part.entries.push(entry);
        });
    }

    /// A new partition with these records; returns its number.
    pub(crate) fn add(&self, entries: impl IntoIterator<Item = Entry>) -> usize {
        self.change(|state| {
            state.parts.push(Part {
                entries: entries.into_iter().collect(),
                ..Part::default()
            });
            state.parts.len() - 1
        })
    }

    /// What the partition says from now on when nothing is left.
    pub(crate) fn says(&self, partition: usize, says: Says) {
        self.change(|state| state.parts[partition].says = says);
    }

    /// From now on the partition gives a record every `step` milliseconds of event time, as fast as
    /// it is read; `None`: no more.
    pub(crate) fn endless(&self, partition: usize, step: Option<i64>) {
        self.change(|state| state.parts[partition].endless = step);
    }

    /// Every partition ends with what it holds.
    pub(crate) fn end(&self) {
        self.change(|state| {
            for part in &mut state.parts {
                part.says = Says::End;
                part.endless = None;
            }
        });
    }

    /// How many records of the partition were read.
    pub(crate) fn given(&self, partition: usize) -> usize {
        self.state().parts[partition].given
    }

    /// All records, by partition.
    pub(crate) fn entries(&self) -> Vec<Vec<Entry>> {
        let state = self.state();
        state
            .parts
            .iter()
            .map(|part| part.entries.clone())
            .collect()
    }

    /// All calls that gave records, in their order.
    pub(crate) fn fetches(&self) -> Vec<Fetch> {
        self.state().fetches.clone()
    }
}

impl Source for Log {
    fn describe(&self) -> String {
        format!("log:{}", self.name)
    }

    fn bounded(&self) -> bool {
        !self.live
    }

    /// Partitions may come, but when all have ended the test is over.
    fn grows(&self) -> bool {
        false
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        self.state().wakers.push(share.waker.clone());
        Ok(Box::new(LogReader {
            log: self.clone(),
            share,
            known: 0,
            batch: Vec::new(),
        }))
    }
}

struct LogReader {
    log: Log,
    share: Share,
    known: usize,
    batch: Vec<(u64, Vec<u8>, Option<EventTime>)>,
}

impl Reader for LogReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        let count = self.log.state().parts.len();
        let new = self.known..count;
        self.known = count;
        let numbers = new.map(|number| u32::try_from(number).unwrap());
        let found = numbers.filter(|number| self.share.owns(*number));
        Ok(found
            .map(|partition| Found {
                partition,
                origin: Origin::Memory(Arc::clone(&self.log.name), partition),
            })
            .collect())
    }

    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let state = &mut *self.log.state();
        let nth = partition as usize;
        state.parts[nth].make_up(max);
        let slowest = state.slowest();
        let part = &mut state.parts[nth];
        self.batch.clear();
        let from = part.given;
        part.given = part.entries.len().min(from.saturating_add(max));
        for nth in from..part.given {
            let entry = part.entries[nth];
            let stamp = part.stamps.get(&nth).copied().map(EventTime::from_millis);
            let value = format!("[{},{}]", entry.0, entry.1).into_bytes();
            self.batch.push((nth as u64, value, stamp));
        }
        if part.given > from {
            let before = part.largest;
            let times = part.entries[from..part.given].iter().map(|entry| entry.0);
            part.largest = part.largest.max(times.max());
            state.fetches.push(Fetch {
                partition: nth,
                before,
                slowest,
            });
        }
        let part = &state.parts[nth];
        let fetched = match part.says {
            _ if part.given > from && (part.has_more() || part.says != Says::End) => Fetched::Some,
            Says::End => Fetched::End,
            Says::Wait => Fetched::Wait,
            Says::CaughtUp => Fetched::CaughtUp,
        };
        records.extend(self.batch.iter().map(|(offset, value, timestamp)| Record {
            timestamp: *timestamp,
            ..Record::line(*offset, value)
        }));
        Ok(fetched)
    }
}

impl Part {
    fn has_more(&self) -> bool {
        self.endless.is_some() || self.given < self.entries.len()
    }

    fn make_up(&mut self, count: usize) {
        let Some(step) = self.endless else { return };
        for _ in 0..count {
            let last = self.entries.last().map_or(0, |entry| entry.0);
            self.entries.push((last + step, 0));
        }
    }
}

impl State {
    /// How far the partition is that is furthest behind of those that have records left.
    fn slowest(&self) -> Slowest {
        let left = self.parts.iter().filter(|part| part.has_more());
        let at = left.map(|part| part.largest.map_or(Slowest::Unread, Slowest::At));
        at.min().unwrap_or(Slowest::Nobody)
    }
}

/// The rules of the counting job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) size: i64,
    pub(crate) lag: i64,
    pub(crate) allowed: i64,
}

fn span(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

/// Counts events by key and window, over all `sources` together.
pub(crate) fn counts(sources: &'static [&'static str], rules: Rules) -> Job {
    Job::new("counts", move |flow: &Flow<'_>| {
        let marks = Watermarks::lag(span(rules.lag)).allowed_lateness(span(rules.allowed));
        let events = sources.iter().map(|name| {
            flow.source::<Entry>(name)
                .decode(|record| serde_json::from_slice::<Entry>(record.value.unwrap_or_default()))
                .event_time(|entry| entry.0, marks)
        });
        let Some(events) = events.reduce(EventStream::union) else {
            return Ok(());
        };
        events
            .key_by(|entry| entry.1)
            .window(Tumbling::of(span(rules.size)))
            .aggregate(|a| a.count())
            .emit_final()
            .map(|w| (w.key, w.window.start.millis(), w.value))
            .sink("counts", SinkPort::json);
        Ok(())
    })
}

/// What the sinks got.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    pub(crate) counts: MemorySink,
    pub(crate) late: MemorySink,
    pub(crate) dead: MemorySink,
}

/// Key and start of a window, and its count.
pub(crate) type Counts = BTreeMap<(u32, i64), i64>;

impl Outputs {
    fn new() -> Self {
        let sink = || MemorySink::new(Style::Lines);
        Self {
            counts: sink(),
            late: sink(),
            dead: sink(),
        }
    }

    /// The counts so far; each was written once.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for line in self.counts.lines() {
            let (key, start, count): (u32, i64, i64) = serde_json::from_str(&line).unwrap();
            let twice = counts.insert((key, start), count);
            assert!(twice.is_none(), "{line} fired twice");
        }
        counts
    }

    /// Log, partition and offset of what is late for `reason`.
    pub(crate) fn late(&self, reason: &str) -> BTreeSet<(String, usize, usize)> {
        let letters = self.late.lines().into_iter().map(|line| {
            let letter: serde_json::Value = serde_json::from_str(&line).unwrap();
            let number = |name: &str| usize::try_from(letter[name].as_u64().unwrap()).unwrap();
            let place = (
                letter["topic"].as_str().unwrap().to_owned(),
                number("partition"),
                number("offset"),
            );
            (letter["reason"] == reason, place)
        });
        letters
            .filter(|letter| letter.0)
            .map(|letter| letter.1)
            .collect()
    }
}

/// A job that runs beside the test.
pub(crate) struct Running {
    pub(crate) out: Outputs,
    thread: Option<JoinHandle<Result<Summary>>>,
    logs: Vec<Log>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.logs.iter().for_each(Log::end); // a test that has failed leaves nothing running
    }
}

/// Starts `job` over `logs`, each bound to the port of its name.
pub(crate) fn start(job: &Job, logs: &[&Log], settings: Settings) -> Running {
    let out = Outputs::new();
    let mut settings = settings
        .max_dead(DeadLimit::Off)
        .bind_sink("counts", out.counts.clone())
        .bind_sink("late", out.late.clone())
        .bind_sink("dead", out.dead.clone());
    for log in logs {
        settings = settings.bind_source(&log.name, (*log).clone());
    }
    let job = job.clone();
    Running {
        out,
        thread: Some(thread::spawn(move || job.run(settings))),
        logs: logs.iter().map(|log| (*log).clone()).collect(),
    }
}

impl Running {
    /// Waits for the end of the run, which must balance.
    pub(crate) fn finish(mut self) -> (Outputs, Summary) {
        let thread = self.thread.take().unwrap();
        eventually("the run ends", || thread.is_finished());
        let summary = thread.join().unwrap().unwrap();
        assert!(summary.balances(), "{summary}");
        (self.out.clone(), summary)
    }
}

/// What the log says, by a plain recount: the promise's function F. `without` leaves records out as
/// if they had never been written.
pub(crate) fn recount(
    logs: &[&Log],
    rules: Rules,
    without: &BTreeSet<(String, usize, usize)>,
) -> Counts {
    let mut counts = Counts::new();
    for log in logs {
        for (partition, entries) in log.entries().iter().enumerate() {
            let mut largest: Option<i64> = None;
            for (offset, (time, key)) in entries.iter().enumerate() {
                if without.contains(&(log.name.to_string(), partition, offset)) {
                    continue;
                }
                let start = time.div_euclid(rules.size) * rules.size;
                let closes = start + rules.size + rules.allowed;
                if largest.is_none_or(|largest| closes > largest - rules.lag) {
                    *counts.entry((*key, start)).or_default() += 1;
                }
                largest = largest.max(Some(*time));
            }
        }
    }
    counts
}

/// The same logs without some records, read to their end by the same job.
pub(crate) fn replay(
    job: &Job,
    logs: &[&Log],
    workers: usize,
    without: &BTreeSet<(String, usize, usize)>,
) -> Counts {
    let out = Outputs::new();
    let mut settings = Settings::new()
        .workers(workers)
        .bind_sink("counts", out.counts.clone())
        .bind_sink("late", out.late.clone())
        .bind_sink("dead", out.dead.clone());
    for log in logs {
        let parts = log
            .entries()
            .into_iter()
            .enumerate()
            .map(|(partition, entries)| {
                let kept = entries.into_iter().enumerate().filter(|(offset, _)| {
                    !without.contains(&(log.name.to_string(), partition, *offset))
                });
                kept.map(|(_, (time, key))| MemoryRecord::from(&*format!("[{time},{key}]")))
                    .collect::<Vec<_>>()
            });
        settings = settings.bind_source(&log.name, MemorySource::new(&log.name, parts));
    }
    let summary = job.run(settings).unwrap();
    assert_eq!(
        (summary.late_idle, summary.balances()),
        (0, true),
        "{summary}"
    );
    out.counts()
}
