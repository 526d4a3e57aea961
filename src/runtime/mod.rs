//! Runs a job: settings become a plan, the plan's connectors are opened, every worker builds the
//! dataflow and drives it until it is complete, stopped or faulty.

mod bind;
mod build;
mod checkpoint_plan;
mod checkpointer;
mod growth;
mod lineage;
mod memory;
mod ownership;
mod plan;
mod preflight;
mod progress_record;
mod rebuild;
mod recovery;
mod results;
mod settings;
#[cfg(test)]
mod sim;
mod worker;

pub(crate) use build::{Describe, describe};
pub(crate) use plan::Plan;
pub(crate) use preflight::{Finding, check, create};
#[cfg(feature = "cli")]
pub(crate) use progress_record::ProgressRecord;
pub(crate) use settings::Bound;
pub(crate) use settings::nearest;
pub use settings::{Guarantee, Instance, Settings};
pub(crate) use worker::{Run, panicked, run};
