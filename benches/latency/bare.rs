//! The loop that the engine is held against: it consumes, closes windows and produces in
//! transactions of the same interval, and does nothing else; one thread, the client as it comes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Deserialize;

use super::{PARTITIONS, PATIENCE, SIZE, now};

#[derive(Deserialize)]
struct Bid {
    auction: i64,
    date_time: i64,
}

struct Bare {
    producer: BaseProducer,
    from: String,
    to: String,
    largest: [i64; PARTITIONS as usize],
    /// Where reading goes on.
    next: [i64; PARTITIONS as usize],
    windows: BTreeMap<i64, HashMap<i64, u64>>,
}

/// Runs until it is killed. `words`: brokers, topics, milliseconds between commits.
pub(super) fn run(words: &[String]) {
    let [bootstrap, from, to, interval] = words else {
        panic!("{words:?}");
    };
    let interval = Duration::from_millis(interval.parse().expect("a number"));
    let (consumer, mut bare) = open(bootstrap, from, to);
    bare.producer.init_transactions(PATIENCE).expect("an id");
    bare.producer.begin_transaction().expect("a transaction");
    let mut began = now();
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(1)) {
            let message = message.expect("a record");
            let at = usize::try_from(message.partition()).expect("small");
            bare.next[at] = message.offset() + 1;
            bare.take(at, message.payload().expect("a bid"));
        }
        bare.producer.poll(Duration::ZERO);
        if began.elapsed() >= interval {
            bare.commit(&consumer);
            began = now();
        }
    }
}

fn open(bootstrap: &str, from: &str, to: &str) -> (BaseConsumer, Bare) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let consumer: BaseConsumer = config
        .clone()
        .set("group.id", format!("bare-{to}"))
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS.cast_signed() {
        let added = list.add_partition_offset(from, partition, Offset::Beginning);
        added.expect("a place");
    }
    consumer.assign(&list).expect("an assignment");
    let producer: BaseProducer = config
        .set("transactional.id", format!("bare-{to}"))
        .create()
        .expect("a producer");
    let bare = Bare {
        producer,
        from: from.to_owned(),
        to: to.to_owned(),
        largest: [i64::MIN; PARTITIONS as usize],
        next: [0; PARTITIONS as usize],
        windows: BTreeMap::new(),
    };
    (consumer, bare)
}

impl Bare {
    fn take(&mut self, partition: usize, value: &[u8]) {
        let bid: Bid = sonic_rs::from_slice(value).expect("a bid");
        let start = bid.date_time - bid.date_time.rem_euclid(SIZE);
        *self
            .windows
            .entry(start)
            .or_default()
            .entry(bid.auction)
            .or_default() += 1;
        self.largest[partition] = self.largest[partition].max(bid.date_time);
        let watermark = *self.largest.iter().min().expect("some");
        let mut value = String::new();
        while let Some(window) = self.windows.first_entry()
            && *window.key() + SIZE <= watermark
        {
            let (start, counts) = window.remove_entry();
            for (auction, count) in counts {
                value.clear();
                let told = write!(
                    value,
                    "{{\"auction\":{auction},\"window_start\":{start},\"cnt\":{count}}}"
                );
                told.expect("memory takes it");
                let key = auction.to_string();
                let record = BaseRecord::to(&self.to).key(&key).payload(&value);
                self.producer
                    .send(record)
                    .map_err(|(why, _)| why)
                    .expect("room");
            }
        }
    }

    fn commit(&self, consumer: &BaseConsumer) {
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in (0..).zip(self.next) {
            let added = offsets.add_partition_offset(&self.from, partition, Offset::Offset(next));
            added.expect("a place");
        }
        let group = consumer.group_metadata().expect("a group");
        let producer = &self.producer;
        producer
            .send_offsets_to_transaction(&offsets, &group, PATIENCE)
            .expect("offsets");
        producer.commit_transaction(PATIENCE).expect("a commit");
        producer.begin_transaction().expect("a transaction");
    }
}
