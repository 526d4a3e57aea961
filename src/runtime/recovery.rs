//! What a run continues with, or why it must not start.
//!
//! ```text
//! STEP 1  lock     the state directory: a second process there ends before it does any harm
//! STEP 2  look     what was committed last, and whether it and the directory are of one lineage
//! STEP 3  fence    a generation of its own; every other instance is shut out; then look again, for
//!                  one may have committed
//! STEP 4  load     the one manifest that was committed, and its logs
//! STEP 5  resume   sources at its offsets
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tracing::{info, warn};

use super::Plan;
use super::checkpoint_plan::CheckpointPlan;
use super::checkpointer::{Checkpointer, Parts, State};
use super::lineage::{check, check_job, committed, look};
use super::ownership;
use super::results::Results;
use super::worker::{Run, panicked};
use crate::connectors::{Commit, PartitionCut, SourceCut};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{crash_point, process, time_of_day};
use crate::state::checkpoints::Continued;
use crate::state::disk::{Disk, Lock, RealDisk};
use crate::state::manifest::{FORMAT, Manifest, PartitionState, SourceState};
use crate::state::store::{self, Store, savepoint};
use crate::state::{Checkpoints, Note};

/// What was found, before anything is prepared.
pub(super) struct Recovered {
    pub(super) plan: CheckpointPlan,
    pub(super) lock: Option<Lock>,
    /// A generation of its own.
    pub(super) store: Store,
    /// `None`: the job starts with nothing.
    pub(super) manifest: Option<Manifest>,
    /// Nothing is committed yet: checkpoint 0 is, before anything is read.
    pub(super) fresh: bool,
    pub(super) continued: Continued,
    /// The logs have state that nobody goes on with.
    pub(super) forgets: bool,
}

/// Checkpoints of a run.
pub(super) struct Checkpointing {
    pub(super) checkpoints: Arc<Checkpoints>,
    thread: JoinHandle<Checkpointer>,
    commit: Option<Arc<dyn Commit>>,
    _lock: Option<Lock>,
}

/// Steps 1 to 4, and tells the sources where to go on.
///
/// # Errors
/// Another instance runs the job, or state and log do not fit together.
pub(super) fn recover(plan: &Plan, run: &Run) -> Result<Option<Recovered>> {
    let Some(own) = &plan.checkpoint else {
        return Ok(None);
    };
    if let Some(commit) = &own.commit {
        commit.prepare()?;
    }
    let lock = ownership::own(own, &run.control)?;
    find(
        plan,
        own.clone(),
        &(Arc::new(RealDisk) as Arc<dyn Disk>),
        lock,
    )
    .map(Some)
}

/// Steps 2 to 4, when this process holds `lock`, or whoever holds it is shut out.
///
/// # Errors
/// As [`recover`].
pub(super) fn find(
    plan: &Plan,
    own: CheckpointPlan,
    disk: &Arc<dyn Disk>,
    lock: Option<Lock>,
) -> Result<Recovered> {
    let generation = match &own.commit {
        Some(commit) => look(&**disk, &own, &**commit)?,
        None => 0,
    };
    // Before others are shut out: whoever of them wakes up later finds it, and lets this one be.
    let store = Store::begin(disk, &own.dir, generation, plan.workers)?;
    if let Some(commit) = &own.commit {
        shut_out(&store, &**commit)?;
    }
    crash_point("state looked for");
    let committed = committed(&**disk, &own)?;
    let fresh = committed.is_none();
    let manifest = match (committed, &own.savepoint) {
        (None, Some(from)) => Some(begin_with(&**disk, from, &own, &store)?),
        (committed, _) => committed,
    };
    let (mut continued, mut forgets) = (Continued::default(), false);
    let results = Results::of(&plan.sink_names, &plan.sinks);
    results.go_on(&[]);
    if let Some(manifest) = &manifest {
        check_job(manifest, &own)?;
        if manifest.finished {
            // It may have been killed before it showed what it had finished.
            Results::default().leave(disk, &manifest.outputs)?;
        }
        let changes = check(manifest, &own)?;
        results.leave(disk, &manifest.outputs)?;
        results.go_on(&manifest.outputs);
        let mut restored = store::read_logs(disk, &own.dir, &manifest.logs)?;
        if !changes.is_none() {
            warn!("{changes}");
            forgets = !changes.dropped.is_empty();
            let dropped = changes.dropped.iter();
            dropped.for_each(|operator| restored.forget(operator));
        }
        continued.state = Some(restored);
        resume(plan, &own, manifest, &mut continued)?;
    }
    crash_point("state loaded");
    Ok(Recovered {
        plan: own,
        lock,
        store,
        manifest,
        fresh,
        continued,
        forgets,
    })
}

