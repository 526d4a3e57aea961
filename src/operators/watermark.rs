//! The watermark as a stream: marks of all doors of a source in, watermark and horizon of each
//! epoch out, the same on every worker.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Broadcast;
use timely::progress::frontier::MutableAntichain;

use crate::observe::SourceStatus;
use crate::state::{Checkpoints, Note};
use crate::stream::{Context, Running};
use crate::time::watermark::{Mark, SourceClock};
use crate::time::{Epoch, EventTime, Progress, Watermarks};

/// A mark on its way: door, and what it says. Flat, for it crosses workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkOf {
    pub(crate) door: u32,
    kind: u8,
    /// The watermark; of what has ended, the largest event time that it gave.
    time: EventTime,
}

impl MarkOf {
    /// What `door` says, of whose records `largest` is the largest event time.
    pub(crate) fn new(door: usize, mark: Mark, largest: EventTime) -> Self {
        let (kind, time) = match mark {
            Mark::Reading(watermark) => (0, watermark),
            Mark::Idle => (1, EventTime::NEVER),
            Mark::Ended => (2, largest),
        };
        Self {
            door: u32::try_from(door).expect("few workers"),
            kind,
            time,
        }
    }

    fn mark(self) -> Mark {
        match self.kind {
            0 => Mark::Reading(self.time),
            1 => Mark::Idle,
            _ => Mark::Ended,
        }
    }
}

/// What this worker knows of the watermark of a source: the last epoch whose marks are all in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The first epoch whose watermark is not known yet.
    pub(crate) next: Epoch,
    /// The horizon of the epoch before it.
    pub(crate) horizon: EventTime,
}

type Builder = CapacityContainerBuilder<Vec<Progress>>;

/// Sends each mark to every worker and computes watermark and horizon of each epoch. A record
/// leaves whenever they change. `learned` hears of each epoch that is complete.
pub(crate) fn watermark<'scope>(
    cx: &Rc<Context<'scope>>,
    marks: StreamVec<'scope, Epoch, MarkOf>,
    (source, rules): (u16, Watermarks),
    status: Arc<SourceStatus>,
    mut learned: impl FnMut(Known) + 'static,
) -> StreamVec<'scope, Epoch, Progress> {
    let doors = cx.workers;
    let running = cx.operator("watermark");
    let checkpoints = cx.checkpoints.clone();
    let restored = checkpoints.as_ref().and_then(|all| all.progress(source));
    // One worker tells for all: they know the same.
    let checkpoints = checkpoints.filter(|_| cx.worker == 0);
    marks
        .broadcast()
        .unary_frontier::<Builder, _, _, _>(Pipeline, "watermark", |_, _| {
            // Told anew to operators behind it: they forget by it.
            let mut now = Progress::START;
            let mut known_now = restored.unwrap_or(now);
            let mut clock = SourceClock::new(doors, known_now.watermark);
            let mut open: BTreeMap<Epoch, _> = BTreeMap::new();
            let mut cut = checkpoints.map(|checkpoints| Cut::new(checkpoints, source));
            let mut last = EventTime::NEVER;
            let mut known = Epoch::FIRST;
            move |(input, frontier), output| {
                Running::set(&running);
                input.for_each_time(|time, batches| {
                    let (_, marks) = open
                        .entry(*time.time())
                        .or_insert_with(|| (time.retain(output.output_index()), Vec::new()));
                    marks.extend(batches.flat_map(|batch| batch.drain(..)));
                });
                while let Some(first) = open.first_entry() {
                    if frontier.less_equal(first.key()) {
                        break;
                    }
                    if let Some(cut) = &mut cut {
                        cut.tell(frontier, Some(*first.key()), known_now);
                    }
                    let (capability, marks): (_, Vec<MarkOf>) = first.remove();
                    let new = close(&mut clock, &mut last, &marks, rules);
                    let before = std::mem::replace(&mut now, new);
                    known_now = new;
                    if before != now {
                        status.advance(now.watermark);
                        output.session(&capability).give(now);
                    }
                }
                if let Some(cut) = &mut cut {
                    cut.tell(frontier, open.keys().next().copied(), known_now);
                }
                let next = frontier.frontier().first().copied();
                if let Some(next) = next.filter(|next| *next > known) {
                    let horizon = known_now.horizon;
                    learned(Known { next, horizon });
                    known = next;
                }
            }
        })
}

