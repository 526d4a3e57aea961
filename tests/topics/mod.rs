//! Topics of the Kafka that `ANABRANCH_KAFKA` names, or of a development broker in this process
//! where it names none; by a client that is not the engine's.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "tests may fail, and each uses a part of it"
)]

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anabranch::broker::DevBroker;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_mins(1);
/// How long an answer of a broker is waited for.
const ANSWER: Duration = Duration::from_secs(2);
/// How long nothing is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// A record as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) headers: Headers,
}

/// Names and values, in order.
pub(crate) type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent<'a> {
    /// Milliseconds; -1 is no stamp, `None` the time of writing.
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(String, Option<Vec<u8>>)],
}

impl Message {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.value.clone().unwrap_or_default()).unwrap()
    }
}

/// The header `name`, if it is there once.
pub(crate) fn header(message: &Message, name: &str) -> Option<String> {
    let mut found = message.headers.iter().filter(|(other, _)| other == name);
    let (_, value) = found.next()?;
    assert!(found.next().is_none(), "{name} is there twice: {message:?}");
    let value = value.as_ref().expect("it has a value");
    Some(String::from_utf8(value.clone()).expect("it is text"))
}

/// Waits until each partition of a new topic can be asked for: a broker of Kafka hears of it only
/// after the controller has answered. A client that asked for a partition too early may believe for
/// long that there is none, so its leader is asked for first, and each question is a short one.
pub(crate) fn wait_until_known(
    client: &Client<DefaultClientContext>,
    topic: &str,
    partitions: i32,
) {
    let deadline = now() + DEADLINE;
    let has_leaders = || {
        let metadata = client.fetch_metadata(Some(topic), ANSWER).ok()?;
        let known = metadata.topics().first()?.partitions();
        let leads = known.len() as i32 >= partitions && known.iter().all(|p| p.leader() >= 0);
        leads.then_some(())
    };
    let answers = |partition| client.fetch_watermarks(topic, partition, ANSWER).ok();
    while has_leaders().is_none() || (0..partitions).any(|nth| answers(nth).is_none()) {
        assert!(now() < deadline, "{topic} is not known");
        std::thread::sleep(PAUSE);
    }
}

/// A broker.
pub(crate) struct Topics {
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a deadline")]
    Instant::now()
}

/// The Kafka to test with: a real one, or one in this process, which lives as long as it does.
pub(crate) fn bootstrap() -> String {
    static BROKER: OnceLock<DevBroker> = OnceLock::new();
    let own = || {
        BROKER
            .get_or_init(|| DevBroker::start().unwrap())
            .bootstrap()
    };
    std::env::var("ANABRANCH_KAFKA").unwrap_or_else(|_| own())
}

/// Whether that is a real one.
pub(crate) fn is_real() -> bool {
    std::env::var_os("ANABRANCH_KAFKA").is_some()
}

impl Topics {
    pub(crate) fn new() -> Self {
        Self::at(bootstrap())
    }

    /// Those of another broker.
    pub(crate) fn at(bootstrap: String) -> Self {
        let admin = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .create()
            .unwrap();
        Self { bootstrap, admin }
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A name that no other test uses.
    pub(crate) fn fresh(name: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("{name}-{}-{number}", std::process::id())
    }

    /// Creates a topic that keeps whatever stamp its records have.
    pub(crate) fn create(&self, name: &str, partitions: i32) {
        self.create_with(name, partitions, &[]);
    }

    /// As [`Self::create`], with other settings.
    pub(crate) fn create_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let usual = [
            ("retention.ms", "-1"),
            ("message.timestamp.after.max.ms", "9223372036854775807"),
            ("message.timestamp.before.max.ms", "9223372036854775807"),
            ("max.message.bytes", "2000000"),
        ];
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let unsaid = |usual: &&(&str, &str)| settings.iter().all(|given| given.0 != usual.0);
        for (key, value) in usual.iter().filter(unsaid).chain(settings) {
            topic = topic.set(key, value);
        }
        let made = self.admin.create_topics([&topic], &AdminOptions::new());
        let made = pollster::block_on(made).unwrap();
        for one in made {
            one.unwrap();
        }
        wait_until_known(self.admin.inner(), name, partitions);
    }

    /// Deletes a topic, and waits until it is gone.
    pub(crate) fn delete(&self, name: &str) {
        let deleted = self.admin.delete_topics(&[name], &AdminOptions::new());
        for one in pollster::block_on(deleted).unwrap() {
            one.unwrap();
        }
        let deadline = now() + DEADLINE;
        while self.partitions(name) > 0 {
            assert!(now() < deadline, "{name} does not go");
            std::thread::sleep(PAUSE);
        }
    }

