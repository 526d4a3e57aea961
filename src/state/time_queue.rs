//! What is held until its time has come: a calendar of small spans, each put in order only when
//! it is released.

mod saved;

use std::collections::{BTreeMap, VecDeque};

use super::size::elsewhere;
use super::{Size, State};
use crate::event::Event;
use crate::time::EventTime;

/// Milliseconds of a span, as a power of two.
const SPAN_BITS: u32 = 4;
const SPAN: usize = 1 << SPAN_BITS;
/// A span of fewer events is sorted as it is.
const DEAL_AT: usize = 4 * SPAN;

/// Spans that lie in the ring: about a minute, which holds all but stragglers.
const RING: usize = 4_096;
/// Room for events of a millisecond that is kept.
const DEALT_MAX: usize = 1_024;
/// Emptied vectors kept: what a burst needed is let go.
const SPARE_MAX: usize = 64;
/// Events that are looked at to know what all of them hold elsewhere.
const SAMPLES: usize = 16;

pub(crate) use saved::Routed;

/// Events of one span, in no order.
#[derive(Clone, Debug)]
struct Span<T> {
    events: Vec<Event<T>>,
    /// So many of them are in a checkpoint. What is put back has to be saved again.
    saved: usize,
    /// So many of them were, when all were asked for.
    known: usize,
}

impl<T> Span<T> {
    fn of(events: Vec<Event<T>>) -> Self {
        Self {
            events,
            saved: 0,
            known: 0,
        }
    }
}

/// Events by time, released in the order of their positions.
///
/// Order within a span is made once, when it is released, so holding an event costs a push. A
/// span is then dealt out by the millisecond; what one partition gave of a millisecond came in
/// order, so most often nothing is left to sort. One span is released at a time: events that all
/// claim the same millisecond are put in order in one go.
#[derive(Clone, Debug)]
pub(crate) struct TimeQueue<T> {
    /// Spans from `base` on.
    ring: VecDeque<Span<T>>,
    base: i64,
    /// Spans that did not lie in the ring when an event of theirs came.
    far: BTreeMap<i64, Span<T>>,
    /// Emptied vectors, to be used again.
    spare: Vec<Vec<Event<T>>>,
    /// The milliseconds of the span that is put in order; empty between releases.
    dealt: [Vec<Event<T>>; SPAN],
    len: usize,
    /// Events that all vectors have room for.
    capacity: usize,
    /// A checkpoint has begun to save it.
    saving: bool,
}

impl<T> Default for TimeQueue<T> {
    fn default() -> Self {
        Self {
            ring: VecDeque::new(),
            base: 0,
            far: BTreeMap::new(),
            spare: Vec::new(),
            dealt: Default::default(),
            len: 0,
            capacity: 0,
            saving: false,
        }
    }
}

