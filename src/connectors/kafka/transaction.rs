//! Exactly once: one transactional producer for all sinks of a job, and the topic in which its
//! progress is committed together with its results.
//!
//! ```text
//! STEP 1  last     read the progress that was committed, read-committed, up to the end
//! STEP 2  fence    `init_transactions`: every earlier producer of the job is shut out, and what
//!                  it left open is settled
//! STEP 3  begin    lazily, with the first record behind a commit
//! STEP 4  commit   all reports are in, the record of progress is in the transaction, EndTxn
//! ```
//! A commit that took long or saw a connection end is *doubtful*: librdkafka repeats `EndTxn`
//! by itself, and a late copy could commit a later transaction. Then a new producer goes on.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use tracing::{debug, info};

use super::admin;
use super::aside::aside;
use super::client::{Outgoing, Producer, Right, Topic};
use super::context::Context;
use super::membership::{self, Membership};
use super::options::KafkaOptions;
use super::outbox::{Outbox, Visit, fenced};
use super::progress;
use crate::connectors::{Commit, Member, PartitionEnd};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{crash_point, now};

/// A commit that takes longer may have been sent twice.
const DOUBTFUL: Duration = Duration::from_secs(1);
/// A request is repeated after this long at the earliest, less a fifth: not before a commit is in
/// doubt. A connection that ends in good order is not told, so time alone has to tell.
const RETRY: Duration = Duration::from_millis(1_500);
/// How long one call of the client waits; then it is looked whether the run is over.
const SLICE: Duration = Duration::from_secs(1);
/// How long what was committed is asked for although the run is over.
const ASKED: Duration = Duration::from_secs(5);
/// How long after a commit was answered its record can be read at the latest, and how often that is
/// looked at.
const SEEN: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);
/// The least time after which a broker ends a transaction whose producer is gone.
const TIMEOUT_MIN: Duration = Duration::from_mins(1);

/// See the module.
pub(crate) struct Transaction {
    options: Arc<KafkaOptions>,
    id: String,
    /// The topic of progress.
    topic: String,
    timeout: Duration,
    inner: Mutex<Inner>,
    /// The run is over: nobody waits for brokers any more.
    over: AtomicBool,
}

struct Inner {
    outbox: Option<Arc<Outbox>>,
    open: bool,
    member: Option<Membership>,
}

