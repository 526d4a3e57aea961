//! A topic as a sink.

use std::ffi::CString;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::admin;
use super::aside::aside;
use super::checks;
use super::client::{Outgoing, Producer, Right};
use super::context::Context;
use super::limits::{self, Retention, TopicLimits};
use super::murmur2;
use super::options::KafkaOptions;
use super::outbox::{Outbox, Tally};
use crate::connectors::{Batch, Created, Encoded, Share, Sink, Style, Writer, Written};
use crate::error::{Error, Result};
use crate::time::EventTime;

/// How long a closing writer sleeps at most before it counts again.
const NAP: Duration = Duration::from_millis(20);

/// Writes results to a topic, each at least once and in the order of its writer.
///
/// # Where a record goes
/// With a key: to the partition that the Java client's default chooses for the key. Without: to its
/// source partition modulo the number of partitions. That number is read once, at the start.
///
/// # When it is written
/// `write` hands records to an idempotent producer that the whole process shares and never waits;
/// a writer that has its budget in flight is full until half of it is acknowledged. `close` waits
/// until every record of its writer is acknowledged by all in-sync replicas.
///
/// # Errors
/// The first record that the cluster refuses ends the sink: its reason is returned by the next call
/// of every writer.
#[derive(Debug)]
pub struct KafkaSink {
    topic: Arc<str>,
    options: Arc<KafkaOptions>,
    stamp_at_write: bool,
    outbox: OnceLock<Arc<Outbox>>,
    retention: OnceLock<Arc<Retention>>,
}

impl KafkaSink {
    /// Writes to `topic`. `stamp_at_write`: the stamps of results are ignored, and each gets the
    /// time of writing.
    pub fn new(topic: impl Into<Arc<str>>, options: KafkaOptions, stamp_at_write: bool) -> Self {
        Self {
            topic: topic.into(),
            options: Arc::new(options),
            stamp_at_write,
            outbox: OnceLock::new(),
            retention: OnceLock::new(),
        }
    }

    /// Reads what the topic does to records: how far ahead their stamps may lie, how long it keeps
    /// them, and how large they may be. Waits for the cluster's answer.
    ///
    /// # Errors
    /// When the cluster does not tell.
    pub fn limits(&self) -> Result<TopicLimits> {
        limits::limits(&self.topic, &self.options)
    }

    /// Makes the producer and learns the topic's partitions.
    fn connect(&self) -> Result {
        let base: BaseProducer<Context> = self
            .options
            .producer()
            .create_with_context(Context::default())
            .map_err(|cause| self.options.refused(&cause))?;
        let nameless = || Error::usage(format!("`{}` is no name of a topic", self.topic));
        let topic = CString::new(&*self.topic).map_err(|_| nameless())?;
        let producer = Producer::new(base, &topic).ok_or_else(nameless)?;
        // Makes the leaders known too, and starts the request for the producer's id.
        let client = producer.base.client();
        let listen = || while producer.serve(Duration::ZERO, |_| {}) {};
        let count = admin::partitions(client, &self.topic, &self.options, listen);
        let count = count
            .map_err(|missing| missing.explain(&self.topic, client.context(), &self.options))?;
        // The first answer may come by a connection that ends with it, and the request for the id
        // ends too; the second answer repeats the request, which else is repeated after 500 ms.
        let _ = client.fetch_metadata(Some(&self.topic), self.options.patience());
        let timeout = self.options.broker_timeout;
        let outbox = Outbox::start(producer, &self.topic, count.cast_signed(), timeout)?;
        self.outbox
            .set(outbox)
            .map_err(|_| Error::usage("a sink is prepared once"))
    }

    fn check_stamps(&self, limits: TopicLimits) -> Result {
        if self.stamp_at_write {
            return Ok(());
        }
        limits::check_stamps(&self.topic, limits, &self.options)
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.get() {
            outbox.stop();
        }
    }
}

impl Sink for KafkaSink {
    fn place(&self) -> Option<String> {
        Some(self.describe())
    }

    fn describe(&self) -> String {
        format!("kafka:{}", self.topic)
    }

    fn style(&self) -> Style {
        Style::Records
    }

    fn check(&self, creates: bool) -> Result<String> {
        let said = checks::check(&self.topic, &self.options, Right::Write, creates)?;
        self.check_stamps(limits::known_limits(&self.topic, &self.options))?;
        Ok(said)
    }

    fn create(&self, partitions: Option<u32>) -> Result<Created> {
        checks::create(&self.topic, &self.options, partitions)
    }

