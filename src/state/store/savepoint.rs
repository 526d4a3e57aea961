//! A checkpoint in a folder of its own: kept for as long as somebody wants it, and where other jobs
//! may begin. The folder looks like a state directory with one checkpoint.

use std::path::Path;

use super::found::manifest_in;
use super::names::log_name;
use super::{Store, broken, log_in, read_manifest};
use crate::error::{Error, ErrorKind, Result};
use crate::state::advice::{LOST, SPOILED};
use crate::state::disk::Disk;
use crate::state::durable;
use crate::state::manifest::{LogPart, Manifest};
use crate::state::store::newest;

/// Copies the checkpoint `name` of `dir`, all of whose checksums hold, to `to`, which is made.
///
/// # Errors
/// The checkpoint is damaged, or gone by now; `to` cannot be written.
pub(crate) fn save(disk: &dyn Disk, dir: &Path, name: &str, to: &Path) -> Result<Manifest> {
    let (manifest, _) = read_manifest(disk, dir, name)?;
    durable::make_folders(disk, to).map_err(|why| broken(to, why))?;
    for log in &manifest.logs {
        copy(disk, ((dir, LOST), log), to, &log.path)?;
    }
    // Last: what has no manifest is no savepoint.
    let path = to.join(name);
    durable::make_folders(disk, parent(&path)).map_err(|why| broken(&path, why))?;
    let (bytes, _) = manifest.to_bytes()?;
    durable::write_whole(disk, &path, &bytes).map_err(|why| broken(&path, why))?;
    Ok(manifest)
}

/// The checkpoint in the savepoint `from`.
///
/// # Errors
/// There is none, or it is damaged.
pub(crate) fn saved(disk: &dyn Disk, from: &Path) -> Result<Manifest> {
    let name = newest(disk, from)?.ok_or_else(|| {
        let what = format!(
            "`{}` is no savepoint: there is no checkpoint in it; {SPOILED}",
            from.display()
        );
        Error::new(ErrorKind::State, what)
    })?;
    Ok(manifest_in(disk, (from, SPOILED), &name)?.0)
}

impl Store {
    /// Takes the logs of a checkpoint in `from` as its own, in which there is nothing yet.
    ///
    /// # Errors
    /// One is damaged, or cannot be written.
    pub(crate) fn adopt(&self, from: &Path, logs: &[LogPart]) -> Result<Vec<LogPart>> {
        let adopt = |(nth, log): (usize, &LogPart)| {
            // Its own begin with checkpoint 1.
            let path = log_name(self.generation, nth, 0);
            copy(&*self.disk, ((from, SPOILED), log), &self.dir, &path)?;
            Ok(LogPart {
                path,
                ..log.clone()
            })
        };
        logs.iter().enumerate().map(adopt).collect()
    }
}

/// Copies a log as far as it belongs to its checkpoint, from a folder with what to do if it is
/// damaged there.
fn copy(disk: &dyn Disk, (from, log): ((&Path, &str), &LogPart), to: &Path, name: &str) -> Result {
    let (bytes, _) = log_in(disk, from, log)?;
    let path = to.join(name);
    durable::make_folders(disk, parent(&path))
        .and_then(|()| durable::write_whole(disk, &path, &bytes))
        .map_err(|why| broken(&path, why))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
