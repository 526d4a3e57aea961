//! Groups: members share partitions, and offsets outlive them.

use std::time::Duration;

use pollster::block_on;
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{DEADLINE, Kafka, send, take, until, values, write};
use super::transactions::committed;
use crate::topics::Topics;
use rdkafka::producer::Producer;

fn held(consumer: &BaseConsumer) -> usize {
    let _ = consumer.poll(Duration::from_millis(20));
    consumer.assignment().map_or(0, |list| list.count())
}

fn shares_between_two(strategy: &str) {
    let kafka = Kafka::here();
    let topic = kafka.topic("shared", 4, &[]);
    let group = Topics::fresh("group");
    let more = [("partition.assignment.strategy", strategy)];
    let first = kafka.consumer(&group, &more);
    first.subscribe(&[&topic]).unwrap();
    until("the first alone has all", || held(&first) == 4);
    let second = kafka.consumer(&group, &more);
    second.subscribe(&[&topic]).unwrap();
    until("each has two", || (held(&first), held(&second)) == (2, 2));
    let producer = kafka.producer(&[]);
    for partition in 0..4 {
        send(&producer, &topic, partition, &partition.to_string());
    }
    producer.flush(DEADLINE).unwrap();
    let mut read = [take(&first, 2), take(&second, 2)].concat();
    read.sort();
    assert_eq!(values(read), ["0", "1", "2", "3"]);
    drop(second);
    until("the first has all again", || held(&first) == 4);
}

#[test]
fn members_share_the_partitions_eagerly() {
    shares_between_two("range,roundrobin");
}

#[test]
fn members_share_the_partitions_cooperatively() {
    shares_between_two("cooperative-sticky");
}

#[test]
fn a_member_that_is_silent_loses_its_partitions() {
    let kafka = Kafka::here();
    let topic = kafka.topic("silent", 2, &[]);
    let group = Topics::fresh("group");
    let first = kafka.consumer(&group, &[]);
    first.subscribe(&[&topic]).unwrap();
    until("it has both", || held(&first) == 2);
    // It goes without leaving: a static member does.
    let silent = kafka.consumer(&group, &[("group.instance.id", "silent")]);
    silent.subscribe(&[&topic]).unwrap();
    until("each has one", || (held(&first), held(&silent)) == (1, 1));
    drop(silent);
    until("its session ends", || held(&first) == 2);
}

#[test]
fn a_static_member_takes_its_place_again() {
    let kafka = Kafka::here();
    let topic = kafka.topic("static", 2, &[]);
    let group = Topics::fresh("group");
    let join = |name| {
        let member = kafka.consumer(&group, &[("group.instance.id", name)]);
        member.subscribe(&[&topic]).unwrap();
        member
    };
    let (one, two) = (join("one"), join("two"));
    until("each has one", || (held(&one), held(&two)) == (1, 1));
    let had = one.assignment().unwrap();
    let again = join("one");
    until("it is back", || (held(&again), held(&two)) == (1, 1));
    let has = again.assignment().unwrap();
    assert_eq!(has.elements()[0].partition(), had.elements()[0].partition());
    // The one before is fenced. It is closed aside: librdkafka may wait for ever there.
    std::thread::spawn(move || drop(one));
}

#[test]
fn a_group_goes_on_where_it_committed() {
    let kafka = Kafka::here();
    let topic = kafka.topic("committed", 1, &[]);
    let group = Topics::fresh("group");
    write(&kafka, &topic, &["a", "b", "c"]);
    let first = kafka.consumer(&group, &[]);
    first.subscribe(&[&topic]).unwrap();
    take(&first, 3);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(2))
        .unwrap();
    list.set_all_offsets(Offset::Offset(2)).unwrap();
    first.commit(&list, CommitMode::Sync).unwrap();
    drop(first);
    let second = kafka.consumer(&group, &[]);
    assert_eq!(committed(&second, &topic), Offset::Offset(2));
    second.subscribe(&[&topic]).unwrap();
    assert_eq!(values(take(&second, 1)), ["c"]);
}

#[test]
fn offsets_without_a_group_are_committed_too_and_not_for_others() {
    let kafka = Kafka::here();
    let topic = kafka.topic("alone", 1, &[]);
    let group = Topics::fresh("group");
    let consumer = kafka.consumer(&group, &[]);
    assert_eq!(committed(&consumer, &topic), Offset::Invalid);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(7))
        .unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    assert_eq!(committed(&consumer, &topic), Offset::Offset(7));
    let member = kafka.consumer(&group, &[]);
    member.subscribe(&[&topic]).unwrap();
    until("a member", || held(&member) == 1);
    let refused = consumer.commit(&list, CommitMode::Sync).unwrap_err();
    assert_eq!(
        refused.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownMemberId)
    );
}

#[test]
fn subscribes_by_pattern_and_sees_topics_that_come_later() {
    let kafka = Kafka::here();
    let prefix = Topics::fresh("pattern");
    kafka.create(&format!("{prefix}-a"), 1, &[]).unwrap();
    let group = Topics::fresh("group");
    let consumer = kafka.consumer(&group, &[("topic.metadata.refresh.interval.ms", "300")]);
    consumer.subscribe(&[&format!("^{prefix}-.*")]).unwrap();
    until("the first", || held(&consumer) == 1);
    kafka.create(&format!("{prefix}-b"), 2, &[]).unwrap();
    until("and the second", || held(&consumer) == 3);
}

#[test]
fn groups_are_listed_and_deleted_when_they_are_empty() {
    let kafka = Kafka::here();
    let topic = kafka.topic("listed", 1, &[]);
    let group = Topics::fresh("group");
    let consumer = kafka.consumer(&group, &[]);
    consumer.subscribe(&[&topic]).unwrap();
    until("a member", || held(&consumer) == 1);
    let found = consumer.fetch_group_list(Some(&group), DEADLINE).unwrap();
    let found = &found.groups()[0];
    assert_eq!((found.state(), found.members().len()), ("Stable", 1));
    let admin = kafka.admin();
    let delete = || {
        let answer = block_on(admin.delete_groups(&[&group], &AdminOptions::new()));
        answer
            .unwrap()
            .into_iter()
            .next()
            .unwrap()
            .map_err(|(_, code)| code)
    };
    assert_eq!(delete(), Err(RDKafkaErrorCode::NonEmptyGroup));
    drop(consumer);
    until("it is deleted", || delete().is_ok());
    assert_eq!(delete(), Err(RDKafkaErrorCode::GroupIdNotFound));
}
