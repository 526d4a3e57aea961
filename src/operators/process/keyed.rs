//! The engine's side of an operator of one's own: states, timers, and the one sequence of events
//! and timers.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::{Process, ProcessContext};
use crate::event::{Event, Position};
use crate::operators::ByEpoch;
use crate::operators::by_epoch::ROOM;
use crate::operators::letters::OrLetter;
use crate::state::saved::Saved;
use crate::state::{Calendar, Routed, Size, Table, TimeQueue, codec, slot, stable_hash};
use crate::stream::Shared;
use crate::time::{EventTime, Progress, millis};

/// A timer of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timer {
    pub(super) at: EventTime,
    /// It was set by a timer, and by no event.
    pub(super) by_timer: bool,
}

/// What is kept of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept<S> {
    state: S,
    /// When the state is forgotten: [`Process::ttl`] after the last event.
    until: EventTime,
    /// In the order of their times.
    timers: Vec<Timer>,
}

/// See the module.
pub(super) struct Keyed<P: Process> {
    op: P,
    name: Box<str>,
    key: Rc<dyn Fn(&P::In) -> P::Key>,
    shared: Rc<Shared>,
    held: TimeQueue<P::In>,
    /// Events that were released, the next one last.
    due: Vec<Event<P::In>>,
    kept: Table<P::Key, Kept<P::State>>,
    calendar: Calendar<P::Key>,
    ttl: Option<i64>,
    /// The bytes of the default state.
    default: Vec<u8>,
    cursor: usize,
    taken: usize,
}

type Out<P> = OrLetter<Event<<P as Process>::Out>>;

impl<P: Process> Keyed<P> {
    pub(super) fn new(
        op: P,
        key: Rc<dyn Fn(&P::In) -> P::Key>,
        shared: Rc<Shared>,
        name: &str,
    ) -> Self {
        let mut default = Vec::new();
        if let Err(error) = codec::encode(&P::State::default(), &mut default) {
            shared.control.fail(error);
        }
        let ttl = op.ttl().map(millis);
        Self {
            op,
            name: name.into(),
            key,
            shared,
            held: TimeQueue::default(),
            due: Vec::new(),
            kept: Table::default(),
            calendar: Calendar::default(),
            ttl,
            default,
            cursor: 0,
            taken: 0,
        }
    }

    /// The time of the next event before `horizon`.
    fn next_event(&mut self, horizon: EventTime) -> Option<EventTime> {
        if self.due.is_empty() {
            self.held.release(horizon, ROOM, &mut self.due);
            self.due.reverse();
        }
        self.due.last().map(|event| event.at.time)
    }

    fn event(&mut self, event: &Event<P::In>, out: &mut Vec<Out<P>>) {
        let key = (self.key)(&event.value);
        let until = until(self.ttl, event.at.time);
        self.call(&key, event.at, Some(event), out, |op, kept, cx| {
            op.on_event(&mut kept.state, event, cx);
            kept.until = until;
        });
    }

    /// Fires the first timer, unless the log has ended and it lies behind the end.
    fn timer(&mut self, progress: Progress, out: &mut Vec<Out<P>>) {
        let Some((at, hash, key)) = self.calendar.pop() else {
            return;
        };
        let place = Position {
            time: at,
            source: u16::MAX, // of no source: it may come of many records
            partition: u32::try_from(slot(hash)).unwrap_or(0),
            offset: hash,
            index: 0,
        };
        let ended = progress.horizon == EventTime::END && at > progress.last;
        self.call(&key, place, None, out, |op, kept, cx| {
            let found = cx.timers.iter().position(|timer| timer.at == at);
            let timer = found.map(|nth| cx.timers.remove(nth));
            if timer.is_some_and(|timer| !(ended && timer.by_timer)) {
                op.on_timer(&mut kept.state, at, cx);
            }
        });
    }

