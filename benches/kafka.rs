//! `bid_stats` from Kafka to Kafka, as a whole process, against two loops without an engine: a
//! relay that only consumes and produces, and what somebody who knows how writes by hand; and what
//! it costs to be exactly once. Then how long the first result takes, and what a job costs that
//! has nothing to do.
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
#[path = "kafka/starts.rs"]
mod starts;
mod support;

use std::env;
use std::process::{Command, Stdio};

use anabranch::connectors::generator::bids;
use broker::Broker;
use loops::Order;
use support::{Cost, cost_of, median};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u32 = 4;
const BIDS: &str = "bids";
/// As an argument, it makes this program one of the loops.
const LOOP: &str = "--loop";
/// Floors: of the hand-written loop, of the relay, and the most memory in MB.
const FLOORS: (f64, f64, f64) = (0.7, 0.45, 250.0);

/// What one worker reads.
fn engine(broker: &Broker, to: &str, workers: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bid_stats"));
    command
        .arg(format!("--bootstrap={}", broker.bootstrap))
        .arg(format!("--source=bids=kafka:{BIDS}"))
        .arg(format!("--sink=stats=kafka:{to}"))
        .args([
            "--sink=late=null:",
            "--sink=dead=null:",
            "--bounded",
            "--quiet",
        ])
        .arg(format!("--workers={workers}"))
        .stdin(Stdio::null());
    command
}

/// This program as the loop of `order`.
fn loop_of(order: &Order<'_>) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.arg(LOOP).args(order.words()).stdin(Stdio::null());
    command
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    OneWorker,
    TwoWorkers,
    Relay,
    Hand,
    /// Exactly once, with a checkpoint every second, and every tenth of one.
    OnceASecond,
    OnceATenth,
    TwoOnceASecond,
}

impl Program {
    const ALL: [Self; 7] = [
        Self::OneWorker,
        Self::OnceASecond,
        Self::Hand,
        Self::OnceATenth,
        Self::Relay,
        Self::TwoWorkers,
        Self::TwoOnceASecond,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::OneWorker => "engine, one worker",
            Self::TwoWorkers => "engine, two workers",
            Self::Relay => "(a) relay",
            Self::Hand => "(b) hand",
            Self::OnceASecond => "one worker, exactly once, 1 s",
            Self::OnceATenth => "one worker, exactly once, 100 ms",
            Self::TwoOnceASecond => "two workers, exactly once, 1 s",
        }
    }
}

/// Runs all programs in turn, and holds their results against each other.
struct Race<'a> {
    broker: &'a Broker,
    count: u64,
    /// What the first run of the engine wrote.
    expected: Vec<Vec<u8>>,
    costs: [Vec<Cost>; 7],
}

impl Race<'_> {
    fn run(&mut self, program: Program, round: usize) {
        let to = format!("results-{}-{round}", program as usize);
        self.broker.create(&to, PARTITIONS);
        let order = |relay| Order {
            bootstrap: &self.broker.bootstrap,
            from: BIDS,
            to: &to,
            partitions: PARTITIONS,
            relay,
        };
        let results = self.expected.len().max(1);
        let bytes = self.expected.iter().map(Vec::len).sum::<usize>() / results;
        let state = tempfile::tempdir().expect("a folder for state");
        let once = |workers, interval: &str| {
            let mut command = engine(self.broker, &to, workers);
            command.args(["--job-id", &to, "--checkpoint-interval", interval]);
            command.arg("--state-dir").arg(state.path());
            command
        };
        let cost = cost_of(&mut match program {
            Program::OnceASecond => once(1, "1s"),
            Program::OnceATenth => once(1, "100ms"),
            Program::TwoOnceASecond => once(2, "1s"),
            Program::OneWorker => engine(self.broker, &to, 1),
            Program::TwoWorkers => engine(self.broker, &to, 2),
            Program::Relay => loop_of(&order(Some((self.count, results as u64, bytes)))),
            Program::Hand => loop_of(&order(None)),
        });
        let written = self.broker.reader(&to).sorted();
        if self.expected.is_empty() {
            println!("{} bids, {} results", self.count, written.len());
            self.expected = written;
        } else if program == Program::Relay {
            assert_eq!(written.len(), self.expected.len(), "results of the relay");
        } else {
            // Not `assert_eq!`, which would print both.
            assert!(
                written == self.expected,
                "{}: other results",
                program.name()
            );
        }
        self.broker.delete(&to);
        self.costs[program as usize].push(cost);
    }

    fn of(&self, program: Program, figure: fn(&Cost) -> f64) -> f64 {
        median(self.costs[program as usize].iter().map(figure).collect())
    }

    /// The median of the ratios of runs that came one after the other.
    fn ratio(&self, other: Program) -> f64 {
        self.between(Program::OneWorker, other)
    }

    fn between(&self, one: Program, other: Program) -> f64 {
        let engine = &self.costs[one as usize];
        let pairs = engine.iter().zip(&self.costs[other as usize]);
        median(
            pairs
                .map(|(engine, other)| other.cpu / engine.cpu)
                .collect(),
        )
    }

    fn report(&self) {
        println!(
            "| {} bids, Kafka to Kafka | events per CPU-second | wall s | peak MB |",
            self.count
        );
        println!("|---|---|---|---|");
        for program in Program::ALL {
            let rate = self.count as f64 / self.of(program, |cost| cost.cpu) / 1e6;
            let (wall, peak) = (
                self.of(program, |cost| cost.wall),
                self.of(program, |cost| cost.peak_mb),
            );
            println!(
                "| {} | {rate:.2} M | {wall:.2} | {peak:.0} |",
                program.name()
            );
        }
        let (hand, relay) = (self.ratio(Program::Hand), self.ratio(Program::Relay));
        println!(
            "one worker is {hand:.2} of (b) hand (goal 1.0), {relay:.2} of (a) relay (goal 0.6)"
        );
        let (second, tenth, two) = (
            self.between(Program::OnceASecond, Program::OneWorker),
            self.between(Program::OnceATenth, Program::OneWorker),
            self.between(Program::TwoOnceASecond, Program::TwoWorkers),
        );
        println!(
            "exactly once at 1 s is {second:.2} of at least once (goal 0.90), {two:.2} with two \
             workers, {tenth:.2} at 100 ms (goal 0.70)"
        );
        let peak = self.of(Program::OneWorker, |cost| cost.peak_mb);
        if env::var_os("ANABRANCH_BENCH_ASSERT").is_some() {
            assert!(hand >= FLOORS.0, "{hand:.2} of the hand-written loop");
            assert!(relay >= FLOORS.1, "{relay:.2} of the relay");
            assert!(second >= 0.90, "{second:.2} of at least once");
            assert!(tenth >= 0.70, "{tenth:.2} of at least once");
            assert!(peak <= FLOORS.2, "{peak:.0} MB");
        }
    }
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
    broker.create(BIDS, PARTITIONS);
    let make = bids(1);
    broker.fill(
        BIDS,
        PARTITIONS,
        count / u64::from(PARTITIONS),
        |partition, index, value| {
            make(partition, index, value);
        },
    );
    let mut race = Race {
        broker: &broker,
        count,
        expected: Vec::new(),
        costs: [const { Vec::new() }; 7],
    };
    for round in 0..runs {
        for program in Program::ALL {
            race.run(program, round);
        }
    }
    race.report();
}
