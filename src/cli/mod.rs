//! The command line of a job binary: arguments, signals, progress, exit codes. Only here the
//! process is owned: a library never exits, prints or installs hooks.

mod args;
mod attached;
#[doc(hidden)]
pub mod checkpoint;
mod cluster;
mod config;
mod console;
#[doc(hidden)]
pub mod digest;
mod http;
mod progress;
mod report;
mod secret;
mod tell;
mod usage;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use clap::error::ErrorKind as ClapError;
use clap::{CommandFactory, FromArgMatches};

use crate::connectors::CLOSE_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::job::Job;
use crate::observe::Summary;
use crate::runtime::{Finding, Plan, Run, Settings, run as run_plan};
use args::{Arguments, Command};
use config::Stop;

pub use crate::observe::{Resumed, ResumedSource};
pub use attached::{PartitionState, Status, run_attached};
pub use console::say;

/// Runs `job` as the arguments of this process say, and says how it ended.
///
/// See `--help` for the arguments. Exit codes: 0 done, 1 an operating error, 2 usage, 3 state,
/// 4 another instance, 5 a limit, 130 and 143 a bounded run cut short by a signal.
#[expect(
    clippy::needless_pass_by_value,
    reason = "`cli::run(Job::new(..))` is how it reads"
)]
pub fn run(job: Job) -> ExitCode {
    run_with(&job, std::env::args_os())
}

/// As [`run`], with arguments of one's own; the first is the program's name.
pub fn run_with(job: &Job, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = command_of(job.name());
    let arguments: Vec<_> = arguments.into_iter().collect();
    console::set_format(console::format_of(&arguments));
    match start(job, &command, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Clap(error)) => refuse(&error, &command),
        Err(Stop::Wrong(error)) => end(&error),
    }
}

/// The commands of a job's binary.
fn command_of(name: &str) -> clap::Command {
    let example = format!(
        "Examples:\n  {name} --source NAME=file:input.jsonl --output-dir out\n  \
         {name} --bootstrap 127.0.0.1:9092 --bounded --workers 2 --set lag=5s"
    );
    let run = example.clone();
    let describe = format!("Example:\n  {name} describe -o json");
    Arguments::command()
        .name(name.to_owned())
        .bin_name(name)
        .after_help(example)
        .mut_subcommand("run", |command| command.after_help(run))
        .mut_subcommand("describe", |command| command.after_help(describe))
}

/// Says why a run ended.
fn end(error: &Error) -> ExitCode {
    let hint = if error.kind() == ErrorKind::Usage {
        " (see --help)"
    } else {
        ""
    };
    console::fail(&format!("{error}{hint}"), error.exit_code());
    ExitCode::from(error.exit_code())
}

/// Shows help or version, or says in one line what is wrong with the arguments of `command`.
#[doc(hidden)]
pub fn refuse(error: &clap::Error, command: &clap::Command) -> ExitCode {
    match error.kind() {
        ClapError::DisplayHelp | ClapError::DisplayVersion => match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(cause) => end(&Error::operating("stdout").because(cause)),
        },
        ClapError::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nothing is left to be done if even that cannot be printed.
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => end(&Error::usage(usage::line(error, command))),
    }
}

fn start(job: &Job, command: &clap::Command, arguments: Vec<OsString>) -> Result<(), Stop> {
    let ports = || {
        let declared = job.declared(&Settings::new()).unwrap_or_default();
        declared.ports.into_iter().map(|port| port.name).collect()
    };
    let layered = config::read(command, &ports, arguments)?;
    let mut arguments = Arguments::from_arg_matches(&layered.matches)?;
    let mut given = layered.given;
    let run = match &mut arguments.command {
        Some(Command::Run(run)) => run,
        _ => &mut arguments.run,
    };
    console::set_format(run.log_format);
    init_log(run);
    for warning in layered.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(path) = &run.kafka_config {
        run.kafka_properties = config::read_properties(path)?;
        given.extend(run.kafka_properties.clone());
    }
    act(job, arguments).map_err(|error| Stop::Wrong(config::blame(error, &given)))
}

fn act(job: &Job, arguments: Arguments) -> Result {
    let Arguments { command, run } = arguments;
    match command {
        Some(Command::Describe(how)) => {
            let declared = job.declared(&run.settings()?)?;
            let text = tell::describe(job.name(), &declared, how.output);
            out(&text)
        }
        Some(Command::Run(run)) => execute(job, &run),
        None => execute(job, &run),
    }
}

