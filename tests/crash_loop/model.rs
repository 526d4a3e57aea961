//! A job that is none: the plainest exactly-once there is, for trying the loop without an engine.
//!
//! It knows its log by its seed, asks the oracle what is due at each cut, and writes that and its
//! progress in one transaction. It is started, killed, fenced and finished as a job is. Its
//! variants are broken on purpose, each as an engine could be, and the loop has to find them.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use super::clock::now;
use super::expected::{Cut, Expected, Item, Port};
use super::follower::last_progress;
use super::log::Log;
use super::progress::{Names, PROGRESS_KEY, Progress};
use super::record::{output_of, outputs_record, progress_record};
use crate::oracle::Job;
use crate::topics::java_partition;

/// Where the loop tells it of its log: seed, job, records, topic, variant.
pub(crate) const TOLD: &str = "CRASH_LOOP_MODEL";
const PATIENCE: Duration = Duration::from_secs(30);
/// A commit that takes longer leaves a doubt: maybe it was asked for twice.
const DOUBT: Duration = Duration::from_secs(1);
/// After a connection broke, what was asked there is asked again so much later, give or take a
/// fifth; so no commit within [`DOUBT`] was. The client tells nobody of a connection that broke.
const BACKOFF: &str = "1500";
/// Records of a partition in one transaction.
const MOST: i64 = 3_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// Correct.
    Exact,
    /// Its progress does not tell where its outputs end.
    Silent,
    /// Progress is committed after the outputs.
    ProgressAfter,
    /// Progress is committed before the outputs.
    ProgressBefore,
    /// Each instance is a stranger to the broker, and fences nobody.
    Unfenced,
    /// After a commit in doubt it registers again without looking who commits by now.
    Stubborn,
    /// After a commit in doubt it goes on with the same producer.
    Trusting,
}

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    job_id: String,
    #[arg(long)]
    checkpoint_interval: humantime::Duration,
    #[arg(long)]
    bounded: bool,
    #[arg(long)]
    source: String,
    #[arg(long)]
    sink: Vec<String>,
    #[arg(long)]
    set: Vec<String>,
    #[arg(long)]
    idle_timeout: String,
    #[arg(long)]
    workers: usize,
    #[arg(long)]
    state_dir: std::path::PathBuf,
    #[arg(long)]
    take_over: bool,
    #[arg(long)]
    rebuild: bool,
}

type Ends = [Vec<i64>; 3];

/// What the client tells.
#[derive(Debug)]
struct Heard {
    /// Results, late, dead.
    topics: [String; 3],
    /// Ends of their partitions, as delivery reports have them.
    ends: Mutex<Ends>,
}

impl Heard {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Heard {}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Ok(message) = result else { return };
        let port = self
            .topics
            .iter()
            .position(|topic| topic == message.topic());
        let partition = usize::try_from(message.partition());
        if let (Some(port), Ok(partition)) = (port, partition) {
            self.ends()[port][partition] = message.offset() + 1;
        }
    }
}

/// Why it ends.
enum End {
    Fenced,
    Failed(String),
}

impl From<KafkaError> for End {
    fn from(error: KafkaError) -> Self {
        let code = match &error {
            KafkaError::Transaction(error) => Some(error.code()),
            error => error.rdkafka_error_code(),
        };
        if code.is_some_and(is_fenced) {
            Self::Fenced
        } else {
            Self::Failed(error.to_string())
        }
    }
}

fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}

struct Model {
    arguments: Arguments,
    variant: Variant,
    log: Log,
    expected: Expected,
    names: Names,
    producer: BaseProducer<Heard>,
    cut: Cut,
    checkpoint: u64,
    generation: u64,
}

/// Runs it; gives its exit code.
pub(crate) fn run(arguments: impl Iterator<Item = String>, told: &str) -> u8 {
    let arguments = Arguments::parse_from(["model".to_owned()].into_iter().chain(arguments));
    let stops = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stops))
        .expect("a handler of SIGTERM");
    let ended = match Model::begin(arguments, told) {
        Ok(None) => Ok(3),
        Ok(Some(mut model)) => model.live(&stops).map_err(|end| model.fatal(end)),
        Err(end) => Err(end),
    };
    match ended {
        Ok(code) => code,
        Err(End::Fenced) => {
            eprintln!("error: another instance owns the job");
            4
        }
        Err(End::Failed(why)) => {
            eprintln!("error: {why}");
            1
        }
    }
}

