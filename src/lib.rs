//! Anabranch: stream processing on timely dataflow.
#![doc = include_str!("../docs/crate.md")]
#![cfg_attr(
    not(all(feature = "cli", feature = "kafka")),
    allow(
        dead_code,
        unused_imports,
        reason = "only the command line reports and describes, and much is asked by Kafka alone"
    )
)]

/// The README's job compiles.
#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "dev-broker")]
pub mod broker;
#[cfg(feature = "cli")]
pub mod cli;
pub mod connectors;
mod error;
pub mod event;
mod job;
mod observe;
mod operators;
mod runtime;
mod state;
mod stream;
pub mod testing;
pub mod time;

pub use connectors::{DeadLimit, embedded};
pub use error::{Error, ErrorKind, Result, Retry};
pub use job::{Job, RunningJob, Status};
pub use observe::Summary;
pub use operators::{
    Aggregate, Aggregated, Aggregates, Avg, Count, CountBy, Events, ExactSum, Extreme, First, Fold,
    Ids, IntSum, Last, Max, Min, Number, Process, ProcessContext, Sum, Windowed,
};
pub use runtime::{Guarantee, Instance, Settings};
pub use state::{Json, StableHasher, State, stable_hash};
pub use stream::{EventStream, Flow, KeyedStream, LetterStream, Param, Stream, WindowedStream};
/// The engine below, in the version that streams of this crate are made of.
pub use {differential_dataflow, timely};

/// What a job's description needs.
pub mod prelude {
    pub use std::process::ExitCode;
    pub use std::time::Duration;

    pub use serde::{Deserialize, Serialize};

    pub use crate::event::{Event, Position, Record};
    pub use crate::time::{EventTime, Tumbling, Watermarks, Window};
    pub use crate::{
        Aggregate, Error, EventStream, Flow, Job, KeyedStream, Process, ProcessContext, Result,
        Settings, Stream, Windowed, WindowedStream,
    };
}
