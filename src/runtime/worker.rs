//! The workers of a run: each builds the dataflow, and steps or parks until it is complete.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use timely::dataflow::ProbeHandle;
use timely::scheduling::Activator;
use timely::worker::Worker;
use tracing::info;

use super::build::{Built, Common, build};
use super::checkpointer::Checkpointer;
use super::ownership::{self, Owned};
use super::rebuild::{asked, rebuild};
use super::recovery::{self, Checkpointing, Claim, Recovered};
use super::{Plan, create};
use crate::connectors::{CLOSE_MAX, Pace, Plugs, check_dead_share};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Board, Budget, CheckpointBoard, Metrics, Summary, now, since};
use crate::state::{Checkpoints, Note};
use crate::stream::{Control, Running};
use crate::time::Epoch;

/// A worker that nobody wakes looks around after this long.
const PARK: Duration = Duration::from_millis(250);

/// The handles of a run: to watch it and to stop it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Arc<Board>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) checkpoints: Arc<CheckpointBoard>,
}

impl Run {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            budget: Arc::new(Budget::new(plan.memory, plan.state_max)),
            ..Self::with_workers(plan.workers)
        }
    }

    /// Handles of a run of nothing yet.
    pub(crate) fn with_workers(workers: usize) -> Self {
        Self {
            control: Arc::default(),
            metrics: Arc::new(Metrics::new(workers)),
            board: Arc::default(),
            budget: Arc::default(),
            checkpoints: Arc::default(),
        }
    }
}

/// Runs `plan` until its sources have ended, it is stopped, or it fails.
///
/// # Errors
/// The first operating error of any worker; a panic, with the operator's name; an interrupted
/// bounded run.
pub(crate) fn run(mut plan: Plan, run: &Run) -> Result<Summary> {
    let owned = own(&plan, run)?;
    let mut claim = Claim {
        seen: owned.as_ref().map_or(0, |owned| owned.seen),
        fenced: false,
    };
    if let Some(again) = plan.rebuild.take() {
        claim = rebuild(&plan, *again, run, claim)?;
    }
    let recovered = recovery::recover(&plan, claim)?;
    prepare(&plan, recovered.as_ref())?;
    tell_sinks_of_stop(&plan, run);
    let bounded = plan.is_bounded();
    let sinks = plan.sinks.clone();
    let limit = plan.tuning.dead_limit;
    let begin = |found: Recovered| Checkpointing::begin(found.checkpointer(&plan, run)?);
    let checkpointing = recovered.map(begin).transpose()?;
    let checkpoints = checkpointing
        .as_ref()
        .map(|all| Arc::clone(&all.checkpoints));
    let outcome = execute(plan, run, checkpoints);
    let ended = checkpointing
        .map(|all| all.end(run.control.is_faulty()))
        .transpose();
    let fault = run.control.take_fault();
    let last = ended.as_ref().ok().and_then(Option::as_ref);
    let alone = is_alone(fault.as_ref(), owned.as_ref(), last);
    let ended = ended.map(|_| ());
    let outcome = outcome
        .and(ended)
        .and_then(|()| check_dead_share(limit, &Summary::of(&run.metrics), &run.board));
    let stopped = run.control.is_stopping() && bounded;
    let complete = outcome.is_ok() && fault.is_none() && !stopped;
    for sink in &sinks {
        let finished = sink.finish(complete);
        if complete {
            finished?;
        }
    }
    match fault {
        Some(fault) if !stopped && alone => {
            let what = "Kafka gave up a transaction that took longer than transaction.timeout.ms, \
                        or another instance has taken over; a restart goes on";
            Err(Error::operating(what).because(fault))
        }
        Some(fault) if !stopped => Err(fault),
        _ if stopped => {
            let why = "interrupted: the input was not read to its end";
            Err(Error::new(
                ErrorKind::Interrupted(run.control.signal()),
                why,
            ))
        }
        _ => outcome.map(|()| Summary::of(&run.metrics)),
    }
}

