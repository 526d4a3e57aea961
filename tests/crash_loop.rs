//! The kill loop: a job is killed at any instant, and its outputs read as if nothing had happened.
//!
//! `scripts/crash-loop` runs it for as long as one likes, against the development broker or a real
//! Kafka. A reader of committed records follows all along; the oracle, which shares no code with
//! the engine, says what it may see at each cut that the job claims to have committed, and in the
//! end.
//!
//! Caught here: a result that is lost, there twice, early, late or different; progress that goes
//! back or does not say what the log says; a zombie that lives on, or writes; a job that does not
//! come back, or ends with another code than the contract has. `plant` shows for each check that it
//! can fail, `model` the same for mistakes of a protocol, and a run without checkpoints that a kill
//! is noticed at all.
//!
//! Without arguments, as part of `cargo test`, it does a little of each.

#![allow(clippy::unwrap_used, reason = "what is used of other tests may fail")]

mod oracle;
mod program;
mod topics;

#[path = "crash_loop/act.rs"]
mod act;
#[path = "crash_loop/arguments.rs"]
mod arguments;
#[path = "crash_loop/checker.rs"]
mod checker;
#[path = "crash_loop/clock.rs"]
mod clock;
#[path = "crash_loop/deeds.rs"]
mod deeds;
#[path = "crash_loop/expected.rs"]
mod expected;
#[path = "crash_loop/follower.rs"]
mod follower;
#[path = "crash_loop/load.rs"]
mod load;
#[path = "crash_loop/log.rs"]
mod log;
#[path = "crash_loop/model.rs"]
mod model;
#[path = "crash_loop/plant.rs"]
mod plant;
#[path = "crash_loop/process.rs"]
mod process;
#[path = "crash_loop/progress.rs"]
mod progress;
#[path = "crash_loop/proxy.rs"]
mod proxy;
#[path = "crash_loop/record.rs"]
mod record;
#[path = "crash_loop/round.rs"]
mod round;
#[path = "crash_loop/story.rs"]
mod story;
#[path = "crash_loop/summary.rs"]
mod summary;
#[path = "crash_loop/visible.rs"]
mod visible;

use std::process::{Command, ExitCode};
use std::sync::Arc;

use arguments::{Arguments, BrokerKind};
use clap::Parser;
use proxy::Proxy;
use round::Stage;
use signal_hook::consts::{SIGINT, SIGTERM};
use summary::{About, Totals};
use topics::Topics;

/// The first argument of whoever gives arguments; other ones come from `cargo test`.
const LOOP: &str = "loop";

