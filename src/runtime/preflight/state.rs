//! What a run would go on with, read as recovery reads it; but nobody is shut out, nothing is made,
//! and no state is kept.

use std::thread;

use super::{Finding, Plan, joined};
use crate::connectors::{Commit, Member};
use crate::error::Result;
use crate::observe::grouped;
use crate::runtime::checkpoint_plan::CheckpointPlan;
use crate::runtime::lineage::{self, Changes, check, check_job, check_saved, committed};
use crate::runtime::ownership::person;
use crate::runtime::progress_record::ProgressRecord;
use crate::runtime::rebuild;
use crate::runtime::recovery::resume;
use crate::runtime::results::Results;
use crate::state::advice::{LOST, SPOILED};
use crate::state::checkpoints::Continued;
use crate::state::disk::RealDisk;
use crate::state::manifest::Manifest;
use crate::state::store::{self, savepoint};
use crate::time::EventTime;

/// How often is looked at, at most, what a job that runs has changed meanwhile.
const LOOKS: usize = 20;

/// What there is of checkpoints; nothing, if the run makes none. If all is well, the sources have
/// been told where they would go on.
pub(super) fn look(plan: &Plan) -> Vec<Finding> {
    let Some(own) = &plan.checkpoint else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let mut record = None;
    if let Some(commit) = &own.commit {
        let (members, last) = thread::scope(|scope| {
            let members = scope.spawn(|| commit.members());
            let last = commit.check().and_then(|()| commit.last());
            (joined(members), last)
        });
        findings.push(Finding {
            what: format!("job {}", own.job),
            found: members.map(|members| group(&members)),
        });
        let read = last.and_then(|last| Ok((progress(&**commit, last.as_deref())?, last)));
        let (found, last) = match read {
            Ok((said, last)) => (Ok(said), Some(last)),
            Err(error) => (Err(error), None),
        };
        findings.push(Finding {
            what: format!("progress topic {}", commit.describe()),
            found,
        });
        let Some(last) = last else {
            return findings; // which state counts is not known either
        };
        record = last;
    }
    findings.push(Finding {
        what: format!("state {}", own.dir.display()),
        found: match &plan.rebuild {
            Some(again) => rebuild::look(plan, &again.plan),
            None => state(plan, own, record),
        },
    });
    findings
}

/// Who is in the job's group. That is nothing amiss: a check before an upgrade finds the old one.
fn group(members: &[Member]) -> String {
    let Some(member) = members.first() else {
        return "nobody is in its group".to_owned();
    };
    let (who, host) = (person(&member.name), &member.host);
    format!("{who} at {host} is in its group")
}

fn progress(commit: &dyn Commit, record: Option<&[u8]>) -> Result<String> {
    let Some(record) = record else {
        return Ok("nothing is committed yet".to_owned());
    };
    let record = ProgressRecord::read(record, &commit.describe())?;
    let number = record.checkpoint;
    Ok(format!("checkpoint {number} is committed"))
}

/// As [`find`](crate::runtime::recovery::find), without effects. `record` was committed last.
fn state(plan: &Plan, own: &CheckpointPlan, record: Option<Vec<u8>>) -> Result<String> {
    let results = Results::of(&plan.sink_names, &plan.sinks);
    let begin = Stand::of(own, record)?;
    let now = || {
        let record = own.commit.as_ref().map(|commit| commit.last());
        Stand::of(own, record.transpose()?.flatten())
    };
    let Some((manifest, changes)) = steady(begin, now, || found(own, &results))? else {
        results.go_on(&[]);
        return Ok("empty: the job begins with nothing".to_owned());
    };
    results.go_on(&manifest.outputs);
    resume(plan, own, &manifest, &mut Continued::default())?;
    let bytes: u64 = manifest.logs.iter().map(|log| log.len).sum();
    let mut said = format!(
        "goes on behind checkpoint {} of {}, {} bytes",
        manifest.checkpoint,
        EventTime::from_millis(manifest.made_at),
        grouped(bytes)
    );
    if !changes.is_none() {
        said = format!("{said}; {changes}");
    }
    Ok(said)
}

/// The manifest that a run would go on with, and what becomes of its state, all of which is whole.
fn found(own: &CheckpointPlan, results: &Results) -> Result<Option<(Manifest, Changes)>> {
    if let Some(commit) = &own.commit {
        let seen = store::newest_generation(&RealDisk, &own.dir)?;
        lineage::look(&RealDisk, own, &**commit, seen)?;
    }
    let committed = committed(&RealDisk, own)?;
    let (manifest, changes, from) = match (committed, &own.savepoint) {
        (Some((manifest, _)), _) => {
            check_job(&manifest, own)?;
            let changes = check(&manifest, own)?;
            (manifest, changes, (&*own.dir, LOST))
        }
        (None, Some(from)) => {
            let mut saved = savepoint::saved(&RealDisk, from)?;
            saved.outputs.clear(); // they are those of the job that it was saved from
            let changes = check_saved(&saved, own, from)?;
            (saved, changes, (&**from, SPOILED))
        }
        (None, None) => return Ok(None),
    };
    results.check(&RealDisk, &manifest.outputs)?;
    for log in &manifest.logs {
        store::log_in(&RealDisk, from, log)?;
    }
    Ok(Some((manifest, changes)))
}

/// Where the job stands. A job that runs changes it before it takes anything away, or gives it
/// another name.
#[derive(PartialEq, Eq)]
struct Stand {
    generation: u64,
    newest: Option<String>,
    record: Option<Vec<u8>>,
}

impl Stand {
    fn of(own: &CheckpointPlan, record: Option<Vec<u8>>) -> Result<Self> {
        Ok(Self {
            generation: store::newest_generation(&RealDisk, &own.dir)?,
            newest: store::manifests(&RealDisk, &own.dir)?.pop(),
            record,
        })
    }
}

/// Looks, and if something is wrong once more, as long as a job that runs has moved meanwhile:
/// `before` is where it stood, `now` says where it stands.
///
/// # Errors
/// What is wrong and stays so, or has always been another thing.
fn steady<T, S: PartialEq>(
    mut before: S,
    mut now: impl FnMut() -> Result<S>,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    for _ in 1..LOOKS {
        let wrong = match look() {
            Err(wrong) => wrong,
            found => return found,
        };
        match now() {
            Ok(now) if now != before => before = now,
            _ => return Err(wrong),
        }
    }
    look()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_is_wrong_is_looked_at_again_only_while_the_job_moves() {
        // How often it moves, after which look all is well, and how many looks there are.
        for (moves, well, looks) in [
            (0, 1, 1),
            (0, 2, 1),
            (1, 2, 2),
            (1, 3, 2),
            (5, 4, 4),
            (usize::MAX, usize::MAX, LOOKS),
        ] {
            let (mut stand, mut seen) = (0, 0);
            let now = || {
                stand = moves.min(stand + 1);
                Ok(stand)
            };
            let found = steady(0, now, || {
                seen += 1;
                if seen < well {
                    return Err(Error::operating("is missing"));
                }
                Ok(())
            });
            assert_eq!((found.is_ok(), seen), (looks >= well, looks), "{moves}");
        }
    }
}
