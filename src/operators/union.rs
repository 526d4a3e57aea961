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
    /// The watermark is the smaller of both. Nothing is kept. Ties between events of one record
    /// that come by both ways go to `self`.
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
        let Some(branches) = self.branches.checked_add(other.branches) else {
            cx.refuse("union: more than 65,535 branches meet");
            return self;
        };
        let before = self.branches;
        let other = other.at_branch(before);
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
