//! Windows: what happened to each key in a span of event time.
//!
//! An event is *projected* before it is exchanged: only its key, its time and what the aggregates
//! ask of it cross to another worker ([`project`]). There it is folded into one accumulator a key
//! and window ([`fold`]). Aggregates are exactly commutative and associative, so neither the order
//! of arrival nor combining before the exchange changes a result.

mod aggregate;
mod aggregates;
mod exact_mean;
mod exact_sum;
mod fold;
mod int_sum;
mod number;
mod open;
mod project;

use std::hash::Hash;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;

pub use aggregate::Aggregate;
pub use aggregates::{Aggregates, Avg, Count, CountBy, First, Fold, Last, Max, Min, Sum};
pub use exact_sum::ExactSum;
pub use int_sum::IntSum;
pub use number::{Extreme, Number};

use super::by_epoch;
use super::watermark::settled;
use crate::state::{State, stable_hash, worker_of};
use crate::stream::{EventStream, KeyedStream, LettersAt, Sequence, WindowedStream, short_name};
use crate::time::{Closing, Tumbling, Window};
use fold::FoldWindows;
use project::{Share, project};

/// A value that belongs to a key and a window.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Windowed<K, V> {
    /// Whose it is.
    pub key: K,
    /// The span that it speaks of.
    pub window: Window,
    /// What the aggregates make of the events in it.
    pub value: V,
}

impl<'scope, K: State + Hash + Eq, T: State> KeyedStream<'scope, K, T> {
    /// Cuts the events of each key into windows.
    ///
    /// # Time and state
    /// An event belongs to the window that holds its event time, whenever it comes. Nothing is kept
    /// here: what a window costs, and how long, is said where its results leave
    /// ([`Aggregated::emit_final`]).
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| {
    ///     events
    ///         .key_by(|_| ())
    ///         .window(Tumbling::of(Duration::from_millis(10)))
    ///         .aggregate(|a| a.count())
    ///         .emit_final()
    ///         .map(|w| (w.window.start.millis(), w.value))
    /// })
    /// .input([(-1, 7), (0, 7), (9, 7), (10, 7)])
    /// .expect([(-1, (-10, 1)), (9, (0, 2)), (19, (10, 1))]);
    /// ```
    pub fn window(self, windows: Tumbling) -> WindowedStream<'scope, K, T> {
        let cx = &self.stream.cx;
        if windows.size_millis() < 1 {
            cx.refuse("window: its size must be at least 1ms");
        }
        cx.step(format!("window: tumbling, {} ms", windows.size_millis()));
        WindowedStream {
            keyed: self,
            windows,
        }
    }
}

impl<'scope, K: State + Hash + Eq, T: State> WindowedStream<'scope, K, T> {
    /// Says what is to be known of each key and window: one aggregate, or a tuple of them.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|bids: EventStream<'_, (u8, i64)>| {
    ///     bids.key_by(|bid| bid.0)
    ///         .window(Tumbling::of(Duration::from_millis(10)))
    ///         .aggregate(|a| (a.count(), a.sum(|bid| bid.1), a.max(|bid| bid.1)))
    ///         .emit_final()
    ///         .map(|w| (w.key, w.window.start.millis(), w.value))
    /// })
    /// .input([(1, (7, 5)), (9, (7, -2)), (10, (7, 1))])
    /// .expect([(9, (7, 0, (2, 3, 5))), (19, (7, 10, (1, 1, 1)))]);
    /// ```
    pub fn aggregate<A: Aggregate<T>>(
        self,
        aggregate: impl FnOnce(Aggregates<T>) -> A,
    ) -> Aggregated<'scope, K, T, A> {
        self.keyed.stream.cx.step("aggregate");
        Aggregated {
            windowed: self,
            aggregate: Rc::new(aggregate(Aggregates::new())),
        }
    }
}

/// Windows with their aggregates; what is left to say is when results leave.
#[must_use = "a stream that nothing consumes computes nothing"]
pub struct Aggregated<'scope, K, T, A> {
    windowed: WindowedStream<'scope, K, T>,
    aggregate: Rc<A>,
}

impl<K, T, A> std::fmt::Debug for Aggregated<'_, K, T, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aggregated")
    }
}

impl<'scope, K: State + Hash + Eq, T: State, A: Aggregate<T>> Aggregated<'scope, K, T, A> {
    /// Emits one result for each key and window with an event in it, once, when no event of that
    /// window can come any more.
    ///
    /// # Input and output
    /// A result stands at the last millisecond of its window. Results of one key leave in the
    /// order of their windows; between keys there is no order.
    ///
    /// # Time and state
    /// A window is open from its first event until the horizon (watermark less allowed lateness)
    /// reaches its end. One accumulator a key and open window is held. With this operator first,
    /// an event is late when the end of its window and the allowed lateness lie at or before its
    /// partition's watermark; such events do not come here, and neither do null or malformed
    /// ones. Duplicates count, unless `dedup` is in front. At the end of bounded input every open
    /// window fires; when a live run is stopped, none does.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|prices: EventStream<'_, i64>| {
    ///     prices
    ///         .key_by(|_| ())
    ///         .window(Tumbling::of(Duration::from_millis(10)))
    ///         .aggregate(|a| a.max(|price| *price))
    ///         .emit_final()
    ///         .map(|w| w.value)
    /// })
    /// .input([(1, 5), (2, 8), (15, 3)])
    /// .expect([(9, 8), (19, 3)]);
    /// ```
    ///
    /// # Source
    /// Akidau et al., "The Dataflow Model", VLDB 2015, section 2.
    pub fn emit_final(self) -> EventStream<'scope, Windowed<K, A::Out>>
    where
        A::Out: State,
    {
        let Self {
            windowed: WindowedStream { keyed, windows },
            aggregate,
        } = self;
        let KeyedStream { mut stream, key } = keyed;
        let cx = Rc::clone(&stream.cx);
        cx.step("emit_final");
        stream.close_at(Closing::WindowEnd(windows));
        let shares = project(&cx, stream.events, key, windows, Rc::clone(&aggregate));
        let workers = cx.workers;
        let pact = Exchange::new(move |share: &Share<K, A::Input, A::Acc>| {
            worker_of(stable_hash(&share.key), workers)
        });
        let of = short_name(std::any::type_name::<(K, A::Acc)>());
        let shape = format!("window: tumbling, {} ms, of {of}", windows.size_millis());
        let logic = FoldWindows::new(windows, aggregate, &cx.metrics, cx.worker);
        let events = by_epoch(
            &cx,
            shares,
            stream.progress.clone(),
            pact,
            ("window", &shape),
            logic,
        );
        EventStream {
            cx,
            events,
            progress: settled(stream.progress),
            closings: Vec::new(),
            branches: vec![Sequence::Position],
            letters: LettersAt::default(),
        }
    }
}
