//! `checkpoint verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::committed::Committed;
use super::{none_in, read};
use crate::error::{Error, Result};
use crate::observe::grouped;
use crate::state::disk::{Disk, RealDisk};
use crate::state::manifest::LogPart;
use crate::state::saved::{Holds, Parcel};
use crate::state::store;

/// A file, and what is said of it.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    file: String,
    /// Whether it is whole; `None`: no checkpoint needs it.
    ok: Option<bool>,
    said: String,
}

/// Reads everything that the manifests `names` name, and checks it.
pub(super) fn verify(
    dir: &Path,
    names: &[String],
    known: Option<&Committed>,
) -> (Vec<Checked>, Result) {
    let mut all = Vec::new();
    let mut errors = Vec::new();
    let mut logs: BTreeMap<(String, u64, u32), LogPart> = BTreeMap::new();
    let mut check = |file: &str, found: Result<String>| {
        let (ok, said) = match found {
            Ok(said) => (true, said),
            Err(error) => {
                let said = error.to_string();
                errors.push(error);
                (false, said)
            }
        };
        all.push(Checked {
            file: file.to_owned(),
            ok: Some(ok),
            said,
        });
    };
    for name in names {
        let manifest = read(dir, name).map(|manifest| {
            let standing = known.map(|known| known.standing(name, &manifest).in_words());
            let standing = standing.map_or_else(String::new, |standing| format!(", {standing}"));
            let said = format!(
                "checkpoint {}, {} logs{standing}",
                manifest.checkpoint,
                manifest.logs.len()
            );
            let of = |log: LogPart| ((log.path.clone(), log.len, log.crc), log);
            logs.extend(manifest.logs.into_iter().map(of));
            said
        });
        check(name, manifest);
    }
    for log in logs.values() {
        check(&log.path, verify_log(dir, log));
    }
    let known: BTreeSet<&str> = logs.keys().map(|(path, ..)| &**path).collect();
    match leftovers(dir, &known) {
        Ok(leftovers) => all.extend(leftovers),
        Err(error) => errors.push(error),
    }
    if names.is_empty() {
        errors.push(none_in(dir));
    }
    (all, verdict(errors))
}

/// The first error, and how many others there are.
fn verdict(errors: Vec<Error>) -> Result {
    let others = errors.len().saturating_sub(1);
    let Some(first) = errors.into_iter().next() else {
        return Ok(());
    };
    if others == 0 {
        return Err(first);
    }
    let files = if others == 1 { "file is" } else { "files are" };
    let what = format!("{first}; and {others} more {files} damaged");
    Err(Error::new(first.kind(), what))
}

fn verify_log(dir: &Path, log: &LogPart) -> Result<String> {
    let (bytes, parcels) = store::read_log(&RealDisk, dir, log)?;
    let (count, mut entries) = (parcels.len() as u64, 0);
    for place in parcels {
        if let Holds::Entries(some) = Parcel::read(&bytes[place])?.holds {
            for entry in some {
                entry?;
                entries += 1;
            }
        }
    }
    // What was written for a checkpoint that is not made yet, or never was.
    let there = RealDisk.len(&dir.join(&log.path)).unwrap_or(0);
    let tail = match there.saturating_sub(log.len) {
        0 => String::new(),
        more => format!("; {} more belong to no checkpoint", grouped(more)),
    };
    Ok(format!(
        "{} bytes, {} parcels, {} entries{tail}",
        grouped(log.len),
        grouped(count),
        grouped(entries)
    ))
}

/// Logs that no manifest names.
fn leftovers(dir: &Path, known: &BTreeSet<&str>) -> Result<Vec<Checked>> {
    let mut all = Vec::new();
    for file in store::logs(&RealDisk, dir)? {
        if known.contains(&*file) {
            continue;
        }
        // It may be gone by now.
        let Ok(bytes) = RealDisk.len(&dir.join(&file)) else {
            continue;
        };
        all.push(Checked {
            file,
            ok: None,
            said: format!(
                "{} bytes that belong to no checkpoint: a run writes them, or the next one deletes \
                 them",
                grouped(bytes)
            ),
        });
    }
    Ok(all)
}

pub(super) fn text(all: &[Checked]) -> String {
    let line = |checked: &Checked| {
        let sign = match checked.ok {
            Some(true) => "ok",
            Some(false) => "no",
            None => "--",
        };
        // An error names its file itself.
        match checked.ok {
            Some(false) => format!("{sign}  {}\n", checked.said),
            _ => format!("{sign}  {}: {}\n", checked.file, checked.said),
        }
    };
    all.iter().map(line).collect()
}
