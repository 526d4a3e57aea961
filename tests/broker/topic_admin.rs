//! Topics: made, told apart, grown, configured, shortened, deleted.

use std::time::Duration;

use pollster::block_on;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList as List};

use super::client::{DEADLINE, Kafka, assign, send, until, write};
use crate::topics::Topics;

#[test]
fn a_name_is_given_once_and_must_be_valid() {
    let kafka = Kafka::here();
    let name = kafka.topic("name", 2, &[]);
    assert_eq!(kafka.create(&name, 2, &[]), Err(Code::TopicAlreadyExists));
    let similar = name.replace('-', ".");
    kafka.create(&similar, 1, &[]).unwrap();
    assert_eq!(
        kafka.create(&similar.replace('.', "_"), 1, &[]),
        Err(Code::InvalidTopic)
    );
    for wrong in ["", ".", "..", "with space", "ünicode", &"x".repeat(250)] {
        // The client refuses some of them itself.
        let made = std::panic::catch_unwind(|| kafka.create(wrong, 1, &[]));
        assert!(!matches!(made, Ok(Ok(()))), "`{wrong}`");
    }
}

#[test]
fn what_cannot_be_created_is_refused_by_what_is_wrong() {
    let kafka = Kafka::here();
    let fresh = || Topics::fresh("wrong");
    let config = |key, value| kafka.create(&fresh(), 1, &[(key, value)]);
    assert_eq!(config("no.such.config", "1"), Err(Code::InvalidConfig));
    assert_eq!(config("retention.ms", "soon"), Err(Code::InvalidConfig));
    assert_eq!(config("cleanup.policy", "shred"), Err(Code::InvalidConfig));
    let name = fresh();
    let three = NewTopic::new(&name, 1, TopicReplication::Fixed(3));
    let made = block_on(kafka.admin().create_topics([&three], &AdminOptions::new())).unwrap();
    assert_eq!(
        made[0].as_ref().unwrap_err().1,
        Code::InvalidReplicationFactor
    );
    let only_check = AdminOptions::new().validate_only(true);
    let one = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let made = block_on(kafka.admin().create_topics([&one], &only_check)).unwrap();
    assert!(made[0].is_ok());
    kafka.create(&name, 1, &[]).unwrap();
}

fn partitions(kafka: &Kafka, topic: &str) -> usize {
    let consumer = kafka.consumer("readers", &[]);
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
    metadata.topics()[0].partitions().len()
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let kafka = Kafka::here();
    let topic = kafka.topic("grown", 2, &[]);
    write(&kafka, &topic, &["kept"]);
    let admin = kafka.admin();
    let grow = |count| {
        let wish = NewPartitions::new(&topic, count);
        let made = block_on(admin.create_partitions([&wish], &AdminOptions::new())).unwrap();
        made.into_iter()
            .next()
            .unwrap()
            .map(|_| ())
            .map_err(|(_, code)| code)
    };
    grow(5).unwrap();
    until("five partitions", || partitions(&kafka, &topic) == 5);
    assert_eq!(grow(3), Err(Code::InvalidPartitions));
    assert_eq!(grow(5), Err(Code::InvalidPartitions));
    let producer = kafka.producer(&[]);
    until("the new one takes records", || {
        send(&producer, &topic, 4, "new");
        producer.flush(DEADLINE).is_ok()
    });
    let mut all = kafka.all(&topic);
    all.sort();
    all.dedup();
    assert_eq!(all, ["kept", "new"]);
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let kafka = Kafka::here();
    let topic = kafka.topic("deleted", 1, &[]);
    write(&kafka, &topic, &["old"]);
    let admin = kafka.admin();
    let delete = || {
        let done = block_on(admin.delete_topics(&[&topic], &AdminOptions::new())).unwrap();
        done.into_iter()
            .next()
            .unwrap()
            .map(|_| ())
            .map_err(|(_, code)| code)
    };
    delete().unwrap();
    until("it is gone", || {
        delete() == Err(Code::UnknownTopicOrPartition)
    });
    until("the name is free", || kafka.create(&topic, 1, &[]).is_ok());
    until("an empty log", || kafka.watermarks(&topic, 0) == (0, 0));
    write(&kafka, &topic, &["new"]);
    assert_eq!(kafka.all(&topic), ["new"]);
}

