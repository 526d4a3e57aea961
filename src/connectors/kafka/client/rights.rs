//! What a client may do to a topic: only the C interface tells.

use std::ffi::CStr;
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_AclOperation_t as Operation;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::asked::ask;
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
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let answer = ask(client, kind, wait, |at| {
        let mut names = [topic.as_ptr()];
        // SAFETY: the name and what `at` lends live beyond the call, which copies the name; the
        // collection is ours until it is destroyed.
        unsafe {
            let names = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
            sys::rd_kafka_DescribeTopics(at.client, names, at.options, at.queue);
            sys::rd_kafka_TopicCollection_destroy(names);
        }
    })?;
    let mut facts = TopicFacts::default();
    // SAFETY: the answer lends the descriptions and their parts while it lives; a pointer is used
    // only with the count that came with it.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.event());
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
