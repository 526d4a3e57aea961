//! What a producer that numbers its batches may rely on, and what a fenced one is told.
//!
//! Caught here: a batch kept twice because its answer was lost; a gap that nobody notices; an old
//! epoch that still writes; a batch with wrong bytes in the log.

use super::client::Kafka;
use super::raw::{Batch, Raw};
use crate::topics::Topics;

const OK: i16 = 0;
const CORRUPT: i16 = 2;
const UNKNOWN_TOPIC: i16 = 3;
const OUT_OF_ORDER: i16 = 45;
const OLD_EPOCH: i16 = 47;
const WRONG_STATE: i16 = 48;
const WRONG_PRODUCER: i16 = 49;
const INVALID_RECORD: i16 = 87;

fn setup(name: &str) -> (Kafka, Raw, String) {
    let kafka = Kafka::here();
    let topic = kafka.topic(name, 1, &[]);
    let raw = Raw::connect(&kafka.bootstrap);
    (kafka, raw, topic)
}

#[test]
fn a_repeated_batch_is_answered_with_its_first_offset_and_kept_once() {
    let (kafka, mut raw, topic) = setup("repeated");
    let producer = raw.producer(None);
    let batch = |sequence| Batch::new(&["a", "b"]).by(producer, sequence).bytes();
    for (sequence, offset) in [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8)] {
        assert_eq!(raw.produce(None, &topic, &batch(sequence)), (OK, offset));
    }
    // The last five are known, in any order and again and again.
    for (sequence, offset) in [(8, 8), (0, 0), (4, 4), (8, 8)] {
        assert_eq!(raw.produce(None, &topic, &batch(sequence)), (OK, offset));
    }
    assert_eq!(kafka.watermarks(&topic, 0), (0, 10));
    // After one more, the first is out of memory.
    assert_eq!(raw.produce(None, &topic, &batch(10)), (OK, 10));
    assert_eq!(raw.produce(None, &topic, &batch(0)).0, OUT_OF_ORDER);
    assert_eq!(kafka.all(&topic).len(), 12);
}

#[test]
fn a_gap_is_refused_until_it_is_filled() {
    let (kafka, mut raw, topic) = setup("gap");
    let producer = raw.producer(None);
    let batch = |sequence, value: &'static str| Batch::new(&[value]).by(producer, sequence).bytes();
    assert_eq!(raw.produce(None, &topic, &batch(0, "a")), (OK, 0));
    assert_eq!(raw.produce(None, &topic, &batch(2, "c")).0, OUT_OF_ORDER);
    assert_eq!(raw.produce(None, &topic, &batch(1, "b")), (OK, 1));
    assert_eq!(raw.produce(None, &topic, &batch(2, "c")), (OK, 2));
    assert_eq!(kafka.all(&topic), ["a", "b", "c"]);
}

#[test]
fn sequences_go_round() {
    let (_, mut raw, topic) = setup("round");
    let producer = raw.producer(None);
    // A producer that is not known may begin anywhere.
    let batch = |sequence| Batch::new(&["a", "b", "c"]).by(producer, sequence).bytes();
    assert_eq!(raw.produce(None, &topic, &batch(i32::MAX - 1)), (OK, 0));
    assert_eq!(raw.produce(None, &topic, &batch(0)).0, OUT_OF_ORDER);
    assert_eq!(raw.produce(None, &topic, &batch(1)), (OK, 3));
}

