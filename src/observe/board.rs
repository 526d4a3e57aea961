//! The board: who holds the watermark, and what each partition is doing. Written by doors when they
//! cut, read by whoever reports.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Origin;
use crate::time::{EventTime, rfc3339};

/// What a partition does, as its door sees it.
#[derive(Clone, Debug)]
pub(crate) struct PartitionStatus {
    pub(crate) partition: u32,
    pub(crate) watermark: EventTime,
    /// `reading`, `idle` or `ended`.
    pub(crate) reading: bool,
    /// Records that the log holds beyond what was read, where the log tells.
    pub(crate) backlog: Option<u64>,
    /// When it last gave a record.
    pub(crate) last_record: Option<Instant>,
}

/// One source: its name, its watermark, its partitions by worker.
#[derive(Debug)]
pub(crate) struct SourceStatus {
    pub(crate) name: Arc<str>,
    /// Records read from it.
    pub(crate) read: AtomicU64,
    watermark: AtomicI64,
    doors: Vec<Mutex<Vec<PartitionStatus>>>,
}

impl SourceStatus {
    pub(crate) fn watermark(&self) -> EventTime {
        EventTime::from_millis(self.watermark.load(Relaxed))
    }

    pub(crate) fn advance(&self, watermark: EventTime) {
        self.watermark.fetch_max(watermark.millis(), Relaxed);
    }

    /// Replaces what is said of the partitions of `worker`.
    pub(crate) fn post(&self, worker: usize, partitions: impl Iterator<Item = PartitionStatus>) {
        let mut door = self.doors[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        door.clear();
        door.extend(partitions);
    }

    fn backlog(&self) -> u64 {
        let doors = self.doors.iter().map(|door| {
            let door = door.lock().unwrap_or_else(PoisonError::into_inner);
            door.iter().filter_map(|status| status.backlog).sum::<u64>()
        });
        doors.sum()
    }

    /// All its partitions, by number.
    pub(crate) fn partitions(&self) -> Vec<PartitionStatus> {
        let doors = self.doors.iter();
        let mut all: Vec<_> = doors
            .flat_map(|door| door.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect();
        all.sort_by_key(|status| status.partition);
        all
    }

    /// The partition that holds the watermark: it is read, and is furthest behind.
    pub(crate) fn holder(&self) -> Option<PartitionStatus> {
        let all = self.partitions().into_iter();
        all.filter(|status| status.reading)
            .min_by_key(|status| (status.watermark, status.partition))
    }
}

/// One sink: its name, and what was written to it.
#[derive(Debug)]
pub(crate) struct SinkStatus {
    pub(crate) name: Arc<str>,
    /// Records that it took.
    pub(crate) written: AtomicU64,
}

/// All sources and sinks of a job.
#[derive(Debug, Default)]
pub(crate) struct Board {
    sources: Mutex<Vec<Arc<SourceStatus>>>,
    sinks: Mutex<Vec<Arc<SinkStatus>>>,
    first_dead: Mutex<Option<String>>,
    origins: Mutex<HashMap<(u16, u32), (Arc<str>, Origin)>>,
}

impl Board {
    /// The entry of source `name`; every worker asks for it, the first makes it.
    pub(crate) fn source(&self, name: &str, workers: usize) -> Arc<SourceStatus> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.iter().find(|source| &*source.name == name) {
            return Arc::clone(known);
        }
        let status = Arc::new(SourceStatus {
            name: Arc::from(name),
            read: AtomicU64::new(0),
            watermark: AtomicI64::new(EventTime::NEVER.millis()),
            doors: (0..workers).map(|_| Mutex::default()).collect(),
        });
        sources.push(Arc::clone(&status));
        status
    }

    /// The entry of sink `name`; every worker asks for it, the first makes it.
    pub(crate) fn sink(&self, name: &str) -> Arc<SinkStatus> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sinks.iter().find(|sink| &*sink.name == name) {
            return Arc::clone(known);
        }
        let status = Arc::new(SinkStatus {
            name: Arc::from(name),
            written: AtomicU64::new(0),
        });
        sinks.push(Arc::clone(&status));
        status
    }

    /// All sources, in the order in which they were described.
    pub(crate) fn sources(&self) -> Vec<Arc<SourceStatus>> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.clone()
    }

    /// All sinks, in the order in which they were described.
    pub(crate) fn sinks(&self) -> Vec<Arc<SinkStatus>> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.clone()
    }

    /// Notes the first dead letter of the run, in words.
    pub(crate) fn died(&self, why: impl FnOnce() -> String) {
        let mut first = self
            .first_dead
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(why);
    }

    /// The first dead letter of the run.
    pub(crate) fn first_dead(&self) -> String {
        let first = self
            .first_dead
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first.clone().unwrap_or_default()
    }

    /// Notes what partition `partition` of source number `source`, at port `port`, is called.
    pub(crate) fn name(&self, source: u16, partition: u32, port: &Arc<str>, origin: &Origin) {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        origins.insert((source, partition), (Arc::clone(port), origin.clone()));
    }

    /// Port and name of a partition from which an event came.
    pub(crate) fn origin(&self, source: u16, partition: u32) -> Option<(Arc<str>, Origin)> {
        let origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        origins.get(&(source, partition)).cloned()
    }

    /// Records that the logs hold beyond what was read, as far as they tell.
    pub(crate) fn backlog(&self) -> u64 {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().map(|source| source.backlog()).sum()
    }

    /// The source that is furthest behind.
    pub(crate) fn behind(&self) -> Option<Arc<SourceStatus>> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources
            .iter()
            .min_by_key(|source| source.watermark())
            .map(Arc::clone)
    }

    /// `held by bids[0] (no data for 31 s)`: the partition that the watermark waits for, if any.
    pub(crate) fn holder(&self, now: Instant) -> Option<String> {
        let source = self.behind()?;
        let holder = source.holder()?;
        let name = format!("held by {}[{}]", source.name, holder.partition);
        Some(
            match holder.last_record.map(|last| now.duration_since(last)) {
                None => format!("{name} (no data yet)"),
                Some(silent) if silent < Duration::from_secs(2) => name,
                Some(silent) => format!("{name} (no data for {} s)", silent.as_secs()),
            },
        )
    }

    /// `watermark 12:04:58`.
    pub(crate) fn reached(&self) -> String {
        match self.behind().map(|source| source.watermark()) {
            None | Some(EventTime::NEVER) => "watermark not known yet".to_owned(),
            Some(EventTime::END) => "watermark at the end".to_owned(),
            Some(time) => format!("watermark {}", rfc3339::time_of_day(time.millis())),
        }
    }
}
