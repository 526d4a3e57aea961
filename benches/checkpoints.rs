//! What checkpoints cost: for each key that changed, in longer activations, on disk, and until a
//! restart reads on. `cargo bench --bench checkpoints`.
//!
//! A job with a state directory against the same job without it, run in turn; every run asserts
//! what it left. With `ANABRANCH_BENCH_ASSERT` set, what misses half of its goal is an error.

#![allow(
    clippy::print_stdout,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    dead_code,
    missing_docs,
    reason = "a bench prints figures, and uses a part of what benches share"
)]

#[path = "operators/activations.rs"]
mod activations;
#[path = "operators/made.rs"]
mod made;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use activations::{ACTIVATION_MAX, Longest};
use anabranch::connectors::{NullSink, SinkPort};
use anabranch::prelude::*;
use made::Made;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const KEYS: u64 = 2_000_000;
const MANY: u64 = 10_000_000;
/// Longer than any run: one checkpoint is made, at the end.
const ONCE: Duration = Duration::from_hours(1);

/// What a key keeps: about a hundred bytes of state each.
type Row = [u64; 12];

/// Counts in the row of each key.
struct Rows {
    first: Arc<Mutex<Option<Instant>>>,
    seen: AtomicBool,
}

impl Process for Rows {
    type Key = u64;
    type In = u64;
    type Out = u64;
    type State = Row;

    fn on_event(&self, row: &mut Row, event: &Event<u64>, _: &mut ProcessContext<'_, Self>) {
        if !self.seen.swap(true, SeqCst) {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(now);
        }
        row[0] += 1;
        // Large numbers: small ones take a byte each.
        row[1..].fill(event.value.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63);
    }
}

/// How a run is done.
#[derive(Clone)]
struct Shape<'a> {
    keys: u64,
    /// All that the log has by now, for each worker.
    records: u64,
    workers: u32,
    dir: Option<&'a Path>,
    interval: Duration,
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    Instant::now()
}

/// Seconds of processor time of this process.
fn spent() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .expect("a name")
        .split(' ')
        .collect();
    let ticks = |nth: usize| fields[nth].parse::<f64>().expect("a number");
    (ticks(12) + ticks(13)) / 100.0
}

/// Runs `job` over the records that are new, and gives what it read.
fn run(job: &Job, shape: &Shape<'_>) -> u64 {
    let source = Made {
        partitions: shape.workers,
        records: shape.records,
        ..Made::default()
    };
    let mut settings = Settings::new()
        .workers(shape.workers as usize)
        .bind_source("in", source)
        .bind_sink("out", NullSink::new())
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    if let Some(dir) = shape.dir {
        settings = settings
            .state_dir(dir)
            .checkpoint_interval(shape.interval)
            .catch_up(true);
    }
    job.run(settings).expect("the job runs").read
}

/// Rows of a hundred bytes; `first` is when the first record came to them.
fn rows(keys: u64, first: &Arc<Mutex<Option<Instant>>>) -> Job {
    let first = Arc::clone(first);
    Job::new("rows", move |flow: &Flow<'_>| {
        let rows = Rows {
            first: Arc::clone(&first),
            seen: AtomicBool::new(false),
        };
        flow.source::<u64>("in")
            .decode(move |record| Ok::<_, String>(record.offset))
            .event_time(|event| *event as i64, Watermarks::lag(Duration::ZERO))
            .key_by(move |event| event % keys)
            .process("rows", rows)
            .sink("out", SinkPort::json);
        Ok(())
    })
}

/// Count, sum and maximum of each key in one window that stays open.
fn windows(keys: u64, watched: Option<&Longest>) -> Job {
    let watched = watched.cloned();
    Job::new("windows", move |flow: &Flow<'_>| {
        let windows = flow
            .source::<u64>("in")
            .decode(move |record| Ok::<_, String>(record.offset % keys))
            .event_time(|_| 0_i64, Watermarks::lag(Duration::ZERO))
            .key_by(|key| *key)
            .window(Tumbling::of(Duration::from_hours(24)))
            .aggregate(|a| (a.count(), a.sum(|key| *key), a.max(|key| *key)))
            .emit_final();
        let windows = match &watched {
            Some(watched) => watched.watch(windows),
            None => windows,
        };
        windows.map(|_| 0_u64).sink("out", SinkPort::json);
        Ok(())
    })
}

fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(known) if known.is_dir() => bytes_in(&entry.path()),
        Ok(known) => known.len(),
        Err(_) => 0, // deleted meanwhile
    });
    sizes.sum()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn hold(holds: bool, what: &str) {
    let must = env::var_os("ANABRANCH_BENCH_ASSERT").is_some();
    assert!(!must || holds, "{what}");
}

/// A run that saves all its keys once, less one that saves none.
fn each_key(name: &str, job: &Job) {
    let (mut costs, mut bytes) = (Vec::new(), 0);
    let shape = Shape {
        keys: KEYS,
        records: KEYS,
        workers: 1,
        dir: None,
        interval: ONCE,
    };
    run(job, &shape); // the first run has to ask the system for memory
    for _ in 0..ROUNDS {
        let began = spent();
        assert_eq!(run(job, &shape), KEYS);
        let without = spent() - began;
        let dir = folder();
        let began = spent();
        let shape = Shape {
            dir: Some(dir.path()),
            ..shape.clone()
        };
        assert_eq!(run(job, &shape), KEYS);
        costs.push(spent() - began - without);
        bytes = bytes_in(dir.path());
        assert!(bytes > KEYS * 20, "{bytes} bytes");
    }
    let cost = middle(costs);
    let (each, rate) = (cost / KEYS as f64 * 1e9, bytes as f64 / cost / 1e9);
    let size = bytes as f64 / KEYS as f64;
    println!(
        "| {name}: a changed key of {size:.0} bytes | {each:.0} ns, {rate:.2} GB/s | 100 ns |"
    );
    hold(each <= 200.0, name);
}

