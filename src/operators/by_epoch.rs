//! The one timely operator in which every stateful operator runs.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::{Capability, Operator};
use timely::progress::frontier::MutableAntichain;

use super::freezing::{Freezing, renew, track};
use crate::error::{Error, Result};
use crate::observe::Holding;
use crate::state::saved::Saved;
use crate::state::{Size, State, codec};
use crate::stream::{Context, Running, Shared};
use crate::time::{Epoch, Progress};

/// Records and results that one activation handles before it lets others run: a few milliseconds
/// at the slowest.
const WORK_MAX: usize = 16_384;
/// Results that an operator gives at a time.
pub(crate) const ROOM: usize = 1_024;

/// A stateful operator: records of an epoch, then its watermark, epoch after epoch.
pub(crate) trait ByEpoch {
    /// What comes.
    type In: State;
    /// What leaves.
    type Out: Clone + 'static;

    /// Whether what comes is part of the state, as it is.
    const KEEPS: bool = false;

    /// Takes some records of the current epoch, in no order that means anything. All epochs before
    /// it are complete.
    fn apply(&mut self, records: &mut Vec<Self::In>, out: &mut Vec<Self::Out>);

    /// The current epoch is complete, and `progress` holds at its end. Appends results to `out`
    /// until about `room` are there; returns whether there are more, and is then called again.
    fn advance(&mut self, progress: Progress, room: usize, out: &mut Vec<Self::Out>) -> bool;

    /// What its state takes: the sum over everything that it keeps in `state/`. Asked for when
    /// that may have changed by an eighth, so it may look at every table, but not at every entry.
    fn size(&self) -> Size;

    /// Shows `with` the piece of its state with this number, from 0: what `state/` keeps for it.
    /// Returns whether there is one.
    fn piece(&mut self, number: u8, with: &mut dyn FnMut(&mut dyn Saved)) -> bool;

    /// Its pieces are as they were at a checkpoint, with `progress` known there.
    fn loaded(&mut self, _progress: Progress) {}
}

struct Stash<In> {
    capability: Capability<Epoch>,
    batches: VecDeque<Vec<In>>,
    progress: Option<Progress>,
}

/// Why an activation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is nothing to do until something comes.
    Done,
    /// There is more to do, but others come first.
    Again,
    /// There is more to do when the sinks of this worker have room.
    Full,
    /// There is more to do when the disk has taken what it was given: in a moment.
    Later,
}

/// How long an operator waits for the disk.
const MOMENT: Duration = Duration::from_millis(1);

/// Epochs on their way through an operator.
struct Epochs<L: ByEpoch> {
    shared: Rc<Shared>,
    logic: L,
    open: BTreeMap<Epoch, Stash<L::In>>,
    now: Progress,
    out: Vec<L::Out>,
    /// Records and results of this activation.
    work: usize,
    held: Held,
    /// `None`: there are no checkpoints.
    freezing: Option<Freezing>,
    /// A record was looked at: it would come back from a checkpoint.
    checked: bool,
    /// A test: after each epoch the state goes through the codec.
    renews: bool,
}

/// What the operator's state took when it was last measured, and who is told.
struct Held {
    told: Arc<Holding>,
    entries: usize,
    /// Records and results since then.
    changes: usize,
}

impl Held {
    fn nothing(told: Arc<Holding>) -> Self {
        Self {
            told,
            entries: 0,
            changes: 0,
        }
    }
}

impl<L: ByEpoch> Epochs<L> {
    /// `freezing`: its part in checkpoints, and what was known where it goes on.
    fn new(
        shared: Rc<Shared>,
        logic: L,
        held: Held,
        freezing: Option<(Freezing, Progress)>,
    ) -> Self {
        let (freezing, now) = freezing.unzip();
        let (mut logic, renews) = (logic, shared.round_trip && freezing.is_none());
        if renews {
            track(&mut logic);
        }
        Self {
            shared,
            logic,
            renews,
            open: BTreeMap::new(),
            now: now.unwrap_or(Progress::START),
            out: Vec::new(),
            work: 0,
            held,
            freezing,
            checked: false,
        }
    }

    fn stash(
        &mut self,
        epoch: Epoch,
        capability: impl FnOnce() -> Capability<Epoch>,
    ) -> &mut Stash<L::In> {
        let fresh = || Stash {
            capability: capability(),
            batches: VecDeque::new(),
            progress: None,
        };
        self.open.entry(epoch).or_insert_with(fresh)
    }

