//! The topic of a job's progress: one partition, compacted, one key.

use std::ffi::CString;
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::admin::{Probe, block_on, describe, reason};
use super::aside::{Aside, aside};
use super::checks::NotFound;
use super::client::{Right, describe_topic};
use super::context::Context;
use super::options::KafkaOptions;
use crate::error::{Error, Result};
use crate::observe::now;

/// The key of every record.
pub(super) const KEY: &[u8] = b"progress";
/// Bytes that the reader may hold.
const BUFFER: usize = 1 << 20;

/// The last record that was committed; `None`: there is none, or no such topic.
///
/// # Errors
/// The topic cannot be read.
pub(crate) fn read(topic: &str, options: &Arc<KafkaOptions>) -> Result<Option<Vec<u8>>> {
    let probe = Probe::new(options)?;
    let found = probe.find(topic).map_err(|why| match why {
        NotFound::Refused => options.lacks(topic, Right::Read),
        NotFound::Error(error) => error,
    })?;
    if found.is_none() {
        return Ok(None);
    }
    let about =
        |cause: String| Error::operating(format!("topic `{topic}` cannot be read")).because(cause);
    let consumer: BaseConsumer<Context> = options
        .consumer(BUFFER, 1)
        .create_with_context(Context::default())
        .map_err(|cause| options.refused(&cause))?;
    let consumer = Aside::new(consumer);
    let mut places = TopicPartitionList::new();
    let from = places.add_partition_offset(topic, 0, Offset::Beginning);
    from.and_then(|()| {
        // A fetch starts at once only if the client knows the leader.
        consumer.fetch_metadata(Some(topic), options.patience())?;
        consumer.assign(&places)
    })
    .map_err(|cause| about(reason(&cause)))?;
    let (mut last, mut complaint, began) = (None, None, now());
    while began.elapsed() < options.patience() {
        match consumer.poll(options.patience()) {
            Some(Ok(record)) if record.key() == Some(KEY) => {
                last = record.payload().map(<[u8]>::to_vec);
            }
            Some(Ok(_)) | None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
            Some(Err(cause)) => match cause.rdkafka_error_code() {
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    return Err(options.lacks(topic, Right::Read));
                }
                // Nothing is asked of the group that every consumer has to name.
                Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
                // A broker that goes away comes back, or not within the patience.
                _ => complaint = Some(reason(&cause)),
            },
        }
    }
    Err(about(
        complaint.unwrap_or_else(|| "it has no end in sight".to_owned()),
    ))
}

/// Whether the topic is there and may be used as it is, as far as the cluster tells.
///
/// # Errors
/// It has several partitions, or a right to it is missing.
fn look(topic: &str, probe: &Probe) -> Result<bool> {
    let found = probe.find(topic).map_err(|why| match why {
        NotFound::Refused => probe.options.lacks(topic, Right::Write),
        NotFound::Error(error) => error,
    })?;
    match found {
        None => return Ok(false),
        Some(1) => {}
        Some(count) => {
            let why = format!("topic `{topic}` has {count} partitions; progress needs just one");
            return Err(Error::usage(why));
        }
    }
    let name = CString::new(topic).unwrap_or_default();
    let facts = describe_topic(probe.client(), &name, probe.options.patience());
    for right in [Right::Read, Right::Write] {
        if facts.as_ref().ok().and_then(|facts| facts.has(right)) == Some(false) {
            return Err(probe.options.lacks(topic, right));
        }
    }
    Ok(true)
}

/// Looks at what is there, and makes nothing.
///
/// # Errors
/// It cannot be used as it is.
pub(super) fn check(topic: &str, options: &Arc<KafkaOptions>) -> Result {
    look(topic, &Probe::new(options)?).map(|_| ())
}

/// Creates the topic, if it is not there.
///
/// # Errors
/// It cannot be created, or cannot be used as it is.
pub(super) fn create(topic: &str, options: &Arc<KafkaOptions>) -> Result {
    let probe = Probe::new(options)?;
    if look(topic, &probe)? {
        return Ok(());
    }
    let admin: AdminClient<Context> = options
        .client()
        .create_with_context(Context::default())
        .map_err(|cause| options.refused(&cause))?;
    let wait = AdminOptions::new()
        .request_timeout(Some(options.patience()))
        .operation_timeout(Some(options.patience()));
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("min.cleanable.dirty.ratio", "0.1");
    let answer = block_on(admin.create_topics(&[new], &wait));
    aside("kafka-admin-end", move || drop(admin));
    let failed = |cause: String| {
        let bootstrap = &options.bootstrap;
        let what = format!(
            "topic `{topic}`, where progress is committed, cannot be created at `{bootstrap}`; \
             create it with one partition and cleanup.policy=compact"
        );
        Error::operating(what).because(cause)
    };
    let made = answer.map_err(|cause| failed(reason(&cause)))?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists)) | Ok(_)) | None => {}
        Some(Err((_, code))) => return Err(failed(describe(code))),
    }
    probe.partitions(topic).map(|_| ())
}
