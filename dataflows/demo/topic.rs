//! Topics read by an ordinary consumer, from their start.

use std::collections::BTreeSet;
use std::time::Duration;

use anabranch::{Error, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::clock::now;

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A consumer at the start of every partition of `topics`.
pub(super) fn consumer(bootstrap: &str, topics: &[&str]) -> Result<BaseConsumer> {
    let made: std::result::Result<BaseConsumer, _> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "anabranch-demo")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50")
        .create();
    let consumer = made.map_err(|cause| Error::operating("the consumer").because(cause))?;
    let mut places = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..partitions(&consumer, topic)? {
            let added = places.add_partition_offset(topic, partition, Offset::Beginning);
            added.map_err(|cause| broken(topic, cause))?;
        }
    }
    let assigned = consumer.assign(&places);
    assigned.map_err(|cause| Error::operating("the consumer").because(cause))?;
    Ok(consumer)
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE);
    let metadata = metadata.map_err(|cause| broken(topic, cause))?;
    let known = metadata.topics().iter().find(|known| known.name() == topic);
    let partitions = known.map_or(0, |known| known.partitions().len());
    Ok(i32::try_from(partitions).unwrap_or(0))
}

/// Reads all that `topic` holds now, from offset 0 on, as far as it is committed.
pub(super) fn read_whole(
    bootstrap: &str,
    topic: &str,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result,
) -> Result {
    let consumer = consumer(bootstrap, &[topic])?;
    let count = partitions(&consumer, topic)?;
    for partition in 0..count {
        let ends_of = consumer.fetch_watermarks(topic, partition, PATIENCE);
        let (start, _) = ends_of.map_err(|cause| broken(topic, cause))?;
        if start > 0 {
            let why = format!("topic `{topic}`: partition {partition}: starts at offset {start}");
            return Err(Error::operating(why));
        }
    }
    // Offsets are no count: markers of transactions have some, too.
    let mut left: BTreeSet<i32> = (0..count).collect();
    let mut heard = now();
    while !left.is_empty() {
        match consumer.poll(POLL) {
            None if heard.elapsed() > PATIENCE => {
                let why = format!("topic `{topic}`: partitions {left:?} do not come to an end");
                return Err(Error::operating(why));
            }
            None => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = left.remove(&partition),
            Some(message) => take(&message.map_err(|cause| broken(topic, cause))?)?,
        }
        heard = now();
    }
    Ok(())
}

/// The text of a header of a letter: `reason` for `anabranch.reason`.
pub(super) fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers
        .iter()
        .find(|header| header.key.strip_prefix("anabranch.") == Some(name));
    let value = found.and_then(|header| header.value)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The number in a header.
pub(super) fn number(message: &BorrowedMessage<'_>, name: &str) -> Option<i64> {
    header(message, name)?.parse().ok()
}

fn broken(topic: &str, cause: KafkaError) -> Error {
    Error::operating(format!("topic `{topic}`")).because(cause)
}
