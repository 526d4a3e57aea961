//! Files of results, as checkpoints have them.
//!
//! A file grows under a hidden name, `.NAME.tmp` beside its place. A checkpoint syncs what was
//! appended, and its manifest has length and checksum; once it is committed, and says that the file
//! is done, the file gets its name.
//!
//! ```text
//! STEP 1  grow   append to the hidden file
//! STEP 2  cut    sync file and folder; then the manifest has it, with its length
//! STEP 3  show   the manifest is committed and says that it is done: rename, sync the folder
//! ```
//! So whatever has its name was committed, and of each file that a committed manifest has the bytes
//! up to its length are on the disk, under one name or the other. Bytes behind that length, and
//! hidden files that no manifest has, were never committed: they are cut off and removed.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::advice::AFRESH;
use super::disk::{Disk, DiskFile};
use super::durable::{meanwhile, parent};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::crash_point;

/// What a sink port has written into files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputState {
    pub(crate) port: String,
    /// The file or the folder of part files.
    pub(crate) place: String,
    /// No part file has this number yet, nor a larger one.
    pub(crate) next: u64,
    /// Those that grow, and those that are done with this checkpoint.
    pub(crate) files: Vec<OutputFile>,
}

/// A file, as far as it belongs to a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutputFile {
    pub(crate) path: String,
    pub(crate) len: u64,
    pub(crate) crc: u32,
    /// It gets its name when the checkpoint is committed.
    pub(crate) done: bool,
}

/// Under which name a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Hidden,
    Shown,
    /// It had its name for certain, and whoever reads the results took it away.
    Taken,
}

/// A file that grows.
pub(crate) struct Growing {
    disk: Arc<dyn Disk>,
    place: PathBuf,
    /// `None` when it was put away.
    file: Option<Box<dyn DiskFile>>,
    len: u64,
    crc: u32,
    synced: bool,
}

impl fmt::Debug for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Growing").field(&self.place).finish()
    }
}

impl Growing {
    /// An empty one. What was never committed goes.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn begin(disk: &Arc<dyn Disk>, place: &Path) -> io::Result<Self> {
        let hidden = meanwhile(place)?;
        // Removed, not cut: a power loss may have left one file under both names.
        unless_gone(disk.remove_file(&hidden))?;
        Ok(Self {
            file: Some(disk.create(&hidden)?),
            disk: Arc::clone(disk),
            place: place.to_owned(),
            len: 0,
            crc: 0,
            synced: false,
        })
    }

    /// The one that a committed manifest has, cut to its length. A shown one is hidden again.
    ///
    /// # Errors
    /// It is missing or changed; or what the system says.
    pub(crate) fn go_on(disk: &Arc<dyn Disk>, file: &OutputFile) -> Result<Self> {
        let place = Path::new(&file.path);
        let about = |why| broken(place, why);
        let hidden = meanwhile(place).map_err(about)?;
        match find(&**disk, file)? {
            Found::Hidden if file.done => {
                // Nothing may be seen of it while it grows; it may be the same file.
                unless_gone(disk.remove_file(place)).map_err(about)?;
            }
            Found::Hidden => {}
            Found::Shown => disk.rename(place, &hidden).map_err(about)?,
            Found::Taken => return Err(refuse(file, "is missing")),
        }
        disk.sync_folder(parent(place)).map_err(about)?;
        let opened = disk.reopen(&hidden, file.len).map_err(about)?;
        crash_point("output cut");
        Ok(Self {
            disk: Arc::clone(disk),
            place: place.to_owned(),
            file: Some(opened),
            len: file.len,
            crc: file.crc,
            // Also where there was nothing to cut: whoever was killed here may have cut it.
            synced: false,
        })
    }

    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Whether this is its hidden name.
    pub(crate) fn is_hidden_at(&self, path: &Path) -> bool {
        meanwhile(&self.place).is_ok_and(|hidden| hidden == path)
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends `bytes`.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.synced = false;
        self.open()?.append(bytes)?;
        self.len += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(())
    }

    /// Closes it for now.
    pub(crate) fn put_away(&mut self) {
        self.file = None;
    }

    /// Returns when what was appended or cut off is on the disk; its name is not.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            self.open()?.sync()?;
            self.synced = true;
        }
        Ok(())
    }

    /// As a manifest has it.
    pub(crate) fn listed(&self, done: bool) -> OutputFile {
        OutputFile {
            // Whoever makes one has asked whether the path is text.
            path: self.place.to_string_lossy().into_owned(),
            len: self.len,
            crc: self.crc,
            done,
        }
    }

    fn open(&mut self) -> io::Result<&mut Box<dyn DiskFile>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.disk.reopen(&meanwhile(&self.place)?, self.len)?,
        };
        Ok(self.file.insert(file))
    }
}

/// Looks whether what is to be gone on with is there, without any effect.
///
/// # Errors
/// A file is missing or changed. Of a folder, one that has its name may have been taken away.
pub(crate) fn check(disk: &dyn Disk, state: &OutputState) -> Result {
    for file in &state.files {
        if find(disk, file)? == Found::Taken && is_one_file(state) {
            return Err(refuse(file, "is missing"));
        }
    }
    Ok(())
}