fn execute(job: &Job, arguments: &args::RunArguments) -> Result {
    let quiet = arguments.quiet;
    let guarantee = arguments.guarantee_line();
    let settings = arguments.settings()?;
    let plan = job.plan(&settings)?;
    if arguments.check {
        return check(&plan, arguments.http.as_deref());
    }
    if !quiet {
        say(&format!(
            "{}: {} workers · {guarantee}",
            job.name(),
            plan.workers
        ));
    }
    for made in crate::runtime::create(&plan)? {
        if !quiet {
            say(&made);
        }
    }
    let summary = shown(job.name(), plan, !quiet, arguments.http.as_deref())?;
    if !quiet {
        say(&summary.to_string());
    }
    if summary.balances() {
        return Ok(());
    }
    Err(Error::operating(format!(
        "records were lost or counted twice: {summary}"
    )))
}

/// Looks at everything that a run needs and says what was found; nothing is run or changed.
fn check(plan: &Plan, http: Option<&str>) -> Result {
    let findings = crate::runtime::check(plan);
    let http = http.map(|address| Finding {
        what: format!("http {address}"),
        found: http::bind(address).map(|_| "may be listened at".to_owned()),
    });
    let settings = Finding {
        what: "configuration".to_owned(),
        found: Ok(plan.in_words()),
    };
    let mut verdict = Ok(());
    let mut text = String::new();
    for Finding { what, found } in [settings].into_iter().chain(findings).chain(http) {
        let (sign, said) = match &found {
            Ok(said) => ("ok", said.clone()),
            Err(error) => ("no", error.to_string()),
        };
        writeln!(text, "{sign}  {what}: {said}").expect("a string takes it");
        verdict = verdict.and(found.map(|_| ()));
    }
    // Brokers quote what they were sent, and paths may stand for secrets.
    out(&secret::redacted(&text))?;
    verdict
}

/// Runs a plan, with what is to be seen of it meanwhile.
fn shown(job: &str, plan: Plan, talks: bool, http: Option<&str>) -> Result<Summary> {
    let handle = Run::new(&plan);
    let http = http.map(|address| http::Http::start(address, job, &handle));
    let http = http.transpose()?;
    if let (true, Some(http)) = (talks, &http) {
        let address = http.address;
        say(&format!(
            "http: /metrics /livez /readyz at http://{address}"
        ));
    }
    let again = plan.rebuild.as_ref().map(|again| again.run.clone());
    if talks && again.is_some() {
        say("reading the log again: nothing is written until it is where it was committed");
    }
    let runs: Vec<_> = again.into_iter().chain([handle.clone()]).collect();
    let progress = talks.then(|| progress::Progress::start(runs));
    let outcome = watched(plan, &handle);
    drop(progress);
    outcome
}

/// Runs a plan, ended by signals.
fn watched(plan: crate::runtime::Plan, handle: &Run) -> Result<Summary> {
    install_panic_hook();
    end_on_signals(handle.clone());
    run_plan(plan, handle)
}

/// A panic leaves state that nobody can vouch for: the process ends, and a restart recovers.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(move |panic| {
        say(&panic.to_string());
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            say(&trace.to_string());
        }
        let what = format!(
            "{} panicked; a restart recovers",
            crate::stream::Running::name()
        );
        console::fail(&what, 134);
        std::process::abort();
    }));
}

/// The first SIGINT or SIGTERM closes the run, the second ends the process at once.
fn end_on_signals(run: Run) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else {
        tracing::warn!("signals cannot be caught: the default holds");
        return;
    };
    thread::spawn(move || {
        let mut pending = signals.forever();
        if let Some(signal) = pending.next() {
            run.control.stop(signal);
            thread::spawn(move || end_start(&run, signal));
        }
        if let Some(signal) = pending.next() {
            std::process::exit(128 + signal);
        }
    });
}

/// Ends a process whose run was stopped before it had begun, and still waits for brokers or a disk.
/// There are no results that could be lost.
fn end_start(run: &Run, signal: i32) {
    thread::sleep(CLOSE_MAX);
    if !run.metrics.worker(0).life.has_begun() {
        let why = "stopped while it was starting";
        let error = Error::new(ErrorKind::Interrupted(signal), why);
        console::fail(&error.to_string(), error.exit_code());
        std::process::exit(error.exit_code().into());
    }
}

fn init_log(arguments: &args::RunArguments) {
    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_new(arguments.log_level()).unwrap_or_else(|_| EnvFilter::new("warn"));
    console::init_log(filter);
}

fn out(text: &str) -> Result {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|cause| Error::operating("stdout").because(cause))
}