fn words(told: &str) -> (Log, Variant) {
    let words: Vec<_> = told.split(',').collect();
    let [seed, job, records, topic, variant] = words[..] else {
        panic!("{told} does not say what to do");
    };
    let job = match job {
        "bid_stats" => Job::BidStats,
        _ => Job::UserActivity,
    };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let records = usize::try_from(number(records)).expect("a count");
    let variant = Variant::from_str(variant, false).expect("a variant");
    (Log::make(number(seed), job, topic, records), variant)
}

impl Model {
    /// Registers, reads where it was, and goes on there; nothing if it must not.
    fn begin(arguments: Arguments, told: &str) -> Result<Option<Self>, End> {
        let (log, variant) = words(told);
        let expected = Expected::of(&log);
        let topic = |nth: usize| arguments.sink[nth].rsplit(':').next().unwrap_or_default();
        let names = Names::of(&log, [0, 1, 2].map(|nth| topic(nth).to_owned()));
        let producer = register(&arguments, variant, &names)?;
        let progress = format!("{}.progress", arguments.job_id);
        let last = last_progress(&arguments.bootstrap, &progress, PATIENCE).map_err(End::Failed)?;
        let last = last.map(|value| Progress::parse(&value, &names, expected.partitions()));
        let last = last.transpose().map_err(End::Failed)?;
        if last.as_ref().is_some_and(|last| last.finished) {
            eprintln!("error: the job is finished");
            return Ok(None);
        }
        // It keeps nothing there; but it has to be there, as that of a job.
        if last.is_some() && !arguments.state_dir.exists() && !arguments.rebuild {
            eprintln!("error: the state is gone: --rebuild");
            return Ok(None);
        }
        let made = std::fs::create_dir_all(&arguments.state_dir);
        made.map_err(|error| End::Failed(error.to_string()))?;
        Ok(Some(Self {
            cut: last
                .as_ref()
                .map_or_else(|| expected.start(), |last| last.cut.clone()),
            checkpoint: last.as_ref().map_or(0, |last| last.checkpoint),
            generation: last.map_or(0, |last| last.generation) + 1,
            arguments,
            variant,
            log,
            expected,
            names,
            producer,
        }))
    }

