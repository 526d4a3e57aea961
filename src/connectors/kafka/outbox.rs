//! The producer of a sink, and the thread that hears its delivery reports.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use humantime::format_duration;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::admin::describe;
use super::client::{Delivery, Producer, Refused};
use super::limits;
use super::tally::Tally;
use crate::connectors::{PartitionEnd, Waker};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::now;

/// How long the thread sleeps when nothing happens; it is then told to stop, or not.
const IDLE: Duration = Duration::from_millis(100);
/// How long who waits for the last acknowledgement sleeps at most before it counts again.
const NAP: Duration = Duration::from_millis(5);

/// What went wrong, and why.
struct Failure {
    sentence: String,
    reason: Option<String>,
    /// The record that the cluster has refused.
    refused: Option<Refused>,
}

/// The producer, and who writes with it.
pub(super) struct Outbox {
    pub(super) producer: Arc<Producer>,
    /// Who acknowledges, for messages.
    place: String,
    tallies: RwLock<Vec<Arc<Tally>>>,
    /// The ends of what was written into partitions of topics; `None`: not known.
    ends: Mutex<BTreeMap<(String, u32), Option<i64>>>,
    failure: OnceLock<Failure>,
    stopped: AtomicBool,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    /// Starts to listen to `producer`, until [`Self::stop`].
    pub(super) fn start(producer: Producer, place: String, timeout: Duration) -> Result<Arc<Self>> {
        let outbox = Arc::new(Self {
            producer: Arc::new(producer),
            place,
            tallies: RwLock::default(),
            ends: Mutex::default(),
            failure: OnceLock::new(),
            stopped: AtomicBool::new(false),
        });
        let listener = Arc::clone(&outbox);
        thread::Builder::new()
            .name("kafka-sink".into())
            .spawn(move || listener.listen(timeout))
            .map_err(|cause| Error::operating("no thread for a Kafka sink").because(cause))?;
        Ok(outbox)
    }

    /// Ends the listening; what is not acknowledged then never will be.
    pub(super) fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    /// A writer joins: the tag of its records, and their count.
    pub(super) fn join(&self, waker: Waker) -> (usize, Arc<Tally>) {
        let tally = Arc::new(Tally::new(waker));
        let mut tallies = self.tallies.write().unwrap_or_else(PoisonError::into_inner);
        tallies.push(Arc::clone(&tally));
        (tallies.len() - 1, tally)
    }