#[test]
fn asking_for_a_topic_does_not_create_it() {
    let kafka = Kafka::here();
    let name = Topics::fresh("asked-for");
    let consumer = kafka.consumer("readers", &[("allow.auto.create.topics", "true")]);
    let metadata = consumer.fetch_metadata(Some(&name), DEADLINE).unwrap();
    assert!(metadata.topics()[0].error().is_some());
    let all = consumer.fetch_metadata(None, DEADLINE).unwrap();
    assert!(all.topics().iter().all(|topic| topic.name() != name));
}

/// A value, and whether it was set.
fn value(kafka: &Kafka, topic: &str, key: &str) -> (String, bool) {
    let wanted = [ResourceSpecifier::Topic(topic)];
    let answer = block_on(
        kafka
            .admin()
            .describe_configs(&wanted, &AdminOptions::new()),
    );
    let described = answer.unwrap().into_iter().next().unwrap().unwrap();
    let entry = described.get(key).unwrap_or_else(|| panic!("no {key}"));
    (
        entry.value.clone().unwrap_or_default(),
        matches!(entry.source, ConfigSource::DynamicTopic),
    )
}

#[test]
fn a_configuration_is_described_and_changed() {
    let kafka = Kafka::here();
    let topic = kafka.topic("configured", 1, &[("retention.ms", "600000")]);
    let set = (String::from("600000"), true);
    assert_eq!(value(&kafka, &topic, "retention.ms"), set);
    for (key, default) in [
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("min.insync.replicas", "1"),
        ("segment.bytes", "1073741824"),
        ("compression.type", "producer"),
    ] {
        let (found, is_set) = value(&kafka, &topic, key);
        assert_eq!((found.as_str(), is_set), (default, false), "{key}");
    }
    let alter = |key, value| {
        let wish = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set(key, value);
        let done = block_on(kafka.admin().alter_configs([&wish], &AdminOptions::new())).unwrap();
        done.into_iter()
            .next()
            .unwrap()
            .map(|_| ())
            .map_err(|(_, code)| code)
    };
    alter("cleanup.policy", "compact").unwrap();
    until("the new value", || {
        value(&kafka, &topic, "cleanup.policy").0 == "compact"
    });
    // It replaces everything that was set.
    assert_eq!(value(&kafka, &topic, "retention.ms").0, "604800000");
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    let kafka = Kafka::here();
    let topic = kafka.topic("shortened", 1, &[]);
    write(&kafka, &topic, &["a", "b", "c", "d"]);
    let admin = kafka.admin();
    let delete = |offset| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, offset).unwrap();
        let done: List = block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
        let one = &done.elements()[0];
        one.error().map(|()| one.offset())
    };
    assert_eq!(delete(Offset::Offset(2)).unwrap(), Offset::Offset(2));
    assert_eq!(kafka.watermarks(&topic, 0), (2, 4));
    assert_eq!(kafka.all(&topic), ["c", "d"]);
    assert!(delete(Offset::Offset(9)).is_err());
    // Whoever stands below the start is told so.
    let reader = kafka.consumer("readers", &[("auto.offset.reset", "error")]);
    assign(&reader, &topic, 0..1, Offset::Offset(1));
    until("out of range", || {
        let answer = reader.poll(Duration::from_millis(100));
        let code = answer
            .and_then(Result::err)
            .and_then(|error| error.rdkafka_error_code());
        matches!(code, Some(Code::OffsetOutOfRange | Code::AutoOffsetReset))
    });
    assert_eq!(delete(Offset::End).unwrap(), Offset::Offset(4));
    assert_eq!(kafka.watermarks(&topic, 0), (4, 4));
    write(&kafka, &topic, &["e"]);
    assert_eq!(
        kafka.read(&topic, "read_committed"),
        [(0, 4, "e".to_owned())]
    );
}