impl<T> TimeQueue<T> {
    /// Events that are held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory it takes, without what the values hold elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        self.capacity * size_of::<Event<T>>() + self.ring.capacity() * size_of::<Span<T>>()
    }

    /// What it takes, with an estimate of what the values hold elsewhere.
    pub(crate) fn size(&self) -> Size
    where
        T: State,
    {
        let spans = self.ring.iter().chain(self.far.values());
        let some = spans.filter_map(|span| span.events.last()).take(SAMPLES);
        Size::sampled(
            self.len,
            self.bytes(),
            some.map(|event| elsewhere(&event.value)),
        )
    }

    /// Everything that is held, in no order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event<T>> {
        let spans = self.ring.iter().chain(self.far.values());
        spans.flat_map(|span| &span.events)
    }

    /// Holds `event`.
    #[inline]
    pub(crate) fn push(&mut self, event: Event<T>) {
        let span = event.at.time.millis() >> SPAN_BITS;
        if self.len == 0 {
            self.ring.clear();
            self.base = span;
        }
        self.len += 1;
        let Self {
            ring,
            base,
            far,
            spare,
            capacity,
            ..
        } = self;
        let events = match usize::try_from(span - *base) {
            Ok(place) if place < RING => {
                while ring.len() <= place {
                    ring.push_back(Span::of(spare.pop().unwrap_or_default()));
                }
                &mut ring[place].events
            }
            _ => {
                let fresh = || Span::of(Vec::new());
                &mut far.entry(span).or_insert_with(fresh).events
            }
        };
        let before = events.capacity();
        events.push(event);
        *capacity += events.capacity() - before;
    }

    /// The first span that holds an event, taken out.
    fn pop_before(&mut self, horizon: EventTime) -> Option<(i64, Vec<Event<T>>)> {
        while (self.ring.front()).is_some_and(|span| span.events.is_empty()) {
            let empty = self.ring.pop_front()?;
            self.base += 1;
            self.keep(empty.events);
        }
        let near = (!self.ring.is_empty()).then_some(self.base);
        let far = self.far.keys().next().copied();
        let span = near.into_iter().chain(far).min()?;
        if span << SPAN_BITS >= horizon.millis() {
            return None;
        }
        let mut events = Vec::new();
        if near == Some(span) {
            events = self.ring.pop_front()?.events;
            self.base += 1;
        }
        if far == Some(span) {
            let mut stragglers = self.far.remove(&span)?.events;
            let before = events.capacity();
            events.append(&mut stragglers);
            self.capacity += events.capacity();
            self.capacity -= before + stragglers.capacity();
        }
        Some((span, events))
    }

    /// Sorts one span by position.
    fn put_in_order(&mut self, span: i64, events: &mut Vec<Event<T>>) {
        if events.len() < DEAL_AT {
            events.sort_unstable_by_key(|event| event.at);
            return;
        }
        for event in events.drain(..) {
            let nth = usize::try_from(event.at.time.millis() - (span << SPAN_BITS));
            self.dealt[nth.expect("it lies in the span")].push(event);
        }
        for millisecond in &mut self.dealt {
            // Stable, for that finds the runs that senders gave in order.
            millisecond.sort_by_key(|event| event.at);
            events.append(millisecond);
            millisecond.shrink_to(DEALT_MAX);
        }
    }

    /// Puts an emptied vector aside, to be used again.
    fn keep(&mut self, events: Vec<Event<T>>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(events);
        } else {
            self.capacity -= events.capacity();
        }
    }

    /// Appends to `out`, in order, what lies before `horizon`, until about `room` events are in
    /// `out`. Returns whether more could be released.
    pub(crate) fn release(
        &mut self,
        horizon: EventTime,
        room: usize,
        out: &mut Vec<Event<T>>,
    ) -> bool {
        while out.len() < room {
            let Some((span, mut events)) = self.pop_before(horizon) else {
                return false;
            };
            self.put_in_order(span, &mut events);
            let due = events.partition_point(|event| event.at.time < horizon);
            self.len -= due;
            out.extend(events.drain(..due));
            if !events.is_empty() {
                // The horizon lies within the span: the rest goes back to where it was.
                if span + 1 == self.base {
                    self.base = span;
                    self.ring.push_front(Span::of(events));
                } else {
                    self.far.insert(span, Span::of(events));
                }
                return false;
            }
            self.keep(events);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;
    use crate::state::saved::{GO_BYTES, Holds, Parcel, Parcels, Saved};
    use crate::time::Progress;
    use proptest::prelude::*;

    fn event(time: i64, offset: u64) -> Event<u64> {
        let time = EventTime::from(time);
        Event {
            at: Position {
                time,
                source: 0,
                partition: 0,
                offset,
                index: 0,
            },
            value: offset,
        }
    }

    #[test]
    fn what_lies_far_apart_is_in_order_too() {
        let mut queue = TimeQueue::default();
        let times = [
            1_000_000, 5, 1_000_001, 70_000, 5, -40, 2_000_000, 70_001, 1_000_000,
        ];
        let mut model = Vec::new();
        for (offset, time) in (0..).zip(times) {
            queue.push(event(time, offset));
            model.push(event(time, offset));
        }
        model.sort_by_key(|event| event.at);
        let mut out = Vec::new();
        for horizon in [0, 6, 70_001, 1_000_001, 3_000_000] {
            while queue.release(EventTime::from(horizon), out.len() + 1, &mut out) {}
            let due = model.partition_point(|event| event.at.time.millis() < horizon);
            assert_eq!(out, model[..due]);
        }
        assert_eq!(queue.len(), 0);
    }

    proptest! {
        #[test]
        fn it_releases_what_a_sorted_list_would(
            steps in prop::collection::vec((-200i64..200, 0u8..6, 1usize..20), 0..400),
            // The last one crowds all events into a few spans.
            (over, scale) in prop::sample::select(vec![(1i64, 1i64), (1, 50), (1, 2_000), (10, 1)]),
        ) {
            let (mut queue, mut model) = (TimeQueue::default(), Vec::new());
            for (offset, (time, step, room)) in (0u64..).zip(steps) {
                let time = time / over * scale;
                if step > 0 {
                    queue.push(event(time, offset));
                    model.push(event(time, offset));
                    continue;
                }
                model.sort_by_key(|event| event.at);
                let due = model.partition_point(|event| event.at.time.millis() < time);
                let mut released = Vec::new();
                while queue.release(EventTime::from(time), released.len() + room, &mut released) {}
                prop_assert_eq!(released, model.drain(..due).collect::<Vec<_>>());
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.iter().count(), model.len());
            }
        }
    }

    /// Brings `copy` up to what `queue` is, as a checkpoint and its recovery do.
    fn follow(log: &mut Vec<Vec<u8>>, queue: &mut TimeQueue<u64>, all: bool) -> TimeQueue<u64> {
        let mut parcels = Parcels::of("queue");
        let route = |value: &u64| *value;
        let mut routed = Routed {
            queue,
            route: &route,
        };
        while routed.save(all, 5, &mut parcels).unwrap() {}
        parcels.end(Progress::START);
        if all {
            log.clear();
        }
        log.extend(parcels.done);
        let mut copy = TimeQueue::default();
        let mut routed = Routed {
            queue: &mut copy,
            route: &route,
        };
        for parcel in log {
            if let Holds::Entries(entries) = Parcel::read(parcel).unwrap().holds {
                for entry in entries {
                    routed.load(0, entry.unwrap().1).unwrap();
                }
            }
        }
        copy
    }

    #[test]
    fn large_events_are_saved_some_bytes_at_a_time() {
        const VALUE: usize = 64 << 10;
        for (all, apart) in [(false, 0), (true, 0), (false, 1_000)] {
            let mut queue = TimeQueue::default();
            for offset in 0..40u64 {
                let Event { at, .. } = event(i64::try_from(offset).unwrap() * apart, offset);
                let value = "x".repeat(VALUE);
                queue.push(Event { at, value });
            }
            let route = |value: &String| value.len() as u64;
            let mut routed = Routed {
                queue: &mut queue,
                route: &route,
            };
            let (mut parcels, mut more) = (Parcels::of("queue"), true);
            while more {
                let before = parcels.bytes;
                more = routed.save(all, 8_192, &mut parcels).unwrap();
                let bytes = parcels.bytes - before;
                assert!(bytes < GO_BYTES + 2 * VALUE as u64, "{bytes} in one go");
            }
            assert_eq!(parcels.into_entries().unwrap().len(), 40);
        }
    }

    proptest! {
        #[test]
        fn it_comes_back_from_what_was_saved_of_it(
            steps in prop::collection::vec((-2_000i64..2_000, 0u8..12), 0..400),
        ) {
            let (mut queue, mut log) = (TimeQueue::default(), Vec::new());
            let mut horizon = EventTime::NEVER;
            for (offset, (time, step)) in (0u64..).zip(steps) {
                match step {
                    0..9 if time >= horizon.millis() => queue.push(event(time, offset)),
                    0..9 => {}
                    9 => {
                        horizon = horizon.max(EventTime::from(time));
                        let mut out = Vec::new();
                        while queue.release(horizon, out.len() + 3, &mut out) {}
                    }
                    _ => {
                        let mut copy = follow(&mut log, &mut queue, step == 11);
                        let progress = Progress { horizon, ..Progress::START };
                        Routed { queue: &mut copy, route: &|value| *value }.loaded(progress);
                        let mut all = [&queue, &copy].map(|queue| {
                            queue.iter().map(|event| event.at).collect::<Vec<_>>()
                        });
                        for all in &mut all {
                            all.sort_unstable();
                        }
                        prop_assert_eq!(&all[0], &all[1]);
                        prop_assert_eq!(copy.len(), all[1].len());
                    }
                }
            }
        }
    }

    #[test]
    fn what_changed_is_counted_where_all_was_asked_for() {
        let mut queue = TimeQueue::default();
        let mut save = |times: std::ops::Range<u64>, all| {
            for time in times {
                queue.push(event(time.cast_signed(), time));
            }
            let mut parcels = Parcels::of("queue");
            let mut routed = Routed {
                queue: &mut queue,
                route: &|value| *value,
            };
            while routed.save(all, 5, &mut parcels).unwrap() {}
            parcels.changed
        };
        // Else the parcels themselves are what changed.
        assert_eq!(save(0..50, false), 0);
        let ten = save(50..60, true);
        assert!(ten > 0);
        assert_eq!(save(60..70, true), ten, "as many, of as many bytes");
        assert_eq!(save(70..80, false), 0);
        assert_eq!(save(0..0, true), 0);
    }

    #[test]
    fn the_end_releases_everything() {
        let mut queue = TimeQueue::default();
        (0..100u64).for_each(|n| queue.push(event(i64::try_from(n).unwrap() * 1_000, n)));
        let mut out = Vec::new();
        while queue.release(EventTime::END, out.len() + 10, &mut out) {}
        assert_eq!((out.len(), queue.len()), (100, 0));
    }
}
