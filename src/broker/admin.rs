//! The requests of admin clients.

mod configs;
mod topics;

pub(super) use configs::{alter_configs, describe_configs, incremental_alter_configs};
pub(super) use topics::{create_partitions, create_topics, delete_records, delete_topics};
