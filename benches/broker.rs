//! What the development broker takes and gives a second, through librdkafka: records of 100 bytes,
//! written by one producer and read by one consumer, each with every record counted.
//!
//! `cargo bench --bench broker [-- MILLIONS]`. Broker and clients share this process and its cores.
//! With `ANABRANCH_BENCH_ASSERT` set, less than a million a second is an error.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench prints figures"
)]

use std::env;
use std::time::{Duration, Instant};

use anabranch::broker::DevBroker;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOPIC: &str = "records";
const PARTITIONS: usize = 4;
const BYTES: usize = 100;
const FLOOR: f64 = 1_000_000.0;

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a bench measures")]
    Instant::now()
}

fn config(broker: &DevBroker, properties: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    config.set_log_level(RDKafkaLogLevel::Error);
    for (key, value) in properties {
        config.set(*key, *value);
    }
    config
}

/// Writes records that are numbered in their first bytes; gives the time until all are there.
fn produce(broker: &DevBroker, records: u64, idempotent: bool) -> Duration {
    let properties = [
        ("linger.ms", "20"),
        ("batch.num.messages", "10000"),
        ("queue.buffering.max.messages", "500000"),
        ("acks", "all"),
        (
            "enable.idempotence",
            if idempotent { "true" } else { "false" },
        ),
    ];
    let producer: BaseProducer = config(broker, &properties).create().expect("a producer");
    let mut value = [b'x'; BYTES];
    let start = now();
    for number in 0..records {
        value[..8].copy_from_slice(&number.to_be_bytes());
        let partition = i32::try_from(number % PARTITIONS as u64).expect("few");
        let mut record = BaseRecord::<[u8], [u8]>::to(TOPIC)
            .partition(partition)
            .payload(&value);
        while let Err((KafkaError::MessageProduction(_), again)) = producer.send(record) {
            producer.poll(Duration::from_millis(1));
            record = again;
        }
        if number % 10_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Timeout::Never).expect("all are written");
    start.elapsed()
}

/// Reads all records, and adds their numbers.
fn consume(broker: &DevBroker, records: u64) -> Duration {
    let properties = [
        ("group.id", "bench"),
        ("enable.auto.commit", "false"),
        ("check.crcs", "false"),
        ("fetch.wait.max.ms", "10"),
        ("fetch.queue.backoff.ms", "1"),
        ("queued.min.messages", "1000000"),
    ];
    let consumer: BaseConsumer = config(broker, &properties).create().expect("a consumer");
    let timeout = Duration::from_secs(10);
    consumer
        .fetch_metadata(Some(TOPIC), timeout)
        .expect("the topic is there");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let partition = i32::try_from(partition).expect("few");
        list.add_partition_offset(TOPIC, partition, Offset::Beginning)
            .expect("an offset");
    }
    let start = now();
    consumer.assign(&list).expect("assigned");
    let (mut read, mut sum) = (0, 0_u128);
    while read < records {
        let message = consumer.poll(timeout).expect("a record").expect("no error");
        let value = message.payload().expect("a value");
        assert_eq!(value.len(), BYTES);
        sum += u128::from(u64::from_be_bytes(
            value[..8].try_into().expect("eight bytes"),
        ));
        read += 1;
    }
    let took = start.elapsed();
    let all = u128::from(records);
    assert_eq!(sum, all * (all - 1) / 2, "each record once");
    took
}

fn main() {
    let millions = env::args()
        .skip(1)
        .find_map(|argument| argument.parse::<u64>().ok());
    let records = millions.unwrap_or(2) * 1_000_000;
    let strict = env::var_os("ANABRANCH_BENCH_ASSERT").is_some();
    let start = now();
    drop(DevBroker::start().expect("a broker"));
    println!("start and stop: {:?}", start.elapsed());
    for (name, idempotent) in [("produce", false), ("produce, idempotent", true)] {
        let start = now();
        let broker = DevBroker::builder()
            .memory(1 << 30)
            .topic(TOPIC, PARTITIONS);
        let broker = broker.start().expect("a broker");
        let started = start.elapsed();
        let produced = produce(&broker, records, idempotent);
        let held = broker.memory_used() as f64 / records as f64;
        let consumed = consume(&broker, records);
        let rate = |took: Duration| records as f64 / took.as_secs_f64();
        let (written, read) = (rate(produced), rate(consumed));
        println!(
            "{name}: {:.2} M/s · consume: {:.2} M/s · {held:.0} bytes a record · start {started:?}",
            written / 1e6,
            read / 1e6
        );
        assert!(
            !strict || (written >= FLOOR && read >= FLOOR),
            "below a million a second"
        );
    }
}
