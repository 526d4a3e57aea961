use std::sync::Arc;

use super::*;
use crate::connectors::kafka::admin::Probe;
use crate::connectors::kafka::assignment::{Assignment, Span};
use crate::connectors::kafka::reader::KafkaReader;
use crate::connectors::kafka::scout::Scout;
use crate::connectors::{Reader as _, Start};
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

#[test]
#[ignore = "needs a Kafka"]
fn gives_keys_values_stamps_and_headers_as_they_were_written() {
    let topic = topic("read-all", 1, &[]);
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
        item(Some("k"), Some(""), 1),
        with_headers,
    ];
    write(&topic, 0, &items);
    let read = read(&topic);
    let expected: Vec<_> = (0..)
        .zip(items)
        .map(|(offset, item)| Item { offset, ..item })
        .collect();
    assert_eq!(read, [expected]);
}

#[test]
#[ignore = "needs a Kafka"]
fn workers_share_the_partitions_and_bounded_ones_end() {
    let topic = topic("read-share", 5, &[]);
    for partition in [0, 1, 3] {
        let items: Vec<_> = (0..1000)
            .map(|n| item(None, Some(&format!("{n}")), 5))
            .collect();
        write(&topic, partition, &items);
    }
    let source = KafkaSource::new(topic.as_str(), bounded());
    source.prepare().unwrap();
    write(&topic, 0, &[item(None, Some("after the start"), 5)]);
    write(&topic, 2, &[item(None, Some("after the start"), 5)]);
    let mut seen = vec![0; 5];
    for worker in 0..3 {
        let mut drive = Drive::open(&source, worker, 3);
        let read = drive.until(Fetched::End);
        assert!(
            drive
                .partitions
                .iter()
                .all(|partition| *partition as usize % 3 == worker)
        );
        for (partition, items) in read.iter().enumerate() {
            assert!(
                items
                    .iter()
                    .enumerate()
                    .all(|(n, item)| item.offset == n as u64)
            );
            seen[partition] += items.len();
        }
        for partition in drive.partitions.clone() {
            assert_eq!(
                drive.fetch(partition, 10).0,
                Fetched::End,
                "it stays at its end"
            );
            assert_eq!(drive.reader.backlog(partition), Some(0));
        }
    }
    assert_eq!(seen, [1000, 1000, 0, 1000, 0]);
}

#[test]
#[ignore = "needs a Kafka"]
fn only_committed_records_are_seen_and_markers_do_not_hide_the_end() {
    let topic = topic("read-committed", 3, &[]);
    let writer = producer(&[("transactional.id", &topic)]);
    writer.init_transactions(PATIENCE).unwrap();
    // 0: committed and a marker at the end. 1: aborted ones only. 2: markers between.
    for (partition, name, commit) in [
        (0, "a", true),
        (1, "b", false),
        (2, "c", true),
        (2, "d", false),
        (2, "e", true),
    ] {
        writer.begin_transaction().unwrap();
        for n in 0..3 {
            send(
                &writer,
                &topic,
                partition,
                &item(None, Some(&format!("{name}{n}")), 7),
            );
        }
        writer.flush(PATIENCE).unwrap();
        if commit {
            writer.commit_transaction(PATIENCE).unwrap();
        } else {
            writer.abort_transaction(PATIENCE).unwrap();
        }
    }
    let read = read(&topic);
    assert_eq!(values(&read[0]), ["a0", "a1", "a2"]);
    assert_eq!(read.get(1).map_or(0, Vec::len), 0);
    assert_eq!(values(&read[2]), ["c0", "c1", "c2", "e0", "e1", "e2"]);

    let (_source, mut live) = Drive::new(&topic, options());
    let lively = live.until(Fetched::CaughtUp);
    assert_eq!(lively, read);
    assert_eq!(live.reader.backlog(0), Some(0), "the marker counts as read");

    // What an open transaction holds back is not the end, and not caught up either.
    writer.begin_transaction().unwrap();
    send(&writer, &topic, 0, &item(None, Some("open"), 7));
    writer.flush(PATIENCE).unwrap();
    let again = Drive::new(&topic, bounded()).1.until(Fetched::End);
    assert_eq!(again, read);
    wait_until("there is more than may be read", || {
        let (fetched, items) = live.fetch(0, 10);
        assert!(items.is_empty(), "{items:?}");
        fetched == Fetched::Wait
    });
    writer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(values(&live.until(Fetched::CaughtUp)[0]), ["open"]);
}

