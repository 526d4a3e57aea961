//! Where a partition starts, ends, and has a time; and a reader that waits for what comes.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{DEADLINE, Kafka, assign, now, send, take, to_the_end, values, write};
use super::raw::{Raw, string};

/// The offset and the time that a topic answers for a wish, as `ListOffsets` puts it.
fn ask(raw: &mut Raw, topic: &str, wish: i64) -> (i64, i64) {
    let mut body = Vec::new();
    body.extend((-1_i32).to_be_bytes());
    body.push(0);
    body.extend(1_i32.to_be_bytes());
    string(&mut body, topic);
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend((-1_i32).to_be_bytes());
    body.extend(wish.to_be_bytes());
    let mut answer = raw.ask(2, 5, &body);
    answer.i32();
    answer.i32();
    answer.string();
    answer.i32();
    answer.i32();
    assert_eq!(answer.i16(), 0);
    let time = answer.i64();
    (answer.i64(), time)
}

#[test]
fn a_time_is_found_inside_batches_too() {
    let kafka = Kafka::here();
    let config = [("retention.ms", "-1")];
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = kafka.topic("times", 1, &config);
        let producer = kafka.producer(&[("compression.type", codec), ("linger.ms", "100")]);
        // The largest stands in the middle, and one time twice.
        for batch in [
            [100, 110, 120, 120],
            [500, 900, 130, 140],
            [600, 610, 620, 630],
        ] {
            for time in batch {
                let record = BaseRecord::<str, str>::to(&topic).partition(0);
                let value = "so that it is worth compressing: ".repeat(20);
                producer
                    .send(record.payload(&value).timestamp(time))
                    .map_err(|e| e.0)
                    .unwrap();
            }
            producer.flush(DEADLINE).unwrap();
        }
        let consumer = kafka.consumer("readers", &[]);
        let find = |time| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, 0, Offset::Offset(time))
                .unwrap();
            let found = consumer.offsets_for_times(list, DEADLINE).unwrap();
            found.elements()[0].offset()
        };
        for (time, offset) in [
            (0, 0),
            (100, 0),
            (101, 1),
            (120, 2),
            (121, 4),
            (501, 5),
            (900, 5),
        ] {
            assert_eq!(find(time), Offset::Offset(offset), "{codec}: {time}");
        }
        assert_eq!(find(901), Offset::End, "{codec}");
        let mut raw = Raw::connect(&kafka.bootstrap);
        assert_eq!(ask(&mut raw, &topic, -1).0, 12);
        assert_eq!(ask(&mut raw, &topic, -2).0, 0);
    }
}

#[test]
fn an_empty_partition_has_a_start_an_end_and_no_time() {
    let kafka = Kafka::here();
    let topic = kafka.topic("empty", 1, &[]);
    assert_eq!(kafka.watermarks(&topic, 0), (0, 0));
    let mut raw = Raw::connect(&kafka.bootstrap);
    assert_eq!(ask(&mut raw, &topic, 0), (-1, -1));
    let consumer = kafka.consumer("readers", &[]);
    assign(&consumer, &topic, 0..1, Offset::Beginning);
    assert!(to_the_end(&consumer, 1).is_empty());
}

#[test]
fn a_reader_at_the_end_is_woken_by_a_record() {
    let kafka = Kafka::here();
    let topic = kafka.topic("woken", 1, &[]);
    let consumer = kafka.consumer("readers", &[("fetch.wait.max.ms", "20000")]);
    assign(&consumer, &topic, 0..1, Offset::Beginning);
    // Its fetch is under way, and finds nothing.
    assert!(consumer.poll(Duration::from_secs(1)).is_none());
    let start = now();
    write(&kafka, &topic, &["x"]);
    assert_eq!(values(take(&consumer, 1)), ["x"]);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "long before the wait is over"
    );
}

#[test]
fn reads_from_any_offset_and_in_small_bites() {
    let kafka = Kafka::here();
    let topic = kafka.topic("bites", 2, &[]);
    let producer = kafka.producer(&[("batch.num.messages", "7")]);
    for number in 0..1_000 {
        send(&producer, &topic, number % 2, &number.to_string());
    }
    producer.flush(DEADLINE).unwrap();
    let small = [
        ("message.max.bytes", "1000"),
        ("fetch.message.max.bytes", "200"),
        ("fetch.max.bytes", "1000"),
        ("receive.message.max.bytes", "2000"),
    ];
    let consumer = kafka.consumer("readers", &small);
    assign(&consumer, &topic, 0..2, Offset::Offset(123));
    let mut read = to_the_end(&consumer, 2);
    read.sort_by_key(|one| (one.1, one.0));
    let expected = (123..500).flat_map(|at| [(0, at, 2 * at), (1, at, 2 * at + 1)]);
    assert!(
        read.into_iter()
            .eq(expected.map(|(p, at, value)| (p, at, value.to_string())))
    );
}
