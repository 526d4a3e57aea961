//! How a sink is written down in a job's description: the port, the form of its records, and their
//! keys.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};

use super::embedded::{encode_typed, is_typed};
use super::epoch_writer::Order;
use super::writer::{at, declare, record_max, style, write};
use super::{Batch, Encoded, Style};
use crate::error::{Error, Result};
use crate::event::{DeadReason, Event, Letter, Origin, Position, json};
use crate::state::{State, codec, stable_hash, worker_of};
use crate::stream::{Context, EventStream, Sequence, Shared};
use crate::time::{Epoch, EventTime};

/// What the key of a result can be given as.
pub trait ToKey {
    /// Appends the bytes of the key.
    fn write_key(&self, out: &mut Vec<u8>);
}

impl ToKey for str {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl ToKey for String {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl ToKey for [u8] {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

macro_rules! decimal_keys {
    ($($integer:ty),*) => {$(
        /// The number as decimal text.
        impl ToKey for $integer {
            fn write_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}
decimal_keys!(i32, i64, u32, u64);

/// A sink under description: what its records look like.
pub struct SinkPort<T>(PhantomData<fn(&T)>);

impl<T> fmt::Debug for SinkPort<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkPort")
    }
}

impl<T: State> SinkPort<T> {
    /// Each value is written as one JSON object on one line. Floats that are no numbers are null.
    pub fn json(self) -> SinkFormat<T> {
        SinkFormat {
            key: None,
            topic: None,
            encode: None,
        }
    }

    /// Each value is written by `encode`, which appends its bytes. For sinks of lines they must
    /// hold no line break.
    ///
    /// # Errors
    /// What `encode` cannot write, or a line break in a line, ends the job: a result must not be
    /// lost.
    ///
    /// # Example
    /// ```
    /// # use anabranch::prelude::*;
    /// # use anabranch::connectors::{MemorySink, MemorySource, NullSink, Style};
    /// # use std::io::Write;
    /// let job = Job::new("doubled", |flow: &Flow<'_>| {
    ///     flow.source::<i64>("numbers")
    ///         .decode(|record| String::from_utf8_lossy(record.value()).parse::<i64>())
    ///         .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
    ///         .sink("doubled", |s| s.encode(|n, out| write!(out, "{n};{}", 2 * n)));
    ///     Ok(())
    /// });
    /// let doubled = MemorySink::new(Style::Lines);
    /// let settings = Settings::new()
    ///     .bind_source("numbers", MemorySource::new("numbers", [["4", "5"]]))
    ///     .bind_sink("doubled", doubled.clone())
    ///     .bind_sink("late", NullSink::new())
    ///     .bind_sink("dead", NullSink::new());
    /// job.run(settings)?;
    /// assert_eq!(doubled.lines(), ["4;8", "5;10"]);
    /// # Ok::<(), anabranch::Error>(())
    /// ```
    pub fn encode<E: fmt::Display>(
        self,
        mut encode: impl FnMut(&T, &mut Vec<u8>) -> Result<(), E> + 'static,
    ) -> SinkFormat<T> {
        let encode = move |value: &T, out: &mut Vec<u8>| {
            let written = encode(value, out);
            written.map_err(|why| why.to_string())
        };
        SinkFormat {
            key: None,
            topic: None,
            encode: Some(Box::new(encode)),
        }
    }
}

type WriteKey<T> = Rc<dyn Fn(&T, &mut Vec<u8>)>;
type Encode<T> = Box<dyn FnMut(&T, &mut Vec<u8>) -> Result<(), String>>;

/// A sink whose format is known.
pub struct SinkFormat<T> {
    key: Option<WriteKey<T>>,
    topic: Option<String>,
    /// `None`: JSON.
    encode: Option<Encode<T>>,
}

impl<T> fmt::Debug for SinkFormat<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkFormat")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> SinkFormat<T> {
    /// The key of each record, for sinks that have keys. One worker writes a key.
    ///
    /// # Order
    /// The order of a key's records follows from the log, but for what is said to be open here.
    ///
    /// - Behind `order`, `dedup` and `process` they stand in the order of time, and of their places
    ///   in the log where times are equal.
    /// - Behind a window they stand in the order of windows. Where several keys of the window share
    ///   one key here, the order of their results of one window is open.
    /// - Behind steps that hold nothing back (`map`, `filter`, `flat_map`, `try_map`,
    ///   `dedup_eager`) records of one partition stand in the order of the log, whatever their
    ///   times. How those of several partitions are interleaved is open: it is the order of
    ///   reading. [`KeyedStream::order`](crate::KeyedStream::order) closes it, and waits for the
    ///   horizon to do so.
    /// - [`EventStream::union`] keeps the order of each of its streams; how they are interleaved
    ///   is open.
    ///
    /// A sink of lines has no keys. There a worker writes what it has: what an operator gave for
    /// one key of its own, or, where no operator sent events to other workers, records of one
    /// partition.
    #[must_use]
    pub fn key<K: ToKey>(self, key: impl Fn(&T) -> K + 'static) -> Self {
        let write: WriteKey<T> = Rc::new(move |value, out| key(value).write_key(out));
        Self {
            key: Some(write),
            ..self
        }
    }

    /// As [`SinkFormat::key`], for a key that can be borrowed from the value.
    #[must_use]
    pub fn key_ref<K: ToKey + ?Sized>(self, key: impl Fn(&T) -> &K + 'static) -> Self {
        let write: WriteKey<T> = Rc::new(move |value, out| key(value).write_key(out));
        Self {
            key: Some(write),
            ..self
        }
    }

    /// The topic that is written when only a broker is named. Default: the port's name.
    #[must_use]
    pub fn topic(self, topic: &str) -> Self {
        Self {
            topic: Some(topic.to_owned()),
            ..self
        }
    }
}

impl<T: State> EventStream<'_, T> {
    /// Writes the events to the sink port `name`.
    ///
    /// # Time and state
    /// An epoch is written when it is complete, and every epoch in its turn. Of an epoch that the
    /// connector has no room for, what is encoded is held: the sources wait. A record's stamp is
    /// its event time, but not later than the largest that was read; where that is not after 1970,
    /// the time of writing.
    ///
    /// # Errors
    /// What cannot be written ends the job with the connector's error.
    pub fn sink(self, name: &str, format: impl FnOnce(SinkPort<T>) -> SinkFormat<T>) {
        let SinkFormat { key, topic, encode } = format(SinkPort(PhantomData));
        let cx = Rc::clone(&self.cx);
        let port = declare::<T>(&cx, name, topic.unwrap_or_else(|| name.to_owned()));
        let style = style(&cx, port);
        // One worker that nothing was united on gets every epoch in order as it is.
        let mixed = cx.workers > 1 || self.branches.len() > 1;
        let route = key.clone().filter(|_| style == Style::Records && mixed);
        let route = route.map(|key| (key, self.branches));
        if is_typed(&cx, port) {
            let encode = |event: Event<T>, batch: &mut Batch| {
                encode_typed(event.value, event.at.partition, batch);
                Ok(())
            };
            write_events(&cx, self.events, port, route, encode);
            return;
        }
        let bytes = Bytes {
            sink: name.to_owned(),
            key: key.filter(|_| style == Style::Records),
            encode,
            lines: style == Style::Lines,
            max: record_max(&cx, port).unwrap_or(usize::MAX),
            takes_refused: Rc::clone(&cx.letters.borrow().takes_refused),
            shared: Rc::clone(&cx.shared),
        };
        let refused = write_events(&cx, self.events, port, route, bytes.encoder());
        cx.letters.borrow_mut().refused.push(refused);
    }
}

/// Writes events; where they have a key that routes, one worker writes it, in the order of the
/// branches by which they come.
fn write_events<'scope, T: State>(
    cx: &Rc<Context<'scope>>,
    events: StreamVec<'scope, Epoch, Event<T>>,
    port: usize,
    route: Option<(WriteKey<T>, Vec<Sequence>)>,
    mut encode: impl FnMut(Event<T>, &mut Batch) -> Result + 'static,
) -> StreamVec<'scope, Epoch, Letter> {
    let round_trip = cx.round_trip;
    let encode = move |mut event: Event<T>, batch: &mut Batch| {
        if round_trip {
            event = codec::round_trip(&event)?;
        }
        encode(event, batch)
    };
    let Some((route, branches)) = route else {
        return write(cx, events, Pipeline, port, None, true, encode);
    };
    let workers = cx.workers;
    let pact = Exchange::new(move |event: &Event<T>| {
        let mut key = Vec::new();
        route(&event.value, &mut key);
        worker_of(stable_hash(&key[..]), workers)
    });
    let order: Order<Event<T>> = Box::new(move |events| {
        events.sort_unstable_by_key(|event| rank(event.at, &branches));
    });
    write(cx, events, pact, port, Some(order), true, encode)
}