/// Prepares sources, and then sinks.
fn prepare(plan: &Plan, recovered: Option<&Recovered>) -> Result {
    at_once(&plan.sources, |source| source.prepare())?;
    make_output_dir(plan)?;
    // Files are cut to what was committed: whoever was stopped on its way here, and taken over,
    // does not know of what its successor has committed.
    recovered.map_or(Ok(()), |found| found.store.check_newest())?;
    at_once(&plan.sinks, |sink| sink.prepare())
}

fn make_output_dir(plan: &Plan) -> Result {
    let Some(dir) = &plan.output_dir else {
        return Ok(());
    };
    let about = || format!("folder `{}` cannot be made", dir.display());
    std::fs::create_dir_all(dir).map_err(|why| Error::operating(about()).because(why))
}

/// Has this run own the job, until what is returned is dropped; `None`: it keeps no state.
fn own(plan: &Plan, run: &Run) -> Result<Option<Owned>> {
    if plan.rebuild.is_some() {
        asked(plan)?;
    }
    for made in create(plan)? {
        info!("{made}");
    }
    let own = |own| ownership::own(own, &run.control);
    plan.checkpoint.as_ref().map(own).transpose()
}

/// Whether Kafka has shut out this run, and nobody has taken its job: it says the same of a
/// transaction that it gave up because it took too long.
fn is_alone(fault: Option<&Error>, owned: Option<&Owned>, last: Option<&Checkpointer>) -> bool {
    let shut_out = fault.is_some_and(|fault| fault.kind() == ErrorKind::Owned);
    let (true, Some(owned), Some(last)) = (shut_out, owned, last) else {
        return false;
    };
    last.store.check_newest().is_ok() && !owned.is_taken_over(last)
}

/// Neither the sinks nor the control are kept alive by it.
fn tell_sinks_of_stop(plan: &Plan, run: &Run) {
    let control = Arc::downgrade(&run.control);
    let sinks: Vec<_> = plan.sinks.iter().map(Arc::downgrade).collect();
    let tell = move || {
        if control
            .upgrade()
            .is_some_and(|control| control.is_stopping())
        {
            let sinks = sinks.iter().filter_map(Weak::upgrade);
            sinks.for_each(|sink| sink.stopping());
        }
    };
    tell(); // it may have been asked before
    run.control.on_change(tell);
}

/// Does `work` for all of `these` at the same time: most of it is waiting for brokers.
///
/// # Errors
/// The first of `these` that fails, in their order; of usage errors all.
pub(super) fn at_once<T: Sync>(these: &[T], work: impl Fn(&T) -> Result + Sync) -> Result {
    let [first, rest @ ..] = these else {
        return Ok(());
    };
    thread::scope(|scope| {
        let rest: Vec<_> = rest.iter().map(|it| scope.spawn(|| work(it))).collect();
        let first = work(first);
        let rest: Vec<_> = rest.into_iter().map(ScopedJoinHandle::join).collect();
        rest.into_iter().fold(first, |before, result| {
            let result = result.unwrap_or_else(|panic| Err(panicked("a connector", &*panic)));
            match (before, result) {
                (Err(before), Err(next)) => Err(both(before, &next)),
                (before, result) => before.and(result),
            }
        })
    })
}

/// Whoever has to change a call, or to create topics, is told of all that is amiss.
fn both(first: Error, second: &Error) -> Error {
    let usage = [&first, second].map(Error::kind) == [ErrorKind::Usage; 2];
    let (one, other) = (first.to_string(), second.to_string());
    if usage && !one.contains(&other) {
        return Error::usage(format!("{one}; {other}"));
    }
    first
}

