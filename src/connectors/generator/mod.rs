//! Records that are made, not read: the same ones each time, as fast as wanted.
//!
//! What a record says is a pure function of a seed, its partition and its index. So a run can be
//! repeated, any part of the data can be made alone, and a source and a file hold the same.

mod behaviour;
mod bids;
mod noise;
mod source;

pub use behaviour::{BehaviourKind, behaviour, behaviour_kind};
pub use bids::bids;
pub use source::{GeneratorSource, GeneratorSpec, Make};
