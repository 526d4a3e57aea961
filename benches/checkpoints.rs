//! What checkpoints cost: for each key that is saved, in longer activations, on disk, and until a
//! restart reads on. `cargo bench --bench checkpoints`.
//!
//! A job with a state directory against the same job without it, or with less to save, run in turn,
//! in processor time of its threads; every run asserts what it left. With `ANABRANCH_BENCH_ASSERT`
//! set, what misses its floor is an error.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    dead_code,
    missing_docs,
    reason = "a bench prints figures, and uses a part of what benches share"
)]

#[path = "operators/activations.rs"]
mod activations;
#[path = "checkpoints/disk.rs"]
mod disk;
#[path = "checkpoints/jobs.rs"]
mod jobs;
#[path = "checkpoints/keys.rs"]
mod keys;
#[path = "operators/made.rs"]
mod made;
#[path = "checkpoints/spent.rs"]
mod spent;

use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use activations::{ACTIVATION_MAX, Longest};
use anabranch::connectors::NullSink;
use anabranch::prelude::*;
use jobs::First;
use made::Made;
use spent::Spent;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u64 = 2_000_000;
const MANY: u64 = 10_000_000;
/// Rows that take a gigabyte on disk.
const GIGABYTE: u64 = 8_100_000;
/// Longer than any run: one checkpoint is made, at the end.
const ONCE: Duration = Duration::from_hours(1);

/// How a run is done.
#[derive(Clone)]
struct Shape<'a> {
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
    let summary = job.run(settings).expect("the job runs");
    assert_eq!((summary.late, summary.dead, summary.duplicates), (0, 0, 0));
    summary.read
}

/// The same, in processor time.
fn timed(job: &Job, shape: &Shape<'_>, read: u64) -> Spent {
    let (found, spent) = spent::over(|| run(job, shape));
    assert_eq!(found, read);
    assert!(!spent.workers.is_zero(), "no worker was noted");
    spent
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

/// The number of the newest checkpoint, and what its manifest says.
fn manifest(dir: &Path) -> (u64, serde_json::Value) {
    let folders = fs::read_dir(dir).expect("the state directory").flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
    let numbered = files.flatten().filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let number = name.strip_prefix("checkpoint-")?.strip_suffix(".json")?;
        Some((number.parse().ok()?, file.path()))
    });
    let (number, path) = numbered.max().expect("a checkpoint");
    let text = fs::read_to_string(path).expect("it is there");
    let line = text.lines().next().expect("a manifest");
    (number, serde_json::from_str(line).expect("JSON"))
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

/// `job` with ten million keys under way, saved every half second, and not saved.
fn activations(name: &str, records: u64, job: impl Fn(&Longest) -> Job) {
    for checkpoints in [false, true] {
        let (watched, dir) = (Longest::default(), folder());
        let shape = Shape {
            records,
            workers: 1,
            dir: checkpoints.then(|| dir.path()),
            interval: Duration::from_millis(500),
        };
        assert_eq!(run(&job(&watched), &shape), records, "{name}");
        let bytes = bytes_in(dir.path());
        assert!(!checkpoints || bytes > MANY * 20, "{name}: {bytes} bytes");
        let (operator, longest, above) = watched.take();
        let with = if checkpoints { "with" } else { "without" };
        println!(
            "| longest activation at ten million keys, {name}, {with} checkpoints | {longest:.1} \
             ms ({operator}), {above} above 20 ms | 20 ms |"
        );
        hold(
            longest <= ACTIVATION_MAX,
            &format!("{name}: an activation of {longest:.1} ms"),
        );
    }
}

/// A gigabyte of state: from the start of the job to the first record that it had not read.
fn restart() {
    let (dir, first) = (folder(), First::default());
    let job = jobs::rows(GIGABYTE, &first);
    let mut shape = Shape {
        records: GIGABYTE,
        workers: 2,
        dir: Some(dir.path()),
        interval: ONCE,
    };
    run(&job, &shape);
    let bytes = bytes_in(dir.path());
    let mut times = Vec::new();
    for _ in 0..3 {
        shape.records += 1_000;
        *first.lock().expect("nobody panics") = None;
        let began = now();
        assert_eq!(run(&job, &shape), 2_000, "only what is new");
        let first = first.lock().expect("nobody panics").expect("a record came");
        times.push(first.duration_since(began).as_secs_f64());
    }
    let time = middle(times.clone());
    println!(
        "| restart with {bytes} bytes of state to the first new record | {time:.2} s of \
         {times:.2?} | 2 s |"
    );
    assert!(bytes >= 1_000_000_000, "{bytes} bytes are no gigabyte");
    hold(time <= 2.0, "restart");
}

fn main() {
    println!("| what | measured | goal |\n|---|---|---|");
    keys::each("window of count, sum, max", &jobs::windows(KEYS, None));
    keys::each("process", &jobs::rows(KEYS, &First::default()));
    disk::changing();
    disk::month();
    activations("windows", 4 * MANY, |watched| {
        jobs::windows(MANY, Some(watched))
    });
    activations("dedup", 2 * MANY, |watched| jobs::ids(MANY, Some(watched)));
    activations("process with timers", 2 * MANY, |watched| {
        jobs::timers(MANY, Some(watched))
    });
    restart();
}