/// Runs `work`, and gives the most that was in `dir` meanwhile.
fn most_in(dir: &Path, work: impl FnOnce() + Send) -> u64 {
    thread::scope(|scope| {
        let work = scope.spawn(work);
        let mut most = 0;
        while !work.is_finished() {
            most = bytes_in(dir).max(most);
            thread::sleep(Duration::from_millis(2));
        }
        work.join().expect("the run ends well");
        bytes_in(dir).max(most)
    })
}

/// Every key changes again and again: what the disk holds at most, against what is alive.
fn disk() {
    let keys = KEYS / 4;
    let shape = Shape {
        keys,
        records: keys,
        workers: 1,
        dir: None,
        interval: ONCE,
    };
    let dir = folder();
    let most = most_in(dir.path(), || {
        let shape = Shape {
            records: keys * 40,
            dir: Some(dir.path()),
            interval: Duration::from_millis(100),
            ..shape
        };
        assert_eq!(run(&windows(keys, None), &shape), keys * 40);
    });
    let dir = folder();
    let shape = Shape {
        dir: Some(dir.path()),
        ..shape
    };
    assert_eq!(run(&windows(keys, None), &shape), keys);
    let ratio = most as f64 / bytes_in(dir.path()) as f64;
    println!("| disk, of what is alive | {ratio:.2} | 2.5 |");
    hold(ratio <= 3.0, "disk");
}

/// Thirty days of events, four a second, in windows of a minute: what the disk holds at most in
/// each third of them.
fn month() {
    let job = Job::new("month", |flow: &Flow<'_>| {
        flow.source::<u64>("in")
            .decode(|record| Ok::<_, String>(record.offset))
            .event_time(|event| *event as i64 * 250, Watermarks::lag(Duration::ZERO))
            .key_by(|event| event % 2_000)
            .window(Tumbling::of(Duration::from_mins(1)))
            .aggregate(|a| a.count())
            .emit_final()
            .map(|_| 0_u64)
            .sink("out", SinkPort::json);
        Ok(())
    });
    let (dir, third) = (folder(), 10 * 24 * 3_600 * 4);
    let thirds = [1, 2, 3].map(|nth| {
        most_in(dir.path(), || {
            let shape = Shape {
                keys: 2_000,
                records: nth * third,
                workers: 1,
                dir: Some(dir.path()),
                interval: Duration::from_millis(2),
            };
            assert_eq!(run(&job, &shape), third);
        })
    });
    let made = newest(dir.path());
    let kilobytes = thirds.map(|bytes| bytes / 1_000);
    println!(
        "| a month of windows, {made} checkpoints: most on disk in each third | {kilobytes:?} kB | \
         does not grow |"
    );
    assert!(made > 100, "{made} checkpoints");
    hold(thirds[2] <= thirds[1] * 3 / 2, "a month");
}

/// The number of the newest checkpoint.
fn newest(dir: &Path) -> u64 {
    let folders = fs::read_dir(dir).expect("the state directory").flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
    let names = files.flatten().map(|file| file.file_name());
    let number = |name: std::ffi::OsString| {
        let name = name.into_string().ok()?;
        let number = name.strip_prefix("checkpoint-")?.strip_suffix(".json")?;
        number.parse().ok()
    };
    names.filter_map(number).max().expect("a checkpoint")
}

/// Ten million keys under way, saved every half second.
fn activations() {
    for checkpoints in [false, true] {
        let (watched, dir) = (Longest::default(), folder());
        let shape = Shape {
            keys: MANY,
            records: 4 * MANY,
            workers: 1,
            dir: checkpoints.then(|| dir.path()),
            interval: Duration::from_millis(500),
        };
        run(&windows(MANY, Some(&watched)), &shape);
        let (name, longest, above) = watched.take();
        let with = if checkpoints { "with" } else { "without" };
        println!(
            "| longest activation at ten million keys, {with} checkpoints | {longest:.1} ms \
             ({name}), {above} above 20 ms | 20 ms |"
        );
        hold(longest <= ACTIVATION_MAX, "longest activation");
    }
}

/// A gigabyte of state: from the start of the job to the first record that it had not read.
fn restart() {
    let (dir, first) = (folder(), Arc::new(Mutex::new(None)));
    let job = rows(MANY, &first);
    let mut shape = Shape {
        keys: MANY,
        records: MANY,
        workers: 2,
        dir: Some(dir.path()),
        interval: ONCE,
    };
    run(&job, &shape);
    let gigabytes = bytes_in(dir.path()) as f64 / 1e9;
    let mut times = Vec::new();
    for _ in 0..3 {
        shape.records += 1_000;
        *first.lock().expect("nobody panics") = None;
        let began = now();
        assert_eq!(run(&job, &shape), 2_000, "only what is new");
        let first = first.lock().expect("nobody panics").expect("a record came");
        times.push(first.duration_since(began).as_secs_f64());
    }
    let time = middle(times);
    println!(
        "| restart with {gigabytes:.2} GB of state to the first new record | {time:.2} s | 2 s |"
    );
    hold(time <= 4.0, "restart");
}

fn main() {
    println!("| what | measured | goal |\n|---|---|---|");
    each_key("window of count, sum, max", &windows(KEYS, None));
    each_key("process", &rows(KEYS, &Arc::default()));
    disk();
    month();
    activations();
    restart();
}
