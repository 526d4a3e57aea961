//! Compaction: the last record of each key stays where it is, the others go.

use std::collections::BTreeMap;

use rdkafka::producer::Producer;

use super::client::{DEADLINE, Kafka, now, send_key, until};
use crate::topics::Topics;

/// Compacts as soon as it can.
const EAGER: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "50"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("max.compaction.lag.ms", "100"),
    ("delete.retention.ms", "50"),
];

/// Goes on writing, so that segments are closed, until the topic holds no more than it must.
fn compacted(kafka: &Kafka, topic: &str, enough: impl Fn(&[(i32, i64, String)]) -> bool) {
    let producer = kafka.producer(&[]);
    until("compaction", || {
        let pause = now();
        while pause.elapsed().as_millis() < 100 {
            std::thread::yield_now();
        }
        send_key(&producer, topic, 0, Some("clock"), Some("tick"));
        producer.flush(DEADLINE).unwrap();
        enough(&kafka.read(topic, "read_committed"))
    });
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    let kafka = Kafka::here();
    for codec in ["none", "snappy", "zstd"] {
        let topic = kafka.topic("compacted", 1, &EAGER);
        let producer = kafka.producer(&[("compression.type", codec), ("linger.ms", "20")]);
        let mut last = BTreeMap::new();
        for number in 0..2_000_i64 {
            let key = format!("key-{}", number % 7 * (number % 3));
            let value = format!("{key}={number}");
            send_key(&producer, &topic, 0, Some(&key), Some(&value));
            last.insert(number, key.clone());
            last.retain(|other, name| *other == number || *name != key);
        }
        producer.flush(DEADLINE).unwrap();
        compacted(&kafka, &topic, |read| {
            let kept = read.iter().filter(|one| one.2 != "tick").count();
            assert!(kept >= last.len(), "{codec}: too few");
            kept == last.len()
        });
        let read = kafka.read(&topic, "read_committed");
        let kept = read.iter().filter(|one| one.2 != "tick");
        let expected = last.iter().map(|(at, key)| (*at, format!("{key}={at}")));
        assert!(
            kept.map(|one| (one.1, one.2.clone())).eq(expected),
            "{codec}: {read:?}"
        );
        assert_eq!(kafka.watermarks(&topic, 0).0, 0, "its start does not move");
    }
}

#[test]
fn aborted_records_do_not_hide_older_ones_and_deleted_keys_go() {
    let kafka = Kafka::here();
    let topic = kafka.topic("compacted", 1, &EAGER);
    let producer = kafka.transactional(&Topics::fresh("id"), &[]);
    let run = |pairs: &[(&str, Option<&str>)], commit| {
        producer.begin_transaction().unwrap();
        for (key, value) in pairs {
            send_key(&producer, &topic, 0, Some(key), *value);
        }
        producer.flush(DEADLINE).unwrap();
        if commit {
            producer.commit_transaction(DEADLINE).unwrap();
        } else {
            producer.abort_transaction(DEADLINE).unwrap();
        }
    };
    run(
        &[("a", Some("a1")), ("b", Some("b1")), ("c", Some("c1"))],
        true,
    );
    run(&[("a", Some("a2")), ("b", Some("b2"))], false);
    run(&[("b", Some("b3")), ("c", None)], true);
    compacted(&kafka, &topic, |read| {
        let kept: Vec<_> = read
            .iter()
            .filter(|one| one.2 != "tick")
            .map(|one| &*one.2)
            .collect();
        assert!(kept.contains(&"a1") && kept.contains(&"b3"), "{kept:?}");
        kept == ["a1", "b3"]
    });
}