    fn prepare(&self) -> Result {
        self.options.check()?;
        // Asked beside, because it takes a connection of its own.
        let (tell, told) = mpsc::channel();
        let (topic, options) = (Arc::clone(&self.topic), Arc::clone(&self.options));
        aside("kafka-limits", move || {
            // Nobody listens if the sink has failed meanwhile.
            let _ = tell.send(limits::known_limits(&topic, &options));
        });
        self.connect()?;
        let limits = told.recv_timeout(self.options.patience());
        let limits = limits.unwrap_or_default();
        self.check_stamps(limits)?;
        if let Some(retention) = Retention::of(&self.topic, limits) {
            let _ = self.retention.set(Arc::new(retention));
        }
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Writer>> {
        let outbox = self.outbox.get();
        let outbox =
            outbox.ok_or_else(|| Error::usage("a sink is opened after it was prepared"))?;
        let (tag, tally) = outbox.join(share.waker);
        Ok(Box::new(KafkaWriter {
            outbox: Arc::clone(outbox),
            tag,
            tally,
            stamp_at_write: self.stamp_at_write,
            budget: (share.buffer_bytes as u64).max(1),
            patience: self.options.patience(),
            retention: self.retention.get().cloned(),
            records: 0,
            bytes: 0,
        }))
    }

    fn finish(&self, _complete: bool) -> Result {
        match self.outbox.get() {
            None => Ok(()),
            Some(outbox) => {
                outbox.stop();
                outbox.check()
            }
        }
    }
}

/// The writer of one worker.
struct KafkaWriter {
    outbox: Arc<Outbox>,
    tag: usize,
    tally: Arc<Tally>,
    stamp_at_write: bool,
    /// Bytes that may be in flight.
    budget: u64,
    /// How long a closing writer waits without any progress.
    patience: Duration,
    retention: Option<Arc<Retention>>,
    /// Records and bytes handed over.
    records: u64,
    bytes: u64,
}

impl KafkaWriter {
    fn in_flight(&self) -> u64 {
        self.bytes - self.tally.bytes()
    }

    fn outgoing<'a>(&self, batch: &'a Batch, record: &Encoded) -> Outgoing<'a> {
        let partitions = self.outbox.partitions;
        let key = batch.key(record);
        let partition = match key {
            Some(key) => murmur2::partition(key, partitions),
            None => (record.partition % partitions.unsigned_abs()).cast_signed(),
        };
        let (from, to) = record.headers;
        // Zero is the time of writing for librdkafka, and brokers take no stamp before 1970.
        let timestamp = record
            .timestamp
            .map(EventTime::millis)
            .filter(|millis| *millis > 0 && !self.stamp_at_write);
        if let (Some(retention), Some(stamp)) = (&self.retention, timestamp) {
            retention.look(stamp);
        }
        Outgoing {
            partition,
            key,
            value: batch.value(record),
            timestamp,
            headers: &batch.headers[from as usize..to as usize],
            tag: self.tag,
        }
    }

    /// Hands one record over; `false`: there is no room, and the worker will be woken.
    fn send(&mut self, record: &Outgoing<'_>) -> Result<bool> {
        let len = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let cost = Tally::cost(len);
        // A record that is larger than the budget may go alone.
        if self.in_flight() > 0 && self.in_flight() + cost > self.budget {
            let enough = self.bytes - self.budget / 2;
            if self.tally.ask(enough) {
                return Ok(false);
            }
        }
        let mut taken = self.outbox.producer.produce(record);
        if taken == Err(RDKafkaErrorCode::QueueFull) {
            // A property limits the producer's own queue, and any report makes room. If it is full
            // still, a report is still to come.
            self.tally.ask(0);
            taken = self.outbox.producer.produce(record);
            if taken == Err(RDKafkaErrorCode::QueueFull) {
                return Ok(false);
            }
        }
        taken.map_err(|code| self.outbox.refused(record.partition, len, code))?;
        self.records += 1;
        self.bytes += cost;
        Ok(true)
    }
}

impl Writer for KafkaWriter {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        self.outbox.check()?;
        for (number, record) in batch.records.iter().enumerate().skip(from) {
            let outgoing = self.outgoing(batch, record);
            if !self.send(&outgoing)? {
                return Ok(Written::Full(number));
            }
        }
        Ok(Written::All)
    }

    /// The producer sends what it holds within its `linger.ms`; nothing is left to hand on.
    fn flush(&mut self) -> Result {
        self.outbox.check()
    }

    fn close(&mut self) -> Result {
        let mut seen = self.tally.records();
        let mut waited = Duration::ZERO;
        loop {
            self.outbox.check()?;
            let now = self.tally.records();
            if now == self.records {
                return Ok(());
            }
            if now > seen {
                (seen, waited) = (now, Duration::ZERO);
            } else if waited >= self.patience {
                return Err(self
                    .outbox
                    .silent(self.records - now, self.records, self.patience));
            }
            waited += self.tally.nap(NAP);
        }
    }
}
