//! The life of one job: its topics, its log, all that is done to it, and its end.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::arguments::{Arguments, Workers, name};
use super::checker::Checker;
use super::clock::now;
use super::deeds::{Moment, Plan};
use super::expected::{Expected, Port};
use super::follower::{self, Follower, read_again};
use super::load::Load;
use super::log::Log;
use super::model::{TOLD, Variant};
use super::plant::agrees;
use super::process::Instance;
use super::progress::{Names, job_name};
use super::proxy::Proxy;
use super::summary::Totals;
use crate::oracle::Job;
use crate::oracle::text::Rng;
use crate::program::program;
use crate::topics::Topics;

/// Partitions of each output.
const OUTPUTS: usize = 3;
/// Longer than any recovery takes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// For how long a job may end with 1 after the broker or the network has failed.
pub(crate) const EXCUSED: Duration = Duration::from_mins(1);
/// A clean end takes 10 s at most; the machine may be busy.
const LEAVE: Duration = Duration::from_secs(20);
/// A job that has nothing to read is up after this time.
const QUIET: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(2);
/// Cuts that are computed from scratch.
const SLOW_CUTS: usize = 2;

/// Why a round ends before its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The checker has found something.
    Found,
    /// The job or the harness did not do what it should.
    Other(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// What all rounds share.
pub(crate) struct Stage<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) topics: &'a Topics,
    pub(crate) proxy: Option<&'a Proxy>,
    pub(crate) folder: PathBuf,
    /// A signal asks for an end, at which no job may be left behind.
    pub(crate) interrupted: Arc<AtomicBool>,
}

/// What a round has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) problems: Vec<String>,
    pub(crate) failure: Option<String>,
}

pub(crate) struct Round<'a> {
    pub(crate) stage: &'a Stage<'a>,
    pub(crate) totals: &'a mut Totals,
    plan: &'a Plan,
    log: Arc<Log>,
    /// The job's id in Kafka.
    id: String,
    outputs: follower::Topics,
    pub(crate) follower: Follower,
    pub(crate) load: Load,
    pub(crate) rng: Rng,
    pub(crate) instance: Instance,
    /// An instance that was stopped, and still believes to be the one.
    pub(crate) zombie: Option<Instance>,
    /// Generation and number of records before the instance was started.
    base: (u64, usize),
    /// The state dir was deleted when this was the generation, and is not back yet.
    rebuilds: Option<u64>,
    /// Until then the job may end with 1.
    pub(crate) excused: Instant,
    starts: usize,
}

/// Runs a round to its end; says what is wrong, if anything.
pub(crate) fn run(stage: &Stage<'_>, plan: &Plan, totals: &mut Totals) -> Found {
    let mut round = match Round::begin(stage, plan, totals) {
        Ok(round) => round,
        Err(why) => {
            return Found {
                problems: Vec::new(),
                failure: Some(why),
            };
        }
    };
    let ended = round.live().and_then(|()| round.end());
    let failure = match ended {
        Ok(()) | Err(Failure::Found) => None,
        Err(Failure::Other(why)) => Some(why),
    };
    let said = failure.map(|why| format!("{why}\nthe job said:\n{}", round.instance.said()));
    round.instance.kill();
    round.zombie = None;
    let checker = round.follower.checker();
    let problems = checker.problems.clone();
    round.totals.add_checker(&checker);
    drop(checker);
    if problems.is_empty() && said.is_none() {
        round.remove_topics();
    }
    Found {
        problems,
        failure: said,
    }
}

