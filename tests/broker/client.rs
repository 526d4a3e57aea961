//! Clients of librdkafka, and the few words in which the checks speak.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pollster::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

pub(crate) use crate::topics::bootstrap;

/// Nothing here takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a deadline")]
    Instant::now()
}

/// Polls until it holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
    }
}

/// The clients of one broker.
#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    pub(crate) bootstrap: String,
}

/// A record that was read: partition, offset, value.
pub(crate) type Read = (i32, i64, String);

impl Kafka {
    /// The broker that the suite runs against.
    pub(crate) fn here() -> Self {
        Self::at(bootstrap())
    }

    pub(crate) fn at(bootstrap: String) -> Self {
        Self { bootstrap }
    }

    pub(crate) fn config(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        for (key, value) in more {
            config.set(*key, *value);
        }
        config
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config(&[]).create().unwrap()
    }

    /// A new topic.
    pub(crate) fn topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> String {
        let name = crate::topics::Topics::fresh(name);
        self.create(&name, partitions, config).unwrap();
        name
    }

    pub(crate) fn create(
        &self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<(), RDKafkaErrorCode> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let admin = self.admin();
        let made = block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        for one in made {
            one.map_err(|(_, code)| code)?;
        }
        crate::topics::wait_until_known(admin.inner(), name, partitions);
        Ok(())
    }

    pub(crate) fn producer(&self, more: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config(&[("message.timeout.ms", "20000"), ("linger.ms", "0")]);
        for (key, value) in more {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }

    /// A transactional producer that has its epoch.
    pub(crate) fn transactional(&self, id: &str, more: &[(&str, &str)]) -> BaseProducer {
        let mut all = vec![("transactional.id", id)];
        all.extend(more);
        let producer = self.producer(&all);
        producer.init_transactions(DEADLINE).unwrap();
        producer
    }

    pub(crate) fn consumer(&self, group: &str, more: &[(&str, &str)]) -> BaseConsumer {
        let mut config = self.config(&[
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
            ("fetch.wait.max.ms", "100"),
            ("enable.partition.eof", "true"),
        ]);
        for (key, value) in more {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }

    /// Everything from the start of each partition to its end, for readers of committed records or
    /// of all.
    pub(crate) fn read(&self, topic: &str, isolation: &str) -> Vec<Read> {
        let consumer = self.consumer("readers", &[("isolation.level", isolation)]);
        let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
        let partitions = metadata.topics()[0].partitions().len() as i32;
        assign(&consumer, topic, 0..partitions, Offset::Beginning);
        to_the_end(&consumer, partitions)
    }

    pub(crate) fn committed(&self, topic: &str) -> Vec<String> {
        values(self.read(topic, "read_committed"))
    }

    pub(crate) fn all(&self, topic: &str) -> Vec<String> {
        values(self.read(topic, "read_uncommitted"))
    }

    /// The first offset and the one behind the last.
    pub(crate) fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        let consumer = self.consumer("readers", &[]);
        consumer
            .fetch_watermarks(topic, partition, DEADLINE)
            .unwrap()
    }
}

pub(crate) fn values(read: Vec<Read>) -> Vec<String> {
    read.into_iter().map(|(_, _, value)| value).collect()
}

pub(crate) fn assign(
    consumer: &BaseConsumer,
    topic: &str,
    partitions: std::ops::Range<i32>,
    from: Offset,
) {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition, from).unwrap();
    }
    consumer.assign(&list).unwrap();
}

/// Reads until so many partitions have said that they are at their end.
pub(crate) fn to_the_end(consumer: &BaseConsumer, partitions: i32) -> Vec<Read> {
    let (mut read, mut missing) = (Vec::new(), (0..partitions).collect::<BTreeSet<_>>());
    until("the end of each partition", || {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = missing.remove(&partition),
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(message)) => read.push(told(&message)),
        }
        missing.is_empty()
    });
    read
}

/// Polls until it has read so many records.
pub(crate) fn take(consumer: &BaseConsumer, count: usize) -> Vec<Read> {
    let mut read = Vec::new();
    until("records", || {
        match consumer.poll(Duration::from_millis(100)) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(message)) => read.push(told(&message)),
        }
        read.len() >= count
    });
    read
}

fn told(message: &rdkafka::message::BorrowedMessage<'_>) -> Read {
    let value = message
        .payload()
        .map_or("<null>".into(), String::from_utf8_lossy);
    (message.partition(), message.offset(), value.into_owned())
}

/// Hands a record over; it is written by the next flush.
pub(crate) fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
    send_key(producer, topic, partition, None, Some(value));
}

pub(crate) fn send_key(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    key: Option<&str>,
    value: Option<&str>,
) {
    let mut record = BaseRecord::<str, str>::to(topic).partition(partition);
    (record.key, record.payload) = (key, value);
    producer.send(record).map_err(|(error, _)| error).unwrap();
}

/// Writes records and waits until they are there.
pub(crate) fn write(kafka: &Kafka, topic: &str, values: &[&str]) {
    let producer = kafka.producer(&[]);
    for value in values {
        send(&producer, topic, 0, value);
    }
    producer.flush(DEADLINE).unwrap();
}
