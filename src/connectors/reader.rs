//! The one source operator: a door, and around it what timely needs. Also how a source is written
//! down in a job's description.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::door::{Door, TimeOf, Work};
use super::door_state::DoorState;
use super::{Fetched, Found, Plugs, Reader, Share, Waker, writer};
use crate::error::Result;
use crate::event::{DeadReason, Event, Letter, Record, each_record, json};
use crate::operators::watermark::{Known, MarkOf, watermark};
use crate::state::State;
use crate::stream::{Closings, Context, EventStream, Flow, Port, PortKind, Running, Stream};
use crate::time::{Epoch, EventTime, Watermarks};

/// What the time of an event can be given as.
pub trait ToEventTime {
    /// The time, or a sentence that says why there is none.
    ///
    /// # Errors
    /// Makes the record a dead letter.
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)>;
}

impl ToEventTime for EventTime {
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
        Ok(self)
    }
}

impl ToEventTime for i64 {
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
        Ok(EventTime::from(self))
    }
}

impl ToEventTime for SystemTime {
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
        Ok(EventTime::from(self))
    }
}

impl<T: ToEventTime> ToEventTime for Option<T> {
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
        match self {
            Some(time) => time.to_event_time(),
            None => Err((DeadReason::NoEventTime, "the event has no time".to_owned())),
        }
    }
}

impl<T: ToEventTime, E: fmt::Display> ToEventTime for Result<T, E> {
    fn to_event_time(self) -> Result<EventTime, (DeadReason, String)> {
        match self {
            Ok(time) => time.to_event_time(),
            Err(why) => Err((DeadReason::Decode, why.to_string())),
        }
    }
}

/// A source whose records are still bytes.
#[must_use = "say how its records are decoded: `.json()` or `.decode(..)`"]
pub struct Undecoded<'scope, T> {
    cx: Rc<Context<'scope>>,
    port: usize,
    holds: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Undecoded<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Undecoded")
    }
}

impl<'scope> Flow<'scope> {
    /// Declares the source port `name`, whose records hold a `T` each. Bound to a broker alone, it
    /// reads the topic of the same name.
    pub fn source<T: 'static>(&self, name: &str) -> Undecoded<'scope, T> {
        let holds = std::any::type_name::<T>()
            .rsplit("::")
            .next()
            .unwrap_or_default();
        let port = self.cx.description.borrow_mut().port(Port {
            name: name.to_owned(),
            kind: PortKind::Source,
            holds: holds.to_owned(),
            topic: Some(name.to_owned()),
        });
        self.cx.step(format!("source {name}"));
        Undecoded {
            cx: Rc::clone(&self.cx),
            port,
            holds: PhantomData,
        }
    }
}

impl<'scope, T: 'static> Undecoded<'scope, T> {
    /// Each value is a JSON object of type `T`. What is not becomes a dead letter with reason
    /// `decode`: wrong JSON anywhere in the record, bytes behind it, a field that is missing, null,
    /// given twice or of the wrong type. Unknown fields are ignored.
    pub fn json(self) -> Stream<'scope, T>
    where
        T: DeserializeOwned,
    {
        self.cx.step("json");
        let decode = each_record(|_, value| json::decode(value));
        Stream {
            cx: self.cx,
            port: self.port,
            decode,
        }
    }

    /// Each record is decoded by `decode`, which sees key, value, headers and stamp. Null values
    /// and values that are too large do not come here. An error makes a dead letter with reason
    /// `decode`.
    ///
    /// # Example
    /// ```
    /// # use anabranch::prelude::*;
    /// fn describe(flow: &Flow<'_>) -> Result {
    ///     flow.source::<i64>("numbers")
    ///         .decode(|record| {
    ///             let text = std::str::from_utf8(record.value.unwrap_or_default());
    ///             text.map_err(|e| e.to_string())?.parse().map_err(|_| "not a number".to_owned())
    ///         })
    ///         .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
    ///         .sink("copy", |s| s.json());
    ///     Ok(())
    /// }
    /// # Job::new("numbers", describe).describe(&Settings::new()).unwrap();
    /// ```
    pub fn decode<E: fmt::Display>(
        self,
        mut decode: impl FnMut(&Record<'_>) -> Result<T, E> + 'static,
    ) -> Stream<'scope, T> {
        self.cx.step("decode");
        let decode = each_record(move |record, _| decode(record).map_err(|why| why.to_string()));
        Stream {
            cx: self.cx,
            port: self.port,
            decode,
        }
    }
}

