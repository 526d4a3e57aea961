//! Fetch: gives whole batches as they lie in the log, or waits until there are enough.
//!
//! No fetch sessions: the broker answers with session 0, and clients send whole requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use super::log::{Found, Log};
use super::refusal::{Answer, Code};
use super::state::Broker;
use super::sync::{Signal, lock};
use crate::observe::now;

/// From this version on topics have ids instead of names.
const BY_ID: i16 = 13;
/// No response is larger, whatever the client asks for; but a first batch that is.
const MAX_BYTES: usize = 16 << 20;

/// What a partition that could be read had.
struct Piece {
    found: Found,
    high_watermark: i64,
    stable_end: i64,
    start: i64,
}

/// Answers, after at most the time that the client will wait.
pub(super) fn fetch(
    broker: &Broker,
    request: &FetchRequest,
    version: i16,
    signal: &Arc<Signal>,
) -> FetchResponse {
    let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let deadline = now() + Duration::from_millis(wait);
    let enough = usize::try_from(request.min_bytes).unwrap_or(0);
    loop {
        let last_look = now() >= deadline || broker.is_stopping();
        let mut look = Look::new(broker, request, version);
        look.wake = (!last_look).then_some((signal, enough));
        let response = look.at_all(request);
        if last_look || look.failed || look.bytes >= enough {
            return response;
        }
        signal.wait(deadline);
    }
}

/// One look at all partitions of a request.
struct Look<'a> {
    broker: &'a Broker,
    version: i16,
    committed: bool,
    most: usize,
    bytes: usize,
    failed: bool,
    /// Whom to notify of changes, where there are fewer bytes than this.
    wake: Option<(&'a Arc<Signal>, usize)>,
}

impl<'a> Look<'a> {
    fn new(broker: &'a Broker, request: &FetchRequest, version: i16) -> Self {
        let most = usize::try_from(request.max_bytes).unwrap_or(0);
        Self {
            broker,
            version,
            committed: request.isolation_level == 1,
            most: most.min(MAX_BYTES),
            bytes: 0,
            failed: false,
            wake: None,
        }
    }

    fn at_all(&mut self, request: &FetchRequest) -> FetchResponse {
        let topics = request.topics.iter().map(|topic| self.at_topic(topic));
        FetchResponse::default().with_responses(topics.collect())
    }

    fn at_topic(&mut self, wanted: &FetchTopic) -> FetchableTopicResponse {
        let (topic, unknown) = if self.version >= BY_ID {
            (
                self.broker.topics.with_id(wanted.topic_id),
                Code::UnknownTopicId,
            )
        } else {
            let topic = self.broker.topics.named(&wanted.topic);
            (topic, Code::UnknownTopicOrPartition)
        };
        let partitions = wanted.partitions.iter().map(|partition| {
            let log = match &topic {
                Some(topic) => topic
                    .partition(partition.partition)
                    .ok_or_else(|| Code::UnknownTopicOrPartition.into()),
                None => Err(unknown.into()),
            };
            let piece = log.and_then(|log| self.at_partition(&log, partition));
            self.failed |= piece.is_err();
            response(partition.partition, piece, self.committed)
        });
        let partitions = partitions.collect();
        FetchableTopicResponse::default()
            .with_topic(wanted.topic.clone())
            .with_topic_id(wanted.topic_id)
            .with_partitions(partitions)
    }

    fn at_partition(&mut self, log: &Arc<Mutex<Log>>, wanted: &FetchPartition) -> Answer<Piece> {
        let mut log = lock(log);
        if log.is_deleted() {
            return Err(Code::UnknownTopicOrPartition.into());
        }
        if wanted.current_leader_epoch > 0 {
            return Err(Code::UnknownLeaderEpoch.into());
        }
        let (start, end, stable_end) = (log.start(), log.end(), log.stable_end());
        let from = wanted.fetch_offset;
        if from < start || from > end {
            return Err(Code::OffsetOutOfRange.into());
        }
        let limit = if self.committed { stable_end } else { end };
        let most = usize::try_from(wanted.partition_max_bytes).unwrap_or(0);
        let most = most.min(self.most.saturating_sub(self.bytes));
        let mut found = log.read(from, limit, most, self.bytes == 0);
        self.bytes += found.bytes;
        if self.committed && !found.batches.is_empty() {
            found.aborted = log.aborted_within(from, found.next);
        }
        if let Some((signal, _)) = self.wake.filter(|(_, enough)| self.bytes < *enough) {
            log.wake(signal);
        }
        Ok(Piece {
            found,
            high_watermark: end,
            stable_end,
            start,
        })
    }
}

fn response(number: i32, piece: Answer<Piece>, committed: bool) -> PartitionData {
    let data = PartitionData::default()
        .with_partition_index(number)
        .with_preferred_read_replica((-1).into())
        .with_aborted_transactions(None);
    let piece = match piece {
        Ok(piece) => piece,
        Err(refusal) => {
            return data
                .with_error_code(refusal.code.code())
                .with_high_watermark(-1)
                .with_records(Some(Bytes::new()));
        }
    };
    let aborted = piece.found.aborted.iter().map(|aborted| {
        AbortedTransaction::default()
            .with_producer_id(aborted.producer_id.into())
            .with_first_offset(aborted.first)
    });
    data.with_high_watermark(piece.high_watermark)
        .with_last_stable_offset(piece.stable_end)
        .with_log_start_offset(piece.start)
        .with_aborted_transactions(committed.then(|| aborted.collect()))
        .with_records(Some(joined(piece.found)))
}

fn joined(mut found: Found) -> Bytes {
    if found.batches.len() < 2 {
        return found.batches.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(found.bytes);
    for batch in &found.batches {
        all.extend_from_slice(batch);
    }
    all.freeze()
}
