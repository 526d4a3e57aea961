//! Files as a sink of a job that makes checkpoints: what they hold, a checkpoint holds.
//!
//! Workers append to hidden files. Between an epoch that is a checkpoint and its commit they write
//! nothing, so the thread that makes it finds there exactly what belongs to it: it takes the last
//! lines out of the workers' hands, syncs, and has the manifest name the files with their lengths.
//!
//! ```text
//! FILE      grows, and gets its name when the run has ended
//! FOLDER/   a part file gets its name with a checkpoint: at 64 MiB, a minute, or the end
//! ```

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Packing;
use super::folder::{is_hidden_part, is_part, not_empty, part_name};
use super::pack::Packer;
use super::sink::{PART_BYTES, PIECE, cannot_write, lines_from, lock, parent};
use crate::connectors::{Batch, Share, Writer, Written};
use crate::error::{Error, Result};
use crate::observe::{crash_point, now};
use crate::state::OutputState;
use crate::state::disk::{Disk, RealDisk};
use crate::state::durable;
use crate::state::outputs::{Growing, OutputFile, show, show_found};

/// A part file that is older gets its name with the next checkpoint.
const PART_AGE: Duration = Duration::from_mins(1);

/// One output, of all workers.
#[derive(Debug)]
pub(super) struct Kept {
    disk: Arc<dyn Disk>,
    place: PathBuf,
    shape: Shape,
    part_bytes: u64,
    /// What each worker has in its hands.
    lanes: Mutex<Vec<Arc<Mutex<Lane>>>>,
    /// Nobody else writes there.
    _lock: Option<File>,
}

#[derive(Debug)]
enum Shape {
    File {
        packing: Packing,
        growing: Mutex<Growing>,
        shown: Mutex<bool>,
    },
    Folder {
        next: Mutex<u64>,
        /// Parts that nobody appends to any more.
        full: Mutex<Vec<Growing>>,
    },
}

/// What one worker has in its hands.
#[derive(Debug)]
struct Lane {
    worker: usize,
    packer: Packer,
    piece: Vec<u8>,
    piece_bytes: usize,
    part: Option<(Growing, Instant)>,
    /// The number of the next part.
    roll: u64,
}