impl<'a> Round<'a> {
    fn begin(stage: &'a Stage<'a>, plan: &'a Plan, totals: &'a mut Totals) -> Result<Self, String> {
        let id = Topics::fresh("crash");
        let log = Log::make(plan.seed, plan.job, &format!("{id}-log"), plan.records);
        let log = Arc::new(log);
        totals.records += log.order.len();
        let bootstrap = stage.topics.bootstrap();
        let is_exact = !stage.arguments.at_least_once;
        let outputs = follower::Topics {
            bootstrap: bootstrap.to_owned(),
            outputs: ["results", "late", "dead"].map(|kind| format!("{id}.{kind}")),
            partitions: OUTPUTS,
            progress: is_exact.then(|| format!("{id}.progress")),
        };
        let count = |partitions: usize| i32::try_from(partitions).expect("few partitions");
        stage.topics.create(&log.topic, count(log.partitions.len()));
        for topic in &outputs.outputs {
            stage.topics.create(topic, count(OUTPUTS));
        }
        if let Some(progress) = &outputs.progress {
            let compact = [("cleanup.policy", "compact")];
            stage.topics.create_with(progress, 1, &compact);
        }
        let names = Names::of(&log, outputs.outputs.clone());
        let checker = Checker::new(Expected::of(&log), names, OUTPUTS, is_exact);
        let follower = Follower::start(&outputs, checker)?;
        let load = Load::start(bootstrap, &log, stage.arguments.rate)?;
        let idle = stage.folder.join("idle");
        let mut round = Self {
            stage,
            totals,
            plan,
            log,
            id,
            outputs,
            follower,
            load,
            rng: Rng(plan.seed ^ 0x10_0B),
            // Replaced at once; there is always one.
            instance: Instance::start(&mut Command::new("true"), &idle)?,
            zombie: None,
            base: (0, 0),
            rebuilds: None,
            excused: now(),
            starts: 0,
        };
        round.start(&[])?;
        Ok(round)
    }

    /// Does all that is planned.
    fn live(&mut self) -> Outcome {
        let deeds = &self.plan.deeds;
        for (nth, deed) in deeds.iter().enumerate() {
            self.load.until(nth + 1, deeds.len());
            self.act(*deed)?;
            self.totals.tell(deed);
        }
        Ok(())
    }

    fn remove_topics(&self) {
        let own = self.outputs.outputs.iter().chain(&self.outputs.progress);
        for topic in own.chain([&self.log.topic]) {
            self.stage.topics.delete(topic);
        }
    }

