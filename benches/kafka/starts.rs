//! How long a job takes from the start of its process to its first result, and what it costs while
//! nothing comes. With `ANABRANCH_BENCH_ASSERT` set, what misses its goal is an error.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::support::{hold, median};

const RUNS: usize = 9;
const SILENCE: Duration = Duration::from_secs(10);
const PARTITIONS: u32 = 4;
/// Milliseconds to the first result.
const FILES_MAX: f64 = 50.0;
const KAFKA_MAX: f64 = 150.0;
const COMMITTED_MAX: f64 = 900.0;
/// Percents of a core.
const IDLE_MAX: f64 = 1.0;

/// A bid every second: two minutes of them close eleven windows.
fn bid(partition: u32, index: u64) -> String {
    let (auction, time) = (
        1_000 + u64::from(partition),
        1_714_137_600_000 + index * 1_000,
    );
    format!(
        "{{\"auction\":{auction},\"bidder\":2000,\"price\":{index},\"channel\":\"apple\",\
         \"date_time\":{time}}}"
    )
}

fn job() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bid_stats"));
    command
        .args([
            "--sink=late=null:",
            "--sink=dead=null:",
            "--quiet",
            "--workers=1",
        ])
        .stdin(Stdio::null());
    command
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    Instant::now()
}

/// Milliseconds from the start of the process to its first line, of files.
fn first_line(folder: &Path) -> f64 {
    let start = now();
    let child = job()
        .arg(format!("--source=bids=file:{}", folder.display()))
        .arg("--sink=stats=-")
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.expect("the job starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    lines.next().expect("a result").expect("text");
    let took = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(lines.count(), 47, "further results");
    assert!(child.wait().expect("it is our child").success());
    took
}

/// Milliseconds from the start of a live job to the first record that a read-committed reader sees
/// in the topic `to`, and the job. With `state`, it is exactly once.
fn first_record(broker: &Broker, from: &str, to: &str, state: Option<&Path>) -> (f64, Child) {
    broker.create(to, 1);
    let values = broker.reader(to);
    values.wait_for_ends();
    let start = now();
    let mut job = job();
    job.arg(format!("--bootstrap={}", broker.bootstrap))
        .arg(format!("--source=bids=kafka:{from}"))
        .arg(format!("--sink=stats=kafka:{to}"));
    if let Some(state) = state {
        job.arg("--state-dir").arg(state).args(["--job-id", to]);
    }
    let child = job.spawn().expect("the job starts");
    values.wait_for_one();
    (start.elapsed().as_secs_f64() * 1e3, child)
}

/// Nanoseconds of processor time of all threads that the process has now.
fn spent(child: &Child) -> f64 {
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
    let of = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let first = text
            .split(' ')
            .next()
            .and_then(|first| first.parse::<f64>().ok());
        first.unwrap_or(0.0)
    };
    threads.flatten().map(of).sum()
}

fn end(mut child: Child) {
    let killed = Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill").success());
    let status = child.wait().expect("it is our child");
    assert!(status.success(), "after SIGTERM: {status}");
}

/// Percents of a core that a job takes in a silence.
fn idle(child: &Child) -> f64 {
    thread::sleep(Duration::from_secs(1));
    let (start, before) = (now(), spent(child));
    thread::sleep(SILENCE);
    (spent(child) - before) / start.elapsed().as_secs_f64() / 1e7
}

/// Prints the figures of small runs.
pub(crate) fn report(broker: &Broker) {
    let folder = tempfile::tempdir().expect("a folder");
    for partition in 0..PARTITIONS {
        let lines: Vec<String> = (0..120).map(|index| bid(partition, index)).collect();
        let path = folder.path().join(format!("{partition}.jsonl"));
        fs::write(path, lines.join("\n")).expect("the file is written");
    }
    let files: Vec<f64> = (0..RUNS).map(|_| first_line(folder.path())).collect();
    let middle = median(files.clone());
    println!("first result from files after {middle:.0} ms (goal {FILES_MAX}): {files:.0?}");
    hold(middle <= FILES_MAX, "first result from files");

    broker.create("small", PARTITIONS);
    broker.fill("small", PARTITIONS, 120, |partition, index, value| {
        value.extend_from_slice(bid(partition, index).as_bytes());
    });
    let mut topics = Vec::new();
    for run in 0..RUNS {
        let (took, child) = first_record(broker, "small", &format!("first-{run}"), None);
        topics.push(took);
        if run == 0 {
            let idle = idle(&child);
            println!("idle on a silent topic: {idle:.2} % of a core (goal {IDLE_MAX})");
            hold(idle <= IDLE_MAX, "idle on a silent topic");
        }
        end(child);
    }
    let middle = median(topics.clone());
    println!("first result from Kafka after {middle:.0} ms (goal {KAFKA_MAX}): {topics:.0?}");
    hold(middle <= KAFKA_MAX, "first result from Kafka");

    let committed = (0..RUNS).map(|run| {
        let state = folder.path().join(format!("state-{run}"));
        let (took, child) = first_record(broker, "small", &format!("once-{run}"), Some(&state));
        end(child);
        took
    });
    let committed: Vec<f64> = committed.collect();
    let middle = median(committed.clone());
    println!(
        "first committed result of a fresh job after {middle:.0} ms (goal {COMMITTED_MAX}): \
         {committed:.0?}"
    );
    hold(middle <= COMMITTED_MAX, "first committed result");
}
