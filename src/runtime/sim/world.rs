//! The world of a seed: who is next, and what befalls whom.

mod ends;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Flaw;
use super::broker::Broker;
use super::checks::Checks;
use super::dice::{Dice, Trace};
use super::instance::Instance;
use super::life::Life;
use super::played::{Counts, Played};
use super::story::{Fate, Story, signed};
use crate::observe::simulated::Clock;
use crate::runtime::Describe;
use crate::state::lossy::LossyDisk;

/// A job that is not done by then will never be.
const TURNS_MAX: u64 = 200_000;
/// So often something else may happen in the midst of a step that is in the midst of a step.
const DEPTH_MAX: usize = 5;
/// A year, in milliseconds.
const YEAR: i64 = 365 * 24 * 3_600 * 1_000;
/// When the job is done, whoever sleeps wakes up, and has so many turns to do harm.
const AFTER: u64 = 60;

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// See the module.
pub(super) struct World {
    pub(super) story: Story,
    pub(super) log: Arc<Vec<Vec<String>>>,
    pub(super) describe: Arc<Describe>,
    pub(super) flaw: Option<Flaw>,
    pub(super) dice: Dice,
    pub(super) clock: Clock,
    pub(super) broker: Arc<Broker>,
    pub(super) disk: RefCell<LossyDisk>,
    /// The state is gone, and has to be made again.
    pub(super) rebuild: Cell<bool>,
    trace: Trace,
    instances: RefCell<Vec<Rc<Instance>>>,
    started: Cell<usize>,
    depth: Cell<usize>,
    turns: Cell<u64>,
    disk_failed: Cell<bool>,
    /// A partition to which nobody writes.
    silent: Cell<usize>,
    seen: Cell<u64>,
    checks: RefCell<Checks>,
    done: Cell<bool>,
    wrong: RefCell<Option<String>>,
    counts: RefCell<Counts>,
}

/// Plays the story of `seed`.
pub(super) fn play(seed: u64, flaw: Option<Flaw>, trace: &Trace) -> Played {
    let world = Rc::new(World::new(Story::of(seed), flaw, trace));
    world.clock.install();
    WORLD.with_borrow_mut(|it| *it = Some(Rc::clone(&world)));
    while !world.is_over() {
        world.turn();
    }
    for _ in 0..AFTER {
        if world.wrong.borrow().is_none() {
            world.turn();
        }
    }
    world.instances.borrow_mut().clear();
    WORLD.with_borrow_mut(|it| *it = None);
    Clock::remove();
    let world = Rc::into_inner(world).expect("nobody else has it");
    let mut counts = world.counts.into_inner();
    let checks = world.checks.into_inner();
    (counts.commits, counts.full_saves) = (checks.commits, checks.full_saves);
    counts.second_sources = u64::from(world.story.second.is_some());
    Played {
        story: world.story,
        hash: trace.hash(),
        turns: world.turns.get(),
        counts,
        wrong: world.wrong.into_inner(),
    }
}

/// `life` is in the midst of a step: others may do something. Only the thread of the world may.
pub(super) fn meanwhile(life: &Life) {
    if let Some(world) = WORLD.with_borrow(Option::clone) {
        world.meanwhile(life);
    }
}

