//! One question to a cluster that only the C interface can ask, and its answer.

use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use crate::connectors::kafka::context::Context;

/// What a question needs; lent for the call that sends it.
pub(super) struct Question {
    pub(super) client: *mut sys::rd_kafka_t,
    pub(super) options: *mut sys::rd_kafka_AdminOptions_t,
    pub(super) queue: *mut sys::rd_kafka_queue_t,
}

/// A valid event without an error. What it lends lives as long as it does.
pub(super) struct Reply(NonNull<sys::rd_kafka_event_t>);

impl Reply {
    pub(super) fn event(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // SAFETY: it is ours and valid, and nobody has it any more.
        unsafe { sys::rd_kafka_event_destroy(self.event()) }
    }
}

/// Asks what `send` puts to the cluster of `client`, rights included. Waits for the answer.
pub(super) fn ask(
    client: &Client<Context>,
    kind: sys::rd_kafka_admin_op_t,
    wait: Duration,
    send: impl FnOnce(&Question),
) -> Result<Reply, RDKafkaErrorCode> {
    let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let client = client.native_ptr();
    // SAFETY: the client outlives the call. Options and queue are ours until they are destroyed
    // below, after the question is answered or given up; an error object that a setter returns is
    // ours too.
    let answer = unsafe {
        let question = Question {
            client,
            options: sys::rd_kafka_AdminOptions_new(client, kind),
            queue: sys::rd_kafka_queue_new(client),
        };
        let Question { options, queue, .. } = question;
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait, ptr::null_mut(), 0);
        let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !refused.is_null() {
            sys::rd_kafka_error_destroy(refused);
        }
        send(&question);
        let answer = NonNull::new(sys::rd_kafka_queue_poll(queue, wait)).map(Reply);
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        answer
    };
    let answer = answer.ok_or(RDKafkaErrorCode::OperationTimedOut)?;
    // SAFETY: the event is valid.
    match unsafe { sys::rd_kafka_event_error(answer.event()) } {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(answer),
        code => Err(code.into()),
    }
}
