//! A plan: settings that were held against what the job declares. Nothing invalid travels further.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytesize::ByteSize;

use super::checkpoint_plan::{CheckpointPlan, check_ports};
use super::memory::Memory;
use super::rebuild::Rebuild;
use super::settings::Settings;
use super::{Describe, bind, describe};
use crate::connectors::{Ends, Sink, Source, Tuning};
use crate::error::{Error, Result};
use crate::stream::{Description, PortKind};

/// Everything that a run needs.
pub(crate) struct Plan {
    pub(crate) job: Arc<Describe>,
    pub(crate) workers: usize,
    /// In the order of the job's ports.
    pub(crate) sources: Vec<Arc<dyn Source>>,
    pub(crate) sinks: Vec<Arc<dyn Sink>>,
    /// Made at the start, if it is not there.
    pub(crate) output_dir: Option<PathBuf>,
    pub(crate) params: Arc<BTreeMap<String, String>>,
    pub(crate) tuning: Tuning,
    pub(crate) round_trip: bool,
    pub(crate) buffer_bytes: usize,
    /// Bytes of the whole budget, and those of it that state may take.
    pub(crate) memory: u64,
    pub(crate) create_topics: bool,
    /// The run that reads the log again before this one, and what is to be seen of it.
    pub(crate) rebuild: Option<Box<Rebuild>>,
    /// `None`: the run makes no checkpoints.
    pub(crate) checkpoint: Option<CheckpointPlan>,
    /// Names of the ports, in the order of sources and sinks.
    pub(crate) source_names: Vec<String>,
    pub(crate) sink_names: Vec<String>,
    pub(crate) state_max: u64,
}

impl Plan {
    /// Holds `settings` against what `job` declares.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) that names the port, parameter or flag.
    pub(crate) fn new(name: &str, job: &Arc<Describe>, settings: &Settings) -> Result<Self> {
        let params = Arc::new(settings.params.clone());
        let description = describe(job, &params)?;
        let known = |name: &String| description.params.iter().any(|param| param.name == *name);
        if let Some(unknown) = params.keys().find(|name| !known(name)) {
            let names = description.params.iter().map(|param| param.name.as_str());
            let hint = crate::runtime::settings::nearest(unknown, names);
            return Err(Error::usage(format!("unknown parameter `{unknown}`{hint}")));
        }
        let workers = settings.worker_count()?;
        let id = settings.job_id.as_deref().unwrap_or(name);
        let commit = bind::transaction(&description, settings)?;
        let (sources, sinks) = bind::bind(id, &description, settings, commit.as_ref())?;
        let checkpoint = CheckpointPlan::new((name, id), &description, settings, commit)?;
        if checkpoint.is_some() {
            check_ports(&sources, &sinks, settings.exactly_once())?;
        }
        let ports = description.ports.len();
        let Memory {
            all,
            buffers,
            state,
        } = Memory::divided(settings.memory, settings.buffer_bytes)?;
        let mut tuning = Tuning::within(buffers, workers, ports);
        tuning.idle_timeout = settings.idle_timeout;
        tuning.max_ahead = settings.max_ahead;
        tuning.dead_limit = settings.dead_limit;
        if settings.catch_up {
            tuning.ends = Ends::ForNow;
        }
        if let Some(cut) = settings.cut {
            (tuning.cut, tuning.jitter) = cut;
        }
        Ok(Self {
            job: Arc::clone(job),
            workers,
            sources,
            sinks,
            output_dir: settings.output_dir.clone(),
            params,
            tuning,
            round_trip: settings.round_trip,
            buffer_bytes: buffers,
            memory: all,
            create_topics: settings.create_topics,
            checkpoint,
            rebuild: None,
            source_names: names(&description, PortKind::Source),
            sink_names: names(&description, PortKind::Sink),
            state_max: state,
        })
    }

    /// As [`Plan::new`], and before it whatever `settings` want read again.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(crate) fn with_rebuild(
        name: &str,
        job: &Arc<Describe>,
        settings: &Settings,
    ) -> Result<Self> {
        let mut plan = Self::new(name, job, settings)?;
        if settings.rebuild {
            let again = Self::new(name, job, &settings.reading_again(&plan.sink_names)?)?;
            plan.rebuild = Some(Box::new(Rebuild::new(again)));
        }
        Ok(plan)
    }

    /// Workers and memory.
    pub(crate) fn in_words(&self) -> String {
        let (memory, state) = (ByteSize(self.memory), ByteSize(self.state_max));
        let buffers = ByteSize(self.buffer_bytes as u64);
        format!(
            "{} workers, {memory} of memory: {buffers} for buffers, {state} for state",
            self.workers
        )
    }

    /// Whether every source ends by itself.
    pub(crate) fn is_bounded(&self) -> bool {
        self.sources.iter().all(|source| source.bounded())
    }
}

fn names(description: &Description, kind: PortKind) -> Vec<String> {
    let ports = description.ports.iter().filter(|port| port.kind == kind);
    ports.map(|port| port.name.clone()).collect()
}