#[test]
fn a_new_epoch_begins_at_zero_and_ends_the_old_one() {
    let (kafka, mut raw, topic) = setup("epochs");
    let id = Topics::fresh("id");
    let batch = |producer, sequence| {
        let batch = Batch::new(&["x"]).by(producer, sequence);
        batch.in_transaction().bytes()
    };
    let old = raw.producer(Some(&id));
    assert_eq!(raw.add_partition(&id, old, &topic), OK);
    assert_eq!(raw.produce(Some(&id), &topic, &batch(old, 0)), (OK, 0));
    let new = raw.producer(Some(&id));
    assert_eq!(new.0, old.0);
    assert!(new.1 > old.1);
    assert_eq!(raw.produce(Some(&id), &topic, &batch(old, 1)).0, OLD_EPOCH);
    assert_eq!(raw.add_partition(&id, old, &topic), OLD_EPOCH);
    assert_eq!(raw.end(&id, old, true), OLD_EPOCH);
    added(&mut raw, &id, new, &topic);
    assert_eq!(
        raw.produce(Some(&id), &topic, &batch(new, 7)).0,
        OUT_OF_ORDER
    );
    assert_eq!(raw.produce(Some(&id), &topic, &batch(new, 0)).0, OK);
    assert_eq!(raw.end(&id, new, true), OK);
    assert_eq!(kafka.committed(&topic), ["x"]);
}

/// Adds a partition, once the transaction before is ended everywhere.
fn added(raw: &mut Raw, id: &str, producer: (i64, i16), topic: &str) {
    super::client::until("the transaction before is ended", || {
        let error = raw.add_partition(id, producer, topic);
        assert!([OK, 51].contains(&error), "{error}");
        error == OK
    });
}

#[test]
fn a_transaction_writes_only_where_it_was_added() {
    let (kafka, mut raw, topic) = setup("stranger");
    let id = Topics::fresh("id");
    let producer = raw.producer(Some(&id));
    let batch = Batch::new(&["x"]).by(producer, 0).in_transaction().bytes();
    assert_eq!(raw.produce(Some(&id), &topic, &batch).0, WRONG_STATE);
    assert_eq!(raw.end(&id, producer, true), WRONG_STATE);
    assert_eq!(
        raw.add_partition(&id, producer, "no-such-topic"),
        UNKNOWN_TOPIC
    );
    let other = (producer.0 + 1_000_000, producer.1);
    assert_eq!(raw.add_partition(&id, other, &topic), WRONG_PRODUCER);
    assert_eq!(
        raw.add_partition("nobody", producer, &topic),
        WRONG_PRODUCER
    );
    added(&mut raw, &id, producer, &topic);
    assert_eq!(raw.produce(Some(&id), &topic, &batch), (OK, 0));
    assert_eq!(raw.end(&id, producer, true), OK);
    // Its answer was lost: the same again is the same; the contrary is not.
    assert_eq!(raw.end(&id, producer, true), OK);
    assert_eq!(raw.end(&id, producer, false), WRONG_STATE);
    let late = Batch::new(&["y"]).by(producer, 1).in_transaction().bytes();
    assert_eq!(raw.produce(Some(&id), &topic, &late).0, WRONG_STATE);
    assert_eq!(kafka.committed(&topic), ["x"]);
}

#[test]
fn wrong_bytes_stay_out_of_the_log() {
    let (kafka, mut raw, topic) = setup("wrong");
    let compacted = kafka.topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let good = Batch::new(&["a", "b"]).bytes();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(raw.produce(None, &topic, &flipped).0, CORRUPT);
    let two = [&good[..], &good[..]].concat();
    assert_eq!(raw.produce(None, &topic, &two).0, INVALID_RECORD);
    let more = Batch {
        count: 3,
        ..Batch::new(&["a", "b"])
    };
    assert_eq!(raw.produce(None, &topic, &more.bytes()).0, INVALID_RECORD);
    assert_eq!(raw.produce(None, &compacted, &good).0, INVALID_RECORD);
    assert_eq!(raw.produce(None, "no-such-topic", &good).0, UNKNOWN_TOPIC);
    assert_eq!(kafka.watermarks(&topic, 0), (0, 0));
    assert_eq!(kafka.watermarks(&compacted, 0), (0, 0));
    assert_eq!(raw.produce(None, &topic, &good), (OK, 0));
}
