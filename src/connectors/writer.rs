//! The one sink operator: epoch after epoch, encoded into one reused batch, and the epoch is held
//! until the connector has taken its last record. Behind it stands the probe.

use std::any::TypeId;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::{Operator, Probe};

use super::embedded::{encode_typed, is_typed};
use super::epoch_writer::{EpochWriter, Order};
use super::{Batch, Encoded, Plugs, Style, Waker};
use crate::error::Result;
use crate::event::Letter;
use crate::stream::{Context, Port, PortKind, Running, short_name};
use crate::time::Epoch;

/// A place in a batch; batches are cut long before four gigabytes.
pub(super) fn at(place: usize) -> u32 {
    u32::try_from(place).expect("a batch is small")
}

/// Writes letters to the sink port `name`.
pub(crate) fn write_letters<'scope>(
    cx: &Rc<Context<'scope>>,
    letters: StreamVec<'scope, Epoch, Letter>,
    name: &str,
) {
    let port = declare::<Letter>(cx, name, format!("*.{name}"));
    if is_typed(cx, port) {
        let encode = |letter: Letter, batch: &mut Batch| {
            let partition = letter.partition;
            encode_typed(letter, partition, batch);
            Ok(())
        };
        write(cx, letters, Pipeline, port, None, false, encode);
        return;
    }
    let (style, max) = (style(cx, port), record_max(cx, port));
    let encode = move |mut letter: Letter, batch: &mut Batch| {
        max.inspect(|max| letter.fit(*max));
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

pub(super) fn declare<T: 'static>(cx: &Context<'_>, name: &str, topic: String) -> usize {
    cx.step(format!("sink {name}"));
    cx.description.borrow_mut().port(Port {
        name: name.to_owned(),
        kind: PortKind::Sink,
        holds: short_name(std::any::type_name::<T>()),
        of: TypeId::of::<T>(),
        topic: Some(topic),
    })
}

fn sink_name(cx: &Context<'_>, port: usize) -> String {
    let description = cx.description.borrow();
    description.sinks().nth(port).unwrap_or_default().to_owned()
}

pub(super) fn style(cx: &Context<'_>, port: usize) -> Style {
    let plugs = Plugs::of(cx);
    plugs
        .and_then(|plugs| Some(plugs.sinks.get(port)?.style()))
        .unwrap_or(Style::Lines)
}

/// Bytes that a record may have in the sink that is bound to `port`.
pub(super) fn record_max(cx: &Context<'_>, port: usize) -> Option<usize> {
    Plugs::of(cx)?.sinks.get(port)?.record_max()
}

/// The operator around an [`EpochWriter`]. `order`: an epoch is put in order before it is written,
/// since it comes from several workers. `results`: records count as results. What comes out are
/// letters of results that are too large.
pub(super) fn write<'scope, In: Clone + 'static, P: ParallelizationContract<Epoch, Vec<In>>>(
    cx: &Rc<Context<'scope>>,
    stream: StreamVec<'scope, Epoch, In>,
    pact: P,
    port: usize,
    order: Option<Order<In>>,
    results: bool,
    encode: impl FnMut(In, &mut Batch) -> Result + 'static,
) -> StreamVec<'scope, Epoch, Letter> {
    type Builder = CapacityContainerBuilder<Vec<Letter>>;
    let (scope, shared) = (cx.scope, Rc::clone(&cx.shared));
    let name = sink_name(cx, port);
    let running = cx.operator(&format!("sink {name}"));
    let written = stream.unary_frontier::<Builder, _, _, _>(pact, "sink", |_, info| {
        let again = scope.activator_for(Rc::clone(&info.address));
        let again_from_afar = scope.worker().sync_activator_for(info.address.to_vec());
        // A worker that is gone needs no waking.
        let waker = Waker::new(move || _ = again_from_afar.activate());
        let mut sink = EpochWriter::new(shared, (port, &name), waker, order, results, encode);
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
            for (capability, letter) in sink.refused.drain(..) {
                output.session(&capability).give(letter);
            }
        }
    });
    written.probe_with(&cx.probe)
}
