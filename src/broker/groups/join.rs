//! The requests of members: join, sync, heartbeat, leave.

use std::ops::RangeInclusive;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::membership::{Joiner, Joining, Member, Membership, Phase};
use super::{Group, State};
use crate::broker::refusal::{Answer, Code, code};
use crate::broker::state::Broker;
use crate::broker::sync::{lock, wait_until};
use crate::observe::now;

/// As Kafka's `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
const SESSIONS: RangeInclusive<i32> = 6_000..=1_800_000;
/// How often one that waits looks whether the broker stops.
const LOOK: Duration = Duration::from_secs(1);

/// The client that asks.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Client {
    pub(in crate::broker) id: StrBytes,
    pub(in crate::broker) host: StrBytes,
}

pub(in crate::broker) fn join(
    broker: &Broker,
    request: JoinGroupRequest,
    version: i16,
    client: &Client,
) -> JoinGroupResponse {
    let told = request.member_id.clone();
    let answer = try_join(broker, request, version, client);
    answer.unwrap_or_else(|refusal| {
        let none = if version >= 7 {
            None
        } else {
            Some(StrBytes::default())
        };
        JoinGroupResponse::default()
            .with_error_code(refusal.code.code())
            .with_generation_id(-1)
            .with_protocol_name(none)
            .with_member_id(told)
    })
}

fn try_join(
    broker: &Broker,
    request: JoinGroupRequest,
    version: i16,
    client: &Client,
) -> Answer<JoinGroupResponse> {
    if !SESSIONS.contains(&request.session_timeout_ms) {
        return Err(Code::InvalidSessionTimeout.into());
    }
    if !request.member_id.is_empty() && broker.groups.find(&request.group_id).is_none() {
        return Err(Code::UnknownMemberId.into());
    }
    let group = broker.groups.find_or_create(&request.group_id)?;
    let mut state = live(&group)?;
    let joiner = joiner(request, version, client);
    let joining = state.membership.join(joiner, now())?;
    group.changed.notify_all();
    let (id, before) = match joining {
        Joining::Promised(id) => {
            return Ok(JoinGroupResponse::default()
                .with_error_code(Code::MemberIdRequired.code())
                .with_generation_id(-1)
                .with_protocol_name((version < 7).then(StrBytes::default))
                .with_member_id(id));
        }
        Joining::Unchanged(id) => return Ok(joined(&state.membership, id)),
        Joining::Wait(id, before) => (id, before),
    };
    let settled = |membership: &Membership| {
        membership.generation > before && !matches!(membership.phase, Phase::Preparing { .. })
    };
    let state = wait(broker, &group, state, &id, settled)?;
    Ok(joined(&state.membership, id))
}

fn live(group: &Group) -> Answer<MutexGuard<'_, State>> {
    let state = lock(&group.state);
    if state.deleted {
        return Err(Code::CoordinatorNotAvailable.into());
    }
    Ok(state)
}

fn joiner(request: JoinGroupRequest, version: i16, client: &Client) -> Joiner {
    let millis = |value: i32| Duration::from_millis(u64::try_from(value).unwrap_or(0));
    let session = millis(request.session_timeout_ms);
    let rebalance = millis(request.rebalance_timeout_ms);
    let protocols = request.protocols.into_iter();
    let member = Member {
        instance: request.group_instance_id,
        client: client.id.clone(),
        host: client.host.clone(),
        protocols: protocols.map(|own| (own.name, own.metadata)).collect(),
        session,
        rebalance: if rebalance.is_zero() {
            session
        } else {
            rebalance
        },
        assignment: Bytes::new(),
        joined: true,
        waiting: 0,
        heard: now(),
    };
    Joiner {
        id: request.member_id,
        protocol_type: request.protocol_type,
        member,
        knows_promises: version >= 4,
    }
}

/// Waits for the others; meanwhile the member counts as heard.
fn wait<'a>(
    broker: &Broker,
    group: &'a Group,
    mut state: MutexGuard<'a, State>,
    id: &StrBytes,
    settled: impl Fn(&Membership) -> bool,
) -> Answer<MutexGuard<'a, State>> {
    let count = |state: &mut State, by: isize| {
        if let Some(member) = state.membership.members.get_mut(id) {
            member.waiting = member.waiting.saturating_add_signed(by);
            member.heard = now();
        }
    };
    count(&mut state, 1);
    let refused = loop {
        if !state.membership.members.contains_key(id) {
            break Some(Code::UnknownMemberId);
        }
        if settled(&state.membership) {
            break None;
        }
        if broker.is_stopping() || state.deleted {
            break Some(Code::CoordinatorNotAvailable);
        }
        let look = now() + LOOK;
        let deadline: Instant = match state.membership.phase {
            Phase::Preparing { deadline } => deadline.min(look),
            Phase::Empty | Phase::Completing | Phase::Stable => look,
        };
        state = wait_until(&group.changed, state, deadline);
        if state.membership.expire(now()) {
            group.changed.notify_all();
        }
    };
    count(&mut state, -1);
    refused.map_or(Ok(state), |code| Err(code.into()))
}

