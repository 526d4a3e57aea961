//! The requests of transactional producers.

use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::{Phase, ProducerKey};
use crate::broker::groups::Committer;
use crate::broker::refusal::{Answer, Code, Refusal, code};
use crate::broker::state::Broker;
use crate::broker::sync::lock;
use crate::observe::now;

/// Clients before `since` do not know the newer word for being fenced.
fn told(answer: Answer, version: i16, since: i16) -> Answer {
    answer.map_err(|refusal| match refusal.code {
        Code::ProducerFenced if version < since => {
            Refusal::new(Code::InvalidProducerEpoch, refusal.to_string())
        }
        _ => refusal,
    })
}

pub(in crate::broker) fn init_producer_id(
    broker: &Broker,
    request: &InitProducerIdRequest,
    version: i16,
) -> InitProducerIdResponse {
    let mut answer = registered(broker, request);
    if let Err(refusal) = answer {
        answer = told(Err(refusal), version, 4).map(|()| (-1, -1));
    }
    let (producer, epoch) = answer.as_ref().copied().unwrap_or((-1, -1));
    InitProducerIdResponse::default()
        .with_error_code(code(&answer))
        .with_producer_id(producer.into())
        .with_producer_epoch(epoch)
}

fn registered(broker: &Broker, request: &InitProducerIdRequest) -> Answer<ProducerKey> {
    let Some(id) = &request.transactional_id else {
        return Ok((broker.transactions.fresh_producer(), 0));
    };
    if id.is_empty() {
        return Err(Code::InvalidRequest.into());
    }
    let timeout = u64::try_from(request.transaction_timeout_ms).unwrap_or(0);
    let known =
        (request.producer_id.0 >= 0).then_some((request.producer_id.0, request.producer_epoch));
    let timeout = Duration::from_millis(timeout);
    broker.transactions.register(broker, id, timeout, known)
}

pub(in crate::broker) fn add_partitions(
    broker: &Broker,
    request: &AddPartitionsToTxnRequest,
    version: i16,
) -> AddPartitionsToTxnResponse {
    let id = &request.v3_and_below_transactional_id;
    let producer = (
        request.v3_and_below_producer_id.0,
        request.v3_and_below_producer_epoch,
    );
    let topics = &request.v3_and_below_topics;
    let exists = |topic: &str, number: i32| broker.topics.log(topic, number).is_ok();
    let all_exist = topics.iter().all(|topic| {
        topic
            .partitions
            .iter()
            .all(|number| exists(&topic.name, *number))
    });
    let added = broker.transactions.with(id, producer, |transaction| {
        let now = now();
        let (partitions, _) = if all_exist {
            transaction.open(now)
        } else {
            return Ok(());
        };
        for topic in topics {
            for number in &topic.partitions {
                if let Ok(log) = broker.topics.log(&topic.name, *number) {
                    lock(&log).enlist(producer, now);
                    partitions.insert((topic.name.to_string(), *number));
                }
            }
        }
        Ok(())
    });
    let added = told(added, version, 2);
    let of_one = |topic: &str, number: i32| match (&added, all_exist) {
        (Err(refusal), _) => refusal.code.code(),
        (Ok(()), true) => 0,
        (Ok(()), false) if exists(topic, number) => Code::OperationNotAttempted.code(),
        (Ok(()), false) => Code::UnknownTopicOrPartition.code(),
    };
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|number| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*number)
                .with_partition_error_code(of_one(&topic.name, *number))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}

pub(in crate::broker) fn add_offsets(
    broker: &Broker,
    request: &AddOffsetsToTxnRequest,
    version: i16,
) -> AddOffsetsToTxnResponse {
    let producer = (request.producer_id.0, request.producer_epoch);
    let added = broker
        .transactions
        .with(&request.transactional_id, producer, |transaction| {
            let (_, groups) = transaction.open(now());
            groups.insert(request.group_id.to_string());
            Ok(())
        });
    AddOffsetsToTxnResponse::default().with_error_code(code(&told(added, version, 2)))
}

pub(in crate::broker) fn commit_offsets(
    broker: &Broker,
    request: &TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let producer = (request.producer_id.0, request.producer_epoch);
    let group = request.group_id.as_str();
    let pending = broker
        .transactions
        .with(&request.transactional_id, producer, |transaction| {
            match &transaction.phase {
                Phase::Open { groups, .. } if groups.contains(group) => {}
                _ => return Err(Code::InvalidTxnState.into()),
            }
            let committer = Committer {
                generation: request.generation_id,
                member: &request.member_id,
                instance: request.group_instance_id.as_deref(),
            };
            let offsets = request.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| {
                    let place = (topic.name.to_string(), partition.partition_index);
                    (place, partition.into())
                })
            });
            broker.groups.stage(group, producer.0, &committer, offsets)
        });
    let error = code(&told(pending, 0, 1));
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error)
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

pub(in crate::broker) fn end_transaction(
    broker: &Broker,
    request: &EndTxnRequest,
    version: i16,
) -> EndTxnResponse {
    let producer = (request.producer_id.0, request.producer_epoch);
    let id = &request.transactional_id;
    let ended = broker
        .transactions
        .end(broker, id, producer, request.committed);
    EndTxnResponse::default().with_error_code(code(&told(ended, version, 2)))
}
