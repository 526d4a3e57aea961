//! Who is in a group, and whether this client may be: only the C interface tells both.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_AclOperation_t as Operation;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

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
    let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let native = client.native_ptr();
    // SAFETY: the client outlives the call. Options and queue are ours until they are destroyed
    // below, after the request is answered or given up; an error object that a setter returns is
    // ours too. The event and what it lends live until it is destroyed.
    unsafe {
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let options = sys::rd_kafka_AdminOptions_new(native, kind);
        let mut why = [0; 1];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait, why.as_mut_ptr(), 1);
        let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !refused.is_null() {
            sys::rd_kafka_error_destroy(refused);
        }
        let mut names = [group.as_ptr()];
        let queue = sys::rd_kafka_queue_new(native);
        sys::rd_kafka_DescribeConsumerGroups(native, names.as_mut_ptr(), 1, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, wait);
        let answer = NonNull::new(event).map(|event| facts(event));
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        answer.unwrap_or(Err(RDKafkaErrorCode::OperationTimedOut))
    }
}

/// # Safety
/// `event` is the valid answer to a question for one group.
unsafe fn facts(event: NonNull<sys::rd_kafka_event_t>) -> Result<GroupFacts, RDKafkaErrorCode> {
    let mut facts = GroupFacts::default();
    // SAFETY: the event is valid, and lends the description and its parts; a pointer is used only
    // with the count that came with it.
    unsafe {
        let code = sys::rd_kafka_event_error(event.as_ptr());
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code.into());
        }
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.as_ptr());
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
