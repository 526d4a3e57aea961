//! What is found in a state directory, and whether it is what was written.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::names::{folder_of, generation_of, is_log, manifest_name, place_of};
use super::{broken, sync_folder, unless_gone};
use crate::error::{Error, ErrorKind, Result};
use crate::state::advice::LOST;
use crate::state::disk::Disk;
use crate::state::frame::Frames;
use crate::state::manifest::{LogPart, Manifest};
use crate::state::restored::Restored;

/// Generations in `dir`, in order. A directory that is not there has none.
pub(crate) fn generations(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>> {
    let names = match disk.list(dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(|why| broken(dir, why))?,
    };
    let numbers = names.iter().filter_map(|name| generation_of(name));
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The newest generation in `dir`; 0: there is none.
pub(crate) fn newest_generation(disk: &dyn Disk, dir: &Path) -> Result<u64> {
    Ok(generations(disk, dir)?.last().copied().unwrap_or(0))
}

/// Names of all manifests in `dir`, the newest last.
pub(crate) fn manifests(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>> {
    let mut found = files(disk, dir)?;
    found.retain(|name| place_of(name).is_some());
    found.sort_by_key(|name| place_of(name));
    Ok(found)
}

/// Names of all logs in `dir`, whether a manifest names them or not.
pub(crate) fn logs(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>> {
    let mut found = files(disk, dir)?;
    found.retain(|name| is_log(name));
    Ok(found)
}

/// Names of all files in the folders of all generations.
fn files(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for generation in generations(disk, dir)? {
        let folder = folder_of(generation);
        // Whoever runs the job may have removed it since.
        let path = dir.join(&folder);
        let names = unless_gone(disk.list(&path)).map_err(|why| broken(&path, why))?;
        found.extend(names.iter().map(|file| format!("{folder}/{file}")));
    }
    Ok(found)
}

/// The name of the newest manifest in `dir`, which from now on is there for certain: whoever wrote
/// it may have been killed before it was.
///
/// # Errors
/// Names the folder that cannot be read or synced.
pub(crate) fn newest(disk: &dyn Disk, dir: &Path) -> Result<Option<String>> {
    let newest = manifests(disk, dir)?.pop();
    if let Some((generation, _)) = newest.as_deref().and_then(place_of) {
        sync_folder(disk, &dir.join(folder_of(generation)))?;
    }
    Ok(newest)
}

/// Reads the manifest `name`.
///
/// # Errors
/// It is missing or damaged, and what to do.
pub(crate) fn read_manifest(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(Manifest, u32)> {
    manifest_in(disk, (dir, LOST), name)
}

/// As [`read_manifest`], from a folder with what to do if it is missing or damaged.
pub(super) fn manifest_in(
    disk: &dyn Disk,
    (dir, advice): (&Path, &str),
    name: &str,
) -> Result<(Manifest, u32)> {
    let path = dir.join(name);
    let bytes = disk.read(&path).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => Error::new(
            ErrorKind::State,
            format!("manifest `{}` is missing; {advice}", path.display()),
        ),
        _ => broken(&path, why),
    })?;
    let (manifest, crc) = Manifest::read(&bytes, &path.display().to_string(), advice)?;
    let own = manifest_name(manifest.generation, manifest.checkpoint);
    if own != name {
        let path = path.display();
        let what = format!(
            "manifest `{path}` was written as `{own}`: it was moved or copied here; put it back, \
             or {advice}"
        );
        return Err(Error::new(ErrorKind::State, what));
    }
    Ok((manifest, crc))
}

/// Reads the logs of a manifest, several at a time, and checks them.
///
/// # Errors
/// Names the log that is missing, too short or damaged, and what to do.
pub(crate) fn read_logs(disk: &Arc<dyn Disk>, dir: &Path, logs: &[LogPart]) -> Result<Restored> {
    let mut restored = Restored::default();
    for some in logs.chunks(disk.readers()) {
        let Some((first, others)) = some.split_first() else {
            continue;
        };
        let read = |log| read_log(&**disk, dir, log);
        let read: Vec<_> = thread::scope(|scope| {
            let reads: Vec<_> = others
                .iter()
                .map(|log| scope.spawn(move || read(log)))
                .collect();
            let first = Ok(read(first));
            let others = reads.into_iter().map(|read| read.join());
            [first].into_iter().chain(others).collect()
        });
        for log in read {
            let panicked = |_| Error::operating("reading the state panicked");
            let (bytes, parcels) = log.map_err(panicked)??;
            restored.add(bytes, parcels)?;
        }
    }
    Ok(restored)
}

/// Where the parcels of a log lie in it.
type Parcels = Vec<Range<usize>>;

/// Reads a log and checks it; and where its parcels lie.
///
/// # Errors
/// As [`read_logs`].
pub(crate) fn read_log(disk: &dyn Disk, dir: &Path, log: &LogPart) -> Result<(Vec<u8>, Parcels)> {
    log_in(disk, (dir, LOST), log)
}

/// As [`read_log`], from a folder with what to do if it is missing or damaged.
pub(crate) fn log_in(
    disk: &dyn Disk,
    (dir, advice): (&Path, &str),
    log: &LogPart,
) -> Result<(Vec<u8>, Parcels)> {
    let path = dir.join(&log.path);
    let refuse = |what: String| {
        let place = path.display();
        let what = format!("log `{place}` {what}; {advice}");
        Error::new(ErrorKind::State, what)
    };
    let bytes = disk
        .read_prefix(&path, log.len)
        .map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => refuse("is missing".to_owned()),
            io::ErrorKind::UnexpectedEof => refuse(format!("has fewer than {} bytes", log.len)),
            _ => broken(&path, why),
        })?;
    let mut parcels = Vec::new();
    let begin = bytes.as_ptr().addr();
    for frame in Frames::new(&bytes) {
        let frame = frame.map_err(|why| refuse(format!("is damaged: {why}")))?;
        let start = frame.as_ptr().addr() - begin;
        parcels.push(start..start + frame.len());
    }
    if crc32c::crc32c(&bytes) != log.crc {
        return Err(refuse("is another than the manifest names".to_owned()));
    }
    Ok((bytes, parcels))
}