/// The manifest of a job that begins with the state of a savepoint, which is its own from now on.
fn begin_with(
    disk: &dyn Disk,
    from: &Path,
    own: &CheckpointPlan,
    store: &Store,
) -> Result<Manifest> {
    let saved = savepoint::saved(disk, from)?;
    info!(
        "begins with checkpoint {} of job `{}`",
        saved.checkpoint, saved.job
    );
    Ok(Manifest {
        logs: store.adopt(from, &saved.logs)?,
        sources: saved.sources,
        operators: saved.operators,
        finished: saved.finished,
        full_bytes: saved.full_bytes,
        ..first(own)
    })
}

/// From here on nobody else commits. Whoever was stopped on its way here, and taken over, ends;
/// also if it has just shut its successor out, which a restart puts right.
pub(super) fn shut_out(store: &Store, commit: &dyn Commit) -> Result {
    store.check_newest()?;
    commit.fence()?;
    store.check_newest()
}

/// Sources go on where the checkpoint left them.
pub(super) fn resume(
    plan: &Plan,
    own: &CheckpointPlan,
    manifest: &Manifest,
    continued: &mut Continued,
) -> Result {
    let sources = (0u16..).zip(&plan.sources).zip(&plan.source_names);
    for ((number, source), name) in sources {
        let Some(kept) = manifest.sources.iter().find(|kept| kept.port == *name) else {
            let (dir, afresh) = (own.dir.display(), own.afresh());
            let what = format!("source `{name}` has no state in `{dir}`: it is new; {afresh}");
            return Err(Error::new(ErrorKind::State, what));
        };
        let partitions = kept.partitions.iter().map(|kept| PartitionCut {
            partition: kept.partition,
            next: kept.next,
            end: kept.end,
        });
        source.resume(&SourceCut {
            identity: kept.identity.clone(),
            partitions: partitions.collect(),
        })?;
        continued.progress.insert(number, kept.progress());
        continued.partitions.insert(number, kept.facts());
    }
    Ok(())
}

