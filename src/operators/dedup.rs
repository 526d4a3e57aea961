//! Deduplication: exact in log order, or eager.

use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use timely::dataflow::channels::pact::Exchange;

use super::watermark::settled;
use super::{ByEpoch, by_epoch};
use crate::event::Event;
use crate::observe::Metrics;
use crate::state::saved::Saved;
use crate::state::{Routed, Size, State, Table, TimeQueue, stable_hash, worker_of};
use crate::stream::{EventStream, LettersAt, Sequence, short_name};
use crate::time::{Closing, EventTime, Progress, millis};

/// What an event can be known by.
pub trait Ids: State + Hash + Eq {}
impl<I: State + Hash + Eq> Ids for I {}

impl<T: State> EventStream<'_, T> {
    /// Keeps the first event with each id and drops the repeats, exactly.
    ///
    /// Events are taken in log order: an event is a duplicate iff a *kept* event of the same id
    /// lies less than `retention` before it. So the answer does not depend on arrival, workers or
    /// epochs.
    ///
    /// # Time and state
    /// An event is held until the horizon (watermark less allowed lateness) has passed it, which
    /// costs a windowed job no latency. An id is remembered for `retention` of event time after
    /// the event that was kept; state is bounded by the events of that span. At the end of bounded
    /// input everything that is held is decided; when a live run is stopped, it counts as held.
    /// With this operator first, an event is late when it lies before its partition's watermark
    /// less the allowed lateness. Behind it, events come in log order.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, String>| {
    ///     events.dedup(|id| id.clone(), Duration::from_millis(10))
    /// })
    /// .input([(1, "a".to_owned()), (10, "a".to_owned()), (11, "a".to_owned())])
    /// .expect([(1, "a".to_owned()), (11, "a".to_owned())]);
    /// ```
    pub fn dedup<I: Ids>(self, id: impl Fn(&T) -> I + 'static, retention: Duration) -> Self {
        let id: Rc<dyn Fn(&T) -> I> = Rc::new(id);
        let route = Rc::clone(&id);
        self.dedup_by(move |value| stable_hash(&route(value)), id, retention)
    }

    /// As [`EventStream::dedup`], for an id that can be borrowed from the event.
    pub fn dedup_ref<I>(self, id: impl Fn(&T) -> &I + 'static, retention: Duration) -> Self
    where
        I: ToOwned + Hash + ?Sized + 'static,
        I::Owned: Ids,
    {
        let id = Rc::new(id);
        let route = Rc::clone(&id);
        let owned = Rc::new(move |value: &T| id(value).to_owned());
        self.dedup_by(move |value| stable_hash(route(value)), owned, retention)
    }

    fn dedup_by<I: Ids>(
        mut self,
        route: impl Fn(&T) -> u64 + 'static,
        id: Rc<dyn Fn(&T) -> I>,
        retention: Duration,
    ) -> Self {
        self.cx.step(format!(
            "dedup within {}",
            humantime::format_duration(retention)
        ));
        self.close_at(Closing::Next);
        self.branches.fill(Sequence::Position);
        let shape = shape::<I, T>("dedup", retention);
        let route: Rc<dyn Fn(&T) -> u64> = Rc::new(route);
        let logic = Dedup {
            held: TimeQueue::default(),
            route: Rc::clone(&route),
            decided: Vec::new(),
            seen: Seen::new(id, retention),
            count: Counts::new(&self.cx.metrics, self.cx.worker),
        };
        let workers = self.cx.workers;
        let pact = Exchange::new(move |event: &Event<T>| worker_of(route(&event.value), workers));
        let cx = Rc::clone(&self.cx);
        let progress = self.progress.clone();
        let events = by_epoch(&cx, self.events, progress, pact, ("dedup", &shape), logic);
        Self {
            events,
            progress: settled(self.progress),
            letters: LettersAt::default(),
            ..self
        }
    }

    /// Passes the first copy of each event at once and drops those that follow it.
    ///
    /// A copy is dropped when its time lies less than `retention` from that of the copy that was
    /// passed. Exact when the copies of an id share a partition; otherwise which copy is the first
    /// depends on how the input was cut, and with it the answer.
    ///
    /// # Time and state
    /// Nothing is held back. An id is remembered until the horizon is `retention` past it. It puts
    /// no bound of its own on lateness. Nothing happens at the end of input.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| {
    ///     events.dedup_eager(|id| *id, Duration::from_millis(10))
    /// })
    /// .input([(1, 7), (2, 7), (3, 8)])
    /// .expect([(1, 7), (3, 8)]);
    /// ```
    pub fn dedup_eager<I: Ids>(
        mut self,
        id: impl Fn(&T) -> I + 'static,
        retention: Duration,
    ) -> Self {
        self.cx.step(format!(
            "dedup_eager within {}, exact if the copies of an id share a partition",
            humantime::format_duration(retention)
        ));
        self.close_at(Closing::Next);
        let id: Rc<dyn Fn(&T) -> I> = Rc::new(id);
        let (route, workers) = (Rc::clone(&id), self.cx.workers);
        let pact = Exchange::new(move |event: &Event<T>| {
            worker_of(stable_hash(&route(&event.value)), workers)
        });
        let shape = shape::<I, T>("dedup_eager", retention);
        let logic = DedupEager {
            seen: Seen::new(id, retention),
            count: Counts::new(&self.cx.metrics, self.cx.worker),
            taken: 0,
        };
        let cx = Rc::clone(&self.cx);
        let progress = self.progress.clone();
        let events = by_epoch(
            &cx,
            self.events,
            progress,
            pact,
            ("dedup_eager", &shape),
            logic,
        );
        Self {
            events,
            letters: LettersAt::default(),
            ..self
        }
    }
}

