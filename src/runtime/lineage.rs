//! Whether state, log and job belong together, and what to do if they do not.

use std::fmt;
use std::path::Path;

use super::checkpoint_plan::CheckpointPlan;
use super::progress_record::ProgressRecord;
use crate::connectors::{Commit, TopicEnds};
use crate::error::{Error, ErrorKind, Result};
use crate::state::advice::{REBUILD, SPOILED};
use crate::state::disk::Disk;
use crate::state::manifest::{Manifest, OperatorShape};
use crate::state::store;

/// Whether the directory and what was committed are of one lineage. What was committed may still be
/// on its way to readers, so which manifest it is is not asked before others are shut out. `seen`
/// was the newest generation when this process got the job. Returns the one that committed last.
///
/// # Errors
/// They are not; or one of them is not there; or another instance has begun meanwhile.
pub(super) fn look(
    disk: &dyn Disk,
    own: &CheckpointPlan,
    commit: &dyn Commit,
    seen: u64,
) -> Result<u64> {
    let compared = compare(disk, own, commit);
    if compared.is_err() && store::newest_generation(disk, &own.dir)? != seen {
        // The directory as it was before, and the progress after: they need not agree.
        return Err(taken_over(own));
    }
    compared
}

fn taken_over(own: &CheckpointPlan) -> Error {
    let what = format!("another instance has taken over job `{}`", own.job);
    Error::new(ErrorKind::Owned, what)
}

fn compare(disk: &dyn Disk, own: &CheckpointPlan, commit: &dyn Commit) -> Result<u64> {
    let refuse = |what: String| Err(Error::new(ErrorKind::State, what));
    let (place, dir) = (commit.describe(), own.dir.display());
    let names = store::manifests(disk, &own.dir)?;
    let read = names.iter().rev();
    let mut read = read.map(|name| store::read_manifest(disk, &own.dir, name));
    // Any will do: a living instance may have deleted some of them since they were listed.
    let kept = match read.next() {
        None => None,
        Some(Ok((manifest, _))) => Some(manifest),
        Some(Err(broken)) => Some(read.find_map(Result::ok).ok_or(broken)?.0),
    };
    let record = commit.last()?;
    let record = record
        .map(|record| ProgressRecord::read(&record, &place))
        .transpose()?;
    match (kept, record) {
        // Nothing was ever committed: a manifest can only be that of a first start that failed.
        (Some(kept), None) if kept.checkpoint > 0 => refuse(format!(
            "state directory `{dir}` has checkpoint {} of job `{}`, and {place} has no progress: \
             it is another cluster, or the topic was deleted, or the job ran at-least-once; to \
             start afresh empty the directory",
            kept.checkpoint, kept.job
        )),
        (None, Some(record)) if !store::generations(disk, &own.dir)?.is_empty() => {
            let name = own.dir.join(&record.manifest);
            refuse(format!(
                "manifest `{}` is missing; {REBUILD}",
                name.display()
            ))
        }
        (None, Some(record)) => refuse(format!(
            "state directory `{dir}` is empty, and {place} says that job `{}` has committed \
             checkpoint {}; give its own --state-dir, or {REBUILD} and repeats nothing",
            record.job, record.checkpoint
        )),
        (Some(kept), Some(record)) if kept.lineage != record.lineage => refuse(format!(
            "state directory `{dir}` is of another run than {place}: job `{}` there, job `{}` \
             here; give its own --state-dir, or {REBUILD}",
            record.job, kept.job
        )),
        (_, None) => Ok(0),
        (Some(kept), Some(record)) => {
            // Before others are shut out, and of any manifest of the generation that committed.
            if kept.generation == record.generation {
                changes(&kept, own, (&own.dir, own.way_out()))?;
            }
            Ok(record.generation)
        }
    }
}

/// The manifest that was committed last, and where its results end; `None`: there is none.
///
/// # Errors
/// It is missing or damaged, and what to do.
pub(super) fn committed(
    disk: &dyn Disk,
    own: &CheckpointPlan,
) -> Result<Option<(Manifest, Vec<TopicEnds>)>> {
    let Some(commit) = &own.commit else {
        // A manifest that is there is committed. A damaged one is refused: the one before it is
        // not what was committed last.
        let Some(newest) = store::newest(disk, &own.dir)? else {
            return Ok(None);
        };
        let (manifest, _) = store::read_manifest(disk, &own.dir, &newest)?;
        return Ok(Some((manifest, Vec::new())));
    };
    let place = commit.describe();
    let Some(record) = commit.last()? else {
        return Ok(None);
    };
    let record = ProgressRecord::read(&record, &place)?;
    let read = store::read_manifest(disk, &own.dir, &record.manifest);
    let (manifest, crc) = match read {
        Ok(read) => read,
        // Whoever has shut this process out may have deleted it since.
        Err(missing) => {
            let again = commit
                .last()?
                .map(|again| ProgressRecord::read(&again, &place));
            return Err(match again.transpose()? {
                Some(again) if again.checkpoint > record.checkpoint => taken_over(own),
                _ => missing,
            });
        }
    };
    if format!("{crc:08x}") != record.crc {
        let (name, dir) = (&record.manifest, own.dir.display());
        let what =
            format!("manifest `{name}` in `{dir}` is not the one that {place} names: {REBUILD}");
        return Err(Error::new(ErrorKind::State, what));
    }
    Ok(Some((manifest, record.written)))
}