impl<'scope, T: State> Stream<'scope, T> {
    /// Says when each event happened, and how far out of order a partition may be.
    ///
    /// Here every record is judged, by nothing but the records before it in its own partition: it
    /// enters, is late (port `late`), or has no usable time (port `dead`).
    pub fn event_time<S: ToEventTime>(
        self,
        time: impl Fn(&T) -> S + 'static,
        rules: Watermarks,
    ) -> EventStream<'scope, T> {
        self.enter(Box::new(move |value, _| time(value).to_event_time()), rules)
    }

    /// As [`Stream::event_time`], with the stamp that the log gave the record.
    pub fn event_time_from_record(self, rules: Watermarks) -> EventStream<'scope, T> {
        self.enter(
            Box::new(|_, record| record.timestamp.to_event_time()),
            rules,
        )
    }

    fn enter(self, time_of: TimeOf<T>, rules: Watermarks) -> EventStream<'scope, T> {
        let Self { cx, port, decode } = self;
        let name = source_name(&cx, port);
        cx.step("event_time");
        let closings = Closings::default();
        let status = cx.board.source(&name, cx.workers);
        let known = Rc::new(Cell::new(Known {
            next: Epoch::FIRST,
            horizon: EventTime::NEVER,
        }));
        let plugs = Plugs::of(&cx);
        let source = plugs.as_ref().and_then(|plugs| plugs.sources.get(port));
        let live = source.is_some_and(|source| !source.bounded());
        let id = port * cx.workers + cx.worker;
        let idle = super::Tuning::within(0, cx.workers, 1);
        let tuning = plugs.as_ref().map_or(idle, |plugs| plugs.tuning.clone());
        let pace = plugs.as_ref().map(|plugs| Arc::clone(&plugs.pace));
        let door = Door {
            id,
            worker: cx.worker,
            source: u16::try_from(port).unwrap_or(u16::MAX),
            port: Arc::clone(&name),
            reader: Box::new(Nothing),
            grows: source.is_some_and(|source| source.grows()),
            live,
            decode,
            time_of,
            rules,
            closings: Rc::clone(&closings),
            state: DoorState::new(&tuning, id),
            tuning,
            pace: pace.unwrap_or_else(|| Arc::new(super::Pace::new(id + 1))),
            control: Arc::clone(&cx.control),
            metrics: Arc::clone(&cx.metrics),
            status: Arc::clone(&status),
            board: Arc::clone(&cx.board),
            known: Rc::clone(&known),
        };
        let Sent {
            events,
            late,
            dead,
            marks,
            activator,
        } = send(&cx, door);
        let progress = watermark(&cx, marks, rules, status, move |now| {
            known.set(now);
            if live {
                activator.activate(); // a silent partition may have waited for it
            }
        });
        cx.doors
            .borrow_mut()
            .push((Arc::clone(&name), Rc::clone(&closings)));
        let mut letters = cx.letters.borrow_mut();
        letters.late.push(Some(late));
        letters.dead.push(dead);
        let late = Some(letters.late.len() - 1);
        drop(letters);
        EventStream {
            cx,
            events,
            progress,
            closings: vec![closings],
            branches: 1,
            late,
        }
    }
}

impl<T: State> EventStream<'_, T> {
    /// Sends the late events of its source to a port of their own instead of `late`. To be called
    /// before any operator that keeps state.
    pub fn late(self, port: &str) -> Self {
        let letters = self
            .late
            .and_then(|nth| self.cx.letters.borrow_mut().late[nth].take());
        match letters {
            Some(letters) => writer::write_letters(&self.cx, letters, port),
            None => self
                .cx
                .refuse("late: the stream's late events are not at hand here"),
        }
        Self { late: None, ..self }
    }
}

fn source_name(cx: &Context<'_>, port: usize) -> Arc<str> {
    let description = cx.description.borrow();
    let mut sources = description
        .ports
        .iter()
        .filter(|port| port.kind == PortKind::Source);
    Arc::from(sources.nth(port).map_or("", |port| &port.name))
}

/// What a job that is only described reads.
struct Nothing;

impl Reader for Nothing {
    fn discover(&mut self) -> Result<Vec<Found>> {
        Ok(Vec::new())
    }
    fn fetch<'a>(&'a mut self, _: u32, _: usize, _: &mut Vec<Record<'a>>) -> Result<Fetched> {
        Ok(Fetched::End)
    }
}

