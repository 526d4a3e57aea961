//! What needs a Kafka, or is one.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tempfile::tempdir;

use crate::program::{Running, bid, program};
use crate::topics::Topics;

/// From one record of a partition that is not silent to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Bids of these seconds, as records of Kafka.
fn fill(topics: &Topics, topic: &str, partition: i32, seconds: &[i64]) {
    let lines = seconds.iter().map(|second| bid(1, 5, second * 1_000));
    let lines: Vec<_> = lines.collect();
    let records = lines.iter().map(|line| (None, None, Some(line.as_bytes())));
    topics.fill(topic, partition, records);
}

#[test]
fn a_silent_partition_stops_holding_windows_after_the_idle_timeout() {
    let topics = Topics::new();
    let bids = Topics::fresh("bids");
    topics.create(&bids, 2);
    fill(&topics, &bids, 0, &[1, 2, 30]);
    fill(&topics, &bids, 1, &[3]);
    let folder = tempdir().unwrap();
    let source = format!("bids=kafka:{bids}");
    let sinks = "--sink stats=- --sink late=null: --sink dead=null: --idle-timeout 1s";
    let mut arguments: Vec<_> = sinks.split(' ').collect();
    arguments.extend(["--bootstrap", topics.bootstrap(), "--source", &source]);
    let mut running = Running::start(&mut program("bid_stats", folder.path(), &arguments));
    let result = thread::scope(|scope| {
        let (done, asked) = channel::<()>();
        let (topics, bids) = (&topics, &bids);
        // Only the other one is silent.
        scope.spawn(move || {
            while asked.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                fill(topics, bids, 0, &[30]);
            }
        });
        let result = running.next_out();
        drop(done);
        result
    });
    assert!(result.contains("\"window_start\":0,\"cnt\":3,"), "{result}");
    running.signal("TERM");
    let ended = running.ended_with_open_input();
    assert_eq!(ended.code, 0, "{}", ended.said());
    // It would say so after ten seconds, and they are the default.
    assert!(!ended.said().contains("windows wait"), "{}", ended.said());
}

#[test]
fn the_development_broker_creates_what_it_is_asked_for_if_it_may() {
    let folder = tempdir().unwrap();
    let arguments = ["broker", "--listen", "127.0.0.1:0", "--auto-create"];
    let mut running = Running::start(&mut program("anabranch", folder.path(), &arguments));
    let topics = Topics::at(running.next_out());
    assert_eq!(topics.partitions("new"), 0);
    fill(&topics, "new", 0, &[1]);
    assert_eq!(topics.read("new").len(), 1);
    running.signal("TERM");
    assert_eq!(running.ended_with_open_input().code, 0);
}
