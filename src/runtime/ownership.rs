//! Who may run a job: at most one process, and nobody is shut out by accident.
//!
//! Whoever is in the job's group is alive, wherever it runs and whichever directory it has; so is
//! whoever holds this directory's lock, unless it was stopped for longer than its session. A member
//! that has just died is in the group for some seconds more: what it said of itself ([`identity`])
//! tells at once, on its own machine or in its own directory, that it is dead. [`decision`] has the
//! rules.

mod decision;
mod identity;

use std::thread;
use std::time::{Duration, Instant};

use self::decision::{Decision, Facts, Life, LockFact, decide};
pub(super) use self::identity::person;
use self::identity::{Identity, Signature};
use super::checkpoint_plan::CheckpointPlan;
use super::checkpointer::Checkpointer;
use super::progress_record::ProgressRecord;
use super::settings::Instance;
use super::worker::panicked;
use crate::connectors::{Commit, Member};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{now, since, uptime};
use crate::state::disk::{self, Lock, RealDisk};
use crate::state::durable;
use crate::state::store::newest_generation;
use crate::stream::Control;

/// Whoever has locked the directory for this long has joined the group, if it can.
const JOINED: Duration = Duration::from_secs(15);
/// Whoever is in the group for longer than a session of 10 s is alive.
const OUTLIVED: Duration = Duration::from_secs(12);
/// Whoever lives, or has just begun, is not missing in the group for so long: a broker that has
/// forgotten its members tells them with their next heartbeat, which is due each 3 s.
const MISSING: Duration = Duration::from_secs(5);
/// How often it is looked whether the other one is gone.
const LOOK: Duration = Duration::from_millis(200);
/// The same for who stands by, perhaps for months: each look connects to the cluster anew.
const WATCH: Duration = Duration::from_secs(1);

/// That this run has the job, as long as it lives.
#[derive(Debug)]
pub(super) struct Owned {
    me: Identity,
    /// The newest generation when it was seen that nobody else has the job: whoever begins one
    /// after that has taken it.
    pub(super) seen: u64,
    /// `None`: a process holds the directory's lock that was stopped, or is to be shut out.
    _lock: Option<Lock>,
}

/// Makes this run the owner of the job, and what is needed for that.
///
/// # Errors
/// Another instance is alive.
pub(super) fn own(plan: &CheckpointPlan, control: &Control) -> Result<Owned> {
    durable::make_folders(&RealDisk, &plan.dir).map_err(|why| about(plan, why))?;
    // At the same time: a start waits for both.
    let (prepared, mut others) = thread::scope(|scope| {
        let prepared = scope.spawn(|| plan.commit.as_ref().map_or(Ok(()), |it| it.prepare()));
        let others = others(plan);
        (prepared.join(), others)
    });
    prepared.unwrap_or_else(|panic| Err(panicked("connecting", &*panic)))?;
    let mut watch = Watch::new();
    loop {
        let (seen, members) = others?;
        let lock = disk::lock(&plan.dir).map_err(|why| about(plan, why))?;
        let mark = disk::lock_mark(&plan.dir).map_err(|why| about(plan, why))?;
        let me = watch.me.get_or_insert_with(|| Identity::new(mark)).clone();
        let holder = disk::lock_holder(&plan.dir).ok().flatten();
        let facts = watch.facts(plan, lock.is_some(), holder.as_deref(), &members);
        let decided = match decide(facts) {
            // Whoever has begun meanwhile may be gone again, or not in the group yet.
            Decision::Own | Decision::OwnUnlocked if newest(plan)? != seen => {
                watch.begun = Some(now());
                Decision::Wait
            }
            decided => decided,
        };
        match decided {
            Decision::Own => return take(plan, (me, seen), lock),
            Decision::OwnUnlocked => return take(plan, (me, seen), None),
            Decision::Refuse => {
                let holder = holder.filter(|_| lock.is_none());
                return Err(owned(plan, holder.as_deref(), &members, &me));
            }
            Decision::Wait => {}
        }
        drop(lock); // it still says who was the last to run, and others may look, too
        if control.is_stopping() {
            let why = "stopped while it waited for another instance to end";
            return Err(Error::new(ErrorKind::Interrupted(control.signal()), why));
        }
        thread::sleep(pause(plan));
        others = self::others(plan);
    }
}

fn about(plan: &CheckpointPlan, why: std::io::Error) -> Error {
    Error::operating(format!("state directory `{}`", plan.dir.display())).because(why)
}

/// How long it waits between two looks.
fn pause(plan: &CheckpointPlan) -> Duration {
    match plan.instance {
        Instance::StandsBy if plan.commit.is_some() => WATCH,
        _ => LOOK,
    }
}

fn newest(plan: &CheckpointPlan) -> Result<u64> {
    newest_generation(&RealDisk, &plan.dir)
}

/// The newest generation, and then who is in the group.
fn others(plan: &CheckpointPlan) -> Result<(u64, Vec<Member>)> {
    let seen = newest(plan)?;
    let members = plan.commit.as_ref().map(|it| it.members()).transpose()?;
    Ok((seen, members.unwrap_or_default()))
}