struct Sent<'scope, T> {
    events: StreamVec<'scope, Epoch, Event<T>>,
    late: StreamVec<'scope, Epoch, Letter>,
    dead: StreamVec<'scope, Epoch, Letter>,
    marks: StreamVec<'scope, Epoch, MarkOf>,
    activator: timely::scheduling::Activator,
}

type Builder<T> = CapacityContainerBuilder<Vec<T>>;

/// The timely operator around a door.
fn send<'scope, T: State>(cx: &Rc<Context<'scope>>, mut door: Door<T>) -> Sent<'scope, T> {
    let mut builder = OperatorBuilder::new("source".to_owned(), cx.scope);
    let address = builder.operator_info().address;
    let activator = cx.scope.activator_for(Rc::clone(&address));
    let plugs = Plugs::of(cx);
    if let Some(plugs) = &plugs {
        let again_from_afar = cx.scope.worker().sync_activator_for(address.to_vec());
        // A worker that is gone needs no waking.
        let waker = Waker::new(move || _ = again_from_afar.activate());
        plugs.pace.register(door.id, waker.clone());
        let on_change = waker.clone();
        cx.control.on_change(move || on_change.wake());
        plugs
            .doors
            .borrow_mut()
            .push(cx.scope.activator_for(Rc::clone(&address)));
        open_now(cx, plugs, &mut door, waker);
    }
    let (events, events_stream) = builder.new_output();
    let (late, late_stream) = builder.new_output();
    let (dead, dead_stream) = builder.new_output();
    let (marks, marks_stream) = builder.new_output();
    let mut events = OutputBuilder::<_, Builder<Event<T>>>::from(events);
    let mut late = OutputBuilder::<_, Builder<Letter>>::from(late);
    let mut dead = OutputBuilder::<_, Builder<Letter>>::from(dead);
    let mut marks = OutputBuilder::<_, Builder<MarkOf>>::from(marks);
    let shared = Rc::clone(&cx.shared);
    let (probe, again) = (cx.probe.clone(), cx.scope.activator_for(address));
    builder.build(move |capabilities| {
        let mut capabilities = Some(capabilities);
        move |_frontiers| {
            Running::set("source");
            let Some(held) = capabilities.as_mut() else {
                return;
            };
            let complete = probe.with_frontier(|frontier| frontier.first().copied());
            if let Err(error) = door.wake(complete) {
                return shared.control.fail(error);
            }
            let (mut events, mut late) = (events.activate(), late.activate());
            let (mut dead, mut marks) = (dead.activate(), marks.activate());
            loop {
                let work = match door.work(complete) {
                    Ok(work) => work,
                    Err(error) => return shared.control.fail(error), // the capability is kept
                };
                let staged = &mut door.state;
                if !staged.events.is_empty() {
                    events.session(&held[0]).give_container(&mut staged.events);
                    staged.events.clear();
                }
                if !staged.late.is_empty() {
                    late.session(&held[1]).give_iterator(staged.late.drain(..));
                }
                if !staged.dead.is_empty() {
                    dead.session(&held[2]).give_iterator(staged.dead.drain(..));
                }
                let mark = match work {
                    Work::Cut(_, mark) => mark,
                    Work::End(mark) => Some(mark),
                    Work::Staged | Work::Wait(_) | Work::Stop => None,
                };
                if let Some(mark) = mark {
                    marks.session(&held[3]).give(MarkOf::new(door.worker, mark));
                }
                match work {
                    Work::Staged => {}
                    Work::Cut(next, _) => {
                        for capability in held.iter_mut() {
                            capability.downgrade(&next);
                        }
                        return again.activate();
                    }
                    Work::Wait(None) => return,
                    Work::Wait(Some(Duration::ZERO)) => return again.activate(),
                    Work::Wait(Some(pause)) => return again.activate_after(pause),
                    Work::End(_) | Work::Stop => {
                        capabilities = None;
                        return;
                    }
                }
            }
        }
    });
    Sent {
        events: events_stream,
        late: late_stream,
        dead: dead_stream,
        marks: marks_stream,
        activator,
    }
}

/// Opens the door's reader, which can now be woken.
fn open_now<T>(cx: &Context<'_>, plugs: &Plugs, door: &mut Door<T>, waker: Waker) {
    let port = usize::from(door.source);
    let Some(source) = plugs.sources.get(port) else {
        return;
    };
    let share = Share {
        worker: cx.worker,
        workers: cx.workers,
        port,
        buffer_bytes: plugs.tuning.buffer_bytes,
        waker,
    };
    match source.open(share) {
        Ok(reader) => door.reader = reader,
        Err(error) => cx.control.fail(error),
    }
}
