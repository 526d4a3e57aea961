//! A real Kafka for the length of a bench, and its topics, by a client that is not the engine's.

#![allow(dead_code, reason = "not every bench needs all of it")]

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_mins(2);

/// A broker of one node on a port of its own; it and its data are gone when this is dropped.
pub(crate) struct Broker {
    port: u16,
    pub(crate) bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
}

/// Whether `program` can be started.
fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A port that is free together with the next one, where the controller listens; below those from
/// which the system takes the ports of outgoing connections.
fn free_port() -> u16 {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let first = 20_000 + u16::try_from(std::process::id() % 5_000).expect("small") * 2;
    let mut ports = (first..32_000).step_by(2);
    let port = ports.find(|port| is_free(*port) && is_free(port + 1));
    port.expect("a free port")
}

fn script(port: u16, command: &str) -> String {
    let script = Path::new("scripts/kafka");
    let output = Command::new(script)
        .arg(command)
        .env("KAFKA_PORT", port.to_string())
        .env("KAFKA_LOG_LEVEL", "error")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("the script starts");
    assert!(output.status.success(), "kafka {command}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Broker {
    /// Starts it; `Err`: a program that is missing.
    pub(crate) fn start() -> Result<Self, &'static str> {
        if let Some(missing) = ["java", "mvn"].into_iter().find(|name| !is_installed(name)) {
            return Err(missing);
        }
        let port = free_port();
        let bootstrap = script(port, "up");
        let admin = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .create();
        let admin = admin.expect("an admin client");
        Ok(Self {
            port,
            bootstrap,
            admin,
        })
    }

    /// Creates a topic that keeps everything, whatever its stamps.
    pub(crate) fn create(&self, name: &str, partitions: u32) {
        let most = i64::MAX.to_string();
        let topic = NewTopic::new(name, partitions.cast_signed(), TopicReplication::Fixed(1))
            .set("retention.ms", "-1")
            .set("message.timestamp.after.max.ms", &most)
            .set("message.timestamp.before.max.ms", &most);
        let made = self.admin.create_topics([&topic], &AdminOptions::new());
        for made in pollster::block_on(made).expect("the broker answers") {
            made.expect("the topic is made");
        }
    }

    /// Removes a topic with all that is in it.
    pub(crate) fn delete(&self, name: &str) {
        let gone = self.admin.delete_topics(&[name], &AdminOptions::new());
        for gone in pollster::block_on(gone).expect("the broker answers") {
            gone.expect("the topic is removed");
        }
    }

    /// Writes `count` values to each of `partitions` partitions, in turn.
    pub(crate) fn fill(
        &self,
        topic: &str,
        partitions: u32,
        count: u64,
        make: impl Fn(u32, u64, &mut Vec<u8>),
    ) {
        let producer = self.producer("50");
        let mut value = Vec::new();
        for index in 0..count {
            for partition in 0..partitions {
                value.clear();
                make(partition, index, &mut value);
                append(&producer, topic, partition.cast_signed(), &value);
            }
            if index % 1_000 == 0 {
                serve(&producer);
            }
        }
        flush(&producer);
    }

    /// A producer that waits so many milliseconds for more.
    pub(crate) fn producer(&self, linger: &str) -> BaseProducer {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", linger)
            .set("queue.buffering.max.messages", "200000")
            .create();
        producer.expect("a producer")
    }

    /// A reader of the whole topic, from its beginning.
    pub(crate) fn reader(&self, topic: &str) -> Values {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.queue.backoff.ms", "5")
            .create()
            .expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.expect("the broker answers");
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).expect("few") {
            let added = list.add_partition_offset(topic, partition, Offset::Beginning);
            added.expect("a place");
        }
        consumer.assign(&list).expect("an assignment");
        Values {
            consumer,
            partitions,
        }
    }
}

/// Writes a value, when there is room for it.
pub(crate) fn append(producer: &BaseProducer, topic: &str, partition: i32, value: &[u8]) {
    let record = BaseRecord::<[u8], [u8]>::to(topic);
    let mut unsent = producer.send(record.partition(partition).payload(value));
    while let Err((KafkaError::MessageProduction(_), record)) = unsent {
        producer.poll(Duration::from_millis(10));
        unsent = producer.send(record);
    }
    assert!(unsent.is_ok());
}

/// Hears what was written.
pub(crate) fn serve(producer: &BaseProducer) {
    producer.poll(Duration::ZERO);
}

pub(crate) fn flush(producer: &BaseProducer) {
    producer.flush(PATIENCE).expect("everything is written");
}

impl Drop for Broker {
    fn drop(&mut self) {
        script(self.port, "wipe");
    }
}

/// The values of a topic.
pub(crate) struct Values {
    consumer: BaseConsumer,
    partitions: usize,
}

impl Values {
    /// All of them, sorted.
    pub(crate) fn sorted(self) -> Vec<Vec<u8>> {
        let (mut values, mut ended) = (Vec::new(), 0);
        while ended < self.partitions {
            match self.consumer.poll(PATIENCE) {
                Some(Ok(message)) => values.push(message.payload().unwrap_or_default().to_vec()),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                other => panic!("{other:?}"),
            }
        }
        values.sort_unstable();
        values
    }

    /// Waits until every partition was found empty, so that the next record is seen at once.
    pub(crate) fn wait_for_ends(&self) {
        for _ in 0..self.partitions {
            let next = self.consumer.poll(PATIENCE);
            assert!(
                matches!(next, Some(Err(KafkaError::PartitionEOF(_)))),
                "{next:?}"
            );
        }
    }

    /// The next value, if one comes in time.
    pub(crate) fn next(&self, wait: Duration) -> Option<Vec<u8>> {
        match self.consumer.poll(wait)? {
            Ok(message) => Some(message.payload().unwrap_or_default().to_vec()),
            Err(KafkaError::PartitionEOF(_)) => None,
            Err(why) => panic!("{why}"),
        }
    }

    /// Waits for the next record.
    pub(crate) fn wait_for_one(&self) {
        loop {
            match self.consumer.poll(PATIENCE) {
                Some(Ok(_)) => return,
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
