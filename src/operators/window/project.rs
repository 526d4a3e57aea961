//! The stateless half of a window: what of an event crosses to the worker that holds its key.

use std::hash::Hash;
use std::rc::Rc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use super::Aggregate;
use crate::event::Event;
use crate::state::{State, stable_hash};
use crate::stream::{Context, Running};
use crate::time::{Epoch, EventTime, Tumbling};

/// What one event, or several of one key and window, contribute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Share<K, I, A> {
    pub(crate) key: K,
    /// A time in the window: the event's, or the window's start.
    pub(crate) at: EventTime,
    pub(crate) part: Part<I, A>,
}

/// One event's input, or what several came to on the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Part<I, A> {
    One(I),
    Many(A),
}

/// A batch is combined before it is sent when a sample of it has at most half as many keys and
/// windows as events: then a hot key costs its worker one merge a batch.
const SAMPLE: usize = 64;

/// Projects events to what the aggregates need.
pub(super) fn project<'scope, K, T, A>(
    cx: &Rc<Context<'scope>>,
    events: StreamVec<'scope, Epoch, Event<T>>,
    key: Rc<dyn Fn(&T) -> K>,
    windows: Tumbling,
    aggregate: Rc<A>,
) -> StreamVec<'scope, Epoch, Share<K, A::Input, A::Acc>>
where
    K: State + Hash + Eq,
    T: State,
    A: Aggregate<T>,
{
    type Builder<O> = CapacityContainerBuilder<Vec<O>>;
    let alone = cx.workers == 1;
    let running = cx.operator("aggregate");
    events.unary::<Builder<Share<K, A::Input, A::Acc>>, _, _, _>(Pipeline, "project", |_, _| {
        let mut combiner = Combiner {
            windows,
            key,
            aggregate,
            found: HashTable::new(),
        };
        let mut out = Vec::new();
        move |input, output| {
            Running::set(&running);
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for batch in batches {
                    if !alone && combiner.pays(batch) {
                        combiner.combine(batch, &mut out);
                    } else {
                        out.extend(batch.drain(..).map(|event| combiner.one(&event)));
                    }
                    session.give_container(&mut out);
                    out.clear();
                }
            });
        }
    })
}

type ShareOf<K, T, A> = Share<K, <A as Aggregate<T>>::Input, <A as Aggregate<T>>::Acc>;

struct Combiner<K, T, A: Aggregate<T>> {
    windows: Tumbling,
    key: Rc<dyn Fn(&T) -> K>,
    aggregate: Rc<A>,
    /// Hash and place in the output of each key and window of the batch.
    found: HashTable<(u64, usize)>,
}

impl<K: State + Hash + Eq, T, A: Aggregate<T>> Combiner<K, T, A> {
    #[inline]
    fn one(&self, event: &Event<T>) -> ShareOf<K, T, A> {
        let part = Part::One(self.aggregate.input_of(event));
        Share {
            key: (self.key)(&event.value),
            at: event.at.time,
            part,
        }
    }

    /// Counts the keys and windows of a sample, spread over the batch.
    fn pays(&mut self, batch: &[Event<T>]) -> bool {
        if batch.len() < 2 * SAMPLE {
            return false;
        }
        self.found.clear();
        for event in batch.iter().step_by(batch.len() / SAMPLE).take(SAMPLE) {
            let start = self.windows.window(event.at.time).start;
            let hash = stable_hash(&((self.key)(&event.value), start));
            // Equal hashes are good enough for an estimate.
            let found = self
                .found
                .entry(hash, |other| other.0 == hash, |other| other.0);
            found.or_insert((hash, 0));
        }
        self.found.len() <= SAMPLE / 2
    }

    fn combine(&mut self, batch: &mut Vec<Event<T>>, out: &mut Vec<ShareOf<K, T, A>>) {
        self.found.clear();
        let mut window = self.windows.window(EventTime::from_millis(0));
        for event in batch.drain(..) {
            let time = event.at.time;
            if time < window.start || time >= window.end {
                window = self.windows.window(time);
            }
            let (key, at) = ((self.key)(&event.value), window.start);
            let input = self.aggregate.input_of(&event);
            let hash = stable_hash(&(&key, at));
            let found = self.found.entry(
                hash,
                |(_, place)| out[*place].at == at && out[*place].key == key,
                |(hash, _)| *hash,
            );
            match found {
                Entry::Occupied(place) => {
                    if let Part::Many(acc) = &mut out[place.get().1].part {
                        self.aggregate.add(acc, input);
                    }
                }
                Entry::Vacant(vacant) => {
                    vacant.insert((hash, out.len()));
                    let mut acc = self.aggregate.init();
                    self.aggregate.add(&mut acc, input);
                    out.push(Share {
                        key,
                        at,
                        part: Part::Many(acc),
                    });
                }
            }
        }
    }
}
