//! Handing records to librdkafka, and hearing what became of them.

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use rdkafka_sys::rd_kafka_vtype_t as Field;

use super::text;
use crate::connectors::kafka::aside::Aside;
use crate::connectors::kafka::context::Context;

/// A record on its way out; all of it is copied.
pub(crate) struct Outgoing<'a> {
    pub(crate) partition: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// Milliseconds since 1970 UTC; `None`: now.
    pub(crate) timestamp: Option<i64>,
    pub(crate) headers: &'a [(String, Option<Vec<u8>>)],
    /// Comes back with the delivery report.
    pub(crate) tag: usize,
}

/// What became of a record.
pub(crate) struct Delivery {
    pub(crate) tag: usize,
    /// Bytes of key and value.
    pub(crate) bytes: usize,
    /// Where it was not written, and why; if it was not.
    pub(crate) failed: Option<Refused>,
}

/// Why a record was not written, and where.
pub(crate) struct Refused {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) code: RDKafkaErrorCode,
}

/// A topic that a producer writes to.
pub(crate) struct Topic {
    topic: NonNull<sys::rd_kafka_topic_t>,
    /// Outlives the topic, as librdkafka asks for.
    _producer: Arc<Producer>,
}

// SAFETY: librdkafka's topics may be used from any thread.
unsafe impl Send for Topic {}
// SAFETY: as above, at the same time too.
unsafe impl Sync for Topic {}

impl Topic {
    /// The topic `name`; `None` if that is no name of a topic.
    pub(crate) fn new(producer: &Arc<Producer>, name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        let client = producer.base.client().native_ptr();
        // SAFETY: the client lives in the producer, and the topic is destroyed before it.
        let topic = unsafe { sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
        Some(Self {
            topic: NonNull::new(topic)?,
            _producer: Arc::clone(producer),
        })
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: obtained in `new`, used no more; the client still lives.
        unsafe { sys::rd_kafka_topic_destroy(self.topic.as_ptr()) };
    }
}

/// A producer: a client and its events.
pub(crate) struct Producer {
    events: NonNull<sys::rd_kafka_queue_t>,
    pub(crate) base: Aside<BaseProducer<Context>>,
}

// SAFETY: librdkafka's clients, topics and queues may be used from any thread.
unsafe impl Send for Producer {}
// SAFETY: as above, at the same time too.
unsafe impl Sync for Producer {}

impl Producer {
    /// Hears what `base` says.
    pub(crate) fn new(base: BaseProducer<Context>) -> Self {
        let client = base.client().native_ptr();
        // SAFETY: the client lives in `base`, and beyond the queue: `drop` destroys that first.
        let events = unsafe { sys::rd_kafka_queue_get_main(client) };
        Self {
            events: NonNull::new(events).expect("every client has a main queue"),
            base: Aside::new(base),
        }
    }

    /// Hands `record` over for `topic`, which is one of this producer's.
    ///
    /// # Errors
    /// When it was not taken: for now, if the queue is full, or for good.
    pub(crate) fn produce(
        &self,
        topic: &Topic,
        record: &Outgoing<'_>,
    ) -> Result<(), RDKafkaErrorCode> {
        let headers = list(record.headers).map_err(RDKafkaErrorCode::from)?;
        let fields = fields(topic, record, headers);
        let client = self.base.client().native_ptr();
        // SAFETY: each field holds what its type says; librdkafka copies key and value before it
        // returns. The headers are its own if it takes the record, and ours if it does not.
        unsafe {
            let error = sys::rd_kafka_produceva(client, fields.as_ptr(), fields.len());
            if error.is_null() {
                return Ok(());
            }
            let code = sys::rd_kafka_error_code(error);
            sys::rd_kafka_error_destroy(error);
            if !headers.is_null() {
                sys::rd_kafka_headers_destroy(headers);
            }
            Err(code.into())
        }
    }

    /// Waits up to `wait` for an event and hands each record in it to `each`, and to `written`
    /// behind which offset of its partition a batch ends that was written, if that is told; whether
    /// an event came.
    pub(crate) fn serve(
        &self,
        wait: Duration,
        mut each: impl FnMut(Delivery),
        mut written: impl FnMut(&str, i32, Option<i64>),
    ) -> bool {
        let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: queue and client live as long as `self`. The event is ours until destroyed, and
        // its messages live as long as it does.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.events.as_ptr(), wait);
            if event.is_null() {
                return false;
            }
            let kind = sys::rd_kafka_event_type(event);
            if kind == sys::RD_KAFKA_EVENT_DR {
                let (mut first, mut last) = (None, None);
                while let Some(message) = sys::rd_kafka_event_message_next(event).as_ref() {
                    each(delivery(message));
                    first.get_or_insert(message.offset);
                    last = Some(message);
                }
                if let (Some(first), Some(last)) = (first, last)
                    && last.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR
                {
                    // A success is of one batch. One that was there already, because it was sent
                    // twice, is taken without saying where: librdkafka counts on from -1 then.
                    let topic = text(sys::rd_kafka_topic_name(last.rkt)).unwrap_or_default();
                    let end = (first >= 0).then_some(last.offset + 1);
                    written(&topic, last.partition, end);
                }
            } else {
                self.listen(kind, event);
            }
            sys::rd_kafka_event_destroy(event);
        }
        true
    }

