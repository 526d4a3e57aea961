//! An instance of the job: a process that is started, killed, stopped and woken.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::clock::now;

/// Lines of standard error that a failure shows.
const SHOWN: usize = 12;

#[derive(Debug)]
pub(crate) struct Instance {
    child: Child,
    /// Where its standard error goes.
    log: PathBuf,
    pub(crate) since: Instant,
    ended: Option<i32>,
}

impl Instance {
    /// Starts it; what it says goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self, String> {
        let said = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .map_err(|error| format!("the job does not start: {error}"))?;
        Ok(Self {
            child,
            log: log.to_owned(),
            since: now(),
            ended: None,
        })
    }

    /// The exit code, or 128 and the number of the signal, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten().map(code);
        }
        self.ended
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<i32> {
        let since = now();
        loop {
            let ended = self.ended();
            if ended.is_some() || since.elapsed() > patience {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it with SIGKILL, and waits until it is gone. Says whether it lived.
    pub(crate) fn kill(&mut self) -> bool {
        let lived = self.ended().is_none();
        // Both fail when it has ended, which is well.
        let _ = self.child.kill();
        if let Ok(status) = self.child.wait() {
            self.ended = self.ended.or(Some(code(status)));
        }
        lived
    }

    /// Sends `STOP` or `CONT`, or any other signal by its name.
    pub(crate) fn signal(&self, name: &str) -> Result<(), String> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill -{name} {id}: {other:?}")),
        }
    }

    fn text(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Whether a commit of its own was in doubt: it got another producer, or is about to.
    pub(crate) fn was_in_doubt(&self) -> bool {
        self.text().contains("a commit may have been sent twice")
    }

    /// The last lines that it wrote.
    pub(crate) fn said(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// Forgets what it said.
    pub(crate) fn forget(&self) {
        // A leftover in a folder that is removed as a whole.
        let _ = std::fs::remove_file(&self.log);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

fn code(status: ExitStatus) -> i32 {
    let signal = status.signal().unwrap_or_default();
    status.code().unwrap_or(128 + signal)
}