    /// Applies and completes epochs in their order, as far as the two frontiers allow and as long
    /// as it may work. `give` sends what it has emitted.
    fn run(
        &mut self,
        frontiers: [&MutableAntichain<Epoch>; 2],
        mut give: impl FnMut(&Capability<Epoch>, &mut Vec<L::Out>),
    ) -> Turn {
        self.work = 0;
        loop {
            let first = self.open.first_key_value().map(|(epoch, _)| *epoch);
            if let Some(freezing) = &mut self.freezing {
                let frozen = freezing.freeze(&mut self.logic, frontiers, first, self.now);
                match frozen {
                    Ok(Turn::Done) => {}
                    Ok(turn) => return turn,
                    Err(error) => return self.fail(error),
                }
            }
            let Some((&epoch, stash)) = self.open.first_key_value() else {
                break;
            };
            // Applying it while an earlier one may still come would make the state no cut.
            if frontiers.iter().any(|frontier| frontier.less_than(&epoch)) {
                break;
            }
            let capability = stash.capability.clone();
            if let Err(error) = self.check_first(epoch) {
                return self.fail(error);
            }
            let mut give = |out: &mut Vec<L::Out>| give(&capability, out);
            let applied = self.apply(epoch, &mut give);
            if applied != Turn::Done {
                return applied;
            }
            if frontiers.iter().any(|frontier| frontier.less_equal(&epoch)) {
                break;
            }
            let completed = self.complete(epoch, &mut give);
            if completed != Turn::Done {
                return completed;
            }
            self.open.remove(&epoch);
            self.measure();
            if self.renews
                && let Err(error) = renew(&mut self.logic)
            {
                return self.fail(error);
            }
        }
        Turn::Done
    }

    /// Nothing is applied any more, so nothing is committed.
    fn fail(&self, error: Error) -> Turn {
        self.shared.control.fail(error);
        Turn::Done
    }

    /// Looks at the first record of a run that saves its state: what would break at a recovery ends
    /// it before anything of that is committed.
    fn check_first(&mut self, epoch: Epoch) -> Result {
        let unchecked = L::KEEPS && !self.checked;
        let Some(freezing) = self.freezing.as_ref().filter(|_| unchecked) else {
            return Ok(());
        };
        let Some(first) = self.open[&epoch].batches.iter().flatten().next() else {
            return Ok(());
        };
        self.checked = true;
        codec::check(first).map_err(|why| freezing.cannot_keep(why))
    }

    /// Tells what the state takes, and ends the run where that is too much. Measured anew only when
    /// it may have changed by an eighth, so that it costs next to nothing a record.
    fn measure(&mut self) {
        let Held {
            told,
            entries,
            changes,
        } = &mut self.held;
        if *changes == 0 || *changes < *entries / 8 {
            return;
        }
        let size = self.logic.size();
        told.set(size.entries, size.bytes);
        (*entries, *changes) = (size.entries, 0);
        let Shared { metrics, board, .. } = &*self.shared;
        if let Err(error) = self.shared.budget.check(metrics, board) {
            self.shared.control.fail(error);
        }
    }

    fn apply(&mut self, epoch: Epoch, give: &mut impl FnMut(&mut Vec<L::Out>)) -> Turn {
        let stash = self.open.get_mut(&epoch).expect("the epoch is open");
        while let Some(mut records) = stash.batches.pop_front() {
            self.work += records.len();
            self.held.changes += records.len();
            if self.shared.round_trip {
                records = records.iter().map(through_codec).collect();
            }
            self.logic.apply(&mut records, &mut self.out);
            if !self.out.is_empty() {
                give(&mut self.out);
                self.out.clear(); // a recycled vector may still hold what it held
            }
            if self.work > WORK_MAX {
                return Turn::Again;
            }
        }
        Turn::Done
    }

    fn complete(&mut self, epoch: Epoch, give: &mut impl FnMut(&mut Vec<L::Out>)) -> Turn {
        let stash = self.open.get_mut(&epoch).expect("the epoch is open");
        self.now = stash.progress.unwrap_or(self.now);
        loop {
            let checkpoints = self.shared.checkpoints.as_ref();
            let behind = checkpoints.is_some_and(|it| !it.may_write(epoch));
            if self.shared.pressure.is_high(behind) {
                return Turn::Full;
            }
            let more = self.logic.advance(self.now, ROOM, &mut self.out);
            // What has more to do has done a room's worth, if only of events that led to nothing.
            let done = if more { ROOM } else { self.out.len() };
            self.work += done;
            self.held.changes += done;
            if !self.out.is_empty() {
                give(&mut self.out);
                self.out.clear();
            }
            if !more {
                return Turn::Done;
            }
            if self.work > WORK_MAX {
                return Turn::Again;
            }
        }
    }
}

type Builder<Out> = CapacityContainerBuilder<Vec<Out>>;

