//! What each operator costs for a record, in processor time of the workers: a job with it less the
//! same job without it, in memory.
//! `cargo bench --bench operators [-- FILTER]`. Then bytes of state, and the longest activation of
//! any operator at ten million keys. Every run asserts what came out.
//!
//! With `ANABRANCH_BENCH_ASSERT` set, what misses half of its goal is an error, and so is an
//! activation of more than 20 ms in each of the runs.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench prints figures"
)]

#[path = "operators/activations.rs"]
mod activations;
#[path = "operators/jobs.rs"]
mod jobs;
#[path = "operators/json.rs"]
mod json;
#[path = "operators/made.rs"]
mod made;

use std::env;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use jobs::Case;
use made::{resident, take_spent};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a key and its count, sum and maximum in an open window.
const STATE_MAX: f64 = 80.0;

fn must_hold() -> bool {
    env::var_os("ANABRANCH_BENCH_ASSERT").is_some()
}

/// The processor time of a run of `case`, and the same for each record in nanoseconds.
fn run(case: &Case) -> (Duration, f64) {
    let _ = take_spent();
    (case.run)();
    let spent = take_spent();
    (spent, spent.as_secs_f64() * 1e9 / case.records as f64)
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The part that is the operator's own, and the goal for it.
fn tell(name: &str, goal: f64, with: Vec<f64>, without: Vec<f64>) {
    if with.is_empty() || without.is_empty() {
        return; // filtered out
    }
    let (with, without) = (middle(with), middle(without));
    let own = with - without;
    println!("| {name} | {own:.1} ns | {goal:.0} ns | {with:.1} - {without:.1} ns |");
    assert!(!must_hold() || own <= 2.0 * goal, "{name}: {own:.1} ns");
}

fn measure(criterion: &mut Criterion, case: &Case) -> Vec<f64> {
    let figures = Mutex::new(Vec::new());
    let mut group = criterion.benchmark_group("operators");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(3))
        .throughput(Throughput::Elements(case.records));
    group.bench_function(case.name, |bencher| {
        bencher.iter_custom(|times| {
            let one = |_| {
                let (spent, each) = run(case);
                figures.lock().expect("nobody panics").push(each);
                spent
            };
            (0..times).map(one).sum()
        });
    });
    group.finish();
    figures.into_inner().expect("nobody panics")
}

/// Bytes of resident memory for each key and window, after a warm-up on one key.
fn state() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let looks = Arc::clone(&seen);
    let keys = jobs::window_state(move || looks.lock().expect("nobody panics").push(resident()));
    let seen = seen.lock().expect("nobody panics");
    let each = (seen[1] - seen[0]) as f64 / keys as f64;
    println!("{each:.1} bytes of state for a key and window of count, sum and max (goal 80)");
    assert!(!must_hold() || each <= STATE_MAX, "{each:.1} bytes");
}

/// At ten million keys: some runs each, without criterion, which would take ten.
fn large() {
    println!("| ten million keys | own | goal | with - without |");
    println!("|---|---|---|---|");
    let watched = activations::Longest::default();
    let cases = jobs::large(&watched);
    for (name, goal, with, without) in &cases {
        let mut longest = Vec::new();
        let (mut figures, mut bases) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            bases.push(run(without).1);
            let _ = watched.take();
            figures.push(run(with).1);
            longest.push(watched.take());
        }
        tell(name, *goal, figures, bases);
        println!("|   longest activation (goal 20 ms), how many above 20 ms | {longest:.1?} |");
        // What the system took from the worker in one run, it does not take in each.
        let least = longest.iter().map(|run| run.1).fold(f64::MAX, f64::min);
        let holds = least <= activations::ACTIVATION_MAX;
        assert!(
            !must_hold() || holds,
            "{name}: an activation of {least:.1} ms"
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let is_filtered = env::args()
        .skip(1)
        .any(|argument| !argument.starts_with('-'));
    if !is_filtered {
        state();
    }
    let cases = jobs::small();
    let mut figures = Vec::new();
    for (name, goal, with, without) in &cases {
        let without = measure(&mut criterion, without);
        figures.push((name, *goal, measure(&mut criterion, with), without));
    }
    println!("| operator | own | goal | with - without |");
    println!("|---|---|---|---|");
    for (name, goal, with, without) in figures {
        tell(name, goal, with, without);
    }
    if !is_filtered {
        large();
    }
    criterion.final_summary();
}