#[test]
#[ignore = "needs a Kafka"]
fn a_compacted_tail_does_not_hide_the_end() {
    let config = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
        ("segment.ms", "100"),
        ("delete.retention.ms", "0"),
    ];
    let topic = topic("read-compacted", 1, &config);
    for n in 0..20 {
        write(&topic, 0, &[item(Some("k"), Some(&format!("{n}")), 7)]);
        sleep(20);
    }
    write(&topic, 0, &[item(Some("k"), None, 7)]);
    let read = read(&topic);
    assert_eq!(read[0].last().unwrap().value, None);
}

#[test]
#[ignore = "needs a Kafka"]
fn starts_where_it_is_told() {
    let topic = topic("read-start", 2, &[]);
    let base = 1_700_000_000_000;
    for partition in 0..2_i64 {
        let stamp = |n: i64| base + 100 * n + partition;
        let items: Vec<_> = (0..10)
            .map(|n| item(None, Some(&n.to_string()), stamp(n)))
            .collect();
        write(&topic, i32::try_from(partition).unwrap(), &items);
    }
    let from = |start| {
        Drive::new(&topic, KafkaOptions { start, ..bounded() })
            .1
            .until(Fetched::End)
    };
    let count = |read: &[Vec<Item>]| read.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(count(&from(Start::Earliest)), [10, 10]);
    assert_eq!(count(&from(Start::Latest)), [0, 0]);
    let time = |millis: i64| Start::Timestamp(EventTime::from(millis));
    assert_eq!(count(&from(time(base + 500))), [5, 5]);
    assert_eq!(count(&from(time(base + 501))), [4, 5]);
    assert_eq!(count(&from(time(base + 901))), [0, 1]);
    assert_eq!(
        count(&from(time(base + 5000))),
        [0, 0],
        "nothing is that late"
    );
    assert_eq!(
        count(&from(time(-3))),
        [10, 10],
        "not one of the protocol's special times"
    );

    let late = KafkaOptions {
        start: time(base + 5000),
        ..options()
    };
    let (_source, mut live) = Drive::new(&topic, late);
    write(&topic, 1, &[item(None, Some("new"), base + 6000)]);
    sleep(100);
    assert_eq!(values(&live.until(Fetched::CaughtUp)[1]), ["new"]);
}

#[test]
#[ignore = "needs a Kafka"]
fn a_parked_worker_is_woken_by_a_record_and_soon() {
    let topic = topic("read-wake", 2, &[]);
    let (_source, mut drive) = Drive::new(&topic, options());
    let start = now();
    drive.until(Fetched::CaughtUp);
    eprintln!("empty topic caught up after {:?}", start.elapsed());
    let writer = producer(&[]);
    send(&writer, &topic, 0, &item(None, Some("warm"), 7));
    writer.flush(PATIENCE).unwrap();
    sleep(300);
    drive.until(Fetched::CaughtUp);
    for partition in [0, 1, 0] {
        while drive.bell.try_recv().is_ok() {}
        let sent = now();
        send(&writer, &topic, partition, &item(None, Some("x"), 7));
        let mut got = Vec::new();
        while got.is_empty() {
            drive.bell.recv_timeout(PATIENCE).expect("not woken");
            got = drive.fetch(partition.cast_unsigned(), 10).1;
        }
        eprintln!("produced, woken and read within {:?}", sent.elapsed());
        writer.flush(PATIENCE).unwrap();
        drive.until(Fetched::CaughtUp);
        sleep(100);
    }
}