/// What must not change while there is state.
fn shape<I, T>(name: &str, retention: Duration) -> String {
    let of = short_name(std::any::type_name::<(I, T)>());
    format!(
        "{name} within {}, of {of}",
        humantime::format_duration(retention)
    )
}

/// Which ids were kept, and when.
struct Seen<I, T> {
    id: Rc<dyn Fn(&T) -> I>,
    retention: i64,
    kept: Table<I, EventTime>,
    cursor: usize,
}

impl<I: Ids, T> Seen<I, T> {
    fn new(id: Rc<dyn Fn(&T) -> I>, retention: Duration) -> Self {
        Self {
            id,
            retention: millis(retention),
            kept: Table::default(),
            cursor: 0,
        }
    }

    /// Whether the event is to be kept; if so it is remembered.
    fn keeps(&mut self, event: &Event<T>) -> bool {
        let id = (self.id)(&event.value);
        let (time, retention) = (event.at.time, self.retention);
        let mut fresh = false;
        let hash = stable_hash(&id);
        self.kept.upsert(
            hash,
            id,
            || EventTime::NEVER,
            |kept| {
                let repeats = *kept != EventTime::NEVER
                    && time < kept.plus(retention)
                    && *kept < time.plus(retention);
                if !repeats {
                    (*kept, fresh) = (time, true);
                }
            },
        );
        fresh
    }

    /// A checkpoint was loaded: ids that were forgotten before it come with it.
    fn loaded(&mut self, horizon: EventTime) {
        let retention = self.retention;
        self.kept.retain(|_, time| time.plus(retention) > horizon);
    }

    /// Forgets what the horizon has passed, some at a time, in step with what was taken.
    fn forget(&mut self, horizon: EventTime, taken: usize) {
        if horizon == EventTime::END {
            return; // nothing comes any more
        }
        let Self {
            kept,
            cursor,
            retention,
            ..
        } = self;
        kept.sweep(cursor, 16 + 2 * taken, |_, time| {
            time.plus(*retention) > horizon
        });
    }
}

