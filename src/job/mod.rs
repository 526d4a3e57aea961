//! A job: a name, and the closure that describes its dataflow.

mod running;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use running::{RunningJob, Status};

use crate::connectors::{Sink, Source};
use crate::error::Result;
use crate::observe::Summary;
use crate::runtime::{Bound, Describe, Plan, Run, Settings, describe, run};
use crate::stream::{Description, Flow};

/// A dataflow with a name.
///
/// The closure describes the dataflow; it runs once on every worker, and once more to learn what it
/// declares.
#[derive(Clone)]
pub struct Job {
    name: Arc<str>,
    describe: Arc<Describe>,
    sources: BTreeMap<String, Bound<dyn Source>>,
    sinks: BTreeMap<String, Bound<dyn Sink>>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// The job `name`, described by `describe`.
    pub fn new(name: &str, describe: impl Fn(&Flow<'_>) -> Result + Send + Sync + 'static) -> Self {
        Self {
            name: Arc::from(name),
            describe: Arc::new(describe),
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
        }
    }

    /// Binds the source port `port`. What settings bind to it wins.
    #[must_use]
    pub fn bind_source(mut self, port: &str, source: impl Source + 'static) -> Self {
        let bound = Bound::To(Arc::new(source) as Arc<dyn Source>);
        self.sources.insert(port.to_owned(), bound);
        self
    }

    /// Binds the sink port `port`. What settings bind to it wins.
    #[must_use]
    pub fn bind_sink(mut self, port: &str, sink: impl Sink + 'static) -> Self {
        let bound = Bound::To(Arc::new(sink) as Arc<dyn Sink>);
        self.sinks.insert(port.to_owned(), bound);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Holds the description together without running it.
    ///
    /// # Errors
    /// What the description asks for and cannot be.
    pub fn describe(&self, settings: &Settings) -> Result {
        self.declared(settings).map(|_| ())
    }

    pub(crate) fn declared(&self, settings: &Settings) -> Result<Description> {
        describe(&self.describe, &Arc::new(settings.params.clone()))
    }

    pub(crate) fn plan(&self, settings: &Settings) -> Result<Plan> {
        let mut settings = settings.clone();
        for (port, source) in &self.sources {
            let bound = settings.sources.entry(port.clone());
            bound.or_insert_with(|| source.clone());
        }
        for (port, sink) in &self.sinks {
            let bound = settings.sinks.entry(port.clone());
            bound.or_insert_with(|| sink.clone());
        }
        Plan::with_rebuild(&self.name, &self.describe, &settings)
    }

    /// Runs the job until all its sources have ended, and says what became of every record.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if ports, parameters and settings do not fit;
    /// otherwise what stopped it.
    ///
    /// # Example
    /// ```
    /// use anabranch::connectors::{MemorySink, MemorySource, Style};
    /// use anabranch::prelude::*;
    ///
    /// let copy = Job::new("copy", |flow: &Flow<'_>| {
    ///     flow.source::<String>("words")
    ///         .decode(|record| String::from_utf8(record.value.unwrap_or_default().to_vec()))
    ///         .event_time(|word| word.len() as i64, Watermarks::lag(Duration::ZERO))
    ///         .sink("copy", |s| s.json());
    ///     Ok(())
    /// });
    /// let copied = MemorySink::new(Style::Lines);
    /// let settings = Settings::new()
    ///     .bind_source("words", MemorySource::new("words", [["to", "be"]]))
    ///     .bind_sink("copy", copied.clone())
    ///     .sink_uri("late", "null:")
    ///     .sink_uri("dead", "null:");
    /// assert_eq!(copy.run(settings)?.used, 2);
    /// assert_eq!(copied.lines(), [r#""to""#, r#""be""#]);
    /// # Ok::<(), anabranch::Error>(())
    /// ```
    #[expect(
        clippy::needless_pass_by_value,
        reason = "settings are built for one run"
    )]
    pub fn run(&self, settings: Settings) -> Result<Summary> {
        let plan = self.plan(&settings)?;
        let handle = Run::new(&plan);
        run(plan, &handle)
    }

    /// Starts the job on threads of its own, and returns at once: for a program that does other
    /// things too, a service or another job among them. [`embedded`](crate::embedded) feeds one.
    ///
    /// Nothing of the process is touched: no signal, no hook, no output. An error or a panic ends
    /// this job and nothing else, and is what [`RunningJob::join`] returns.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if ports, parameters and settings do not fit;
    /// an operating error if there can be no more threads. Sources and sinks are opened behind it:
    /// what they meet is the error of the job.
    ///
    /// # Example
    /// ```
    /// use anabranch::connectors::MemorySource;
    /// use anabranch::prelude::*;
    ///
    /// let drain = Job::new("drain", |flow: &Flow<'_>| {
    ///     flow.source::<String>("words")
    ///         .decode(|record| String::from_utf8(record.value.unwrap_or_default().to_vec()))
    ///         .event_time(|word| word.len() as i64, Watermarks::lag(Duration::ZERO))
    ///         .sink("nowhere", |s| s.json());
    ///     Ok(())
    /// });
    /// let drain = drain.bind_source("words", MemorySource::new("words", [["to", "be"]]));
    /// let letters = Settings::new().sink_uri("late", "null:").sink_uri("dead", "null:");
    /// let running = drain.start(letters.sink_uri("nowhere", "null:"))?;
    /// // Other things are done here.
    /// assert_eq!(running.join()?.used, 2);
    /// # Ok::<(), anabranch::Error>(())
    /// ```
    #[expect(
        clippy::needless_pass_by_value,
        reason = "settings are built for one run, and a job that holds a feed's end would keep it"
    )]
    pub fn start(self, settings: Settings) -> Result<RunningJob> {
        RunningJob::start(&self.name, self.plan(&settings)?)
    }
}
