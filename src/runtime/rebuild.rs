//! State that is lost, or of another plan, is made again from the log.
//!
//! What was committed says how far the job had come, and what was known there. The log is read
//! from where the job began to exactly there, and nothing is written; records that had left with
//! reason `idle`, the only ones whose fate is not in the log, are left out. Because the same log
//! gives the same answer, the state is then what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Plan;
use super::checkpoint_plan::CheckpointPlan;
use super::checkpointer::Checkpointer;
use super::progress_record::{ProgressRecord, SourceRecord};
use super::recovery::{Checkpointing, Claim, Loaded, Recovered, shut_out};
use super::results::Results;
use super::worker::{Run, at_once, execute};
use crate::connectors::{Commit, PartitionCut, Source, SourceCut};
use crate::error::{Error, ErrorKind, Result};
use crate::state::advice::AFRESH;
use crate::state::checkpoints::Continued;
use crate::state::disk::{Disk, RealDisk};
use crate::state::manifest::{FORMAT, Manifest};
use crate::state::store::Store;
use crate::time::EventTime;

/// A run that reads a log again.
pub(crate) struct Rebuild {
    pub(crate) plan: Plan,
    /// What is to be seen of it.
    pub(crate) run: Run,
}

impl Rebuild {
    pub(super) fn new(plan: Plan) -> Self {
        let run = Run::new(&plan);
        Self { plan, run }
    }
}

/// Makes the state of `plan` again by running `again`, and commits it. This run has the job;
/// returns what it holds of it then.
///
/// # Errors
/// Nothing was ever committed; the log does not have any more what was read; it was interrupted.
pub(super) fn rebuild(plan: &Plan, again: Rebuild, run: &Run, claim: Claim) -> Result<Claim> {
    let (_, commit) = asked(plan)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let reading = begin(plan, again.plan, &disk, claim.seen)?;
    let reads = Run {
        control: Arc::clone(&run.control),
        ..again.run
    };
    let again = &reading.again;
    at_once(&again.sources, |source| source.prepare())?;
    at_once(&again.sinks, |sink| sink.prepare())?;
    let checkpointer = reading.found.checkpointer(again, &reads)?;
    let checkpointing = Checkpointing::begin(checkpointer)?;
    let checkpoints = Arc::clone(&checkpointing.checkpoints);
    let outcome = execute(reading.again, &reads, Some(checkpoints));
    let checkpointer = checkpointing.end(run.control.is_faulty())?;
    let fault = run.control.take_fault();
    if run.control.is_stopping() {
        let why = "interrupted: the log was not read again to its end";
        return Err(Error::new(
            ErrorKind::Interrupted(run.control.signal()),
            why,
        ));
    }
    fault.map_or(Ok(()), Err)?;
    outcome?;
    let generation = checkpointer.store.generation();
    settle(checkpointer, commit, &reading.record)?;
    Ok(Claim {
        seen: generation,
        fenced: true,
    })
}

/// Without the cut that Kafka holds nobody knows which results were written.
const NEEDS: &str = "needs a Kafka sink, where progress is committed; without one start afresh \
                     with an empty --state-dir";

/// What `plan` says of checkpoints, and where they are committed.
///
/// # Errors
/// They are not, or not in Kafka.
pub(super) fn asked(plan: &Plan) -> Result<(&CheckpointPlan, &Arc<dyn Commit>)> {
    let refuse = |what: &str| Error::usage(format!("--rebuild: {what}"));
    let own = plan.checkpoint.as_ref();
    let own = own.ok_or_else(|| refuse("needs --state-dir DIR, where the state will be"))?;
    let commit = own.commit.as_ref();
    let commit = commit.ok_or_else(|| refuse(NEEDS))?;
    Ok((own, commit))
}

/// A run that is about to read a log again.
pub(super) struct Reading {
    pub(super) again: Plan,
    pub(super) found: Recovered,
    /// What was committed: how far it reads.
    pub(super) record: ProgressRecord,
}

/// Shuts out every other instance, and has `again` begin where the job began.
///
/// # Errors
/// As [`rebuild`].
pub(super) fn begin(
    plan: &Plan,
    mut again: Plan,
    disk: &Arc<dyn Disk>,
    seen: u64,
) -> Result<Reading> {
    let (own, commit) = asked(plan)?;
    let generation = committed(&**commit)?.generation;
    let mut store = Store::begin(disk, &own.dir, seen, generation, plan.workers)?;
    store.keep_older(true);
    shut_out(&store, &**commit)?;
    // Whoever was shut out may have committed meanwhile.
    let record = unfinished(&**commit)?;
    let mut continued = Continued::default();
    resume(&mut again, &record, &mut continued)?;
    let found = Recovered {
        plan: again.checkpoint.clone().expect("it has a state directory"),
        store,
        loaded: Loaded {
            manifest: Some(beginning(own, &record)),
            written: record.written.clone(),
            fresh: false,
            continued,
            forgets: false,
        },
    };
    Ok(Reading {
        again,
        found,
        record,
    })
}

