//! Who may run a job: at most one process, and nobody is shut out by accident.
//!
//! Whoever holds the state directory's lock, or is in the job's group, is alive; a process that
//! was stopped for longer than its session keeps the lock, but is in the group no more.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::checkpoint_plan::CheckpointPlan;
use super::settings::Instance;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{now, time_of_day};
use crate::state::disk::{self, Lock, RealDisk};
use crate::state::durable;
use crate::stream::Control;
use crate::time::EventTime;

/// Whoever has locked the directory for this long has joined the group, if it can.
const JOINED: Duration = Duration::from_secs(15);
/// How often a run that stands by looks whether the other one is gone.
const LOOK: Duration = Duration::from_millis(200);

/// Makes this process the owner of the state directory; `None`: without its lock, which a process
/// holds that is shut out.
///
/// # Errors
/// Another instance is alive.
pub(super) fn own(plan: &CheckpointPlan, control: &Control) -> Result<Option<Lock>> {
    let about = |why: std::io::Error| {
        Error::operating(format!("state directory `{}`", plan.dir.display())).because(why)
    };
    durable::make_folders(&RealDisk, &plan.dir).map_err(about)?;
    let who = format!("process {} since {}", std::process::id(), time_of_day());
    let began = now();
    loop {
        let locked = disk::lock(&plan.dir, &who).map_err(about)?;
        if let Some(lock) = locked {
            // The last one on this directory is dead; one elsewhere would have another directory.
            join(plan, &who)?;
            return Ok(Some(lock));
        }
        let takes = plan.instance == Instance::TakesOver && plan.commit.is_some();
        if takes || is_stopped(plan)? {
            join(plan, &who)?;
            return Ok(None);
        }
        let waits = plan.instance == Instance::StandsBy;
        if !waits && (owner(plan)?.is_some() || plan.commit.is_none() || is_old(&plan.dir)) {
            return Err(owned(plan)?);
        }
        if control.is_stopping() {
            let why = "stopped while it waited for another instance to end";
            return Err(Error::new(ErrorKind::Interrupted(control.signal()), why));
        }
        // It is not in the group yet, or not any more: that is known in a moment.
        thread::sleep(LOOK.min(JOINED.saturating_sub(began.elapsed()).max(LOOK)));
    }
}

fn join(plan: &CheckpointPlan, who: &str) -> Result {
    match &plan.commit {
        Some(commit) => commit.own(who),
        None => Ok(()),
    }
}

fn owner(plan: &CheckpointPlan) -> Result<Option<String>> {
    match &plan.commit {
        Some(commit) => commit.owner(),
        None => Ok(None),
    }
}

/// Whether the process that holds the lock is in the group no more, though it had the time to join.
fn is_stopped(plan: &CheckpointPlan) -> Result<bool> {
    Ok(plan.commit.is_some() && is_old(&plan.dir) && owner(plan)?.is_none())
}

/// Whether the directory was locked long ago.
fn is_old(dir: &Path) -> bool {
    let since = holder(dir).and_then(|who| Some(who.split_once(" since ")?.1.to_owned()));
    let since = since.and_then(|since| crate::time::rfc3339::parse(&since));
    let Some(since) = since.map(EventTime::from_millis) else {
        return false;
    };
    let age = time_of_day().millis().saturating_sub(since.millis());
    u128::from(age.unsigned_abs()) > JOINED.as_millis()
}

fn holder(dir: &Path) -> Option<String> {
    disk::lock_holder(dir).ok().flatten()
}

fn owned(plan: &CheckpointPlan) -> Result<Error> {
    let holder = holder(&plan.dir).unwrap_or_else(|| "another process".to_owned());
    let member = owner(plan)?.map_or_else(String::new, |member| format!(" ({member})"));
    let dir = plan.dir.display();
    let hint = match plan.commit {
        Some(_) => "; --take-over ends that instance, --standby waits for its end",
        None => "; --standby waits for its end",
    };
    let what = format!(
        "job `{}` runs already: state directory `{dir}` is in use by {holder}{member}{hint}",
        plan.job
    );
    Ok(Error::new(ErrorKind::Owned, what))
}
