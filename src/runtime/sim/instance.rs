//! An instance of the job: a start, and then workers and a checkpointer that go on when they are
//! told to.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use timely::communication::{Allocator, WorkerGuards, allocator};
use timely::scheduling::Activator;
use timely::worker::{Config, Worker};

use super::commit::Producer;
use super::disk::SimDisk;
use super::life::Life;
use super::ports::{SimSink, SimSource};
use super::story::{Fate, SOURCES};
use super::world::World;
use super::{DIR, Flaw};
use crate::connectors::{Commit, DeadLimit, Pace};
use crate::error::{Error, Result};
use crate::observe::simulated::Clock;
use crate::runtime::build::Common;
use crate::runtime::checkpointer::Checkpointer;
use crate::runtime::progress_record::ProgressRecord;
use crate::runtime::worker::{Driven, Run, operator_panicked, panicked};
use crate::runtime::{Plan, Settings, rebuild, recovery};
use crate::state::disk::Disk;
use crate::state::durable;
use crate::state::store::newest_generation;

/// Bytes from which on logs are written anew: so few that it happens.
const SMALL: u64 = 200;

/// See the module.
pub(super) struct Instance {
    pub(super) life: Arc<Life>,
    pub(super) fate: Fate,
    pub(super) asleep: Cell<bool>,
    /// What was to befall it, except death, did.
    pub(super) befell: Cell<bool>,
    /// No other lived while it did.
    pub(super) alone: Cell<bool>,
    /// How often producers had been shut out when it began.
    pub(super) shut_out: u64,
    pub(super) workers: usize,
    pub(super) producer: Arc<Producer>,
    disk: Arc<dyn Disk>,
    body: RefCell<Option<Rc<Body>>>,
}

/// What runs.
pub(super) struct Body {
    pub(super) run: Run,
    workers: Vec<RefCell<Site>>,
    /// `None`: it is in the midst of a turn.
    checkpointer: RefCell<Option<Checkpointer>>,
    /// It reads the log again, up to here.
    reading: Option<ProgressRecord>,
    /// Of workers with threads; dropped after them.
    _threads: Option<WorkerGuards<()>>,
}

/// Where a worker is.
enum Site {
    /// On this thread.
    Here {
        driven: Box<Driven>,
        worker: Box<Worker>,
    },
    /// On a thread of its own, which waits to be told.
    There {
        step: Sender<()>,
        stepped: Receiver<bool>,
    },
    Over,
}

impl Instance {
    pub(super) fn new(world: &World, life: Arc<Life>, fate: Fate, workers: usize) -> Self {
        let draws = (&world.dice, &world.clock);
        let disk = world.disk.borrow().clone();
        let producer = Producer::new(&world.broker, &life, draws, world.flaw, &disk);
        let sim = SimDisk {
            disk,
            life: Arc::clone(&life),
        };
        Self {
            asleep: Cell::new(false),
            befell: Cell::new(false),
            alone: Cell::new(true),
            shut_out: world.broker.shut_out(),
            workers,
            producer,
            disk: Arc::new(sim),
            body: RefCell::default(),
            life,
            fate,
        }
    }

    pub(super) fn body(&self) -> Option<Rc<Body>> {
        self.body.borrow().clone()
    }

    /// From the start to the first step.
    pub(super) fn start(&self, world: &World) -> Result {
        durable::make_folders(&*self.disk, Path::new(DIR))
            .map_err(|why| Error::operating("state directory").because(why))?;
        if world.rebuild.get() {
            self.read_again(world)
        } else {
            self.go_on(world)
        }
    }

    fn settings(&self, world: &World, bounded: bool) -> Settings {
        let story = &world.story;
        let mut settings = Settings::new()
            .workers(self.workers)
            .state_dir(DIR)
            .checkpoint_interval(Duration::from_millis(30))
            .idle_timeout(story.idle)
            .max_ahead(None)
            .max_dead(DeadLimit::Off)
            .memory(1 << 30);
        for (port, partitions) in SOURCES.into_iter().zip(story.sources()) {
            let source = SimSource {
                port,
                partitions,
                log: Arc::clone(&world.log),
                broker: Arc::clone(&world.broker),
                dice: world.dice.clone(),
                bounded,
                cut: Mutex::default(),
            };
            settings = settings.bind_source(port, source);
        }
        for topic in story.topics() {
            let producer = Arc::clone(&self.producer);
            settings = settings.bind_sink(topic, SimSink { topic, producer });
        }
        settings.cut = Some((story.cut, None));
        settings
    }

