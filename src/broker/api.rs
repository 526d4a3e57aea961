//! Which requests the broker answers, in which versions, and who does.
//!
//! The versions are those of Apache Kafka 4.1, as far as they mean something here: below what needs
//! the second version of transactions (`Produce` 12, `EndTxn` 4, …) or the new consumer protocol.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::groups::{self, Client};
use super::produce::{self, ProduceRequest};
use super::refusal::Code;
use super::state::Broker;
use super::sync::Signal;
use super::wire::{Broken, decode, encode};
use super::{admin, fetch, metadata, offsets, transactions};

const VERSIONS: [(ApiKey, i16, i16); 30] = [
    (ApiKey::Produce, 3, 11),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 9),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 4),
    (ApiKey::JoinGroup, 2, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 5),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::AddOffsetsToTxn, 0, 3),
    (ApiKey::EndTxn, 0, 3),
    (ApiKey::TxnOffsetCommit, 0, 3),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 1),
];

/// What one connection brings to its requests.
#[derive(Debug)]
pub(super) struct Caller {
    /// Where the client reached the broker.
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) signal: Arc<Signal>,
}

/// Answers the request in `frame` into `out`, behind four bytes for the length; leaves `out` empty
/// where no answer is due.
pub(super) fn answer(
    broker: &Broker,
    caller: &Caller,
    mut frame: Bytes,
    out: &mut BytesMut,
) -> Result<(), Broken> {
    let mut start = &frame[..];
    let key = ApiKey::try_from(start.try_get_i16()?).map_err(|()| Broken)?;
    let version = start.try_get_i16()?;
    let header = RequestHeader::decode(&mut frame, key.request_header_version(version));
    let header = header.map_err(|_| Broken)?;
    let supported = VERSIONS
        .iter()
        .find(|(known, ..)| *known == key)
        .ok_or(Broken)?;
    let known = (supported.1..=supported.2).contains(&version);
    out.put_i32(0);
    // Who asks for a version that is not known is told, in the oldest one, which are.
    let head = if known {
        key.response_header_version(version)
    } else {
        0
    };
    ResponseHeader::default()
        .with_correlation_id(header.correlation_id)
        .encode(out, head)
        .map_err(|_| Broken)?;
    if !known {
        return match key {
            ApiKey::ApiVersions => encode(&versions(Code::UnsupportedVersion.code()), 0, out),
            _ => Err(Broken),
        };
    }
    let call = Call {
        broker,
        version,
        frame,
        out,
    };
    dispatch(key, call, caller, &header)
}

fn versions(error: i16) -> ApiVersionsResponse {
    let keys = VERSIONS.iter().map(|(key, min, max)| {
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(*min)
            .with_max_version(*max)
    });
    ApiVersionsResponse::default()
        .with_error_code(error)
        .with_api_keys(keys.collect())
}

/// A request on its way to who answers it.
struct Call<'a> {
    broker: &'a Broker,
    version: i16,
    frame: Bytes,
    out: &'a mut BytesMut,
}

impl Call<'_> {
    fn by<Q: Decodable, A: Encodable>(
        self,
        handle: impl FnOnce(&Broker, Q, i16) -> A,
    ) -> Result<(), Broken> {
        let request = decode::<Q>(self.frame, self.version)?;
        let response = handle(self.broker, request, self.version);
        encode(&response, self.version, self.out)
    }

    fn produce(self) -> Result<(), Broken> {
        let request = ProduceRequest::read(self.frame, self.version)?;
        let response = produce::produce(self.broker, request, self.version);
        let Some(response) = response else {
            self.out.clear();
            return Ok(());
        };
        encode(&response, self.version, self.out)
    }
}

fn dispatch(
    key: ApiKey,
    call: Call<'_>,
    caller: &Caller,
    header: &RequestHeader,
) -> Result<(), Broken> {
    let local = caller.local;
    match key {
        ApiKey::Produce => call.produce(),
        ApiKey::Fetch => {
            call.by(|broker, q: FetchRequest, v| fetch::fetch(broker, &q, v, &caller.signal))
        }
        ApiKey::ListOffsets => call.by(|broker, q, v| offsets::list_offsets(broker, &q, v)),
        ApiKey::OffsetForLeaderEpoch => {
            call.by(|broker, q, _| offsets::offset_for_leader_epoch(broker, &q))
        }
        ApiKey::ApiVersions => call.by(|_, _: ApiVersionsRequest, _| versions(0)),
        ApiKey::Metadata => call.by(|broker, q, v| metadata::metadata(broker, &q, v, local)),
        ApiKey::FindCoordinator => call.by(|_, q, v| metadata::find_coordinator(&q, v, local)),
        ApiKey::DescribeCluster => {
            use kafka_protocol::messages::DescribeClusterRequest;
            call.by(|_, _: DescribeClusterRequest, _| metadata::describe_cluster(local))
        }
        ApiKey::InitProducerId => call.by(|b, q, v| transactions::init_producer_id(b, &q, v)),
        ApiKey::AddPartitionsToTxn => call.by(|b, q, v| transactions::add_partitions(b, &q, v)),
        ApiKey::AddOffsetsToTxn => call.by(|b, q, v| transactions::add_offsets(b, &q, v)),
        ApiKey::TxnOffsetCommit => call.by(|b, q, _| transactions::commit_offsets(b, &q)),
        ApiKey::EndTxn => call.by(|b, q, v| transactions::end_transaction(b, &q, v)),
        ApiKey::CreateTopics => call.by(|b, q, v| admin::create_topics(b, &q, v)),
        ApiKey::DeleteTopics => call.by(|b, q, v| admin::delete_topics(b, &q, v)),
        ApiKey::CreatePartitions => call.by(|b, q, _| admin::create_partitions(b, &q)),
        ApiKey::DeleteRecords => call.by(|b, q, _| admin::delete_records(b, &q)),
        ApiKey::DescribeConfigs => call.by(|b, q, v| admin::describe_configs(b, &q, v)),
        ApiKey::AlterConfigs => call.by(|b, q, _| admin::alter_configs(b, &q)),
        ApiKey::IncrementalAlterConfigs => {
            call.by(|b, q, _| admin::incremental_alter_configs(b, &q))
        }
        _ => dispatch_group(key, call, caller, header),
    }
}

fn dispatch_group(
    key: ApiKey,
    call: Call<'_>,
    caller: &Caller,
    header: &RequestHeader,
) -> Result<(), Broken> {
    match key {
        ApiKey::JoinGroup => {
            let client = Client {
                id: header.client_id.clone().unwrap_or_default(),
                host: produce::name_of(&format!("/{}", caller.remote.ip())),
            };
            call.by(|b, q, v| groups::join(b, q, v, &client))
        }
        ApiKey::SyncGroup => call.by(|b, q, _| groups::sync(b, q)),
        ApiKey::Heartbeat => call.by(|b, q, _| groups::heartbeat(b, &q)),
        ApiKey::LeaveGroup => call.by(|b, q, v| groups::leave(b, &q, v)),
        ApiKey::OffsetCommit => call.by(|b, q, _| groups::commit(b, &q)),
        ApiKey::OffsetFetch => call.by(|b, q, v| groups::fetch(b, &q, v)),
        ApiKey::OffsetDelete => call.by(|b, q, _| groups::delete_offsets(b, &q)),
        ApiKey::ListGroups => call.by(|b, q, v| groups::list(b, &q, v)),
        ApiKey::DescribeGroups => call.by(|b, q, v| groups::describe(b, &q, v)),
        ApiKey::DeleteGroups => call.by(|b, q, _| groups::delete(b, &q)),
        _ => Err(Broken),
    }
}
