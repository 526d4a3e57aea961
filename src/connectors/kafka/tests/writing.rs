use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::connectors::kafka::client::{Outgoing, Producer, Topic};
use crate::connectors::kafka::context::Context;
use crate::connectors::kafka::outbox::Outbox;
use crate::connectors::kafka::{KafkaSink, TopicLimits, murmur2};
use crate::connectors::{Batch, Encoded, PartitionEnd, Sink, Writer, Written};

pub(super) fn add(batch: &mut Batch, item: &Item, partition: u32) {
    let mut put = |into: fn(&mut Batch) -> &mut Vec<u8>, bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map(|bytes| {
            let all = into(batch);
            let from = u32::try_from(all.len()).unwrap();
            all.extend_from_slice(bytes);
            (from, u32::try_from(all.len()).unwrap())
        })
    };
    let key = put(|batch| &mut batch.keys, &item.key);
    let value = put(|batch| &mut batch.values, &item.value);
    batch.values.push(b'\n');
    let from = u32::try_from(batch.headers.len()).unwrap();
    batch.headers.extend(item.headers.iter().cloned());
    batch.records.push(Encoded {
        key,
        value,
        timestamp: item.timestamp.map(EventTime::from_millis),
        partition,
        headers: (from, u32::try_from(batch.headers.len()).unwrap()),
    });
}

fn open(topic: &str, options: KafkaOptions, stamp: bool) -> (KafkaSink, Box<dyn Writer>) {
    let sink = KafkaSink::new(topic, options, stamp);
    sink.prepare().unwrap();
    let writer = sink.open(share(0, 1).0).unwrap();
    (sink, writer)
}

#[test]
#[ignore = "needs a Kafka"]
fn what_is_written_is_read_back_from_the_partition_of_its_key() {
    let topic = topic("write-all", 3, &[]);
    let (sink, mut writer) = open(&topic, options(), false);
    let mut with_headers = item(Some("k"), Some("v"), 1_700_000_000_003);
    with_headers.headers = vec![
        ("a".into(), Some(b"1".to_vec())),
        ("a".into(), None),
        ("b".into(), Some(Vec::new())),
    ];
    let items = [
        item(None, Some("no key"), 1_700_000_000_000),
        item(Some(""), Some("empty key"), 1_700_000_000_001),
        item(Some("k"), None, 1_700_000_000_002),
        item(Some("other"), Some(""), 1_700_000_000_003),
        with_headers,
    ];
    let mut batch = Batch::default();
    for item in &items {
        add(&mut batch, item, 7);
    }
    assert_eq!(writer.write(&batch, 0).unwrap(), Written::All);
    writer.flush().unwrap();
    writer.close().unwrap();
    sink.finish(true).unwrap();
    let read = read(&topic);
    let mut expected = vec![Vec::new(); 3];
    for item in items {
        let place = item
            .key
            .as_ref()
            .map_or(7 % 3, |key| murmur2::partition(key, 3));
        let place: &mut Vec<Item> = &mut expected[usize::try_from(place).unwrap()];
        place.push(Item {
            offset: place.len() as u64,
            ..item
        });
    }
    assert_eq!(read, expected);
}

#[test]
#[ignore = "needs a Kafka"]
fn records_without_a_stamp_get_the_time_of_writing() {
    for stamp_at_write in [false, true] {
        let topic = topic("write-stamp", 1, &[]);
        let (_sink, mut writer) = open(&topic, options(), stamp_at_write);
        let mut batch = Batch::default();
        let none = Item {
            timestamp: None,
            ..item(None, Some("none"), 0)
        };
        for item in [
            none,
            item(None, Some("zero"), 0),
            item(None, Some("1970"), -5),
        ] {
            add(&mut batch, &item, 0);
        }
        add(&mut batch, &item(None, Some("past"), 1_000), 0);
        assert_eq!(writer.write(&batch, 0).unwrap(), Written::All);
        writer.close().unwrap();
        let stamps: Vec<_> = read(&topic)[0]
            .iter()
            .map(|item| item.timestamp.unwrap() > 1_700_000_000_000)
            .collect();
        assert_eq!(stamps, [true, true, true, stamp_at_write]);
    }
}

/// Writes `count` records as a worker would, and says how often it had to wait.
fn fill(writer: &mut dyn Writer, bell: &mpsc::Receiver<()>, count: usize) -> usize {
    let mut batch = Batch::default();
    for n in 0..count {
        add(&mut batch, &item(None, Some(&format!("{n:0100}")), 5), 0);
    }
    let (mut from, mut waits) = (0, 0);
    loop {
        match writer.write(&batch, from).unwrap() {
            Written::All => return waits,
            Written::Full(next) => {
                assert!(next >= from);
                from = next;
                waits += 1;
                bell.recv_timeout(PATIENCE)
                    .expect("the worker was never woken");
            }
        }
    }
}