    // ------------------------------------------------------------------------------- the instance

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.stage.folder.join(format!("{}.state", self.id))
    }

    fn arguments(&mut self, more: &[&str]) -> Vec<String> {
        let direct = self.stage.topics.bootstrap().to_owned();
        let bootstrap = self.stage.proxy.map_or(direct, Proxy::bootstrap);
        let workers = match self.stage.arguments.workers {
            Workers::Always(count) => count,
            Workers::Random => 1 + self.rng.below(2),
        };
        let [results, late, dead] = &self.outputs.outputs;
        let (source, sink) = match self.plan.job {
            Job::BidStats => ("bids", "stats"),
            Job::UserActivity => ("events", "activity"),
        };
        let mut arguments = vec![
            format!("--bootstrap={bootstrap}"),
            format!("--job-id={}", self.id),
            format!("--source={source}=kafka:{}", self.log.topic),
            format!("--sink={sink}=kafka:{results}"),
            format!("--sink=late=kafka:{late}"),
            format!("--sink=dead=kafka:{dead}"),
            "--idle-timeout=off".to_owned(),
            format!("--workers={workers}"),
        ];
        let settings = self.log.params.settings();
        arguments.extend(settings.iter().map(|setting| format!("--set={setting}")));
        if !self.stage.arguments.at_least_once {
            let interval = humantime::format_duration(self.stage.arguments.interval);
            arguments.push(format!("--state-dir={}", self.state_dir().display()));
            arguments.push(format!("--checkpoint-interval={interval}"));
        }
        if self.zombie.is_some() {
            arguments.push("--take-over".to_owned());
        }
        let generation = self.generation();
        self.rebuilds = self.rebuilds.filter(|deleted| generation <= *deleted);
        if self.rebuilds.is_some() {
            arguments.push("--rebuild".to_owned());
        }
        arguments.extend(self.stage.arguments.with.iter().cloned());
        arguments.extend(more.iter().map(|flag| (*flag).to_owned()));
        arguments
    }

    /// Starts an instance in place of the one that there is, which is dead.
    pub(crate) fn start(&mut self, more: &[&str]) -> Result<(), String> {
        let arguments = self.arguments(more);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut command = match self.stage.arguments.model {
            None => program(job_name(self.plan.job), &self.stage.folder, &arguments),
            Some(variant) => self.model(variant, &arguments)?,
        };
        // Whether a commit was in doubt is told at this level.
        command.env("ANABRANCH_LOG_LEVEL", "warn,kafka=info");
        self.starts += 1;
        self.totals.starts += 1;
        let log = format!("{}-{}.err", self.id, self.starts);
        self.base = (self.generation(), self.follower.checker().records());
        let instance = Instance::start(&mut command, &self.stage.folder.join(log))?;
        let before = std::mem::replace(&mut self.instance, instance);
        if !self.stage.arguments.keep {
            before.forget();
        }
        Ok(())
    }

    /// This program once more, in the place of a job.
    fn model(&self, variant: Variant, arguments: &[&str]) -> Result<Command, String> {
        let me = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(me);
        let (job, topic) = (job_name(self.plan.job), &self.log.topic);
        let Plan { seed, records, .. } = self.plan;
        let told = format!("{seed},{job},{records},{topic},{}", name(&variant));
        command.args(arguments).env(TOLD, told);
        Ok(command)
    }

    /// Kills the instance and starts the next.
    pub(crate) fn kill_and_start(&mut self) -> Result<(), String> {
        self.kill();
        self.start(&[])
    }

    pub(crate) fn kill(&mut self) {
        self.totals.kills += usize::from(self.instance.kill());
    }

    /// The generation that committed last.
    pub(crate) fn generation(&self) -> u64 {
        let checker = self.follower.checker();
        checker.last().map_or(0, |progress| progress.generation)
    }

    pub(crate) fn deleted_state(&mut self) {
        self.rebuilds = Some(self.generation());
    }

    /// Whether the instance has committed, or has nothing to commit.
    pub(crate) fn has_committed(&mut self) -> bool {
        let committed = if self.stage.arguments.at_least_once {
            self.follower.checker().records() > self.base.1
        } else {
            self.generation() > self.base.0
        };
        committed || (self.load.is_spent() && self.instance.since.elapsed() > QUIET)
    }

    // ------------------------------------------------------------------------------------ waiting

    /// Waits, and starts the job again where it may end.
    pub(crate) fn watch(
        &mut self,
        what: &str,
        patience: Duration,
        done: impl Fn(&mut Self) -> bool,
    ) -> Outcome {
        let since = now();
        loop {
            self.look()?;
            if let Some(code) = self.instance.ended() {
                self.revive(code)?;
            }
            if done(self) {
                return Ok(());
            }
            if since.elapsed() > patience {
                return Err(format!("{what}: not in {patience:?}").into());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Whether anything is wrong so far.
    pub(crate) fn look(&self) -> Outcome {
        if self.stage.interrupted.load(SeqCst) {
            return Err("interrupted by a signal".to_owned().into());
        }
        if !self.follower.checker().problems.is_empty() {
            return Err(Failure::Found);
        }
        self.load.failure().map_or(Ok(()), |why| Err(why.into()))
    }

    pub(crate) fn revive(&mut self, code: i32) -> Outcome {
        if code != 1 || now() > self.excused {
            return Err(format!("the job ended with {code}").into());
        }
        self.totals.excused += 1;
        std::thread::sleep(Duration::from_millis(200));
        self.start(&[])?;
        Ok(())
    }

    pub(crate) fn rest(&mut self, time: Duration) -> Outcome {
        let until = now() + time;
        self.watch("a pause", PATIENCE, |_| now() >= until)
    }

    /// Waits for the moment.
    pub(crate) fn reach(&mut self, moment: Moment) -> Outcome {
        match moment {
            Moment::Started(time) => {
                let left = time.saturating_sub(self.instance.since.elapsed());
                self.rest(left)
            }
            Moment::Committed(time) => {
                let first = !self.has_committed();
                self.watch("a first commit", PATIENCE, Self::has_committed)?;
                if first {
                    self.totals.recovered(self.instance.since.elapsed());
                }
                self.rest(time)
            }
        }
    }

    /// Waits for a commit that was not there before.
    pub(crate) fn progresses(&mut self, patience: Duration) -> Outcome {
        let before = self.follower.checker().checkpoints;
        let quiet = now() + QUIET;
        self.watch("a commit", patience, |round| {
            let more = round.follower.checker().checkpoints > before;
            more || (now() > quiet && (round.load.is_spent() || !round.has_progress()))
        })
    }

    fn has_progress(&self) -> bool {
        self.outputs.progress.is_some()
    }

    // ------------------------------------------------------------------------------------- the end

    /// Produces the rest, runs the job to the end of it, and compares everything.
    fn end(&mut self) -> Outcome {
        self.load.finish()?;
        self.leave()?;
        self.bounded()?;
        let complete = |round: &mut Self| round.follower.checker().is_complete();
        let since = now();
        while !complete(self) && since.elapsed() < LEAVE {
            self.look()?;
            std::thread::sleep(POLL);
        }
        self.follower.checker().finish();
        for port in Port::ALL {
            let again = read_again(&self.outputs, port, PATIENCE)?;
            self.follower.checker().reread(port, &again);
        }
        self.look()?;
        if self.has_progress() {
            self.start(&["--bounded"])?;
            match self.instance.wait(PATIENCE) {
                Some(3) => {}
                other => return Err(format!("started when finished, it ended: {other:?}").into()),
            }
        }
        self.slow_cuts()?;
        Ok(())
    }

    /// Ends the live instance, as a user would or not.
    fn leave(&mut self) -> Outcome {
        if self.rng.one_in(2) {
            self.kill();
            return Ok(());
        }
        self.reach(Moment::Committed(Duration::ZERO))?;
        self.instance.signal("TERM")?;
        match self.instance.wait(LEAVE) {
            Some(0) => Ok(()),
            Some(1) if now() < self.excused => Ok(()),
            other => Err(format!("at SIGTERM the job ended: {other:?}").into()),
        }
    }

    /// To the end of the log; on the way it may be killed once more.
    fn bounded(&mut self) -> Outcome {
        let mut kills = usize::from(self.rng.one_in(2));
        let mut attempts = 0;
        loop {
            self.start(&["--bounded"])?;
            attempts += 1;
            if kills > 0 {
                kills -= 1;
                let time = Duration::from_millis(self.rng.bits() % 1_500);
                let _ = self.instance.wait(time);
                self.kill();
                continue;
            }
            let finished = attempts > 1;
            match self.instance.wait(2 * PATIENCE) {
                Some(0) => return Ok(()),
                // It had finished before it was killed.
                Some(3) if finished && self.is_finished() => return Ok(()),
                Some(1) if now() < self.excused && attempts < 5 => self.totals.excused += 1,
                other => return Err(format!("the bounded run ended: {other:?}").into()),
            }
        }
    }

    fn is_finished(&self) -> bool {
        let finished = || {
            let checker = self.follower.checker();
            checker.last().is_some_and(|progress| progress.finished)
        };
        let since = now();
        while !finished() && since.elapsed() < LEAVE {
            std::thread::sleep(POLL);
        }
        finished()
    }

    /// Computes some committed prefixes from scratch.
    fn slow_cuts(&mut self) -> Outcome {
        let checker = self.follower.checker();
        for cut in checker
            .cuts
            .iter()
            .step_by((checker.cuts.len() / SLOW_CUTS).max(1))
        {
            agrees(&self.log, checker.expected(), cut)?;
        }
        Ok(())
    }
}
