//! Groups as tools see them: list, describe, delete.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::membership::Phase;
use super::{Groups, State};
use crate::broker::refusal::{Answer, Code, code};
use crate::broker::state::Broker;
use crate::broker::sync::lock;

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Empty => "Empty",
        Phase::Preparing { .. } => "PreparingRebalance",
        Phase::Completing => "CompletingRebalance",
        Phase::Stable => "Stable",
    }
}

pub(in crate::broker) fn list(
    broker: &Broker,
    request: &ListGroupsRequest,
    version: i16,
) -> ListGroupsResponse {
    let wanted = |state: &str| {
        let states = &request.states_filter;
        states.is_empty() || states.iter().any(|one| one.eq_ignore_ascii_case(state))
    };
    let classic = request.types_filter.is_empty()
        || request
            .types_filter
            .iter()
            .any(|kind| kind.eq_ignore_ascii_case("classic"));
    let all = broker.groups.all().into_iter().filter(|_| classic);
    let groups = all.filter_map(|(group, entry)| {
        let state = lock(&entry.state);
        let phase = name(state.membership.phase);
        let listed = ListedGroup::default()
            .with_group_id(StrBytes::from_string(group).into())
            .with_protocol_type(state.membership.protocol_type.clone());
        let listed = match version {
            ..4 => listed,
            4 => listed.with_group_state(StrBytes::from_static_str(phase)),
            _ => listed
                .with_group_state(StrBytes::from_static_str(phase))
                .with_group_type(StrBytes::from_static_str("classic")),
        };
        wanted(phase).then_some(listed)
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(in crate::broker) fn describe(
    broker: &Broker,
    request: &DescribeGroupsRequest,
    version: i16,
) -> DescribeGroupsResponse {
    let groups = request
        .groups
        .iter()
        .map(|id| describe_one(&broker.groups, id, version));
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe_one(groups: &Groups, id: &GroupId, version: i16) -> DescribedGroup {
    let described = DescribedGroup::default().with_group_id(id.clone());
    let Some(group) = groups.find(id) else {
        let dead = described.with_group_state(StrBytes::from_static_str("Dead"));
        return match version {
            6.. => dead.with_error_code(Code::GroupIdNotFound.code()),
            _ => dead,
        };
    };
    let state = lock(&group.state);
    let membership = &state.membership;
    let members = membership.members.iter().map(|(id, member)| {
        let described = DescribedGroupMember::default()
            .with_member_id(id.clone())
            .with_client_id(member.client.clone())
            .with_client_host(member.host.clone())
            .with_member_metadata(member.metadata(&membership.protocol))
            .with_member_assignment(member.assignment.clone());
        match version {
            4.. => described.with_group_instance_id(member.instance.clone()),
            _ => described,
        }
    });
    let stable = membership.phase == Phase::Stable;
    let protocol = if stable {
        membership.protocol.clone()
    } else {
        StrBytes::default()
    };
    described
        .with_group_state(StrBytes::from_static_str(name(membership.phase)))
        .with_protocol_type(membership.protocol_type.clone())
        .with_protocol_data(protocol)
        .with_members(members.collect())
}

pub(in crate::broker) fn delete(
    broker: &Broker,
    request: &DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let results = request.groups_names.iter().map(|id| {
        let answer = delete_one(&broker.groups, id);
        DeletableGroupResult::default()
            .with_group_id(id.clone())
            .with_error_code(code(&answer))
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}

fn delete_one(groups: &Groups, id: &str) -> Answer {
    let mut by_name = lock(&groups.by_name);
    let group = by_name.get(id).ok_or(Code::GroupIdNotFound)?;
    let mut state = lock(&group.state);
    if state.membership.phase != Phase::Empty || !state.pending.is_empty() {
        return Err(Code::NonEmptyGroup.into());
    }
    *state = State {
        deleted: true,
        ..State::default()
    };
    drop(state);
    by_name.remove(id);
    Ok(())
}
