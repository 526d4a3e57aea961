//! What somebody wants of a run; not checked yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::connectors::{Cut, DeadLimit, NullSink, Sink, Source, Start};
pub(crate) use crate::error::nearest;
use crate::error::{Error, Result};

/// What holds for results when a run is killed and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guarantee {
    /// Each result is there once. Needs a state directory.
    ExactlyOnce,
    /// No result is missing, but some may be there again.
    AtLeastOnce,
}

/// What is done if another instance of the job is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Instance {
    /// This run ends.
    #[default]
    Yields,
    /// The other one is shut out, and ends.
    TakesOver,
    /// This run waits until the other one is gone.
    StandsBy,
}

/// A port's binding: a connector, or a URI that names one.
pub(crate) enum Bound<C: ?Sized> {
    To(Arc<C>),
    Uri(String),
}

impl<C: ?Sized> Clone for Bound<C> {
    fn clone(&self) -> Self {
        match self {
            Self::To(connector) => Self::To(Arc::clone(connector)),
            Self::Uri(uri) => Self::Uri(uri.clone()),
        }
    }
}

/// A property of the Kafka client.
#[derive(Clone)]
pub(crate) struct Property {
    /// None: of all ports.
    pub(crate) port: Option<String>,
    pub(crate) name: String,
    pub(crate) value: String,
    /// Whether nobody may see the value, whatever the name is.
    pub(crate) secret: bool,
}