/// Where an event of an epoch is written. By time where all earlier times were written in earlier
/// epochs; else by its place in the log alone, for what its partition gave before it may have been
/// written before, whatever its time: the answer would depend on where epochs are cut.
fn rank(at: Position, branches: &[Sequence]) -> Position {
    match branches.get(at.branch_number()) {
        Some(Sequence::Log) => Position {
            time: EventTime::NEVER,
            ..at
        },
        Some(Sequence::Position) | None => at,
    }
}

impl<T: State> EventStream<'_, T> {
    /// Writes time and value in the form of state: for tests of operators.
    pub(crate) fn sink_encoded(self, name: &str) {
        let port = declare::<T>(&self.cx, name, name.to_owned());
        let encode = |event: Event<T>, batch: &mut Batch| {
            let start = at(batch.values.len());
            codec::encode(&event.at.time, &mut batch.values)?;
            codec::encode(&event.value, &mut batch.values)?;
            let value = Some((start, at(batch.values.len())));
            batch.records.push(Encoded {
                value,
                ..Encoded::default()
            });
            Ok(())
        };
        write(&self.cx, self.events, Pipeline, port, None, true, encode);
    }
}

/// How results become records.
struct Bytes<T> {
    sink: String,
    key: Option<WriteKey<T>>,
    /// `None`: JSON.
    encode: Option<Encode<T>>,
    /// A value must be one line.
    lines: bool,
    /// Bytes that a record may have.
    max: usize,
    takes_refused: Rc<Cell<bool>>,
    shared: Rc<Shared>,
}

