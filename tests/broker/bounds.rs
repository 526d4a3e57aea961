//! What the development broker promises beside Kafka's protocol: memory within its bound, a quick
//! start, a clean end.

use std::net::TcpListener;
use std::time::Duration;

use anabranch::ErrorKind;
use anabranch::broker::DevBroker;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::client::{DEADLINE, Kafka, now, send_key, write};

const MEMORY: usize = 8 << 20;
/// As long as a start takes at most.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Writes so many values of a kilobyte that do not compress; keys go round.
fn pour(kafka: &Kafka, topic: &str, count: u64, keys: u64) -> BaseProducer {
    let producer = kafka.producer(&[("batch.size", "32000"), ("linger.ms", "5")]);
    for number in 0..count {
        let key = (number % keys).to_string();
        let value = format!("{number:01000}");
        let mut record = BaseRecord::to(topic).partition(0).key(&key).payload(&value);
        while let Err((KafkaError::MessageProduction(_), again)) = producer.send(record) {
            producer.poll(Duration::from_millis(5));
            record = again;
        }
    }
    producer.flush(DEADLINE).unwrap();
    producer
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[test]
fn the_oldest_records_go_when_memory_is_full() {
    let broker = DevBroker::builder()
        .memory(MEMORY)
        .topic("old", 1)
        .topic("new", 1);
    let broker = broker.start().unwrap();
    let kafka = Kafka::at(broker.bootstrap());
    pour(&kafka, "old", 4_000, 1);
    let full = kafka.watermarks("old", 0);
    assert_eq!(full, (0, 4_000));
    let before = resident();
    pour(&kafka, "new", 40_000, 1);
    assert!(broker.memory_used() <= MEMORY, "{}", broker.memory_used());
    assert!(broker.memory_used() > MEMORY / 2, "no more than must go");
    assert_eq!(
        kafka.watermarks("old", 0),
        (4_000, 4_000),
        "the older topic went first"
    );
    let (start, end) = kafka.watermarks("new", 0);
    assert_eq!(end, 40_000);
    assert!((30_000..36_000).contains(&start), "{start}");
    let read = kafka.read("new", "read_committed");
    let expected = (start..end).map(|at| (0, at, format!("{at:01000}")));
    assert!(read.into_iter().eq(expected), "what is left is whole");
    // The producer's own buffers are in it too.
    let grown = resident().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown}");
}

#[test]
fn compacted_topics_are_compacted_and_never_shortened() {
    let compact = [("cleanup.policy", "compact")];
    let broker = DevBroker::builder().memory(MEMORY);
    let broker = broker
        .topic_with("state", 1, compact)
        .topic("log", 1)
        .start()
        .unwrap();
    let kafka = Kafka::at(broker.bootstrap());
    pour(&kafka, "state", 2_000, 1_000);
    pour(&kafka, "log", 20_000, 1);
    // Updates of the same keys fit for ever.
    pour(&kafka, "state", 20_000, 1_000);
    let read = kafka.read("state", "read_committed");
    let mut last: Vec<_> = read
        .iter()
        .map(|one| one.2.parse::<u64>().unwrap())
        .collect();
    last.sort_unstable();
    last.drain(..last.len() - 1_000);
    assert!(last.into_iter().eq(19_000..20_000), "the last of each key");
    assert_eq!(kafka.watermarks("state", 0), (0, 22_000));
    assert!(broker.memory_used() <= MEMORY);
}

#[test]
fn a_topic_that_may_not_be_shortened_takes_no_more_than_there_is() {
    let broker = DevBroker::builder().memory(MEMORY);
    let broker = broker.topic_with("state", 1, [("cleanup.policy", "compact")]);
    let broker = broker.start().unwrap();
    let kafka = Kafka::at(broker.bootstrap());
    let producer = kafka.producer(&[("message.timeout.ms", "2000"), ("retry.backoff.ms", "50")]);
    for number in 0..12_000 {
        let value = format!("{number:01000}");
        send_key(
            &producer,
            "state",
            0,
            Some(&number.to_string()),
            Some(&value),
        );
    }
    let _ = producer.flush(DEADLINE);
    let kept = kafka.all("state").len();
    assert!((6_000..8_400).contains(&kept), "{kept}");
    assert!(broker.memory_used() <= MEMORY);
}

#[test]
fn retention_by_bytes_moves_the_start() {
    let limits = [("retention.bytes", "200000"), ("segment.bytes", "50000")];
    let kafka = Kafka::at(crate::topics::bootstrap());
    if crate::topics::is_real() {
        return; // There it is looked at every five minutes.
    }
    let topic = kafka.topic("retention", 1, &limits);
    pour(&kafka, &topic, 2_000, 1);
    let (start, end) = kafka.watermarks(&topic, 0);
    assert_eq!(end, 2_000);
    assert!((1_700..1_850).contains(&start), "{start}");
    assert_eq!(kafka.all(&topic).len() as i64, end - start);
}

#[test]
fn starts_at_once_and_ends_with_all_its_threads() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let own = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.starts_with("broker-")).count()
    };
    // One of some, for what else runs here has nothing to do with it.
    let mut starts = (0..50).map(|_| {
        let start = now();
        let broker = DevBroker::builder().topic("t", 4).start().unwrap();
        (start.elapsed(), broker)
    });
    let found = starts.find(|(took, _)| *took < AT_ONCE);
    let (took, broker) = found.expect("one starts at once");
    eprintln!("started within {took:?}, {} threads in all", threads());
    let kafka = Kafka::at(broker.bootstrap());
    write(&kafka, "t", &["x"]);
    assert!(own() >= 3);
    let address = broker.address();
    let waiting = kafka.consumer("readers", &[("fetch.wait.max.ms", "60000")]);
    super::client::assign(&waiting, "t", 0..1, rdkafka::Offset::End);
    // Its fetch is under way.
    let _ = waiting.poll(Duration::from_millis(500));
    let start = now();
    broker.stop();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(TcpListener::bind(address).expect("the port is free"));
}

#[test]
fn says_what_cannot_be() {
    let kind = |builder: anabranch::broker::DevBrokerBuilder| {
        let error = builder.start().unwrap_err();
        (error.kind(), error.to_string())
    };
    let taken = DevBroker::start().unwrap();
    let (what, why) = kind(DevBroker::builder().listen(taken.bootstrap()));
    assert_eq!(what, ErrorKind::Operating);
    assert!(why.contains(&taken.bootstrap()), "{why}");
    for (builder, names) in [
        (DevBroker::builder().listen("0.0.0.0:0"), "0.0.0.0:0"),
        (DevBroker::builder().listen("nowhere"), "nowhere"),
        (DevBroker::builder().memory(10), "10"),
        (DevBroker::builder().topic("a b", 1), "a b"),
        (DevBroker::builder().topic("none", 0), "none"),
        (
            DevBroker::builder().topic("twice", 1).topic("twice", 1),
            "twice",
        ),
        (
            DevBroker::builder().topic_with("t", 1, [("retention.msec", "1")]),
            "retention.msec",
        ),
    ] {
        let (what, why) = kind(builder);
        assert_eq!(what, ErrorKind::Usage, "{why}");
        assert!(why.contains(names), "{why}");
    }
    let remote = DevBroker::builder().listen("0.0.0.0:0").allow_remote(true);
    assert!(remote.start().is_ok());
}
