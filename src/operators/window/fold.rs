//! The stateful half of a window: accumulators by key and window, fired by the horizon.

use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::open::OpenWindows;
use super::project::{Part, Share};
use super::{Aggregate, Windowed};
use crate::event::{Event, Position};
use crate::observe::Metrics;
use crate::operators::ByEpoch;
use crate::state::saved::Saved;
use crate::state::{Hint, Size, State, stable_hash};
use crate::time::{EventTime, Progress, Tumbling, Window};

/// Accumulators of all open windows.
pub(super) struct FoldWindows<K, T, A: Aggregate<T>> {
    aggregate: Rc<A>,
    open: OpenWindows<K, A::Acc>,
    /// The window that fires at the moment.
    firing: Option<(Window, crate::state::Drain<K, A::Acc>)>,
    metrics: Arc<Metrics>,
    worker: usize,
    told: i64,
}

/// Shares that are looked up before the first of them is added.
const AHEAD: usize = 32;

impl<K: State + Hash + Eq, T, A: Aggregate<T>> FoldWindows<K, T, A> {
    pub(super) fn new(
        windows: Tumbling,
        aggregate: Rc<A>,
        metrics: &Arc<Metrics>,
        worker: usize,
    ) -> Self {
        Self {
            aggregate,
            open: OpenWindows::new(windows),
            firing: None,
            metrics: Arc::clone(metrics),
            worker,
            told: 0,
        }
    }

    #[inline]
    fn fold(&mut self, hash: u64, hint: Hint, share: Share<K, A::Input, A::Acc>) {
        let Share { key, at, part } = share;
        self.open.turn_to(at);
        let aggregate = &*self.aggregate;
        let change = |acc: &mut A::Acc| match part {
            Part::One(input) => aggregate.add(acc, input),
            Part::Many(other) => aggregate.merge(acc, other),
        };
        let table = &mut self.open.recent;
        table.upsert_at(hint, hash, key, || aggregate.init(), change);
    }

    /// The next window to fire, if the horizon has reached its end.
    fn next_to_fire(&mut self, horizon: EventTime) -> bool {
        let due = self.open.pop_before(horizon);
        self.firing = due.map(|(window, table)| (window, table.drain()));
        self.firing.is_some()
    }

    fn tell(&mut self) {
        let entries = i64::try_from(self.open.entries()).unwrap_or(i64::MAX);
        let change = entries - std::mem::replace(&mut self.told, entries);
        let metrics = self.metrics.worker(self.worker);
        metrics.windows_open.fetch_add(change, Relaxed);
        let next_end = self.open.first().map(|window| window.end);
        metrics
            .next_end
            .store(next_end.unwrap_or(EventTime::END).millis(), Relaxed);
    }
}

impl<K, T, A> ByEpoch for FoldWindows<K, T, A>
where
    K: State + Hash + Eq,
    A: Aggregate<T>,
    A::Out: State,
{
    type In = Share<K, A::Input, A::Acc>;
    type Out = Event<Windowed<K, A::Out>>;

    fn apply(&mut self, shares: &mut Vec<Self::In>, _: &mut Vec<Self::Out>) {
        let mut hints = [(0, Hint::NONE); AHEAD];
        let mut shares = shares.drain(..);
        while !shares.as_slice().is_empty() {
            for (hint, share) in hints.iter_mut().zip(shares.as_slice()) {
                let hash = stable_hash(&share.key);
                // Of the recent window, whatever the share's is: a wrong hint does no harm.
                *hint = (hash, self.open.recent.hint(hash));
            }
            for ((hash, hint), share) in hints.into_iter().zip(shares.by_ref()) {
                self.fold(hash, hint, share);
            }
        }
    }

    fn advance(&mut self, progress: Progress, room: usize, out: &mut Vec<Self::Out>) -> bool {
        loop {
            let Some((window, table)) = &mut self.firing else {
                if self.next_to_fire(progress.horizon) {
                    continue;
                }
                self.tell();
                return false;
            };
            while out.len() < room {
                let Some((key, acc)) = table.next() else {
                    break;
                };
                let value = self.aggregate.finish(&acc);
                let at = position(window, &key);
                out.push(Event {
                    at,
                    value: Windowed {
                        key,
                        window: *window,
                        value,
                    },
                });
            }
            if table.len() > 0 {
                return true;
            }
            self.firing = None;
        }
    }

    fn size(&self) -> Size {
        self.open.size()
    }

    fn piece(&mut self, number: u8, with: &mut dyn FnMut(&mut dyn Saved)) -> bool {
        if number == 0 {
            with(&mut self.open);
        }
        number == 0
    }
}

/// A result stands at the last moment of its window; keys stand in the order of their hashes.
fn position(window: &Window, key: &impl Hash) -> Position {
    let hash = stable_hash(key);
    Position {
        time: window.end.minus(1),
        source: u16::MAX, // of no source: it comes from many records
        partition: u32::try_from(crate::state::slot(hash)).unwrap_or(0),
        offset: hash,
        index: 0,
    }
}