    /// # Safety
    /// `event` is a valid event of this client of kind `kind`.
    unsafe fn listen(&self, kind: i32, event: *mut sys::rd_kafka_event_t) {
        let context = self.base.client().context();
        // SAFETY: the texts live as long as the event.
        unsafe {
            if kind == sys::RD_KAFKA_EVENT_LOG {
                let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                sys::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level);
                let facility = text(facility).unwrap_or_default();
                let line = text(line).unwrap_or_default();
                context.log(level_of(level), facility.trim(), line.trim());
            } else if kind == sys::RD_KAFKA_EVENT_ERROR {
                let code = sys::rd_kafka_event_error(event);
                let reason = text(sys::rd_kafka_event_error_string(event)).unwrap_or_default();
                context.error(KafkaError::Global(code.into()), reason.trim());
            } else if kind == sys::RD_KAFKA_EVENT_STATS {
                let statistics = text(sys::rd_kafka_event_stats(event)).unwrap_or_default();
                context.stats_raw(statistics.as_bytes());
            }
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: obtained in `new`, used no more; the client still lives.
        unsafe { sys::rd_kafka_queue_destroy(self.events.as_ptr()) };
    }
}

/// All fields of a record for `topic`.
fn fields(
    topic: &Topic,
    record: &Outgoing<'_>,
    headers: *mut sys::rd_kafka_headers_t,
) -> [sys::rd_kafka_vu_t; 8] {
    let tag = ptr::without_provenance_mut(record.tag);
    [
        field(
            Field::RD_KAFKA_VTYPE_RKT,
            Value {
                rkt: topic.topic.as_ptr(),
            },
        ),
        field(
            Field::RD_KAFKA_VTYPE_PARTITION,
            Value {
                i32_: record.partition,
            },
        ),
        field(
            Field::RD_KAFKA_VTYPE_MSGFLAGS,
            Value {
                i: sys::RD_KAFKA_MSG_F_COPY,
            },
        ),
        field(
            Field::RD_KAFKA_VTYPE_KEY,
            Value {
                mem: memory(record.key),
            },
        ),
        field(
            Field::RD_KAFKA_VTYPE_VALUE,
            Value {
                mem: memory(record.value),
            },
        ),
        field(
            Field::RD_KAFKA_VTYPE_TIMESTAMP,
            Value {
                i64_: record.timestamp.unwrap_or(0),
            },
        ),
        field(Field::RD_KAFKA_VTYPE_OPAQUE, Value { ptr: tag }),
        field(Field::RD_KAFKA_VTYPE_HEADERS, Value { headers }),
    ]
}

type Value = sys::rd_kafka_vu_s__bindgen_ty_1;

/// A field of a record, as `produceva` takes it.
fn field(kind: Field, value: Value) -> sys::rd_kafka_vu_t {
    sys::rd_kafka_vu_t {
        vtype: kind,
        u: value,
    }
}

/// A pair of pointer and length; null for no bytes at all, which differs from zero bytes.
fn memory(bytes: Option<&[u8]>) -> sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    let (from, size) = bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()));
    sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
        ptr: from.cast_mut().cast(),
        size,
    }
}

/// A copy of `headers` for librdkafka; null if there are none.
fn list(headers: &[(String, Option<Vec<u8>>)]) -> Result<*mut sys::rd_kafka_headers_t, Code> {
    if headers.is_empty() {
        return Ok(ptr::null_mut());
    }
    // SAFETY: a new list, ours until it is returned.
    let list = unsafe { sys::rd_kafka_headers_new(headers.len()) };
    for (name, value) in headers {
        let value = memory(value.as_deref());
        // SAFETY: name and value are copied before return.
        let code = unsafe {
            sys::rd_kafka_header_add(
                list,
                name.as_ptr().cast(),
                name.len().cast_signed(),
                value.ptr,
                value.size.cast_signed(),
            )
        };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            // SAFETY: ours, used no more.
            unsafe { sys::rd_kafka_headers_destroy(list) };
            return Err(code);
        }
    }
    Ok(list)
}

/// Reads a delivery report.
fn delivery(message: &sys::rd_kafka_message_t) -> Delivery {
    let failed = (message.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
        // Not `rd_kafka_message_produce_errstr`: the broker's own sentence is freed with the
        // response before the report is read (librdkafka 2.12).
        // SAFETY: a report names its topic, whose name lives as long as the report.
        let topic = unsafe { text(sys::rd_kafka_topic_name(message.rkt)) };
        Refused {
            topic: topic.unwrap_or_default(),
            partition: message.partition,
            code: message.err.into(),
        }
    });
    Delivery {
        tag: message._private.addr(),
        bytes: message.len + message.key_len,
        failed,
    }
}

fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        0..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}
