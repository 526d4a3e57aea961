//! Produce: checks a batch as Kafka does, finds room for it, appends it.

mod request;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::batch::Batch;
use super::config::TopicConfig;
use super::log::Log;
use super::producers::Verdict;
use super::records::Records;
use super::refusal::{Answer, Code, Refusal, code, message};
use super::segment::cost;
use super::state::Broker;
use super::sync::lock;
use super::topics::Topic;
use crate::observe::{now, time_of_day};

pub(super) use request::{PartitionBatch, ProduceRequest, TopicBatches};

/// What a client is told in words.
const SENTENCES: [Code; 2] = [Code::InvalidRecord, Code::InvalidTimestamp];

/// Where a batch was placed.
#[derive(Clone, Copy, Debug)]
struct Placed {
    base: i64,
    /// The broker's stamp, or −1.
    time: i64,
    start: i64,
}

/// Appends what is in a request; gives nothing where the client asked for no answer.
pub(super) fn produce(
    broker: &Broker,
    request: ProduceRequest,
    version: i16,
) -> Option<ProduceResponse> {
    let acks = request.acks;
    let topics = request
        .topics
        .into_iter()
        .map(|TopicBatches { name, partitions }| {
            let topic = broker.topics.named(&name);
            let answers = partitions.into_iter().map(|batch| {
                let answer = match acks {
                    -1..=1 => append_to(broker, topic.as_deref(), &batch),
                    _ => Err(Code::InvalidRequiredAcks.into()),
                };
                partition_response(batch.number, answer, version)
            });
            TopicProduceResponse::default()
                .with_partition_responses(answers.collect())
                .with_name(name.into())
        });
    let responses = topics.collect();
    (acks != 0).then(|| ProduceResponse::default().with_responses(responses))
}

fn partition_response(
    number: i32,
    answer: Answer<Placed>,
    version: i16,
) -> PartitionProduceResponse {
    // A client that does not know the newer code is told the older one.
    let answer = answer.map_err(|refusal| match refusal.code {
        Code::TransactionAbortable if version < 11 => {
            Refusal::new(Code::InvalidTxnState, refusal.to_string())
        }
        _ => refusal,
    });
    let place = answer
        .as_ref()
        .map_or((-1, -1, -1), |at| (at.base, at.time, at.start));
    let response = PartitionProduceResponse::default()
        .with_index(number)
        .with_error_code(code(&answer))
        .with_base_offset(place.0)
        .with_log_append_time_ms(place.1)
        .with_log_start_offset(if version >= 5 { place.2 } else { -1 });
    // As Kafka: a sentence goes with what is wrong with records.
    let told = matches!(&answer, Err(refusal) if SENTENCES.contains(&refusal.code));
    match version {
        8.. if told => response.with_error_message(message(&answer)),
        _ => response,
    }
}

fn append_to(broker: &Broker, topic: Option<&Topic>, sent: &PartitionBatch) -> Answer<Placed> {
    let (topic, log) = topic
        .and_then(|topic| Some((topic, topic.partition(sent.number)?)))
        .ok_or(Code::UnknownTopicOrPartition)?;
    let config = topic.config();
    let time = time_of_day().millis();
    let mut batch = check(&sent.batch, &config, time)?;
    if config.append_time {
        batch.stamp(time);
    }
    let stamp = if config.append_time { time } else { -1 };
    let bytes = cost(batch.bytes().len());
    if !broker.make_room(bytes) {
        let why = format!(
            "the development broker's {} bytes are full, and what fills them may not be dropped",
            broker.topics.budget.limit()
        );
        return Err(Refusal::new(Code::KafkaStorageError, why));
    }
    let placed = place(broker, &log, &config, batch, now());
    if !matches!(placed, Ok((_, Verdict::New))) {
        broker.topics.budget.release(bytes);
    }
    let (mut placed, _) = placed?;
    placed.time = stamp;
    Ok(placed)
}

fn place(
    broker: &Broker,
    log: &Arc<Mutex<Log>>,
    config: &TopicConfig,
    batch: Batch,
    now: Instant,
) -> Answer<(Placed, Verdict)> {
    let mut log = lock(log);
    if log.is_deleted() {
        return Err(Code::UnknownTopicOrPartition.into());
    }
    let verdict = log.judge(&batch.header)?;
    let base = match verdict {
        Verdict::New => log.append(batch, broker.topics.roll(config), now),
        Verdict::Repeated(base) => base,
    };
    if config.delete {
        log.retain(config.retention_bytes, None);
    }
    let placed = Placed {
        base,
        time: -1,
        start: log.start(),
    };
    Ok((placed, verdict))
}

/// What Kafka asks of a batch before it looks at the log.
fn check(sent: &Bytes, config: &TopicConfig, time: i64) -> Answer<Batch> {
    let batch = Batch::receive(sent)?;
    if sent.len() > config.max_message_bytes {
        let why = format!(
            "The record batch size is {} bytes, which exceeds the maximum configured value of {}.",
            sent.len(),
            config.max_message_bytes
        );
        return Err(Refusal::new(Code::MessageTooLarge, why));
    }
    if !config.append_time {
        check_time(batch.header.max_timestamp, config, time)?;
    }
    // Records inside a compressed batch are looked at only where their keys matter.
    if batch.header.codec() == 0 || config.compact {
        check_records(&batch, config, time)?;
    }
    Ok(batch)
}

fn check_records(batch: &Batch, config: &TopicConfig, time: i64) -> Answer {
    let malformed = || {
        Refusal::new(
            Code::InvalidRecord,
            "the records of the batch are malformed",
        )
    };
    let records = Records::of(batch.bytes()).map_err(|_| malformed())?;
    let mut count = 0;
    for record in records.iter() {
        let record = record.map_err(|_| malformed())?;
        if record.offset_delta != count {
            return Err(malformed());
        }
        if config.compact && record.key.is_none() {
            let why = "Compacted topic cannot accept message without key";
            return Err(Refusal::new(Code::InvalidRecord, why));
        }
        if !config.append_time {
            check_time(record.timestamp(&batch.header), config, time)?;
        }
        count += 1;
    }
    if count == i64::from(batch.header.count) {
        return Ok(());
    }
    Err(malformed())
}

fn check_time(timestamp: i64, config: &TopicConfig, time: i64) -> Answer {
    let (before, after) = (config.before_max, config.after_max);
    // Kafka's −1 stands for no stamp at all, and is taken.
    let early = timestamp != -1 && time.saturating_sub(timestamp) > before;
    if !early && timestamp.saturating_sub(time) <= after {
        return Ok(());
    }
    let why = format!(
        "Timestamp {timestamp} of message is out of range: the broker's clock says {time}, and \
         message.timestamp.before.max.ms is {before}, message.timestamp.after.max.ms {after}"
    );
    Err(Refusal::new(Code::InvalidTimestamp, why))
}

/// The name of a topic as messages have it.
pub(super) fn name_of(topic: &str) -> StrBytes {
    StrBytes::from_string(topic.to_owned())
}
