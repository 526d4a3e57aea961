//! From the event that closes a window to the moment at which a read-committed reader sees its
//! results: `bid_stats` exactly once, against a bare loop with transactions of the same interval,
//! run in turn. `cargo bench --bench latency [-- SECONDS [ROUNDS]]`.
//!
//! Both get half of the bids a second that `bid_stats` reads while they are written, to the same
//! Kafka on the same machine, as fast as they can be: that is measured first.
//!
//! Bids carry the time at which they are made, and every partition has many a millisecond, so a
//! window is closed when its end has come. It starts a Kafka of its own, for which it needs Java
//! and Maven. With `ANABRANCH_BENCH_ASSERT` set, a ratio above its goal and half is an error.

#![allow(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    dead_code,
    missing_docs,
    reason = "a bench prints figures, and uses a part of what benches share"
)]

#[path = "latency/bare.rs"]
mod bare;
#[path = "kafka/broker.rs"]
mod broker;

use std::collections::{HashMap, HashSet};
use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use broker::Broker;
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u32 = 4;
const KEYS: u64 = 100;
/// Milliseconds of a window.
const SIZE: i64 = 100;
/// Seconds at full speed, of which half is the load.
const FULL: u64 = 10;
const WARM_UP: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);
/// As an argument, it makes this program the bare loop.
const LOOP: &str = "--loop";
const GOAL: f64 = 1.2;

/// By auction and start of a window.
type Counts = HashMap<(u64, i64), u64>;

#[derive(Deserialize)]
struct Found {
    auction: u64,
    window_start: i64,
    cnt: u64,
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    Instant::now()
}

/// Milliseconds since 1970, as the bids have them.
fn clock() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    let time = SystemTime::now();
    let time = time.duration_since(SystemTime::UNIX_EPOCH);
    time.expect("it is later").as_secs_f64() * 1e3
}

fn engine(broker: &Broker, (from, to): (&str, &str), interval: u64, state: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bid_stats"));
    command
        .arg(format!("--bootstrap={}", broker.bootstrap))
        .arg(format!("--source=bids=kafka:{from}"))
        .arg(format!("--sink=stats=kafka:{to}"))
        .args(["--sink=late=null:", "--sink=dead=null:", "--quiet"])
        .args(["--workers=1", "--set=lag=0s"])
        .arg(format!("--set=size={SIZE}ms"))
        .arg(format!("--job-id={to}"))
        .arg(format!("--checkpoint-interval={interval}ms"))
        .arg("--state-dir")
        .arg(state)
        .stdin(Stdio::null());
    command.spawn().expect("the job starts")
}

fn bare_loop(broker: &Broker, (from, to): (&str, &str), interval: u64) -> Child {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args([LOOP, &broker.bootstrap, from, to])
        .arg(interval.to_string())
        .stdin(Stdio::null());
    command.spawn().expect("the loop starts")
}

/// Writes `rate` bids a second, or as many as it can, each with the time at which it is written,
/// until it is told to stop; how many of each.
fn write(broker: &Broker, topic: &str, rate: Option<u64>, stop: &AtomicBool) -> Counts {
    let producer = broker.producer("1");
    let (mut counts, mut value) = (Counts::new(), String::new());
    let (began, mut index) = (now(), 0);
    while !stop.load(SeqCst) {
        let passed = began.elapsed().as_micros() as u64;
        let due = rate.map_or(index + 1_000, |rate| passed * rate / 1_000_000);
        let time = clock() as i64;
        for index in index..due {
            let auction = 1_000 + index / u64::from(PARTITIONS) % KEYS;
            value.clear();
            let told = std::fmt::Write::write_fmt(
                &mut value,
                format_args!(
                    "{{\"auction\":{auction},\"bidder\":2000,\"price\":{},\"channel\":\"apple\",\
                     \"date_time\":{time}}}",
                    index % 1_000
                ),
            );
            told.expect("memory takes it");
            let partition = (index % u64::from(PARTITIONS)) as i32;
            broker::append(&producer, topic, partition, value.as_bytes());
            *counts
                .entry((auction, time - time.rem_euclid(SIZE)))
                .or_default() += 1;
        }
        index = due;
        broker::serve(&producer);
        if rate.is_some() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    broker::flush(&producer);
    counts
}

/// One run of the engine or of the loop.
struct Run<'a> {
    name: &'a str,
    interval: u64,
    /// Bids a second; `None`: as many as can be written.
    rate: Option<u64>,
    seconds: u64,
}

/// What a reader sees, and the milliseconds at which it does.
type Seen = Vec<(f64, Found)>;

