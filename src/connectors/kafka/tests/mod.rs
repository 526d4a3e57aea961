//! Against a real Kafka: `ANABRANCH_KAFKA=host:port cargo test kafka -- --ignored`.
//!
//! Each test makes its own topic. What each file is to catch: `reading`, a record lost, doubled or
//! altered on its way in, a wrong end, a worker that sleeps on; `writing`, the same on the way out,
//! and a close that lies; `failing`, a sentence that does not say what to do.

mod failing;
mod outage;
mod reading;
mod speed;
mod writing;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::admin::block_on;
use super::{KafkaOptions, KafkaSource};
use crate::connectors::{Fetched, Reader, Share, Source, Waker};
use crate::time::EventTime;

const PATIENCE: Duration = Duration::from_secs(30);

fn bootstrap() -> String {
    std::env::var("ANABRANCH_KAFKA").expect("ANABRANCH_KAFKA=host:port of a Kafka to test with")
}

fn options() -> KafkaOptions {
    KafkaOptions::new(bootstrap(), "connector-test")
}

fn bounded() -> KafkaOptions {
    KafkaOptions {
        bounded: true,
        ..options()
    }
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .create()
        .unwrap()
}

/// A new topic.
fn topic(name: &str, partitions: i32, config: &[(&str, &str)]) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    #[expect(clippy::disallowed_methods, reason = "a name that no other run has")]
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_micros();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{name}-{now}-{number}");
    // Retention goes by stamps, and those of tests are old.
    let mut new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    new = new.set("retention.ms", "-1");
    for (key, value) in config {
        new.config.retain(|(other, _)| other != key);
        new = new.set(key, value);
    }
    let made = block_on(admin().create_topics(&[new], &AdminOptions::new())).unwrap();
    made.into_iter().next().unwrap().unwrap();
    name
}

fn grow(topic: &str, partitions: usize) {
    let wish = NewPartitions::new(topic, partitions);
    let made = block_on(admin().create_partitions(&[wish], &AdminOptions::new())).unwrap();
    made.into_iter().next().unwrap().unwrap();
}

/// A record as a test writes or has read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Item {
    offset: u64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Option<i64>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn item(key: Option<&str>, value: Option<&str>, timestamp: i64) -> Item {
    Item {
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        timestamp: Some(timestamp),
        ..Item::default()
    }
}

/// An independent producer.
fn producer(properties: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap())
        .set("linger.ms", "0");
    for (key, value) in properties {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, item: &Item) {
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
    record.key = item.key.as_deref();
    record.payload = item.value.as_deref();
    record.timestamp = item.timestamp;
    if !item.headers.is_empty() {
        let add = |headers: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
            headers.insert(Header {
                key,
                value: value.as_ref(),
            })
        };
        record = record.headers(item.headers.iter().fold(OwnedHeaders::new(), add));
    }
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((_, back)) => record = back,
        }
        producer.poll(Duration::from_millis(10));
    }
}

fn write(topic: &str, partition: i32, items: &[Item]) {
    let producer = producer(&[]);
    for item in items {
        send(&producer, topic, partition, item);
    }
    producer.flush(PATIENCE).unwrap();
}

/// A share of one worker among `workers`, and what rings when it is woken.
fn share(worker: usize, workers: usize) -> (Share, mpsc::Receiver<()>) {
    let (ring, bell) = mpsc::channel();
    let waker = Waker::new(move || {
        let _ = ring.send(());
    });
    let share = Share {
        worker,
        workers,
        port: 0,
        buffer_bytes: 64 << 20,
        waker,
    };
    (share, bell)
}

fn now() -> std::time::Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "measures how long something takes"
    )]
    std::time::Instant::now()
}

/// A reader as a worker drives it: asks until it is told to wait, then sleeps until woken.
struct Drive {
    reader: Box<dyn Reader>,
    bell: mpsc::Receiver<()>,
    partitions: Vec<u32>,
}

impl Drive {
    fn open(source: &KafkaSource, worker: usize, workers: usize) -> Self {
        let (share, bell) = share(worker, workers);
        Self {
            reader: source.open(share).unwrap(),
            bell,
            partitions: Vec::new(),
        }
    }

    fn new(topic: &str, options: KafkaOptions) -> (KafkaSource, Self) {
        let source = KafkaSource::new(topic, options);
        source.prepare().unwrap();
        let drive = Self::open(&source, 0, 1);
        (source, drive)
    }

    fn look(&mut self) {
        let found = self.reader.discover().unwrap();
        self.partitions
            .extend(found.into_iter().map(|found| found.partition));
    }

    fn fetch(&mut self, partition: u32, max: usize) -> (Fetched, Vec<Item>) {
        let mut records = Vec::new();
        let fetched = self.reader.fetch(partition, max, &mut records).unwrap();
        let items = records.into_iter().map(|record| {
            let mut headers = Vec::new();
            record.headers.unwrap().each(&mut |name, value| {
                headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
            });
            Item {
                offset: record.offset,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                timestamp: record.timestamp.map(EventTime::millis),
                headers,
            }
        });
        (fetched, items.collect())
    }

    /// Reads each partition until it answers `last`; only a bell may end a sleep.
    fn until(&mut self, last: Fetched) -> Vec<Vec<Item>> {
        let mut read: Vec<Vec<Item>> = Vec::new();
        loop {
            self.look();
            let (mut done, mut more) = (0, false);
            for partition in self.partitions.clone() {
                read.resize(read.len().max(partition as usize + 1), Vec::new());
                let (fetched, items) = self.fetch(partition, 100);
                read[partition as usize].extend(items);
                done += usize::from(fetched == last);
                more |= fetched == Fetched::Some;
            }
            if done == self.partitions.len() {
                return read;
            }
            if !more {
                self.bell
                    .recv_timeout(PATIENCE)
                    .expect("the worker was never woken");
            }
        }
    }
}

/// Reads all of a topic, as one worker.
fn read(topic: &str) -> Vec<Vec<Item>> {
    Drive::new(topic, bounded()).1.until(Fetched::End)
}

fn values(items: &[Item]) -> Vec<String> {
    let text = |item: &Item| String::from_utf8(item.value.clone().unwrap()).unwrap();
    items.iter().map(text).collect()
}

fn sleep(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

/// Waits until `holds`, which it has to within [`PATIENCE`].
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        sleep(10);
    }
}
