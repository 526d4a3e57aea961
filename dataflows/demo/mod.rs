//! `anabranch demo`: a broker, users, a job in a process of its own, and a view of them; at the end
//! a proof that the job's answer is the one that the log gives.

mod check;
mod clock;
mod envelope;
mod events;
mod feed;
mod follow;
mod job;
mod model;
mod recount;
mod rules;
mod screen;
mod stage;
mod supervised;
mod tempo;
mod text;
mod topic;
mod until;
mod view;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anabranch::cli::say;
use anabranch::{Error, Result};
use clap::Args;

pub(crate) use job::{COMMAND, ChildArguments, run_child};
use model::{Model, balance};
use stage::{Ended, Stage};
use text::grouped;
use until::{End, Until};

#[path = "../user_activity.rs"]
mod user_activity;

/// Without a terminal there is no key to end it.
const UNSEEN: Duration = Duration::from_secs(20);
const LINE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// What `demo` can be told.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  anabranch demo\n  anabranch demo --rate 50000 --for 1m")]
pub(crate) struct Arguments {
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(1..=200_000))]
    rate: u64,
    /// End after this time, as 20s [default: in a terminal at `q`, elsewhere after 20s]
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    time: Option<Duration>,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let read = humantime::parse_duration(text);
    read.map_err(|why| format!("expected a duration such as 20s or 1m30s: {why}"))
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match played(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn played(arguments: &Arguments) -> Result {
    let dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let seen = io::stdin().is_terminal() && io::stdout().is_terminal() && !dumb;
    let colours = env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let time = arguments.time.or((!seen).then_some(UNSEEN));
    let until = Until::signalled()?;
    let mut stage = Stage::start(arguments.rate)?;
    let until = until.or_after(time);
    let end = if seen {
        screen::show(&mut stage, &until, colours)
    } else {
        tell(&mut stage, &until)
    }?;
    until.arm();
    if end == End::Full {
        print("the log is as long as it may become: it is checked now")?;
    }
    conclude(&stage.end()?)
}

/// One line a second, for whoever has no terminal.
fn tell(stage: &mut Stage, until: &Until) -> Result<End> {
    print(&stage.moment()?.title())?;
    print(&Model::setup())?;
    let mut told = clock::now();
    loop {
        stage.trouble()?;
        let moment = stage.moment()?;
        if told.elapsed() >= LINE {
            told += LINE;
            print(&moment.line())?;
        }
        if let Some(end) = until.end(stage) {
            return Ok(end);
        }
        thread::sleep(LOOK);
    }
}

/// The summary, the proof, and what to do next.
fn conclude(ended: &Ended) -> Result {
    let Ended { status, verdict } = ended;
    print(&format!(
        "{} · results {}",
        balance(status),
        grouped(status.results)
    ))?;
    if !verdict.differences.is_empty() {
        let why = format!(
            "results differ from a plain recount of the log:{}",
            verdict.told()
        );
        return Err(Error::operating(why));
    }
    print(&format!(
        "checked: {} results equal a plain recount of the log · digest {}…",
        grouped(verdict.results as u64),
        &verdict.digest[..16],
    ))?;
    print(&next(env::var_os("CARGO").is_some()))
}

/// Three commands to go on with, spelled for how this one was started: by cargo, or by its name.
fn next(by_cargo: bool) -> String {
    let command = |name: &str| match (by_cargo, name) {
        (true, "anabranch") => "cargo run -q --release --".to_owned(),
        (true, name) => format!("cargo run -q --release --bin {name} --"),
        (false, name) => name.to_owned(),
    };
    format!(
        "\nnext:\n  {} broker --topic events:3 --topic user-activity:3   # a Kafka of your own\n  \
         {} describe   # ports, parameters, what is late\n  \
         echo '{{\"auction\":1,\"bidder\":2,\"price\":3,\"channel\":\"web\",\
         \"date_time\":4}}' | \\\n    \
         {} --source bids=- --sink stats=- --sink late=stderr: --sink dead=null:",
        command("anabranch"),
        command("user_activity"),
        command("bid_stats"),
    )
}

fn print(line: &str) -> Result {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.map_err(|cause| Error::operating("stdout").because(cause))
}