/// Runs `logic` epoch by epoch on `data`, distributed by `pact`, and `progress`.
///
/// `shape` says of the operator what must not change while there is state of it.
///
/// Timely may deliver `e + 1` before `e` is complete: later epochs are stashed. Each activation
/// does a bounded amount of work, and pauses while the sinks of this worker are full.
pub(crate) fn by_epoch<'scope, L, P>(
    cx: &Rc<Context<'scope>>,
    data: StreamVec<'scope, Epoch, L::In>,
    progress: StreamVec<'scope, Epoch, Progress>,
    pact: P,
    (name, shape): (&str, &str),
    logic: L,
) -> StreamVec<'scope, Epoch, L::Out>
where
    L: ByEpoch + 'static,
    P: ParallelizationContract<Epoch, Vec<L::In>>,
{
    let (scope, shared) = (cx.scope, Rc::clone(&cx.shared));
    let running = cx.operator(name);
    let held = Held::nothing(cx.metrics.holding(cx.worker, &running));
    cx.keeps_state(&running, shape);
    let mut logic = logic;
    let freezing = Freezing::begin(cx, &running, &mut logic);
    data.binary_frontier::<_, Builder<L::Out>, _, _, _, _>(
        progress,
        pact,
        Pipeline,
        name,
        move |_, info| {
            let activator = scope.activator_for(info.address);
            let mut epochs = Epochs::new(shared, logic, held, freezing);
            move |(data, data_frontier), (marks, marks_frontier), output| {
                Running::set(&running);
                let port = output.output_index();
                data.for_each_time(|time, batches| {
                    let stash = epochs.stash(*time.time(), || time.retain(port));
                    stash.batches.extend(batches.map(std::mem::take));
                });
                marks.for_each_time(|time, batches| {
                    let stash = epochs.stash(*time.time(), || time.retain(port));
                    let last = batches.flat_map(|batch| batch.drain(..)).last();
                    stash.progress = last.or(stash.progress);
                });
                let frontiers = [data_frontier, marks_frontier];
                let give = |capability: &Capability<Epoch>, out: &mut Vec<L::Out>| {
                    output.session(capability).give_container(out);
                };
                match epochs.run(frontiers, give) {
                    Turn::Done => {}
                    Turn::Again => activator.activate(),
                    Turn::Later => activator.activate_after(MOMENT),
                    Turn::Full => epochs.shared.pressure.wait(activator.clone()),
                }
            }
        },
    )
}

fn through_codec<T: State>(value: &T) -> T {
    codec::round_trip(value).unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use timely::dataflow::operators::generic::operator::source;

    use super::*;
    use crate::observe::Metrics;
    use crate::state::Checkpoints;
    use crate::state::checkpoints::Continued;
    use crate::stream::Pressure;

    /// Gives nothing, and keeps nothing.
    struct Nothing;

    impl ByEpoch for Nothing {
        type In = ();
        type Out = ();

        fn apply(&mut self, _: &mut Vec<()>, _: &mut Vec<()>) {}

        fn advance(&mut self, _: Progress, _: usize, _: &mut Vec<()>) -> bool {
            false
        }

        fn size(&self) -> Size {
            Size::default()
        }

        fn piece(&mut self, _: u8, _: &mut dyn FnMut(&mut dyn Saved)) -> bool {
            false
        }
    }

    fn completes(capability: &Capability<Epoch>) {
        let (tell, _notes) = channel();
        let checkpoints = Arc::new(Checkpoints::new(tell, true, Continued::default()));
        let metrics = Arc::new(Metrics::new(1));
        let held = Held::nothing(metrics.holding(0, "nothing"));
        let shared = Rc::new(Shared {
            checkpoints: Some(Arc::clone(&checkpoints)),
            worker: 0,
            workers: 1,
            control: Arc::default(),
            metrics,
            board: Arc::default(),
            budget: Arc::default(),
            pressure: Pressure::with_limit(100),
            plugs: Rc::new(()),
            round_trip: false,
        });
        let mut epochs = Epochs::new(Rc::clone(&shared), Nothing, held, None);
        let [declared, behind] = [3, 4].map(Epoch::new);
        for epoch in [declared, behind] {
            epochs.stash(epoch, || capability.delayed(&epoch));
        }
        let mut give = |_: &mut Vec<()>| {};
        let mut turns = || [declared, behind].map(|epoch| epochs.complete(epoch, &mut give));
        checkpoints.want(false);
        checkpoints.cut(declared, declared.next(), false);
        assert_eq!(turns(), [Turn::Done, Turn::Done]);
        shared.pressure.change([0, 0], [0, 101]);
        // The commit waits for the first of them.
        assert_eq!(turns(), [Turn::Done, Turn::Full]);
        shared.pressure.change([0, 0], [101, 0]);
        assert_eq!(turns(), [Turn::Full, Turn::Full]);
        shared.pressure.change([101, 101], [0, 101]);
        checkpoints.commit();
        assert_eq!(turns(), [Turn::Done, Turn::Done]);
    }

    #[test]
    fn only_what_is_behind_a_checkpoint_waits_with_what_waits_for_its_commit() {
        timely::execute_directly(|worker| {
            worker.dataflow(|scope| {
                source::<Epoch, Builder<()>, _, _>(scope, "capability", |capability, _| {
                    completes(&capability);
                    |_| {}
                });
            });
        });
    }
}
