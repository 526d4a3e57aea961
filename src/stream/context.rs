//! What all steps of one worker's dataflow share.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::scheduling::Activator;

use super::{Closings, Control, Description, Flow, Param, ParamText};
use crate::error::{Error, Result};
use crate::event::Letter;
use crate::observe::{Board, Budget, Metrics, WorkerMetrics};
use crate::state::Checkpoints;
use crate::time::Epoch;

/// Streams of letters that nobody has taken yet.
#[derive(Default)]
pub(crate) struct Letters<'scope> {
    pub(crate) late: Vec<Option<StreamVec<'scope, Epoch, Letter>>>,
    pub(crate) dead: Vec<Option<StreamVec<'scope, Epoch, Letter>>>,
    /// Results that are too large for their sinks. They go with other dead letters; a job that has
    /// no port for those has none for these.
    pub(crate) refused: Vec<StreamVec<'scope, Epoch, Letter>>,
    pub(crate) takes_refused: Rc<Cell<bool>>,
}

/// Where the letters of a stream are to be found in [`Letters`], as long as they are at hand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LettersAt {
    pub(crate) late: Option<usize>,
    pub(crate) dead: Option<usize>,
}

impl LettersAt {
    /// Puts the dead letters of an operator where they can be taken.
    pub(crate) fn dead<'scope>(
        cx: &Context<'scope>,
        letters: StreamVec<'scope, Epoch, Letter>,
    ) -> Self {
        let dead = &mut cx.letters.borrow_mut().dead;
        dead.push(Some(letters));
        Self {
            late: None,
            dead: Some(dead.len() - 1),
        }
    }
}

/// The operator that runs on this thread, to be named should it panic.
pub(crate) struct Running;

thread_local! {
    static RUNNING: RefCell<Option<Rc<str>>> = const { RefCell::new(None) };
}

impl Running {
    /// Called once an activation.
    pub(crate) fn set(operator: &Rc<str>) {
        // A thread that ends has nobody to tell.
        let _ = RUNNING.try_with(|running| running.replace(Some(Rc::clone(operator))));
    }

    /// The operator that this thread runs, as the subject of a sentence; another part of the
    /// engine runs none.
    pub(crate) fn name() -> String {
        let running = RUNNING.try_with(|running| running.borrow().clone());
        match running.ok().flatten() {
            Some(operator) => format!("operator `{operator}`"),
            None => "the engine".to_owned(),
        }
    }
}

/// What the operators of one worker share while they run.
pub(crate) struct Shared {
    pub(crate) worker: usize,
    pub(crate) workers: usize,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Arc<Board>,
    /// What all state of the process may take.
    pub(crate) budget: Arc<Budget>,
    pub(crate) pressure: Pressure,
    /// What the connectors need to find their bindings; this layer does not know them.
    pub(crate) plugs: Rc<dyn Any>,
    /// `None`: the run makes no checkpoints.
    pub(crate) checkpoints: Option<Arc<Checkpoints>>,
    /// Whether everything exchanged or kept is sent through the codec once: tests do.
    pub(crate) round_trip: bool,
}

impl Shared {
    pub(crate) fn count(&self) -> &WorkerMetrics {
        self.metrics.worker(self.worker)
    }
}

/// One worker's dataflow under construction.
pub(crate) struct Context<'scope> {
    pub(crate) scope: Scope<'scope, Epoch>,
    /// Stands behind every sink.
    pub(crate) probe: ProbeHandle<Epoch>,
    pub(crate) params: Arc<BTreeMap<String, String>>,
    pub(crate) description: RefCell<Description>,
    pub(crate) letters: RefCell<Letters<'scope>>,
    /// Each source, and when what it feeds can take no more.
    pub(crate) doors: RefCell<Vec<(Arc<str>, Closings)>>,
    pub(crate) shared: Rc<Shared>,
}

