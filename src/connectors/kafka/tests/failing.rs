use super::*;
use crate::connectors::Sink;
use crate::connectors::kafka::KafkaSink;
use crate::error::{Error, ErrorKind};

fn with(name: &str, value: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new("127.0.0.1:1", "connector-test");
    options.broker_timeout = Duration::from_millis(700);
    options.properties = vec![(name.into(), value.into())];
    options
}

fn source(topic: &str, options: KafkaOptions) -> Error {
    KafkaSource::new(topic, options).prepare().unwrap_err()
}

fn sink(topic: &str, options: KafkaOptions) -> Error {
    KafkaSink::new(topic, options, false).prepare().unwrap_err()
}

#[test]
fn properties_of_the_engine_are_refused_by_name() {
    for name in [
        "enable.auto.commit",
        "transactional.id",
        "isolation.level",
        "group.id",
        "acks",
    ] {
        for error in [source("t", with(name, "1")), sink("t", with(name, "1"))] {
            assert_eq!(error.kind(), ErrorKind::Usage);
            let sentence = format!("property `{name}` is not settable: the engine owns it");
            assert_eq!(error.to_string(), sentence);
        }
    }
    let error = source("t", with("bootstrap.servers", "x:1"));
    assert!(error.to_string().contains("--bootstrap"), "{error}");
}

#[test]
fn properties_that_nobody_knows_are_refused_by_name() {
    for (name, value) in [
        ("no.such.thing", "1"),
        ("linger.ms", "soon"),
        ("acks.all", "1"),
    ] {
        let error = source("t", with(name, value));
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        eprintln!("{error}");
    }
    let error = sink("t", with("security.protocol", "no-secrets-here"));
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    let error = sink("t", with("ssl.key.password.x", "hunter2"));
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let shown = format!("{:?}", with("sasl.password", "hunter2"));
    assert!(
        !shown.contains("hunter2") && shown.contains("sasl.password"),
        "{shown}"
    );
}

#[test]
fn brokers_that_do_not_answer_are_named_in_time() {
    for prepare in [source, sink] {
        let start = now();
        let error = prepare("t", with("client.id", "x"));
        eprintln!("{error}");
        assert_eq!(error.kind(), ErrorKind::Operating);
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}

#[test]
#[ignore = "needs a Kafka"]
fn a_missing_topic_comes_with_the_command_that_makes_it() {
    for prepare in [source, sink] {
        let start = now();
        let error = prepare("no-such-topic", options());
        assert_eq!(error.kind(), ErrorKind::Usage);
        let command = format!(
            "topic `no-such-topic` does not exist; create it: kafka-topics.sh --bootstrap-server \
             {} --create --topic no-such-topic --partitions 1, or run the job with --create-topics",
            bootstrap()
        );
        assert_eq!(error.to_string(), command);
        eprintln!("missing after {:?}", start.elapsed());
    }
}

/// Deletes what lies before `offset`.
fn delete(topic: &str, offset: i64) {
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(topic, 0, rdkafka::Offset::Offset(offset))
        .unwrap();
    let deleted = block_on(admin().delete_records(&list, &AdminOptions::new())).unwrap();
    deleted.elements()[0].error().unwrap();
}

/// What partition 0 fails with, which it must do before it gives anything.
fn failure(drive: &mut Drive) -> Error {
    drive.look();
    loop {
        let mut records = Vec::new();
        match drive.reader.fetch(0, 10, &mut records) {
            Ok(fetched) => assert!(matches!(fetched, Fetched::Wait | Fetched::CaughtUp)),
            Err(error) => return error,
        }
        drive.bell.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
#[ignore = "needs a Kafka"]
fn records_deleted_before_they_were_read_are_a_matter_of_state() {
    let topic = topic("fail-gap", 1, &[]);
    let items: Vec<_> = (0..10)
        .map(|n| item(None, Some(&n.to_string()), 7))
        .collect();
    write(&topic, 0, &items);
    let source = KafkaSource::new(topic.as_str(), options());
    source.prepare().unwrap();
    delete(&topic, 5);
    let mut drive = Drive::open(&source, 0, 1);
    let error = failure(&mut drive);
    eprintln!("{error}");
    // Nothing was read yet, so another start may find a first record.
    assert_eq!(error.kind(), ErrorKind::Operating);
    assert!(error.to_string().contains("no longer has offset 0"));
}

#[test]
#[ignore = "needs a Kafka"]
fn records_deleted_in_the_middle_of_a_run_are_a_matter_of_state() {
    let topic = topic("fail-gap-later", 1, &[]);
    let items: Vec<_> = (0..5)
        .map(|n| item(None, Some(&n.to_string()), 7))
        .collect();
    write(&topic, 0, &items);
    let (_source, mut drive) = Drive::new(&topic, options());
    assert_eq!(drive.until(Fetched::CaughtUp)[0].len(), 5);
    // An open transaction holds the reader where it is.
    let writer = producer(&[("transactional.id", &topic)]);
    writer.init_transactions(PATIENCE).unwrap();
    writer.begin_transaction().unwrap();
    for item in &items {
        send(&writer, &topic, 0, item);
    }
    writer.flush(PATIENCE).unwrap();
    delete(&topic, 8);
    let error = failure(&mut drive);
    eprintln!("{error}");
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("[0]` no longer has offset 5"));
}

#[test]
#[ignore = "needs a Kafka"]
fn where_a_topic_begins_is_found_out() {
    let topic = topic("begins", 2, &[]);
    let items: Vec<_> = (0..10)
        .map(|n| item(None, Some(&n.to_string()), 7))
        .collect();
    write(&topic, 0, &items);
    delete(&topic, 5);
    let source = KafkaSource::new(topic.as_str(), options());
    assert!(source.begins().is_empty());
    source.prepare().unwrap();
    let since = now();
    while source.begins().is_empty() {
        assert!(since.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(source.begins(), [(0, 5), (1, 0)].into());
}
