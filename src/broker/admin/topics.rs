//! Topics and their partitions: create, grow, delete, and delete records.

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::broker::config::{KEYS, TopicConfig};
use crate::broker::metadata::{DEFAULT_PARTITIONS, NODE};
use crate::broker::refusal::{Answer, Code, Refusal, code, message};
use crate::broker::state::Broker;
use crate::broker::sync::lock;

/// What was created, or would be.
struct Created {
    id: Uuid,
    partitions: usize,
    config: TopicConfig,
}

pub(in crate::broker) fn create_topics(
    broker: &Broker,
    request: &CreateTopicsRequest,
    version: i16,
) -> CreateTopicsResponse {
    let topics = request.topics.iter().map(|wanted| {
        let twice = request
            .topics
            .iter()
            .filter(|other| other.name == wanted.name)
            .count()
            > 1;
        let created = if twice {
            Err(Refusal::new(Code::InvalidRequest, "Duplicate topic name."))
        } else {
            create_one(broker, wanted, request.validate_only)
        };
        let result = CreatableTopicResult::default()
            .with_name(wanted.name.clone())
            .with_error_code(code(&created))
            .with_error_message(message(&created));
        match created {
            Ok(created) => described(result, &created, version),
            Err(_) => result,
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn described(
    result: CreatableTopicResult,
    created: &Created,
    version: i16,
) -> CreatableTopicResult {
    if version < 5 {
        return result;
    }
    let configs = KEYS.iter().map(|key| {
        let (value, is_set) = created.config.value(key);
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(key.name))
            .with_value(Some(StrBytes::from_string(value.to_owned())))
            .with_config_source(source(is_set))
    });
    result
        .with_topic_id(created.id)
        .with_num_partitions(i32::try_from(created.partitions).unwrap_or(i32::MAX))
        .with_replication_factor(1)
        .with_configs(Some(configs.collect()))
}

/// Kafka's number for where a value comes from: the topic, or the default.
pub(super) fn source(is_set: bool) -> i8 {
    if is_set { 1 } else { 5 }
}

fn create_one(broker: &Broker, wanted: &CreatableTopic, only_check: bool) -> Answer<Created> {
    let partitions = count(wanted)?;
    let configs = wanted.configs.iter();
    let pairs = configs.map(|one| {
        let value = one.value.as_deref().ok_or_else(|| {
            let why = format!("Null value not supported for topic configs: {}", one.name);
            Refusal::new(Code::InvalidConfig, why)
        })?;
        Ok((one.name.as_str(), value))
    });
    let config = TopicConfig::new(pairs.collect::<Answer<Vec<_>>>()?)?;
    let topic = broker
        .topics
        .create(&wanted.name, partitions, config.clone(), only_check)?;
    Ok(Created {
        id: topic.map_or(Uuid::nil(), |topic| topic.id),
        partitions,
        config,
    })
}

fn count(wanted: &CreatableTopic) -> Answer<usize> {
    let refused = |code, why: &str| Err(Refusal::new(code, why));
    if !wanted.assignments.is_empty() {
        let (mut numbers, mut nodes): (Vec<_>, Vec<_>) = wanted
            .assignments
            .iter()
            .map(|one| (one.partition_index, one.broker_ids.as_slice()))
            .unzip();
        numbers.sort_unstable();
        nodes.retain(|nodes| *nodes != [BrokerId(NODE)]);
        let all = (0..)
            .zip(&numbers)
            .all(|(expected, number)| expected == *number);
        if !all || !nodes.is_empty() {
            let why = "partitions are numbered from 0, and each is on broker 1";
            return refused(Code::InvalidReplicaAssignment, why);
        }
        return Ok(numbers.len());
    }
    if !matches!(wanted.replication_factor, -1 | 1) {
        let why = format!(
            "Replication factor: {}; there is one broker",
            wanted.replication_factor
        );
        return refused(Code::InvalidReplicationFactor, &why);
    }
    match (
        wanted.num_partitions,
        usize::try_from(wanted.num_partitions),
    ) {
        (-1, _) => Ok(DEFAULT_PARTITIONS),
        (_, Ok(count)) if count > 0 => Ok(count),
        _ => refused(
            Code::InvalidPartitions,
            "Number of partitions must be larger than 0.",
        ),
    }
}

pub(in crate::broker) fn create_partitions(
    broker: &Broker,
    request: &CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let results = request.topics.iter().map(|topic| {
        let grown = broker
            .topics
            .grow(&topic.name, topic.count, request.validate_only);
        CreatePartitionsTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(code(&grown))
            .with_error_message(message(&grown))
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

pub(in crate::broker) fn delete_topics(
    broker: &Broker,
    request: &DeleteTopicsRequest,
    version: i16,
) -> DeleteTopicsResponse {
    let by_name = |name: &TopicName| delete_one(broker, Some(name), Uuid::nil(), version);
    let responses = if version < 6 {
        request.topic_names.iter().map(by_name).collect()
    } else {
        let topics = request.topics.iter();
        topics
            .map(|topic| delete_one(broker, topic.name.as_ref(), topic.topic_id, version))
            .collect()
    };
    DeleteTopicsResponse::default().with_responses(responses)
}

fn delete_one(
    broker: &Broker,
    name: Option<&TopicName>,
    id: Uuid,
    version: i16,
) -> DeletableTopicResult {
    let found = if let Some(name) = name {
        Ok(name.to_string())
    } else {
        let topic = broker.topics.with_id(id);
        topic
            .map(|topic| topic.name.clone())
            .ok_or_else(|| Code::UnknownTopicId.into())
    };
    let deleted = found.and_then(|name| broker.topics.delete(&name));
    if let Ok(topic) = &deleted {
        broker.groups.forget_topic(&topic.name);
    }
    let (name, id) = match &deleted {
        Ok(topic) => (
            Some(StrBytes::from_string(topic.name.clone()).into()),
            topic.id,
        ),
        Err(_) => (name.cloned(), id),
    };
    let result = DeletableTopicResult::default()
        .with_name(name)
        .with_error_code(code(&deleted));
    match version {
        6.. => result
            .with_topic_id(id)
            .with_error_message(message(&deleted)),
        5 => result.with_error_message(message(&deleted)),
        _ => result,
    }
}

pub(in crate::broker) fn delete_records(
    broker: &Broker,
    request: &DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let start = delete_before(broker, &topic.name, wanted);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index)
                .with_low_watermark(start.as_ref().copied().unwrap_or(-1))
                .with_error_code(code(&start))
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn delete_before(broker: &Broker, name: &str, wanted: &DeleteRecordsPartition) -> Answer<i64> {
    let topic = broker
        .topics
        .named(name)
        .ok_or(Code::UnknownTopicOrPartition)?;
    let log = topic
        .partition(wanted.partition_index)
        .ok_or(Code::UnknownTopicOrPartition)?;
    if !topic.config().delete {
        let why = "records of a compacted topic are not deleted by offset";
        return Err(Refusal::new(Code::PolicyViolation, why));
    }
    let mut log = lock(&log);
    let offset = if wanted.offset == -1 {
        log.end()
    } else {
        wanted.offset
    };
    if !(0..=log.end()).contains(&offset) {
        return Err(Code::OffsetOutOfRange.into());
    }
    log.delete_before(offset);
    Ok(log.start())
}