    fn plan(world: &World, settings: &Settings) -> Result<Plan> {
        let mut plan = Plan::new("simulated", &world.describe, settings)?;
        plan.tuning.drift_max = world.story.drift;
        let checkpoint = plan.checkpoint.as_mut().expect("it has a directory");
        checkpoint.small = SMALL;
        Ok(plan)
    }

    /// The plan of the job itself, which commits.
    fn job(&self, world: &World) -> Result<Plan> {
        let mut plan = Self::plan(world, &self.settings(world, world.story.bounded))?;
        let checkpoint = plan.checkpoint.as_mut().expect("it has a directory");
        checkpoint.commit = Some(Arc::clone(&self.producer) as Arc<dyn Commit>);
        Ok(plan)
    }

    fn go_on(&self, world: &World) -> Result {
        let plan = self.job(world)?;
        let claim = recovery::Claim {
            seen: newest_generation(&*self.disk, Path::new(super::DIR))?,
            fenced: false,
        };
        self.producer.prepare()?;
        let own = plan.checkpoint.clone().expect("it has a directory");
        let found = recovery::find(&plan, own, &self.disk, claim)?;
        let run = Run::new(&plan);
        let mut checkpointer = found.checkpointer(&plan, &run)?;
        if world.flaw == Some(Flaw::NoHold) {
            let checkpoints = Arc::get_mut(&mut checkpointer.checkpoints);
            checkpoints.expect("nobody else has it yet").holds = false;
        }
        self.begin(world, plan, run, checkpointer, None);
        Ok(())
    }

    fn read_again(&self, world: &World) -> Result {
        let plan = self.job(world)?;
        let settings = self.settings(world, true).reading_again(&plan.sink_names)?;
        let again = Self::plan(world, &settings)?;
        let seen = newest_generation(&*self.disk, Path::new(super::DIR))?;
        self.producer.prepare()?;
        let reading = rebuild::begin(&plan, again, &self.disk, seen)?;
        let run = Run::new(&reading.again);
        let checkpointer = reading.found.checkpointer(&reading.again, &run)?;
        let record = Some(reading.record);
        self.begin(world, reading.again, run, checkpointer, record);
        Ok(())
    }

    fn begin(
        &self,
        world: &World,
        plan: Plan,
        run: Run,
        checkpointer: Checkpointer,
        reading: Option<ProgressRecord>,
    ) {
        let checkpoints = Some(Arc::clone(&checkpointer.checkpoints));
        let common = Common::of(&plan, &run, checkpoints);
        let pace = Arc::new(Pace::new(plan.sources.len() * plan.workers));
        let (workers, threads) = match plan.workers {
            1 => (vec![here(&plan, &common, &pace)], None),
            _ => there(plan, common, pace, &world.clock),
        };
        *self.body.borrow_mut() = Some(Rc::new(Body {
            run,
            workers: workers.into_iter().map(RefCell::new).collect(),
            checkpointer: RefCell::new(Some(checkpointer)),
            reading,
            _threads: threads,
        }));
    }

    /// All workers are done: what comes then. Returns whether the instance is done, too.
    pub(super) fn finish(&self, world: &World) -> Result<bool> {
        let body = self.body().expect("it has begun");
        let checkpointer = body.checkpointer.borrow_mut().take();
        let (Some(record), Some(checkpointer)) = (&body.reading, checkpointer) else {
            return Ok(true);
        };
        checkpointer.checkpoints.release();
        *self.body.borrow_mut() = None;
        if body.run.control.is_stopping() {
            return Ok(true);
        }
        let commit = Arc::clone(&self.producer) as Arc<dyn Commit>;
        rebuild::settle(checkpointer, &commit, record)?;
        let mut partitions = record.sources.iter().flat_map(|source| &source.partitions);
        if partitions.any(|state| !state.left.is_empty()) {
            world.count(|counts| &mut counts.left_again);
        }
        world.rebuild.set(false);
        self.go_on(world)?;
        Ok(false)
    }
}

