//! Who is there, and which topics: `Metadata`, `DescribeCluster` and `FindCoordinator`. One broker
//! leads and coordinates everything.

use std::net::SocketAddr;
use std::sync::Arc;

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::config::TopicConfig;
use super::refusal::{Answer, Code, code};
use super::state::Broker;
use super::topics::Topic;

pub(super) const NODE: i32 = 1;
const CLUSTER: &str = "anabranch-dev-broker-0";
/// Partitions of a topic that is created without a number.
pub(super) const DEFAULT_PARTITIONS: usize = 1;

/// The address at which this client reached the broker, so also where it reaches it again.
fn host(address: SocketAddr) -> StrBytes {
    StrBytes::from_string(address.ip().to_string())
}

pub(super) fn metadata(
    broker: &Broker,
    request: &MetadataRequest,
    version: i16,
    address: SocketAddr,
) -> MetadataResponse {
    // Version 0 says "all" by an empty list.
    let wanted = request
        .topics
        .as_ref()
        .filter(|topics| version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => broker
            .topics
            .all()
            .iter()
            .map(|topic| described(topic))
            .collect(),
        Some(wanted) => {
            let create = broker.auto_create && (version < 4 || request.allow_auto_topic_creation);
            wanted
                .iter()
                .map(|topic| one_topic(broker, topic, create))
                .collect()
        }
    };
    let node = MetadataResponseBroker::default()
        .with_node_id(NODE.into())
        .with_host(host(address))
        .with_port(address.port().into());
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(StrBytes::from_static_str(CLUSTER)))
        .with_controller_id(NODE.into())
        .with_topics(topics)
}

fn one_topic(
    broker: &Broker,
    wanted: &MetadataRequestTopic,
    create: bool,
) -> MetadataResponseTopic {
    let found = if let Some(name) = &wanted.name {
        named(broker, name, create)
    } else {
        let topic = broker.topics.with_id(wanted.topic_id);
        topic.ok_or_else(|| Code::UnknownTopicId.into())
    };
    match found {
        Ok(topic) => described(&topic),
        Err(refusal) => MetadataResponseTopic::default()
            .with_error_code(refusal.code.code())
            .with_name(wanted.name.clone())
            .with_topic_id(wanted.topic_id),
    }
}

fn named(broker: &Broker, name: &str, create: bool) -> Answer<Arc<Topic>> {
    if let Some(topic) = broker.topics.named(name) {
        return Ok(topic);
    }
    if !create {
        return Err(Code::UnknownTopicOrPartition.into());
    }
    let made = broker
        .topics
        .create(name, DEFAULT_PARTITIONS, TopicConfig::default(), false);
    match made {
        Ok(Some(topic)) => Ok(topic),
        // Another connection was faster.
        Ok(None) | Err(_) => broker.topics.named(name).ok_or_else(|| {
            made.err()
                .unwrap_or_else(|| Code::UnknownTopicOrPartition.into())
        }),
    }
}

fn described(topic: &Topic) -> MetadataResponseTopic {
    let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
    let partitions = (0..count).map(|number| {
        MetadataResponsePartition::default()
            .with_partition_index(number)
            .with_leader_id(NODE.into())
            .with_leader_epoch(0)
            .with_replica_nodes(vec![NODE.into()])
            .with_isr_nodes(vec![NODE.into()])
    });
    MetadataResponseTopic::default()
        .with_name(Some(StrBytes::from_string(topic.name.clone()).into()))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

pub(super) fn describe_cluster(address: SocketAddr) -> DescribeClusterResponse {
    let node = DescribeClusterBroker::default()
        .with_broker_id(NODE.into())
        .with_host(host(address))
        .with_port(address.port().into());
    DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_static_str(CLUSTER))
        .with_controller_id(NODE.into())
        .with_brokers(vec![node])
}

/// Groups and transactions alike.
pub(super) fn find_coordinator(
    request: &FindCoordinatorRequest,
    version: i16,
    address: SocketAddr,
) -> FindCoordinatorResponse {
    let known = |kind: i8| -> Answer {
        let unknown = || Code::InvalidRequest.into();
        (0..=1).contains(&kind).then_some(()).ok_or_else(unknown)
    };
    let answer = known(request.key_type);
    let node = BrokerId(if answer.is_ok() { NODE } else { -1 });
    let port = i32::from(address.port());
    if version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code(&answer))
            .with_node_id(node)
            .with_host(host(address))
            .with_port(port);
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_error_code(code(&answer))
            .with_node_id(node)
            .with_host(host(address))
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}