pub(super) fn execute(plan: Plan, run: &Run, checkpoints: Option<Arc<Checkpoints>>) -> Result {
    let config = match plan.workers {
        1 => timely::Config::thread(),
        workers => timely::Config::process(workers),
    };
    let common = Common::of(&plan, run, checkpoints);
    let pace = Arc::new(Pace::new(plan.sources.len() * plan.workers));
    let guards = timely::execute(config, move |worker| {
        let life = &common.metrics.worker(worker.index()).life;
        let driven = catch_unwind(AssertUnwindSafe(|| {
            let mut driven = Driven::begin(worker, &plan, &common, &pace);
            while driven.goes_on() {
                worker.step_or_park(Some(PARK));
                driven.look();
            }
        }));
        match driven {
            Ok(()) => {}
            Err(panic) => common.control.fail(operator_panicked(&*panic)),
        }
        life.end();
        if common.control.is_faulty() {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        }
    });
    let ended = |why: String| Error::new(ErrorKind::Panic, why);
    for worker in guards.map_err(ended)?.join() {
        worker.map_err(ended)?;
    }
    Ok(())
}

/// The dataflow of a worker, between two steps: until everything is written, or the run has failed.
pub(super) struct Driven {
    built: Built,
    pub(super) plugs: Rc<Plugs>,
    bounded: bool,
    /// The first epoch that is not complete.
    complete: Option<Epoch>,
    /// When it first saw that it is to stop.
    stopped: Option<Instant>,
}

impl Driven {
    /// Builds the dataflow of `plan`, and tells so.
    pub(super) fn begin(
        worker: &mut Worker,
        plan: &Plan,
        common: &Common,
        pace: &Arc<Pace>,
    ) -> Self {
        let plugs = Rc::new(Plugs {
            sources: plan.sources.clone(),
            sinks: plan.sinks.clone(),
            pace: Arc::clone(pace),
            tuning: plan.tuning.clone(),
            unclosed: Cell::new(0),
            doors: RefCell::default(),
        });
        let any: Rc<dyn Any> = Rc::clone(&plugs) as Rc<dyn Any>;
        let built = worker.dataflow(|scope| build(scope, &*plan.job, common, any));
        built.shared.count().life.begin();
        if let Some(checkpoints) = &built.shared.checkpoints {
            checkpoints.tell(Note::Built {
                operators: built.description.stateful.len(),
                doors: built.description.lateness.len(),
            });
        }
        Self {
            complete: first_open(&built.probe),
            built,
            plugs,
            bounded: plan.is_bounded(),
            stopped: None,
        }
    }

    /// Whether there is another step.
    pub(super) fn goes_on(&mut self) -> bool {
        let Built { shared, probe, .. } = &self.built;
        if shared.control.is_faulty() || probe.done() && self.plugs.unclosed.get() == 0 {
            return false;
        }
        if shared.control.is_stopping() {
            // What a bounded run has written so far is discarded: there is nothing to wait for.
            let asked = *self.stopped.get_or_insert_with(now);
            if self.bounded && shared.checkpoints.is_none() || since(asked) > CLOSE_MAX {
                let why = "stopped: results were not all taken";
                shared.control.fail(Error::operating(why));
                return false;
            }
        }
        true
    }

    /// Looks at what a step has changed.
    pub(super) fn look(&mut self) {
        let Built { shared, probe, .. } = &self.built;
        let told = shared.count();
        told.life.step();
        let reached = first_open(probe);
        if reached == self.complete {
            return;
        }
        // An epoch is complete: doors may open another.
        self.complete = reached;
        let epoch = reached.map_or(u64::MAX, Epoch::number);
        told.complete.store(epoch, Relaxed);
        // One worker tells for all, and only who waits for it.
        if let Some(checkpoints) = shared.checkpoints.as_ref().filter(|all| !all.is_settled())
            && shared.worker == 0
        {
            checkpoints.tell(Note::Complete(reached));
        }
        let doors = self.plugs.doors.borrow();
        doors.iter().for_each(Activator::activate);
    }
}

fn first_open(probe: &ProbeHandle<Epoch>) -> Option<Epoch> {
    probe.with_frontier(|frontier| frontier.first().copied())
}

/// The error of a panic in the operator that runs on this thread.
pub(super) fn operator_panicked(panic: &(dyn Any + Send)) -> Error {
    panicked(&Running::name(), panic)
}

/// The error of a panic in `what`.
pub(crate) fn panicked(what: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::new(ErrorKind::Panic, format!("{what} panicked: {text}"))
}

#[cfg(test)]
mod tests;