    /// Somebody joins who writes little or nothing, and leaves when dropped; nobody else joins
    /// meanwhile.
    pub(super) fn visit(&self) -> Visit<'_> {
        let (tag, tally) = self.join(Waker::new(|| {}));
        Visit {
            outbox: self,
            tag,
            tally,
        }
    }

    /// How many records are not acknowledged yet.
    pub(super) fn waiting(&self) -> u64 {
        let waiting = self.producer.base.in_flight_count();
        u64::try_from(waiting).unwrap_or(0)
    }

    /// Behind which offsets what was written ends.
    pub(super) fn ends(&self) -> Vec<PartitionEnd> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |((topic, partition), end): (&(String, u32), &Option<i64>)| PartitionEnd {
            topic: topic.clone(),
            partition: *partition,
            end: *end,
        };
        ends.iter().map(one).collect()
    }

    /// A batch was written that ends there; `None`: nobody knows where, until the next one is.
    fn written(&self, topic: &str, partition: i32, end: Option<i64>) {
        let Ok(partition) = u32::try_from(partition) else {
            return;
        };
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ends.entry((topic.to_owned(), partition)).or_default();
        *known = end.and(end.max(*known));
    }

    /// Whether every record that was heard of was written.
    ///
    /// # Errors
    /// The first one that was not.
    pub(super) fn check(&self) -> Result {
        let Some(Failure {
            sentence, reason, ..
        }) = self.failure.get()
        else {
            return Ok(());
        };
        // Another instance has taken the job, and this one is shut out.
        let error = if self.is_fenced() {
            fenced()
        } else {
            Error::operating(sentence)
        };
        Err(match reason {
            Some(reason) => error.because(reason.clone()),
            None => error,
        })
    }

    /// Why the cluster has refused a record for `topic`, if nothing else went wrong before.
    pub(super) fn refusal(&self, topic: &str) -> Option<RDKafkaErrorCode> {
        let refused = self.failure.get()?.refused.as_ref()?;
        (refused.topic == topic).then_some(refused.code)
    }

    /// Whether another producer of the same transactional id has taken its place.
    pub(super) fn is_fenced(&self) -> bool {
        use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
        let fatal = self.producer.base.client().fatal_error();
        let codes = [Fenced, InvalidProducerEpoch, ProducerFenced];
        fatal.is_some_and(|(code, _)| codes.contains(&code))
    }

    /// Why a record of `len` bytes was not even taken.
    pub(super) fn refused(
        &self,
        topic: &str,
        partition: i32,
        len: usize,
        code: RDKafkaErrorCode,
    ) -> Error {
        if self.is_fenced() {
            return fenced();
        }
        // A producer that has failed for good says no more than that; the reason is elsewhere.
        let fatal = self.producer.base.client().fatal_error();
        let reason = fatal.map_or_else(|| describe(code), |(_, reason)| reason);
        Error::operating(format!(
            "a record of {len} bytes was not taken for `{topic}[{partition}]`"
        ))
        .because(reason)
    }

    /// That `missing` of `records` were not acknowledged, and none of them for so long.
    pub(super) fn silent(
        &self,
        topic: &str,
        missing: u64,
        records: u64,
        patience: Duration,
    ) -> Error {
        self.because_of_brokers(format!(
            "topic `{topic}` has not acknowledged {missing} of {records} records, none in \
             {patience:?}"
        ))
    }

    /// That `missing` of `records` were not acknowledged when a run that was stopped had to end.
    pub(super) fn stopped(&self, topic: &str, missing: u64, records: u64) -> Error {
        self.because_of_brokers(format!(
            "stopped: topic `{topic}` has not acknowledged {missing} of {records} records"
        ))
    }

    fn because_of_brokers(&self, what: String) -> Error {
        let error = Error::operating(what);
        match self.producer.base.client().context().complaint() {
            Some(complaint) => error.because(complaint),
            None => error,
        }
    }

    /// Counts what is acknowledged, and fails where nothing is for `timeout`.
    fn listen(&self, timeout: Duration) {
        let mut last = now();
        let mut counts: Vec<(u64, u64)> = Vec::new();
        while !self.stopped.load(SeqCst) {
            // Complaints come the same way, and are no sign of progress.
            let mut heard = false;
            let each = |delivery: Delivery| {
                heard = true;
                if let Some(refused) = delivery.failed {
                    self.not_written(refused);
                    return;
                }
                if counts.len() <= delivery.tag {
                    counts.resize(delivery.tag + 1, (0, 0));
                }
                let (records, bytes) = &mut counts[delivery.tag];
                *records += 1;
                *bytes += Tally::cost(delivery.bytes);
            };
            let written =
                |topic: &str, partition, end: Option<i64>| self.written(topic, partition, end);
            self.producer.serve(IDLE, each, written);
            if heard {
                self.producer.base.client().context().heard();
            }
            let waiting = self.waiting();
            if heard || waiting == 0 {
                last = now();
            } else if last.elapsed() >= timeout {
                let timeout = format_duration(timeout);
                let _ = self.failure.set(Failure {
                    sentence: format!(
                        "{} has acknowledged none of {waiting} records for {timeout} \
                         (--broker-timeout)",
                        self.place
                    ),
                    reason: self.producer.base.client().context().complaint(),
                    refused: None,
                });
            }
            if heard || self.failure.get().is_some() {
                self.settle(&mut counts);
            }
        }
    }

    fn not_written(&self, refused: Refused) {
        let Refused {
            topic,
            partition,
            code,
        } = &refused;
        let mut reason = describe(*code);
        match code {
            RDKafkaErrorCode::InvalidTimestamp => reason += &limits::stamp_refused(topic, ""),
            // The client tells no more of a record that Kafka refuses by itself.
            RDKafkaErrorCode::InvalidRecord => {
                let or = "it has no key, and the topic is compacted; or ";
                reason += &limits::stamp_refused(topic, or);
            }
            _ => {}
        }
        let _ = self.failure.set(Failure {
            sentence: format!("a record was not written to `{topic}[{partition}]`"),
            reason: Some(reason),
            refused: Some(refused),
        });
    }

    /// Counts what was heard, and wakes who waits for it.
    fn settle(&self, counts: &mut Vec<(u64, u64)>) {
        let failed = self.failure.get().is_some();
        let tallies = self.tallies.read().unwrap_or_else(PoisonError::into_inner);
        counts.resize(tallies.len().max(counts.len()), (0, 0));
        for (tally, (records, bytes)) in tallies.iter().zip(counts) {
            tally.count(std::mem::take(records), std::mem::take(bytes));
            if failed {
                tally.give_up();
            }
        }
    }
}

/// Who waits until everything is written.
pub(super) struct Visit<'a> {
    outbox: &'a Outbox,
    /// The tag of its records.
    pub(super) tag: usize,
    tally: Arc<Tally>,
}

impl Visit<'_> {
    /// Waits until everything that was handed over is written, while nothing more is; `over` may
    /// end it.
    ///
    /// # Errors
    /// A record was not written, or none of them for `timeout`.
    pub(super) fn drain(
        &self,
        topic: &str,
        timeout: Duration,
        over: impl Fn() -> Result,
    ) -> Result {
        let outbox = self.outbox;
        let (mut seen, mut last) = (outbox.waiting(), now());
        loop {
            outbox.check()?;
            over()?;
            let waiting = outbox.waiting();
            if waiting == 0 {
                return outbox.check();
            }
            if waiting != seen {
                (seen, last) = (waiting, now());
            }
            if last.elapsed() > timeout {
                return Err(outbox.silent(topic, waiting, waiting, timeout));
            }
            self.tally.nap(NAP);
        }
    }
}

impl Drop for Visit<'_> {
    /// Its tag goes to the next one that joins.
    fn drop(&mut self) {
        let tallies = self.outbox.tallies.write();
        let mut tallies = tallies.unwrap_or_else(PoisonError::into_inner);
        if self.tag + 1 == tallies.len() {
            tallies.pop();
        }
    }
}

/// That another instance owns the job.
pub(super) fn fenced() -> Error {
    Error::new(
        ErrorKind::Owned,
        "another instance has taken over this job: this one may write no more",
    )
}
