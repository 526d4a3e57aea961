//! What a plan says of checkpoints, and which ports can take part in them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::growth::SMALL;
use super::settings::{Guarantee, Instance, Settings};
use crate::connectors::{Commit, Sink, Source, Transactions};
use crate::error::{Error, Result};
use crate::state::advice::{AFRESH, REBUILD};
use crate::state::manifest::OperatorShape;
use crate::stream::Description;

/// What a plan says of checkpoints.
#[derive(Clone)]
pub(crate) struct CheckpointPlan {
    pub(crate) dir: PathBuf,
    pub(crate) interval: Duration,
    /// The job's id, and the name of its description.
    pub(crate) job: String,
    pub(crate) name: String,
    /// Where checkpoints are committed; `None`: the manifest is the commit.
    pub(crate) commit: Option<Arc<dyn Commit>>,
    pub(crate) operators: Vec<OperatorShape>,
    pub(crate) instance: Instance,
    /// Operators that may start empty, or be gone with their state.
    pub(crate) allow_empty: Vec<String>,
    /// Bounded sources end for good, and everything open fires.
    pub(crate) finishes: bool,
    /// Where a job without state begins.
    pub(crate) savepoint: Option<PathBuf>,
    /// Logs of fewer bytes are not written anew.
    pub(crate) small: u64,
}

impl CheckpointPlan {
    /// `None`: `settings` ask for no checkpoints. `commit`: where Kafka sinks are committed.
    ///
    /// # Errors
    /// Exactly-once without a state directory.
    pub(crate) fn new(
        (name, id): (&str, &str),
        description: &Description,
        settings: &Settings,
        commit: Option<Arc<Transactions>>,
    ) -> Result<Option<Self>> {
        let Some(dir) = &settings.state_dir else {
            if settings.guarantee == Some(Guarantee::ExactlyOnce) {
                let why = "guarantee exactly-once: needs --state-dir DIR, where checkpoints live";
                return Err(Error::usage(why));
            }
            if settings.catch_up {
                let why = "--catch-up: needs --state-dir DIR, where the next run goes on";
                return Err(Error::usage(why));
            }
            if settings.from_savepoint.is_some() {
                let why = "--from-savepoint: needs --state-dir DIR, where the job goes on";
                return Err(Error::usage(why));
            }
            return Ok(None);
        };
        let shape = |(name, shape): &(String, String)| OperatorShape {
            name: name.clone(),
            shape: shape.clone(),
        };
        Ok(Some(Self {
            dir: dir.clone(),
            interval: settings.checkpoint_interval,
            job: id.to_owned(),
            name: name.to_owned(),
            commit: commit.map(|commit| commit as Arc<dyn Commit>),
            operators: description.stateful.iter().map(shape).collect(),
            instance: settings.instance,
            allow_empty: settings.allow_empty.clone(),
            finishes: !settings.catch_up,
            savepoint: settings.from_savepoint.clone(),
            small: SMALL,
        }))
    }

    /// What to do when the state cannot be gone on with, and the log can.
    pub(super) fn way_out(&self) -> &'static str {
        match self.commit {
            Some(_) => REBUILD,
            None => self.afresh(),
        }
    }

    /// What to do when neither can. What was committed belongs to the job's id.
    pub(super) fn afresh(&self) -> &'static str {
        match self.commit {
            Some(_) => AFRESH,
            None => "start afresh with an empty --state-dir",
        }
    }
}

/// Whether all ports can take part in checkpoints.
///
/// # Errors
/// Names the sink that cannot.
pub(super) fn check_ports(
    sources: &[Arc<dyn Source>],
    sinks: &[Arc<dyn Sink>],
    exactly_once: bool,
) -> Result {
    let bounded = sources.iter().all(|source| source.bounded());
    for sink in sinks {
        let name = sink.describe();
        if exactly_once && !sink.is_exactly_once() {
            return Err(Error::usage(format!(
                "{name}: a sink that cannot be committed with a checkpoint; exactly-once takes \
                 kafka:TOPIC, file:PATH and null:, and --guarantee at-least-once takes all"
            )));
        }
        let is_one_file = sink.outputs().is_some_and(|outputs| outputs.is_one_file());
        if is_one_file && !bounded {
            return Err(Error::usage(format!(
                "{name}: one file gets its name when the run has ended, and this run has no end: \
                 give it a folder of part files, file:DIR/, or the run an end, --bounded or \
                 --catch-up"
            )));
        }
    }
    Ok(())
}
