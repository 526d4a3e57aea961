//! The one sink operator: epoch after epoch, encoded into one reused batch, and the epoch is held
//! until the connector has taken its last record. Behind it stands the probe.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use serde::Serialize;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract, Pipeline};
use timely::dataflow::operators::{Operator, Probe};

use super::epoch_writer::{EpochWriter, Order};
use super::{Batch, Encoded, Plugs, Style, Waker};
use crate::error::{Error, Result};
use crate::event::{Event, Letter, json};
use crate::state::{State, codec, stable_hash, worker_of};
use crate::stream::{Context, EventStream, Port, PortKind, Running};
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
            holds: PhantomData,
        }
    }
}

type WriteKey<T> = Rc<dyn Fn(&T, &mut Vec<u8>)>;

/// A sink whose format is known.
pub struct SinkFormat<T> {
    key: Option<WriteKey<T>>,
    topic: Option<String>,
    holds: PhantomData<fn(&T)>,
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
        let SinkFormat { key, topic, .. } = format(SinkPort(PhantomData));
        let cx = Rc::clone(&self.cx);
        let holds = std::any::type_name::<T>()
            .rsplit("::")
            .next()
            .unwrap_or_default();
        let port = declare(&cx, name, holds, topic.unwrap_or_else(|| name.to_owned()));
        let style = style(&cx, port);
        let metrics = std::sync::Arc::clone(&cx.metrics);
        let route = key.clone();
        let encode = encode_json(key.filter(|_| style == Style::Records), metrics);
        match route.filter(|_| style == Style::Records && cx.workers > 1) {
            None => write(&cx, self.events, Pipeline, port, None, true, encode),
            Some(route) => {
                let workers = cx.workers;
                let pact = Exchange::new(move |event: &Event<T>| {
                    let mut key = Vec::new();
                    route(&event.value, &mut key);
                    worker_of(stable_hash(&key[..]), workers)
                });
                let order: Order<Event<T>> = |events| events.sort_unstable_by_key(|event| event.at);
                write(&cx, self.events, pact, port, Some(order), true, encode);
            }
        }
    }
}

impl<T: State> EventStream<'_, T> {
    /// Writes time and value in the form of state: for tests of operators.
    pub(crate) fn sink_encoded(self, name: &str) {
        let port = declare(&self.cx, name, "state", name.to_owned());
        let encode = |event: &Event<T>, batch: &mut Batch| {
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

fn encode_json<T: Serialize + 'static>(
    key: Option<WriteKey<T>>,
    metrics: std::sync::Arc<crate::observe::Metrics>,
) -> impl FnMut(&Event<T>, &mut Batch) -> Result + 'static {
    move |event, batch| {
        let start = at(batch.values.len());
        json::encode(&event.value, &mut batch.values)
            .map_err(|why| Error::operating("a result cannot be written as JSON").because(why))?;
        let value = Some((start, at(batch.values.len())));
        batch.values.push(b'\n');
        let key = key.as_ref().map(|key| {
            let start = at(batch.keys.len());
            key(&event.value, &mut batch.keys);
            (start, at(batch.keys.len()))
        });
        let stamp = event.at.time.min(metrics.largest());
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

/// A place in a batch; batches are cut long before four gigabytes.
fn at(place: usize) -> u32 {
    u32::try_from(place).expect("a batch is small")
}

/// Writes letters to the sink port `name`.
pub(crate) fn write_letters<'scope>(
    cx: &Rc<Context<'scope>>,
    letters: StreamVec<'scope, Epoch, Letter>,
    name: &str,
) {
    let port = declare(cx, name, "Letter", format!("*.{name}"));
    let style = style(cx, port);
    let encode = move |letter: &Letter, batch: &mut Batch| {
        let (start, key_start) = (at(batch.values.len()), at(batch.keys.len()));
        let headers_start = at(batch.headers.len());
        let mut encoded = Encoded {
            partition: letter.partition,
            timestamp: letter.timestamp,
            ..Encoded::default()
        };
        if style == Style::Records {
            batch
                .values
                .extend_from_slice(letter.value.as_deref().unwrap_or_default());
            encoded.value = letter
                .value
                .as_ref()
                .map(|_| (start, at(batch.values.len())));
            batch
                .keys
                .extend_from_slice(letter.key.as_deref().unwrap_or_default());
            encoded.key = letter
                .key
                .as_ref()
                .map(|_| (key_start, at(batch.keys.len())));
            letter.write_headers(&mut batch.headers);
            encoded.headers = (headers_start, at(batch.headers.len()));
        } else {
            letter.write_line(&mut batch.values);
            encoded.value = Some((start, at(batch.values.len())));
        }
        batch.values.push(b'\n');
        batch.records.push(encoded);
        Ok(())
    };
    write(cx, letters, Pipeline, port, None, false, encode);
}

fn declare(cx: &Context<'_>, name: &str, holds: &str, topic: String) -> usize {
    cx.step(format!("sink {name}"));
    cx.description.borrow_mut().port(Port {
        name: name.to_owned(),
        kind: PortKind::Sink,
        holds: holds.to_owned(),
        topic: Some(topic),
    })
}

fn sink_name(cx: &Context<'_>, port: usize) -> String {
    let description = cx.description.borrow();
    description.sinks().nth(port).unwrap_or_default().to_owned()
}

fn style(cx: &Context<'_>, port: usize) -> Style {
    let plugs = Plugs::of(cx);
    plugs
        .and_then(|plugs| Some(plugs.sinks.get(port)?.style()))
        .unwrap_or(Style::Lines)
}

/// The operator around an [`EpochWriter`]. `order`: an epoch is put in order before it is written,
/// since it comes from several workers. `results`: records count as results.
fn write<'scope, In: Clone + 'static, P: ParallelizationContract<Epoch, Vec<In>>>(
    cx: &Rc<Context<'scope>>,
    stream: StreamVec<'scope, Epoch, In>,
    pact: P,
    port: usize,
    order: Option<Order<In>>,
    results: bool,
    encode: impl FnMut(&In, &mut Batch) -> Result + 'static,
) {
    type Builder = CapacityContainerBuilder<Vec<()>>;
    let (scope, shared) = (cx.scope, Rc::clone(&cx.shared));
    let running = cx.operator(&format!("sink {}", sink_name(cx, port)));
    let written = stream.unary_frontier::<Builder, _, _, _>(pact, "sink", |_, info| {
        let again = scope.activator_for(Rc::clone(&info.address));
        let again_from_afar = scope.worker().sync_activator_for(info.address.to_vec());
        // A worker that is gone needs no waking.
        let waker = Waker::new(move || _ = again_from_afar.activate());
        let mut sink = EpochWriter::new(shared, port, waker, order, results, encode);
        move |(input, frontier), output| {
            Running::set(&running);
            input.for_each_time(|time, batches| {
                let stash = sink.stash(*time.time(), || time.retain(output.output_index()));
                stash.extend(batches.map(std::mem::take));
            });
            let first_open = frontier.frontier().first().copied();
            match sink.write(first_open) {
                Ok(true) => again.activate(),
                Ok(false) => {}
                Err(error) => sink.shared.control.fail(error), // capabilities are kept
            }
        }
    });
    written.probe_with(&cx.probe);
}
