//! `checkpoint save`.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::committed::Committed;
use super::{none_in, steady};
use crate::cli::cluster::Cluster;
use crate::error::{Error, Result};
use crate::observe::grouped;
use crate::state::disk::RealDisk;
use crate::state::store::savepoint;

/// What was saved.
#[derive(Debug, Serialize)]
pub(super) struct Saved {
    job: String,
    checkpoint: u64,
    bytes: u64,
    to: String,
}

/// Copies the newest checkpoint of `dir` to `to`; the committed one, if `cluster` can be asked.
pub(super) fn save(dir: &Path, to: &Path, cluster: &Cluster) -> Result<Saved> {
    let is_taken = fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
    if is_taken {
        let what = format!(
            "`{}` is not empty: a savepoint has a folder of its own",
            to.display()
        );
        return Err(Error::usage(what));
    }
    let (saved, verdict) = steady(dir, Some(cluster), |dir, names, known| {
        let newest = || names.last().map(|name| &**name).ok_or_else(|| none_in(dir));
        let name = known.map_or_else(newest, Committed::name);
        match name.and_then(|name| savepoint::save(&RealDisk, dir, name, to)) {
            Ok(manifest) => (Some(manifest), Ok(())),
            Err(error) => {
                // It was empty. What cannot be removed is found by who looks there.
                let _ = fs::remove_dir_all(to);
                (None, Err(error))
            }
        }
    })?;
    verdict?;
    let manifest = saved.ok_or_else(|| none_in(dir))?;
    Ok(Saved {
        bytes: manifest.logs.iter().map(|log| log.len).sum(),
        job: manifest.job,
        checkpoint: manifest.checkpoint,
        to: to.display().to_string(),
    })
}

pub(super) fn text(saved: &Saved) -> String {
    let Saved {
        job,
        checkpoint,
        bytes,
        to,
    } = saved;
    let bytes = grouped(*bytes);
    format!("checkpoint {checkpoint} of job `{job}`, {bytes} bytes of state, is in `{to}`\n")
}
