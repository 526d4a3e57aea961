//! Who is in a group, and whether this client may be: only the C interface tells both.

use std::ffi::CStr;
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_AclOperation_t as Operation;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::asked::ask;
use super::text;
use crate::connectors::Member;
use crate::connectors::kafka::context::Context;

/// What a cluster says of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupFacts {
    pub(crate) members: Vec<Member>,
    /// Whether this client may be a member; `None`: the cluster does not tell.
    pub(crate) may_join: Option<bool>,
}

/// What the cluster of `client` says of `group`. Waits for its answer.
pub(crate) fn describe_group(
    client: &Client<Context>,
    group: &CStr,
    wait: Duration,
) -> Result<GroupFacts, RDKafkaErrorCode> {
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let answer = ask(client, kind, wait, |at| {
        let mut names = [group.as_ptr()];
        // SAFETY: the name and what `at` lends live beyond the call, which copies the name.
        unsafe {
            let names = names.as_mut_ptr();
            sys::rd_kafka_DescribeConsumerGroups(at.client, names, 1, at.options, at.queue);
        }
    })?;
    let mut facts = GroupFacts::default();
    // SAFETY: the answer lends the description and its parts while it lives; a pointer is used only
    // with the count that came with it.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(answer.event());
        if result.is_null() {
            return Ok(facts);
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if groups.is_null() || count == 0 {
            return Ok(facts);
        }
        let group = *groups;
        let error = sys::rd_kafka_ConsumerGroupDescription_error(group);
        if !error.is_null() {
            match sys::rd_kafka_error_code(error) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                // Nobody was ever in it.
                Code::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => return Ok(facts),
                Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => {
                    facts.may_join = Some(false);
                    return Ok(facts);
                }
                code => return Err(code.into()),
            }
        }
        let said = |it| text(it).unwrap_or_default();
        for index in 0..sys::rd_kafka_ConsumerGroupDescription_member_count(group) {
            let member = sys::rd_kafka_ConsumerGroupDescription_member(group, index);
            facts.members.push(Member {
                name: said(sys::rd_kafka_MemberDescription_client_id(member)),
                host: said(sys::rd_kafka_MemberDescription_host(member)),
            });
        }
        let mut count = 0;
        let allowed =
            sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut count);
        if !allowed.is_null() && count > 0 {
            let allowed = std::slice::from_raw_parts(allowed, count);
            facts.may_join = Some(allowed.contains(&Operation::RD_KAFKA_ACL_OPERATION_READ));
        }
    }
    Ok(facts)
}