impl std::ops::Deref for Context<'_> {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Context<'_> {
    /// Notes that the description asks for nonsense; the job does not start.
    pub(crate) fn refuse(&self, why: impl Into<String>) {
        self.description.borrow_mut().errors.push(Error::usage(why));
    }

    /// The name of an operator, for errors: the second `map` of a job is `map 2`.
    pub(crate) fn operator(&self, name: &str) -> Rc<str> {
        let mut description = self.description.borrow_mut();
        let named = description.operators.entry(name.to_owned()).or_insert(0);
        *named += 1;
        match *named {
            1 => Rc::from(name),
            nth => Rc::from(format!("{name} {nth}")),
        }
    }

    /// Notes that `operator` keeps state, and what must not change under it.
    pub(crate) fn keeps_state(&self, operator: &str, shape: &str) {
        let shape = (operator.to_owned(), shape.to_owned());
        self.description.borrow_mut().stateful.push(shape);
    }

    /// Notes a step for `describe`.
    pub(crate) fn step(&self, step: impl Into<String>) {
        self.description.borrow_mut().steps.push(step.into());
    }
}

impl Flow<'_> {
    /// The job's parameter `name`, as set by `--set NAME=VALUE`, or `default`.
    ///
    /// # Errors
    /// The value that was set cannot be read as the type of `default`, or the name was declared
    /// with another default before.
    ///
    /// # Example
    /// ```
    /// # use anabranch::prelude::*;
    /// fn describe(flow: &Flow<'_>) -> Result {
    ///     let size = flow.param("size", Duration::from_mins(1), "length of a window")?;
    ///     # assert_eq!(size, Duration::from_secs(60));
    ///     # drop(flow.source::<i64>("in").json());
    ///     Ok(())
    /// }
    /// # Job::new("params", describe).describe(&Settings::new()).unwrap();
    /// ```
    pub fn param<P: Param>(&self, name: &str, default: P, help: &str) -> Result<P> {
        let name = name.replace('_', "-");
        let text = ParamText {
            name: name.clone(),
            kind: P::KIND,
            default: default.show(),
            help: help.to_owned(),
        };
        self.cx.description.borrow_mut().declare(text)?;
        match self.cx.params.get(&name) {
            None => Ok(default),
            Some(given) => P::parse(given).map_err(|why| {
                Error::usage(format!(
                    "parameter `{name}`: expected {}, found `{given}`",
                    P::KIND
                ))
                .because(why)
            }),
        }
    }
}

/// How much encoded output waits on this worker, and who waits for it to fall.
///
/// A stateful operator that fires stops while a sink is full, so that closing a large window costs
/// a bounded buffer and not a copy of the window. What waits for a commit stops only those that are
/// behind its checkpoint, too: the commit waits for all others.
#[derive(Default)]
pub(crate) struct Pressure {
    bytes: Cell<usize>,
    /// Bytes that wait for a commit, beside those.
    behind: Cell<usize>,
    limit: Cell<usize>,
    waiting: RefCell<Vec<Activator>>,
}

impl Pressure {
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self {
            limit: Cell::new(limit),
            ..Self::default()
        }
    }

    /// Whether it is for whoever is `behind` a checkpoint that is not committed, or is not.
    pub(crate) fn is_high(&self, behind: bool) -> bool {
        let held = if behind { self.behind.get() } else { 0 };
        self.bytes.get() + held > self.limit.get()
    }

    /// Wakes `activator` once, when it is low again.
    pub(crate) fn wait(&self, activator: Activator) {
        self.waiting.borrow_mut().push(activator);
    }

    /// `now` bytes wait where `before` did: those that may be written, and those that may not.
    pub(crate) fn change(&self, before: [usize; 2], now: [usize; 2]) {
        self.bytes.set(self.bytes.get() + now[0] - before[0]);
        self.behind.set(self.behind.get() + now[1] - before[1]);
        if !self.is_high(false) {
            self.waiting
                .borrow_mut()
                .drain(..)
                .for_each(|activator| activator.activate());
        }
    }
}