/// Whether `manifest` is of this job.
pub(super) fn check_job(manifest: &Manifest, own: &CheckpointPlan) -> Result {
    if manifest.job == own.job {
        return Ok(());
    }
    let (dir, theirs, ours) = (own.dir.display(), &manifest.job, &own.job);
    let what = format!(
        "state directory `{dir}` is of job `{theirs}`, and this is `{ours}`; give each job a \
         --state-dir of its own"
    );
    Err(Error::new(ErrorKind::State, what))
}

/// Whether `manifest`, which is of this job, may be continued, and with what of it.
pub(super) fn check(manifest: &Manifest, own: &CheckpointPlan) -> Result<Changes> {
    let again = "to run it again give it another --job-id and an empty --state-dir";
    check_ended(manifest, &own.dir, again)?;
    changes(manifest, own, (&own.dir, own.way_out()))
}

/// Whether this job may begin with `manifest`, which is that of the savepoint `from`.
pub(super) fn check_saved(
    manifest: &Manifest,
    own: &CheckpointPlan,
    from: &Path,
) -> Result<Changes> {
    check_ended(manifest, from, SPOILED)?;
    changes(manifest, own, (from, SPOILED))
}

fn check_ended(manifest: &Manifest, dir: &Path, advice: &str) -> Result {
    if !manifest.finished {
        return Ok(());
    }
    let (job, number, dir) = (&manifest.job, manifest.checkpoint, dir.display());
    let what =
        format!("job `{job}` is finished: checkpoint {number} in `{dir}` was its last; {advice}");
    Err(Error::new(ErrorKind::State, what))
}

/// What becomes of the state in a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    reused: Vec<String>,
    /// Operators that have state in the directory, and do not go on with it.
    pub(super) dropped: Vec<String>,
    new: Vec<String>,
    changed: Vec<String>,
}

/// Holds the operators of the job against those that have state in a folder. One that is not what
/// it was is to be named by whoever starts the job: its state is lost.
fn changes(
    manifest: &Manifest,
    own: &CheckpointPlan,
    (dir, way_out): (&Path, &str),
) -> Result<Changes> {
    let dir = dir.display();
    let allowed = |name: &String, what: String| {
        if own.allow_empty.contains(name) {
            return Ok(name.clone());
        }
        let what = format!("{what}; {way_out}, or with --allow-empty {name}");
        Err(Error::new(ErrorKind::State, what))
    };
    let mut changes = Changes::default();
    for OperatorShape { name, shape } in &manifest.operators {
        match own.operators.iter().find(|now| now.name == *name) {
            Some(now) if now.shape == *shape => changes.reused.push(name.clone()),
            Some(now) => {
                let what = format!(
                    "operator `{name}` was `{shape}` when its state was saved in `{dir}`, and is \
                     `{}` now",
                    now.shape
                );
                changes.changed.push(allowed(name, what)?);
                changes.dropped.push(name.clone());
            }
            None => {
                let what = format!(
                    "the state in `{dir}` has operator `{name}` ({shape}), which the job has no \
                     more"
                );
                changes.dropped.push(allowed(name, what)?);
            }
        }
    }
    for OperatorShape { name, shape } in &own.operators {
        if !manifest.operators.iter().any(|kept| kept.name == *name) {
            let what = format!("operator `{name}` ({shape}) has no state in `{dir}`: it is new");
            changes.new.push(allowed(name, what)?);
        }
    }
    Ok(changes)
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gone = self
            .dropped
            .iter()
            .filter(|name| !self.changed.contains(name));
        let gone: Vec<_> = gone.cloned().collect();
        let empty = [&self.changed[..], &self.new].concat();
        let kinds = [
            ("reused", &self.reused),
            ("starts empty", &empty),
            ("dropped", &gone),
        ];
        let said = kinds.iter().filter(|(_, names)| !names.is_empty());
        let said: Vec<_> = said
            .map(|(kind, names)| format!("{kind}: {}", names.join(", ")))
            .collect();
        write!(f, "state: {}", said.join("; "))
    }
}

impl Changes {
    /// Whether all is as it was.
    pub(super) fn is_none(&self) -> bool {
        self.dropped.is_empty() && self.new.is_empty()
    }
}

#[cfg(test)]
mod tests;