fn joined(membership: &Membership, id: StrBytes) -> JoinGroupResponse {
    let members = membership
        .members
        .iter()
        .filter(|_| membership.leader == id);
    let members = members.map(|(id, member)| {
        JoinGroupResponseMember::default()
            .with_member_id(id.clone())
            .with_group_instance_id(member.instance.clone())
            .with_metadata(member.metadata(&membership.protocol))
    });
    JoinGroupResponse::default()
        .with_generation_id(membership.generation)
        .with_protocol_type(Some(membership.protocol_type.clone()))
        .with_protocol_name(Some(membership.protocol.clone()))
        .with_leader(membership.leader.clone())
        .with_members(members.collect())
        .with_member_id(id)
}

pub(in crate::broker) fn sync(broker: &Broker, request: SyncGroupRequest) -> SyncGroupResponse {
    try_sync(broker, request)
        .unwrap_or_else(|refusal| SyncGroupResponse::default().with_error_code(refusal.code.code()))
}

fn try_sync(broker: &Broker, request: SyncGroupRequest) -> Answer<SyncGroupResponse> {
    let group = broker
        .groups
        .find(&request.group_id)
        .ok_or(Code::UnknownMemberId)?;
    let mut state = live(&group)?;
    let (id, generation) = (request.member_id, request.generation_id);
    let membership = &mut state.membership;
    membership.check(
        (&id, request.group_instance_id.as_deref()),
        generation,
        now(),
    )?;
    let other =
        |own: &StrBytes, named: &Option<StrBytes>| named.as_ref().is_some_and(|name| name != own);
    if other(&membership.protocol_type, &request.protocol_type)
        || other(&membership.protocol, &request.protocol_name)
    {
        return Err(Code::InconsistentGroupProtocol.into());
    }
    if membership.phase == Phase::Completing && membership.leader == id {
        let assignments = request.assignments.into_iter();
        membership.assign(assignments.map(|one| (one.member_id, one.assignment)));
        group.changed.notify_all();
    }
    let settled = |membership: &Membership| {
        membership.generation != generation || membership.phase != Phase::Completing
    };
    let state = wait(broker, &group, state, &id, settled)?;
    let membership = &state.membership;
    if membership.generation != generation || membership.phase != Phase::Stable {
        return Err(Code::RebalanceInProgress.into());
    }
    let own = membership.members.get(&id);
    Ok(SyncGroupResponse::default()
        .with_protocol_type(Some(membership.protocol_type.clone()))
        .with_protocol_name(Some(membership.protocol.clone()))
        .with_assignment(
            own.map(|member| member.assignment.clone())
                .unwrap_or_default(),
        ))
}

pub(in crate::broker) fn heartbeat(
    broker: &Broker,
    request: &HeartbeatRequest,
) -> HeartbeatResponse {
    let answer = || -> Answer {
        let group = broker
            .groups
            .find(&request.group_id)
            .ok_or(Code::UnknownMemberId)?;
        let mut state = live(&group)?;
        let who = (&request.member_id, request.group_instance_id.as_deref());
        state.membership.check(who, request.generation_id, now())?;
        match state.membership.phase {
            Phase::Preparing { .. } => Err(Code::RebalanceInProgress.into()),
            Phase::Empty | Phase::Completing | Phase::Stable => Ok(()),
        }
    };
    HeartbeatResponse::default().with_error_code(code(&answer()))
}

pub(in crate::broker) fn leave(
    broker: &Broker,
    request: &LeaveGroupRequest,
    version: i16,
) -> LeaveGroupResponse {
    let one = [MemberIdentity::default().with_member_id(request.member_id.clone())];
    let leaving = if version >= 3 {
        &request.members[..]
    } else {
        &one
    };
    let group = broker.groups.find(&request.group_id);
    let answers: Vec<Answer> = leaving
        .iter()
        .map(|member| {
            let group = group.as_ref().ok_or(Code::UnknownMemberId)?;
            let left = leave_one(&mut live(group)?.membership, member);
            group.changed.notify_all();
            left
        })
        .collect();
    if version < 3 {
        return LeaveGroupResponse::default().with_error_code(answers.first().map_or(0, code));
    }
    let members = leaving.iter().zip(&answers).map(|(member, answer)| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code(answer))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

fn leave_one(membership: &mut Membership, leaving: &MemberIdentity) -> Answer {
    let Some(instance) = &leaving.group_instance_id else {
        return membership.remove(&leaving.member_id, now());
    };
    let mut all = membership.members.iter();
    let holder = all.find(|(_, member)| member.instance.as_ref() == Some(instance));
    let holder = holder
        .map(|(id, _)| id.clone())
        .ok_or(Code::UnknownMemberId)?;
    if !leaving.member_id.is_empty() && leaving.member_id != holder {
        return Err(Code::FencedInstanceId.into());
    }
    membership.remove(&holder, now())
}
