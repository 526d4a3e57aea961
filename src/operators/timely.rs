//! Down to timely, and back.

use std::rc::Rc;

use timely::dataflow::StreamVec;

use crate::event::Event;
use crate::state::State;
use crate::stream::{EventStream, LettersAt};
use crate::time::Epoch;

/// Events as a timely stream.
pub type Events<'scope, T> = StreamVec<'scope, Epoch, Event<T>>;

impl<'scope, T: State> EventStream<'scope, T> {
    /// Hands the events to `build` as a timely stream, and goes on with the timely stream that it
    /// gives back: any timely or differential operator may stand between.
    ///
    /// # Time and state
    /// The timestamp is the [`Epoch`]; what leaves in an epoch must follow from what came until
    /// then. Event times may not go back: an event that leaves must not lie before the watermark
    /// of its epoch. Epochs are cut anew in each run, so an answer that depends on which epoch an
    /// event came in is not the log's. State in there is not the engine's to keep. Where events are
    /// held back in there, `order` has to stand behind for a sink to have those of a key in order.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    /// use anabranch::timely::dataflow::operators::vec::Filter;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| {
    ///     events.timely(|events| events.filter(|event| event.value > 10))
    /// })
    /// .input([(1, 10), (2, 20)])
    /// .expect([(2, 20)]);
    /// ```
    pub fn timely<U: State>(
        self,
        build: impl FnOnce(Events<'scope, T>) -> Events<'scope, U>,
    ) -> EventStream<'scope, U> {
        self.cx.step("timely");
        EventStream {
            cx: Rc::clone(&self.cx),
            events: build(self.events),
            progress: self.progress,
            closings: self.closings,
            branches: self.branches,
            letters: LettersAt::default(),
        }
    }
}
