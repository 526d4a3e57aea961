//! librdkafka by its C interface: batches of messages without a copy, results with one.
//!
//! The only unsafe code of the connector: here for consuming, in [`producer`] for producing. What
//! the rest of the connector may rely on:
//!
//! - A [`Message`] and all that it lends lives until its [`Messages`] take the next batch. The
//!   batch keeps the consumer alive, since a client must outlive its messages.
//! - A [`Queue`] keeps its consumer alive, and its waker for as long as librdkafka may call it.
//! - What is handed to a [`Producer`] is copied before the call returns.
//! - Clients are destroyed on threads of their own: librdkafka may wait for brokers there.
#![allow(
    unsafe_code,
    reason = "consuming in batches and producing with headers exist in the C interface only"
)]

mod asked;
mod groups;
mod producer;
mod rights;

use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

pub(super) use self::groups::describe_group;
pub(super) use self::producer::{Delivery, Outgoing, Producer, Refused, Topic};
pub(super) use self::rights::{Right, describe_topic};
use super::aside::Aside;
use super::context::Context;
use crate::connectors::Waker;
use crate::event::Headers;

/// A consumer with an assignment of its own.
pub(super) struct Consumer {
    pub(super) base: Aside<BaseConsumer<Context>>,
    topic: CString,
    has_events: Arc<AtomicBool>,
}

impl Consumer {
    /// Calls `waker` when the client has something to say.
    pub(super) fn new(mut base: BaseConsumer<Context>, topic: CString, waker: Waker) -> Self {
        let has_events = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&has_events);
        base.set_nonempty_callback(move || {
            flag.store(true, Ordering::Release);
            waker.wake();
        });
        Self {
            base: Aside::new(base),
            topic,
            has_events,
        }
    }

    /// Takes note of logs, errors and commits, without waiting.
    ///
    /// # Errors
    /// When the client has failed for good.
    pub(super) fn serve(&self) -> Result<(), KafkaError> {
        if !self.has_events.swap(false, Ordering::Acquire) {
            return Ok(());
        }
        // SAFETY: the client lives as long as `self`; the queue is given back below.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(self.base.client().native_ptr()) };
        let mut failed = Ok(());
        // SAFETY: `queue` is valid or null until it is destroyed below.
        while !queue.is_null() && unsafe { sys::rd_kafka_queue_length(queue) } > 0 {
            match self.base.poll(Duration::ZERO) {
                Some(Err(cause @ KafkaError::MessageConsumptionFatal(_))) => failed = Err(cause),
                // Every assigned partition has a queue of its own; one that has not would be lost.
                Some(Ok(_)) => failed = Err(KafkaError::Subscription("stray message".into())),
                // The context has logged it.
                Some(Err(_)) | None => {}
            }
        }
        if !queue.is_null() {
            // SAFETY: obtained above, used no more.
            unsafe { sys::rd_kafka_queue_destroy(queue) };
        }
        failed
    }

    /// The end of `partition`'s log, as of the broker's last answer.
    pub(super) fn high(&self, partition: i32) -> Option<u64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: client and name live as long as `self`; the numbers are written before return.
        let code = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.base.client().native_ptr(),
                self.topic.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
            )
        };
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            u64::try_from(high).ok()
        } else {
            None
        }
    }
}

/// The queue of one partition.
pub(super) struct Queue {
    raw: NonNull<sys::rd_kafka_queue_t>,
    /// Borrowed by librdkafka; freed after the callback is taken back.
    waker: NonNull<Waker>,
    consumer: Arc<Consumer>,
}

// SAFETY: librdkafka's queues may be used and destroyed from any thread; a `Waker` is `Send`.
unsafe impl Send for Queue {}

unsafe extern "C" fn wake(_client: *mut sys::rd_kafka_t, waker: *mut c_void) {
    // SAFETY: `Queue` keeps the waker until the callback is taken back, under the same lock under
    // which librdkafka calls it.
    unsafe { &*waker.cast::<Waker>() }.wake();
}

