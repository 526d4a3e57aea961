//! Builds the dataflow of one worker from a job's description.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::operators::Concatenate;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};

use super::worker::operator_panicked;
use super::{Plan, Run};
use crate::connectors::write_letters;
use crate::error::{Error, Result};
use crate::event::Letter;
use crate::observe::{Board, Budget, Metrics};
use crate::state::Checkpoints;
use crate::stream::{Context, Control, Description, Flow, PortKind, Pressure, Running, Shared};
use crate::time::{Closing, Epoch};

/// A job's description: runs once on every worker.
pub(crate) type Describe = dyn Fn(&Flow<'_>) -> Result + Send + Sync;

/// What all workers of a run share.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Arc<Board>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) params: Arc<BTreeMap<String, String>>,
    pub(crate) checkpoints: Option<Arc<Checkpoints>>,
    pub(crate) round_trip: bool,
    /// Bytes of encoded output that may wait on a worker.
    pub(crate) pressure: usize,
}

impl Common {
    pub(crate) fn of(plan: &Plan, run: &Run, checkpoints: Option<Arc<Checkpoints>>) -> Self {
        Self {
            control: Arc::clone(&run.control),
            metrics: Arc::clone(&run.metrics),
            board: Arc::clone(&run.board),
            budget: Arc::clone(&run.budget),
            params: Arc::clone(&plan.params),
            checkpoints,
            round_trip: plan.round_trip,
            pressure: plan.buffer_bytes / 4 / plan.workers,
        }
    }
}

/// A dataflow that was built.
pub(crate) struct Built {
    pub(crate) shared: Rc<Shared>,
    pub(crate) probe: ProbeHandle<Epoch>,
    pub(crate) description: Description,
}

/// Builds the dataflow in `scope`. Letters that the description does not take go to the ports
/// `late` and `dead`.
pub(crate) fn build(
    scope: Scope<'_, Epoch>,
    job: &Describe,
    common: &Common,
    plugs: Rc<dyn Any>,
) -> Built {
    let shared = Rc::new(Shared {
        worker: scope.worker().index(),
        workers: scope.worker().peers(),
        control: Arc::clone(&common.control),
        metrics: Arc::clone(&common.metrics),
        board: Arc::clone(&common.board),
        budget: Arc::clone(&common.budget),
        pressure: Pressure::with_limit(common.pressure),
        plugs,
        checkpoints: common.checkpoints.clone(),
        round_trip: common.round_trip,
    });
    let cx = Rc::new(Context {
        scope,
        probe: ProbeHandle::new(),
        params: Arc::clone(&common.params),
        description: RefCell::default(),
        letters: RefCell::default(),
        doors: RefCell::default(),
        shared: Rc::clone(&shared),
    });
    Running::set(&Rc::from("the description of the dataflow"));
    let described = job(&Flow { cx: Rc::clone(&cx) });
    let letters = std::mem::take(&mut *cx.letters.borrow_mut());
    let late = letters.late.into_iter().flatten().collect();
    let mut dead: Vec<_> = letters.dead.into_iter().flatten().collect();
    // A job that declares the port itself takes no letters of results: those end the run.
    if !dead.is_empty() && !is_declared(&cx, "dead") {
        dead.extend(letters.refused);
        letters.takes_refused.set(true);
    }
    for (name, letters) in [("late", late), ("dead", dead)] {
        letter_port(&cx, name, letters);
    }
    let mut description = cx.description.take();
    description.lateness = cx.doors.borrow().iter().map(lateness).collect();
    if let Err(error) = described {
        description.errors.push(error);
    }
    Built {
        shared,
        probe: cx.probe.clone(),
        description,
    }
}

fn letter_port<'scope>(
    cx: &Rc<Context<'scope>>,
    name: &str,
    letters: Vec<StreamVec<'scope, Epoch, Letter>>,
) {
    if letters.is_empty() || is_declared(cx, name) {
        return;
    }
    let all = cx.scope.concatenate(letters);
    write_letters(cx, all, name);
}

fn is_declared(cx: &Context<'_>, name: &str) -> bool {
    let is = |port: &crate::stream::Port| port.kind == PortKind::Sink && port.name == name;
    cx.description.borrow().ports.iter().any(is)
}

fn lateness((source, closings): &(Arc<str>, crate::stream::Closings)) -> (String, String) {
    let rules: Vec<_> = closings.borrow().iter().map(Closing::to_string).collect();
    let rule = if rules.is_empty() {
        "never".to_owned()
    } else {
        rules.join(", or ")
    };
    (source.to_string(), rule)
}

/// What `job` declares, without running it.
///
/// # Errors
/// The first thing that it asks for and that cannot be.
pub(crate) fn describe(
    job: &Arc<Describe>,
    params: &Arc<BTreeMap<String, String>>,
) -> Result<Description> {
    let (job, params) = (Arc::clone(job), Arc::clone(params));
    let described = timely::execute(timely::Config::thread(), move |worker| {
        let common = Common {
            control: Arc::default(),
            metrics: Arc::new(Metrics::new(1)),
            board: Arc::default(),
            budget: Arc::default(),
            params: Arc::clone(&params),
            checkpoints: None,
            round_trip: false,
            pressure: usize::MAX,
        };
        let nothing: Rc<dyn Any> = Rc::new(());
        let built = catch_unwind(AssertUnwindSafe(|| {
            worker.dataflow(|scope| build(scope, &*job, &common, nothing))
        }));
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
        match built {
            Ok(built) => built.description,
            Err(panic) => Description {
                errors: vec![operator_panicked(&*panic)],
                ..Description::default()
            },
        }
    });
    let ended = |why: String| Error::new(crate::error::ErrorKind::Panic, why);
    let mut description = described
        .map_err(ended)?
        .join()
        .pop()
        .ok_or_else(|| Error::operating("the description gave nothing"))?
        .map_err(ended)?;
    if description.errors.is_empty() {
        Ok(description)
    } else {
        Err(description.errors.remove(0))
    }
}