#[test]
#[ignore = "needs a Kafka"]
fn a_full_writer_is_woken_when_there_is_room_whoever_sets_the_limit() {
    let topic = topic("write-full", 1, &[]);
    let mut tiny = options();
    let limits = [
        ("queue.buffering.max.messages", "50"),
        ("queue.buffering.max.kbytes", "4"),
    ];
    tiny.properties = limits
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect();
    for (options, bytes) in [(tiny, 64 << 20), (options(), 10_000), (options(), 1)] {
        let before = read(&topic)[0].len();
        let sink = KafkaSink::new(topic.as_str(), options, false);
        sink.prepare().unwrap();
        // Two writers: each counts its own, and is woken for its own.
        let waits: usize = thread::scope(|scope| {
            let work = |worker| {
                let (mut share, bell) = share(worker, 2);
                share.buffer_bytes = bytes;
                let sink = &sink;
                scope.spawn(move || {
                    let mut writer = sink.open(share).unwrap();
                    let waits = fill(&mut *writer, &bell, 500);
                    writer.close().unwrap();
                    waits
                })
            };
            [work(0), work(1)]
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        sink.finish(true).unwrap();
        eprintln!("{waits} waits");
        assert!(waits > 0);
        assert_eq!(read(&topic)[0].len() - before, 1000);
    }
}

#[test]
#[ignore = "needs a Kafka"]
fn a_topic_tells_its_limits() {
    let config = [
        ("message.timestamp.after.max.ms", "1000"),
        ("retention.ms", "60000"),
        ("max.message.bytes", "5000"),
    ];
    let limited = KafkaSink::new(topic("write-limits", 1, &config), options(), false);
    let start = now();
    assert_eq!(
        limited.limits().unwrap(),
        TopicLimits {
            timestamp_after_max: Some(Duration::from_secs(1)),
            retention: Some(Duration::from_mins(1)),
            max_message_bytes: Some(5000),
        }
    );
    eprintln!("limits after {:?}", start.elapsed());
    let config = [
        ("message.timestamp.after.max.ms", "9223372036854775807"),
        ("retention.ms", "-1"),
    ];
    let free = KafkaSink::new(topic("write-limits", 1, &config), options(), false)
        .limits()
        .unwrap();
    assert_eq!((free.timestamp_after_max, free.retention), (None, None));
}

#[test]
#[ignore = "needs a Kafka"]
fn what_the_broker_refuses_is_said_by_the_next_call() {
    let topic = topic("write-refused", 1, &[("max.message.bytes", "1000")]);
    let (sink, mut writer) = open(&topic, options(), false);
    let mut batch = Batch::default();
    // Not compressible.
    let mut seed = 7_u64;
    let noise: String = (0..4000)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + u8::try_from((seed >> 40) % 90).unwrap())
        })
        .collect();
    add(&mut batch, &item(None, Some(&noise), 5), 0);
    assert_eq!(writer.write(&batch, 0).unwrap(), Written::All);
    let error = writer.close().unwrap_err().to_string();
    eprintln!("{error}");
    assert!(error.contains(&format!("`{topic}[0]`")) && error.contains("Message size too large"));
    assert_eq!(writer.write(&batch, 0).unwrap_err().to_string(), error);
    assert_eq!(sink.finish(false).unwrap_err().to_string(), error);
    // To this one the broker adds a sentence of its own.
    let late = self::topic(
        "write-refused",
        1,
        &[("message.timestamp.before.max.ms", "1000")],
    );
    let (_sink, mut writer) = open(&late, options(), false);
    let mut batch = Batch::default();
    add(&mut batch, &item(None, Some("old"), 5), 0);
    assert_eq!(writer.write(&batch, 0).unwrap(), Written::All);
    let error = writer.close().unwrap_err().to_string();
    assert!(
        error.contains(&format!("`{late}[0]`")) && error.contains("Invalid timestamp"),
        "{error}"
    );
}

#[test]
fn where_a_batch_ends_that_was_there_already_is_not_known_until_the_next_one() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let options = KafkaOptions::new(cluster.bootstrap_servers(), "connector-test");
    let config = options.producer();
    let base: BaseProducer<Context> = config.create_with_context(Context::default()).unwrap();
    let outbox = Outbox::start(Producer::new(base), "out".to_owned(), PATIENCE).unwrap();
    let topic = Topic::new(&outbox.producer, "out").unwrap();
    let (tag, tally) = outbox.join(Waker::new(|| {}));
    let mut written = 0;
    let mut write = |count: u64| {
        for _ in 0..count {
            let record = Outgoing {
                partition: 0,
                key: None,
                value: Some(b"x"),
                timestamp: None,
                headers: &[],
                tag,
            };
            outbox.producer.produce(&topic, &record).unwrap();
        }
        written += count;
        let start = now();
        while tally.records() < written {
            outbox.check().unwrap();
            assert!(start.elapsed() < PATIENCE, "it is not acknowledged");
            sleep(5);
        }
        outbox.ends()
    };
    let ends_at = |end| {
        let topic = "out".to_owned();
        vec![PartitionEnd {
            topic,
            partition: 0,
            end,
        }]
    };
    assert_eq!(write(5), ends_at(Some(5)));
    let there = RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[there]);
    assert_eq!(write(9), ends_at(None));
    // The cluster has not kept the nine.
    assert_eq!(write(2), ends_at(Some(7)));
    outbox.stop();
}
