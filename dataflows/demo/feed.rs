//! Writes what the users do into the topic `events`, at a rate, each partition on its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anabranch::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};

use super::clock::millis;
use super::events::{Maker, closing};
use super::rules::{EVENTS, PARTITIONS};
use super::tempo::Tempo;

const TICK: Duration = Duration::from_millis(5);
/// Records that a partition gives in one tick, at most: what waited comes in a rush, not at once.
const RUSH: usize = 2_000;
/// Records that the client holds before the feed waits for it.
const IN_FLIGHT_MAX: i32 = 50_000;
/// How long the broker may take for the last records.
const FLUSH_MAX: Duration = Duration::from_secs(10);
const NONE: i32 = -1;

/// The users at work, until they are told to stop.
pub(super) struct Feed {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<ThreadedProducer<Fates>>>>,
}

struct Shared {
    rate: AtomicU64,
    paused: AtomicI32,
    waiting: AtomicU64,
    late_wanted: AtomicU32,
    written: AtomicU64,
    stop: AtomicBool,
}

/// Counts the records that no broker took.
struct Fates(Arc<AtomicU64>);

impl ClientContext for Fates {}

impl ProducerContext for Fates {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

impl Feed {
    /// Starts writing `rate` records a second.
    pub(super) fn start(bootstrap: &str, rate: u64) -> Result<Self> {
        let shared = Arc::new(Shared {
            rate: AtomicU64::new(rate),
            paused: AtomicI32::new(NONE),
            waiting: AtomicU64::default(),
            late_wanted: AtomicU32::default(),
            written: AtomicU64::default(),
            stop: AtomicBool::default(),
        });
        let lost = Arc::new(AtomicU64::default());
        let producer: ThreadedProducer<Fates> = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("linger.ms", "5")
            // The log is kept for the check, in memory.
            .set("compression.type", "zstd")
            .set("enable.idempotence", "true")
            .create_with_context(Fates(Arc::clone(&lost)))
            .map_err(|cause| Error::operating("the producer").because(cause))?;
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            producer,
            lost,
            maker: Maker::new(1),
            tempos: (0..PARTITIONS).map(|_| Tempo::new(millis())).collect(),
            line: Vec::new(),
            first: 0,
            late_to: 0,
        };
        let thread = thread::spawn(move || {
            while !writer.shared.stop.load(SeqCst) {
                writer.tick()?;
                thread::park_timeout(TICK);
            }
            Ok(writer.producer)
        });
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub(super) fn rate(&self) -> u64 {
        self.shared.rate.load(SeqCst)
    }

    pub(super) fn set_rate(&self, rate: u64) {
        self.shared.rate.store(rate, SeqCst);
    }

    /// The partition that is not written, and how many events wait for it.
    pub(super) fn paused(&self) -> Option<(u32, u64)> {
        let paused = u32::try_from(self.shared.paused.load(SeqCst)).ok()?;
        Some((paused, self.shared.waiting.load(SeqCst)))
    }

    /// Stops writing to `partition`, or writes to all again.
    pub(super) fn pause(&self, partition: Option<u32>) {
        let paused = partition.and_then(|partition| i32::try_from(partition).ok());
        self.shared.paused.store(paused.unwrap_or(NONE), SeqCst);
    }

    /// Writes an event that is late.
    pub(super) fn send_late(&self) {
        self.shared.late_wanted.fetch_add(1, SeqCst);
    }

    pub(super) fn written(&self) -> u64 {
        self.shared.written.load(SeqCst)
    }

    /// Why it ended by itself, if it did.
    pub(super) fn trouble(&mut self) -> Option<Error> {
        let ended = self.thread.take_if(|thread| thread.is_finished())?;
        Some(match ended.join() {
            Ok(Err(error)) => error,
            _ => Error::operating("the producer: it panicked"),
        })
    }