impl Recovered {
    /// Step 5, when sources and sinks are prepared: for a job that starts afresh its checkpoint 0,
    /// before anything is read.
    ///
    /// # Errors
    /// The checkpoint cannot be made.
    pub(super) fn checkpointer(
        self,
        plan: &Plan,
        run: &Run,
    ) -> Result<(Checkpointer, Option<Lock>)> {
        let (tell, notes) = mpsc::channel::<Note>();
        let results = Results::of(&plan.sink_names, &plan.sinks);
        let holds = self.plan.commit.is_some() || !results.is_empty();
        let first = || first(&self.plan);
        let mut manifest = self.manifest.unwrap_or_else(first);
        manifest.operators.clone_from(&self.plan.operators);
        manifest.sources = sources_now(plan, &manifest.sources)?;
        if !self.plan.finishes {
            manifest.forget_ends(); // the next run ends elsewhere
        }
        let mut store = self.store;
        store.continue_with(manifest.logs.clone());
        if self.continued.state.is_some() {
            run.checkpoints.resume(manifest.resumed());
            // What a run left that died before its commit: the disk may be full of it.
            store.clean(&manifest)?;
        }
        let mut checkpointer = Checkpointer {
            checkpoints: Arc::new(Checkpoints::new(tell, holds, self.continued)),
            notes,
            control: Arc::clone(&run.control),
            metrics: Arc::clone(&run.metrics),
            board: Arc::clone(&run.checkpoints),
            store,
            commit: self.plan.commit,
            results,
            interval: self.plan.interval,
            finishes: self.plan.finishes,
            bounded: plan.is_bounded(),
            parts: Parts {
                workers: plan.workers,
                sources: plan.sources.len(),
            },
            manifest: manifest.clone(),
            state: State::new(self.forgets),
        };
        if self.fresh {
            manifest.made_at = time_of_day().millis();
            manifest.outputs = checkpointer.results.cut(false)?;
            let settled = checkpointer.settle(manifest);
            settled.map_err(|error| checkpointer.why(error))?;
        }
        Ok((checkpointer, self.lock))
    }
}

/// No state yet.
fn first(own: &CheckpointPlan) -> Manifest {
    Manifest {
        format: FORMAT,
        job: own.job.clone(),
        name: own.name.clone(),
        lineage: format!("{:x}-{:x}", time_of_day().millis(), process()),
        operators: own.operators.clone(),
        ..Manifest::default()
    }
}

/// What the sources read now, with what is known of it.
fn sources_now(plan: &Plan, before: &[SourceState]) -> Result<Vec<SourceState>> {
    let mut all = Vec::new();
    for (source, name) in plan.sources.iter().zip(&plan.source_names) {
        let Some(cut) = source.cut()? else {
            let what = source.describe();
            let why = format!("source `{name}`: {what} cannot be read again from where it was");
            return Err(Error::usage(format!("{why}: it allows no --state-dir")));
        };
        let mut state = before.iter().find(|state| state.port == *name).cloned();
        let state = state.get_or_insert_default();
        (state.port, state.place) = (name.clone(), source.describe());
        state.identity = cut.identity;
        let known: BTreeMap<_, _> = state
            .partitions
            .drain(..)
            .map(|state| (state.partition, state))
            .collect();
        state.partitions = cut
            .partitions
            .iter()
            .map(|cut| PartitionState {
                partition: cut.partition,
                next: cut.next,
                end: cut.end,
                ..known
                    .get(&cut.partition)
                    .cloned()
                    .unwrap_or(PartitionState {
                        first: cut.next,
                        ..PartitionState::default()
                    })
            })
            .collect();
        all.push(state.clone());
    }
    Ok(all)
}

impl Checkpointing {
    /// Makes checkpoints from now on, and keeps the lock.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn begin((checkpointer, lock): (Checkpointer, Option<Lock>)) -> Result<Self> {
        let checkpoints = Arc::clone(&checkpointer.checkpoints);
        let commit = checkpointer.commit.clone();
        let thread = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || checkpointer.run());
        let failed = |why| Error::operating("no thread for checkpoints").because(why);
        Ok(Self {
            checkpoints,
            thread: thread.map_err(failed)?,
            commit,
            _lock: lock,
        })
    }

    /// The workers are gone: the thread ends, too; at once, if the run has failed.
    ///
    /// # Errors
    /// It panicked.
    pub(super) fn end(self, failed: bool) -> Result<Checkpointer> {
        self.checkpoints.release();
        if let (true, Some(commit)) = (failed, &self.commit) {
            commit.stop();
        }
        self.checkpoints.tell(Note::Look);
        let ended = self.thread.join();
        let checkpointer = ended.map_err(|panic| panicked("checkpoints", &*panic))?;
        if let Some(commit) = &checkpointer.commit {
            commit.stop();
        }
        Ok(checkpointer)
    }
}

#[cfg(test)]
mod tests;
