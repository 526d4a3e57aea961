//! Offsets that groups commit, fetch and delete.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::membership::Phase;
use super::{Committed, Committer, State};
use crate::broker::refusal::{Answer, Code, code};
use crate::broker::state::Broker;
use crate::broker::sync::lock;
use crate::observe::now;

/// As Kafka's `offset.metadata.max.bytes`.
const MAX_METADATA: usize = 4096;

impl From<&OffsetCommitRequestPartition> for Committed {
    fn from(partition: &OffsetCommitRequestPartition) -> Self {
        Self {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.clone().unwrap_or_default(),
        }
    }
}

impl From<&TxnOffsetCommitRequestPartition> for Committed {
    fn from(partition: &TxnOffsetCommitRequestPartition) -> Self {
        Self {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.clone().unwrap_or_default(),
        }
    }
}

pub(in crate::broker) fn commit(
    broker: &Broker,
    request: &OffsetCommitRequest,
) -> OffsetCommitResponse {
    let group = may_commit(broker, request);
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let answer = group.clone().and_then(|group| {
                broker.topics.log(&topic.name, partition.partition_index)?;
                let committed = Committed::from(partition);
                if committed.metadata.len() > MAX_METADATA {
                    return Err(Code::OffsetMetadataTooLarge.into());
                }
                let place = (topic.name.to_string(), partition.partition_index);
                lock(&group.state).offsets.insert(place, committed);
                Ok(())
            });
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(&answer))
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// The group, if who asks may commit for it: a member of this generation, or anyone while it has
/// no members.
fn may_commit(
    broker: &Broker,
    request: &OffsetCommitRequest,
) -> Answer<std::sync::Arc<super::Group>> {
    let generation = request.generation_id_or_member_epoch;
    if generation >= 0 && broker.groups.find(&request.group_id).is_none() {
        return Err(Code::IllegalGeneration.into());
    }
    let group = broker.groups.find_or_create(&request.group_id)?;
    let mut state = lock(&group.state);
    if generation < 0 && state.membership.phase == Phase::Empty {
        drop(state);
        return Ok(group);
    }
    let who = (&request.member_id, request.group_instance_id.as_deref());
    state.membership.check(who, generation, now())?;
    if state.membership.phase == Phase::Completing {
        return Err(Code::RebalanceInProgress.into());
    }
    drop(state);
    Ok(group)
}

pub(in crate::broker) fn fetch(
    broker: &Broker,
    request: &OffsetFetchRequest,
    version: i16,
) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if version < 8 {
        let wanted = request.topics.as_ref().map(|topics| {
            let names = topics.iter();
            names
                .map(|topic| (&topic.name, &topic.partition_indexes[..]))
                .collect()
        });
        let found = find(broker, &request.group_id, wanted, stable);
        let topics = found.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(Found::alone);
            OffsetFetchResponseTopic::default()
                .with_name(name)
                .with_partitions(partitions.collect())
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.iter().map(|group| {
        let wanted = group.topics.as_ref().map(|topics| {
            let names = topics.iter();
            names
                .map(|topic| (&topic.name, &topic.partition_indexes[..]))
                .collect()
        });
        let found = find(broker, &group.group_id, wanted, stable);
        let topics = found.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(Found::in_group);
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_partitions(partitions.collect())
        });
        OffsetFetchResponseGroup::default()
            .with_group_id(group.group_id.clone())
            .with_topics(topics.collect())
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

struct Found {
    number: i32,
    committed: Option<Committed>,
    unstable: bool,
}

impl Found {
    fn code(&self) -> i16 {
        if self.unstable {
            Code::UnstableOffsetCommit.code()
        } else {
            0
        }
    }

    fn split(self) -> (i32, i64, i32, Option<StrBytes>) {
        let none = (self.number, -1, -1, Some(StrBytes::default()));
        self.committed.map_or(none, |committed| {
            let metadata = Some(committed.metadata);
            (
                self.number,
                committed.offset,
                committed.leader_epoch,
                metadata,
            )
        })
    }

    fn alone(self) -> OffsetFetchResponsePartition {
        let error = self.code();
        let (number, offset, epoch, metadata) = self.split();
        OffsetFetchResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(number)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(metadata)
    }

    fn in_group(self) -> OffsetFetchResponsePartitions {
        let error = self.code();
        let (number, offset, epoch, metadata) = self.split();
        OffsetFetchResponsePartitions::default()
            .with_error_code(error)
            .with_partition_index(number)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(metadata)
    }
}

/// What is committed for these partitions, or for all that there are.
fn find(
    broker: &Broker,
    group: &str,
    wanted: Option<Vec<(&TopicName, &[i32])>>,
    stable: bool,
) -> Vec<(TopicName, Vec<Found>)> {
    let group = broker.groups.find(group);
    let nothing = State::default();
    let state = group.as_ref().map(|group| lock(&group.state));
    let state = state.as_deref().unwrap_or(&nothing);
    let of_one = |name: &str, number: i32| {
        let place = (name.to_owned(), number);
        let unstable = stable
            && state
                .pending
                .values()
                .any(|offsets| offsets.contains_key(&place));
        let committed = state.offsets.get(&place).filter(|_| !unstable).cloned();
        Found {
            number,
            committed,
            unstable,
        }
    };
    if let Some(wanted) = wanted {
        let each = wanted.into_iter().map(|(name, numbers)| {
            let found = numbers.iter().map(|number| of_one(name, *number));
            (name.clone(), found.collect())
        });
        return each.collect();
    }
    let mut all: Vec<(TopicName, Vec<Found>)> = Vec::new();
    for (name, number) in state.offsets.keys() {
        let found = of_one(name, *number);
        match all.last_mut().filter(|(last, _)| last.as_str() == name) {
            Some((_, partitions)) => partitions.push(found),
            None => all.push((StrBytes::from_string(name.clone()).into(), vec![found])),
        }
    }
    all
}

pub(in crate::broker) fn delete_offsets(
    broker: &Broker,
    request: &OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let Some(group) = broker.groups.find(&request.group_id) else {
        let error = Code::GroupIdNotFound.code();
        return OffsetDeleteResponse::default().with_error_code(error);
    };
    let mut state = lock(&group.state);
    // Which topics its members read is theirs to know: nothing is deleted while there are any.
    let busy = state.membership.phase != Phase::Empty;
    let error = if busy {
        Code::GroupSubscribedToTopic.code()
    } else {
        0
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            if !busy {
                let place = (topic.name.to_string(), partition.partition_index);
                state.offsets.remove(&place);
            }
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

impl Committer<'_> {
    /// Whether it says that it is a member.
    pub(super) fn is_member(&self) -> bool {
        self.generation >= 0 || !self.member.is_empty()
    }
}
