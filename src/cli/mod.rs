//! The command line of a job binary: arguments, signals, progress, exit codes. Only here the
//! process is owned: a library never exits, prints or installs hooks.

mod args;
mod progress;
mod report;
mod tell;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::error::ErrorKind as ClapError;
use clap::{CommandFactory, FromArgMatches};

use crate::error::{Error, ErrorKind, Result};
use crate::job::Job;
use crate::observe::Summary;
use crate::runtime::{Run, Settings, run as run_plan};
use crate::stream::Control;
use args::{Arguments, Command};

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
    let name = job.name().to_owned();
    let example = format!(
        "Examples:\n  {name} --source NAME=file:input.jsonl --output-dir out\n  \
         {name} --bootstrap 127.0.0.1:9092 --bounded --workers 2 --set lag=5s"
    );
    let command = Arguments::command()
        .name(name.clone())
        .bin_name(name)
        .after_help(example);
    let parsed = command.try_get_matches_from(arguments);
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match act(job, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let hint = if error.kind() == ErrorKind::Usage {
                " (see --help)"
            } else {
                ""
            };
            say(&format!("error: {error}{hint}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to be done if even that cannot be printed.
    let _ = error.print();
    match error.kind() {
        ClapError::DisplayHelp | ClapError::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

fn act(job: &Job, arguments: Arguments) -> Result {
    let Arguments { command, run } = arguments;
    match command {
        Some(Command::Describe(how)) => {
            let declared = job.declared(&run.settings(job.name())?)?;
            let text = tell::describe(job.name(), &declared, how.output);
            out(&text)
        }
        Some(Command::Run(run)) => execute(job, &run),
        None => execute(job, &run),
    }
}

fn execute(job: &Job, arguments: &args::RunArguments) -> Result {
    let quiet = arguments.quiet;
    init_log(arguments);
    let guarantee = arguments.guarantee_line();
    let settings = arguments.settings(job.name())?;
    let plan = job.plan(&settings)?;
    if !quiet {
        say(&format!(
            "{}: {} workers · {guarantee}",
            job.name(),
            plan.workers
        ));
    }
    let summary = watched(plan, !quiet)?;
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

/// Runs a plan with signals and progress.
fn watched(plan: crate::runtime::Plan, shows_progress: bool) -> Result<Summary> {
    let handle = Run::new(&plan);
    install_panic_hook();
    end_on_signals(Arc::clone(&handle.control));
    let progress = shows_progress.then(|| progress::Progress::start(&handle));
    let outcome = run_plan(plan, &handle);
    drop(progress);
    outcome
}

/// A panic leaves state that nobody can vouch for: the process ends, and a restart recovers.
fn install_panic_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let operator = crate::stream::Running::get();
        say(&format!(
            "error: operator `{operator}` panicked; a restart recovers"
        ));
        std::process::abort();
    }));
}

/// The first SIGINT or SIGTERM closes the run, the second ends the process at once.
fn end_on_signals(control: Arc<Control>) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else {
        tracing::warn!("signals cannot be caught: the default holds");
        return;
    };
    thread::spawn(move || {
        let mut pending = signals.forever();
        if let Some(signal) = pending.next() {
            control.stop(signal);
        }
        if let Some(signal) = pending.next() {
            std::process::exit(128 + signal);
        }
    });
}

fn init_log(arguments: &args::RunArguments) {
    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_new(arguments.log_level()).unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false);
    // A program that embeds this may have its own.
    let _ = subscriber.try_init();
}

/// Runs `job` with settings of one's own, and says how it ended: for programs around a job.
pub fn run_settings(job: &Job, settings: &Settings) -> ExitCode {
    let summary = job.plan(settings).and_then(|plan| watched(plan, false));
    match summary {
        Ok(summary) => {
            say(&summary.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// One line to the terminal; diagnostics go to stderr only.
pub fn say(line: &str) {
    // Whoever closed stderr does not want to hear it.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn out(text: &str) -> Result {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|cause| Error::operating("stdout").because(cause))
}