    /// Deletes the records of a partition before `offset`.
    pub(crate) fn truncate(&self, name: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(offset))
            .unwrap();
        let deleted = self.admin.delete_records(&list, &AdminOptions::new());
        for one in pollster::block_on(deleted).unwrap().elements() {
            one.error().unwrap();
        }
    }

    /// How many partitions a topic has; 0: it does not exist.
    pub(crate) fn partitions(&self, name: &str) -> usize {
        let all = self.admin.inner().fetch_metadata(None, DEADLINE).unwrap();
        let found = all.topics().iter().find(|topic| topic.name() == name);
        found.map_or(0, |topic| topic.partitions().len())
    }

    /// Waits until a group has so many members.
    pub(crate) fn wait_for_group(&self, name: &str, members: usize) {
        let deadline = now() + DEADLINE;
        loop {
            let found = self.admin.inner().fetch_group_list(Some(name), DEADLINE);
            let found = found.unwrap();
            let group = found.groups().iter().find(|group| group.name() == name);
            if group.map_or(0, |group| group.members().len()) == members {
                return;
            }
            assert!(now() < deadline, "{name} has not {members} members");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Writes stamps, keys and values to one partition.
    pub(crate) fn fill<'a>(
        &self,
        topic: &str,
        partition: i32,
        records: impl Iterator<Item = (Option<i64>, Option<&'a [u8]>, Option<&'a [u8]>)>,
    ) {
        let sent = |(timestamp, key, value)| Sent {
            timestamp,
            key,
            value,
            headers: &[],
        };
        self.write(topic, partition, records.map(sent));
    }

    /// Writes records to one partition.
    pub(crate) fn write<'a>(
        &self,
        topic: &str,
        partition: i32,
        records: impl Iterator<Item = Sent<'a>>,
    ) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "2000000")
            .create()
            .unwrap();
        for sent in records {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
            (record.key, record.payload) = (sent.key, sent.value);
            record.timestamp = sent.timestamp;
            if !sent.headers.is_empty() {
                record = record.headers(owned(sent.headers));
            }
            let mut unsent = producer.send(record);
            while let Err((KafkaError::MessageProduction(_), record)) = unsent {
                producer.poll(Duration::from_millis(10));
                unsent = producer.send(record);
            }
            assert!(unsent.is_ok());
        }
        producer.flush(DEADLINE).unwrap();
    }

    /// Writes a record in a transaction, and aborts that.
    pub(crate) fn abort(&self, topic: &str, partition: i32, value: &[u8]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("transactional.id", topic)
            .create()
            .unwrap();
        producer.init_transactions(DEADLINE).unwrap();
        producer.begin_transaction().unwrap();
        let record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
        assert!(producer.send(record.payload(value)).is_ok());
        producer.flush(DEADLINE).unwrap();
        producer.abort_transaction(DEADLINE).unwrap();
    }

    /// Waits until so many records are committed in a topic; `look` looks at who writes them.
    pub(crate) fn wait_for(
        &self,
        topic: &str,
        records: usize,
        mut look: impl FnMut(),
    ) -> Vec<Message> {
        let deadline = now() + DEADLINE;
        loop {
            let all = self.read(topic);
            if all.len() >= records {
                return all;
            }
            look();
            assert!(now() < deadline, "{topic}: {} of {records}", all.len());
            std::thread::sleep(PAUSE);
        }
    }

    /// Everything that is committed in a topic, partition by partition.
    pub(crate) fn read(&self, topic: &str) -> Vec<Message> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "tests")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions as i32 {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&list).unwrap();
        // A partition may say more than once that it is at its end.
        let (mut messages, mut ended) = (Vec::new(), BTreeSet::new());
        let start = now();
        while ended.len() < partitions {
            assert!(now().duration_since(start) < DEADLINE, "{topic} has no end");
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = ended.insert(partition),
                Some(Err(error)) => panic!("{topic}: {error}"),
                Some(Ok(message)) => messages.push(Message {
                    partition: message.partition(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    timestamp: message.timestamp().to_millis(),
                    headers: headers(message.headers()),
                }),
            }
        }
        messages
    }
}

fn headers(headers: Option<&BorrowedHeaders>) -> Headers {
    let each = headers.into_iter().flat_map(|headers| headers.iter());
    each.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
        .collect()
}

fn owned(headers: &[(String, Option<Vec<u8>>)]) -> OwnedHeaders {
    let with = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
        let value = value.as_deref();
        all.insert(Header { key, value })
    };
    headers.iter().fold(OwnedHeaders::new(), with)
}

/// The partition that the Java client would choose: its `murmur2`, written down once more.
pub(crate) fn java_partition(key: &[u8], partitions: i32) -> i32 {
    const M: i32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32.cast_signed() ^ key.len() as i32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = i32::from_le_bytes(*word).wrapping_mul(M);
        k ^= (k.cast_unsigned() >> 24).cast_signed();
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (nth, byte) in rest.iter().enumerate() {
        hash ^= i32::from(*byte) << (8 * nth);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= (hash.cast_unsigned() >> 13).cast_signed();
    hash = hash.wrapping_mul(M);
    hash ^= (hash.cast_unsigned() >> 15).cast_signed();
    (hash & 0x7fff_ffff) % partitions
}