    /// Calls the operator with what is kept of `key`, and keeps what is not the default.
    fn call(
        &mut self,
        key: &P::Key,
        at: Position,
        event: Option<&Event<P::In>>,
        out: &mut Vec<Out<P>>,
        call: impl FnOnce(&P, &mut Kept<P::State>, &mut ProcessContext<'_, P>),
    ) {
        let hash = stable_hash(key);
        let until = until(self.ttl, at.time);
        let Self {
            op,
            kept: table,
            calendar,
            shared,
            name,
            default,
            ..
        } = self;
        let once = |kept: &mut Kept<P::State>| {
            if at.time >= kept.until {
                (kept.state, kept.until) = (P::State::default(), until);
            }
            let mut timers = std::mem::take(&mut kept.timers);
            let mut cx = ProcessContext {
                key,
                hash,
                at,
                event,
                given: 0,
                timers: &mut timers,
                calendar,
                out,
                shared,
                name,
            };
            call(op, kept, &mut cx);
            kept.timers = timers;
            kept.timers.is_empty() && codec::is_written_as(&kept.state, default)
        };
        let mut once = Some(once);
        let empty = table.change(hash, key, |kept| {
            let once = once.take().expect("it is called once");
            once(kept)
        });
        match (empty, once) {
            (Some(true), _) => drop(table.remove(hash, key)),
            (Some(false), _) | (None, None) => {}
            (None, Some(once)) => {
                let mut fresh = Kept {
                    state: P::State::default(),
                    until,
                    timers: Vec::new(),
                };
                if !once(&mut fresh) {
                    table.upsert(hash, key.clone(), || fresh, |_| {});
                }
            }
        }
    }

    /// Forgets what the horizon has passed, some at a time, in step with what was taken.
    fn forget(&mut self, horizon: EventTime) {
        let taken = std::mem::take(&mut self.taken);
        if self.ttl.is_some() && horizon != EventTime::END {
            self.kept
                .sweep(&mut self.cursor, 16 + 2 * taken, |_, kept| {
                    kept.until > horizon || !kept.timers.is_empty()
                });
        }
    }

    /// Keys that are kept, and timers.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.kept.len(), self.calendar.len())
    }
}

/// When a key is forgotten of which nothing comes after `time`; [`EventTime::END`]: never.
fn until(ttl: Option<i64>, time: EventTime) -> EventTime {
    ttl.map_or(EventTime::END, |ttl| time.plus(ttl))
}

impl<P: Process> Keyed<P> {
    /// The calendar is made anew from the timers that lie with the keys.
    fn fill_calendar(&mut self) {
        for (key, kept) in self.kept.iter() {
            let hash = stable_hash(key);
            for timer in &kept.timers {
                self.calendar.add(timer.at, hash, key.clone());
            }
        }
    }
}

impl<P: Process> ByEpoch for Keyed<P> {
    type In = Event<P::In>;
    type Out = Out<P>;

    const KEEPS: bool = true;

    fn apply(&mut self, records: &mut Vec<Event<P::In>>, _: &mut Vec<Out<P>>) {
        self.taken += records.len();
        records.drain(..).for_each(|event| self.held.push(event));
    }

    fn size(&self) -> Size {
        let due = self.due.capacity() * size_of::<Event<P::In>>();
        let beside = Size {
            entries: 0,
            bytes: due + self.calendar.bytes(),
        };
        self.held.size() + self.kept.size() + beside
    }

    fn piece(&mut self, number: u8, with: &mut dyn FnMut(&mut dyn Saved)) -> bool {
        let key = Rc::clone(&self.key);
        let route = move |value: &P::In| stable_hash(&key(value));
        match number {
            0 => with(&mut Routed {
                queue: &mut self.held,
                route: &route,
            }),
            1 => with(&mut self.kept),
            _ => return false,
        }
        true
    }

    fn loaded(&mut self, progress: Progress) {
        let horizon = progress.horizon;
        self.kept
            .retain(|_, kept| kept.until > horizon || !kept.timers.is_empty());
        self.fill_calendar();
    }

    fn advance(&mut self, progress: Progress, room: usize, out: &mut Vec<Out<P>>) -> bool {
        let horizon = progress.horizon;
        for _ in 0..room {
            if out.len() >= room {
                break;
            }
            let (event, timer) = (self.next_event(horizon), self.calendar.first());
            let timer = timer.filter(|at| *at < horizon);
            match (event, timer) {
                (None, None) => {
                    self.forget(horizon);
                    return false;
                }
                (Some(event), Some(timer)) if timer < event => self.timer(progress, out),
                (None, Some(_)) => self.timer(progress, out),
                (Some(_), _) => {
                    let event = self.due.pop().expect("it is there");
                    self.event(&event, out);
                }
            }
        }
        true
    }
}
