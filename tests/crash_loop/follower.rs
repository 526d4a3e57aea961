//! The read-committed reader that follows the outputs and the progress topic all along.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::checker::{Checker, Entry};
use super::clock::now;
use super::expected::Port;
use super::visible::Visible;

/// How often the checker is told of the time.
const TICK: Duration = Duration::from_secs(1);
/// A poll that gives nothing for so long says nothing about the broker.
const QUIET: Duration = Duration::from_secs(10);

/// Which topics there are: results, late, dead, and the progress topic.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    pub(crate) bootstrap: String,
    pub(crate) outputs: [String; 3],
    pub(crate) partitions: usize,
    pub(crate) progress: Option<String>,
}

impl Topics {
    fn reading(&self) -> Reading<'_> {
        let outputs = self.outputs.iter().map(|topic| (&**topic, self.partitions));
        let progress = self.progress.iter().map(|topic| (&**topic, 1));
        Reading {
            bootstrap: &self.bootstrap,
            topics: outputs.chain(progress).collect(),
        }
    }
}

/// The last offset that was read, by topic and partition.
type Places = HashMap<(String, i32), i64>;

#[derive(Debug, Default)]
struct Shared {
    stops: AtomicBool,
    renews: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Follower {
    checker: Arc<Mutex<Checker>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Follows the topics from their start.
    pub(crate) fn start(topics: &Topics, checker: Checker) -> Result<Self, String> {
        let consumer = topics.reading().consumer(&Places::new())?;
        let checker = Arc::new(Mutex::new(checker));
        let shared = Arc::new(Shared::default());
        let (into, told, topics) = (Arc::clone(&checker), Arc::clone(&shared), topics.clone());
        let thread = std::thread::spawn(move || follow(consumer, &topics, &into, &told));
        Ok(Self {
            checker,
            shared,
            thread: Some(thread),
        })
    }

    /// Goes on with another client. One whose broker was killed and came back may never read a
    /// partition again, and tell nobody.
    pub(crate) fn renew(&self) {
        self.shared.renews.store(true, SeqCst);
    }

    /// What was read, and what is wrong with it.
    pub(crate) fn checker(&self) -> MutexGuard<'_, Checker> {
        lock(&self.checker)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.stops.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has said why.
            let _ = thread.join();
        }
    }
}

fn lock(checker: &Mutex<Checker>) -> MutexGuard<'_, Checker> {
    checker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Topics with their numbers of partitions, to be read from the start.
struct Reading<'a> {
    bootstrap: &'a str,
    topics: Vec<(&'a str, usize)>,
}

impl Reading<'_> {
    /// Reads on behind what was read, which is told by topic and partition.
    fn consumer(&self, read: &Places) -> Result<BaseConsumer, String> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap)
            .set("group.id", "crash-loop")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            // What it has not read yet is never gone.
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            .create()
            .map_err(|error| error.to_string())?;
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in &self.topics {
            for partition in 0..*partitions {
                let partition = i32::try_from(partition).expect("few partitions");
                let place = read.get(&((*topic).to_owned(), partition));
                let next = place.map_or(0, |last| last + 1);
                list.add_partition_offset(topic, partition, Offset::Offset(next))
                    .map_err(|error| error.to_string())?;
            }
        }
        consumer.assign(&list).map_err(|error| error.to_string())?;
        Ok(consumer)
    }
}

fn follow(mut consumer: BaseConsumer, topics: &Topics, into: &Mutex<Checker>, shared: &Shared) {
    let since = now();
    let mut read = Places::new();
    let (mut ticked, mut heard) = (since, since);
    while !shared.stops.load(SeqCst) {
        if shared.renews.swap(false, SeqCst) {
            match topics.reading().consumer(&read) {
                Ok(next) => consumer = next,
                Err(why) => lock(into).problems.push(format!("Lost: no reader: {why}")),
            }
        }
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                heard = now();
                let place = (message.topic().to_owned(), message.partition());
                read.insert(place, message.offset());
                if let Some(entry) = entry(&message, topics) {
                    lock(into).take(&entry, since.elapsed());
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => heard = now(),
            Some(Err(KafkaError::MessageConsumption(code))) if is_loss(code) => {
                let why = format!("Lost: the reader cannot go on: {code}");
                lock(into).problems.push(why);
                return;
            }
            // Errors are those of a broker that restarts.
            None | Some(Err(_)) => {}
        }
        if ticked.elapsed() >= TICK && heard.elapsed() < QUIET {
            ticked = now();
            lock(into).take(&Entry::Time, since.elapsed());
        }
    }
}

/// Whether what was to be read next is no longer there.
fn is_loss(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange
    )
}

fn entry(message: &BorrowedMessage<'_>, topics: &Topics) -> Option<Entry> {
    let topic = message.topic();
    if topics.progress.as_deref() == Some(topic) {
        return Some(Entry::Progress {
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
        });
    }
    let port = topics.outputs.iter().position(|output| output == topic)?;
    Some(Entry::Output(visible(message, Port::ALL[port])))
}

fn visible(message: &BorrowedMessage<'_>, port: Port) -> Visible {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into();
    let headers = headers.map(|header| (header.key.to_owned(), text(header.value)));
    Visible {
        port,
        partition: usize::try_from(message.partition()).expect("a partition"),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.collect(),
    }
}

/// Reads an output once more, from its start to its end, by another reader. Nobody may write to it
/// meanwhile.
///
/// # Errors
/// When the broker does not answer within `patience`.
pub(crate) fn read_again(
    topics: &Topics,
    port: Port,
    patience: Duration,
) -> Result<Vec<Visible>, String> {
    let output = Reading {
        bootstrap: &topics.bootstrap,
        topics: vec![(&topics.outputs[port.index()], topics.partitions)],
    };
    let consumer = output.consumer(&Places::new())?;
    let (mut all, mut ended) = (Vec::new(), 0);
    let since = now();
    while ended < topics.partitions {
        if since.elapsed() > patience {
            return Err(format!("reading again takes more than {patience:?}"));
        }
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => all.push(visible(&message, port)),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            None | Some(Err(_)) => {}
        }
    }
    Ok(all)
}

/// The value of the last progress record that is committed.
///
/// # Errors
/// When the broker does not answer within `patience`.
pub(crate) fn last_progress(
    bootstrap: &str,
    topic: &str,
    patience: Duration,
) -> Result<Option<Vec<u8>>, String> {
    let reading = Reading {
        bootstrap,
        topics: vec![(topic, 1)],
    };
    let consumer = reading.consumer(&Places::new())?;
    let (mut last, since) = (None, now());
    while since.elapsed() < patience {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => last = message.payload().map(<[u8]>::to_vec),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
            None | Some(Err(_)) => {}
        }
    }
    Err(format!("no answer in {patience:?}"))
}
