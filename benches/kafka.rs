//! `bid_stats` from Kafka to Kafka, as a whole process, against two loops without an engine: a
//! relay that only consumes and produces, and what somebody who knows how writes by hand; and what
//! it costs to be exactly once, there and in `user_activity`. Then how long the first result takes,
//! and what a job costs that has nothing to do.
//!
//! `cargo bench --bench kafka [-- MILLIONS [RUNS]]`. It starts a Kafka of its own, for which it
//! needs Java and Maven. With `ANABRANCH_BENCH_ASSERT` set, what falls short of the floors is an
//! error.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench prints figures"
)]

#[path = "kafka/broker.rs"]
mod broker;
#[path = "kafka/loops.rs"]
mod loops;
#[path = "kafka/plain.rs"]
mod plain;
#[path = "kafka/starts.rs"]
mod starts;
mod support;

use std::env;
use std::process::{Command, Stdio};

use anabranch::connectors::generator::{behaviour, bids};
use broker::Broker;
use loops::Order;
use support::{Cost, cost_of, hold, median};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u32 = 4;
const BIDS: &str = "bids";
/// As an argument, it makes this program one of the loops.
const LOOP: &str = "--loop";
/// The most memory that `bid_stats` may take, in MB; `user_activity` knows the ids of an hour.
const PEAK: f64 = 250.0;

/// This program as the loop of `order`.
fn loop_of(order: &Order<'_>) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.arg(LOOP).args(order.words()).stdin(Stdio::null());
    command
}

/// A job, and what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Bids,
    Activity,
}

impl Job {
    fn topic(self) -> &'static str {
        [BIDS, "events"][self as usize]
    }

    /// Writes `count` records.
    fn fill(self, broker: &Broker, count: u64) {
        let make = match self {
            Self::Bids => bids(1),
            Self::Activity => behaviour(1),
        };
        broker.create(self.topic(), PARTITIONS);
        let each = count / u64::from(PARTITIONS);
        broker.fill(self.topic(), PARTITIONS, each, |partition, index, value| {
            make(partition, index, value);
        });
    }

    /// The job with so many workers, from its topic into another.
    fn command(self, broker: &Broker, to: &str, workers: usize) -> Command {
        let (binary, source, sink) = match self {
            Self::Bids => (env!("CARGO_BIN_EXE_bid_stats"), "bids", "stats"),
            Self::Activity => (env!("CARGO_BIN_EXE_user_activity"), "events", "activity"),
        };
        let mut command = Command::new(binary);
        command
            .arg(format!("--bootstrap={}", broker.bootstrap))
            .arg(format!("--source={source}=kafka:{}", self.topic()))
            .arg(format!("--sink={sink}=kafka:{to}"))
            .args(["--sink=late=null:", "--sink=dead=null:"])
            .args(["--bounded", "--quiet"])
            .arg(format!("--workers={workers}"))
            .stdin(Stdio::null());
        command
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// A job with so many workers, exactly once with a checkpoint each so often, or at least once.
    Engine(Job, usize, Option<&'static str>),
    Relay,
    Hand,
}

impl Program {
    const ALL: [Self; 11] = [
        Self::Engine(Job::Bids, 1, None),
        Self::Engine(Job::Bids, 1, Some("1s")),
        Self::Hand,
        Self::Engine(Job::Bids, 1, Some("100ms")),
        Self::Relay,
        Self::Engine(Job::Bids, 2, None),
        Self::Engine(Job::Bids, 2, Some("1s")),
        Self::Engine(Job::Bids, 2, Some("100ms")),
        Self::Engine(Job::Activity, 1, None),
        Self::Engine(Job::Activity, 1, Some("1s")),
        Self::Engine(Job::Activity, 1, Some("100ms")),
    ];

    fn place(self) -> usize {
        let place = Self::ALL.iter().position(|it| *it == self);
        place.expect("a program of the race")
    }

    fn job(self) -> Job {
        match self {
            Self::Engine(job, ..) => job,
            Self::Relay | Self::Hand => Job::Bids,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Engine(Job::Bids, workers, None) => format!("engine, {workers} workers"),
            Self::Engine(Job::Bids, workers, Some(each)) => {
                format!("engine, {workers} workers, exactly once, {each}")
            }
            Self::Engine(Job::Activity, _, None) => "user_activity".to_owned(),
            Self::Engine(Job::Activity, _, Some(each)) => {
                format!("user_activity, exactly once, {each}")
            }
            Self::Relay => "(a) relay".to_owned(),
            Self::Hand => "(b) hand".to_owned(),
        }
    }
}

/// Runs all programs in turn, and holds their results against each other.
struct Race<'a> {
    broker: &'a Broker,
    count: u64,
    /// What the first run of each job wrote.
    expected: [Vec<Vec<u8>>; 2],
    costs: [Vec<Cost>; Program::ALL.len()],
}