impl Body {
    /// Whether all that runs is at rest, and all workers are done.
    pub(super) fn is_over(&self) -> bool {
        let over =
            |site: &RefCell<Site>| site.try_borrow().is_ok_and(|it| matches!(*it, Site::Over));
        self.workers.iter().all(over) && self.checkpointer.borrow().is_some()
    }

    /// Where it stands, in words.
    pub(super) fn stand(&self) -> String {
        let checkpointer = self.checkpointer.borrow();
        let checkpoints = checkpointer.as_ref().map(|it| (&it.checkpoints, &it.state));
        format!("{:?}\n{checkpoints:?}", self.run)
    }

    pub(super) fn step(&self, nth: usize) {
        // If it is in the midst of a step, it has no other.
        let Ok(mut site) = self.workers[nth].try_borrow_mut() else {
            return;
        };
        let goes_on = match &mut *site {
            Site::Here { driven, worker } => step(driven, worker, &self.run),
            Site::There { step, stepped } => step.send(()).is_ok() && stepped.recv() == Ok(true),
            Site::Over => false,
        };
        if !goes_on {
            *site = Site::Over;
        }
    }

    /// The checkpointer takes some notes.
    pub(super) fn checkpoint(&self, notes: u64) {
        let Some(mut checkpointer) = self.checkpointer.borrow_mut().take() else {
            return;
        };
        let turned = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..notes {
                if !checkpointer.goes_on() {
                    break;
                }
                let note = checkpointer.notes.try_recv().ok();
                checkpointer.turn(note)?;
            }
            Ok(())
        }));
        let turned = turned.unwrap_or_else(|panic| Err(panicked("checkpoints", &*panic)));
        if let Err(error) = turned {
            self.run.control.fail(error);
        }
        *self.checkpointer.borrow_mut() = Some(checkpointer);
    }
}

/// A worker on this thread.
fn here(plan: &Plan, common: &Common, pace: &Arc<Pace>) -> Site {
    let allocator = Allocator::Thread(allocator::Thread::default());
    let mut worker = Worker::new(Config::default(), allocator, None);
    let driven = Driven::begin(&mut worker, plan, common, pace);
    Site::Here {
        driven: Box::new(driven),
        worker: Box::new(worker),
    }
}

/// One step; returns whether there is another.
fn step(driven: &mut Driven, worker: &mut Worker, run: &Run) -> bool {
    let stepped = catch_unwind(AssertUnwindSafe(|| {
        if !driven.goes_on() {
            return false;
        }
        let doors = driven.plugs.doors.borrow();
        doors.iter().for_each(Activator::activate);
        drop(doors);
        worker.step();
        driven.look();
        true
    }));
    stepped.unwrap_or_else(|panic| {
        run.control.fail(operator_panicked(&*panic));
        false
    })
}

/// Workers on threads of their own. The first step of each builds its dataflow.
fn there(
    plan: Plan,
    common: Common,
    pace: Arc<Pace>,
    clock: &Clock,
) -> (Vec<Site>, Option<WorkerGuards<()>>) {
    let (mut sites, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..plan.workers {
        let ((step, told), (tell, stepped)) = (channel(), channel());
        sites.push(Site::There { step, stepped });
        ends.push(Some((told, tell)));
    }
    let (ends, clock) = (Mutex::new(ends), clock.clone());
    let config = timely::Config::process(plan.workers);
    let guards = timely::execute(config, move |worker| {
        clock.install();
        let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, tell) = ends[worker.index()].take().expect("one for each");
        drop(ends);
        let run = Run {
            control: Arc::clone(&common.control),
            ..Run::with_workers(1)
        };
        let mut driven = None;
        while told.recv().is_ok() {
            let goes_on = match &mut driven {
                Some(driven) => step(driven, worker, &run),
                none => {
                    let begin = || Driven::begin(worker, &plan, &common, &pace);
                    match catch_unwind(AssertUnwindSafe(begin)) {
                        Ok(built) => *none = Some(built),
                        Err(panic) => run.control.fail(panicked("building", &*panic)),
                    }
                    none.is_some()
                }
            };
            if tell.send(goes_on).is_err() || !goes_on {
                break;
            }
        }
        drop(driven);
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    });
    (sites, Some(guards.expect("threads")))
}
