//! Where a partition starts, ends, or has a time: `ListOffsets` and
//! `OffsetForLeaderEpoch`.

use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::log::Log;
use super::records::Records;
use super::refusal::{Answer, Code, code};
use super::segment::Stored;
use super::state::Broker;
use super::sync::lock;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const LARGEST_TIME: i64 = -3;
/// The same as the earliest: nothing lies elsewhere.
const EARLIEST_LOCAL: i64 = -4;
/// Nothing lies elsewhere.
const LATEST_TIERED: i64 = -5;

/// A record's offset and time.
type Place = (i64, i64);
const NOWHERE: Place = (-1, -1);

pub(super) fn list_offsets(
    broker: &Broker,
    request: &ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let committed = request.isolation_level == 1;
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let found = broker.topics.log(&topic.name, wanted.partition_index);
            let found = found.and_then(|log| find(&lock(&log), wanted.timestamp, committed));
            let (offset, timestamp) = found.as_ref().copied().unwrap_or(NOWHERE);
            let epoch = if version >= 4 && offset >= 0 { 0 } else { -1 };
            ListOffsetsPartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(code(&found))
                .with_offset(offset)
                .with_timestamp(timestamp)
                .with_leader_epoch(epoch)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn find(log: &Log, wanted: i64, committed: bool) -> Answer<Place> {
    let end = if committed {
        log.stable_end()
    } else {
        log.end()
    };
    match wanted {
        LATEST => Ok((end, -1)),
        EARLIEST | EARLIEST_LOCAL => Ok((log.start(), -1)),
        LARGEST_TIME => Ok(largest_time(log)),
        LATEST_TIERED => Ok(NOWHERE),
        time if time >= 0 => Ok(first_at(log, time)
            .filter(|at| at.0 < end)
            .unwrap_or(NOWHERE)),
        _ => Err(Code::InvalidRequest.into()),
    }
}

/// The first record that is not older than `time`.
fn first_at(log: &Log, time: i64) -> Option<Place> {
    let mut candidates = data(log).filter(|batch| batch.max_timestamp >= time);
    candidates.find_map(|batch| inside(batch, log.start(), |stamp| stamp >= time))
}

/// The first record of those with the largest time.
fn largest_time(log: &Log) -> Place {
    let largest = data(log).map(|batch| batch.max_timestamp).max();
    largest
        .and_then(|time| first_at(log, time))
        .unwrap_or(NOWHERE)
}

fn data(log: &Log) -> impl Iterator<Item = &Stored> {
    log.batches_from(log.start())
        .filter(|batch| !batch.header().is_control())
}

fn inside(batch: &Stored, start: i64, wanted: impl Fn(i64) -> bool) -> Option<Place> {
    let header = batch.header();
    let records = Records::of(&batch.bytes).ok()?;
    let places = records
        .iter()
        .map_while(Result::ok)
        .map(|record| (batch.base + record.offset_delta, record.timestamp(&header)));
    places
        .filter(|place| place.0 >= start)
        .find(|place| wanted(place.1))
}

/// There was never another leader than epoch 0.
pub(super) fn offset_for_leader_epoch(
    broker: &Broker,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let log = broker.topics.log(&topic.topic, wanted.partition);
            let end = log.and_then(|log| end_of_epoch(&lock(&log), wanted));
            let (epoch, offset) = end.as_ref().copied().unwrap_or((-1, -1));
            EpochEndOffset::default()
                .with_partition(wanted.partition)
                .with_error_code(code(&end))
                .with_leader_epoch(epoch)
                .with_end_offset(offset)
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn end_of_epoch(log: &Log, wanted: &OffsetForLeaderPartition) -> Answer<(i32, i64)> {
    if wanted.current_leader_epoch > 0 {
        return Err(Code::UnknownLeaderEpoch.into());
    }
    Ok(if wanted.leader_epoch == 0 {
        (0, log.end())
    } else {
        (-1, -1)
    })
}
