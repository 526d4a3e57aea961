//! What an operator of one's own can do.

use std::fmt::Display;

use super::Process;
use super::keyed::Timer;
use crate::error::Error;
use crate::event::{Event, Position};
use crate::operators::letters::{OrLetter, refused};
use crate::state::Calendar;
use crate::stream::Shared;
use crate::time::EventTime;

/// What a [`Process`] can do at an event or a timer.
pub struct ProcessContext<'a, P: Process> {
    pub(super) key: &'a P::Key,
    pub(super) hash: u64,
    /// Where results stand: the event's place, or the timer's.
    pub(super) at: Position,
    /// The event; `None` at a timer.
    pub(super) event: Option<&'a Event<P::In>>,
    /// Results so far.
    pub(super) given: u64,
    pub(super) timers: &'a mut Vec<Timer>,
    pub(super) calendar: &'a mut Calendar<P::Key>,
    pub(super) out: &'a mut Vec<OrLetter<Event<P::Out>>>,
    pub(super) shared: &'a Shared,
    pub(super) name: &'a str,
}

impl<P: Process> std::fmt::Debug for ProcessContext<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessContext")
            .field("at", &self.at)
            .field("timers", &self.timers)
            .finish_non_exhaustive()
    }
}

impl<P: Process> ProcessContext<'_, P> {
    /// The key whose event or timer this is.
    pub fn key(&self) -> &P::Key {
        self.key
    }

    /// The watermark as the operator sees it: nothing of an earlier time will come. It is the time
    /// of the event or timer at hand. How far the job has read beyond it is no fact of the log,
    /// and is not told.
    pub fn watermark(&self) -> EventTime {
        self.at.time
    }

    /// Gives a result; see [`KeyedStream::process`](crate::KeyedStream::process) for its place.
    pub fn emit(&mut self, value: P::Out) {
        let Some(at) = self.at.child(self.given) else {
            let place = match self.event {
                Some(_) => format!(
                    "source {}: partition {}: offset {}",
                    self.at.source, self.at.partition, self.at.offset
                ),
                None => format!("timer of {}", self.at.time),
            };
            self.shared.control.fail(Error::usage(format!(
                "{}: {place}: no room for result {}: {} on three levels are the most",
                self.name,
                self.given,
                Position::CHILDREN_MAX
            )));
            return;
        };
        self.given += 1;
        self.out.push(Ok(Event { at, value }));
    }

    /// Sets a timer of this key for `time`. One that is set already is not set twice.
    ///
    /// A time that has passed means the next that has not: at an event its own time, at a timer
    /// one millisecond later. A time behind year 9999 means its end.
    pub fn set_timer(&mut self, time: impl Into<EventTime>) {
        let at = self.next_at(time.into());
        let by_timer = self.event.is_none();
        match self.timers.binary_search_by_key(&at, |timer| timer.at) {
            Ok(place) => self.timers[place].by_timer &= by_timer,
            Err(place) => {
                self.timers.insert(place, Timer { at, by_timer });
                self.calendar.add(at, self.hash, self.key.clone());
            }
        }
    }

    /// Takes back the timer of this key that [`ProcessContext::set_timer`] would set for `time`;
    /// does nothing if there is none.
    pub fn clear_timer(&mut self, time: impl Into<EventTime>) {
        let at = self.next_at(time.into());
        if let Ok(place) = self.timers.binary_search_by_key(&at, |timer| timer.at) {
            self.timers.remove(place);
            self.calendar.remove(at, self.hash, self.key);
        }
    }

    /// Makes a dead letter with reason `processing` of the event, or at a timer of the key: its
    /// value as JSON, where it came from, and `why`. It is counted apart, for the record had
    /// entered.
    pub fn dead_letter(&mut self, why: impl Display) {
        let letter = match self.event {
            Some(event) => refused(self.shared, event.at, &event.value, &why),
            None => refused(self.shared, self.at, self.key, &why),
        };
        self.out.push(Err(letter));
    }

    /// The first time not before `time` that has not passed here.
    fn next_at(&self, time: EventTime) -> EventTime {
        let passed = match self.event {
            Some(_) => self.at.time,
            None => self.at.time.plus(1),
        };
        time.min(EventTime::LATEST).max(passed)
    }
}
