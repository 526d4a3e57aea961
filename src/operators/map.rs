//! Steps that look at one event at a time and keep nothing.
//!
//! They keep time and position; `flat_map` numbers what an event becomes. They run where the event
//! is: nothing is exchanged. Late, duplicate and out-of-order events are no different from others
//! here. At the end of input and on a restart there is nothing to do, for there is no state.

use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use super::letters::{OrLetter, refused, split};
use crate::error::Error;
use crate::event::{Event, Position};
use crate::state::State;
use crate::stream::{EventStream, LettersAt, Running};

type Builder<T> = CapacityContainerBuilder<Vec<T>>;

impl<'scope, T: State> EventStream<'scope, T> {
    /// Turns each value into another.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| events.map(|n| n * 2))
    ///     .input([(1, 10), (2, 20)])
    ///     .expect([(1, 20), (2, 40)]);
    /// ```
    pub fn map<U: State>(self, mut map: impl FnMut(T) -> U + 'static) -> EventStream<'scope, U> {
        self.each_batch("map", move |batch, out| {
            out.extend(batch.drain(..).map(|event| Event {
                at: event.at,
                value: map(event.value),
            }));
        })
    }

    /// Keeps the events for which `keep` holds.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| events.filter(|n| *n > 10))
    ///     .input([(1, 10), (2, 20)])
    ///     .expect([(2, 20)]);
    /// ```
    pub fn filter(self, mut keep: impl FnMut(&T) -> bool + 'static) -> Self {
        self.each_batch("filter", move |batch, out| {
            batch.retain(|event| keep(&event.value));
            std::mem::swap(batch, out);
        })
    }

    /// Turns each value into any number of values, which keep its time and stand in this order.
    ///
    /// An event may become [`Position::CHILDREN_MAX`] events, on three levels; more ends the job
    /// with an error that names the event.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| events.flat_map(|n| vec![n; n as usize]))
    ///     .input([(1, 2), (2, 0)])
    ///     .expect([(1, 2), (1, 2)]);
    /// ```
    pub fn flat_map<U: State, I: IntoIterator<Item = U>>(
        self,
        mut flat_map: impl FnMut(T) -> I + 'static,
    ) -> EventStream<'scope, U> {
        let control = std::sync::Arc::clone(&self.cx.control);
        self.each_batch("flat_map", move |batch, out| {
            for event in batch.drain(..) {
                let at = event.at;
                for (nth, value) in (0..).zip(flat_map(event.value)) {
                    let Some(at) = at.child(nth) else {
                        control.fail(Error::usage(format!(
                            "flat_map: source {}: partition {}: offset {}: no room for part {nth} \
                             of an event: {} parts on three levels are the most",
                            at.source,
                            at.partition,
                            at.offset,
                            Position::CHILDREN_MAX
                        )));
                        return;
                    };
                    out.push(Event { at, value });
                }
            }
        })
    }

    /// Shows each event to `look` and passes it on.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| events.inspect(|at, n| {
    ///     assert_eq!(at.time.millis(), n / 10);
    /// }))
    /// .input([(1, 10), (2, 20)])
    /// .expect([(1, 10), (2, 20)]);
    /// ```
    pub fn inspect(self, mut look: impl FnMut(&Position, &T) + 'static) -> Self {
        self.each_batch("inspect", move |batch, out| {
            for event in batch.iter() {
                look(&event.at, &event.value);
            }
            std::mem::swap(batch, out);
        })
    }

    /// Turns each value into another, or into a dead letter with reason `processing`.
    ///
    /// The letter holds the value as JSON and the coordinates of the record it came from; it is
    /// counted apart, for its record had already entered. [`EventStream::dead`] behind it takes
    /// just these letters.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| events.try_map(|n| u8::try_from(*n)))
    ///     .input([(1, 10), (2, 1_000)])
    ///     .expect([(1, 10)]);
    /// ```
    pub fn try_map<U: State, E: std::fmt::Display>(
        self,
        mut try_map: impl FnMut(&T) -> Result<U, E> + 'static,
    ) -> EventStream<'scope, U> {
        let Self {
            cx,
            events,
            progress,
            closings,
            branches,
            letters,
        } = self;
        cx.step("try_map");
        let shared = Rc::clone(&cx.shared);
        let running = cx.operator("try_map");
        let both = events.unary::<Builder<OrLetter<Event<U>>>, _, _, _>(
            Pipeline,
            "try_map",
            move |_, _| {
                move |input, sink| {
                    Running::set(&running);
                    input.for_each_time(|time, batches| {
                        let mut session = sink.session(&time);
                        for event in batches.flat_map(|batch| batch.drain(..)) {
                            session.give(match try_map(&event.value) {
                                Ok(value) => Ok(Event {
                                    at: event.at,
                                    value,
                                }),
                                Err(why) => Err(refused(&shared, event.at, &event.value, &why)),
                            });
                        }
                    });
                }
            },
        );
        let (events, refusals) = split(both);
        let letters = LettersAt {
            late: letters.late,
            ..LettersAt::dead(&cx, refusals)
        };
        EventStream {
            cx,
            events,
            progress,
            closings,
            branches,
            letters,
        }
    }

    fn each_batch<U: State>(
        self,
        name: &'static str,
        mut each: impl FnMut(&mut Vec<Event<T>>, &mut Vec<Event<U>>) + 'static,
    ) -> EventStream<'scope, U> {
        let Self {
            cx,
            events,
            progress,
            closings,
            branches,
            letters,
        } = self;
        cx.step(name);
        let running = cx.operator(name);
        let events = events.unary::<Builder<Event<U>>, _, _, _>(Pipeline, name, move |_, _| {
            let mut out = Vec::new();
            move |input, output| {
                Running::set(&running);
                input.for_each_time(|time, batches| {
                    let mut session = output.session(&time);
                    for batch in batches {
                        each(batch, &mut out);
                        session.give_container(&mut out);
                        out.clear();
                    }
                });
            }
        });
        EventStream {
            cx,
            events,
            progress,
            closings,
            branches,
            letters,
        }
    }
}