impl Queue {
    /// Cuts the queue of `partition` off the consumer's common one, which must be done before the
    /// partition is assigned. `waker` is called whenever the empty queue fills.
    pub(super) fn new(consumer: &Arc<Consumer>, partition: i32, waker: Waker) -> Option<Self> {
        // SAFETY: client and name live as long as the consumer.
        let raw = unsafe {
            sys::rd_kafka_queue_get_partition(
                consumer.base.client().native_ptr(),
                consumer.topic.as_ptr(),
                partition,
            )
        };
        let raw = NonNull::new(raw)?;
        let waker = NonNull::from(Box::leak(Box::new(waker)));
        // SAFETY: the queue was just obtained. The waker lives until `drop` has taken the callback
        // back.
        unsafe {
            sys::rd_kafka_queue_forward(raw.as_ptr(), ptr::null_mut());
            sys::rd_kafka_queue_cb_event_enable(raw.as_ptr(), Some(wake), waker.as_ptr().cast());
        }
        Some(Self {
            raw,
            waker,
            consumer: Arc::clone(consumer),
        })
    }

    /// Gives the last batch in `messages` back and takes the next one, of at most `max` messages,
    /// without waiting.
    pub(super) fn consume(&self, messages: &mut Messages, max: usize) {
        messages.clear();
        messages.list.reserve(max);
        messages.owner = Some(Arc::clone(&self.consumer));
        // SAFETY: there is room for `max` pointers, `Message` is a transparent non-null pointer,
        // and as many as the call returns were written, each of them now ours to destroy.
        unsafe {
            let room = messages.list.as_mut_ptr().cast();
            let taken = sys::rd_kafka_consume_batch_queue(self.raw.as_ptr(), 0, room, max);
            messages.list.set_len(usize::try_from(taken).unwrap_or(0));
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: taking the callback back waits for a call that runs; after that nobody else has
        // the waker. The client still lives, since `consumer` is dropped after this.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.raw.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.raw.as_ptr());
            drop(Box::from_raw(self.waker.as_ptr()));
        }
    }
}

/// A batch of messages, reused.
#[derive(Default)]
pub(super) struct Messages {
    list: Vec<Message>,
    owner: Option<Arc<Consumer>>,
}

impl Messages {
    /// Gives the messages back.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.owner = None;
    }
}

impl Deref for Messages {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.list
    }
}

/// A message, or a mark or an error in its place.
#[repr(transparent)]
pub(super) struct Message(NonNull<sys::rd_kafka_message_t>);

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: consumed once, destroyed once, before its consumer.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

impl Message {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: valid until dropped, and nobody writes to it.
        unsafe { self.0.as_ref() }
    }

    /// What it is, if no record.
    pub(super) fn error(&self) -> Option<RDKafkaErrorCode> {
        let code = self.raw().err;
        (code != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
    }

    /// Why, where librdkafka says so.
    pub(super) fn reason(&self) -> Option<String> {
        // SAFETY: valid message; the text, if any, lives as long as the message.
        unsafe { text(sys::rd_kafka_message_errstr(self.0.as_ptr())) }
    }

    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka's pair of pointer and length, which lives as long as the message.
        unsafe { bytes(self.raw().key, self.raw().key_len) }
    }

    pub(super) fn value(&self) -> Option<&[u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.raw().payload, self.raw().len) }
    }

    /// Milliseconds since 1970 UTC.
    pub(super) fn timestamp(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: valid message; `kind` is written before return.
        let stamp = unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && stamp != -1)
            .then_some(stamp)
    }
}

impl Headers for Message {
    fn each(&self, each: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: valid message, used by one thread only: the call parses into the message.
        let code = unsafe { sys::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers belong to the message; where there is one more, its name is a
            // C string, and value and length are a pair.
            unsafe {
                let code = sys::rd_kafka_header_get_all(
                    headers,
                    index,
                    &raw mut name,
                    &raw mut value,
                    &raw mut len,
                );
                if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return;
                }
                each(&CStr::from_ptr(name).to_string_lossy(), bytes(value, len));
            }
        }
    }
}

/// # Safety
/// `len` bytes at `from`, or null, that outlive `'a`.
unsafe fn bytes<'a>(from: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: promised by the caller.
    (!from.is_null()).then(|| unsafe { slice::from_raw_parts(from.cast(), len) })
}

/// # Safety
/// A C string or null.
unsafe fn text(from: *const c_char) -> Option<String> {
    (!from.is_null()).then(|| {
        // SAFETY: promised by the caller.
        unsafe { CStr::from_ptr(from) }
            .to_string_lossy()
            .into_owned()
    })
}
