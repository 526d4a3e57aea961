//! `anabranch demo`: a job at work, without anything to install.

mod show;

use std::process::ExitCode;

use anabranch::cli;
use anabranch::connectors::generator::{GeneratorSource, GeneratorSpec, behaviour};
use anabranch::prelude::*;
use clap::Args;

use show::{FirstLetters, Minutes};

#[path = "../user_activity.rs"]
mod user_activity;

const PARTITIONS: u32 = 3;

/// What `demo` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Worker threads
    #[arg(short, long, default_value_t = 2)]
    workers: usize,
    /// Records in all
    #[arg(long, default_value_t = 180_000)]
    records: u64,
    /// Records a second; 0: as fast as they are taken
    #[arg(long, default_value_t = 40_000)]
    rate: u64,
    /// Other behaviour
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Arguments {
        workers,
        records,
        rate,
        seed,
    } = *arguments;
    let spec = GeneratorSpec::new("events", behaviour(seed))
        .partitions(PARTITIONS)
        .records(records / u64::from(PARTITIONS));
    let spec = if rate == 0 { spec } else { spec.rate(rate) };
    cli::say(&format!(
        "user_activity on {workers} workers: {records} events of 1,000 users in {PARTITIONS} \
         partitions; some come twice, in disorder, late or broken\n\
         what every user did in each minute (one result a user and minute; here their sums):"
    ));
    let settings = Settings::new()
        .workers(workers)
        .bind_source("events", GeneratorSource::new(spec))
        .bind_sink("activity", Minutes::default())
        .bind_sink("late", FirstLetters::new("late"))
        .bind_sink("dead", FirstLetters::new("dead"));
    let code = cli::run_settings(&user_activity::job(), &settings);
    if code == ExitCode::SUCCESS {
        cli::say(
            "next: user_activity --help · user_activity describe · \
             bid_stats --source bids=file:bids.jsonl --output-dir out",
        );
    }
    code
}
