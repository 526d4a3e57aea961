//! `checkpoint list`.

use std::path::Path;

use serde::Serialize;

use super::committed::{Committed, Standing};
use super::{none_in, read, time, watermark};
use crate::error::Result;
use crate::observe::grouped;
use crate::state::manifest::Manifest;

/// A checkpoint, or why it cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    manifest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    told: Option<Told>,
}

#[derive(Debug, Serialize)]
struct Told {
    checkpoint: u64,
    generation: u64,
    job: String,
    made_at: String,
    watermark: Option<String>,
    /// Of all logs that it names.
    bytes: u64,
    finished: bool,
    /// Unknown, if the progress topic was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<Standing>,
}

impl Told {
    fn of(manifest: &Manifest, standing: Option<Standing>) -> Self {
        Self {
            standing,
            checkpoint: manifest.checkpoint,
            generation: manifest.generation,
            job: manifest.job.clone(),
            made_at: time(manifest.made_at),
            watermark: watermark(manifest).map(time),
            bytes: manifest.logs.iter().map(|log| log.len).sum(),
            finished: manifest.finished,
        }
    }
}

/// All checkpoints of `names`; and what is wrong with the first of those that cannot be read.
pub(super) fn list(
    dir: &Path,
    names: &[String],
    known: Option<&Committed>,
) -> (Vec<Listed>, Result) {
    let mut verdict = Ok(());
    if names.is_empty() {
        verdict = Err(none_in(dir));
    }
    let mut all = Vec::new();
    for name in names {
        let (told, error) = match read(dir, name) {
            Ok(manifest) => {
                let standing = known.map(|known| known.standing(name, &manifest));
                (Some(Told::of(&manifest, standing)), None)
            }
            Err(error) => {
                let said = error.to_string();
                verdict = verdict.and(Err(error));
                (None, Some(said))
            }
        };
        all.push(Listed {
            manifest: name.clone(),
            error,
            told,
        });
    }
    (all, verdict)
}

pub(super) fn text(all: &[Listed]) -> String {
    let mut out = String::new();
    let mut line = |columns: [&str; 7]| {
        let [
            number,
            generation,
            made,
            watermark,
            bytes,
            finished,
            standing,
        ] = columns;
        let line = format!(
            "{number:>10}  {generation:>10}  {made:<24}  {watermark:<24}  {bytes:>15}  \
             {finished:<8}  {standing}"
        );
        out.push_str(line.trim_end());
        out.push('\n');
    };
    if !all.is_empty() {
        line([
            "checkpoint",
            "generation",
            "made",
            "watermark",
            "bytes",
            "finished",
            if is_known(all) { "progress" } else { "" },
        ]);
    }
    for listed in all {
        let Some(told) = &listed.told else {
            line(["?", "?", "damaged", "", "", "", ""]);
            continue;
        };
        line([
            &told.checkpoint.to_string(),
            &told.generation.to_string(),
            &told.made_at,
            told.watermark.as_deref().unwrap_or("none"),
            &grouped(told.bytes),
            if told.finished { "yes" } else { "no" },
            told.standing.map_or("", Standing::in_words),
        ]);
    }
    out
}

/// Whether the progress topic was asked.
fn is_known(all: &[Listed]) -> bool {
    let mut told = all.iter().filter_map(|listed| listed.told.as_ref());
    told.any(|told| told.standing.is_some())
}
