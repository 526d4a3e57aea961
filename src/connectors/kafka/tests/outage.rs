//! What a broker that goes and comes back does to a job: nothing but delay.
//!
//! The broker must be one of `scripts/kafka`, at the same `KAFKA_PORT`.

use std::process::Command;

use super::writing::add;
use super::*;
use crate::connectors::kafka::KafkaSink;
use crate::connectors::{Batch, Sink, Written};

pub(super) fn broker(verb: &str) {
    let script = "scripts/kafka";
    let done = Command::new(script).arg(verb).output().unwrap();
    assert!(
        done.status.success(),
        "{verb}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// The next thousand records, in turn for two partitions.
fn thousand(written: &mut u32) -> Batch {
    let mut batch = Batch::default();
    for _ in 0..1000 {
        let record = item(None, Some(&written.to_string()), 7);
        add(&mut batch, &record, *written % 2);
        *written += 1;
    }
    batch
}

#[test]
#[ignore = "needs a Kafka that may be killed"]
fn a_broker_that_goes_is_waited_for() {
    let topic = topic("outage", 2, &[]);
    let (_source, mut drive) = Drive::new(&topic, options());
    let sink = KafkaSink::new(topic.as_str(), options(), false);
    sink.prepare().unwrap();
    let mut writer = sink.open(share(0, 1).0).unwrap();
    let mut written = 0;
    let mut got: Vec<Vec<Item>> = vec![Vec::new(); 2];
    for (down, up) in [("kill", "up"), ("pause", "resume"), ("kill", "up")] {
        let mut batch = thousand(&mut written);
        // Some before, some in flight, some while there is nobody.
        assert_eq!(writer.write(&batch, 500).unwrap(), Written::All);
        sleep(3);
        broker(down);
        batch.records.truncate(500);
        assert_eq!(writer.write(&batch, 0).unwrap(), Written::All);
        let start = now();
        while start.elapsed() < Duration::from_secs(12) {
            drive.look();
            for partition in 0..2 {
                let (fetched, items) = drive.fetch(partition, 100);
                got[partition as usize].extend(items);
                assert_ne!(fetched, Fetched::End);
            }
            writer.flush().unwrap();
            sleep(20);
        }
        broker(up);
        let start = now();
        while got.iter().map(Vec::len).sum::<usize>() < written as usize {
            let _ = drive.bell.recv_timeout(Duration::from_millis(100));
            drive.look();
            for partition in 0..2 {
                got[partition as usize].extend(drive.fetch(partition, 100).1);
            }
            assert!(start.elapsed() < PATIENCE);
        }
        eprintln!("after {down}: all there {:?} after {up}", start.elapsed());
    }
    writer.close().unwrap();
    sink.finish(true).unwrap();
    for items in &got {
        assert!(
            (0..).zip(items).all(|(offset, item)| item.offset == offset),
            "each once"
        );
    }
    let mut numbers: Vec<u32> = got
        .iter()
        .flat_map(|items| values(items))
        .map(|value| value.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..written), "all of them");
}

#[test]
#[ignore = "needs a Kafka that may be killed"]
fn a_close_without_a_broker_says_so_and_a_drop_does_not_hang() {
    let topic = topic("outage-close", 1, &[]);
    let (source, mut drive) = Drive::new(&topic, options());
    let quick = KafkaOptions {
        broker_timeout: Duration::from_secs(2),
        ..options()
    };
    let sink = KafkaSink::new(topic.as_str(), quick, false);
    sink.prepare().unwrap();
    let mut writer = sink.open(share(0, 1).0).unwrap();
    write(&topic, 0, &[item(None, Some("x"), 7)]);
    sleep(200);
    assert_eq!(drive.until(Fetched::CaughtUp)[0].len(), 1);
    drive.reader.passed(0, 1);
    broker("kill");
    let mut batch = Batch::default();
    add(&mut batch, &item(None, Some("lost"), 7), 0);
    assert_eq!(writer.write(&batch, 0).unwrap(), Written::All);
    let start = now();
    let error = writer.close().unwrap_err();
    eprintln!("{error} ({:?})", start.elapsed());
    assert!(error.to_string().contains("1 records"), "{error}");
    assert!(error.to_string().contains(&topic), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4));
    let start = now();
    drive.look();
    drop((drive, source, writer, sink));
    eprintln!("dropped within {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(6));
    broker("up");
}
