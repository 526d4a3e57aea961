//! Operators of one's own: a state for each key, events in order, timers in event time.
//!
//! What an operator sees is one sequence for each key, and the sequence follows from the log
//! alone: its events in the order of their positions, and among them its timers, each behind all
//! events up to its time. So the operator may branch on what came before what, and the answer
//! still does not depend on arrival, workers or epochs.

mod context;
mod keyed;

use std::hash::Hash;
use std::rc::Rc;
use std::time::Duration;

use timely::dataflow::channels::pact::Exchange;

pub use context::ProcessContext;

use super::by_epoch;
use super::letters::split;
use super::watermark::settled;
use crate::event::Event;
use crate::state::{State, stable_hash, worker_of};
use crate::stream::{EventStream, KeyedStream, LettersAt, Sequence, short_name};
use crate::time::{Closing, EventTime};
use keyed::Keyed;

/// An operator of one's own; see [`KeyedStream::process`].
///
/// One value of it serves all keys of a worker; what it remembers lies in the state that it is
/// handed. It must look at nothing else that changes: no clock, no random numbers, no field behind
/// a cell.
pub trait Process: Sized + 'static {
    /// What belongs together.
    type Key: State + Hash + Eq;
    /// What comes.
    type In: State;
    /// What leaves.
    type Out: State;
    /// What is remembered of a key. A key of which nothing is known has the default; one whose
    /// state is the default again, and that has no timer, is forgotten.
    type State: State + Default;

    /// Handles an event. All events of this key that lie before it were handled before it, and so
    /// were all timers of earlier times.
    fn on_event(
        &self,
        state: &mut Self::State,
        event: &Event<Self::In>,
        cx: &mut ProcessContext<'_, Self>,
    );

    /// Handles a timer that was set for `at`: all events of this key up to `at`, those of `at`
    /// itself among them, were handled before. Default: does nothing.
    fn on_timer(&self, state: &mut Self::State, at: EventTime, cx: &mut ProcessContext<'_, Self>) {
        let _ = (state, at, cx);
    }

    /// How long after its last event a key is remembered, in event time. Default: `None`, for
    /// ever, and then only the operator itself bounds the state, by returning it to its default;
    /// `describe` says so.
    ///
    /// At an event or timer at or behind the end of that time the state is the default, exactly.
    /// Timers still fire.
    fn ttl(&self) -> Option<Duration> {
        None
    }
}

impl<'scope, K: State + Hash + Eq, T: State> KeyedStream<'scope, K, T> {
    /// Handles the events of each key by an operator of one's own.
    ///
    /// # Input and output
    /// Events of a key come in the order of their positions, without a gap and each once; late
    /// ones do not come. What [`ProcessContext::emit`] is given at an event has the event's time,
    /// and its place with one more index, as in [`EventStream::flat_map`]. What it is given at a
    /// timer has the timer's time, stands behind all that events of that time led to, and among
    /// timers in the order of (time, key); keys stand in the order of their hashes.
    ///
    /// # Time and state
    /// An event is held until the horizon (watermark less allowed lateness) has passed it, and a
    /// timer fires when the horizon has passed its time: once, behind the events of that time. A
    /// timer that is set for a time that has passed fires at the next that has not: at an event
    /// its own time, at a timer one millisecond later. With this operator first, an event is late
    /// when it lies before its partition's watermark less the allowed lateness.
    ///
    /// At the end of bounded input all that is held is handled and all timers fire, in order. A
    /// timer that was set by a timer then fires only up to the largest event time of the log, so
    /// that one that sets itself again comes to an end. When a live run is stopped nothing fires.
    ///
    /// State is one value and its timers for each key. It is bounded by [`Process::ttl`], or by
    /// the operator itself; timers keep their key until they have fired.
    ///
    /// # Errors
    /// More than [`Position::CHILDREN_MAX`](crate::event::Position::CHILDREN_MAX) results of one
    /// event or timer, or a fourth level of them, end the job. A panic in `op` ends the job with
    /// an error that holds `name`.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// /// Says how often a key was seen, once it was not seen for 10 ms.
    /// struct Pauses;
    ///
    /// impl Process for Pauses {
    ///     type Key = u8;
    ///     type In = u8;
    ///     type Out = (u8, u32);
    ///     /// How often, and when last.
    ///     type State = (u32, i64);
    ///
    ///     fn on_event(
    ///         &self,
    ///         seen: &mut (u32, i64),
    ///         event: &Event<u8>,
    ///         cx: &mut ProcessContext<'_, Self>,
    ///     ) {
    ///         let time = event.at.time.millis();
    ///         cx.clear_timer(seen.1 + 10);
    ///         *seen = (seen.0 + 1, time);
    ///         cx.set_timer(time + 10);
    ///     }
    ///
    ///     fn on_timer(
    ///         &self,
    ///         seen: &mut (u32, i64),
    ///         _: EventTime,
    ///         cx: &mut ProcessContext<'_, Self>,
    ///     ) {
    ///         let key = *cx.key();
    ///         cx.emit((key, seen.0));
    ///         *seen = (0, 0); // forgotten
    ///     }
    /// }
    ///
    /// testing::drive(|keys: EventStream<'_, u8>| {
    ///     keys.key_by(|key| *key).process("pauses", Pauses)
    /// })
    /// .input([(1, 7), (9, 7), (20, 7)])
    /// .expect([(19, (7, 2)), (30, (7, 1))]);
    /// ```
    pub fn process<P>(self, name: &str, op: P) -> EventStream<'scope, P::Out>
    where
        P: Process<Key = K, In = T>,
    {
        let Self { mut stream, key } = self;
        let cx = Rc::clone(&stream.cx);
        cx.step(match op.ttl() {
            Some(ttl) => format!(
                "process {name}: state of a key until {} after its last event",
                humantime::format_duration(ttl)
            ),
            None => format!("process {name}: state unbounded, but for what the operator forgets"),
        });
        stream.close_at(Closing::Next);
        stream.branches.fill(Sequence::Position);
        let (route, workers) = (Rc::clone(&key), cx.workers);
        let pact = Exchange::new(move |event: &Event<T>| {
            worker_of(stable_hash(&route(&event.value)), workers)
        });
        let of = std::any::type_name::<(K, T, P::State)>();
        let shape = format!("process of {}", short_name(of));
        let logic = Keyed::new(op, key, Rc::clone(&cx.shared), name);
        let progress = stream.progress.clone();
        let both = by_epoch(&cx, stream.events, progress, pact, (name, &shape), logic);
        let (events, letters) = split(both);
        let letters = LettersAt::dead(&cx, letters);
        EventStream {
            cx,
            events,
            progress: settled(stream.progress),
            closings: Vec::new(),
            branches: stream.branches, // what comes of an event keeps its branch
            letters,
        }
    }
}

#[cfg(test)]
mod tests;