/// Under which name `file` is there.
///
/// # Errors
/// It is missing or changed; or what the system says.
fn find(disk: &dyn Disk, file: &OutputFile) -> Result<Found> {
    let place = Path::new(&file.path);
    let hidden = meanwhile(place).map_err(|why| broken(place, why))?;
    let hidden_one = holds(disk, &hidden, file)?;
    if hidden_one == Some(true) {
        return Ok(Found::Hidden);
    }
    if !file.done {
        // A start that was given up may have named it: it is bound to its place again.
        let whole = matches!(disk.len(place), Ok(len) if len == file.len);
        if hidden_one.is_none() && whole && holds(disk, place, file)? == Some(true) {
            return Ok(Found::Shown);
        }
        let what = hidden_one.map_or("is missing", |_| "has changed");
        return Err(refuse(file, what));
    }
    // Of one that has its name nobody knows more than its length.
    let whole = |len| len == file.len;
    let shown = match disk.len(place) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        len => Some(whole(len.map_err(|why| broken(place, why))?)),
    };
    match shown {
        Some(true) if holds(disk, place, file)? == Some(true) => Ok(Found::Shown),
        Some(_) => Err(refuse(file, "has changed")),
        None if hidden_one.is_some() => Err(refuse(file, "has changed")),
        None => Ok(Found::Taken),
    }
}

/// Whether what is at `path` begins with what `file` was; `None`: nothing is there.
fn holds(disk: &dyn Disk, path: &Path, file: &OutputFile) -> Result<Option<bool>> {
    match disk.checksum(path, file.len) {
        Ok(crc) => Ok(Some(crc == file.crc)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(false)),
        Err(why) => Err(broken(path, why)),
    }
}

/// Gives its name to each of `files` that is done and does not have it yet; they are committed.
///
/// # Errors
/// What the system says.
pub(crate) fn show<'a>(disk: &dyn Disk, files: impl IntoIterator<Item = &'a OutputFile>) -> Result {
    let mut folders = BTreeSet::new();
    for file in files.into_iter().filter(|file| file.done) {
        let place = Path::new(&file.path);
        let about = |why| broken(place, why);
        let hidden = meanwhile(place).map_err(about)?;
        match disk.rename(&hidden, place) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(about)?,
        }
        // Two names of one file both stay when one is renamed to the other.
        unless_gone(disk.remove_file(&hidden)).map_err(about)?;
        folders.insert(parent(place));
        crash_point("output renamed");
    }
    let mut folders = folders.into_iter();
    folders.try_for_each(|folder| disk.sync_folder(folder).map_err(|why| broken(folder, why)))
}

/// After a kill: those of `files` that are done are cut to their length and have their names.
///
/// # Errors
/// As [`show`].
pub(crate) fn show_found(disk: &Arc<dyn Disk>, files: &[OutputFile]) -> Result {
    for file in files.iter().filter(|file| file.done) {
        let place = Path::new(&file.path);
        let about = |why| broken(place, why);
        match find(&**disk, file)? {
            Found::Hidden => {
                let hidden = meanwhile(place).map_err(about)?;
                let opened = disk.reopen(&hidden, file.len);
                // What was cut off must not come back with the name.
                opened.and_then(|mut file| file.sync()).map_err(about)?;
                show(&**disk, [file])?;
            }
            Found::Shown => {
                unless_gone(meanwhile(place).and_then(|hidden| disk.remove_file(&hidden)))
                    .map_err(about)?;
                // Whoever gave it its name may have been killed before that was on the disk.
                disk.sync_folder(parent(place)).map_err(about)?;
            }
            Found::Taken => {}
        }
    }
    Ok(())
}

/// Whether `state` is of one file, not of a folder of parts.
pub(crate) fn is_one_file(state: &OutputState) -> bool {
    state
        .files
        .first()
        .is_some_and(|file| file.path == state.place)
}

/// Nobody goes on with `state`: what of it is hidden gets its name.
///
/// # Errors
/// Somebody appends to it still; or what the system says. What is missing or changed was taken or
/// replaced, and is let be.
pub(crate) fn complete(disk: &Arc<dyn Disk>, state: &OutputState) -> Result {
    // Whoever was stopped and taken over may wake up, and would append to what can be seen then.
    let grows = state.files.iter().any(|file| !file.done);
    let place = Path::new(&state.place);
    let held = grows.then(|| disk.hold(place)).transpose();
    let _held = held.map_err(|why| broken(place, why))?;
    for file in &state.files {
        let file = OutputFile {
            done: true,
            ..file.clone()
        };
        match show_found(disk, std::slice::from_ref(&file)) {
            Err(error) if error.kind() == ErrorKind::State => {}
            shown => shown?,
        }
    }
    Ok(())
}

fn refuse(file: &OutputFile, what: &str) -> Error {
    let (path, len) = (&file.path, file.len);
    let what = format!(
        "output `{path}` {what}: {len} bytes of it were committed; put it back, or {AFRESH}"
    );
    Error::new(ErrorKind::State, what)
}

fn broken(path: &Path, why: io::Error) -> Error {
    Error::operating(format!("output `{}`", path.display())).because(why)
}

fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests;