impl Race<'_> {
    fn run(&mut self, program: Program, round: usize) {
        let to = format!("results-{}-{round}", program.place());
        self.broker.create(&to, PARTITIONS);
        let expected = &self.expected[program.job() as usize];
        let results = expected.len().max(1);
        let bytes = expected.iter().map(Vec::len).sum::<usize>() / results;
        let order = |relay| Order {
            bootstrap: &self.broker.bootstrap,
            from: BIDS,
            to: &to,
            partitions: PARTITIONS,
            relay,
        };
        let state = tempfile::tempdir().expect("a folder for state");
        let mut command = match program {
            Program::Engine(job, workers, _) => job.command(self.broker, &to, workers),
            Program::Relay => loop_of(&order(Some((self.count, results as u64, bytes)))),
            Program::Hand => loop_of(&order(None)),
        };
        if let Program::Engine(.., Some(each)) = program {
            command.args(["--job-id", &to, "--checkpoint-interval", each]);
            command.arg("--state-dir").arg(state.path());
        }
        let cost = cost_of(&mut command);
        let written = self.broker.reader(&to).sorted();
        if expected.is_empty() {
            println!("{}: {} results", program.name(), written.len());
            self.expected[program.job() as usize] = written;
        } else if program == Program::Relay {
            assert_eq!(written.len(), expected.len(), "results of the relay");
        } else {
            // Not `assert_eq!`, which would print both.
            assert!(written == *expected, "{}: other results", program.name());
        }
        self.broker.delete(&to);
        self.costs[program.place()].push(cost);
    }

    fn of(&self, program: Program, figure: fn(&Cost) -> f64) -> f64 {
        median(self.costs[program.place()].iter().map(figure).collect())
    }

    /// How many events `one` does in the processor time of one of `other`: the median of the ratios
    /// of runs that came one after the other.
    fn ratio(&self, one: Program, other: Program) -> f64 {
        let ones = self.costs[one.place()].iter();
        let pairs = ones.zip(&self.costs[other.place()]);
        median(pairs.map(|(one, other)| other.cpu / one.cpu).collect())
    }

    fn report(&self) {
        println!(
            "| {} events, Kafka to Kafka | events per CPU-second | wall s | peak MB |",
            self.count
        );
        println!("|---|---|---|---|");
        for program in Program::ALL {
            let rate = self.count as f64 / self.of(program, |cost| cost.cpu) / 1e6;
            let wall = self.of(program, |cost| cost.wall);
            let peak = self.of(program, |cost| cost.peak_mb);
            let name = program.name();
            println!("| {name} | {rate:.2} M | {wall:.2} | {peak:.0} |");
            let bids = matches!(program, Program::Engine(Job::Bids, ..));
            hold(!bids || peak <= PEAK, &format!("{name}: {peak:.0} MB"));
        }
        let engine = Program::Engine(Job::Bids, 1, None);
        let hand = self.ratio(engine, Program::Hand);
        let relay = self.ratio(engine, Program::Relay);
        println!(
            "one worker is {hand:.2} of (b) hand (goal 1.0), {relay:.2} of (a) relay (goal 0.6)"
        );
        hold(hand >= 0.7, &format!("{hand:.2} of the hand-written loop"));
        hold(relay >= 0.45, &format!("{relay:.2} of the relay"));
        for once in Program::ALL {
            let Program::Engine(job, workers, Some(each)) = once else {
                continue;
            };
            let ratio = self.ratio(once, Program::Engine(job, workers, None));
            let goal = if each == "1s" { 0.90 } else { 0.70 };
            let said = format!(
                "{} is {ratio:.2} of at least once (goal {goal:.2})",
                once.name()
            );
            println!("{said}");
            hold(ratio >= goal, &said);
        }
    }
}

/// How long it takes to make a lost state again from the log.
fn rebuild(broker: &Broker, count: u64) {
    let state = tempfile::tempdir().expect("a folder for state");
    broker.create("rebuilt", PARTITIONS);
    let once = |more: &[&str]| {
        let mut command = Job::Bids.command(broker, "rebuilt", 1);
        command.args(["--job-id=rebuilt", "--catch-up"]).args(more);
        cost_of(command.arg("--state-dir").arg(state.path()))
    };
    let read = once(&[]);
    let before = broker.reader("rebuilt").sorted();
    std::fs::remove_dir_all(state.path()).expect("the state can be lost");
    let again = once(&["--rebuild"]);
    let after = broker.reader("rebuilt").sorted();
    assert!(
        before == after,
        "a rebuild writes nothing that was committed"
    );
    println!(
        "{count} events: state made again from the log in {:.2} s, with {:.2} s of processor time; \
         read for the first time in {:.2} s, with {:.2} s",
        again.wall, again.cpu, read.wall, read.cpu
    );
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [mode, order @ ..] = &arguments[..]
        && mode == LOOP
    {
        return Order::read(order).run();
    }
    let mut numbers = arguments
        .iter()
        .filter_map(|argument| argument.parse::<u64>().ok());
    let count = numbers.next().unwrap_or(5) * 1_000_000;
    let runs = usize::try_from(numbers.next().unwrap_or(5)).expect("few runs");
    let broker = match Broker::start() {
        Ok(broker) => broker,
        Err(missing) => return println!("SKIPPED: no Kafka can be started: {missing} is missing"),
    };
    starts::report(&broker);
    for job in [Job::Bids, Job::Activity] {
        job.fill(&broker, count);
    }
    let mut race = Race {
        broker: &broker,
        count,
        expected: Default::default(),
        costs: [const { Vec::new() }; Program::ALL.len()],
    };
    for round in 0..runs {
        for program in Program::ALL {
            race.run(program, round);
        }
    }
    race.report();
    rebuild(&broker, count);
}