/// Tells what was known of a source at the end of each checkpoint's epoch.
struct Cut {
    checkpoints: Arc<Checkpoints>,
    source: u16,
    /// The first epoch that may be declared next.
    next: Epoch,
}

impl Cut {
    fn new(checkpoints: Arc<Checkpoints>, source: u16) -> Self {
        Self {
            checkpoints,
            source,
            next: Epoch::FIRST,
        }
    }

    /// `now` is known, and `first` the first epoch whose marks are not counted in it.
    fn tell(&mut self, frontier: &MutableAntichain<Epoch>, first: Option<Epoch>, now: Progress) {
        let Some((epoch, _)) = self.checkpoints.declared(self.next) else {
            return;
        };
        if frontier.less_equal(&epoch) || first.is_some_and(|first| first <= epoch) {
            return;
        }
        self.next = epoch.next();
        let (source, progress) = (self.source, now);
        self.checkpoints.tell(Note::Watermark { source, progress });
    }
}

/// What is known at the end of an epoch, whose marks are `marks`. `last` is the largest event time
/// of the doors that have ended, and told when all have.
fn close(
    clock: &mut SourceClock,
    last: &mut EventTime,
    marks: &[MarkOf],
    rules: Watermarks,
) -> Progress {
    for mark in marks {
        if mark.mark() == Mark::Ended {
            *last = mark.time.max(*last);
        }
        clock.mark(mark.door as usize, mark.mark());
    }
    let watermark = clock.close();
    let ended = watermark == EventTime::END;
    Progress {
        watermark,
        horizon: watermark.minus(rules.allowed),
        last: if ended { *last } else { EventTime::NEVER },
    }
}

/// What is known where two streams meet: the smaller of both, epoch by epoch.
pub(crate) fn meet<'scope>(
    first: StreamVec<'scope, Epoch, Progress>,
    second: StreamVec<'scope, Epoch, Progress>,
) -> StreamVec<'scope, Epoch, Progress> {
    first.binary_frontier::<_, Builder, _, _, _, _>(second, Pipeline, Pipeline, "meet", |_, _| {
        let mut open: BTreeMap<Epoch, (_, [Option<Progress>; 2])> = BTreeMap::new();
        let mut sides = [Progress::START; 2];
        let mut now = Progress::START;
        move |(first, first_frontier), (second, second_frontier), output| {
            first.for_each_time(|time, batches| {
                let stash = open
                    .entry(*time.time())
                    .or_insert_with(|| (time.retain(output.output_index()), [None; 2]));
                stash.1[0] = batches
                    .flat_map(|batch| batch.drain(..))
                    .last()
                    .or(stash.1[0]);
            });
            second.for_each_time(|time, batches| {
                let stash = open
                    .entry(*time.time())
                    .or_insert_with(|| (time.retain(output.output_index()), [None; 2]));
                stash.1[1] = batches
                    .flat_map(|batch| batch.drain(..))
                    .last()
                    .or(stash.1[1]);
            });
            while let Some(earliest) = open.first_entry() {
                let epoch = earliest.key();
                if first_frontier.less_equal(epoch) || second_frontier.less_equal(epoch) {
                    break;
                }
                let (capability, news) = earliest.remove();
                for (side, new) in sides.iter_mut().zip(news) {
                    *side = new.unwrap_or(*side);
                }
                let met = sides[0].meet(sides[1]);
                if met != now {
                    now = met;
                    output.session(&capability).give(now);
                }
            }
        }
    })
}

/// What is known behind an operator that releases only what the horizon has passed.
pub(crate) fn settled(progress: StreamVec<'_, Epoch, Progress>) -> StreamVec<'_, Epoch, Progress> {
    use timely::dataflow::operators::vec::Map;
    progress.map(Progress::settled)
}