impl Kept {
    /// The output at `path`, which links lead to `place`; `before`: what the last checkpoint has of
    /// it.
    ///
    /// # Errors
    /// As `FileSink` says; a file that a checkpoint has is missing or changed.
    pub(super) fn prepare(
        (path, place): (&Path, &Path),
        before: Option<&OutputState>,
        overwrite: bool,
    ) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        if path.as_os_str().as_bytes().ends_with(b"/") {
            Self::folder(disk, path, before, overwrite)
        } else {
            Self::file(disk, (path, place), before)
        }
    }

    fn file(
        disk: Arc<dyn Disk>,
        (path, place): (&Path, &Path),
        before: Option<&OutputState>,
    ) -> Result<Self> {
        let about = |cause| cannot_write(place, cause);
        let before = before.and_then(|before| before.files.first());
        let hidden = durable::meanwhile(place).map_err(about)?;
        let left = disk.hold(&hidden).map_err(about)?;
        let growing = match before {
            Some(before) => Growing::go_on(&disk, before)?,
            None => Growing::begin(&disk, place).map_err(about)?,
        };
        // It may be another file now than the one that was left.
        drop(left);
        let lock = disk.hold(&hidden).map_err(about)?;
        Ok(Self {
            disk,
            shape: Shape::File {
                packing: Packing::of(path),
                growing: Mutex::new(growing),
                shown: Mutex::new(false),
            },
            place: place.to_owned(),
            part_bytes: PART_BYTES,
            lanes: Mutex::default(),
            _lock: lock,
        })
    }

    fn folder(
        disk: Arc<dyn Disk>,
        path: &Path,
        before: Option<&OutputState>,
        overwrite: bool,
    ) -> Result<Self> {
        let about = |cause| cannot_write(path, cause);
        durable::make_folders(&*disk, path).map_err(about)?;
        let place = path.canonicalize().map_err(about)?;
        let lock = disk.hold(&place).map_err(about)?;
        let (listed, next) = before.map_or((&[][..], 0), |it| (&it.files[..], it.next));
        show_found(&disk, listed)?;
        let mut full = Vec::new();
        for file in listed.iter().filter(|file| !file.done) {
            let mut part = Growing::go_on(&disk, file)?;
            part.put_away();
            full.push(part);
        }
        let is_listed = |path: &Path| full.iter().any(|part| part.is_hidden_at(path));
        let entries = fs::read_dir(&place).map_err(about)?;
        let found: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
        let found = found.map_err(about)?;
        let named = |path: &Path, is: fn(&[u8]) -> bool| {
            path.file_name().is_some_and(|name| is(name.as_bytes()))
        };
        let (hidden, others): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|path| named(path, is_hidden_part));
        if before.is_none() && !overwrite && !others.is_empty() {
            return Err(not_empty(path));
        }
        let old = others.iter().filter(|path| named(path, is_part));
        let old = old.filter(|_| before.is_none());
        let left = hidden.iter().filter(|path| !is_listed(path));
        for path in left.chain(old) {
            disk.remove_file(path).map_err(about)?;
        }
        disk.sync_folder(&place).map_err(about)?;
        Ok(Self {
            disk,
            place,
            shape: Shape::Folder {
                next: Mutex::new(next),
                full: Mutex::new(full),
            },
            part_bytes: PART_BYTES,
            lanes: Mutex::default(),
            _lock: lock,
        })
    }

    pub(super) fn open(self: &Arc<Self>, share: &Share) -> Result<Box<dyn Writer>> {
        let about = |cause| cannot_write(&self.place, cause);
        let (packing, roll) = match &self.shape {
            Shape::File { packing, .. } => (*packing, 0),
            Shape::Folder { next, .. } => (Packing::Plain, *lock(next)),
        };
        let lane = Arc::new(Mutex::new(Lane {
            worker: share.worker,
            packer: packing.packer().map_err(about)?,
            piece: Vec::new(),
            piece_bytes: share.buffer_bytes.min(PIECE),
            part: None,
            roll,
        }));
        lock(&self.lanes).push(Arc::clone(&lane));
        let kept = Arc::clone(self);
        Ok(Box::new(KeptWriter { kept, lane }))
    }

    /// Whether something waits for a checkpoint to show it. `ends`: it would be the last one.
    pub(super) fn is_due(&self, ends: bool) -> bool {
        let lanes = lock(&self.lanes);
        match &self.shape {
            Shape::File { shown, .. } => ends && !*lock(shown),
            Shape::Folder { next, full } => {
                let is_due = |lane: &Arc<Mutex<Lane>>| {
                    let lane = lock(lane);
                    let part = lane.part.as_ref();
                    let old = part.is_some_and(|part| self.is_done(part));
                    old || ends && (part.is_some() || !lane.piece.is_empty())
                };
                let none = ends && *lock(next) == 0;
                // Its lock is given back before a lane's is taken.
                let waits = !lock(full).is_empty();
                none || waits || lanes.iter().any(is_due)
            }
        }
    }

    fn is_done(&self, (part, since): &(Growing, Instant)) -> bool {
        part.len() >= self.part_bytes || since.elapsed() >= PART_AGE
    }

    /// Makes durable what was written, and says what that is. Nothing is written meanwhile.
    pub(super) fn cut(&self, ends: bool) -> Result<OutputState> {
        let mut files = Vec::new();
        let mut number = 0;
        let lanes = lock(&self.lanes);
        for lane in lanes.iter() {
            let mut lane = lock(lane);
            self.hand_on(&mut lane)?;
            if let Some(part) = lane.part.take_if(|part| ends || self.is_done(part)) {
                self.put(part.0);
            }
            if let Some((part, _)) = &mut lane.part {
                files.push(list(part, false)?);
            }
            number = number.max(lane.roll);
        }
        match &self.shape {
            Shape::File {
                packing,
                growing,
                shown,
            } => {
                let mut growing = lock(growing);
                if ends && growing.len() == 0 {
                    // No bytes at all would be a damaged file for the readers of packed ones.
                    let mut packer = packing.packer().map_err(|why| self.about(why))?;
                    let nothing = packer.pack(b"").and_then(|bytes| growing.append(bytes));
                    nothing.map_err(|why| self.about(why))?;
                }
                files.push(list(&mut growing, ends)?);
                *lock(shown) = ends;
                number = 0;
            }
            Shape::Folder { next, .. } => {
                number = number.max(*lock(next));
                if ends && number == 0 {
                    // A folder without a file is no source.
                    number = 1;
                    self.put(self.begin(0, 0)?);
                }
                *lock(next) = number;
                files.append(&mut self.done()?);
            }
        }
        crash_point("output synced");
        // Names go before the manifest that has them.
        let folder = match self.shape {
            Shape::File { .. } => parent(&self.place),
            Shape::Folder { .. } => &self.place,
        };
        let synced = self.disk.sync_folder(folder);
        synced.map_err(|why| self.about(why))?;
        Ok(OutputState {
            port: String::new(),
            place: self.place.to_string_lossy().into_owned(),
            next: number,
            files,
        })
    }

    /// The parts that nobody appends to any more, for good.
    fn done(&self) -> Result<Vec<OutputFile>> {
        let Shape::Folder { full, .. } = &self.shape else {
            return Ok(Vec::new());
        };
        let full = mem::take(&mut *lock(full));
        full.into_iter()
            .map(|mut part| list(&mut part, true))
            .collect()
    }

    /// Part file number `roll` of `worker`.
    fn begin(&self, worker: usize, roll: u64) -> Result<Growing> {
        let place = self.place.join(part_name(worker, roll));
        Growing::begin(&self.disk, &place).map_err(|why| cannot_write(&place, why))
    }

    /// The checkpoint with `files` is committed.
    pub(super) fn show(&self, files: &[OutputFile]) -> Result {
        show(&*self.disk, files)
    }

    /// Nobody appends to `part` any more.
    fn put(&self, mut part: Growing) {
        part.put_away();
        if let Shape::Folder { full, .. } = &self.shape {
            lock(full).push(part);
        }
    }

    /// Takes what `lane` has in its hands.
    fn hand_on(&self, lane: &mut Lane) -> Result {
        if lane.piece.is_empty() {
            return Ok(());
        }
        match &self.shape {
            Shape::File { growing, .. } => {
                let packed = lane.packer.pack(&lane.piece);
                let written = packed.and_then(|bytes| lock(growing).append(bytes));
                written.map_err(|why| self.about(why))?;
            }
            Shape::Folder { .. } => {
                let is_full = |(part, _): &mut (Growing, Instant)| part.len() >= self.part_bytes;
                if let Some((part, _)) = lane.part.take_if(is_full) {
                    self.put(part);
                }
                if lane.part.is_none() {
                    let part = self.begin(lane.worker, lane.roll)?;
                    lane.part = Some((part, now()));
                    lane.roll += 1;
                }
                if let Some((part, _)) = &mut lane.part {
                    let written = part.append(&lane.piece);
                    written.map_err(|why| cannot_write(part.place(), why))?;
                }
            }
        }
        lane.piece.clear();
        Ok(())
    }

    fn about(&self, cause: io::Error) -> Error {
        cannot_write(&self.place, cause)
    }
}

fn list(file: &mut Growing, done: bool) -> Result<OutputFile> {
    let synced = file.sync();
    synced.map_err(|why| cannot_write(file.place(), why))?;
    Ok(file.listed(done))
}

/// The hands of one worker. Its lock is free but while a checkpoint is made.
#[derive(Debug)]
struct KeptWriter {
    kept: Arc<Kept>,
    lane: Arc<Mutex<Lane>>,
}

impl Writer for KeptWriter {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        let mut lane = lock(&self.lane);
        lane.piece.extend_from_slice(lines_from(batch, from));
        if lane.piece.len() >= lane.piece_bytes {
            self.kept.hand_on(&mut lane)?;
        }
        Ok(Written::All)
    }

    /// Nobody sees it before a checkpoint, which asks for what is here.
    fn flush(&mut self) -> Result {
        Ok(())
    }

    /// All of it is in the last checkpoint.
    fn close(&mut self) -> Result {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