    fn live(&mut self, stops: &AtomicBool) -> Result<u8, End> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.arguments.bootstrap)
            .create()?;
        if self.checkpoint == 0 {
            let start = self.cut.clone();
            self.commit(start, false)?;
        }
        while !stops.load(SeqCst) {
            std::thread::sleep(self.pause());
            let mut cut = self.cut.clone();
            let mut all = true;
            for (partition, next) in (0..).zip(&mut cut.next) {
                let topic = &self.log.topic;
                let (_, end) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
                all &= end - *next <= MOST;
                *next = end.min(*next + MOST);
            }
            let finished = all && self.arguments.bounded;
            if finished {
                cut.ended.fill(true);
            }
            if cut != self.cut {
                self.commit(cut, finished)?;
            }
            if finished {
                break;
            }
        }
        Ok(0)
    }

    fn pause(&self) -> Duration {
        *self.arguments.checkpoint_interval / 2
    }

    /// What any error after the fatal one hides.
    fn fatal(&self, end: End) -> End {
        match self.producer.client().fatal_error() {
            Some((code, _)) if is_fenced(code) => End::Fenced,
            _ => end,
        }
    }

    /// Commits all that is between the last cut and this one.
    fn commit(&mut self, cut: Cut, finished: bool) -> Result<(), End> {
        let (from, to) = (
            self.expected.horizon(&self.cut),
            self.expected.horizon(&cut),
        );
        let due = self.expected.items.iter().enumerate().filter(|(item, _)| {
            self.expected.is_shown(*item, &cut, to)
                && !self.expected.is_shown(*item, &self.cut, from)
        });
        let due: Vec<_> = due.map(|(_, item)| item.clone()).collect();
        self.producer.begin_transaction()?;
        if self.variant == Variant::ProgressBefore {
            self.progress(&cut, finished)?;
            self.between()?;
        }
        for (nth, item) in due.iter().enumerate() {
            // As of a job at work, a transaction is open half of the time.
            if nth == due.len() / 2 {
                std::thread::sleep(self.pause());
            }
            self.output(item)?;
        }
        self.drain();
        if self.variant == Variant::ProgressAfter {
            self.between()?;
        }
        if self.variant != Variant::ProgressBefore {
            self.progress(&cut, finished)?;
        }
        self.drain();
        let since = now();
        self.producer.commit_transaction(PATIENCE)?;
        if since.elapsed() > DOUBT {
            self.doubt()?;
        }
        self.cut = cut;
        self.checkpoint += 1;
        Ok(())
    }

    /// The gap that must not be there: what was written is committed, and the rest is not.
    fn between(&self) -> Result<(), End> {
        self.producer.commit_transaction(PATIENCE)?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(self.producer.begin_transaction()?)
    }

    /// Waits until all is acknowledged, without which a commit takes 100 ms.
    fn drain(&self) {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(1));
        }
    }

    /// The commit was asked for more than once, maybe, and one of these may still be on its way: it
    /// must not meet a transaction of the same producer.
    fn doubt(&mut self) -> Result<(), End> {
        if self.variant == Variant::Trusting {
            return Ok(());
        }
        if self.variant != Variant::Stubborn {
            let progress = format!("{}.progress", self.arguments.job_id);
            let last = last_progress(&self.arguments.bootstrap, &progress, PATIENCE);
            let last = last.map_err(End::Failed)?.unwrap_or_default();
            let last = Progress::parse(&last, &self.names, self.expected.partitions());
            if last.map_err(End::Failed)?.generation != self.generation {
                return Err(End::Fenced);
            }
        }
        let ends = self.producer.context().ends().clone();
        self.producer = register(&self.arguments, self.variant, &self.names)?;
        *self.producer.context().ends() = ends;
        Ok(())
    }

    fn progress(&self, cut: &Cut, finished: bool) -> Result<(), End> {
        let about = (self.checkpoint + 1, self.generation, finished);
        let mut record = progress_record(&self.expected, &self.names, about, cut);
        // Those that this instance does not know have not moved.
        if self.variant != Variant::Silent {
            record["written"] = outputs_record(&self.names, &self.producer.context().ends());
        }
        let topic = format!("{}.progress", self.arguments.job_id);
        let value = record.to_string();
        let record = BaseRecord::<str, str>::to(&topic);
        self.send(record.key(PROGRESS_KEY).payload(&value))
    }

    fn output(&self, item: &Item) -> Result<(), End> {
        let port = item.port();
        let (value, headers) = output_of(item, &self.log.topic);
        let key = item.key.as_deref();
        let partition = match (port, key) {
            (Port::Results, Some(key)) => java_partition(key, 3),
            _ => 0,
        };
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value),
                })
            });
        let topic = &self.names.outputs[port.index()];
        let mut record = BaseRecord::<[u8], [u8]>::to(topic)
            .partition(partition)
            .headers(headers);
        (record.key, record.payload) = (key, value.as_deref());
        self.send(record)
    }

    fn send<K, V>(&self, mut record: BaseRecord<'_, K, V>) -> Result<(), End>
    where
        K: rdkafka::message::ToBytes + ?Sized,
        V: rdkafka::message::ToBytes + ?Sized,
    {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, unsent)) => {
                    let full = Some(RDKafkaErrorCode::QueueFull);
                    if error.rdkafka_error_code() != full {
                        return Err(error.into());
                    }
                    self.producer.poll(Duration::from_millis(1));
                    record = unsent;
                }
            }
        }
    }
}

fn register(
    arguments: &Arguments,
    variant: Variant,
    names: &Names,
) -> Result<BaseProducer<Heard>, End> {
    let id = match variant {
        Variant::Unfenced => format!("{}-{}", arguments.job_id, std::process::id()),
        _ => arguments.job_id.clone(),
    };
    let heard = Heard {
        topics: names.outputs.clone(),
        ends: Mutex::new([(); 3].map(|()| vec![0; 3])),
    };
    let producer: BaseProducer<Heard> = ClientConfig::new()
        .set("bootstrap.servers", &arguments.bootstrap)
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "10000")
        .set("retry.backoff.ms", BACKOFF)
        .set("retry.backoff.max.ms", BACKOFF)
        .create_with_context(heard)?;
    producer.init_transactions(PATIENCE)?;
    Ok(producer)
}
