//! What each operator costs for a record, in processor time of the workers: a job with it less the
//! same job without it, in memory; and beside it what the same costs in a plain loop, run in turn
//! with it, because nanoseconds say as much of the day as of the code.
//! `cargo bench --bench operators [-- FILTER]`. Then bytes of state, and the longest activation of
//! any operator at ten million keys. Every run asserts what came out.
//!
//! With `ANABRANCH_BENCH_ASSERT` set, what misses half of its goal both in nanoseconds and
//! beside the loop is an error, and so is an
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
#[path = "operators/plain.rs"]
mod plain;

use std::env;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use jobs::{Case, Measured};
use made::{resident, take_spent};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a key and its count, sum and maximum in an open window.
const STATE_MAX: f64 = 80.0;
/// The goals are 0.65 of what a loop reaches, and the floor is half of that.
const RATIO_MAX: f64 = 3.1;

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

fn middle(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// Nanoseconds of each run: of the job with the operator, of the one without, and of both loops.
#[derive(Default)]
struct Figures([Vec<f64>; 4]);

impl Figures {
    /// Runs all four in turn; gives the time of the first.
    fn add(&mut self, measured: &Measured) -> Duration {
        let (with, without) = (&measured.with, &measured.without);
        self.0[1].push(run(without).1);
        let (spent, each) = run(with);
        self.0[0].push(each);
        for (figures, plain) in self.0[2..].iter_mut().zip(measured.plain.iter().flatten()) {
            figures.push(run(plain).1);
        }
        spent
    }

    /// The part that is the operator's own beside its goal, and beside the same in a plain loop.
    fn tell(self, Measured { name, goal, .. }: &Measured) {
        let [Some(with), Some(without), in_loop, empty_loop] = self.0.map(middle) else {
            return; // filtered out
        };
        let own = with - without;
        let Some(plain) = in_loop
            .zip(empty_loop)
            .map(|(with, without)| with - without)
        else {
            println!("| {name} | {own:.1} | {goal:.0} | {with:.1} - {without:.1} | | |");
            assert!(!must_hold() || own <= 2.0 * goal, "{name}: {own:.1} ns");
            return;
        };
        let ratio = own / plain;
        println!(
            "| {name} | {own:.1} | {goal:.0} | {with:.1} - {without:.1} | {plain:.1} | {ratio:.2} |"
        );
        let holds = own <= 2.0 * goal || ratio <= RATIO_MAX;
        assert!(
            !must_hold() || holds,
            "{name}: {own:.1} ns, {ratio:.2} of a loop"
        );
    }
}

const HEAD: &str = "| operator | own ns | goal | with - without | in a loop | of the loop |\n\
                    |---|---|---|---|---|---|";

fn measure(criterion: &mut Criterion, measured: &Measured) -> Figures {
    let figures = Mutex::new(Figures::default());
    let mut group = criterion.benchmark_group("operators");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(3))
        .throughput(Throughput::Elements(measured.with.records));
    group.bench_function(measured.with.name, |bencher| {
        bencher.iter_custom(|times| {
            let mut figures = figures.lock().expect("nobody panics");
            (0..times).map(|_| figures.add(measured)).sum()
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
    println!("{HEAD}");
    let watched = activations::Longest::default();
    for measured in &jobs::large(&watched) {
        let (mut figures, mut longest) = (Figures::default(), Vec::new());
        for _ in 0..3 {
            figures.add(measured);
            longest.push(watched.take());
        }
        figures.tell(measured);
        println!("|   longest activation (goal 20 ms), how many above 20 ms | {longest:.1?} |");
        // What the system took from the worker in one run, it does not take in each.
        let least = longest.iter().map(|run| run.1).fold(f64::MAX, f64::min);
        let holds = least <= activations::ACTIVATION_MAX;
        let name = measured.name;
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
    let told: Vec<_> = jobs::small()
        .into_iter()
        .map(|measured| (measure(&mut criterion, &measured), measured))
        .collect();
    println!("{HEAD}");
    for (figures, measured) in told {
        figures.tell(&measured);
    }
    if !is_filtered {
        large();
    }
    criterion.final_summary();
}
