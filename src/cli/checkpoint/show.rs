//! `checkpoint show`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::committed::{Committed, Standing};
use super::{none_in, read, time};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::grouped;
use crate::state::SLOTS;
use crate::state::disk::RealDisk;
use crate::state::manifest::{LogPart, Manifest, PartitionStand, PartitionState, SourceState};
use crate::state::saved::{Holds, Parcel};
use crate::state::store;

/// A checkpoint with all that is in it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    manifest: String,
    format: u32,
    job: String,
    name: String,
    lineage: String,
    checkpoint: u64,
    generation: u64,
    made_at: String,
    finished: bool,
    /// Unknown, if the progress topic was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<Standing>,
    /// Of all logs; and when everything was last saved.
    bytes: u64,
    full_bytes: u64,
    sources: Vec<Source>,
    operators: Vec<Operator>,
    logs: Vec<LogPart>,
}

#[derive(Debug, Serialize)]
struct Source {
    port: String,
    place: String,
    identity: String,
    watermark: Option<String>,
    horizon: Option<String>,
    partitions: Vec<Reached>,
}

/// How far a partition was read.
#[derive(Debug, Serialize)]
struct Reached {
    partition: u32,
    /// Where the job began, where it goes on, and where a bounded run ends.
    first: u64,
    next: u64,
    end: Option<u64>,
    /// Offsets of what left as late with reason `idle`.
    left: Vec<(u64, u64)>,
    largest: Option<String>,
    floor: Option<String>,
    state: PartitionStand,
}

#[derive(Debug, Serialize)]
struct Operator {
    name: String,
    /// What must not change under it; empty: the manifest does not name it.
    shape: String,
    entries: u64,
    bytes: u64,
    /// Slots with something in them.
    slots: usize,
    /// Bytes of the largest slot over the mean of all slots; 0: there are none.
    skew: f64,
}

/// What the logs hold of an operator.
#[derive(Debug, Default)]
struct Held {
    entries: u64,
    /// By slot.
    bytes: BTreeMap<usize, u64>,
}

/// The checkpoint with this number, or the newest.
///
/// # Errors
/// There is none, or it is damaged.
pub(super) fn show(
    dir: &Path,
    names: &[String],
    checkpoint: Option<u64>,
    known: Option<&Committed>,
) -> Result<Shown> {
    let (name, manifest) = find(dir, names, checkpoint)?;
    let standing = known.map(|known| known.standing(&name, &manifest));
    let mut held: BTreeMap<String, Held> = BTreeMap::new();
    for log in &manifest.logs {
        let (bytes, parcels) = store::read_log(&RealDisk, dir, log)?;
        for place in parcels {
            let parcel = Parcel::read(&bytes[place])?;
            let held = held.entry(parcel.operator.to_owned()).or_default();
            let Holds::Entries(entries) = parcel.holds else {
                continue;
            };
            for entry in entries {
                let (slot, entry) = entry?;
                held.entries += 1;
                *held.bytes.entry(slot).or_default() += entry.len() as u64;
            }
        }
    }
    Ok(Shown {
        standing,
        ..shown(name, manifest, held)
    })
}

/// With the newest generation that has a checkpoint of this number: a run that was not committed
/// may have left another.
fn find(dir: &Path, names: &[String], checkpoint: Option<u64>) -> Result<(String, Manifest)> {
    for name in names.iter().rev() {
        let manifest = match read(dir, name) {
            // Another one is asked for.
            Err(_) if checkpoint.is_some() && Some(name) != names.last() => continue,
            manifest => manifest?,
        };
        if checkpoint.is_none_or(|number| number == manifest.checkpoint) {
            return Ok((name.clone(), manifest));
        }
    }
    Err(match checkpoint {
        Some(number) if !names.is_empty() => {
            let what = format!(
                "`{}` has no checkpoint {number}; `anabranch checkpoint list` says which it has",
                dir.display()
            );
            Error::new(ErrorKind::State, what)
        }
        _ => none_in(dir),
    })
}

