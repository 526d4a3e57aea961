//! What the loop is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::model::Variant;

/// Kills a job over and over, and holds what a reader sees against the oracle.
#[derive(Clone, Debug, Parser)]
#[command(name = "scripts/crash-loop")]
pub(crate) struct Arguments {
    /// How often the job is killed
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) kills: usize,
    /// The development broker in this process, or the Kafka of scripts/kafka
    #[arg(long, value_enum, default_value_t = BrokerKind::Embedded)]
    pub(crate) broker: BrokerKind,
    /// Which job
    #[arg(long, value_enum, default_value_t = Jobs::Both)]
    pub(crate) job: Jobs,
    /// Worker threads: 1, 2, … or random, another number at each start
    #[arg(long, value_name = "N|random", default_value = "random", value_parser = workers)]
    pub(crate) workers: Workers,
    /// Decides the logs and what is done; without it another one each time
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// How often the job is stopped, taken over, and woken again
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) zombies: usize,
    /// How often the broker is stopped or killed (Kafka only)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) restarts: usize,
    /// How often the state dir is deleted
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) rebuilds: usize,
    /// How often the network fails: a proxy cuts, delays, goes dark, holds ends of transactions
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) faults: usize,
    /// The job's --checkpoint-interval
    #[arg(long, value_name = "D", default_value = "200ms", value_parser = duration)]
    pub(crate) interval: Duration,
    /// Records produced a second
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    pub(crate) rate: usize,
    /// Keep the folder with state dirs and what the jobs said
    #[arg(long)]
    pub(crate) keep: bool,
    /// Write the summary to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    /// Run without a state dir: the loop has to find results that are there twice
    #[arg(long, conflicts_with_all = ["plant", "zombies", "rebuilds"])]
    pub(crate) at_least_once: bool,
    /// Kill a model of a job, which needs no engine; most variants are wrong
    #[arg(long, value_enum, conflicts_with = "at_least_once")]
    pub(crate) model: Option<Variant>,
    /// Only show that the checker fails on each planted error
    #[arg(long)]
    pub(crate) plant: bool,

    /// One more argument for the job, such as --with=--log-level=debug; may be given again
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) with: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BrokerKind {
    Embedded,
    Kafka,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Jobs {
    BidStats,
    UserActivity,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    Always(usize),
    Random,
}

fn workers(text: &str) -> Result<Workers, String> {
    if text == "random" {
        return Ok(Workers::Random);
    }
    let count = text.parse().ok().filter(|count| *count > 0);
    count
        .map(Workers::Always)
        .ok_or_else(|| "expected 1, 2, … or random".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

impl Arguments {
    /// The call that does the same again, as far as time allows.
    pub(crate) fn again(&self, seed: u64) -> String {
        let workers = match self.workers {
            Workers::Always(count) => count.to_string(),
            Workers::Random => "random".to_owned(),
        };
        let defaults = Self::parse_from(["crash-loop"]);
        let count = |count: usize| (count > 0).then(|| count.to_string());
        let interval = humantime::format_duration(self.interval).to_string();
        let flags = [
            ("kills", Some(self.kills.to_string())),
            ("broker", Some(name(&self.broker))),
            ("job", Some(name(&self.job))),
            ("workers", Some(workers)),
            ("seed", Some(seed.to_string())),
            ("zombies", count(self.zombies)),
            ("restarts", count(self.restarts)),
            ("rebuilds", count(self.rebuilds)),
            ("faults", count(self.faults)),
            (
                "interval",
                (self.interval != defaults.interval).then_some(interval),
            ),
            (
                "rate",
                (self.rate != defaults.rate).then(|| self.rate.to_string()),
            ),
            ("model", self.model.as_ref().map(name)),
        ];
        let given = flags.iter().filter_map(|(flag, value)| {
            let value = value.as_ref()?;
            Some(format!(" --{flag} {value}"))
        });
        let call = given.fold("scripts/crash-loop".to_owned(), |call, flag| call + &flag);
        call + if self.at_least_once {
            " --at-least-once"
        } else {
            ""
        }
    }
}

/// How a value is spelled on the command line.
pub(crate) fn name(value: &impl ValueEnum) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |value| value.get_name().to_owned())
}