/// Looks whether `again` can read what was committed once more, as far as that is known before it
/// does, and tells its sources where it would begin, and the sinks of `plan` what they have.
///
/// # Errors
/// As [`rebuild`].
pub(super) fn look(plan: &Plan, again: &Plan) -> Result<String> {
    let (_, commit) = asked(plan)?;
    let record = unfinished(&**commit)?;
    Results::of(&plan.sink_names, &plan.sinks).go_on(&record.outputs);
    for (source, name) in again.sources.iter().zip(&again.source_names) {
        begin_again(&**source, name, &record)?;
    }
    let number = record.checkpoint;
    Ok(format!(
        "is made again from the log, up to checkpoint {number}"
    ))
}

/// No state yet, in the lineage of `record`.
fn beginning(own: &CheckpointPlan, record: &ProgressRecord) -> Manifest {
    Manifest {
        format: FORMAT,
        job: own.job.clone(),
        name: own.name.clone(),
        lineage: record.lineage.clone(),
        operators: own.operators.clone(),
        checkpoint: record.checkpoint,
        ..Manifest::default()
    }
}

/// What was committed last by a job that has not ended.
fn unfinished(commit: &dyn Commit) -> Result<ProgressRecord> {
    let record = committed(commit)?;
    if record.finished {
        let what = format!(
            "job `{}` is finished: there is nothing to go on with; to run it again give it another \
             --job-id and an empty --state-dir",
            record.job
        );
        return Err(Error::new(ErrorKind::State, what));
    }
    Ok(record)
}

fn committed(commit: &dyn Commit) -> Result<ProgressRecord> {
    let place = commit.describe();
    let record = commit.last()?.ok_or_else(|| {
        let what = format!("--rebuild: {place} has no progress: start without it");
        Error::usage(what)
    })?;
    ProgressRecord::read(&record, &place)
}

/// Every source begins where the job began, and ends where it was committed.
fn resume(again: &mut Plan, record: &ProgressRecord, continued: &mut Continued) -> Result {
    let (mut reached, mut read) = (BTreeMap::new(), BTreeSet::new());
    for ((number, source), name) in (0u16..).zip(&again.sources).zip(&again.source_names) {
        let known = begin_again(&**source, name, record)?;
        for partition in &known.partitions {
            let left = partition.left.clone();
            continued.skips.insert((number, partition.partition), left);
            read.insert((number, partition.partition));
        }
        if let Some(watermark) = known.watermark {
            reached.insert(number, EventTime::from_millis(watermark));
        }
    }
    (again.tuning.reached, again.tuning.again) = (reached, Some(read));
    Ok(())
}

/// The source `name` begins where the job began, and ends where it was committed.
fn begin_again<'a>(
    source: &dyn Source,
    name: &str,
    record: &'a ProgressRecord,
) -> Result<&'a SourceRecord> {
    let known = record.sources.iter().find(|known| known.port == name);
    let known = known.ok_or_else(|| {
        Error::usage(format!(
            "--rebuild: source `{name}` is new: it was never read; {AFRESH}"
        ))
    })?;
    source.resume(&SourceCut {
        identity: known.identity.clone(),
        partitions: cuts(known),
    })?;
    Ok(known)
}

fn cuts(known: &SourceRecord) -> Vec<PartitionCut> {
    let cut = known.partitions.iter().map(|state| PartitionCut {
        partition: state.partition,
        next: state.first,
        end: Some(state.next),
    });
    cut.collect()
}

/// What was made again is committed as the checkpoint after the last one.
///
/// # Errors
/// Something was not read; or it cannot be committed.
pub(super) fn settle(
    mut checkpointer: Checkpointer,
    commit: &Arc<dyn Commit>,
    record: &ProgressRecord,
) -> Result {
    let mut manifest = checkpointer.manifest.clone();
    for source in &mut manifest.sources {
        let Some(known) = record
            .sources
            .iter()
            .find(|known| known.port == source.port)
        else {
            continue;
        };
        for state in &known.partitions {
            let there = |read: &&_| is_there(read, state.partition, state.next);
            if !source.partitions.iter().any(|read| there(&read)) {
                let (port, partition) = (&source.port, state.partition);
                return Err(Error::new(
                    ErrorKind::State,
                    format!(
                        "--rebuild: {port}[{partition}] was not read up to {}",
                        state.next
                    ),
                ));
            }
        }
        source.partitions.clone_from(&known.partitions);
        (source.watermark, source.horizon) = (known.watermark, known.horizon);
    }
    manifest.checkpoint = record.checkpoint + 1;
    manifest.outputs.clone_from(&record.outputs);
    checkpointer.commit = Some(Arc::clone(commit));
    checkpointer.store.keep_older(false);
    checkpointer.settle(manifest)
}

fn is_there(read: &crate::state::manifest::PartitionState, partition: u32, next: u64) -> bool {
    read.partition == partition && read.next >= next
}
