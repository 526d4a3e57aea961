//! Streams: what a job's description is written in. Types only; each method sits with its operator.
//!
//! The types are the grammar: a [`Stream`] has no event time yet; an [`EventStream`] has one, and
//! with it a watermark; a [`KeyedStream`] knows what belongs together; a [`WindowedStream`] knows
//! when it ends. So a window before a key, or a key before event time, does not compile.
//!
//! ```compile_fail,E0599
//! # use anabranch::prelude::*;
//! # fn describe(flow: &Flow<'_>) {
//! // There is no window without a key.
//! flow.source::<(i64, i64)>("events").json().window(Tumbling::of(Duration::from_secs(1)));
//! # }
//! ```
//! ```compile_fail,E0599
//! # use anabranch::prelude::*;
//! # fn describe(flow: &Flow<'_>) {
//! // There is no key before event time.
//! flow.source::<(i64, i64)>("events").json().key_by(|event| event.0);
//! # }
//! ```
//! ```compile_fail,E0599
//! # use anabranch::prelude::*;
//! # fn describe(flow: &Flow<'_>) {
//! // There is no result before somebody says when it is emitted.
//! flow.source::<(i64, i64)>("events").json()
//!     .event_time(|event| event.0, Watermarks::lag(Duration::ZERO))
//!     .key_by(|event| event.1)
//!     .window(Tumbling::of(Duration::from_secs(1)))
//!     .aggregate(|a| a.count())
//!     .sink("counts", |s| s.json());
//! # }
//! ```
//! With all of it, each in its place, it compiles:
//! ```
//! # use anabranch::prelude::*;
//! # fn describe(flow: &Flow<'_>) {
//! flow.source::<(i64, i64)>("events").json()
//!     .event_time(|event| event.0, Watermarks::lag(Duration::ZERO))
//!     .key_by(|event| event.1)
//!     .window(Tumbling::of(Duration::from_secs(1)))
//!     .aggregate(|a| a.count())
//!     .emit_final()
//!     .sink("counts", |s| s.json());
//! # }
//! ```

mod context;
mod control;
mod describe;
mod param;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use timely::dataflow::StreamVec;

pub(crate) use context::{Context, LettersAt, Pressure, Running, Shared};
pub(crate) use control::Control;
pub(crate) use describe::{Description, ParamText, Port, PortKind, short_name};
pub use param::Param;

use crate::event::{Event, Letter};
use crate::time::{Closing, Epoch, Progress, Tumbling};

/// A dataflow under construction: where a job's description begins.
///
/// The description runs once on every worker, and must be the same on each.
#[derive(Clone)]
pub struct Flow<'scope> {
    pub(crate) cx: Rc<Context<'scope>>,
}

/// Where operators tell the door of a source when they can take no more.
pub(crate) type Closings = Rc<RefCell<Vec<Closing>>>;

/// In what order events leave, whatever the number of workers and the cut of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// Those of each partition in the order of the log; partitions among each other in none.
    Log,
    /// All that an operator gives for a key in the order of positions: time first. It has waited
    /// for the horizon.
    Position,
}

/// Events in time: values with positions, and the watermark beside them.
///
/// Clone it to feed several paths.
#[must_use = "a stream that nothing consumes computes nothing"]
pub struct EventStream<'scope, T> {
    pub(crate) cx: Rc<Context<'scope>>,
    pub(crate) events: StreamVec<'scope, Epoch, Event<T>>,
    pub(crate) progress: StreamVec<'scope, Epoch, Progress>,
    /// The doors that feed it without a stateful operator between.
    pub(crate) closings: Vec<Closings>,
    /// One for each branch of unions that leads here; each has its own range of position indexes.
    pub(crate) branches: Vec<Sequence>,
    /// Letters of late events and of what is refused, as long as they can be taken apart.
    pub(crate) letters: LettersAt,
}

impl<T> EventStream<'_, T> {
    /// What holds of all its branches.
    pub(crate) fn sequence(&self) -> Sequence {
        let waited = |branch: &Sequence| *branch == Sequence::Position;
        if self.branches.iter().all(waited) {
            Sequence::Position
        } else {
            Sequence::Log
        }
    }
}

impl<T: Clone + 'static> Clone for EventStream<'_, T> {
    fn clone(&self) -> Self {
        Self {
            cx: Rc::clone(&self.cx),
            events: self.events.clone(),
            progress: self.progress.clone(),
            closings: self.closings.clone(),
            branches: self.branches.clone(),
            letters: self.letters,
        }
    }
}

/// Events with a key: those of one key belong together.
#[must_use = "a stream that nothing consumes computes nothing"]
pub struct KeyedStream<'scope, K, T> {
    pub(crate) stream: EventStream<'scope, T>,
    pub(crate) key: Rc<dyn Fn(&T) -> K>,
}

impl<K, T: Clone + 'static> Clone for KeyedStream<'_, K, T> {
    fn clone(&self) -> Self {
        Self {
            stream: self.stream.clone(),
            key: Rc::clone(&self.key),
        }
    }
}

/// Keyed events, cut into windows.
#[must_use = "a stream that nothing consumes computes nothing"]
pub struct WindowedStream<'scope, K, T> {
    pub(crate) keyed: KeyedStream<'scope, K, T>,
    pub(crate) windows: Tumbling,
}

/// Values that were decoded and have no event time yet.
///
/// Its steps run inside the source, a batch at a time, before any record is judged.
#[must_use = "a stream that nothing consumes computes nothing"]
pub struct Stream<'scope, T> {
    pub(crate) cx: Rc<Context<'scope>>,
    pub(crate) port: usize,
    pub(crate) decode: crate::event::Decode<T>,
}

/// Letters on their way out: late events, or dead letters.
///
/// They have left event time: no watermark waits for them.
#[must_use = "letters that nobody takes are lost"]
pub struct LetterStream<'scope> {
    pub(crate) cx: Rc<Context<'scope>>,
    pub(crate) letters: StreamVec<'scope, Epoch, Letter>,
    /// That of the step which refused: its letters leave with its results.
    pub(crate) sequence: Sequence,
}

impl fmt::Debug for LetterStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LetterStream")
    }
}
impl fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flow")
    }
}
impl<T> fmt::Debug for Stream<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}
impl<T> fmt::Debug for EventStream<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventStream")
    }
}
impl<K, T> fmt::Debug for KeyedStream<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedStream")
    }
}
impl<K, T> fmt::Debug for WindowedStream<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WindowedStream")
    }
}