impl<T: Serialize + 'static> Bytes<T> {
    fn encoder(mut self) -> impl FnMut(Event<T>, &mut Batch) -> Result + 'static {
        move |event, batch| {
            let start = batch.values.len();
            self.value(&event.value, &mut batch.values)?;
            let value = Some((at(start), at(batch.values.len())));
            batch.values.push(b'\n');
            let key = self.key.as_ref().map(|key| {
                let start = at(batch.keys.len());
                key(&event.value, &mut batch.keys);
                (start, at(batch.keys.len()))
            });
            if batch.values.len() - start + key.map_or(0, |(from, to)| (to - from) as usize)
                > self.max
                && self.takes_refused.get()
            {
                self.refuse(event.at, start, key, batch);
                return Ok(());
            }
            let stamp = event.at.time.min(self.shared.metrics.largest());
            let timestamp = (stamp > EventTime::from_millis(0)).then_some(stamp);
            let partition = event.at.partition;
            batch.records.push(Encoded {
                key,
                value,
                timestamp,
                partition,
                headers: (0, 0),
            });
            Ok(())
        }
    }

    /// Takes the last value and its key out of `batch`, and puts a letter in its place.
    #[cold]
    fn refuse(&self, at: Position, start: usize, key: Option<(u32, u32)>, batch: &mut Batch) {
        self.shared.count().count_dead(DeadReason::ResultTooLarge);
        let place = self.shared.board.origin(at.source, at.partition);
        let place = place.unwrap_or_else(|| {
            let unknown: Arc<str> = Arc::from("results");
            (Arc::clone(&unknown), Origin::Memory(unknown, at.partition))
        });
        let value = &batch.values[start..batch.values.len() - 1];
        let from = key.map_or(batch.keys.len(), |(from, _)| from as usize);
        let bytes = (key.map(|_| &batch.keys[from..]), value);
        let (len, sink, max) = (value.len(), &self.sink, self.max);
        let error = format!("a result of {len} bytes; sink `{sink}` takes records up to {max}");
        let letter = Letter::of_result(place, at, bytes, error);
        batch.refused.push(letter);
        batch.values.truncate(start);
        batch.keys.truncate(from);
    }

    #[inline]
    fn value(&mut self, value: &T, out: &mut Vec<u8>) -> Result {
        let Some(encode) = &mut self.encode else {
            return json::encode(value, out).map_err(|why| {
                Error::operating("a result cannot be written as JSON").because(why)
            });
        };
        let start = out.len();
        let about = || format!("sink `{}`: a result cannot be encoded", self.sink);
        encode(value, out).map_err(|why| Error::operating(about()).because(why))?;
        if self.lines && memchr::memchr(b'\n', &out[start..]).is_some() {
            return Err(Error::operating(about()).because("it holds a line break"));
        }
        Ok(())
    }
}
