//! The writer of one worker into a topic.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::client::{Outgoing, Topic};
use super::limits::Retention;
use super::murmur2;
use super::outbox::Outbox;
use super::tally::Tally;
use super::transaction::Transaction;
use crate::connectors::{Batch, CLOSE_MAX, Encoded, Waker, Writer, Written};
use crate::error::{Error, Result};
use crate::observe::since;
use crate::time::EventTime;

/// How long a closing writer sleeps at most before it counts again.
const NAP: Duration = Duration::from_millis(20);

/// The writer of one worker.
pub(super) struct KafkaWriter {
    pub(super) name: Arc<str>,
    pub(super) topic: Topic,
    pub(super) outbox: Arc<Outbox>,
    pub(super) transaction: Option<Arc<Transaction>>,
    pub(super) partitions: i32,
    pub(super) waker: Waker,
    pub(super) tag: usize,
    pub(super) tally: Arc<Tally>,
    pub(super) stamp_at_write: bool,
    /// Bytes that may be in flight.
    pub(super) budget: u64,
    /// How long a closing writer waits without any progress.
    pub(super) patience: Duration,
    /// When somebody asked the run to stop.
    pub(super) asked: Arc<OnceLock<Instant>>,
    pub(super) retention: Option<Arc<Retention>>,
    /// Records and bytes handed over.
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// The topic `name` of a producer.
pub(super) fn topic(outbox: &Outbox, name: &str) -> Result<Topic> {
    let nameless = || Error::usage(format!("`{name}` is no name of a topic"));
    Topic::new(&outbox.producer, name).ok_or_else(nameless)
}

/// Whether a run that was asked to stop, at that time, waits no longer.
pub(super) fn is_late(asked: &OnceLock<Instant>) -> bool {
    asked.get().is_some_and(|asked| since(*asked) > CLOSE_MAX)
}

impl KafkaWriter {
    /// Writes with the producer of `outbox` from now on. The one before has written everything.
    fn join(&mut self, outbox: Arc<Outbox>) -> Result {
        if Arc::ptr_eq(&outbox, &self.outbox) {
            return Ok(());
        }
        self.topic = topic(&outbox, &self.name)?;
        (self.tag, self.tally) = outbox.join(self.waker.clone());
        (self.records, self.bytes) = (0, 0);
        self.outbox = outbox;
        Ok(())
    }

    fn in_flight(&self) -> u64 {
        self.bytes - self.tally.bytes()
    }

    fn outgoing<'a>(&self, batch: &'a Batch, record: &Encoded) -> Outgoing<'a> {
        let partitions = self.partitions;
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
        let mut taken = self.outbox.producer.produce(&self.topic, record);
        if taken == Err(RDKafkaErrorCode::QueueFull) {
            // A property limits the producer's own queue, and any report makes room. If it is full
            // still, a report is still to come.
            self.tally.ask(0);
            taken = self.outbox.producer.produce(&self.topic, record);
            if taken == Err(RDKafkaErrorCode::QueueFull) {
                return Ok(false);
            }
        }
        taken.map_err(|code| self.outbox.refused(&self.name, record.partition, len, code))?;
        self.records += 1;
        self.bytes += cost;
        Ok(true)
    }
}

impl Writer for KafkaWriter {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        if let Some(transaction) = self.transaction.clone() {
            // It may have a new producer since the last batch.
            let outbox = transaction.begin()?;
            self.join(outbox)?;
        }
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
            let heard = self.tally.records();
            if heard == self.records {
                return Ok(());
            }
            let missing = self.records - heard;
            // Whoever does not answer would keep a run alive that is to end.
            if is_late(&self.asked) {
                return Err(self.outbox.stopped(&self.name, missing, self.records));
            }
            if heard > seen {
                (seen, waited) = (heard, Duration::ZERO);
            } else if waited >= self.patience {
                let (name, records) = (&self.name, self.records);
                return Err(self.outbox.silent(name, missing, records, self.patience));
            }
            waited += self.tally.nap(NAP);
        }
    }
}