/// Settings of a run. A job adds what it needs; what is missing is an error at start.
#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting")]
pub struct Settings {
    pub(crate) workers: Option<usize>,
    pub(crate) sources: BTreeMap<String, Bound<dyn Source>>,
    pub(crate) sinks: BTreeMap<String, Bound<dyn Sink>>,
    pub(crate) output_dir: Option<PathBuf>,
    pub(crate) bootstrap: Option<String>,
    pub(crate) job_id: Option<String>,
    pub(crate) bounded: bool,
    pub(crate) start: Start,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) properties: Vec<Property>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_ahead: Option<Duration>,
    pub(crate) dead_limit: DeadLimit,
    pub(crate) memory: Option<u64>,
    pub(crate) buffer_bytes: Option<usize>,
    pub(crate) overwrite: bool,
    pub(crate) broker_timeout: Duration,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) guarantee: Option<Guarantee>,
    pub(crate) instance: Instance,
    pub(crate) catch_up: bool,
    pub(crate) rebuild: bool,
    pub(crate) from_savepoint: Option<PathBuf>,
    pub(crate) allow_empty: Vec<String>,
    pub(crate) create_topics: bool,
    pub(crate) cut: Option<(Cut, Option<u64>)>,
    pub(crate) round_trip: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("workers", &self.workers)
            .field("sources", &self.sources.keys())
            .field("sinks", &self.sinks.keys())
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The defaults: a worker for each core, an idle time-out of 10 s, 10 minutes of being ahead.
    pub fn new() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(10)),
            max_ahead: Some(Duration::from_mins(10)),
            broker_timeout: Duration::from_mins(5),
            checkpoint_interval: Duration::from_secs(1),
            ..Self::default()
        }
    }

    /// Worker threads. Default: the cores that this process may use.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Binds the source port `port`.
    #[must_use]
    pub fn bind_source(mut self, port: &str, source: impl Source + 'static) -> Self {
        self.sources
            .insert(port.to_owned(), Bound::To(Arc::new(source)));
        self
    }

    /// Binds the sink port `port`.
    #[must_use]
    pub fn bind_sink(mut self, port: &str, sink: impl Sink + 'static) -> Self {
        self.sinks
            .insert(port.to_owned(), Bound::To(Arc::new(sink)));
        self
    }

    /// Binds the source port `port` to `SCHEME:PATH[?KEY=VALUE&..]`.
    #[must_use]
    pub fn source_uri(mut self, port: &str, uri: &str) -> Self {
        self.sources
            .insert(port.to_owned(), Bound::Uri(uri.to_owned()));
        self
    }

    /// Binds the sink port `port` to `SCHEME:PATH[?KEY=VALUE&..]`.
    #[must_use]
    pub fn sink_uri(mut self, port: &str, uri: &str) -> Self {
        self.sinks
            .insert(port.to_owned(), Bound::Uri(uri.to_owned()));
        self
    }

    /// Every sink that is not bound otherwise becomes `DIR/NAME.jsonl`.
    #[must_use]
    pub fn output_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.output_dir = Some(dir.into());
        self
    }

    /// Every port that is not bound otherwise becomes its default topic on this broker.
    #[must_use]
    pub fn bootstrap(mut self, servers: &str) -> Self {
        self.bootstrap = Some(servers.to_owned());
        self
    }

    /// Who the job is in Kafka; names of groups begin with it. Default: its name.
    #[must_use]
    pub fn job_id(mut self, id: &str) -> Self {
        self.job_id = Some(id.to_owned());
        self
    }

    /// Kafka sources end at the end offsets that they have at start.
    #[must_use]
    pub fn bounded(mut self, bounded: bool) -> Self {
        self.bounded = bounded;
        self
    }

    /// Where Kafka sources start.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets the job's parameter `name`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.params.insert(name.replace('_', "-"), value.to_owned());
        self
    }

    /// Sets a property of the Kafka client, for one port or for all.
    #[must_use]
    pub fn property(mut self, port: Option<&str>, key: &str, value: &str) -> Self {
        self.properties.push(Property {
            port: port.map(str::to_owned),
            name: key.to_owned(),
            value: value.to_owned(),
            secret: false,
        });
        self
    }

    /// As [`Settings::property`], with a value that is never shown. Those of properties like
    /// `sasl.password` never are.
    #[must_use]
    pub fn secret_property(self, port: Option<&str>, key: &str, value: &str) -> Self {
        let mut settings = self.property(port, key, value);
        if let Some(property) = settings.properties.last_mut() {
            property.secret = true;
        }
        settings
    }

    /// After how much silence a live partition stops holding the watermark; `None`: never.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How far past the stamp of its own record an event time may lie; `None`: any.
    #[must_use]
    pub fn max_ahead(mut self, ahead: Option<Duration>) -> Self {
        self.max_ahead = ahead;
        self
    }

    /// How many dead letters are too many.
    #[must_use]
    pub fn max_dead(mut self, limit: DeadLimit) -> Self {
        self.dead_limit = limit;
        self
    }

    /// Bytes for buffers and state together. Default: half of what the control group or the machine
    /// has.
    ///
    /// A quarter of it, but no more than 128 MiB, is for buffers: full ones pause sources. The rest
    /// is for state: at four fifths of that a warning is logged, and at all of it the run ends with
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit).
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Bytes for all buffers between sources and sinks, instead of the share that
    /// [`Settings::memory`] leaves them.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = Some(bytes);
        self
    }

    /// Directory sinks may replace what is in the directory.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// A run whose brokers have not answered for this long ends with an error. Default: 5 minutes.
    /// A start waits for them half a minute at most, or less if this is less.
    #[must_use]
    pub fn broker_timeout(mut self, timeout: Duration) -> Self {
        self.broker_timeout = timeout;
        self
    }

    /// Checkpoints live in this directory, which is made if it is not there: a run goes on where
    /// the last one on it stopped or was killed. Without it every run starts anew.
    ///
    /// One process uses a directory at a time. With Kafka sinks a checkpoint is committed together
    /// with the results up to it, which needs a [`Settings::job_id`] of the job's own.
    #[must_use]
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(dir.into());
        self
    }

    /// How long after one checkpoint the next is begun, if there was something to read. Default:
    /// 1 s. Results in Kafka become visible with a checkpoint.
    #[must_use]
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.checkpoint_interval = interval;
        self
    }

    /// What holds for results when a run is killed and started again. Default: exactly once, if
    /// there is a state directory.
    #[must_use]
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = Some(guarantee);
        self
    }

    /// What is done if another instance of the job is alive. Default: the run ends with
    /// [`ErrorKind::Owned`](crate::ErrorKind::Owned), before it does any harm.
    #[must_use]
    pub fn instance(mut self, instance: Instance) -> Self {
        self.instance = instance;
        self
    }

    /// As [`Settings::bounded`], but nothing fires early: what is open stays open, and the next run
    /// goes on. Needs a state directory.
    #[must_use]
    pub fn catch_up(mut self, catch_up: bool) -> Self {
        self.catch_up = catch_up;
        self.bounded |= catch_up;
        self
    }

    /// The state directory is lost, or of another plan: the log is read again from where the job
    /// began, up to where it was committed, and nothing that was written is written again. Then the
    /// job goes on. Needs what was committed, in Kafka, and a log that still has all of it.
    #[must_use]
    pub fn rebuild(mut self, rebuild: bool) -> Self {
        self.rebuild = rebuild;
        self
    }

    /// A job that has no state yet begins with that of a savepoint (`anabranch checkpoint save`),
    /// and reads on from there: also under another [`Settings::job_id`], and with other outputs. A
    /// job that has state goes on with its own. Needs a state directory.
    #[must_use]
    pub fn from_savepoint(mut self, dir: impl Into<PathBuf>) -> Self {
        self.from_savepoint = Some(dir.into());
        self
    }

    /// The operator `name` may start empty: it is new, or another than it was, and what it had is
    /// dropped; or it is gone, with its state. Without that a changed job does not start on the
    /// state of the one before. An operator that is what it was goes on with what it has.
    #[must_use]
    pub fn allow_empty(mut self, name: &str) -> Self {
        self.allow_empty.push(name.to_owned());
        self
    }

    /// Settings of the run that reads a log again: it ends where it is told, and writes nowhere.
    pub(crate) fn reading_again(&self, sinks: &[String]) -> Result<Self> {
        if !self.exactly_once() {
            return Err(Error::usage(
                "--rebuild: needs --state-dir DIR, where the state will be",
            ));
        }
        let mut again = self
            .clone()
            .catch_up(true)
            .guarantee(Guarantee::AtLeastOnce);
        again.rebuild = false;
        for sink in sinks {
            again = again.bind_sink(sink, NullSink::new());
        }
        Ok(again)
    }

    /// What holds for results.
    pub(crate) fn exactly_once(&self) -> bool {
        self.state_dir.is_some() && self.guarantee != Some(Guarantee::AtLeastOnce)
    }

    /// Topics that are missing are created at the start: one of a sink with as many partitions as
    /// the source with the most has, one of a source with as many as the broker's default says.
    #[must_use]
    pub fn create_topics(mut self, create: bool) -> Self {
        self.create_topics = create;
        self
    }

    pub(crate) fn worker_count(&self) -> Result<usize> {
        match self.workers {
            Some(workers @ 1..=256) => Ok(workers),
            Some(workers) => {
                let why = format!("workers: expected 1 to 256, found {workers}");
                Err(Error::usage(why))
            }
            // Knows of cgroups and affinity.
            None => Ok(std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(256)),
        }
    }
}
