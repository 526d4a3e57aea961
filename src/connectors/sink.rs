//! The contract of sinks: whole batches of encoded results, taken without blocking.

use std::any::Any;
use std::cell::RefCell;
use std::time::Duration;

use super::{Created, Outputs, Share, embedded};
use crate::error::Result;
use crate::event::Letter;
use crate::time::EventTime;

/// One encoded result, as ranges into the bytes of its [`Batch`].
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// Range of the key in [`Batch::keys`]; `None`: no key.
    pub key: Option<(u32, u32)>,
    /// Range of the value in [`Batch::values`], without the newline behind it; `None`: null.
    pub value: Option<(u32, u32)>,
    /// The stamp for a log that stamps records; `None`: the time of writing.
    pub timestamp: Option<EventTime>,
    /// The source partition it came from; keyless results go to this one mod n.
    pub partition: u32,
    /// Range of its headers in [`Batch::headers`].
    pub headers: (u32, u32),
}

/// Encoded results of one epoch, in the order in which they are to be written. Reused.
#[derive(Debug, Default)]
pub struct Batch {
    /// Values, each followed by a newline, so that a file takes them in one piece.
    pub values: Vec<u8>,
    /// Keys, one behind the other.
    pub keys: Vec<u8>,
    /// Headers of all records.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The records.
    pub records: Vec<Encoded>,
    /// For a sink that takes values and no bytes: those of the records that it has not taken.
    pub(super) typed: RefCell<Option<Box<dyn Any + Send>>>,
    /// Results that are too large to be among the records.
    pub(super) refused: Vec<Letter>,
}

impl Batch {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
            .sum();
        self.values.len() + self.keys.len() + headers + self.records.len() * size_of::<Encoded>()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.keys.clear();
        self.headers.clear();
        self.records.clear();
        *self.typed.get_mut() = None;
    }

    /// The key of `record`.
    pub fn key(&self, record: &Encoded) -> Option<&[u8]> {
        record
            .key
            .map(|(from, to)| &self.keys[from as usize..to as usize])
    }

    /// The value of `record`.
    pub fn value(&self, record: &Encoded) -> Option<&[u8]> {
        record
            .value
            .map(|(from, to)| &self.values[from as usize..to as usize])
    }
}

/// How long a run that was asked to stop waits until what is on its way is taken.
pub(crate) const CLOSE_MAX: Duration = Duration::from_secs(9);

/// Whether results are lines of a file or records of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Values only, one JSON object a line; letters are wrapped in an object.
    Lines,
    /// Records with key, headers and stamp; letters keep their raw bytes and gain headers.
    Records,
}

/// Where the results of a port go.
pub trait Sink: Send + Sync {
    /// Where it writes, for messages.
    fn describe(&self) -> String;

    /// The place that it writes, by one name however it is spelled; two sinks at one place would
    /// mix or replace each other's results. `None`: a place of its own.
    fn place(&self) -> Option<String> {
        None
    }

    /// Lines or records.
    fn style(&self) -> Style;

    /// Looks whether [`Sink::prepare`] would succeed, without any effect on the outside, and says
    /// in words what was found. `creates`: [`Sink::create`] would be called before.
    ///
    /// # Errors
    /// What [`Sink::prepare`] would end with, or writing would for want of a right.
    fn check(&self, _creates: bool) -> Result<String> {
        Ok("nothing to check".to_owned())
    }

    /// Creates what is to be written to, if it is not there: with so many partitions, or as many
    /// as is usual there. Called before [`Sink::prepare`] if the run is asked to create what is
    /// missing.
    ///
    /// # Errors
    /// Names what cannot be created.
    fn create(&self, _partitions: Option<u32>) -> Result<Created> {
        Ok(Created::default())
    }

    /// Called once in the process before any worker starts.
    ///
    /// # Errors
    /// Names what cannot be written.
    fn prepare(&self) -> Result;

    /// Called once on each worker.
    ///
    /// # Errors
    /// Names what cannot be written.
    fn open(&self, share: Share) -> Result<Box<dyn Writer>>;

    /// Whether what is written becomes visible only together with a checkpoint.
    fn is_exactly_once(&self) -> bool {
        false
    }

    /// Files that become visible with checkpoints; `None`: it has none.
    #[doc(hidden)]
    fn outputs(&self) -> Option<&dyn Outputs> {
        None
    }

    /// Whether a crash may lose what its writers have taken: then [`Sink::settle`] is needed.
    #[doc(hidden)]
    fn is_buffered(&self) -> bool {
        false
    }

    /// Waits until all that its writers took is durable, or the run `is_over`. Called before a
    /// checkpoint counts; nothing is written meanwhile.
    ///
    /// # Errors
    /// Names what could not be written.
    #[doc(hidden)]
    fn settle(&self, _is_over: &dyn Fn() -> bool) -> Result {
        Ok(())
    }

    /// Bytes that a record may have with its key and headers; `None`: any number. Known when it is
    /// prepared.
    #[doc(hidden)]
    fn record_max(&self) -> Option<usize> {
        None
    }

    /// Called once after all writers are closed. `complete`: the run reached its end, and the
    /// output may appear under its final name.
    ///
    /// # Errors
    /// Names what could not be completed.
    fn finish(&self, complete: bool) -> Result;

    /// Somebody asked the run to stop: what is on its way is all that will come.
    fn stopping(&self) {}

    /// Of a sink that takes values and no bytes: which, and where they go.
    #[doc(hidden)]
    fn typed(&self) -> Option<embedded::Typed<'_>> {
        None
    }
}

/// How much of a batch was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of it.
    All,
    /// The first records of it, up to this one; the waker will be called when there is room.
    Full(usize),
}

/// The writer of one worker.
pub trait Writer {
    /// Takes the records of `batch` from number `from` on.
    ///
    /// # Errors
    /// Names the place and the record that could not be written.
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written>;

    /// Hands on what is buffered; called when an epoch is complete or nothing more is at hand.
    ///
    /// # Errors
    /// As [`Writer::write`].
    fn flush(&mut self) -> Result;

    /// The end: everything taken must be durable in the sink when this returns; may block.
    ///
    /// # Errors
    /// Names what could not be written.
    fn close(&mut self) -> Result;
}
