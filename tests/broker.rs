//! Kafka as clients see it: one suite of checks for the development broker and for Apache Kafka.
//!
//! `cargo test` holds the development broker to it, `scripts/test-kafka` a real Kafka; both must
//! pass, so neither can drift from the other. Each file of `tests/broker/` is one subject. `client`
//! asks through librdkafka, `raw` byte by byte, for what no client does by itself: a batch sent
//! twice, out of order, by a fenced producer. What only the development broker promises stands in
//! `bounds`, `hostile` and `program`, which start their own.

#![cfg(all(feature = "kafka", feature = "cli", feature = "dev-broker"))]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    dead_code,
    reason = "tests may fail, and each uses a part of what there is to help"
)]

#[path = "broker/bounds.rs"]
mod bounds;
#[path = "broker/client.rs"]
mod client;
#[path = "broker/compaction.rs"]
mod compaction;
#[path = "broker/groups.rs"]
mod groups;
#[path = "broker/hostile.rs"]
mod hostile;
#[path = "broker/idempotence.rs"]
mod idempotence;
#[path = "broker/offsets.rs"]
mod offsets;
#[path = "broker/program.rs"]
mod program;
#[path = "broker/raw.rs"]
mod raw;
#[path = "broker/records.rs"]
mod records;
#[path = "broker/topic_admin.rs"]
mod topic_admin;
mod topics;
#[path = "broker/transactions.rs"]
mod transactions;