fn take(
    plan: &CheckpointPlan,
    (me, seen): (Identity, u64),
    mut lock: Option<Lock>,
) -> Result<Owned> {
    if let Some(lock) = &mut lock {
        let signature = Signature::new(me.clone(), uptime());
        let signed = lock.sign(&signature.to_string());
        signed.map_err(|why| about(plan, why))?;
    }
    if let Some(commit) = &plan.commit {
        commit.own(&me.to_string())?;
    }
    Ok(Owned {
        me,
        seen,
        _lock: lock,
    })
}

/// What was seen so far of the others.
struct Watch {
    me: Option<Identity>,
    began: Instant,
    /// Who holds the lock, and since when it was seen to.
    held: Option<(Option<String>, Instant)>,
    /// Since when nobody was seen in the group who lives.
    missing: Option<Instant>,
    /// When it was last seen that somebody had begun between two looks.
    begun: Option<Instant>,
}

impl Watch {
    fn new() -> Self {
        Self {
            me: None,
            began: now(),
            held: None,
            missing: None,
            begun: None,
        }
    }

    fn facts(
        &mut self,
        plan: &CheckpointPlan,
        free: bool,
        holder: Option<&str>,
        members: &[Member],
    ) -> Facts {
        let me = self.me.as_ref();
        let signature = holder.and_then(Signature::parse);
        let lives = members.iter().map(|member| {
            let member = Identity::parse(&member.name);
            let signed = signature.as_ref().map(|signature| &signature.who);
            me.map_or(Life::Unknown, |me| me.life(member.as_ref(), signed, free))
        });
        let life = lives.max().unwrap_or(Life::Dead);
        let lock = if free {
            (self.held, self.missing) = (None, None);
            LockFact::Free
        } else {
            let seen = self.held.take().filter(|(who, _)| who.as_deref() == holder);
            let (_, seen) = self
                .held
                .insert(seen.unwrap_or((holder.map(str::to_owned), now())));
            let seen = since(*seen);
            if life != Life::Dead {
                self.missing = None;
            }
            let missing =
                (life == Life::Dead).then(|| since(*self.missing.get_or_insert_with(now)));
            let told = signature.zip(me).and_then(|(it, me)| it.age(me, uptime()));
            let old = told.unwrap_or_default().max(seen) > JOINED;
            let stopped = old && missing.is_some_and(|missing| missing > MISSING);
            LockFact::Held { stopped }
        };
        Facts {
            lock,
            life,
            outlived: since(self.began) > OUTLIVED,
            begun: self.begun.is_some_and(|begun| since(begun) <= MISSING),
            grouped: plan.commit.is_some(),
            instance: plan.instance,
        }
    }
}

/// That another one has the job, and what may be done.
fn owned(plan: &CheckpointPlan, holder: Option<&str>, members: &[Member], me: &Identity) -> Error {
    let (job, dir) = (&plan.job, plan.dir.display());
    let lives = |member: &&Member| {
        let member = Identity::parse(&member.name);
        me.life(member.as_ref(), None, false) != Life::Dead
    };
    let member = members.iter().find(lives).map(|member| {
        let (who, host) = (person(&member.name), &member.host);
        format!("{who} at {host}")
    });
    let hint = match plan.commit {
        Some(_) => "; --take-over ends that instance, --standby waits for its end",
        None => "; --standby waits for its end",
    };
    let what = match (holder, member) {
        (None, Some(member)) => {
            format!("job `{job}` runs already, with another state directory than `{dir}`: {member}")
        }
        (holder, member) => {
            let holder = holder.map_or("another process", person);
            let member = member.map_or_else(String::new, |member| format!(" ({member})"));
            format!(
                "job `{job}` runs already: state directory `{dir}` is in use by {holder}{member}"
            )
        }
    };
    Error::new(ErrorKind::Owned, what + hint)
}

impl Owned {
    /// Whether an instance with another directory has shut out this run, which `checkpointer` has
    /// ended: its progress is there, or it is. One with the same directory is known by its
    /// generation.
    pub(super) fn is_taken_over(&self, checkpointer: &Checkpointer) -> bool {
        let Some(commit) = &checkpointer.commit else {
            return false;
        };
        let foreign = |member: &Member| {
            let member = Identity::parse(&member.name);
            member.is_some_and(|member| {
                !member.is_of(&self.me) && self.me.life(Some(&member), None, false) != Life::Dead
            })
        };
        has_other_progress(&**commit, checkpointer)
            || commit.members().is_ok_and(|all| all.iter().any(foreign))
    }
}

fn has_other_progress(commit: &dyn Commit, checkpointer: &Checkpointer) -> bool {
    let Ok(Some(record)) = commit.last() else {
        return false;
    };
    let Ok(record) = ProgressRecord::read(&record, &commit.describe()) else {
        return false;
    };
    record.lineage != checkpointer.manifest.lineage
        || record.generation > checkpointer.store.generation()
}

#[cfg(test)]
mod tests;
