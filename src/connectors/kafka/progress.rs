//! The topic of a job's progress: one partition, compacted, one key.

use std::ffi::CString;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::admin::{Probe, block_on, describe, reason};
use super::aside::aside;
use super::checks::NotFound;
use super::client::{Consumer, Messages, Queue, Right, describe_topic};
use super::context::Context;
use super::limits;
use super::options::KafkaOptions;
use crate::connectors::Waker;
use crate::error::{Error, Result};
use crate::observe::now;

/// The key of every record.
pub(super) const KEY: &[u8] = b"progress";
/// Bytes that the reader may hold.
const BUFFER: usize = 1 << 20;
/// How far before the end the last record is looked for first: each checkpoint takes two offsets.
const TAIL: i64 = 256;
/// Records that are taken at once.
const BATCH: usize = 256;
/// How long the reader sleeps at most when there is nothing to read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Bytes after which the topic's log is rolled, so that it can be compacted: else a gigabyte.
const SEGMENT: &str = "4194304";

/// The last record that was committed; `None`: there is none, or no such topic.
///
/// # Errors
/// The topic cannot be read.
pub(crate) fn read(topic: &str, options: &Arc<KafkaOptions>) -> Result<Option<Vec<u8>>> {
    let probe = Probe::new(options)?;
    let found = probe.find(topic).map_err(|why| match why {
        NotFound::Refused => options.lacks(topic, Right::Read),
        NotFound::Error(error) => error,
    })?;
    if found.is_none() {
        return Ok(None);
    }
    let tail = Tail::open(topic, options)?;
    let Range { start: first, end } = tail.span()?;
    // The topic is compacted now and then only, and the last record stands near its end.
    let mut back = TAIL;
    loop {
        let from = first.max(end - back);
        let last = tail.last_behind(from..end)?;
        if last.is_some() || from == first {
            return Ok(last);
        }
        back *= 8;
    }
}

/// A reader of the topic's one partition.
struct Tail<'a> {
    topic: &'a str,
    options: &'a KafkaOptions,
    consumer: Arc<Consumer>,
    queue: Queue,
    /// Rings when there is something to read.
    bell: mpsc::Receiver<()>,
}

impl<'a> Tail<'a> {
    fn open(topic: &'a str, options: &'a KafkaOptions) -> Result<Self> {
        let base: BaseConsumer<Context> = options
            .consumer(BUFFER, 1)
            .create_with_context(Context::default())
            .map_err(|cause| options.refused(&cause))?;
        let nameless = || Error::usage(format!("`{topic}` is no name of a topic"));
        let name = CString::new(topic).map_err(|_| nameless())?;
        let (ring, bell) = mpsc::channel();
        let waker = Waker::new(move || {
            let _ = ring.send(());
        });
        let consumer = Arc::new(Consumer::new(base, name, waker.clone()));
        let queue = Queue::new(&consumer, 0, waker).ok_or_else(nameless)?;
        Ok(Self {
            topic,
            options,
            consumer,
            queue,
            bell,
        })
    }

    fn failed(&self, cause: String) -> Error {
        Error::operating(format!("topic `{}` cannot be read", self.topic)).because(cause)
    }

    /// Where the partition begins and ends. Finds its leader too, without which no fetch starts.
    fn span(&self) -> Result<Range<i64>> {
        let patience = self.options.patience();
        let span = self.consumer.base.fetch_watermarks(self.topic, 0, patience);
        let (start, end) = span.map_err(|cause| match cause.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                self.options.lacks(self.topic, Right::Read)
            }
            _ => self.failed(reason(&cause)),
        })?;
        Ok(start..end)
    }

    /// The last record from the beginning of `span`, when its end is reached, or a newer one.
    fn last_behind(&self, span: Range<i64>) -> Result<Option<Vec<u8>>> {
        let mut places = TopicPartitionList::new();
        let place = places.add_partition_offset(self.topic, 0, Offset::Offset(span.start));
        place
            .and_then(|()| self.consumer.base.assign(&places))
            .map_err(|cause| self.failed(reason(&cause)))?;
        let (mut last, mut complaint, began) = (None, None, now());
        let mut messages = Messages::default();
        while began.elapsed() < self.options.patience() {
            // What it says of the group is of no interest: nothing is asked of that.
            let serves = self.consumer.serve();
            serves.map_err(|cause| self.failed(reason(&cause)))?;
            self.queue.consume(&mut messages, BATCH);
            for message in messages.iter() {
                match message.error() {
                    None if message.key() == Some(KEY) => {
                        last = message.value().map(<[u8]>::to_vec);
                    }
                    None | Some(RDKafkaErrorCode::PartitionEOF) => {}
                    Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                        return Err(self.options.lacks(self.topic, Right::Read));
                    }
                    Some(code) => {
                        // A broker that goes away comes back, or not within the patience.
                        complaint = message.reason().or_else(|| Some(describe(code)));
                        continue;
                    }
                }
                // A job that commits all the time has no end to wait for. And a new leader may know
                // an earlier end than the one that was told, until it has heard of its followers.
                if message.offset() >= span.end {
                    return Ok(last);
                }
            }
            if messages.is_empty() {
                let _ = self.bell.recv_timeout(LOOK_AGAIN);
            }
        }
        let why = complaint.unwrap_or_else(|| "it has no end in sight".to_owned());
        Err(self.failed(why))
    }
}

