//! Connectors: where records come from and where results go.
//!
//! A connector is a [`Source`] or a [`Sink`], bound to a port of a job before it starts. The engine
//! opens it once on every worker and from then on calls it from that worker's thread only, with
//! whole batches. A connector never blocks the worker: what is not there yet is answered with
//! [`Fetched::Wait`] or [`Written::Full`], and the [`Waker`] says when to ask again.

mod commit;
mod created;
mod dead_limit;
mod door;
mod door_state;
pub mod embedded;
mod epoch_writer;
mod file;
pub mod generator;
mod history;
mod judge;
#[cfg(feature = "kafka")]
mod kafka;
mod letter_port;
mod memory;
mod null;
mod pace;
mod pick;
mod plugs;
mod reader;
mod sink;
mod sink_port;
mod source_port;
mod stamp;
mod stdio;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[doc(hidden)]
pub use commit::Outputs;
pub(crate) use commit::{Commit, Member, PartitionEnd, TopicEnds, Transactions};
pub use commit::{PartitionCut, SourceCut};
pub use created::Created;
pub use dead_limit::DeadLimit;
pub(crate) use dead_limit::check_dead_share;
pub(crate) use file::is_partition;
pub use file::{FileSink, FileSource};
#[cfg(feature = "kafka")]
pub(crate) use kafka::check_property;
#[cfg(feature = "kafka")]
pub(crate) use kafka::read_progress;
#[cfg(feature = "kafka")]
pub use kafka::{KafkaOptions, KafkaSink, KafkaSource, TopicLimits};
pub use memory::{MemoryRecord, MemorySink, MemorySource, WrittenRecord};
pub use null::NullSink;
pub(crate) use pace::Pace;
pub(crate) use plugs::{Cut, Ends, Plugs, Tuning};
pub(crate) use sink::CLOSE_MAX;
pub use sink::{Batch, Encoded, Sink, Style, Writer, Written};
pub use sink_port::{SinkFormat, SinkPort, ToKey};
pub use source_port::Undecoded;
pub use stamp::ToEventTime;
pub use stdio::{StderrSink, StdinSource, StdoutSink};
pub(crate) use writer::write_letters;

use crate::error::{Error, Result};
use crate::event::{Origin, Record};
use crate::time::EventTime;

/// Asks the worker to look at a connector again. Cheap, callable from any thread, never blocks.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// The part of a connector's work that one worker does.
#[derive(Clone, Debug)]
pub struct Share {
    /// This worker, from 0.
    pub worker: usize,
    /// All workers of the job.
    pub workers: usize,
    /// The place of the port among the job's sources, so that small sources spread over workers.
    pub port: usize,
    /// Bytes that the connector may hold in buffers of its own on this worker.
    pub buffer_bytes: usize,
    /// Wakes this worker.
    pub waker: Waker,
}

impl Share {
    /// Whether partition `partition` of this port is read by this worker.
    pub fn owns(&self, partition: u32) -> bool {
        (partition as usize + self.port) % self.workers == self.worker
    }
}

/// A log of records in partitions, bound to a source port.
pub trait Source: Send + Sync {
    /// Where it reads, for messages: `file:in.jsonl`, `kafka:bids`.
    fn describe(&self) -> String;

    /// The place that it reads, by one name however it is spelled; nothing may write there, and
    /// some places cannot be read twice. `None`: a place of its own.
    fn place(&self) -> Option<String> {
        None
    }

    /// Whether every partition ends; a live source is idle at times but has no end.
    fn bounded(&self) -> bool;

    /// Whether partitions may be added while it is read.
    fn grows(&self) -> bool {
        !self.bounded()
    }

    /// Looks whether [`Source::prepare`] would succeed, without any effect on the outside, and says
    /// in words what was found. `creates`: [`Source::create`] would be called before.
    ///
    /// # Errors
    /// What [`Source::prepare`] would end with, or reading would for want of a right.
    fn check(&self, _creates: bool) -> Result<String> {
        Ok("nothing to check".to_owned())
    }

    /// Creates what is to be read, if it is not there. Called before [`Source::prepare`] if the
    /// run is asked to create what is missing.
    ///
    /// # Errors
    /// Names what cannot be created.
    fn create(&self) -> Result<Created> {
        Ok(Created::default())
    }

    /// Called once in the process before any worker starts: connects, checks that what is to be
    /// read is there, and fixes where it starts and (if bounded) ends.
    ///
    /// # Errors
    /// Names the file or topic that cannot be read.
    fn prepare(&self) -> Result;

    /// It is to go on where a checkpoint left it: called before [`Source::prepare`]. A partition
    /// without an end is read to where it ends now, if the source is bounded.
    ///
    /// # Errors
    /// By default: that it cannot be read again.
    fn resume(&self, _cut: &SourceCut) -> Result {
        let what = self.describe();
        Err(Error::usage(format!(
            "{what} cannot be read again: it has no checkpoints"
        )))
    }

    /// Called after [`Source::prepare`]: what it reads, and from where. `None`: it cannot go on
    /// from a checkpoint.
    ///
    /// # Errors
    /// The cluster does not tell.
    fn cut(&self) -> Result<Option<SourceCut>> {
        Ok(None)
    }

    /// Called once on each worker, after [`Source::prepare`].
    ///
    /// # Errors
    /// As [`Source::prepare`].
    fn open(&self, share: Share) -> Result<Box<dyn Reader>>;

    /// Where partitions begin, as far as that is known: what lay before it is gone for good.
    #[doc(hidden)]
    fn begins(&self) -> BTreeMap<u32, u64> {
        BTreeMap::new()
    }

    /// Of a source that gives values and no bytes: which, and where they are.
    #[doc(hidden)]
    fn typed(&self) -> Option<embedded::Typed<'_>> {
        None
    }
}

/// Where a source that has no checkpoint starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the first record that the log still has.
    #[default]
    Earliest,
    /// Behind the last one.
    Latest,
    /// At the first record with this stamp or a later one.
    Timestamp(EventTime),
}

/// A partition that a reader has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number in the source.
    pub partition: u32,
    /// What it is called in letters and messages.
    pub origin: Origin,
}

/// What one call of [`Reader::fetch`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Records were given (or the time has come to ask again at once).
    Some,
    /// Nothing there now; the waker will be called when there is.
    Wait,
    /// Nothing there now, and everything that the log held at the last look was given: the last
    /// end-of-partition mark equals the log's known end. The waker will be called when there is
    /// more.
    CaughtUp,
    /// The end: nothing will ever come again.
    End,
}

/// The partitions of one worker.
pub trait Reader {
    /// Partitions of this worker that were not reported before: all that exist at the first call,
    /// newly discovered ones later. Cheap when nothing is new: it is called on every activation.
    ///
    /// # Errors
    /// When the source has become unreadable.
    fn discover(&mut self) -> Result<Vec<Found>>;

    /// Appends up to `max` of the next records of `partition` to `records`, in log order. Each
    /// record is given once; they borrow from the reader until its next call.
    ///
    /// # Errors
    /// Names partition and offset that cannot be read.
    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched>;

    /// How far behind the log's end the reader is, in records, where the log tells.
    fn backlog(&self, _partition: u32) -> Option<u64> {
        None
    }

    /// Every record before `offset` of `partition` has left the dataflow. For outside observers
    /// (lag tools) only; never for recovery.
    fn passed(&mut self, _partition: u32, _offset: u64) {}
}
