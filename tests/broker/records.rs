//! Records come back as they were written: keys, values, headers, stamps, whatever compressed them;
//! and what a topic does not take is refused.

use std::time::{Duration, SystemTime};

use rdkafka::Offset;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::client::{DEADLINE, Kafka, assign, send_key, until};

/// A record with everything that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whole {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Timestamp,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn read_whole(kafka: &Kafka, topic: &str, count: usize) -> Vec<Whole> {
    let consumer = kafka.consumer("readers", &[("check.crcs", "true")]);
    assign(&consumer, topic, 0..1, Offset::Beginning);
    let mut read = Vec::new();
    until("records", || {
        match consumer.poll(Duration::from_millis(100)) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(message)) => read.push(Whole {
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                timestamp: message.timestamp(),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    let all = headers.iter();
                    all.map(|one| (one.key.to_owned(), one.value.map(<[u8]>::to_vec)))
                        .collect()
                }),
            }),
        }
        read.len() >= count
    });
    read
}

fn time() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "stamps that brokers take")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

/// Key, value, and names with values.
type Case<'a> = (
    Option<&'a [u8]>,
    Option<&'a [u8]>,
    &'a [(&'a str, Option<&'a [u8]>)],
);

#[test]
fn keys_values_headers_and_stamps_come_back() {
    let kafka = Kafka::here();
    let topic = kafka.topic("whole", 1, &[]);
    let producer = kafka.producer(&[]);
    let time = time();
    let headers = |names: &[(&str, Option<&[u8]>)]| {
        names.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value: *value })
        })
    };
    let cases: [Case<'_>; 4] = [
        (
            Some(b"k"),
            Some(b"v"),
            &[("twice", Some(b"1")), ("twice", Some(b"2")), ("none", None)],
        ),
        (None, Some(b"\0\xff"), &[]),
        (Some(b""), Some(b""), &[("", Some(b""))]),
        (Some(b"k"), None, &[]),
    ];
    for (number, (key, value, names)) in cases.iter().enumerate() {
        let mut record = BaseRecord::<[u8], [u8]>::to(&topic).partition(0);
        (record.key, record.payload) = (*key, *value);
        record.timestamp = Some(time + number as i64);
        let record = record.headers(headers(names));
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    let read = read_whole(&kafka, &topic, 4);
    for (number, (found, (key, value, names))) in read.iter().zip(cases).enumerate() {
        let expected = Whole {
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            timestamp: Timestamp::CreateTime(time + number as i64),
            headers: names
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
        };
        assert_eq!(*found, expected);
    }
}

#[test]
fn every_codec_passes_through() {
    let kafka = Kafka::here();
    let topic = kafka.topic("codecs", 1, &[]);
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer = kafka.producer(&[("compression.type", codec), ("linger.ms", "50")]);
        for number in 0..200 {
            let value = format!("{codec}-{number}-{}", "x".repeat(100));
            send_key(&producer, &topic, 0, Some(codec), Some(&value));
            expected.push(value);
        }
        producer.flush(DEADLINE).unwrap();
    }
    let read = read_whole(&kafka, &topic, 1000);
    let values = read
        .into_iter()
        .map(|whole| String::from_utf8(whole.value.unwrap()).unwrap());
    assert!(values.eq(expected));
}

/// Keeps what became of records.
#[derive(Default)]
struct Fates(std::sync::Mutex<Vec<Result<(), Code>>>);

impl rdkafka::ClientContext for Fates {}

impl ProducerContext for Fates {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let fate = result.as_ref().map(|_| ());
        let fate = fate.map_err(|(error, _)| error.rdkafka_error_code().unwrap());
        self.0.lock().unwrap().push(fate);
    }
}

/// What becomes of one record.
fn fate(kafka: &Kafka, topic: &str, timestamp: i64, bytes: usize) -> Result<(), Code> {
    let config = [("message.max.bytes", "10000000"), ("linger.ms", "0")];
    let producer: BaseProducer<Fates> = kafka
        .config(&config)
        .create_with_context(Fates::default())
        .unwrap();
    let value = vec![b'x'; bytes];
    let record = BaseRecord::<[u8], [u8]>::to(topic).partition(0);
    let record = record.payload(&value).timestamp(timestamp);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    let _ = producer.flush(DEADLINE);
    let fates = producer.context().0.lock().unwrap().clone();
    assert_eq!(fates.len(), 1);
    fates[0]
}

#[test]
fn a_batch_larger_than_the_topic_takes_is_refused() {
    let kafka = Kafka::here();
    let small = kafka.topic("small", 1, &[("max.message.bytes", "2000")]);
    let time = time();
    assert_eq!(fate(&kafka, &small, time, 1_900), Ok(()));
    assert_eq!(
        fate(&kafka, &small, time, 2_000),
        Err(Code::MessageSizeTooLarge)
    );
    let ordinary = kafka.topic("ordinary", 1, &[]);
    assert_eq!(fate(&kafka, &ordinary, time, 1_048_000), Ok(()));
    assert_eq!(
        fate(&kafka, &ordinary, time, 1_049_000),
        Err(Code::MessageSizeTooLarge)
    );
    let large = kafka.topic("large", 1, &[("max.message.bytes", "8000000")]);
    assert_eq!(fate(&kafka, &large, time, 7_000_000), Ok(()));
    let read = read_whole(&kafka, &large, 1);
    assert_eq!(read[0].value.as_ref().unwrap().len(), 7_000_000);
}

#[test]
fn stamps_out_of_range_are_refused() {
    let kafka = Kafka::here();
    let hour = 3_600_000;
    let now = time();
    let ordinary = kafka.topic("stamps", 1, &[]);
    assert_eq!(fate(&kafka, &ordinary, now + hour - 60_000, 1), Ok(()));
    assert_eq!(
        fate(&kafka, &ordinary, now + hour + 60_000, 1),
        Err(Code::InvalidTimestamp)
    );
    assert_eq!(fate(&kafka, &ordinary, 1, 1), Ok(()));
    let limits = [
        ("message.timestamp.before.max.ms", "60000"),
        ("message.timestamp.after.max.ms", "60000"),
    ];
    let narrow = kafka.topic("narrow", 1, &limits);
    assert_eq!(fate(&kafka, &narrow, now, 1), Ok(()));
    assert_eq!(
        fate(&kafka, &narrow, now - 120_000, 1),
        Err(Code::InvalidTimestamp)
    );
    assert_eq!(
        fate(&kafka, &narrow, now + 120_000, 1),
        Err(Code::InvalidTimestamp)
    );
}

#[test]
fn a_topic_may_stamp_records_itself() {
    let kafka = Kafka::here();
    let config = [
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "60000"),
    ];
    let topic = kafka.topic("stamped", 1, &config);
    let before = time();
    // Its limits are for stamps of others.
    assert_eq!(fate(&kafka, &topic, 1, 10), Ok(()));
    let codec = kafka.producer(&[("compression.type", "lz4"), ("linger.ms", "50")]);
    for _ in 0..100 {
        send_key(
            &codec,
            &topic,
            0,
            None,
            Some("some text, some text, some text"),
        );
    }
    codec.flush(DEADLINE).unwrap();
    let after = time();
    for whole in read_whole(&kafka, &topic, 101) {
        let Timestamp::LogAppendTime(stamp) = whole.timestamp else {
            panic!("{whole:?}");
        };
        assert!(
            (before - 1_000..=after + 1_000).contains(&stamp),
            "{before} {stamp} {after}"
        );
    }
}
