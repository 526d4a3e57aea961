//! The job's process, which may be killed and is started again: it goes on where it was, and what
//! it had written is held against the log.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{env, fs, mem, thread};

use anabranch::cli::Status;
use anabranch::{Error, Result};

use super::check::{Cut, check_cut};
use super::clock::now;
use super::job::JobProcess;

/// A folder that is gone with its owner.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = env::temp_dir().join(format!("anabranch-demo-{}", std::process::id()));
        let about = || format!("folder `{}`", path.display());
        // One of a process that had this number and was killed.
        let _ = fs::remove_dir_all(&path);
        let made = fs::create_dir_all(&path);
        made.map_err(|cause| Error::operating(about()).because(cause))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies where leftovers are expected.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What comes after a kill.
enum After {
    /// Nothing: the process counts on.
    Nothing,
    /// The next process has to say where it goes on.
    Killed(Instant),
    /// It goes on from this checkpoint, after this time; what there was is counted again.
    Counted(u64, Duration, JoinHandle<Result<Cut>>),
}

/// See the module.
pub(super) struct Supervised {
    job: JobProcess,
    address: String,
    after: After,
    /// What was counted before the process went on.
    before: Status,
    shown: Status,
    said: Option<String>,
    folder: Folder,
}

impl Supervised {
    /// Starts the job on a Kafka.
    pub(super) fn start(address: &str) -> Result<Self> {
        let folder = Folder::make()?;
        Ok(Self {
            job: JobProcess::start(address, &folder.0)?,
            address: address.to_owned(),
            after: After::Nothing,
            before: Status::default(),
            shown: Status::default(),
            said: None,
            folder,
        })
    }

    /// Kills the process and starts the next; not while the last kill is looked into.
    pub(super) fn kill(&mut self) -> Result {
        if !matches!(self.after, After::Nothing) {
            return Ok(());
        }
        self.job.kill();
        self.after = After::Killed(now());
        self.said = Some("killed: another process goes on …".to_owned());
        self.job = JobProcess::start(&self.address, &self.folder.0)?;
        Ok(())
    }

    /// What became of the last kill.
    pub(super) fn said(&self) -> Option<String> {
        self.said.clone()
    }

    /// What all processes have counted together. After a kill it stands still until that is known.
    pub(super) fn status(&mut self) -> Result<Status> {
        let Some(status) = self.job.status() else {
            return Ok(self.shown.clone());
        };
        self.look(&status)?;
        if matches!(self.after, After::Nothing) {
            self.shown = sum(&self.before, status);
        }
        Ok(self.shown.clone())
    }

    fn look(&mut self, status: &Status) -> Result {
        self.after = match mem::replace(&mut self.after, After::Nothing) {
            After::Killed(at) if status.resumed.is_some() || status.checkpoint.is_some() => {
                let resumed = status.resumed.clone().unwrap_or_default();
                let (checkpoint, took) = (resumed.checkpoint, at.elapsed());
                let address = self.address.clone();
                let count = thread::spawn(move || check_cut(&address, &resumed));
                After::Counted(checkpoint, took, count)
            }
            After::Counted(checkpoint, took, count) if count.is_finished() => {
                let panicked = |_| Error::operating("counting again panicked");
                let Cut {
                    lost,
                    twice,
                    before,
                } = count.join().map_err(panicked)??;
                self.before = before;
                let seconds = took.as_secs_f64();
                self.said = Some(format!(
                    "recovered from checkpoint {checkpoint} in {seconds:.1} s: \
                     {lost} lost, {twice} twice"
                ));
                After::Nothing
            }
            other => other,
        };
        Ok(())
    }

    /// Why it ended by itself, if it did.
    pub(super) fn trouble(&mut self) -> Option<Error> {
        self.job.trouble()
    }

    /// Closes it, and gives the last numbers.
    pub(super) fn close(self) -> Result<Status> {
        Ok(sum(&self.before, self.job.close()?))
    }
}

/// `status`, with what was counted before.
fn sum(before: &Status, status: Status) -> Status {
    Status {
        read: before.read + status.read,
        used: before.used + status.used,
        duplicates: before.duplicates + status.duplicates,
        late: before.late + status.late,
        late_idle: before.late_idle + status.late_idle,
        dead: before.dead + status.dead,
        results: before.results + status.results,
        ..status
    }
}