impl World {
    fn new(story: Story, flaw: Option<Flaw>, trace: &Trace) -> Self {
        let disk = LossyDisk::new();
        if flaw == Some(Flaw::NoSync) {
            disk.leave_out(crate::state::lossy::Sync::Files);
        }
        let last = story.log.len() - 1;
        let shown = (0..=last).map(|nth| (!(story.joins && nth == last)).then_some(0));
        Self {
            broker: Arc::new(Broker::new(shown.collect())),
            log: Arc::new(story.records()),
            describe: story.describe(),
            dice: Dice::new(story.seed ^ 0xA5A5_5A5A_1234_4321),
            clock: Clock::default(),
            disk: RefCell::new(disk),
            trace: trace.clone(),
            silent: Cell::new(last),
            story,
            flaw,
            rebuild: Cell::default(),
            instances: RefCell::default(),
            started: Cell::default(),
            depth: Cell::default(),
            turns: Cell::default(),
            disk_failed: Cell::default(),
            seen: Cell::default(),
            checks: RefCell::default(),
            done: Cell::default(),
            wrong: RefCell::default(),
            counts: RefCell::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.done.get() || self.wrong.borrow().is_some()
    }

    fn say_wrong(&self, what: String) {
        self.wrong.borrow_mut().get_or_insert(what);
    }

    pub(super) fn count(&self, which: impl Fn(&mut Counts) -> &mut u64) {
        *which(&mut self.counts.borrow_mut()) += 1;
    }

    fn meanwhile(&self, life: &Life) {
        self.check();
        let is_own = |it: &&Rc<Instance>| it.life.number == life.number;
        let own = self.instances.borrow().iter().find(is_own).cloned();
        if let Some(own) = own {
            self.befall(&own);
        }
        if self.depth.get() < DEPTH_MAX && self.dice.one_in(5) {
            self.others(self.dice.between(1, 8));
        }
    }

    /// What befalls an instance in the midst of its work, except death.
    fn befall(&self, own: &Instance) {
        let due = |at| own.life.effects() > at && !own.befell.replace(true);
        match own.fate {
            Fate::Sleeps { at, turns } if due(at) => {
                self.count(|counts| &mut counts.zombies);
                self.trace.say(own.life.number, "falls asleep");
                own.asleep.set(true);
                self.others(turns);
                own.asleep.set(false);
                self.trace.say(own.life.number, "wakes up");
            }
            Fate::DiskFails { at, fault } if due(at) => {
                self.count(|counts| &mut counts.disk_faults);
                self.disk_failed.set(true);
                self.disk.borrow().fail_after(self.dice.below(4), fault);
            }
            Fate::TimesOut { at } if due(at) => {
                self.count(|counts| &mut counts.time_outs);
                self.broker.time_out();
            }
            Fate::Asked { at } => {
                if let Some(body) = own.body()
                    && due(at)
                {
                    self.count(|counts| &mut counts.stops);
                    body.run.control.stop(15);
                }
            }
            _ => {}
        }
    }

    /// Others have so many turns.
    fn others(&self, turns: u64) {
        self.depth.set(self.depth.get() + 1);
        for _ in 0..turns {
            if !self.is_over() {
                self.turn();
            }
        }
        self.depth.set(self.depth.get() - 1);
    }

    /// Something happens.
    fn turn(&self) {
        self.turns.set(self.turns.get() + 1);
        if self.turns.get() > TURNS_MAX {
            let (reached, shown) = (
                self.checks.borrow().reached(&self.story),
                self.broker.shown(),
            );
            let instances = self.instances.borrow();
            let bodies = instances.iter().filter_map(|it| it.body());
            let stand: String = bodies.map(|body| body.stand()).collect();
            self.say_wrong(format!(
                "the job goes on for ever: {reached} of {shown:?}\n{stand}"
            ));
            return;
        }
        self.bury();
        let awake: Vec<_> = {
            let instances = self.instances.borrow();
            let awake = instances.iter().filter(|it| !it.asleep.get());
            awake.map(Rc::clone).collect()
        };
        if awake.is_empty() {
            // What is done is not started again.
            if !self.done.get() {
                self.start();
            }
            return self.check();
        }
        let one = &awake[self.dice.index(awake.len())];
        match (self.dice.below(20), one.body()) {
            (0..11, Some(body)) => body.step(self.dice.index(one.workers)),
            (11..16, Some(body)) => body.checkpoint(self.dice.between(1, 9)),
            (0..16, None) | (16, _) => self.show(),
            (17 | 18, _) => self.pass(),
            _ => self.arrive(),
        }
        self.check();
    }

    /// Time passes; somebody may set the time of day, to where it may not have been for decades.
    fn pass(&self) {
        self.clock.advance(self.some_time());
        if self.dice.one_in(40) {
            let forth = [-1, 1][self.dice.index(2)];
            let by = forth * signed(self.dice.between(10, 60)) * YEAR;
            self.clock.jump(by);
            self.count(|counts| &mut counts.clock_jumps);
            self.trace.say(0, &format!("the clock jumps by {by} ms"));
        }
    }

    fn some_time(&self) -> Duration {
        let millis = match self.dice.below(60) {
            0 => self.dice.between(500, 2_000),
            1..4 => self.dice.between(50, 500),
            _ => self.dice.between(1, 15),
        };
        Duration::from_millis(millis)
    }

    /// Somebody writes to the log.
    fn show(&self) {
        let partitions = self.log.len();
        if self.dice.one_in(10) {
            // One more than there are: all are written to.
            self.silent.set(self.dice.index(partitions + 1));
        }
        let partition = self.dice.index(partitions);
        if partition != self.silent.get() {
            let all = self.log[partition].len() as u64;
            self.broker.show(partition, self.dice.between(1, 10), all);
        }
    }

    /// A late request arrives, or there is room again.
    fn arrive(&self) {
        self.broker.make_room();
        let late = self.broker.late();
        if late > 0 && self.dice.one_in(3) {
            let request = self.broker.deliver(self.dice.index(late));
            self.count(|counts| &mut counts.late_requests);
            self.trace.say(0, &format!("late: {request:?}"));
        }
    }

    /// A supervisor starts an instance, for none is awake.
    fn start(&self) {
        let number = self.started.get();
        self.started.set(number + 1);
        self.count(|counts| &mut counts.starts);
        let fate = self.story.fates.get(number);
        let fate = fate.copied().unwrap_or(Fate::Lives);
        let dies_at = match fate {
            Fate::Killed { at } | Fate::PowerFails { at } | Fate::Lost { at } => Some(at),
            _ => None,
        };
        let life = Life::new(number + 1, dies_at, &self.trace);
        let workers = if self.dice.one_in(4) { 2 } else { 1 };
        self.trace.say(number + 1, "starts");
        let instance = Rc::new(Instance::new(self, life, fate, workers));
        let mut instances = self.instances.borrow_mut();
        instances.push(Rc::clone(&instance));
        let alone = instances.len() == 1;
        instances
            .iter()
            .for_each(|it| it.alone.set(it.alone.get() && alone));
        drop(instances);
        if let Err(error) = instance.start(self) {
            self.end(&instance, &error);
        }
    }

    /// Looks at what became visible.
    fn check(&self) {
        let changes = self.broker.changes();
        if changes == self.seen.replace(changes) {
            return;
        }
        let (visible, progress) = (self.broker.visible(), self.broker.progress());
        let mut checks = self.checks.borrow_mut();
        let disk = self.disk.borrow();
        let looked = checks.look(&self.story, visible, progress.as_deref(), &disk);
        if let Err(why) = looked {
            self.say_wrong(why);
        }
        if checks.is_done(&self.story) {
            self.done.set(true);
        }
    }
}
