//! Whether state, log and job belong together, and what to do if they do not.

use super::progress_record::ProgressRecord;
use super::recovery::CheckpointPlan;
use crate::connectors::Commit;
use crate::error::{Error, ErrorKind, Result};
use crate::state::disk::Disk;
use crate::state::manifest::Manifest;
use crate::state::store;

/// Whether the directory and what was committed are of one lineage. What was committed may still be
/// on its way to readers, so which manifest it is is not asked before others are shut out. Returns
/// the generation that committed last.
///
/// # Errors
/// They are not; or one of them is not there.
pub(super) fn look(disk: &dyn Disk, own: &CheckpointPlan, commit: &dyn Commit) -> Result<u64> {
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
             it is another cluster, or the topic was deleted; to start afresh empty the directory",
            kept.checkpoint, kept.job
        )),
        (None, Some(record)) if !store::generations(disk, &own.dir)?.is_empty() => {
            let name = own.dir.join(&record.manifest);
            refuse(format!(
                "manifest `{}` is missing; start with --rebuild, which reads the log again",
                name.display()
            ))
        }
        (None, Some(record)) => refuse(format!(
            "state directory `{dir}` is empty, and {place} says that job `{}` has committed \
             checkpoint {}; give its own --state-dir, or start with --rebuild, which reads the log \
             again and repeats nothing",
            record.job, record.checkpoint
        )),
        (Some(kept), Some(record)) if kept.lineage != record.lineage => refuse(format!(
            "state directory `{dir}` is of another run than {place}: job `{}` there, job `{}` \
             here; give its own --state-dir, or start with --rebuild, which reads the log again",
            record.job, kept.job
        )),
        (_, None) => Ok(0),
        (Some(kept), Some(record)) => {
            // Before others are shut out, and of any manifest of the generation that committed.
            if kept.generation == record.generation {
                check(&kept, own)?;
            }
            Ok(record.generation)
        }
    }
}

/// The manifest that was committed last; `None`: there is none.
///
/// # Errors
/// It is missing or damaged, and what to do.
pub(super) fn committed(disk: &dyn Disk, own: &CheckpointPlan) -> Result<Option<Manifest>> {
    let Some(commit) = &own.commit else {
        // A manifest that is there is committed. A damaged one is refused: the one before it is
        // not what was committed last.
        let Some(newest) = store::newest(disk, &own.dir)? else {
            return Ok(None);
        };
        return store::read_manifest(disk, &own.dir, &newest).map(|(manifest, _)| Some(manifest));
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
                Some(again) if again.checkpoint > record.checkpoint => {
                    let what = format!("another instance has taken over job `{}`", own.job);
                    Error::new(ErrorKind::Owned, what)
                }
                _ => missing,
            });
        }
    };
    if format!("{crc:08x}") != record.crc {
        let (name, dir) = (&record.manifest, own.dir.display());
        let what = format!(
            "manifest `{name}` in `{dir}` is not the one that {place} names: start with --rebuild, \
             which reads the log again"
        );
        return Err(Error::new(ErrorKind::State, what));
    }
    Ok(Some(manifest))
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

/// Whether `manifest`, which is of this job, may be continued.
pub(super) fn check(manifest: &Manifest, own: &CheckpointPlan) -> Result {
    let refuse = |what: String| Err(Error::new(ErrorKind::State, what));
    let dir = own.dir.display();
    if manifest.finished {
        let number = manifest.checkpoint;
        return refuse(format!(
            "job `{}` is finished: checkpoint {number} in `{dir}` was its last; to run it again \
             give it another --job-id and an empty --state-dir",
            own.job
        ));
    }
    for kept in &manifest.operators {
        let now = own.operators.iter().find(|now| now.name == kept.name);
        let Some(now) = now else {
            return refuse(format!(
                "the state in `{dir}` has operator `{}` ({}), which the job has no more; start \
                 with --rebuild, which reads the log again",
                kept.name, kept.shape
            ));
        };
        if now.shape != kept.shape {
            return refuse(format!(
                "operator `{}` was `{}` when its state was saved in `{dir}`, and is `{}` now; \
                 start with --rebuild, which reads the log again",
                kept.name, kept.shape, now.shape
            ));
        }
    }
    for now in &own.operators {
        if !manifest.operators.iter().any(|kept| kept.name == now.name) {
            return refuse(format!(
                "operator `{}` ({}) has no state in `{dir}`: it is new; start with --rebuild, \
                 which reads the log again",
                now.name, now.shape
            ));
        }
    }
    Ok(())
}
