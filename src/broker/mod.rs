//! A Kafka broker in this process, in memory: for development, demonstrations and tests.
//!
//! [`DevBroker`] is the whole of it. Clients talk to it as to Apache Kafka; one suite of checks
//! (`tests/broker/`) holds both to the same answers.
//!
//! The way of a request: `server` accepts and gives each client a thread; `connection` reads
//! frames; `wire` decodes without believing any length; `api` knows which requests and versions
//! there are and calls who answers: `produce`, `fetch`, `offsets`, `metadata`, `groups`,
//! `transactions`, `admin`. Below them lies the `log` of each partition: `segment`s of whole
//! `batch`es, as the bytes they came in, what it knows of its `producers`, and how it is shortened
//! (`retention`) or thinned (`compaction`, which looks into `records`). All logs share a `budget`.
//!
//! Locks are taken in this order, and none is held while waiting for a client: transactional ids,
//! then one group or one log. Plain threads, for a test that has no runtime needs none.

mod admin;
mod api;
mod batch;
mod budget;
mod compaction;
mod config;
mod connection;
mod dev_broker;
mod fetch;
mod groups;
mod log;
mod metadata;
mod offsets;
mod produce;
mod producers;
mod records;
mod refusal;
mod retention;
mod segment;
mod server;
mod state;
mod sync;
mod topics;
mod transactions;
mod wire;

pub use dev_broker::{DevBroker, DevBrokerBuilder};
