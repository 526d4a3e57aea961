//! Transactions: all of it or nothing, to whoever reads committed records; one producer at a time.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{DEADLINE, Kafka, assign, send, take, to_the_end, until, write};
use crate::topics::Topics;

#[test]
fn what_is_committed_is_seen_and_what_is_aborted_is_not() {
    let kafka = Kafka::here();
    let topic = kafka.topic("isolation", 2, &[]);
    let producer = kafka.transactional(&Topics::fresh("id"), &[]);
    for (round, commit) in [(0, true), (1, false), (2, true), (3, false)] {
        producer.begin_transaction().unwrap();
        for partition in 0..2 {
            send(&producer, &topic, partition, &format!("{round}a"));
            send(&producer, &topic, partition, &format!("{round}b"));
        }
        producer.flush(DEADLINE).unwrap();
        if commit {
            producer.commit_transaction(DEADLINE).unwrap();
        } else {
            producer.abort_transaction(DEADLINE).unwrap();
        }
    }
    let mut committed = kafka.read(&topic, "read_committed");
    committed.sort();
    let expected = |partition| ["0a", "0b", "2a", "2b"].map(|value| (partition, value.to_owned()));
    let found: Vec<_> = committed
        .iter()
        .map(|(at, _, value)| (*at, value.clone()))
        .collect();
    assert_eq!(found, [expected(0), expected(1)].concat());
    // Markers take offsets too, and an aborted record keeps its own.
    assert_eq!(committed[2].1, 6);
    assert_eq!(kafka.all(&topic).len(), 16);
    assert_eq!(kafka.watermarks(&topic, 0), (0, 12));
}

#[test]
fn nobody_who_reads_committed_records_passes_an_open_transaction() {
    let kafka = Kafka::here();
    let topic = kafka.topic("open", 1, &[]);
    let producer = kafka.transactional(&Topics::fresh("id"), &[]);
    write(&kafka, &topic, &["before"]);
    producer.begin_transaction().unwrap();
    send(&producer, &topic, 0, "inside");
    producer.flush(DEADLINE).unwrap();
    write(&kafka, &topic, &["behind"]);
    let reader = kafka.consumer("readers", &[("isolation.level", "read_committed")]);
    assign(&reader, &topic, 0..1, Offset::Beginning);
    // It is told an end: the end of what is decided.
    let values = |read: Vec<(i32, i64, String)>| super::client::values(read);
    assert_eq!(values(to_the_end(&reader, 1)), ["before"]);
    assert_eq!(kafka.all(&topic), ["before", "inside", "behind"]);
    producer.commit_transaction(DEADLINE).unwrap();
    assert_eq!(values(take(&reader, 2)), ["inside", "behind"]);
}

#[test]
fn transactions_of_several_producers_interleave() {
    let kafka = Kafka::here();
    let topic = kafka.topic("interleaved", 1, &[]);
    let producers = [0, 1, 2].map(|_| kafka.transactional(&Topics::fresh("id"), &[]));
    for producer in &producers {
        producer.begin_transaction().unwrap();
    }
    for round in 0..3 {
        for (number, producer) in producers.iter().enumerate() {
            send(producer, &topic, 0, &format!("{number}{round}"));
            producer.flush(DEADLINE).unwrap();
        }
    }
    producers[1].abort_transaction(DEADLINE).unwrap();
    producers[2].commit_transaction(DEADLINE).unwrap();
    assert!(
        kafka.committed(&topic).is_empty(),
        "the first is open, and first"
    );
    producers[0].commit_transaction(DEADLINE).unwrap();
    let committed = kafka.committed(&topic);
    assert_eq!(committed, ["00", "20", "01", "21", "02", "22"]);
}

#[test]
fn a_second_producer_of_an_id_fences_the_first() {
    let kafka = Kafka::here();
    let topic = kafka.topic("fenced", 1, &[]);
    let id = Topics::fresh("id");
    let zombie = kafka.transactional(&id, &[]);
    zombie.begin_transaction().unwrap();
    send(&zombie, &topic, 0, "zombie");
    zombie.flush(DEADLINE).unwrap();
    let heir = kafka.transactional(&id, &[]);
    let fenced = zombie.commit_transaction(DEADLINE).unwrap_err();
    let KafkaError::Transaction(fenced) = fenced else {
        panic!("{fenced}");
    };
    assert!(fenced.is_fatal(), "{fenced}");
    assert_eq!(fenced.code(), RDKafkaErrorCode::Fenced, "{fenced}");
    heir.begin_transaction().unwrap();
    send(&heir, &topic, 0, "heir");
    heir.commit_transaction(DEADLINE).unwrap();
    assert_eq!(kafka.committed(&topic), ["heir"]);
}

#[test]
fn a_transaction_that_is_left_open_is_aborted() {
    let kafka = Kafka::here();
    let topic = kafka.topic("left", 1, &[]);
    // Long enough for what is looked at before it is over.
    let limits = [
        ("transaction.timeout.ms", "10000"),
        ("message.timeout.ms", "9000"),
    ];
    let left = kafka.transactional(&Topics::fresh("id"), &limits);
    left.begin_transaction().unwrap();
    send(&left, &topic, 0, "left");
    left.flush(DEADLINE).unwrap();
    write(&kafka, &topic, &["behind"]);
    assert!(kafka.committed(&topic).is_empty());
    until("the transaction is aborted", || {
        kafka.committed(&topic) == ["behind"]
    });
    assert!(left.commit_transaction(DEADLINE).is_err());
}

#[test]
fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    let kafka = Kafka::here();
    let (from, to) = (kafka.topic("from", 1, &[]), kafka.topic("to", 1, &[]));
    write(&kafka, &from, &["a", "b", "c"]);
    let consumer = kafka.consumer(&Topics::fresh("group"), &[]);
    consumer.subscribe(&[&from]).unwrap();
    take(&consumer, 3);
    let producer = kafka.transactional(&Topics::fresh("id"), &[]);
    let run = |value: &str, offset: i64, commit: bool| {
        producer.begin_transaction().unwrap();
        send(&producer, &to, 0, value);
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(&from, 0, Offset::Offset(offset))
            .unwrap();
        let group = consumer.group_metadata().unwrap();
        producer
            .send_offsets_to_transaction(&offsets, &group, DEADLINE)
            .unwrap();
        producer.flush(DEADLINE).unwrap();
        if commit {
            producer.commit_transaction(DEADLINE).unwrap();
        } else {
            producer.abort_transaction(DEADLINE).unwrap();
        }
    };
    run("one", 2, true);
    assert_eq!(committed(&consumer, &from), Offset::Offset(2));
    run("two", 3, false);
    assert_eq!(committed(&consumer, &from), Offset::Offset(2));
    assert_eq!(kafka.committed(&to), ["one"]);
}

pub(crate) fn committed(consumer: &BaseConsumer, topic: &str) -> Offset {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let mut found = Offset::Invalid;
    // While a transaction that stages offsets is ending, they are not stable.
    until("stable offsets", || {
        let answer = consumer.committed_offsets(list.clone(), Duration::from_secs(5));
        answer.is_ok_and(|list| {
            found = list.elements()[0].offset();
            true
        })
    });
    found
}
