//! What a run plugs into a job's ports, and how it is tuned.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{DeadLimit, Pace, Sink, Source};
use crate::stream::Context;
use crate::time::EventTime;

/// How a door cuts its input into epochs. A cut must never show in the output: tests vary it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// At this many records, or at the tick.
    Records(usize),
    /// One epoch for everything.
    Never,
    /// At random counts, in random order of workers, drawn from this seed.
    Random(u64),
}

/// Numbers that change how fast a run is, never what it says.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    pub(crate) cut: Cut,
    /// Random pauses of doors are drawn from it; `None`: none.
    pub(crate) jitter: Option<u64>,
    /// A cut is made at this many bytes too.
    pub(crate) epoch_bytes_max: usize,
    /// A cut is made this long after the last, if there is anything to cut.
    pub(crate) tick: Duration,
    /// Epochs that may be open at a time.
    pub(crate) in_flight_max: u64,
    /// How far a partition may be read ahead of the one that is furthest behind.
    pub(crate) drift_max: Duration,
    /// Bytes that each connector may buffer on each worker.
    pub(crate) buffer_bytes: usize,
    /// A live partition that is silent for this long stops holding the watermark.
    pub(crate) idle_timeout: Option<Duration>,
    /// How far past the stamp of its own record an event time may lie.
    pub(crate) max_ahead: Option<Duration>,
    pub(crate) dead_limit: DeadLimit,
    pub(crate) ends: Ends,
    /// Of a run that reads a log again: the watermark of each source where that ended.
    pub(crate) reached: BTreeMap<u16, EventTime>,
    /// Of such a run: the partitions that it reads, by source. `None`: all.
    pub(crate) again: Option<BTreeSet<(u16, u32)>>,
}

/// What the end of all partitions means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Nothing comes ever again: everything that is open fires.
    ForGood,
    /// The next run goes on from here: the watermark stays where it is.
    ForNow,
}

impl Tuning {
    /// Tuning under a budget of `bytes` for all that lies between sources and sinks. Half of it is
    /// what connectors hold, a quarter what epochs in flight hold, a quarter encoded output.
    pub(crate) fn within(bytes: usize, workers: usize, ports: usize) -> Self {
        let in_flight_max = 8;
        let epochs = in_flight_max * workers * ports.max(1);
        Self {
            cut: Cut::Records(8_192),
            jitter: None,
            // An event in memory is about twice its record.
            epoch_bytes_max: (bytes / 4 / 2 / epochs).max(64 << 10),
            tick: Duration::from_millis(10),
            in_flight_max: in_flight_max as u64,
            drift_max: Duration::from_secs(10),
            buffer_bytes: (bytes / 2 / (workers * ports.max(1))).max(64 << 10),
            idle_timeout: Some(Duration::from_secs(10)),
            max_ahead: Some(Duration::from_mins(10)),
            dead_limit: DeadLimit::default(),
            ends: Ends::ForGood,
            reached: BTreeMap::new(),
            again: None,
        }
    }
}

/// The bindings of a run, shared by its workers. Absent when a job is only described.
pub(crate) struct Plugs {
    /// By number of the source port.
    pub(crate) sources: Vec<Arc<dyn Source>>,
    /// By number of the sink port.
    pub(crate) sinks: Vec<Arc<dyn Sink>>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) tuning: Tuning,
    /// Sinks of this worker that are not closed yet.
    pub(crate) unclosed: std::cell::Cell<usize>,
    /// Doors of this worker, to be woken when an epoch is complete.
    pub(crate) doors: std::cell::RefCell<Vec<timely::scheduling::Activator>>,
}

impl Plugs {
    pub(crate) fn of(cx: &Context<'_>) -> Option<Rc<Self>> {
        Rc::clone(&cx.plugs).downcast().ok()
    }
}
