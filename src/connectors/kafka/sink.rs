//! A topic as a sink.

use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer as _};

use super::admin;
use super::aside::aside;
use super::checks;
use super::client::{Producer, Right};
use super::context::Context;
use super::limits::{self, Retention, TopicLimits};
use super::options::KafkaOptions;
use super::outbox::Outbox;
use super::transaction::Transaction;
use super::writer::{KafkaWriter, is_late, topic};
use crate::connectors::{Created, Share, Sink, Style, Writer};
use crate::error::{Error, Result};
use crate::observe::now;

/// Writes results to a topic, each at least once and in the order of its writer.
///
/// # Where a record goes
/// With a key: to the partition that the Java client's default chooses for the key. Without: to its
/// source partition modulo the number of partitions. That number is read once, at the start.
///
/// # When it is written
/// `write` hands records to the idempotent producer of this sink, or of all transactional sinks of
/// its job, and never waits; a writer that has its budget in flight is full until half of it is
/// acknowledged. `close` waits until every record of its writer is acknowledged by all in-sync
/// replicas, but not for ever: see [`KafkaOptions::broker_timeout`]; nor beyond nine seconds in a
/// run that was asked to stop.
///
/// # Errors
/// The first record that the cluster refuses ends the sink: its reason is returned by the next call
/// of every writer.
#[derive(Debug)]
pub struct KafkaSink {
    topic: Arc<str>,
    options: Arc<KafkaOptions>,
    stamp_at_write: bool,
    /// `None`: it has a producer of its own.
    transaction: Option<Arc<Transaction>>,
    /// The producer, and the number of partitions.
    outbox: OnceLock<(Arc<Outbox>, i32)>,
    retention: OnceLock<Arc<Retention>>,
    /// Bytes that a record may have.
    record_max: OnceLock<usize>,
    /// When somebody asked the run to stop.
    asked: Arc<OnceLock<Instant>>,
}

impl KafkaSink {
    /// Writes to `topic`. `stamp_at_write`: the stamps of results are ignored, and each gets the
    /// time of writing.
    pub fn new(topic: impl Into<Arc<str>>, options: KafkaOptions, stamp_at_write: bool) -> Self {
        Self {
            topic: topic.into(),
            options: Arc::new(options),
            stamp_at_write,
            transaction: None,
            outbox: OnceLock::new(),
            retention: OnceLock::new(),
            record_max: OnceLock::new(),
            asked: Arc::default(),
        }
    }

    /// It writes within `transaction`, with all other sinks of its job.
    pub(crate) fn within(mut self, transaction: Option<Arc<Transaction>>) -> Self {
        self.transaction = transaction;
        self
    }

    /// Reads what the topic does to records: how far ahead their stamps may lie, how long it keeps
    /// them, and how large they may be. Waits for the cluster's answer.
    ///
    /// # Errors
    /// When the cluster does not tell.
    pub fn limits(&self) -> Result<TopicLimits> {
        limits::limits(&self.topic, &self.options)
    }

    /// Makes the producer, unless the job has one, and learns the topic's partitions.
    fn connect(&self) -> Result {
        let outbox = if let Some(transaction) = &self.transaction {
            transaction.outbox()?
        } else {
            let base: BaseProducer<Context> = self
                .options
                .producer()
                .create_with_context(Context::default())
                .map_err(|cause| self.options.refused(&cause))?;
            let producer = Producer::new(base);
            self.learn(&producer)?;
            Outbox::start(
                producer,
                format!("topic `{}`", self.topic),
                self.options.broker_timeout,
            )?
        };
        let count = self.learn(&outbox.producer)?;
        self.outbox
            .set((outbox, count))
            .map_err(|_| Error::usage("a sink is prepared once"))
    }

    /// The number of partitions; `producer` then knows their leaders.
    fn learn(&self, producer: &Producer) -> Result<i32> {
        // Makes the leaders known too, and starts the request for the producer's id.
        let client = producer.base.client();
        let listen = || while producer.serve(Duration::ZERO, |_| {}, |_, _, _| {}) {};
        let count = admin::partitions(client, &self.topic, &self.options, listen);
        let count = count
            .map_err(|missing| missing.explain(&self.topic, client.context(), &self.options))?;
        Ok(count.cast_signed())
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
        if let Some((outbox, _)) = self.outbox.get() {
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

    fn is_exactly_once(&self) -> bool {
        self.transaction.is_some()
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
        let _ = self
            .record_max
            .set(limits::record_max(limits, &self.options));
        if let Some(retention) = Retention::of(&self.topic, limits) {
            let _ = self.retention.set(Arc::new(retention));
        }
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Writer>> {
        let prepared = self.outbox.get();
        let (outbox, partitions) =
            prepared.ok_or_else(|| Error::usage("a sink is opened after it was prepared"))?;
        let (tag, tally) = outbox.join(share.waker.clone());
        Ok(Box::new(KafkaWriter {
            name: Arc::clone(&self.topic),
            topic: topic(outbox, &self.topic)?,
            outbox: Arc::clone(outbox),
            transaction: self.transaction.clone(),
            partitions: *partitions,
            waker: share.waker,
            tag,
            tally,
            stamp_at_write: self.stamp_at_write,
            budget: (share.buffer_bytes as u64).max(1),
            patience: self.options.patience(),
            asked: Arc::clone(&self.asked),
            retention: self.retention.get().cloned(),
            records: 0,
            bytes: 0,
        }))
    }

    fn record_max(&self) -> Option<usize> {
        self.record_max.get().copied()
    }

    fn is_buffered(&self) -> bool {
        self.transaction.is_none()
    }

    fn settle(&self, is_over: &dyn Fn() -> bool) -> Result {
        let Some((outbox, _)) = self.outbox.get() else {
            return Ok(());
        };
        let over = || {
            if is_over() || is_late(&self.asked) {
                let missing = outbox.waiting();
                return Err(outbox.stopped(&self.topic, missing, missing));
            }
            Ok(())
        };
        let visit = outbox.visit();
        visit.drain(&self.topic, self.options.broker_timeout, over)
    }

    fn stopping(&self) {
        let _ = self.asked.set(now());
    }

    fn finish(&self, _complete: bool) -> Result {
        match self.outbox.get() {
            None => Ok(()),
            // The job's own producer ends with the job.
            Some(_) if self.transaction.is_some() => Ok(()),
            Some((outbox, _)) => {
                outbox.stop();
                outbox.check()
            }
        }
    }
}
