//! The job in a process of its own: the same program, started again with a hidden command.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anabranch::cli::{self, Status};
use anabranch::{Error, Result};
use clap::Args;

use super::clock::now;
use super::{rules, user_activity};

/// The hidden command.
pub(crate) const COMMAND: &str = "run-user-activity";
/// More than the job takes to close.
const CLOSE_MAX: Duration = Duration::from_secs(15);
/// Lines of its standard error that are kept.
const SAID_MAX: usize = 20;

/// What the hidden command is told.
#[derive(Debug, Args)]
pub(crate) struct ChildArguments {
    /// The demo's Kafka
    #[arg(long)]
    bootstrap: String,
    /// Where its state lies
    #[arg(long)]
    state_dir: PathBuf,
}

/// The child: runs the job until standard input closes.
pub(crate) fn run_child(arguments: &ChildArguments) -> ExitCode {
    cli::run_attached(
        &user_activity::job(),
        &rules::settings(&arguments.bootstrap, &arguments.state_dir),
    )
}

/// The parent's side of it. Dropped before its end, it is killed.
pub(super) struct JobProcess {
    child: Child,
    input: Option<ChildStdin>,
    status: Arc<Mutex<Option<Status>>>,
    said: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl JobProcess {
    /// Starts it on a Kafka, with its state in a folder.
    pub(super) fn start(bootstrap: &str, state: &Path) -> Result<Self> {
        let broken = |cause: std::io::Error| Error::operating("the job's process").because(cause);
        let program = std::env::current_exe().map_err(broken)?;
        let mut child = Command::new(program)
            .args([COMMAND, "--bootstrap", bootstrap, "--state-dir"])
            .arg(state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal is for the demo, which then closes the job.
            .process_group(0)
            .spawn()
            .map_err(broken)?;
        let (status, said) = (Arc::default(), Arc::default());
        let readers = [
            child.stdout.take().map(|out| read_status(out, &status)),
            child.stderr.take().map(|err| read_said(err, &said)),
        ];
        Ok(Self {
            input: child.stdin.take(),
            child,
            status,
            said,
            readers: readers.into_iter().flatten().collect(),
        })
    }

    /// What it told last; nothing before its first words.
    pub(super) fn status(&self) -> Option<Status> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }

    /// Why it ended by itself, if it did.
    pub(super) fn trouble(&mut self) -> Option<Error> {
        let ended = self.child.try_wait().ok().flatten()?;
        for reader in self.readers.drain(..) {
            // A reader that failed has read what it could.
            let _ = reader.join();
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = said.join("\n  ");
        Some(Error::operating(format!(
            "the job's process ended ({ended}):\n  {said}"
        )))
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        // Both fail when it has ended, which is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Closes it, and gives its last numbers.
    pub(super) fn close(mut self) -> Result<Status> {
        drop(self.input.take());
        let asked = now();
        let ended = loop {
            if let Ok(Some(ended)) = self.child.try_wait() {
                break ended;
            }
            if asked.elapsed() > CLOSE_MAX {
                return Err(Error::operating("the job's process does not end"));
            }
            thread::sleep(Duration::from_millis(5));
        };
        let why = self.trouble();
        match (ended.success(), self.status()) {
            (true, Some(status)) if status.ended => Ok(status),
            _ => Err(why.unwrap_or_else(|| Error::operating("the job's process failed"))),
        }
    }
}

impl Drop for JobProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_status(
    out: impl Read + Send + 'static,
    status: &Arc<Mutex<Option<Status>>>,
) -> JoinHandle<()> {
    let status = Arc::clone(status);
    each_line(out, move |line| {
        if let Ok(read) = serde_json::from_str(&line) {
            *status.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        }
    })
}

fn read_said(err: impl Read + Send + 'static, said: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let said = Arc::clone(said);
    each_line(err, move |line| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == SAID_MAX {
            said.remove(0);
        }
        said.push(line);
    })
}

fn each_line(
    stream: impl Read + Send + 'static,
    mut take: impl FnMut(String) + Send + 'static,
) -> JoinHandle<()> {
    let lines = BufReader::new(stream).lines();
    thread::spawn(move || lines.map_while(std::io::Result::ok).for_each(&mut take))
}
