//! Tests of whole jobs.

use std::fmt::Write;

use super::matrix::{Variant, run_variant, variants};
use crate::connectors::{DeadLimit, MemoryRecord, MemorySink, MemorySource, Style};
use crate::job::Job;
use crate::observe::Summary;
use crate::runtime::Settings;

/// Begins a test of `job`.
///
/// # Example
/// ```
/// use anabranch::prelude::*;
/// use anabranch::testing;
///
/// let copy = Job::new("copy", |flow: &Flow<'_>| {
///     flow.source::<(i64, String)>("events")
///         .decode(|record| {
///             sonic_rs::from_slice::<(i64, String)>(record.value.unwrap_or_default())
///         })
///         .event_time(|event| event.0, Watermarks::lag(Duration::ZERO))
///         .sink("copy", |s| s.json());
///     Ok(())
/// });
/// testing::run(copy)
///     .source("events", [[r#"[1,"a"]"#, r#"[2,"b"]"#, "?"]])
///     .expect("copy", [r#"[1,"a"]"#, r#"[2,"b"]"#]);
/// ```
pub fn run(job: Job) -> JobTest {
    JobTest {
        job,
        settings: Settings::new().max_dead(DeadLimit::Off),
        sources: Vec::new(),
        workers_max: 4,
        seeds: 4,
    }
}

/// A test of a job under construction.
#[derive(Debug)]
#[must_use = "a test asserts nothing before `expect`"]
pub struct JobTest {
    job: Job,
    settings: Settings,
    sources: Vec<(String, MemorySource)>,
    workers_max: usize,
    seeds: u64,
}

/// What every run of a job gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The lines of each sink port, in the order in which the ports were asked for.
    pub lines: Vec<Vec<String>>,
    /// What became of the records.
    pub summary: Summary,
}

impl JobTest {
    /// What source port `port` reads: partitions of records.
    pub fn source<P, R>(mut self, port: &str, partitions: impl IntoIterator<Item = P>) -> Self
    where
        P: IntoIterator<Item = R>,
        R: Into<MemoryRecord>,
    {
        self.sources
            .push((port.to_owned(), MemorySource::new(port, partitions)));
        self
    }

    /// What source port `port` reads: `SCHEME:PATH`.
    pub fn source_uri(mut self, port: &str, uri: &str) -> Self {
        self.settings = self.settings.source_uri(port, uri);
        self
    }

    /// Sets a parameter of the job.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings = self.settings.set(name, value);
        self
    }

    /// Tries this many interleavings with random cuts, for each number of workers. Default: 4.
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self
    }

    /// Tries up to this many workers. Default: 4.
    pub fn workers(mut self, workers_max: usize) -> Self {
        self.workers_max = workers_max;
        self
    }

    /// Runs the job in every way and asserts that sink `port` gets `lines`, in any order.
    ///
    /// # Panics
    /// A run fails, hangs, does not balance, or gives another answer; the message says with how
    /// many workers, which cut and which seed.
    pub fn expect<L: Into<String>>(self, port: &str, lines: impl IntoIterator<Item = L>) {
        let mut expected: Vec<String> = lines.into_iter().map(Into::into).collect();
        expected.sort_unstable();
        let answer = self.answer(&[port]);
        assert_eq!(
            answer.lines[0], expected,
            "sink `{port}`, the same in all runs"
        );
    }

    /// Runs the job in every way, asserts that all runs agree, and returns their answer.
    ///
    /// # Panics
    /// As [`JobTest::expect`].
    pub fn answer(self, ports: &[&str]) -> Answer {
        let mut agreed: Option<(Answer, Variant)> = None;
        for variant in variants(self.workers_max, self.seeds) {
            let mut answer = self.answer_of(variant, ports);
            answer
                .lines
                .iter_mut()
                .for_each(|lines| lines.sort_unstable());
            match &agreed {
                None => agreed = Some((answer, variant)),
                Some((first, of)) => {
                    assert!(
                        *first == answer,
                        "{}",
                        differ(of, first, variant, &answer, ports)
                    );
                }
            }
        }
        agreed.expect("there is a run").0
    }

    /// Runs the job in every way and hands each answer, its lines in the order of writing, to
    /// `check`, with the words that tell which run it was.
    ///
    /// # Panics
    /// A run fails, hangs or does not balance.
    pub fn check(self, ports: &[&str], mut check: impl FnMut(&str, &Answer)) {
        for variant in variants(self.workers_max, self.seeds) {
            check(&format!("{variant:?}"), &self.answer_of(variant, ports));
        }
    }

    /// Runs the job in every way, and hands `check` the records that sink `port` gets, in the order
    /// of writing: in sinks of records keys have an order, whoever wrote them.
    #[cfg(test)]
    pub(crate) fn check_records(
        self,
        port: &str,
        mut check: impl FnMut(&str, Vec<crate::connectors::WrittenRecord>),
    ) {
        for variant in variants(self.workers_max, self.seeds) {
            let (sinks, _) = self.run_once(variant, Style::Records);
            check(&format!("{variant:?}"), sink(&sinks, port).records());
        }
    }

    fn answer_of(&self, variant: Variant, ports: &[&str]) -> Answer {
        let (sinks, summary) = self.run_once(variant, Style::Lines);
        let lines = ports.iter().map(|port| sink(&sinks, port).lines());
        Answer {
            lines: lines.collect(),
            summary,
        }
    }

    /// Runs the job in one way; gives its sinks, and what became of the records.
    fn run_once(&self, variant: Variant, style: Style) -> (Vec<(String, MemorySink)>, Summary) {
        let declared = self.job.declared(&self.settings);
        let declared = declared.unwrap_or_else(|error| panic!("{error}"));
        let mut settings = self.settings.clone();
        for (port, source) in &self.sources {
            settings = settings.bind_source(port, source.clone());
        }
        let mut sinks = Vec::new();
        for port in declared.sinks() {
            let sink = MemorySink::new(style);
            settings = settings.bind_sink(port, sink.clone());
            sinks.push((port.to_owned(), sink));
        }
        let summary = run_variant(&self.job, settings, variant);
        let mut summary = summary.unwrap_or_else(|error| panic!("{variant:?}: {error}"));
        assert!(summary.balances(), "{variant:?}: {summary}");
        summary.state_bytes = 0; // depends on workers, and says nothing of the answer
        (sinks, summary)
    }
}

/// What sink port `port` was bound to.
fn sink<'a>(sinks: &'a [(String, MemorySink)], port: &str) -> &'a MemorySink {
    let sink = sinks.iter().find(|(name, _)| name == port);
    let (_, sink) = sink.unwrap_or_else(|| panic!("the job has no sink `{port}`"));
    sink
}

fn differ(
    first: &Variant,
    one: &Answer,
    second: Variant,
    other: &Answer,
    ports: &[&str],
) -> String {
    let mut text = format!("two runs differ: {first:?} and {second:?}\n");
    for ((port, a), b) in ports.iter().zip(&one.lines).zip(&other.lines) {
        if let Some(line) = a.iter().find(|line| !b.contains(line)) {
            _ = writeln!(text, "sink `{port}`: only the first has {line}");
        }
        if let Some(line) = b.iter().find(|line| !a.contains(line)) {
            _ = writeln!(text, "sink `{port}`: only the second has {line}");
        }
    }
    text + &format!("{}\n{}", one.summary, other.summary)
}
