//! The one timely operator in which every stateful operator runs.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::{Capability, Operator};

use crate::state::{State, codec};
use crate::stream::{Context, Running};
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

    /// Takes some records of the current epoch, in no order that means anything. All epochs before
    /// it are complete.
    fn apply(&mut self, records: &mut Vec<Self::In>, out: &mut Vec<Self::Out>);

    /// The current epoch is complete, and `progress` holds at its end. Appends results to `out`
    /// until about `room` are there; returns whether there are more, and is then called again.
    fn advance(&mut self, progress: Progress, room: usize, out: &mut Vec<Self::Out>) -> bool;

    /// The input has ended or the run is stopped: what is still held will not leave. Tells the
    /// counters.
    fn end(&mut self) {}
}

struct Stash<In> {
    capability: Capability<Epoch>,
    batches: VecDeque<Vec<In>>,
    progress: Option<Progress>,
}

impl<In> Stash<In> {
    fn new(capability: Capability<Epoch>) -> Self {
        Self {
            capability,
            batches: VecDeque::new(),
            progress: None,
        }
    }
}

type Builder<Out> = CapacityContainerBuilder<Vec<Out>>;

/// Runs `logic` epoch by epoch on `data`, distributed by `pact`, and `progress`.
///
/// Timely may deliver `e + 1` before `e` is complete: later epochs are stashed. Each activation
/// does a bounded amount of work, and pauses while the sinks of this worker are full.
pub(crate) fn by_epoch<'scope, L, P>(
    cx: &Rc<Context<'scope>>,
    data: StreamVec<'scope, Epoch, L::In>,
    progress: StreamVec<'scope, Epoch, Progress>,
    pact: P,
    name: &'static str,
    mut logic: L,
) -> StreamVec<'scope, Epoch, L::Out>
where
    L: ByEpoch + 'static,
    P: ParallelizationContract<Epoch, Vec<L::In>>,
{
    let scope = cx.scope;
    let shared = Rc::clone(&cx.shared);
    data.binary_frontier::<_, Builder<L::Out>, _, _, _, _>(
        progress,
        pact,
        Pipeline,
        name,
        |_, info| {
            let activator = scope.activator_for(info.address);
            let mut open: BTreeMap<Epoch, Stash<L::In>> = BTreeMap::new();
            let mut now = Progress::START;
            let mut out = Vec::new();
            move |(data, data_frontier), (marks, marks_frontier), output| {
                Running::set(name);
                data.for_each_time(|time, batches| {
                    let stash = open
                        .entry(*time.time())
                        .or_insert_with(|| Stash::new(time.retain(output.output_index())));
                    stash.batches.extend(batches.map(std::mem::take));
                });
                marks.for_each_time(|time, batches| {
                    let stash = open
                        .entry(*time.time())
                        .or_insert_with(|| Stash::new(time.retain(output.output_index())));
                    stash.progress = batches
                        .flat_map(|batch| batch.drain(..))
                        .last()
                        .or(stash.progress);
                });
                let mut work = 0;
                while let Some(mut first) = open.first_entry() {
                    let epoch = *first.key();
                    // Applying it while an earlier one may still come would make the state no cut.
                    if data_frontier.less_than(&epoch) || marks_frontier.less_than(&epoch) {
                        break;
                    }
                    let stash = first.get_mut();
                    let mut session = output.session(&stash.capability);
                    while let Some(mut records) = stash.batches.pop_front() {
                        work += records.len();
                        if shared.round_trip {
                            records = records.iter().map(through_codec).collect();
                        }
                        logic.apply(&mut records, &mut out);
                        session.give_container(&mut out);
                        out.clear(); // a recycled vector may still hold what it held
                        if work > WORK_MAX {
                            activator.activate();
                            return;
                        }
                    }
                    if data_frontier.less_equal(&epoch) || marks_frontier.less_equal(&epoch) {
                        break;
                    }
                    now = stash.progress.unwrap_or(now);
                    loop {
                        if shared.pressure.is_high() {
                            shared.pressure.wait(activator.clone());
                            stash.progress = Some(now);
                            return;
                        }
                        let more = logic.advance(now, ROOM, &mut out);
                        work += out.len();
                        session.give_container(&mut out);
                        out.clear();
                        if !more {
                            break;
                        }
                        if work > WORK_MAX {
                            activator.activate();
                            return;
                        }
                    }
                    drop(session);
                    first.remove();
                }
                if data_frontier.is_empty() && marks_frontier.is_empty() && open.is_empty() {
                    logic.end();
                }
            }
        },
    )
}

fn through_codec<T: State>(value: &T) -> T {
    codec::round_trip(value).unwrap_or_else(|error| panic!("{error}"))
}
