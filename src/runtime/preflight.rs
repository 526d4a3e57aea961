//! What is looked at before a run, and what is made for it: `--check`, `--create-topics`.

mod state;

use std::thread::{self, ScopedJoinHandle};

use super::Plan;
use super::results::Results;
use crate::connectors::Created;
use crate::error::{Error, ErrorKind, Result};
use crate::state::disk::RealDisk;
use crate::state::store;

/// One thing that was looked at, and what was found.
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) found: Result<String>,
}

/// Looks at everything that `plan` needs, without any effect. All of it, even if some is amiss.
pub(crate) fn check(plan: &Plan) -> Vec<Finding> {
    let creates = plan.create_topics;
    expect_state(plan);
    // At the same time: a cluster that does not answer is waited for once.
    let (mut ports, state) = thread::scope(|scope| {
        let state = scope.spawn(|| state::look(plan));
        let sources = plan.source_names.iter().zip(&plan.sources);
        let sources = sources.map(|(name, source)| {
            let what = format!("source {name}: {}", source.describe());
            (what, scope.spawn(move || source.check(creates)))
        });
        let sinks = plan.sink_names.iter().zip(&plan.sinks);
        let sinks = sinks.map(|(name, sink)| {
            let what = format!("sink {name}: {}", sink.describe());
            (what, scope.spawn(move || sink.check(creates)))
        });
        let looking: Vec<_> = sources.chain(sinks).collect();
        let panicked = |_| Error::new(ErrorKind::Panic, "the check panicked");
        let finding = |(what, look): (String, ScopedJoinHandle<'_, Result<String>>)| {
            let found = look.join().map_err(panicked).flatten();
            Finding { what, found }
        };
        let ports: Vec<_> = looking.into_iter().map(finding).collect();
        (ports, state.join().map_err(panicked))
    });
    let mut findings = match state {
        Ok(state) => state,
        Err(error) => vec![Finding {
            what: "state".to_owned(),
            found: Err(error),
        }],
    };
    // A run looks at its state before it looks at its log. What is wrong with that, or with the
    // way there, is known; what is not there any more is not, before the state is.
    if findings.iter().all(|finding| finding.found.is_ok()) {
        for (finding, source) in ports.iter_mut().zip(state::sources(plan)) {
            if finding.found.is_ok() {
                finding.found = source.check(creates);
            }
        }
    }
    findings.append(&mut ports);
    findings
}

/// A folder that is not empty may be that of the run which this one continues.
fn expect_state(plan: &Plan) {
    let Some(own) = &plan.checkpoint else { return };
    let names = store::manifests(&RealDisk, &own.dir).unwrap_or_default();
    let newest = names
        .last()
        .map(|name| store::read_manifest(&RealDisk, &own.dir, name));
    if let Some(Ok((manifest, _))) = newest {
        Results::of(&plan.sink_names, &plan.sinks).go_on(&manifest.outputs);
    }
}

/// Creates what `plan` needs and is missing; a line for each thing that was made. A sink gets as
/// many partitions as the source with the most has.
///
/// # Errors
/// Names what cannot be created.
pub(crate) fn create(plan: &Plan) -> Result<Vec<String>> {
    let mut said = Vec::new();
    if !plan.create_topics {
        return Ok(said);
    }
    let mut most = None;
    for source in &plan.sources {
        let Created { partitions, made } = source.create()?;
        most = most.max(partitions);
        said.extend(made);
    }
    for sink in &plan.sinks {
        said.extend(sink.create(most)?.made);
    }
    Ok(said)
}

#[cfg(test)]
mod tests;