#[test]
#[ignore = "needs a Kafka"]
fn new_partitions_are_seen_soon_and_read_from_their_first_record() {
    let topic = topic("read-growth", 1, &[]);
    write(&topic, 0, &[item(None, Some("old"), 7)]);
    let source = KafkaSource::new(
        topic.as_str(),
        KafkaOptions {
            start: Start::Latest,
            ..options()
        },
    );
    source.prepare().unwrap();
    // The second worker has nothing to read at first, not even a client.
    let mut drives = [Drive::open(&source, 0, 2), Drive::open(&source, 1, 2)];
    for drive in &mut drives {
        drive.until(Fetched::CaughtUp);
    }
    grow(&topic, 4);
    let admin = admin();
    wait_until("the cluster tells of the new partitions", || {
        let found = admin.inner().fetch_metadata(Some(&topic), PATIENCE);
        found.unwrap().topics()[0].partitions().len() == 4
    });
    let start = now();
    // Written meanwhile, so that they are there when the reader is.
    let writer = thread::spawn({
        let topic = topic.clone();
        move || (0..4).for_each(|partition| write(&topic, partition, &[item(None, Some("new"), 7)]))
    });
    let (mut count, mut seen) = (0, None);
    while count < 4 {
        assert!(start.elapsed() < PATIENCE, "{count} of 4 read");
        for drive in &mut drives {
            let _ = drive.bell.recv_timeout(Duration::from_millis(5));
            drive.look();
            for partition in drive.partitions.clone() {
                for item in drive.fetch(partition, 10).1 {
                    count += 1;
                    eprintln!(
                        "partition {partition} offset {} {:?}",
                        item.offset,
                        start.elapsed()
                    );
                }
            }
        }
        if seen.is_none() && drives.iter().all(|drive| drive.partitions.len() == 2) {
            seen = Some(start.elapsed());
        }
    }
    writer.join().unwrap();
    let seen = seen.expect("none is read that was not seen");
    eprintln!("seen after {seen:?}, read after {:?}", start.elapsed());
    // Two are promised; the machine may be busy.
    assert!(seen < Duration::from_secs(5), "seen after {seen:?}");
    assert_eq!(drives[0].partitions, [0, 2]);
    assert_eq!(drives[1].partitions, [1, 3]);
}

/// What a lag tool sees of partition 0.
fn shown(topic: &str) -> Offset {
    let consumer: rdkafka::consumer::BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .set("group.id", format!("{topic}.lag"))
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let seen = rdkafka::consumer::Consumer::committed_offsets(&consumer, list, PATIENCE).unwrap();
    seen.elements()[0].offset()
}

#[test]
#[ignore = "needs a Kafka"]
fn offsets_are_shown_to_lag_tools_and_never_read() {
    let topic = topic("read-lag", 2, &[]);
    write(
        &topic,
        0,
        &[item(None, Some("a"), 7), item(None, Some("b"), 7)],
    );
    let mut mine = options();
    mine.group = topic.clone();
    let (_source, mut drive) = Drive::new(&topic, mine.clone());
    drive.until(Fetched::CaughtUp);
    drive.reader.passed(0, 1);
    assert_eq!(shown(&topic), Offset::Invalid, "not at each call");
    wait_until("offset 1 is shown", || {
        drive.reader.passed(0, 1);
        drive.look();
        shown(&topic) == Offset::Offset(1)
    });
    drive.reader.passed(0, 2);
    let start = now();
    drop(drive);
    eprintln!("dropped after {:?}", start.elapsed());
    assert_eq!(shown(&topic), Offset::Offset(2));
    let read = Drive::new(&topic, mine).1.until(Fetched::CaughtUp);
    assert_eq!(read[0].len(), 2, "the group decides nothing");
}

#[test]
#[ignore = "needs a Kafka"]
fn a_partition_that_the_client_does_not_go_on_with_ends_the_run() {
    let topic = topic("read-stalled", 1, &[]);
    let (name, options) = (Arc::from(&*topic), Arc::new(options()));
    let scout = Scout::start(Probe::new(&options).unwrap(), Arc::clone(&name), false).unwrap();
    let (share, _wakes) = share(0, 1);
    let assignment = Arc::new(Assignment::new(&name, &options, share));
    let span = Span {
        start: 0,
        end: None,
    };
    let mut reader = KafkaReader::open(Arc::clone(&assignment), &[(0, span)]).unwrap();
    scout.watch_for(&assignment, 1);
    let deadline = now() + PATIENCE;
    let mut read = |until: &str| loop {
        let mut records = Vec::new();
        let looked = reader
            .discover()
            .and_then(|_| reader.fetch(0, 10, &mut records));
        match looked {
            Ok(_) if until == "a record" && !records.is_empty() => return String::new(),
            Ok(_) => assert!(now() < deadline, "{until} does not come"),
            Err(why) => return why.to_string(),
        }
        sleep(10);
    };
    write(&topic, 0, &[item(None, Some("seen"), 5)]);
    assert_eq!(read("a record"), "");
    // As if it had forgotten it.
    let mut list = TopicPartitionList::new();
    list.add_partition(&topic, 0);
    assignment.consumer().unwrap().base.pause(&list).unwrap();
    // Not as long as there is nothing to read.
    write(&topic, 0, &[item(None, Some("not seen"), 5)]);
    let why = read("an error");
    let said = format!("`{topic}[0]`: the client gives nothing from offset 1 on, though the log");
    assert!(why.starts_with(&said), "{why}");
}
