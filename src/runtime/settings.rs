//! What somebody wants of a run; not checked yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::connectors::{Cut, DeadLimit, Sink, Source, Start};
pub(crate) use crate::error::nearest;
use crate::error::{Error, Result};

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