/// Does `run`, holds its results against what was written, and gives what was seen in all, and when
/// it was warm.
fn watch(broker: &Broker, run: &Run<'_>) -> (Seen, f64) {
    let name = run.name;
    let state = tempfile::tempdir().expect("a folder for state");
    let [from, to] = ["bids", "results"].map(|kind| format!("{kind}-{name}"));
    broker.create(&from, PARTITIONS);
    broker.create(&to, PARTITIONS);
    let topics = (&*from, &*to);
    let is_engine = name.starts_with("engine");
    let mut child = if is_engine {
        engine(broker, topics, run.interval, state.path())
    } else {
        bare_loop(broker, topics, run.interval)
    };
    let values = broker.reader(&to);
    let (stop, mut seen) = (AtomicBool::new(false), Seen::new());
    let warm = clock() + WARM_UP.as_secs_f64() * 1e3;
    let counts = thread::scope(|scope| {
        let writer = scope.spawn(|| write(broker, &from, run.rate, &stop));
        let until = now() + WARM_UP + Duration::from_secs(run.seconds);
        while now() < until {
            if let Some(value) = values.next(Duration::from_millis(100)) {
                let at = clock();
                seen.push((at, sonic_rs::from_slice(&value).expect("a result")));
            }
        }
        stop.store(true, SeqCst);
        writer.join().expect("the writer")
    });
    child.kill().expect("it runs");
    let _ = child.wait().expect("it is our child");
    let mut once = HashSet::new();
    for (_, found) in &seen {
        let window = (found.auction, found.window_start);
        assert!(once.insert(window), "{name}: {window:?} twice");
        assert_eq!(counts.get(&window), Some(&found.cnt), "{name}: {window:?}");
    }
    broker.delete(&from);
    broker.delete(&to);
    (seen, warm)
}

/// How many bids a second the engine counts while they are written as fast as they can be.
fn full_speed(broker: &Broker, interval: u64) -> u64 {
    let (seen, warm) = watch(
        broker,
        &Run {
            name: &format!("engine-{interval}-full"),
            interval,
            rate: None,
            seconds: FULL,
        },
    );
    let later = seen.iter().filter(|(at, _)| *at >= warm);
    later.map(|(_, found)| found.cnt).sum::<u64>() / FULL
}

/// How many milliseconds each result took.
fn measure(broker: &Broker, run: &Run<'_>) -> Vec<f64> {
    let (seen, warm) = watch(broker, run);
    let later = seen
        .iter()
        .filter(|(_, found)| found.window_start as f64 >= warm);
    let times: Vec<_> = later
        .map(|(at, found)| at - (found.window_start + SIZE) as f64)
        .collect();
    let (name, count) = (run.name, times.len());
    assert!(count as u64 > run.seconds * KEYS, "{name}: {count}");
    times
}

fn at(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// Shares of the results by the time that they took.
fn histogram(interval: u64, both: [&[f64]; 2]) {
    println!("| up to | engine | bare loop |\n|---|---|---|");
    let step = interval as f64 / 5.0;
    for nth in 1..=15 {
        let (from, to) = (step * f64::from(nth - 1), step * f64::from(nth));
        let share = |times: &[f64]| {
            let within = times.iter().filter(|time| (from..to).contains(*time));
            100.0 * within.count() as f64 / times.len() as f64
        };
        let shares = both.map(share);
        if shares.iter().any(|share| *share > 0.05) {
            println!("| {to:.0} ms | {:.1} % | {:.1} % |", shares[0], shares[1]);
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [mode, words @ ..] = &arguments[..]
        && mode == LOOP
    {
        return bare::run(words);
    }
    let mut numbers = arguments.iter().filter_map(|word| word.parse::<u64>().ok());
    let (seconds, rounds) = (numbers.next().unwrap_or(15), numbers.next().unwrap_or(3));
    let broker = match Broker::start() {
        Ok(broker) => broker,
        Err(missing) => return println!("SKIPPED: no Kafka can be started: {missing} is missing"),
    };
    for interval in [100, 1_000] {
        let full = full_speed(&broker, interval);
        let rate = full / 2;
        assert!(rate > 0, "nothing came of bids at full speed");
        let mut both = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            for (times, name) in both.iter_mut().zip(["engine", "bare"]) {
                let run = Run {
                    name: &format!("{name}-{interval}-{round}"),
                    interval,
                    rate: Some(rate),
                    seconds,
                };
                times.extend(measure(&broker, &run));
            }
        }
        let [engine, bare] = both.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times
        });
        println!(
            "\nA commit every {interval} ms, {rate} bids a second: half of {full}, at full speed"
        );
        println!("| | p50 | p90 | p99 | most |\n|---|---|---|---|---|");
        for (name, times) in [("engine", &engine), ("bare loop", &bare)] {
            let [p50, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(|part| at(times, part));
            println!("| {name} | {p50:.0} ms | {p90:.0} ms | {p99:.0} ms | {most:.0} ms |");
        }
        let ratio = at(&engine, 0.99) / at(&bare, 0.99);
        println!("p99 is {ratio:.2} of the bare loop's (goal {GOAL})");
        histogram(interval, [&engine, &bare]);
        let must = env::var_os("ANABRANCH_BENCH_ASSERT").is_some();
        assert!(!must || ratio <= GOAL * 1.5, "{ratio:.2}");
    }
}