/// Whether the topic is there and may be used as it is, as far as the cluster tells.
///
/// # Errors
/// It has several partitions, forgets what is in it, or a right to it is missing.
fn look(topic: &str, probe: &Probe) -> Result<bool> {
    thread::scope(|scope| {
        let cleanup = scope.spawn(|| limits::cleanup(topic, &probe.options));
        let is_there = look_at(topic, probe)?;
        let cleanup = cleanup.join().ok().flatten();
        match cleanup.filter(|policy| is_there && policy.contains("delete")) {
            Some(policy) => Err(forgetful(topic, &policy, &probe.options)),
            None => Ok(is_there),
        }
    })
}

fn forgetful(topic: &str, policy: &str, options: &KafkaOptions) -> Error {
    Error::usage(format!(
        "topic `{topic}` has cleanup.policy={policy}: when its last record is deleted, nobody \
         knows what was committed, and the results are written again; kafka-configs.sh \
         --bootstrap-server {} --alter --topic {topic} --add-config cleanup.policy=compact",
        options.bootstrap
    ))
}

fn look_at(topic: &str, probe: &Probe) -> Result<bool> {
    let found = probe.find(topic).map_err(|why| match why {
        NotFound::Refused => probe.options.lacks(topic, Right::Write),
        NotFound::Error(error) => error,
    })?;
    match found {
        None => return Ok(false),
        Some(1) => {}
        Some(count) => {
            let why = format!("topic `{topic}` has {count} partitions; progress needs just one");
            return Err(Error::usage(why));
        }
    }
    let name = CString::new(topic).unwrap_or_default();
    let facts = describe_topic(probe.client(), &name, probe.options.patience());
    for right in [Right::Read, Right::Write] {
        if facts.as_ref().ok().and_then(|facts| facts.has(right)) == Some(false) {
            return Err(probe.options.lacks(topic, right));
        }
    }
    Ok(true)
}

/// Looks at what is there, and makes nothing.
///
/// # Errors
/// It cannot be used as it is.
pub(super) fn check(topic: &str, options: &Arc<KafkaOptions>) -> Result {
    look(topic, &Probe::new(options)?).map(|_| ())
}

/// Creates the topic, if it is not there.
///
/// # Errors
/// It cannot be created, or cannot be used as it is.
pub(super) fn create(topic: &str, options: &Arc<KafkaOptions>) -> Result {
    let probe = Probe::new(options)?;
    if look(topic, &probe)? {
        return Ok(());
    }
    let admin: AdminClient<Context> = options
        .client()
        .create_with_context(Context::default())
        .map_err(|cause| options.refused(&cause))?;
    let wait = AdminOptions::new()
        .request_timeout(Some(options.patience()))
        .operation_timeout(Some(options.patience()));
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", SEGMENT)
        .set("min.cleanable.dirty.ratio", "0.1");
    let answer = block_on(admin.create_topics(&[new], &wait));
    aside("kafka-admin-end", move || drop(admin));
    let failed = |cause: String| {
        let bootstrap = &options.bootstrap;
        let what = format!(
            "topic `{topic}`, where progress is committed, cannot be created at `{bootstrap}`; \
             create it with one partition and cleanup.policy=compact"
        );
        Error::operating(what).because(cause)
    };
    let made = answer.map_err(|cause| failed(reason(&cause)))?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists)) | Ok(_)) | None => {}
        Some(Err((_, code))) => return Err(failed(describe(code))),
    }
    probe.partitions(topic).map(|_| ())
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "dev-broker")]
    #[test]
    fn an_end_before_the_one_that_was_told_is_not_the_end() {
        use super::*;
        use crate::broker::DevBroker;
        use crate::connectors::Commit as _;
        use crate::connectors::kafka::Transaction;

        let broker = DevBroker::builder().topic("job.progress", 1).start();
        let broker = broker.unwrap();
        let options = KafkaOptions::new(broker.bootstrap(), "job");
        let job = Transaction::new(options.clone(), "job", Duration::from_secs(1)).unwrap();
        job.fence().unwrap();
        for record in ["one", "two"] {
            job.commit(record.as_bytes()).unwrap();
        }
        let last = |options: &KafkaOptions, end| {
            let tail = Tail::open("job.progress", options).unwrap();
            assert_eq!(tail.span().unwrap().start, 0);
            tail.last_behind(0..end)
        };
        // Each record has a marker behind it, which counts.
        assert_eq!(last(&options, 4).unwrap().as_deref(), Some(&b"two"[..]));
        // As where a leader that lags has answered: what is to come is the last one.
        let mut hasty = options.clone();
        hasty.broker_timeout = Duration::from_secs(3);
        let said = last(&hasty, 6).unwrap_err().to_string();
        assert!(said.contains("`job.progress` cannot be read"), "{said}");
        thread::scope(|scope| {
            let asks = scope.spawn(|| last(&options, 6).unwrap());
            job.commit(b"three").unwrap();
            let found = asks.join().unwrap();
            assert_eq!(found.as_deref(), Some(&b"three"[..]));
        });
        job.stop();
    }
}
