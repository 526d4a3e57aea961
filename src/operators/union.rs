//! Two streams as one.

use std::rc::Rc;

use timely::dataflow::operators::Concat;

use super::watermark::meet;
use crate::state::State;
use crate::stream::{EventStream, LettersAt};

impl<T: State> EventStream<'_, T> {
    /// The events of both streams.
    ///
    /// # Time and state
    /// The watermark is the smaller of both. Nothing is kept. Each stream keeps its order; how the
    /// two are interleaved is not promised:
    /// [`KeyedStream::order`](crate::KeyedStream::order) behind it makes one order of both. Ties
    /// between events of one record that come by both ways go to `self`.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| {
    ///     let negated = events.clone().map(|n| -n);
    ///     events.union(negated)
    /// })
    /// .input([(1, 10)])
    /// .expect([(1, 10), (1, -10)]);
    /// ```
    pub fn union(self, other: Self) -> Self {
        let cx = Rc::clone(&self.cx);
        let all = self.branches.len() + other.branches.len();
        let (Ok(before), Ok(_)) = (u16::try_from(self.branches.len()), u16::try_from(all)) else {
            cx.refuse("union: more than 65,535 branches meet");
            return self;
        };
        let other = other.at_branch(before);
        let branches = [self.branches, other.branches].concat();
        cx.step("union");
        let closings = self.closings.into_iter().chain(other.closings).collect();
        let events = self.events.concat(other.events);
        let progress = meet(self.progress, other.progress);
        Self {
            cx,
            events,
            progress,
            closings,
            branches,
            letters: LettersAt::default(),
        }
    }

    fn at_branch(self, before: u16) -> Self {
        use timely::dataflow::operators::vec::Map;
        let events = self
            .events
            .map_in_place(move |event| event.at = event.at.branch(before));
        Self { events, ..self }
    }
}