fn main() -> ExitCode {
    let mut given = std::env::args().skip(1);
    if let Ok(told) = std::env::var(model::TOLD) {
        return ExitCode::from(model::run(given, &told));
    }
    let done = if given.next().as_deref() == Some(LOOP) {
        run(&Arguments::parse_from(
            ["crash-loop".to_owned()].into_iter().chain(given),
        ))
    } else {
        short()
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("crash-loop: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A little of all, in seconds.
fn short() -> Result<(), String> {
    let parse =
        |text: &str| Arguments::parse_from(["crash-loop"].into_iter().chain(text.split(' ')));
    let broker = if topics::is_real() {
        "kafka"
    } else {
        "embedded"
    };
    run(&parse("--plant"))?;
    run(&parse(&format!(
        "--broker {broker} --kills 2 --rate 2000 --at-least-once"
    )))?;
    let few = format!("--broker {broker} --kills 3 --zombies 1 --rebuilds 1 --rate 1000");
    if keeps_checkpoints() {
        return run(&parse(&few));
    }
    eprintln!("the engine takes no --state-dir yet: the model of a job is killed in its place");
    run(&parse(&format!("{few} --model exact")))
}

/// Whether the engine knows what the loop is about.
fn keeps_checkpoints() -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bids.jsonl"), "").expect("an empty log");
    let arguments = [
        "--source=bids=file:bids.jsonl",
        "--output-dir=out",
        "--state-dir=state",
    ];
    let ended = program::run("bid_stats", folder.path(), &arguments);
    !(ended.code == 2 && ended.said().contains("not yet"))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.plant {
        let caught = plant::run()?;
        eprintln!("{caught} planted errors are caught, and correct stories pass");
        return Ok(());
    }
    if topics::is_real() != (arguments.broker == BrokerKind::Kafka) {
        return Err(
            "ANABRANCH_KAFKA names a Kafka, or --broker kafka is given: not both".to_owned(),
        );
    }
    if arguments.restarts > 0 && arguments.broker == BrokerKind::Embedded {
        eprintln!("the development broker keeps all in memory: no restarts");
    }
    let since = clock::now();
    let seed = arguments.seed.unwrap_or_else(clock::any_seed);
    eprintln!("seed {seed}");
    let topics = Topics::new();
    let proxy = (arguments.faults > 0).then(|| Proxy::start(topics.bootstrap()));
    let proxy = proxy.transpose()?;
    let folder = tempfile::Builder::new().prefix("crash-loop-").tempdir();
    let folder = folder.map_err(|error| error.to_string())?;
    let mut stage = Stage {
        arguments,
        topics: &topics,
        proxy: proxy.as_ref(),
        folder: folder.path().to_owned(),
        interrupted: Arc::default(),
    };
    for signal in [SIGINT, SIGTERM] {
        let registered = signal_hook::flag::register(signal, Arc::clone(&stage.interrupted));
        registered.map_err(|error| error.to_string())?;
    }
    if arguments.keep {
        stage.folder = folder.keep();
        eprintln!(
            "state dirs and what the jobs say: {}",
            stage.folder.display()
        );
    }
    let mut totals = Totals::default();
    let verdict = all_rounds(&stage, seed, &mut totals);
    let about = About {
        call: arguments.again(seed),
        seed,
        broker: broker(arguments.broker),
        time: since.elapsed(),
        verdict: totals.verdict(),
    };
    eprint!("{}", totals.lines(&about));
    if let Some(file) = &arguments.summary {
        let written = std::fs::write(file, totals.page(&about));
        written.map_err(|error| format!("{}: {error}", file.display()))?;
    }
    verdict.map_err(|why| format!("{why}\nagain: {}", about.call))
}

fn all_rounds(stage: &Stage<'_>, seed: u64, totals: &mut Totals) -> Result<(), String> {
    for plan in deeds::plans(stage.arguments, seed) {
        eprintln!(
            "{}: {} records, {} deeds",
            progress::job_name(plan.job),
            plan.records,
            plan.deeds.len()
        );
        let found = round::run(stage, &plan, totals);
        totals.rounds += 1;
        if let Some(why) = found.failure {
            return Err([found.problems.join("\n"), why].join("\n"));
        }
        if stage.arguments.at_least_once {
            let twice = found
                .problems
                .iter()
                .any(|problem| problem.starts_with("Twice"));
            if !twice {
                return Err("without checkpoints nothing was there twice: not caught".to_owned());
            }
            eprintln!("caught, as it has to be: {}", found.problems[0]);
        } else if !found.problems.is_empty() {
            return Err(found.problems.join("\n"));
        }
    }
    Ok(())
}

/// Which broker it is, with its version.
fn broker(kind: BrokerKind) -> String {
    if kind == BrokerKind::Embedded {
        return "the development broker".to_owned();
    }
    let status = Command::new("scripts/kafka").arg("status").output();
    let told = status.map(|status| String::from_utf8_lossy(&status.stdout).into_owned());
    let version = told.unwrap_or_default();
    let version = version
        .rsplit_once("Kafka ")
        .map(|(_, version)| version.trim());
    format!(
        "Apache Kafka {}",
        version.unwrap_or("of an unknown version")
    )
}
