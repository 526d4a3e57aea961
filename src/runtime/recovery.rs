//! What a run continues with, or why it must not start.
//!
//! ```text
//! STEP 1  own      the job: a second process ends before it does any harm (`ownership.rs`)
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
use super::growth::Growth;
use super::lineage::{check, check_job, check_saved, committed, look};
use super::results::Results;
use super::worker::{Run, panicked};
use crate::connectors::{Commit, PartitionCut, SourceCut, TopicEnds};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{crash_point, process, time_of_day};
use crate::state::checkpoints::Continued;
use crate::state::disk::{Disk, RealDisk};
use crate::state::manifest::{FORMAT, Manifest, PartitionState, SourceState};
use crate::state::store::{self, Store, savepoint};
use crate::state::{Checkpoints, Note};

/// What was found, before anything is prepared.
pub(super) struct Recovered {
    pub(super) plan: CheckpointPlan,
    /// A generation of its own.
    pub(super) store: Store,
    pub(super) loaded: Loaded,
}

/// What a run goes on with.
pub(super) struct Loaded {
    /// `None`: the job starts with nothing.
    pub(super) manifest: Option<Manifest>,
    /// Where the results end that were committed.
    pub(super) written: Vec<TopicEnds>,
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
}

/// What a run holds of its job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// The newest generation when nobody else had the job.
    pub(super) seen: u64,
    /// All others are shut out. Not done twice: whoever was stopped meanwhile, and taken over,
    /// would shut out its successor.
    pub(super) fenced: bool,
}

/// Steps 2 to 4, and tells the sources where to go on. This run has the job.
///
/// # Errors
/// State and log do not fit together; or another one has taken the job since.
pub(super) fn recover(plan: &Plan, claim: Claim) -> Result<Option<Recovered>> {
    let Some(own) = &plan.checkpoint else {
        return Ok(None);
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    find(plan, own.clone(), &disk, claim).map(Some)
}

/// As [`recover`], on any disk.
///
/// # Errors
/// As [`recover`].
pub(super) fn find(
    plan: &Plan,
    own: CheckpointPlan,
    disk: &Arc<dyn Disk>,
    claim: Claim,
) -> Result<Recovered> {
    let generation = match &own.commit {
        Some(commit) => look(&**disk, &own, &**commit, claim.seen)?,
        None => 0,
    };
    // Before others are shut out: whoever of them wakes up later finds it, and lets this one be.
    let store = Store::begin(disk, &own.dir, claim.seen, generation, plan.workers)?;
    if let Some(commit) = own.commit.as_ref().filter(|_| !claim.fenced) {
        shut_out(&store, &**commit)?;
    }
    crash_point("state looked for");
    let loaded = load(plan, &own, disk, &store).map_err(|error| store.why(error))?;
    crash_point("state loaded");
    Ok(Recovered {
        plan: own,
        store,
        loaded,
    })
}

/// What was committed last, as far as this run goes on with it.
fn load(plan: &Plan, own: &CheckpointPlan, disk: &Arc<dyn Disk>, store: &Store) -> Result<Loaded> {
    let committed = committed(&**disk, own)?;
    let fresh = committed.is_none();
    let (manifest, written) = match (committed, &own.savepoint) {
        (Some((manifest, written)), _) => (Some(manifest), written),
        (None, Some(from)) => (Some(begin_with(&**disk, from, own, store)?), Vec::new()),
        (None, None) => (None, Vec::new()),
    };
    let (mut continued, mut forgets) = (Continued::default(), false);
    let results = Results::of(&plan.sink_names, &plan.sinks);
    results.go_on(&[]);
    if let Some(manifest) = &manifest {
        check_job(manifest, own)?;
        if manifest.finished {
            // It may have been killed before it showed what it had finished.
            Results::default().leave(disk, &manifest.outputs)?;
        }
        let changes = check(manifest, own)?;
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
        resume(plan, own, manifest, &mut continued)?;
    }
    Ok(Loaded {
        manifest,
        written,
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
    check_saved(&saved, own, from)?; // before all of it is copied
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
        full_millis: saved.full_millis,
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
    pub(super) fn checkpointer(self, plan: &Plan, run: &Run) -> Result<Checkpointer> {
        let (tell, notes) = mpsc::channel::<Note>();
        let results = Results::of(&plan.sink_names, &plan.sinks);
        let holds = self.plan.commit.is_some() || results.holds();
        let first = || first(&self.plan);
        let loaded = self.loaded;
        let mut manifest = loaded.manifest.unwrap_or_else(first);
        let saved = std::mem::replace(&mut manifest.operators, self.plan.operators.clone());
        manifest.sources = sources_now(plan, &manifest.sources)?;
        if !self.plan.finishes {
            manifest.forget_ends(); // the next run ends elsewhere
        }
        let mut store = self.store;
        store.continue_with(manifest.logs.clone());
        if loaded.continued.state.is_some() {
            run.checkpoints.resume(manifest.resumed());
            // What a run left that died before its commit: the disk may be full of it.
            store.clean(&manifest)?;
        }
        let timeout = self.plan.commit.as_ref().and_then(|it| it.timeout());
        let growth = Growth::new(self.plan.small, loaded.forgets, timeout);
        let mut checkpointer = Checkpointer {
            checkpoints: Arc::new(Checkpoints::new(tell, holds, loaded.continued)),
            notes,
            control: Arc::clone(&run.control),
            metrics: Arc::clone(&run.metrics),
            board: Arc::clone(&run.checkpoints),
            store,
            commit: self.plan.commit,
            sources: plan.sources.clone(),
            results,
            interval: self.plan.interval,
            finishes: self.plan.finishes,
            bounded: plan.is_bounded(),
            parts: Parts {
                workers: plan.workers,
                sources: plan.sources.len(),
            },
            manifest: manifest.clone(),
            written: loaded.written,
            state: State::new(growth),
        };
        if loaded.fresh {
            manifest.made_at = time_of_day().millis();
            manifest.outputs = checkpointer.results.cut(false)?;
            if loaded.forgets {
                // Until the next checkpoint saves everything the logs have what they had.
                manifest.operators = saved;
            }
            let settled = checkpointer.settle(manifest);
            settled.map_err(|error| checkpointer.store.why(error))?;
            checkpointer.manifest.operators = self.plan.operators;
        }
        Ok(checkpointer)
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
    /// Makes checkpoints from now on.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn begin(checkpointer: Checkpointer) -> Result<Self> {
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
        let checkpointer = ended.map_err(|panic| panicked("the thread of checkpoints", &*panic))?;
        if let Some(commit) = &checkpointer.commit {
            commit.stop();
        }
        Ok(checkpointer)
    }
}

#[cfg(test)]
mod tests;
