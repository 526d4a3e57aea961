//! The client as it comes, with as little around it as can be: batches of borrowed values from the
//! queue of each partition, and records that are copied into a producer. Of the engine there is
//! nothing in it but the size of the client's buffers.
#![allow(
    unsafe_code,
    reason = "consuming in batches exists in the C interface only"
)]

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

const PATIENCE: Duration = Duration::from_mins(2);
const BATCH: usize = 4_096;

/// What came of asking for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Some,
    Nothing,
    /// The partition's log has ended.
    End,
}

/// A whole topic.
pub(crate) struct Input {
    queues: Vec<NonNull<sys::rd_kafka_queue_t>>,
    messages: Vec<*mut sys::rd_kafka_message_t>,
    consumer: BaseConsumer,
}

impl Input {
    /// Reads `topic` from its beginning.
    pub(crate) fn open(bootstrap: &str, topic: &str, partitions: u32) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.message.max.bytes", "1048576")
            .set("queued.max.messages.kbytes", "2048")
            .set("queued.min.messages", "4096")
            .create()
            .expect("a consumer");
        let name = CString::new(topic).expect("the name of a topic");
        let (mut list, mut queues) = (TopicPartitionList::new(), Vec::new());
        for partition in 0..partitions.cast_signed() {
            let ends = consumer.fetch_watermarks(topic, partition, PATIENCE);
            let (first, _) = ends.expect("the broker answers");
            list.add_partition_offset(topic, partition, Offset::Offset(first))
                .expect("a place");
            // SAFETY: the client lives in `consumer`, and `drop` destroys the queue before it.
            let queue = unsafe {
                let client = consumer.client().native_ptr();
                let queue = sys::rd_kafka_queue_get_partition(client, name.as_ptr(), partition);
                sys::rd_kafka_queue_forward(queue, ptr::null_mut());
                queue
            };
            queues.push(NonNull::new(queue).expect("a queue"));
        }
        consumer.assign(&list).expect("an assignment");
        Self {
            queues,
            messages: vec![ptr::null_mut(); BATCH],
            consumer,
        }
    }

    /// Hands the next values of `partition` to `each`, without waiting.
    pub(crate) fn next(&mut self, partition: usize, mut each: impl FnMut(&[u8])) -> Came {
        let (queue, room) = (self.queues[partition].as_ptr(), self.messages.as_mut_ptr());
        // SAFETY: the queue is valid, and there is room for as many messages.
        let count = unsafe { sys::rd_kafka_consume_batch_queue(queue, 0, room, BATCH) };
        let count = usize::try_from(count).expect("no error of the call");
        let mut came = if count == 0 {
            Came::Nothing
        } else {
            Came::Some
        };
        for message in &self.messages[..count] {
            // SAFETY: as many were written as the call returned; each is valid until it is
            // destroyed below, and has as many bytes as it says.
            unsafe {
                let raw = &**message;
                match raw.err {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                        assert!(!raw.payload.is_null(), "a record without a value");
                        each(slice::from_raw_parts(raw.payload.cast(), raw.len));
                    }
                    Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => came = Came::End,
                    code => panic!("partition {partition}: {code:?}"),
                }
                sys::rd_kafka_message_destroy(*message);
            }
        }
        came
    }

    /// Hears what the client has to say, when there is nothing to read.
    pub(crate) fn serve(&self) {
        match self.consumer.poll(Duration::ZERO) {
            Some(Ok(_)) => panic!("a message that is in no partition's queue"),
            Some(Err(why)) => eprintln!("{why}"),
            None => {}
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        for queue in &self.queues {
            // SAFETY: obtained in `open`, used no more; the client still lives.
            unsafe { sys::rd_kafka_queue_destroy(queue.as_ptr()) };
        }
    }
}

/// Hears what became of each record.
struct Heard;

impl ClientContext for Heard {}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a record was not written");
    }
}

/// Another topic.
pub(crate) struct Output {
    producer: BaseProducer<Heard>,
    topic: String,
}

impl Output {
    pub(crate) fn open(bootstrap: &str, topic: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "200000")
            .create_with_context(Heard);
        Self {
            producer: producer.expect("a producer"),
            topic: topic.to_owned(),
        }
    }

    /// Writes a record, when there is room for it.
    pub(crate) fn send(&self, key: i64, stamp: i64, value: &[u8]) {
        let mut digits = itoa::Buffer::new();
        let record = BaseRecord::to(&self.topic)
            .key(digits.format(key))
            .payload(value)
            .timestamp(stamp);
        let mut unsent = self.producer.send(record);
        while let Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) = unsent
        {
            self.producer.poll(Duration::from_millis(10));
            unsent = self.producer.send(record);
        }
        if let Err((why, _)) = unsent {
            panic!("{why}");
        }
    }

    /// Hears what was written.
    pub(crate) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until all is written.
    pub(crate) fn end(self) {
        self.producer.flush(PATIENCE).expect("all is written");
    }
}
