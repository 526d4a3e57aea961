//! Keyed state: what an operator may remember.
//!
//! Two shapes: [`Table`], entries by key, and [`TimeQueue`], what is held until a time. Both lie in
//! memory, know how large they are, grow in small steps, and know which of their entries changed
//! since the last checkpoint; so that an operator that keeps its state here is checkpointed
//! without code of its own. A key has a [`slot`], and a slot a worker: both are stable, for they
//! outlive the process.

pub(crate) mod advice;
mod calendar;
pub(crate) mod checkpoints;
pub(crate) mod codec;
pub(crate) mod disk;
pub(crate) mod durable;
pub(crate) mod frame;
mod hash;
mod index;
mod json;
#[cfg(test)]
pub(crate) mod lossy;
pub(crate) mod manifest;
pub(crate) mod outputs;
pub(crate) mod restored;
pub(crate) mod saved;
mod size;
pub(crate) mod store;
mod table;
mod time_queue;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use calendar::Calendar;
pub(crate) use checkpoints::{Checkpoints, Left, Note, PartitionFact, Stand};
pub(crate) use hash::{SLOTS, slot, worker_of, worker_of_slot};
pub use hash::{StableHasher, stable_hash};
pub use json::Json;
pub(crate) use outputs::OutputState;
pub(crate) use size::Size;
pub(crate) use table::{Drain, Hint, Table};
pub(crate) use time_queue::{Routed, TimeQueue};

/// A value that can be kept in state and sent between workers.
///
/// Whatever serde can write and read back in a form that does not describe itself qualifies. The
/// attributes `untagged`, `flatten` and `skip_serializing_if` do not survive that form: the test
/// harness round-trips every value and names the type that does not come back. A run with a state
/// directory does so with the first record and the first entry of each operator, and ends with a
/// usage error before it commits what a restart could not read.
///
/// A `HashMap` or a `HashSet` comes back in another order of its entries. Nothing is lost by that
/// at recovery, but the harness takes it for another value, and whoever goes by that order answers
/// otherwise each time: a `BTreeMap` and a `BTreeSet` have one order.
///
/// A type that is to get new fields while there is state of it lies in a [`Json`].
pub trait State: Serialize + DeserializeOwned + Clone + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + 'static> State for T {}
