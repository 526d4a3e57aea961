//! Figures, printed: `cargo test --release kafka::tests::speed -- --ignored --nocapture
//! --test-threads 1`. Processor time is the machine's word for it, by thread.

use std::fs;

use super::writing::add;
use super::*;
use crate::connectors::kafka::KafkaSink;
use crate::connectors::{Batch, Sink, Written};

const COUNT: u64 = 1_000_000;
const PARTITIONS: u32 = 4;

/// Nanoseconds of processor time: of this thread, and of all threads, those that ended too.
fn spent() -> (u64, u64) {
    let thread = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let thread = thread.split(' ').next().unwrap().parse().unwrap();
    // Behind the name in parentheses; in ticks of 10 ms.
    let all = fs::read_to_string("/proc/self/stat").unwrap();
    let all: Vec<_> = all.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = all[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    (thread, ticks * 10_000_000)
}

struct Meter {
    start: std::time::Instant,
    spent: (u64, u64),
}

impl Meter {
    fn start() -> Self {
        Self {
            start: now(),
            spent: spent(),
        }
    }

    fn say(&self, what: &str, count: u64) {
        let (thread, all) = spent();
        eprintln!(
            "{what}: {} ns wall, {} ns of its thread, {} ns of all threads, each",
            u64::try_from(self.start.elapsed().as_nanos()).unwrap() / count,
            (thread - self.spent.0) / count,
            all.saturating_sub(self.spent.1) / count,
        );
    }
}

fn load(topic: &str) {
    let producer = producer(&[("linger.ms", "50"), ("queue.buffering.max.messages", "0")]);
    for n in 0..COUNT {
        let item = item(Some("key"), Some(&format!("{n:097}")), 1_700_000_000_000);
        send(
            &producer,
            topic,
            i32::try_from(n % u64::from(PARTITIONS)).unwrap(),
            &item,
        );
        if n % 10_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
#[ignore = "needs a Kafka, prints figures"]
fn consume() {
    let topic = topic("speed-consume", PARTITIONS.cast_signed(), &[]);
    load(&topic);
    for round in 0..4 {
        let begin = now();
        let source = KafkaSource::new(topic.as_str(), bounded());
        source.prepare().unwrap();
        let prepared = begin.elapsed();
        let (share, bell) = share(0, 1);
        let mut reader = source.open(share).unwrap();
        let opened = begin.elapsed();
        if round == 3 {
            sleep(1500);
        }
        let meter = Meter::start();
        let (mut count, mut bytes, mut ended, mut first, mut waits) = (0, 0, 0, None, 0);
        reader.discover().unwrap();
        while ended < PARTITIONS {
            let mut some = false;
            ended = 0;
            for partition in 0..PARTITIONS {
                let mut records = Vec::new();
                let fetched = reader.fetch(partition, 4096, &mut records).unwrap();
                count += records.len() as u64;
                bytes += records.iter().map(crate::event::Record::len).sum::<usize>();
                if !records.is_empty() {
                    first.get_or_insert(begin.elapsed());
                }
                some |= fetched == Fetched::Some;
                ended += u32::from(fetched == Fetched::End);
            }
            if !some && ended < PARTITIONS {
                waits += 1;
                bell.recv_timeout(PATIENCE).unwrap();
                while bell.try_recv().is_ok() {}
            }
        }
        meter.say("consume", count);
        eprintln!("  prepared {prepared:?}, opened {opened:?}, first {first:?}, {waits} waits");
        assert_eq!((count, bytes as u64), (COUNT, 100 * COUNT));
    }
}

#[test]
#[ignore = "needs a Kafka, prints figures"]
fn produce() {
    let topic = topic("speed-produce", PARTITIONS.cast_signed(), &[]);
    for _ in 0..3 {
        let begin = now();
        let sink = KafkaSink::new(topic.as_str(), options(), false);
        sink.prepare().unwrap();
        let prepared = begin.elapsed();
        let (share, bell) = share(0, 1);
        let mut writer = sink.open(share).unwrap();
        let mut batch = Batch::default();
        add(&mut batch, &item(Some("first"), Some("first"), 5), 0);
        assert_eq!(writer.write(&batch, 0).unwrap(), Written::All);
        writer.close().unwrap();
        eprintln!(
            "  prepared {prepared:?}, first acknowledged {:?}",
            begin.elapsed()
        );
        batch.clear();
        for n in 0..1000 {
            let key = format!("{n:03}");
            add(
                &mut batch,
                &item(Some(&key), Some(&format!("{n:097}")), 1_700_000_000_000),
                0,
            );
        }
        let meter = Meter::start();
        let mut waits = 0;
        for _ in 0..COUNT / 1000 {
            let mut from = 0;
            while let Written::Full(next) = writer.write(&batch, from).unwrap() {
                from = next;
                waits += 1;
                bell.recv_timeout(PATIENCE).unwrap();
            }
        }
        meter.say("write", COUNT);
        writer.close().unwrap();
        meter.say("write and close", COUNT);
        eprintln!("  {waits} waits");
        sink.finish(true).unwrap();
    }
}

#[test]
#[ignore = "needs a Kafka, prints figures"]
fn idle() {
    let topic = topic("speed-idle", PARTITIONS.cast_signed(), &[]);
    let (_source, mut drive) = Drive::new(&topic, options());
    let sink = KafkaSink::new(topic.as_str(), options(), false);
    sink.prepare().unwrap();
    drive.until(Fetched::CaughtUp);
    let before = spent().1;
    let begin = now();
    let mut wakes = 0;
    while begin.elapsed() < Duration::from_secs(10) {
        wakes += u32::from(drive.bell.recv_timeout(Duration::from_secs(1)).is_ok());
        drive.look();
        for partition in 0..PARTITIONS {
            assert_eq!(drive.fetch(partition, 10).0, Fetched::CaughtUp);
        }
    }
    let part = (spent().1 - before) / u64::try_from(begin.elapsed().as_micros()).unwrap();
    eprintln!("idle: {part} thousandths of a core, woken {wakes} times in 10 s");
}

#[test]
#[ignore = "needs a Kafka, prints figures"]
fn first_record() {
    let topic = topic("speed-first", PARTITIONS.cast_signed(), &[]);
    for _ in 0..20 {
        let begin = now();
        let sink = KafkaSink::new(topic.as_str(), options(), false);
        sink.prepare().unwrap();
        let prepared = begin.elapsed();
        let mut writer = sink.open(share(0, 1).0).unwrap();
        let mut batch = Batch::default();
        add(&mut batch, &item(Some("first"), Some("first"), 5), 0);
        assert_eq!(writer.write(&batch, 0).unwrap(), Written::All);
        writer.close().unwrap();
        eprint!(
            "  prepared {prepared:?}, first acknowledged {:?};",
            begin.elapsed()
        );
        let begin = now();
        let source = KafkaSource::new(topic.as_str(), bounded());
        source.prepare().unwrap();
        let prepared = begin.elapsed();
        let mut drive = Drive::open(&source, 0, 1);
        let opened = begin.elapsed();
        assert!(!drive.until(Fetched::End).is_empty());
        eprintln!(
            " prepared {prepared:?}, opened {opened:?}, read {:?}",
            begin.elapsed()
        );
    }
}

fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096 / 1024
}

#[test]
#[ignore = "needs a Kafka, prints figures"]
fn memory_of_buffers() {
    let topic = topic("speed-memory", PARTITIONS.cast_signed(), &[]);
    load(&topic);
    sleep(1000);
    for mib in [4, 16, 64] {
        let source = KafkaSource::new(topic.as_str(), bounded());
        source.prepare().unwrap();
        let before = resident();
        let (mut share, _bell) = share(0, 1);
        share.buffer_bytes = mib << 20;
        let mut reader = source.open(share).unwrap();
        sleep(3000);
        eprintln!("source of {mib} MiB, full: {} KiB", resident() - before);
        drop(reader.discover());
        drop(reader);
        sleep(500);
    }
}

#[test]
#[ignore = "needs a Kafka that may be killed"]
fn memory_of_a_full_sink() {
    let topic = topic("speed-memory", PARTITIONS.cast_signed(), &[]);
    let sink = KafkaSink::new(topic.as_str(), options(), false);
    sink.prepare().unwrap();
    let before = resident();
    let (mut share, _bell) = share(0, 1);
    share.buffer_bytes = 64 << 20;
    let mut writer = sink.open(share).unwrap();
    super::outage::broker("pause");
    let mut batch = Batch::default();
    for n in 0..1000 {
        add(
            &mut batch,
            &item(Some("key"), Some(&format!("{n:097}")), 1_700_000_000_000),
            0,
        );
    }
    let mut count = 0;
    while writer.write(&batch, 0).unwrap() == Written::All {
        count += batch.records.len();
    }
    sleep(1000);
    eprintln!(
        "sink of 64 MiB, full: {} KiB in {count} records",
        resident() - before
    );
    super::outage::broker("resume");
    writer.close().unwrap();
}
