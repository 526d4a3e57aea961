//! Kafka: a topic as a source, a topic as a sink.
//!
//! A source owns its assignment: partition `p` is read by the worker that
//! [`Share::owns`](super::Share::owns) names, and no consumer group moves it elsewhere. Start and
//! end are absolute offsets, resolved once before any worker starts. Each partition has a queue of
//! its own in librdkafka; a worker takes whole batches of borrowed messages from it and is woken
//! when an empty queue fills. A topic that gains partitions is noticed within two seconds.
//!
//! A sink is one idempotent producer for the process, shared by the writers of all workers. Every
//! record is counted when it is handed over and again when the broker has acknowledged it; a writer
//! closes successfully only when both counts are equal.
//!
//! Nothing here blocks a worker but [`Source::open`](super::Source::open) and
//! [`Writer::close`](super::Writer::close). A broker that is gone is waited for.

mod admin;
mod aside;
mod assignment;
mod checks;
mod client;
mod context;
mod limits;
mod membership;
pub(crate) mod murmur2;
mod names;
mod options;
mod outbox;
mod progress;
mod reader;
mod resumed;
mod scout;
mod sink;
mod source;
mod stalled;
mod tally;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

pub use limits::TopicLimits;
pub(crate) use names::check_property;
pub use options::KafkaOptions;
pub(crate) use progress::read as read_progress;
pub use sink::KafkaSink;
pub use source::KafkaSource;
pub(crate) use transaction::Transaction;