fn shown(name: String, manifest: Manifest, mut held: BTreeMap<String, Held>) -> Shown {
    let partition = |state: PartitionState| Reached {
        partition: state.partition,
        first: state.first,
        next: state.next,
        end: state.end,
        left: state.left,
        largest: state.largest.map(time),
        floor: state.floor.map(time),
        state: state.state,
    };
    let source = |source: SourceState| Source {
        port: source.port,
        place: source.place,
        identity: source.identity,
        watermark: source.watermark.map(time),
        horizon: source.horizon.map(time),
        partitions: source.partitions.into_iter().map(partition).collect(),
    };
    let mut operators = Vec::new();
    for shape in manifest.operators {
        let held = held.remove(&shape.name).unwrap_or_default();
        operators.push(operator(shape.name, shape.shape, &held));
    }
    for (name, held) in held {
        operators.push(operator(name, String::new(), &held));
    }
    Shown {
        manifest: name,
        format: manifest.format,
        job: manifest.job,
        name: manifest.name,
        lineage: manifest.lineage,
        checkpoint: manifest.checkpoint,
        generation: manifest.generation,
        made_at: time(manifest.made_at),
        finished: manifest.finished,
        standing: None,
        bytes: manifest.logs.iter().map(|log| log.len).sum(),
        full_bytes: manifest.full_bytes,
        sources: manifest.sources.into_iter().map(source).collect(),
        operators,
        logs: manifest.logs,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn operator(name: String, shape: String, held: &Held) -> Operator {
    let bytes: u64 = held.bytes.values().sum();
    let largest = held.bytes.values().max().copied().unwrap_or(0);
    let mean = bytes.max(1) as f64 / SLOTS as f64;
    Operator {
        name,
        shape,
        entries: held.entries,
        bytes,
        slots: held.bytes.len(),
        skew: (largest as f64 / mean * 100.0).round() / 100.0,
    }
}

pub(super) fn text(shown: &Shown) -> String {
    let mut out = String::new();
    let mut line = |line: String| writeln!(out, "{}", line.trim_end()).expect("a string takes it");
    let end = if shown.finished { ", finished" } else { "" };
    let standing = shown
        .standing
        .map_or_else(String::new, |standing| format!(", {}", standing.in_words()));
    line(format!(
        "checkpoint {} of job `{}` ({}), generation {}{end}{standing}",
        shown.checkpoint, shown.job, shown.name, shown.generation
    ));
    line(format!(
        "made at {}, format {}",
        shown.made_at, shown.format
    ));
    line(format!("manifest {}", shown.manifest));
    line(format!(
        "{} bytes of state; {} when everything was last saved",
        grouped(shown.bytes),
        grouped(shown.full_bytes)
    ));
    for source in &shown.sources {
        let Source { port, place, .. } = source;
        let watermark = source.watermark.as_deref().unwrap_or("none");
        line(format!("\nsource {port}: {place}, watermark {watermark}"));
        for partition in &source.partitions {
            line(in_words(partition));
        }
    }
    let row = |columns: [&str; 5]| {
        let [name, entries, bytes, slots, skew] = columns;
        format!("  {name:<30}  {entries:>14}  {bytes:>18}  {slots:>6}  {skew:>8}")
    };
    if !shown.operators.is_empty() {
        line("\noperators".to_owned());
        line(row(["", "entries", "bytes", "slots", "skew"]));
    }
    for operator in &shown.operators {
        line(row([
            &operator.name,
            &grouped(operator.entries),
            &grouped(operator.bytes),
            &grouped(operator.slots as u64),
            &format!("{:.2}", operator.skew),
        ]));
    }
    if !shown.logs.is_empty() {
        line("\nlogs".to_owned());
    }
    for LogPart { path, len, crc } in &shown.logs {
        line(format!(
            "  {path}  {} bytes, crc32c {crc:08x}",
            grouped(*len)
        ));
    }
    out
}

fn in_words(partition: &Reached) -> String {
    let Reached {
        partition,
        first,
        next,
        left,
        end,
        state,
        ..
    } = partition;
    let state = format!("{state:?}").to_lowercase();
    let mut said =
        format!("  partition {partition}: next offset {next}, began at {first}, {state}");
    if let Some(end) = end {
        write!(said, ", ends at {end}").expect("a string takes it");
    }
    let left: u64 = left.iter().map(|(from, to)| to - from).sum();
    if left > 0 {
        write!(said, ", {} left as idle", grouped(left)).expect("a string takes it");
    }
    said
}