    /// Stops it, and gives each partition a last event that happens at `time()`. Says how many
    /// records are in the log.
    pub(super) fn close(mut self, time: impl FnOnce() -> i64) -> Result<u64> {
        let broken = |what: &str| Error::operating(format!("the producer: {what}"));
        self.shared.stop.store(true, SeqCst);
        let thread = self.thread.take().ok_or_else(|| broken("is gone"))?;
        let producer = thread.join().map_err(|_| broken("it panicked"))??;
        let time = time();
        for partition in 0..PARTITIONS {
            send(&producer, partition, closing(partition, time).as_bytes())?;
        }
        let flushed = producer.flush(FLUSH_MAX);
        flushed.map_err(|cause| Error::operating("the producer").because(cause))?;
        let lost = producer.context().0.load(SeqCst);
        if lost > 0 {
            return Err(broken(&format!("{lost} records were not taken")));
        }
        Ok(self.written() + u64::from(PARTITIONS))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // What it has to say nobody waits for any more.
            let _ = thread.join();
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    producer: ThreadedProducer<Fates>,
    lost: Arc<AtomicU64>,
    maker: Maker,
    tempos: Vec<Tempo>,
    line: Vec<u8>,
    first: u32,
    late_to: u32,
}

impl Writer {
    fn tick(&mut self) -> Result {
        let lost = self.lost.load(SeqCst);
        if lost > 0 {
            return Err(Error::operating(format!("{lost} records were not taken")));
        }
        #[expect(clippy::cast_precision_loss, reason = "no rate is that large")]
        let rate = self.shared.rate.load(SeqCst) as f64 / f64::from(PARTITIONS);
        let paused = u32::try_from(self.shared.paused.load(SeqCst)).ok();
        let now = millis();
        // Where the broker is slow, none is always the last.
        self.first = (self.first + 1) % PARTITIONS;
        for nth in 0..PARTITIONS {
            let partition = (self.first + nth) % PARTITIONS;
            let tempo = &mut self.tempos[partition as usize];
            tempo.pass(now, rate);
            if paused == Some(partition) {
                self.shared.waiting.store(tempo.waiting(), SeqCst);
                continue;
            }
            self.write(partition)?;
        }
        for _ in 0..self.shared.late_wanted.swap(0, SeqCst) {
            self.write_late(paused, now)?;
        }
        Ok(())
    }

    fn write(&mut self, partition: u32) -> Result {
        for _ in 0..RUSH {
            if self.producer.in_flight_count() >= IN_FLIGHT_MAX {
                return Ok(());
            }
            let Some(time) = self.tempos[partition as usize].next() else {
                return Ok(());
            };
            self.maker.next(partition, time, &mut self.line);
            send(&self.producer, partition, &self.line)?;
            self.shared.written.fetch_add(1, SeqCst);
        }
        Ok(())
    }

    fn write_late(&mut self, paused: Option<u32>, now: i64) -> Result {
        self.late_to = (self.late_to + 1) % PARTITIONS;
        if paused == Some(self.late_to) {
            self.late_to = (self.late_to + 1) % PARTITIONS;
        }
        let line = self.maker.late(now);
        send(&self.producer, self.late_to, line.as_bytes())?;
        self.shared.written.fetch_add(1, SeqCst);
        Ok(())
    }
}

fn send(producer: &ThreadedProducer<Fates>, partition: u32, line: &[u8]) -> Result {
    let record = BaseRecord::<(), [u8], ()>::with_opaque_to(EVENTS, ())
        .partition(i32::try_from(partition).unwrap_or(0))
        .payload(line);
    let sent = producer.send(record);
    sent.map_err(|(cause, _)| Error::operating(format!("topic `{EVENTS}`")).because(cause))
}

#[cfg(test)]
mod tests {
    use anabranch::broker::DevBroker;

    use rdkafka::Message;

    use super::super::clock::now;
    use super::super::topic::read_whole;
    use super::*;

    /// More than the client holds at once: what is never heard of again would fill it.
    const RECORDS: u64 = 120_000;

    #[test]
    fn every_partition_gets_its_share_also_when_more_was_written_than_the_client_holds() {
        let partitions = PARTITIONS as usize;
        let broker = DevBroker::builder()
            .topic(EVENTS, partitions)
            .start()
            .unwrap();
        let feed = Feed::start(&broker.bootstrap(), 60_000).unwrap();
        let since = now();
        while feed.written() < RECORDS {
            assert!(
                since.elapsed() < Duration::from_mins(1),
                "{}",
                feed.written()
            );
            thread::sleep(TICK);
        }
        let written = feed.close(millis).unwrap();
        let mut counts = vec![0; partitions];
        read_whole(&broker.bootstrap(), EVENTS, |message| {
            counts[usize::try_from(message.partition()).unwrap()] += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(counts.iter().sum::<u64>(), written);
        let least = written / u64::from(PARTITIONS) * 9 / 10;
        assert!(counts.iter().all(|count| *count > least), "{counts:?}");
    }
}
