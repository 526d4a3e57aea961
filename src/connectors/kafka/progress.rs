//! The topic of a job's progress: one partition, compacted, one key.

use std::ffi::CString;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

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
use super::limits;
use super::options::KafkaOptions;
use crate::error::{Error, Result};
use crate::observe::now;

/// The key of every record.
pub(super) const KEY: &[u8] = b"progress";
/// Bytes that the reader may hold.
const BUFFER: usize = 1 << 20;
/// How far before the end the last record is looked for first: each checkpoint takes two offsets.
const TAIL: i64 = 256;
/// Bytes after which the topic's log is rolled, so that it can be compacted: else a gigabyte.
const SEGMENT: &str = "4194304";

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
    // Asks for the partition's leader too, without which no fetch starts.
    let ends = consumer.fetch_watermarks(topic, 0, options.patience());
    let (first, end) = ends.map_err(|cause| match cause.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => options.lacks(topic, Right::Read),
        _ => about(reason(&cause)),
    })?;
    // The topic is compacted now and then only, and the last record stands near its end.
    let mut back = TAIL;
    loop {
        let from = first.max(end - back);
        let last = last_behind(&consumer, (topic, from..end), options)?;
        if last.is_some() || from == first {
            return Ok(last);
        }
        back *= 8;
    }
}

/// The last record from the beginning of `span`, when its end is reached, or a newer one.
fn last_behind(
    consumer: &BaseConsumer<Context>,
    (topic, span): (&str, Range<i64>),
    options: &KafkaOptions,
) -> Result<Option<Vec<u8>>> {
    let about =
        |cause: String| Error::operating(format!("topic `{topic}` cannot be read")).because(cause);
    let mut places = TopicPartitionList::new();
    let place = places.add_partition_offset(topic, 0, Offset::Offset(span.start));
    place
        .and_then(|()| consumer.assign(&places))
        .map_err(|cause| about(reason(&cause)))?;
    let (mut last, mut complaint, began) = (None, None, now());
    while began.elapsed() < options.patience() {
        match consumer.poll(options.patience()) {
            Some(Ok(record)) => {
                if record.key() == Some(KEY) {
                    last = record.payload().map(<[u8]>::to_vec);
                }
                // A job that commits all the time has no end to wait for.
                if record.offset() >= span.end {
                    return Ok(last);
                }
            }
            None => {}
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
    let why = complaint.unwrap_or_else(|| "it has no end in sight".to_owned());
    Err(about(why))
}

/// Whether the topic is there and may be used as it is, as far as the cluster tells.
///
/// # Errors
/// It has several partitions, forgets what is in it, or a right to it is missing.
fn look(topic: &str, probe: &Probe) -> Result<bool> {
    thread::scope(|scope| {
        let cleanup = scope.spawn(|| limits::cleanup(topic, &probe.options));
        let is_there = look_at(topic, probe)?;
        let cleanup = cleanup.join().ok().flatten();
        match cleanup.filter(|policy| is_there && policy.contains("delete")) {
            Some(policy) => Err(forgetful(topic, &policy, &probe.options)),
            None => Ok(is_there),
        }
    })
}

fn forgetful(topic: &str, policy: &str, options: &KafkaOptions) -> Error {
    Error::usage(format!(
        "topic `{topic}` has cleanup.policy={policy}: when its last record is deleted, nobody \
         knows what was committed, and the results are written again; kafka-configs.sh \
         --bootstrap-server {} --alter --topic {topic} --add-config cleanup.policy=compact",
        options.bootstrap
    ))
}

fn look_at(topic: &str, probe: &Probe) -> Result<bool> {
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
        .set("segment.bytes", SEGMENT)
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
