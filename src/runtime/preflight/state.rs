//! What a run would go on with, read as recovery reads it; but nobody is shut out, nothing is made,
//! and no state is kept.

use std::sync::Arc;

use super::{Finding, Plan};
use crate::connectors::{Commit, Member, Source};
use crate::error::Result;
use crate::observe::grouped;
use crate::runtime::checkpoint_plan::CheckpointPlan;
use crate::runtime::lineage::{self, check, check_job, committed};
use crate::runtime::ownership::person;
use crate::runtime::progress_record::ProgressRecord;
use crate::runtime::rebuild;
use crate::runtime::recovery::resume;
use crate::runtime::results::Results;
use crate::state::checkpoints::Continued;
use crate::state::disk::RealDisk;
use crate::state::store::{self, savepoint};
use crate::time::EventTime;

/// What there is of checkpoints; nothing, if the run makes none. If all is well, the sources have
/// been told where they would go on.
pub(super) fn look(plan: &Plan) -> Vec<Finding> {
    let Some(own) = &plan.checkpoint else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    if let Some(commit) = &own.commit {
        findings.push(Finding {
            what: format!("job {}", own.job),
            found: commit.members().map(|members| group(&members)),
        });
        let found = commit.check().and_then(|()| progress(&**commit));
        let is_known = found.is_ok();
        findings.push(Finding {
            what: format!("progress topic {}", commit.describe()),
            found,
        });
        if !is_known {
            return findings; // which state counts is not known either
        }
    }
    findings.push(Finding {
        what: format!("state {}", own.dir.display()),
        found: match &plan.rebuild {
            Some(again) => rebuild::look(plan, &again.plan),
            None => state(plan, own),
        },
    });
    findings
}

/// The sources that would read first.
pub(super) fn sources(plan: &Plan) -> &[Arc<dyn Source>] {
    match (&plan.checkpoint, &plan.rebuild) {
        (None, _) => &[],
        (_, Some(again)) => &again.plan.sources,
        (_, None) => &plan.sources,
    }
}

/// Who is in the job's group. That is nothing amiss: a check before an upgrade finds the old one.
fn group(members: &[Member]) -> String {
    let Some(member) = members.first() else {
        return "nobody is in its group".to_owned();
    };
    let (who, host) = (person(&member.name), &member.host);
    format!("{who} at {host} is in its group")
}

fn progress(commit: &dyn Commit) -> Result<String> {
    let Some(record) = commit.last()? else {
        return Ok("nothing is committed yet".to_owned());
    };
    let record = ProgressRecord::read(&record, &commit.describe())?;
    let number = record.checkpoint;
    Ok(format!("checkpoint {number} is committed"))
}

/// As [`find`](crate::runtime::recovery::find), without effects.
fn state(plan: &Plan, own: &CheckpointPlan) -> Result<String> {
    if let Some(commit) = &own.commit {
        let seen = store::newest_generation(&RealDisk, &own.dir)?;
        lineage::look(&RealDisk, own, &**commit, seen)?;
    }
    let committed = committed(&RealDisk, own)?;
    let (manifest, from) = match (committed, &own.savepoint) {
        (Some((manifest, _)), _) => {
            check_job(&manifest, own)?;
            (manifest, &own.dir)
        }
        (None, Some(from)) => (savepoint::saved(&RealDisk, from)?, from),
        (None, None) => return Ok("empty: the job begins with nothing".to_owned()),
    };
    let changes = check(&manifest, own)?;
    let results = Results::of(&plan.sink_names, &plan.sinks);
    results.check(&RealDisk, &manifest.outputs)?;
    for log in &manifest.logs {
        store::read_log(&RealDisk, from, log)?;
    }
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
