//! `anabranch checkpoint`: what a state directory holds, and whether it is whole. Nothing is
//! changed there, and a job may run meanwhile.

mod committed;
mod list;
mod save;
mod show;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::args::Output;
use super::cluster::Cluster;
use super::{console, end, out};
use crate::error::{Error, ErrorKind, Result};
use crate::state::disk::RealDisk;
use crate::state::manifest::Manifest;
use crate::state::store;
use crate::time::EventTime;
use committed::{Committed, ask};

/// How often a directory is looked at again that a job has changed meanwhile.
const LOOKS: usize = 20;

/// What `checkpoint` can be told.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the checkpoints of a state directory, the newest last
    ///
    /// With a Kafka sink the job's progress topic says which one is committed: the newest or the
    /// one before it. With --bootstrap it is asked; else nobody knows, and without a Kafka sink it
    /// is the newest.
    #[command(after_help = "Examples:\n  anabranch checkpoint list state/bids\n  \
                            anabranch checkpoint list state/bids --bootstrap kafka:9092")]
    List(Place),
    /// Show what a checkpoint holds: sources and offsets, operators and their state, logs
    ///
    /// Entries and bytes of an operator are those in the logs: what changed after everything was
    /// last saved stands there once for each checkpoint. Skew is the bytes of the largest slot over
    /// the mean of all 1,024 slots; a worker owns whole slots, so a large one cannot be divided.
    #[command(after_help = "Examples:\n  anabranch checkpoint show state/bids\n  \
                            anabranch checkpoint show state/bids 41 -o json")]
    Show(OneOf),
    /// Copy the newest checkpoint to a folder of its own, a savepoint
    ///
    /// With --bootstrap the newest that is committed; else it may be one whose results nobody has
    /// seen, if the job has a Kafka sink.
    ///
    /// All checksums are looked at on the way. The job may run meanwhile. A job without state, also
    /// another one, begins there with `run --from-savepoint`.
    #[command(
        after_help = "Examples:\n  anabranch checkpoint save state/bids saved/bids-41\n  \
                            anabranch checkpoint save state/bids saved/bids-41 -b kafka:9092"
    )]
    Save(Copied),
    /// Read every checkpoint and every log of a state directory, and check all checksums
    ///
    /// A line for each file. Exit 3 if a job could not go on from one of them; with --bootstrap
    /// also if the committed one is not among them.
    #[command(after_help = "Example:\n  anabranch checkpoint verify state/bids")]
    Verify(Place),
}

#[derive(Debug, Args)]
struct Place {
    /// The job's --state-dir
    dir: PathBuf,
    #[command(flatten)]
    cluster: Cluster,
    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct Copied {
    /// The job's --state-dir
    dir: PathBuf,
    /// The savepoint: a folder that is not there yet, or is empty
    to: PathBuf,
    #[command(flatten)]
    cluster: Cluster,
    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct OneOf {
    /// The job's --state-dir
    dir: PathBuf,
    /// The checkpoint's number; default: the newest
    #[arg(value_name = "N")]
    checkpoint: Option<u64>,
    #[command(flatten)]
    cluster: Cluster,
    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Says on standard output what was asked for.
pub fn run(arguments: &Arguments) -> ExitCode {
    console::init_log(EnvFilter::new("warn"));
    match say(&arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

fn say(command: &Command) -> Result {
    match command {
        Command::List(place) => look_at(place, list::list, list::text),
        Command::Verify(place) => look_at(place, verify::verify, verify::text),
        Command::Show(OneOf {
            dir,
            checkpoint,
            cluster,
            output,
        }) => {
            let (shown, verdict) =
                steady(dir, Some(cluster), |dir, names, known| {
                    match show::show(dir, names, *checkpoint, known) {
                        Ok(shown) => (Some(shown), Ok(())),
                        Err(error) => (None, Err(error)),
                    }
                })?;
            verdict?;
            shown.map_or(Ok(()), |shown| out(&show_as(*output, &shown, show::text)))
        }
        Command::Save(Copied {
            dir,
            to,
            cluster,
            output,
        }) => {
            let saved = save::save(dir, to, cluster)?;
            out(&show_as(*output, &saved, save::text))
        }
    }
}

/// Says what `look` finds at a place, and then what is wrong there.
fn look_at<T: Serialize>(
    place: &Place,
    look: impl Fn(&Path, &[String], Option<&Committed>) -> (Vec<T>, Result),
    text: fn(&[T]) -> String,
) -> Result {
    let Place {
        dir,
        cluster,
        output,
    } = place;
    let (told, verdict) = match steady(dir, Some(cluster), &look) {
        // What lies there can be said all the same.
        Err(error) => {
            let (told, verdict) = steady(dir, None, look)?;
            (told, verdict.and(Err(error)))
        }
        found => found?,
    };
    out(&show_as(*output, &told[..], text))?;
    verdict
}

fn show_as<T: Serialize + ?Sized>(output: Output, told: &T, text: fn(&T) -> String) -> String {
    match output {
        Output::Text => text(told),
        Output::Json => {
            sonic_rs::to_string_pretty(told).expect("texts and numbers can be written") + "\n"
        }
    }
}

/// Looks at the manifests in `dir`, and at what `cluster` says of them; if something is wrong and
/// others are there now, then a job has deleted what was looked at, and it is looked at again.
fn steady<T>(
    dir: &Path,
    cluster: Option<&Cluster>,
    mut look: impl FnMut(&Path, &[String], Option<&Committed>) -> (T, Result),
) -> Result<(T, Result)> {
    // A directory that is not there has no manifest: that is no answer.
    std::fs::read_dir(dir).map_err(|why| {
        Error::operating(format!("state directory `{}`", dir.display())).because(why)
    })?;
    let list = || store::manifests(&RealDisk, dir);
    let mut left = LOOKS;
    loop {
        let (names, known) = match cluster {
            Some(cluster) => ask(cluster, dir)?,
            None => (list()?, None),
        };
        let seen = look(dir, &names, known.as_ref());
        left -= 1;
        if seen.1.is_ok() || left == 0 || list()? == names {
            return Ok(seen);
        }
    }
}

fn read(dir: &Path, name: &str) -> Result<Manifest> {
    store::read_manifest(&RealDisk, dir, name).map(|(manifest, _)| manifest)
}

fn none_in(dir: &Path) -> Error {
    let what = format!("`{}` has no checkpoint", dir.display());
    Error::new(ErrorKind::State, what)
}

/// A time as people and programs read it.
fn time(millis: i64) -> String {
    EventTime::from_millis(millis).to_string()
}

/// The smallest watermark over all sources; `None`: one of them knows none.
fn watermark(manifest: &Manifest) -> Option<i64> {
    let marks = manifest.sources.iter().map(|source| source.watermark);
    marks
        .reduce(|a, b| a.zip(b).map(|(a, b)| a.min(b)))
        .flatten()
}
