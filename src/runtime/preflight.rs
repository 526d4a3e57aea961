//! What is looked at before a run, and what is made for it: `--check`, `--create-topics`.

mod state;

use std::thread::{self, ScopedJoinHandle};

use super::Plan;
use super::results::Results;
use super::worker::panicked;
use crate::connectors::Created;
use crate::error::Result;
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
    // First, as a run does: what is not in a log any more is known when it is known where the
    // state ends.
    let mut findings = state::look(plan);
    let first = plan.rebuild.as_ref().map_or(plan, |again| &again.plan);
    // At the same time: most of it is waiting for brokers.
    thread::scope(|scope| {
        let sources = plan.source_names.iter().zip(&first.sources);
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
        findings.extend(looking.into_iter().map(|(what, look)| Finding {
            what,
            found: joined(look),
        }));
    });
    findings
}

/// What somebody found who has looked meanwhile.
fn joined<T>(look: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let looked = look.join();
    looked.unwrap_or_else(|panic| Err(panicked("a check", &*panic)))
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
