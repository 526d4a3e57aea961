//! What is held until its time has come: a calendar of small spans, each put in order only when
//! it is released.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::time::EventTime;

/// Milliseconds of a span, as a power of two.
const SPAN_BITS: u32 = 4;

/// Events by time, released in the order of their positions.
///
/// Order within a span is made once, when it is released, so holding an event costs a push. One
/// span is released at a time: events that all claim the same millisecond are sorted in one go.
#[derive(Clone, Debug)]
pub(crate) struct TimeQueue<T> {
    spans: BTreeMap<i64, Vec<Event<T>>>,
    /// The span of the last push, taken out of the map: events come in runs.
    recent: (i64, Vec<Event<T>>),
    /// Emptied vectors, to be used again.
    spare: Vec<Vec<Event<T>>>,
    len: usize,
}

/// Emptied vectors kept: what a burst needed is let go.
const SPARE_MAX: usize = 64;

impl<T> Default for TimeQueue<T> {
    fn default() -> Self {
        Self {
            spans: BTreeMap::new(),
            recent: (0, Vec::new()),
            spare: Vec::new(),
            len: 0,
        }
    }
}

impl<T> TimeQueue<T> {
    /// Events that are held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory it takes, without what the values hold elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        let held: usize = self
            .spans
            .values()
            .chain([&self.recent.1])
            .map(Vec::capacity)
            .sum();
        held * size_of::<Event<T>>()
    }

    /// Everything that is held, in no order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event<T>> {
        self.spans.values().chain([&self.recent.1]).flatten()
    }

    /// Holds `event`.
    #[inline]
    pub(crate) fn push(&mut self, event: Event<T>) {
        let span = event.at.time.millis() >> SPAN_BITS;
        if span != self.recent.0 {
            self.turn_to(span);
        }
        self.recent.1.push(event);
        self.len += 1;
    }

    fn turn_to(&mut self, span: i64) {
        let next = self
            .spans
            .remove(&span)
            .or_else(|| self.spare.pop())
            .unwrap_or_default();
        let (before, events) = std::mem::replace(&mut self.recent, (span, next));
        self.keep(before, events);
    }

    fn keep(&mut self, span: i64, events: Vec<Event<T>>) {
        if !events.is_empty() {
            self.spans.insert(span, events);
        } else if self.spare.len() < SPARE_MAX {
            self.spare.push(events);
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
        let recent = std::mem::replace(&mut self.recent, (i64::MIN, Vec::new()));
        self.keep(recent.0, recent.1);
        while out.len() < room {
            let Some(first) = self.spans.first_entry() else {
                return false;
            };
            let start = *first.key() << SPAN_BITS;
            if start >= horizon.millis() {
                return false;
            }
            let span = *first.key();
            let mut events = first.remove();
            events.sort_unstable_by_key(|a| a.at);
            let due = events.partition_point(|event| event.at.time < horizon);
            self.len -= due;
            out.extend(events.drain(..due));
            let rest = !events.is_empty();
            self.keep(span, events);
            if rest {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;
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

    proptest! {
        #[test]
        fn it_releases_what_a_sorted_list_would(
            steps in prop::collection::vec((-200i64..200, 0u8..6, 1usize..20), 0..400),
        ) {
            let (mut queue, mut model) = (TimeQueue::default(), Vec::new());
            for (offset, (time, step, room)) in (0u64..).zip(steps) {
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

    #[test]
    fn the_end_releases_everything() {
        let mut queue = TimeQueue::default();
        (0..100u64).for_each(|n| queue.push(event(i64::try_from(n).unwrap() * 1_000, n)));
        let mut out = Vec::new();
        while queue.release(EventTime::END, out.len() + 10, &mut out) {}
        assert_eq!((out.len(), queue.len()), (100, 0));
    }
}
