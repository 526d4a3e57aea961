//! The one source operator: a door, and around it what timely needs.

use std::rc::Rc;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::scheduling::Activator;

use super::door::{Door, Work};
use super::{Fetched, Found, Plugs, Reader, Share, Waker};
use crate::error::Result;
use crate::event::{Event, Letter, Record};
use crate::operators::watermark::MarkOf;
use crate::state::{State, codec};
use crate::stream::{Context, Running};
use crate::time::Epoch;
use crate::time::watermark::Mark;

/// What a job that is only described reads.
pub(super) struct Nothing;

impl Reader for Nothing {
    fn discover(&mut self) -> Result<Vec<Found>> {
        Ok(Vec::new())
    }
    fn fetch<'a>(&'a mut self, _: u32, _: usize, _: &mut Vec<Record<'a>>) -> Result<Fetched> {
        Ok(Fetched::End)
    }
}

/// The streams that a door feeds.
pub(super) struct Sent<'scope, T> {
    pub(super) events: StreamVec<'scope, Epoch, Event<T>>,
    pub(super) late: StreamVec<'scope, Epoch, Letter>,
    pub(super) dead: StreamVec<'scope, Epoch, Letter>,
    pub(super) marks: StreamVec<'scope, Epoch, MarkOf>,
    pub(super) activator: Activator,
}

type Builder<T> = CapacityContainerBuilder<Vec<T>>;
type Output<T> = OutputBuilder<Epoch, Builder<T>>;

/// The outputs of a door, in the order of its capabilities.
struct Outputs<T: 'static> {
    events: Output<Event<T>>,
    late: Output<Letter>,
    dead: Output<Letter>,
    marks: Output<MarkOf>,
    /// A test: events go through the codec.
    round_trip: bool,
}

impl<T: State> Outputs<T> {
    /// Sends what the door has staged in its epoch, and then the mark.
    fn send(&mut self, held: &[Capability<Epoch>], door: &mut Door<T>, mark: Option<Mark>) {
        let staged = &mut door.state;
        if self.round_trip {
            for event in &mut staged.events {
                let back = codec::round_trip(event);
                *event = back.unwrap_or_else(|error| panic!("{error}"));
            }
        }
        if !staged.events.is_empty() {
            let mut events = self.events.activate();
            events.session(&held[0]).give_container(&mut staged.events);
            staged.events.clear();
        }
        if !staged.late.is_empty() {
            let mut late = self.late.activate();
            late.session(&held[1]).give_iterator(staged.late.drain(..));
        }
        if !staged.dead.is_empty() {
            let mut dead = self.dead.activate();
            dead.session(&held[2]).give_iterator(staged.dead.drain(..));
        }
        if let Some(mark) = mark {
            let mut marks = self.marks.activate();
            marks
                .session(&held[3])
                .give(MarkOf::new(door.worker, mark, door.state.largest()));
        }
    }
}

/// Lets go of all epochs before `epoch`.
fn advance(held: &mut [Capability<Epoch>], epoch: Epoch) {
    for capability in held {
        capability.downgrade(&epoch);
    }
}

/// The timely operator around a door.
pub(super) fn send<'scope, T: State>(
    cx: &Rc<Context<'scope>>,
    mut door: Door<T>,
) -> Sent<'scope, T> {
    let mut builder = OperatorBuilder::new("source".to_owned(), cx.scope);
    let address = builder.operator_info().address;
    let activator = cx.scope.activator_for(Rc::clone(&address));
    open(cx, &mut door, &address);
    let (to_events, events) = builder.new_output();
    let (to_late, late) = builder.new_output();
    let (to_dead, dead) = builder.new_output();
    let (to_marks, marks) = builder.new_output();
    let mut outputs = Outputs {
        events: Output::from(to_events),
        late: Output::from(to_late),
        dead: Output::from(to_dead),
        marks: Output::from(to_marks),
        round_trip: cx.round_trip,
    };
    let running = cx.operator(&format!("source {}", door.port));
    let (probe, again) = (cx.probe.clone(), cx.scope.activator_for(address));
    builder.build(move |capabilities| {
        let mut kept = Some(capabilities);
        move |_frontiers| {
            Running::set(&running);
            let Some(held) = kept.as_mut() else { return };
            let complete = probe.with_frontier(|frontier| frontier.first().copied());
            let mut next = door.wake(complete).and_then(|()| door.work(complete));
            while let Ok(work) = next {
                outputs.send(held, &mut door, work.mark());
                match work {
                    Work::Staged => {
                        next = door.work(complete);
                        continue;
                    }
                    Work::Cut(epoch, _) => {
                        advance(held, epoch);
                        again.activate();
                    }
                    Work::Wait(None) => {}
                    Work::Wait(Some(Duration::ZERO)) => again.activate(),
                    Work::Wait(Some(pause)) => again.activate_after(pause),
                    Work::End(_) | Work::Stop => kept = None,
                }
                return;
            }
            if let Err(error) = next {
                door.control.fail(error); // the capability is kept
            }
        }
    });
    Sent {
        events,
        late,
        dead,
        marks,
        activator,
    }
}

/// Opens what is bound to the door's port, which can be woken from now on.
fn open<T>(cx: &Context<'_>, door: &mut Door<T>, address: &Rc<[usize]>) {
    let Some(plugs) = Plugs::of(cx) else { return };
    let again_from_afar = cx.scope.worker().sync_activator_for(address.to_vec());
    // A worker that is gone needs no waking.
    let waker = Waker::new(move || _ = again_from_afar.activate());
    plugs.pace.register(door.id, waker.clone());
    let on_change = waker.clone();
    cx.control.on_change(move || on_change.wake());
    if let Some(checkpoints) = &cx.checkpoints {
        let wanted = waker.clone();
        checkpoints.on_want(move || wanted.wake());
    }
    plugs
        .doors
        .borrow_mut()
        .push(cx.scope.activator_for(Rc::clone(address)));
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