struct Counts {
    metrics: Arc<Metrics>,
    worker: usize,
}

impl Counts {
    fn new(metrics: &Arc<Metrics>, worker: usize) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            worker,
        }
    }

    fn duplicates(&self) -> &AtomicU64 {
        &self.metrics.worker(self.worker).duplicates
    }

    /// So many events were held when a checkpoint was made; this run counts them as its own.
    fn found_held(&self, events: usize) {
        let counts = self.metrics.worker(self.worker);
        counts.read.fetch_add(events as u64, Relaxed);
        counts.entered.fetch_add(events as u64, Relaxed);
        self.held().fetch_add(signed(events), Relaxed);
    }

    fn held(&self) -> &AtomicI64 {
        &self.metrics.worker(self.worker).held
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

struct Dedup<I, T> {
    held: TimeQueue<T>,
    /// The stable hash of an event's id.
    route: Rc<dyn Fn(&T) -> u64>,
    decided: Vec<Event<T>>,
    seen: Seen<I, T>,
    count: Counts,
}

impl<I: Ids, T: State> ByEpoch for Dedup<I, T> {
    type In = Event<T>;
    type Out = Event<T>;

    const KEEPS: bool = true;

    fn apply(&mut self, records: &mut Vec<Event<T>>, _: &mut Vec<Event<T>>) {
        self.count.held().fetch_add(signed(records.len()), Relaxed);
        records.drain(..).for_each(|event| self.held.push(event));
    }

    fn advance(&mut self, progress: Progress, room: usize, out: &mut Vec<Event<T>>) -> bool {
        let more = self.held.release(progress.horizon, room, &mut self.decided);
        let released = self.decided.len();
        let before = out.len();
        out.extend(
            self.decided
                .drain(..)
                .filter(|event| self.seen.keeps(event)),
        );
        let kept = out.len() - before;
        self.count
            .duplicates()
            .fetch_add((released - kept) as u64, Relaxed);
        self.count.held().fetch_sub(signed(released), Relaxed);
        if !more {
            self.seen.forget(progress.horizon, released);
        }
        more
    }

    fn size(&self) -> Size {
        self.held.size() + self.seen.kept.size()
    }

    fn piece(&mut self, number: u8, with: &mut dyn FnMut(&mut dyn Saved)) -> bool {
        match number {
            0 => with(&mut Routed {
                queue: &mut self.held,
                route: &*self.route,
            }),
            1 => with(&mut self.seen.kept),
            _ => return false,
        }
        true
    }

    fn loaded(&mut self, progress: Progress) {
        self.seen.loaded(progress.horizon);
        self.count.found_held(self.held.len());
    }
}

struct DedupEager<I, T> {
    seen: Seen<I, T>,
    count: Counts,
    taken: usize,
}

impl<I: Ids, T: State> ByEpoch for DedupEager<I, T> {
    type In = Event<T>;
    type Out = Event<T>;

    fn apply(&mut self, records: &mut Vec<Event<T>>, out: &mut Vec<Event<T>>) {
        let taken = records.len();
        let before = out.len();
        out.extend(records.drain(..).filter(|event| self.seen.keeps(event)));
        let kept = out.len() - before;
        self.count
            .duplicates()
            .fetch_add((taken - kept) as u64, Relaxed);
        self.taken += taken;
    }

    fn advance(&mut self, progress: Progress, _: usize, _: &mut Vec<Event<T>>) -> bool {
        self.seen
            .forget(progress.horizon, std::mem::take(&mut self.taken));
        false
    }

    fn size(&self) -> Size {
        self.seen.kept.size()
    }

    fn piece(&mut self, number: u8, with: &mut dyn FnMut(&mut dyn Saved)) -> bool {
        if number == 0 {
            with(&mut self.seen.kept);
        }
        number == 0
    }

    fn loaded(&mut self, progress: Progress) {
        self.seen.loaded(progress.horizon);
    }
}
