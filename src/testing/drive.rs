//! Tests of single operators.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::matrix::{run_variant, variants};
use crate::connectors::{MemoryRecord, MemorySink, MemorySource, Style};
use crate::job::Job;
use crate::runtime::Settings;
use crate::state::{State, codec};
use crate::stream::{EventStream, Flow};
use crate::time::Watermarks;

/// Begins a test of `operator`, a function from a stream of events to a stream of events.
///
/// See [`EventStream::map`] for an example.
pub fn drive<T, U, F>(operator: F) -> Drive<T, U, F>
where
    T: State,
    U: State + Debug + Ord,
    F: for<'scope> Fn(EventStream<'scope, T>) -> EventStream<'scope, U> + Send + Sync + 'static,
{
    Drive {
        operator: Arc::new(operator),
        partitions: Vec::new(),
        lag: Duration::from_hours(1),
        seeds: 6,
        holds: std::marker::PhantomData,
    }
}

/// A test of an operator under construction.
#[must_use = "a test asserts nothing before `expect`"]
pub struct Drive<T, U, F> {
    operator: Arc<F>,
    partitions: Vec<Vec<MemoryRecord>>,
    lag: Duration,
    seeds: u64,
    holds: std::marker::PhantomData<fn(T) -> U>,
}

impl<T, U, F> Debug for Drive<T, U, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drive")
            .field("partitions", &self.partitions.len())
            .finish_non_exhaustive()
    }
}

impl<T, U, F> Drive<T, U, F>
where
    T: State,
    U: State + Debug + Ord,
    F: for<'scope> Fn(EventStream<'scope, T>) -> EventStream<'scope, U> + Send + Sync + 'static,
{
    /// One more partition of events: milliseconds, and a value.
    ///
    /// # Panics
    /// A value cannot be written in the form of state.
    pub fn input(mut self, events: impl IntoIterator<Item = (i64, T)>) -> Self {
        let record = |event: (i64, T)| {
            let mut bytes = Vec::new();
            codec::encode(&event, &mut bytes).unwrap_or_else(|error| panic!("{error}"));
            MemoryRecord::from(bytes)
        };
        self.partitions
            .push(events.into_iter().map(record).collect());
        self
    }

    /// How far out of order the partitions may be. Default: an hour, so that nothing is late.
    pub fn lag(mut self, lag: Duration) -> Self {
        self.lag = lag;
        self
    }

    /// Tries this many interleavings with random cuts, for each number of workers. Default: 6.
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self
    }

    /// Runs the operator in every way and asserts that just these events come out, in any order.
    ///
    /// # Panics
    /// A run fails, hangs or gives something else; the message says with how many workers, which
    /// cut and which seed.
    pub fn expect(self, events: impl IntoIterator<Item = (i64, U)>) {
        let mut expected: Vec<_> = events.into_iter().collect();
        expected.sort();
        self.check(|mut events, run| {
            events.sort();
            assert_eq!(events, expected, "{run}");
        });
    }

    /// As [`Drive::expect`], in this order. For operators that release in order on one key.
    ///
    /// # Panics
    /// As [`Drive::expect`].
    pub fn expect_in_order(self, events: impl IntoIterator<Item = (i64, U)>) {
        let expected: Vec<_> = events.into_iter().collect();
        self.check(|events, run| assert_eq!(events, expected, "{run}"));
    }

    fn check(self, check: impl Fn(Vec<(i64, U)>, &str)) {
        let Self {
            operator,
            partitions,
            lag,
            seeds,
            ..
        } = self;
        let job = Job::new("drive", move |flow: &Flow<'_>| {
            let events = flow
                .source::<(i64, T)>("events")
                .decode(|record| codec::decode::<(i64, T)>(record.value.unwrap_or_default()))
                .event_time(|event| event.0, Watermarks::lag(lag))
                .map(|event| event.1);
            operator(events).sink_encoded("out");
            Ok(())
        });
        for variant in variants(3, seeds) {
            let out = MemorySink::new(Style::Records);
            let settings = Settings::new()
                .bind_source("events", MemorySource::new("events", partitions.clone()))
                .bind_sink("out", out.clone())
                .bind_sink("late", MemorySink::new(Style::Lines))
                .bind_sink("dead", MemorySink::new(Style::Lines));
            let summary = run_variant(&job, settings, variant);
            let summary = summary.unwrap_or_else(|error| panic!("{variant:?}: {error}"));
            assert!(summary.balances(), "{variant:?}: {summary}");
            assert_eq!(summary.dead, 0, "{variant:?}: {summary}");
            let events = out.records().into_iter().map(|record| {
                codec::decode(&record.value.unwrap_or_default()).expect("it was encoded here")
            });
            check(events.collect(), &format!("{variant:?}: {summary}"));
        }
    }
}