impl Inner {
    fn outbox(&self) -> Result<Arc<Outbox>> {
        let outbox = self.outbox.clone();
        outbox.ok_or_else(|| Error::operating("a transaction begins after init_transactions"))
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Transaction {
    /// The transactions of job `id`, committed every `interval`.
    ///
    /// # Errors
    /// They would be given up while they are still written.
    pub(crate) fn new(options: KafkaOptions, id: &str, interval: Duration) -> Result<Self> {
        let least = TIMEOUT_MIN.max(interval.saturating_mul(2));
        let given = options.property(&["transaction.timeout.ms"]);
        // What is no number is refused by librdkafka.
        let given = given.and_then(|given| given.trim().parse().ok());
        let timeout = given.map_or(least, Duration::from_millis);
        if timeout < least {
            let [given, least] = [timeout, least].map(|time| time.as_millis());
            return Err(Error::usage(format!(
                "property `transaction.timeout.ms`: {given} is less than {least}, which is a \
                 minute or twice --checkpoint-interval: leave it out, or give at least that"
            )));
        }
        Ok(Self {
            options: Arc::new(options),
            id: id.to_owned(),
            topic: format!("{id}.progress"),
            timeout,
            inner: Mutex::new(Inner {
                outbox: None,
                open: false,
                member: None,
            }),
            over: AtomicBool::new(false),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer of the moment.
    ///
    /// # Errors
    /// There is none before it was fenced.
    pub(super) fn outbox(&self) -> Result<Arc<Outbox>> {
        self.inner().outbox()
    }

    /// Begins a transaction, unless one is open, and returns the producer that writes in it.
    pub(super) fn begin(&self) -> Result<Arc<Outbox>> {
        let mut inner = self.inner();
        let outbox = inner.outbox()?;
        if !inner.open {
            let begun = outbox.producer.base.begin_transaction();
            begun.map_err(|cause| self.failed("begin", &outbox, &cause))?;
            inner.open = true;
        }
        Ok(outbox)
    }

    fn connect(&self) -> Result<Arc<Outbox>> {
        let mut config = self.options.producer();
        config.set("transactional.id", &self.id);
        for name in ["retry.backoff.ms", "retry.backoff.max.ms"] {
            config.set(name, RETRY.as_millis().to_string());
        }
        if self.options.property(&["transaction.timeout.ms"]).is_none() {
            config.set(
                "transaction.timeout.ms",
                self.timeout.as_millis().to_string(),
            );
        }
        let base: BaseProducer<Context> = config
            .create_with_context(Context::default())
            .map_err(|cause| self.options.refused(&cause))?;
        let outbox = Outbox::start(
            Producer::new(base),
            format!("Kafka, in transactions of job `{}`,", self.id),
            self.options.broker_timeout,
        )?;
        let base = &outbox.producer.base;
        // A client that is not connected yet asks for its coordinator half a second later again.
        // What is wrong with the way there is told by the next call.
        let _ = base.client().fetch_metadata(Some(&self.topic), SLICE);
        let began = now();
        loop {
            let cause = match base.init_transactions(SLICE) {
                Ok(()) => return Ok(outbox),
                Err(cause) => cause,
            };
            self.check_over().inspect_err(|_| outbox.stop())?;
            let refusal = base.client().context().refusal();
            if !is_retriable(&cause) || refusal.is_some() || began.elapsed() > self.patience() {
                outbox.stop();
                return Err(self.failed("init_transactions", &outbox, &cause));
            }
        }
    }

    fn patience(&self) -> Duration {
        self.options.patience()
    }

    fn failed(&self, what: &str, outbox: &Outbox, cause: &KafkaError) -> Error {
        if outbox.is_fenced() || is_fenced(cause) {
            return fenced();
        }
        if code(cause) == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) {
            let what = format!("transactional id `{}`", self.id);
            return self.options.lacks_to(&what, Right::Write);
        }
        let context = outbox.producer.base.client().context();
        let reason = context.refusal().or_else(|| context.complaint());
        let cause = match (cause, reason) {
            (KafkaError::Transaction(why), Some(reason)) => format!("{}: {reason}", why.string()),
            (KafkaError::Transaction(why), None) => why.string(),
            (other, _) => admin::reason(other),
        };
        Error::operating(format!("transaction of job `{}`: {what}", self.id)).because(cause)
    }

    /// Waits until everything that was handed over is written.
    fn drain(&self, visit: &Visit<'_>) -> Result {
        let timeout = self.options.broker_timeout;
        visit.drain(&self.topic, timeout, || self.check_over())
    }

    fn check_over(&self) -> Result {
        if self.over.load(SeqCst) {
            let what = format!("transaction of job `{}` given up: the run is over", self.id);
            return Err(Error::operating(what));
        }
        Ok(())
    }

    fn produce(&self, outbox: &Arc<Outbox>, tag: usize, record: &[u8]) -> Result {
        let nameless = || Error::usage(format!("`{}` is no name of a topic", self.topic));
        let topic = Topic::new(&outbox.producer, &self.topic).ok_or_else(nameless)?;
        let outgoing = Outgoing {
            partition: 0,
            key: Some(progress::KEY),
            value: Some(record),
            timestamp: None,
            headers: &[],
            tag,
        };
        let taken = outbox.producer.produce(&topic, &outgoing);
        taken.map_err(|code| match code {
            RDKafkaErrorCode::MessageSizeTooLarge => too_large(&self.topic, record.len()),
            _ => outbox.refused(&self.topic, 0, record.len(), code),
        })
    }

    fn end(&self, outbox: &Outbox) -> Result {
        let began = now();
        loop {
            let ended = outbox.producer.base.commit_transaction(SLICE);
            let Err(cause) = ended else { return Ok(()) };
            self.check_over()?;
            if !is_retriable(&cause) || began.elapsed() > self.options.broker_timeout {
                return Err(self.failed("commit", outbox, &cause));
            }
        }
    }
}

impl Commit for Transaction {
    fn describe(&self) -> String {
        format!("kafka:{}", self.topic)
    }

    fn check(&self) -> Result {
        progress::check(&self.topic, &self.options)
    }

    fn last(&self) -> Result<Option<Vec<u8>>> {
        // Asked beside: a question may wait for brokers longer than a run that is over.
        let (tell, told) = mpsc::channel();
        let began = now();
        let (topic, options) = (self.topic.clone(), Arc::clone(&self.options));
        aside("kafka-progress", move || {
            // Nobody listens when the run is over.
            let _ = tell.send(progress::read(&topic, &options));
        });
        loop {
            match told.recv_timeout(SLICE) {
                Ok(last) => return last,
                // Who has ended asks, too, whether another one has taken over.
                Err(RecvTimeoutError::Timeout) if began.elapsed() < ASKED => {}
                Err(RecvTimeoutError::Timeout) => self.check_over()?,
                Err(RecvTimeoutError::Disconnected) => {
                    let what = format!("topic `{}` cannot be read: nobody reads it", self.topic);
                    return Err(Error::operating(what));
                }
            }
        }
    }

    fn members(&self) -> Result<Vec<Member>> {
        membership::members(&self.id, &self.options)
    }

    fn own(&self, who: &str) -> Result {
        let member = Membership::join(&self.id, &self.topic, who, &self.options)?;
        self.inner().member = Some(member);
        Ok(())
    }

    fn prepare(&self) -> Result {
        progress::create(&self.topic, &self.options)
    }

    fn fence(&self) -> Result {
        let outbox = self.connect()?;
        let mut inner = self.inner();
        (inner.outbox, inner.open) = (Some(outbox), false);
        crash_point("fenced");
        Ok(())
    }

    fn written(&self) -> Result<Vec<PartitionEnd>> {
        let outbox = self.outbox()?;
        self.drain(&outbox.visit())?;
        let mut ends = outbox.ends();
        ends.retain(|ends| ends.topic != self.topic);
        Ok(ends)
    }

    fn commit(&self, record: &[u8]) -> Result<bool> {
        if let Some(member) = &self.inner().member {
            member.check(&self.id, &self.options)?;
        }
        let outbox = self.begin()?;
        let visit = outbox.visit();
        crash_point("results written");
        self.produce(&outbox, visit.tag, record)?;
        self.drain(&visit).map_err(|why| {
            // The topic may take less than the client does.
            match outbox.refusal(&self.topic) {
                Some(RDKafkaErrorCode::MessageSizeTooLarge) if !outbox.is_fenced() => {
                    too_large(&self.topic, record.len())
                }
                _ => why,
            }
        })?;
        crash_point("progress written");
        let breaks = outbox.producer.base.client().context().breaks();
        let began = now();
        self.end(&outbox)?;
        crash_point("commit answered");
        self.inner().open = false;
        let took = began.elapsed();
        debug!(target: "kafka", "committed in {took:?}");
        Ok(took > DOUBTFUL || breaks != outbox.producer.base.client().context().breaks())
    }

    fn renew(&self, record: &[u8]) -> Result {
        // Whoever was stopped meanwhile, and taken over, must not shut out its successor. A commit
        // is answered before it can be read.
        let began = now();
        while self.last()?.as_deref() != Some(record) {
            if began.elapsed() > SEEN {
                return Err(fenced());
            }
            self.check_over()?;
            thread::sleep(AGAIN);
        }
        self.check_over()?;
        info!(target: "kafka", "a commit may have been sent twice: a new producer goes on");
        if let Some(outbox) = self.inner().outbox.take() {
            outbox.stop();
        }
        self.fence()
    }

    fn timeout(&self) -> Option<Duration> {
        Some(self.timeout)
    }

    fn stop(&self) {
        self.over.store(true, SeqCst);
        let mut inner = self.inner();
        inner.member = None;
        if let Some(outbox) = inner.outbox.take() {
            outbox.stop();
        }
    }
}

/// A restart would come to the same.
fn too_large(topic: &str, len: usize) -> Error {
    let what = format!(
        "progress of {len} bytes is more than `message.max.bytes` lets into `{topic}`: each range \
         of records that left as `idle` stands in it. Give more with -X message.max.bytes=.., and \
         the topic with its max.message.bytes; --idle-timeout off keeps it from growing"
    );
    Error::new(ErrorKind::State, what)
}

fn is_retriable(cause: &KafkaError) -> bool {
    matches!(cause, KafkaError::Transaction(why) if why.is_retriable())
}

fn is_fenced(cause: &KafkaError) -> bool {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    code(cause).is_some_and(|code| [Fenced, InvalidProducerEpoch, ProducerFenced].contains(&code))
}

fn code(cause: &KafkaError) -> Option<RDKafkaErrorCode> {
    match cause {
        KafkaError::Transaction(why) => Some(why.code()),
        other => other.rdkafka_error_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_progress_waits_for_no_broker_when_the_run_is_over() {
        // It takes connections, and answers nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let bootstrap = silent.local_addr().unwrap().to_string();
        let options = KafkaOptions::new(bootstrap, "job");
        let patience = options.patience();
        let transaction = Transaction::new(options, "job", Duration::from_secs(1)).unwrap();
        let began = now();
        let failed = thread::scope(|scope| {
            let asks = scope.spawn(|| transaction.last());
            transaction.stop();
            asks.join().unwrap()
        });
        let said = failed.unwrap_err().to_string();
        assert!(said.contains("the run is over"), "{said}");
        assert!(began.elapsed() < patience / 2);
    }

    #[cfg(feature = "dev-broker")]
    #[test]
    fn progress_that_its_topic_does_not_take_is_a_matter_of_state() {
        let small = [("max.message.bytes", "1000")];
        let builder = crate::broker::DevBroker::builder().topic_with("job.progress", 1, small);
        let broker = builder.start().unwrap();
        let options = KafkaOptions::new(broker.bootstrap(), "job");
        let transaction = Transaction::new(options, "job", Duration::from_secs(1)).unwrap();
        transaction.fence().unwrap();
        transaction.commit(&[b'x'; 500]).unwrap();
        let error = transaction.commit(&[b'x'; 5_000]).unwrap_err();
        // A supervisor does not try that again.
        assert_eq!(error.kind(), ErrorKind::State, "{error}");
        let said = error.to_string();
        for part in ["5000 bytes", "`job.progress`", "max.message.bytes"] {
            assert!(said.contains(part), "{said}");
        }
        transaction.stop();
    }

    #[test]
    fn a_time_out_that_checkpoints_may_exceed_is_refused() {
        let new = |timeout: Option<&str>, interval: u64| {
            let mut options = KafkaOptions::new("127.0.0.1:1", "job");
            let given = timeout.map(|it| ("transaction.timeout.ms".to_owned(), it.to_owned()));
            options.properties.extend(given);
            Transaction::new(options, "job", Duration::from_secs(interval))
        };
        for (timeout, interval, is) in [
            (None, 1, Ok(60_000)),
            (None, 45, Ok(90_000)),
            (Some("60000"), 1, Ok(60_000)),
            (Some("90000"), 45, Ok(90_000)),
            (Some("300000"), 1, Ok(300_000)),
            (Some("59999"), 1, Err("59999 is less than 60000")),
            (Some(" 1000 "), 1, Err("1000 is less than 60000")),
            (Some("89999"), 45, Err("89999 is less than 90000")),
        ] {
            match (new(timeout, interval), is) {
                (Ok(made), Ok(is)) => assert_eq!(made.timeout().unwrap().as_millis(), is),
                (Err(error), Err(says)) => {
                    assert_eq!(error.kind(), ErrorKind::Usage);
                    let said = error.to_string();
                    assert!(
                        said.contains("`transaction.timeout.ms`") && said.contains(says),
                        "{said}"
                    );
                }
                (made, _) => panic!("{timeout:?}, {interval}: {made:?}"),
            }
        }
    }
}
