//! What is held, in checkpoints: an event is written once, when it is first held at one.

use std::fmt;

use super::{Span, TimeQueue};
use crate::error::Result;
use crate::state::saved::{Parcels, Saved};
use crate::state::{State, codec, slot};
use crate::time::Progress;

/// A queue, and where its events belong.
pub(crate) struct Routed<'a, T> {
    pub(crate) queue: &'a mut TimeQueue<T>,
    /// The stable hash of what the events are distributed by.
    pub(crate) route: &'a dyn Fn(&T) -> u64,
}

impl<T> fmt::Debug for Routed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Routed")
    }
}

impl<T: State> Saved for Routed<'_, T> {
    fn track(&mut self) {}

    fn check(&self) -> Result {
        let mut spans = self.queue.ring.iter().chain(self.queue.far.values());
        let first = spans.find_map(|span| span.events.first());
        first.map_or(Ok(()), |event| codec::check(&event.value))
    }

    fn save(&mut self, all: bool, room: usize, out: &mut Parcels) -> Result<bool> {
        let TimeQueue {
            ring, far, saving, ..
        } = &mut *self.queue;
        if !*saving && all {
            let spans = ring.iter_mut().chain(far.values_mut());
            spans.for_each(|span| span.known = std::mem::take(&mut span.saved));
        }
        *saving = true;
        let (mut room, began) = (room, out.bytes);
        for span in ring.iter_mut().chain(far.values_mut()) {
            room = save(span, all, (room, began), self.route, out)?;
            if room == 0 || out.is_full_since(began) {
                return Ok(true);
            }
        }
        *saving = false;
        Ok(false)
    }

    fn held(&self) -> usize {
        self.queue.len()
    }

    fn load(&mut self, _group: i64, entry: &[u8]) -> Result<bool> {
        self.queue.push(codec::decode(entry)?);
        Ok(true)
    }

    /// What is held has come through the codec.
    fn renew(&mut self) -> Result {
        Ok(())
    }

    /// An event that was put back was saved again, and what the horizon has passed is out.
    fn loaded(&mut self, progress: Progress) {
        let queue = std::mem::take(self.queue);
        let spans = queue.ring.into_iter().chain(queue.far.into_values());
        for mut span in spans {
            span.events.sort_unstable_by_key(|event| event.at);
            span.events.dedup_by_key(|event| event.at);
            span.events
                .retain(|event| event.at.time >= progress.horizon);
            span.events
                .into_iter()
                .for_each(|event| self.queue.push(event));
        }
        let queue = &mut *self.queue;
        let spans = queue.ring.iter_mut().chain(queue.far.values_mut());
        spans.for_each(|span| span.saved = span.events.len());
    }
}

/// Saves what is not saved of `span`, as far as there is room, also for bytes since there were
/// `began`; returns for how many events more there is.
fn save<T: State>(
    span: &mut Span<T>,
    all: bool,
    (room, began): (usize, u64),
    route: &dyn Fn(&T) -> u64,
    out: &mut Parcels,
) -> Result<usize> {
    let first = span.saved;
    let end = span.events.len().min(first + room);
    while span.saved < end && !out.is_full_since(began) {
        let event = &span.events[span.saved];
        let slot = usize::try_from(slot(route(&event.value))).expect("there are 1024 slots");
        let bytes = out.entry(slot, |out| codec::encode(event, out))?;
        if all && span.saved >= span.known {
            out.changed += bytes;
        }
        span.saved += 1;
    }
    Ok(room - (span.saved - first))
}
