//! The producer of the log: at an even rate, never far ahead of the loop, so that there is
//! something to read whenever the job is killed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use super::clock::now;
use super::log::Log;
use super::round::PATIENCE;

const TICK: Duration = Duration::from_millis(20);
/// How much slower it goes once it is ahead of the loop.
const SLOWLY: f64 = 0.1;

#[derive(Debug, Default)]
struct Shared {
    /// Up to where it goes at its full rate.
    ahead: AtomicUsize,
    /// Up to where it goes at all.
    most: AtomicUsize,
    sent: AtomicUsize,
    /// No longer paced.
    hurries: AtomicBool,
    /// Nothing is to be sent, and everything that was is acknowledged.
    pauses: AtomicBool,
    rests: AtomicBool,
    stops: AtomicBool,
    failed: Mutex<Option<String>>,
}

/// Holds the topic against the log: a record that is lost or there twice shifts all behind it.
struct Placed(Arc<Shared>);

impl ClientContext for Placed {}

impl ProducerContext for Placed {
    /// The record's place in its partition.
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, place: usize) {
        let (partition, why) = match delivered {
            Ok(there) if usize::try_from(there.offset()) == Ok(place) => return,
            Ok(there) => (there.partition(), format!("lies at {}", there.offset())),
            Err((error, record)) => (record.partition(), error.to_string()),
        };
        let why = format!("the log cannot be produced: record {place} of {partition}: {why}");
        self.0.fail(why);
    }
}

impl Shared {
    /// The first reason is kept.
    fn fail(&self, why: String) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(why);
    }
}

#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    records: usize,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Produces the log to its topic, so many records a second, the last ones only at the end.
    pub(crate) fn start(bootstrap: &str, log: &Arc<Log>, rate: usize) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let producer: BaseProducer<Placed> = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.max.bytes", "2000000")
            .set("reconnect.backoff.max.ms", "1000")
            .create_with_context(Placed(Arc::clone(&shared)))
            .map_err(|error| error.to_string())?;
        let records = log.order.len();
        shared.most.store(records - records / 20, SeqCst);
        let (of, log) = (Arc::clone(&shared), Arc::clone(log));
        let thread = std::thread::spawn(move || {
            if let Err(why) = produce(&producer, &log, rate, &of) {
                of.fail(why);
            }
        });
        Ok(Self {
            shared,
            records,
            thread: Some(thread),
        })
    }

    /// Lets it go on until so much of the log is produced.
    pub(crate) fn until(&self, part: usize, parts: usize) {
        let ahead = self.records * part / parts.max(1);
        self.shared.ahead.fetch_max(ahead, SeqCst);
    }

    /// Sends nothing until [`Load::resume`], and waits until nothing is under way: a broker that
    /// begins again knows no producer any more whose records have timestamps of more than a day ago
    /// (`producer.id.expiration.ms`), and takes a batch that is repeated twice.
    pub(crate) fn pause(&self) -> Result<(), String> {
        self.shared.rests.store(false, SeqCst);
        self.shared.pauses.store(true, SeqCst);
        let since = now();
        let over = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        while !self.shared.rests.load(SeqCst) && !over() {
            if since.elapsed() > PATIENCE {
                return Err(format!("the log is not acknowledged within {PATIENCE:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub(crate) fn resume(&self) {
        self.shared.pauses.store(false, SeqCst);
    }

    /// Whether all but the end is produced.
    pub(crate) fn is_spent(&self) -> bool {
        self.shared.sent.load(SeqCst) >= self.shared.most.load(SeqCst)
    }

    /// Why it cannot go on, if so.
    pub(crate) fn failure(&self) -> Option<String> {
        let failed = self.shared.failed.lock();
        failed.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Produces all that is left, and waits until it is acknowledged.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.shared.most.store(self.records, SeqCst);
        self.shared.hurries.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| "the producer panicked".to_owned())?;
        }
        self.failure().map_or(Ok(()), Err)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stops.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has said why.
            let _ = thread.join();
        }
    }
}

fn produce(
    producer: &BaseProducer<Placed>,
    log: &Log,
    rate: usize,
    shared: &Shared,
) -> Result<(), String> {
    let rate = f64::from(u32::try_from(rate).unwrap_or(u32::MAX));
    let mut at = vec![0; log.partitions.len()];
    let (mut due, mut sent, mut last) = (0.0, 0, now());
    while !shared.stops.load(SeqCst) && sent < log.order.len() {
        let pace = if sent < shared.ahead.load(SeqCst) {
            rate
        } else {
            rate * SLOWLY
        };
        due += last.elapsed().as_secs_f64() * pace;
        last = now();
        let pauses = shared.pauses.load(SeqCst);
        let most = if pauses {
            sent
        } else {
            shared.most.load(SeqCst)
        };
        while sent < most && (due >= 1.0 || shared.hurries.load(SeqCst)) {
            let partition = log.order[sent];
            send(producer, log, partition, at[partition])?;
            at[partition] += 1;
            sent += 1;
            due -= 1.0;
        }
        // What could not be produced is not owed.
        due = due.min(rate);
        shared.sent.store(sent, SeqCst);
        producer.poll(TICK);
        shared
            .rests
            .store(pauses && producer.in_flight_count() == 0, SeqCst);
    }
    let flushed = producer.flush(Duration::from_mins(2));
    flushed.map_err(|error| format!("the log cannot be produced: {error}"))
}

fn send(
    producer: &BaseProducer<Placed>,
    log: &Log,
    partition: usize,
    at: usize,
) -> Result<(), String> {
    let from = &log.partitions[partition][at];
    let number = i32::try_from(partition).expect("few partitions");
    let mut record =
        BaseRecord::<[u8], [u8], usize>::with_opaque_to(&log.topic, at).partition(number);
    record.key = from.key.as_deref();
    record.payload = from.value.as_deref();
    record.timestamp = from.timestamp;
    let full = RDKafkaErrorCode::QueueFull;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(code), unsent)) if code == full => {
                producer.poll(TICK);
                record = unsent;
            }
            Err((error, _)) => return Err(format!("the log cannot be produced: {error}")),
        }
    }
}
