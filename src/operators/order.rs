//! Order per key.

use std::rc::Rc;

use timely::dataflow::channels::pact::Exchange;

use super::watermark::settled;
use super::{ByEpoch, by_epoch};
use crate::event::Event;
use crate::state::saved::Saved;
use crate::state::{Routed, Size, State, TimeQueue, stable_hash, worker_of};
use crate::stream::{KeyedStream, Sequence, short_name};
use crate::time::{Closing, Progress};

impl<K: State + std::hash::Hash + Eq, T: State> KeyedStream<'_, K, T> {
    /// Puts the events of each key in order: by event time, and by their place in the log where
    /// times are equal.
    ///
    /// # Time and state
    /// An event is held until the horizon (watermark less allowed lateness) has passed it; what is
    /// held is all the state, and bounded by how far sources are out of order. At the end of
    /// bounded input everything is released. The order is the same with any number of workers.
    /// Late events do not come here: with this operator first, an event is late when it lies
    /// before its partition's watermark less the allowed lateness. Duplicates stay.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, String>| {
    ///     events.key_by(|_| 0u8).order().events()
    /// })
    /// .lag(Duration::from_millis(5))
    /// .input([(4, "b".to_owned()), (1, "a".to_owned())])
    /// .expect_in_order([(1, "a".to_owned()), (4, "b".to_owned())]);
    /// ```
    pub fn order(self) -> Self {
        let Self { mut stream, key } = self;
        let cx = Rc::clone(&stream.cx);
        cx.step("order");
        stream.close_at(Closing::Next);
        stream.branches.fill(Sequence::Position);
        let workers = cx.workers;
        let route = Rc::clone(&key);
        let pact = Exchange::new(move |event: &Event<T>| {
            worker_of(stable_hash(&route(&event.value)), workers)
        });
        let progress = stream.progress.clone();
        let own = Rc::clone(&key);
        let shape = format!("order of {}", short_name(std::any::type_name::<(K, T)>()));
        let logic = Order {
            held: TimeQueue::default(),
            route: Rc::new(move |value| stable_hash(&own(value))),
        };
        stream.events = by_epoch(&cx, stream.events, progress, pact, ("order", &shape), logic);
        stream.progress = settled(stream.progress);
        Self { stream, key }
    }
}

struct Order<T> {
    held: TimeQueue<T>,
    /// The stable hash of an event's key.
    route: Rc<dyn Fn(&T) -> u64>,
}

impl<T: State> ByEpoch for Order<T> {
    type In = Event<T>;
    type Out = Event<T>;

    const KEEPS: bool = true;

    fn apply(&mut self, records: &mut Vec<Event<T>>, _: &mut Vec<Event<T>>) {
        records.drain(..).for_each(|event| self.held.push(event));
    }

    fn advance(&mut self, progress: Progress, room: usize, out: &mut Vec<Event<T>>) -> bool {
        self.held.release(progress.horizon, room, out)
    }

    fn size(&self) -> Size {
        self.held.size()
    }

    fn piece(&mut self, number: u8, with: &mut dyn FnMut(&mut dyn Saved)) -> bool {
        if number == 0 {
            with(&mut Routed {
                queue: &mut self.held,
                route: &*self.route,
            });
        }
        number == 0
    }
}
