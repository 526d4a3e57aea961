//! What a client may do to a topic: only the C interface tells.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_AclOperation_t as Operation;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::text;
use crate::connectors::kafka::context::Context;

/// A right to a topic that a job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Read,
    Write,
}

impl Right {
    fn operation(self) -> Operation {
        match self {
            Self::Read => Operation::RD_KAFKA_ACL_OPERATION_READ,
            Self::Write => Operation::RD_KAFKA_ACL_OPERATION_WRITE,
        }
    }
}

/// What a cluster says of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    /// It says nothing but that this client may not ask.
    pub(crate) denied: bool,
    /// What tells it from an earlier topic of the same name.
    pub(crate) id: Option<String>,
    allowed: Option<Vec<Operation>>,
}

impl TopicFacts {
    /// Whether there is `right` to it; `None`: the cluster does not tell.
    pub(crate) fn has(&self, right: Right) -> Option<bool> {
        let allowed = self.allowed.as_ref();
        let allowed = allowed.map(|allowed| allowed.contains(&right.operation()));
        if self.denied { Some(false) } else { allowed }
    }
}

/// What the cluster of `client` says of `topic`. Waits for its answer.
pub(crate) fn describe_topic(
    client: &Client<Context>,
    topic: &CStr,
    wait: Duration,
) -> Result<TopicFacts, RDKafkaErrorCode> {
    let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let native = client.native_ptr();
    // SAFETY: the client outlives the call. Options, topics and queue are ours until they are
    // destroyed below, after the request is answered or given up; an error object that a setter
    // returns is ours too. The event and what it lends live until it is destroyed.
    unsafe {
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = sys::rd_kafka_AdminOptions_new(native, kind);
        let mut why = [0; 1];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait, why.as_mut_ptr(), 1);
        let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !refused.is_null() {
            sys::rd_kafka_error_destroy(refused);
        }
        let mut names = [topic.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let queue = sys::rd_kafka_queue_new(native);
        sys::rd_kafka_DescribeTopics(native, topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, wait);
        let answer = NonNull::new(event).map(|event| facts(event));
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_AdminOptions_destroy(options);
        answer.unwrap_or(Err(RDKafkaErrorCode::OperationTimedOut))
    }
}

/// # Safety
/// `event` is the valid answer to a question for one topic.
unsafe fn facts(event: NonNull<sys::rd_kafka_event_t>) -> Result<TopicFacts, RDKafkaErrorCode> {
    let mut facts = TopicFacts::default();
    // SAFETY: the event is valid, and lends the descriptions and their parts; a pointer is used
    // only with the count that came with it.
    unsafe {
        let code = sys::rd_kafka_event_error(event.as_ptr());
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code.into());
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event.as_ptr());
        if result.is_null() {
            return Ok(facts);
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Ok(facts);
        }
        let error = sys::rd_kafka_TopicDescription_error(*topics);
        let code = if error.is_null() {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR
        } else {
            sys::rd_kafka_error_code(error)
        };
        match code {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => {
                facts.denied = true;
                return Ok(facts);
            }
            code => return Err(code.into()),
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(*topics);
        if !id.is_null() {
            facts.id = text(sys::rd_kafka_Uuid_base64str(id));
        }
        let mut count = 0;
        let allowed = sys::rd_kafka_TopicDescription_authorized_operations(*topics, &raw mut count);
        if !allowed.is_null() && count > 0 {
            facts.allowed = Some(std::slice::from_raw_parts(allowed, count).to_vec());
        }
        Ok(facts)
    }
}
