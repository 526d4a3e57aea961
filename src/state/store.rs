//! A state directory: a folder for each generation of the job, in it the logs of its workers and a
//! manifest for each checkpoint.
//!
//! ```text
//! DIR/lock                                 held by the process that runs
//! DIR/gen=00000003/worker=000.0000000041.log   from checkpoint 41 on
//! DIR/gen=00000003/checkpoint-0000000041.json
//! ```
//! A process writes into a generation of its own only, and deletes what no committed manifest
//! names, in its own generation and in older ones. A manifest is there after all that it names, and
//! goes before: so each one that is found is whole, whenever the power failed.

mod found;
mod names;
pub(crate) mod savepoint;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::durable;
use super::frame;
use super::manifest::{LogPart, Manifest};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::crash_point;
pub(crate) use found::{generations, logs, manifests, newest, newest_generation};
pub(crate) use found::{log_in, read_log, read_logs, read_manifest};
use names::{folder_of, is_ours, log_name, manifest_name, place_of};

/// A manifest's name below the state directory, and its checksum: what a commit names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) manifest: String,
    pub(crate) crc: u32,
}

/// A log that is written.
struct Log {
    path: String,
    file: Box<dyn DiskFile>,
    len: u64,
    crc: u32,
    synced: bool,
}

/// A state directory, as one process has it.
pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    generation: u64,
    /// What the run continues with, until everything is saved anew.
    before: Vec<LogPart>,
    /// Of each worker, once it has saved something.
    logs: Vec<Option<Log>>,
    /// The names of all logs are on the disk.
    named: bool,
    /// What older generations left is not cleaned up.
    keeps_older: bool,
}

fn taken_over(dir: &Path) -> Error {
    let dir = dir.display();
    let what = format!("another instance has taken over this job: `{dir}` is no longer its own");
    Error::new(ErrorKind::Owned, what)
}

impl Store {
    /// Begins a generation above `above` and above `seen`, which was the newest one in the
    /// directory when this process got the job.
    ///
    /// # Errors
    /// Somebody has begun one since; or names the folder that cannot be made.
    pub(crate) fn begin(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        seen: u64,
        above: u64,
        workers: usize,
    ) -> Result<Self> {
        if newest_generation(&**disk, dir)? != seen {
            return Err(taken_over(dir));
        }
        let generation = seen.max(above) + 1;
        let folder = dir.join(folder_of(generation));
        durable::new_folder(&**disk, &folder).map_err(|why| match why.kind() {
            io::ErrorKind::AlreadyExists => taken_over(dir),
            _ => broken(&folder, why),
        })?;
        crash_point("generation made");
        Ok(Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            generation,
            before: Vec::new(),
            logs: (0..workers).map(|_| None).collect(),
            named: true,
            keeps_older: false,
        })
    }

    /// The generation of this process.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether older generations stay: as long as what was committed may be one of them.
    pub(crate) fn keep_older(&mut self, keeps: bool) {
        self.keeps_older = keeps;
    }

    /// The run continues with `logs`.
    pub(crate) fn continue_with(&mut self, logs: Vec<LogPart>) {
        self.before = logs;
    }

    /// Everything is saved anew, from `checkpoint` on: into logs of their own.
    pub(crate) fn begin_full(&mut self) {
        self.before.clear();
        self.logs.iter_mut().for_each(|log| *log = None);
    }

    /// Appends a parcel of `worker`, in checkpoint `checkpoint`.
    ///
    /// # Errors
    /// Names the log.
    pub(crate) fn append(&mut self, worker: usize, checkpoint: u64, parcel: &[u8]) -> Result {
        let path = log_name(self.generation, worker, checkpoint);
        let about = |why| broken(&self.dir.join(&path), why);
        let log = match &mut self.logs[worker] {
            Some(log) => log,
            none => {
                self.named = false;
                none.insert(Log {
                    file: self.disk.create(&self.dir.join(&path)).map_err(about)?,
                    path: path.clone(),
                    len: 0,
                    crc: 0,
                    synced: false,
                })
            }
        };
        let mut framed = Vec::with_capacity(parcel.len() + 16);
        frame::write_frame(parcel, &mut framed)?;
        let name = self.dir.join(&log.path);
        log.file.append(&framed).map_err(|why| broken(&name, why))?;
        crash_point("log appended");
        log.len += framed.len() as u64;
        log.crc = crc32c::crc32c_append(log.crc, &framed);
        log.synced = false;
        Ok(())
    }

    /// Fails if another process has begun a generation after this one: it runs the job now.
    ///
    /// # Errors
    /// As said, or the directory cannot be read.
    pub(crate) fn check_newest(&self) -> Result {
        if newest_generation(&*self.disk, &self.dir)? == self.generation {
            return Ok(());
        }
        Err(taken_over(&self.dir))
    }

    /// Whoever was taken over may find its files gone, for its successor cleans up: that it is no
    /// longer the one says more than what it stumbled over.
    pub(crate) fn why(&self, error: Error) -> Error {
        match self.check_newest() {
            Err(owned) if owned.kind() == ErrorKind::Owned => owned,
            _ => error,
        }
    }

    /// Bytes of all logs that the next manifest names.
    pub(crate) fn bytes(&self) -> u64 {
        let own = self.logs.iter().flatten().map(|log| log.len);
        own.chain(self.before.iter().map(|log| log.len)).sum()
    }

    /// Makes `manifest` durable, after all logs that it names; fills in which.
    ///
    /// # Errors
    /// Names the file.
    pub(crate) fn prepare(&mut self, manifest: &mut Manifest) -> Result<Named> {
        // Whoever has taken over may have removed the folder already.
        self.check_newest()?;
        let folder = self.dir.join(folder_of(self.generation));
        for log in self.logs.iter_mut().flatten().filter(|log| !log.synced) {
            let name = self.dir.join(&log.path);
            log.file.sync().map_err(|why| broken(&name, why))?;
            log.synced = true;
        }
        crash_point("logs synced");
        if !self.named {
            // Now, though the manifest's name is synced in the same folder: it may not be there
            // before theirs.
            sync_folder(&*self.disk, &folder)?;
            self.named = true;
        }
        let own = self.logs.iter().flatten().map(|log| LogPart {
            path: log.path.clone(),
            len: log.len,
            crc: log.crc,
        });
        manifest.logs = self.before.iter().cloned().chain(own).collect();
        manifest.generation = self.generation;
        let name = manifest_name(self.generation, manifest.checkpoint);
        let (bytes, crc) = manifest.to_bytes()?;
        let path = self.dir.join(&name);
        durable::write_whole(&*self.disk, &path, &bytes).map_err(|why| broken(&path, why))?;
        crash_point("manifest durable");
        Ok(Named {
            manifest: name,
            crc,
        })
    }

    /// `committed` is committed: everything else goes, but for newer generations.
    ///
    /// # Errors
    /// Names the file that cannot be deleted.
    pub(crate) fn clean(&self, committed: &Manifest) -> Result {
        crash_point("old state goes");
        let manifest = manifest_name(committed.generation, committed.checkpoint);
        let mut keep: BTreeSet<&str> = committed.logs.iter().map(|log| &*log.path).collect();
        keep.insert(&manifest);
        keep.extend(self.logs.iter().flatten().map(|log| &*log.path));
        let mut there = generations(&*self.disk, &self.dir)?;
        let oldest = if self.keeps_older { self.generation } else { 0 };
        there.retain(|generation| (oldest..=self.generation).contains(generation));
        let folders: Vec<_> = there.into_iter().map(folder_of).collect();
        let mut others = Vec::new();
        for folder in &folders {
            for path in self.not_kept(folder, &keep)? {
                if place_of(&path).is_none() {
                    others.push(path);
                    continue;
                }
                self.remove(&path)?;
            }
        }
        if !others.is_empty() {
            // No power loss brings a manifest back whose logs are gone.
            let synced = folders.iter().map(|name| self.dir.join(name));
            for folder in synced.chain([self.dir.clone()]) {
                let synced = unless_gone(self.disk.sync_folder(&folder));
                synced.map_err(|why| broken(&folder, why))?;
            }
        }
        others.iter().try_for_each(|path| self.remove(path))?;
        self.remove_empty(&folders)
    }

    /// What is to go of a folder. What is not known there is somebody else's, and stays.
    fn not_kept(&self, folder: &str, keep: &BTreeSet<&str>) -> Result<Vec<String>> {
        let path = self.dir.join(folder);
        let names = unless_gone(self.disk.list(&path)).map_err(|why| broken(&path, why))?;
        let paths = names.iter().map(|file| format!("{folder}/{file}"));
        let gone = |path: &String| is_ours(path) && !keep.contains(&**path);
        Ok(paths.filter(gone).collect())
    }

    fn remove(&self, path: &str) -> Result {
        let path = self.dir.join(path);
        let removed = unless_gone(self.disk.remove_file(&path));
        removed.map_err(|why| broken(&path, why))
    }

    /// Removes those of `folders` that are empty, but for that of its own generation.
    fn remove_empty(&self, folders: &[String]) -> Result {
        let own = folder_of(self.generation);
        for name in folders.iter().filter(|name| **name != own) {
            let folder = self.dir.join(name);
            let remove = |disk: &dyn Disk| {
                if disk.list(&folder)?.is_empty() {
                    disk.remove_folder(&folder)?;
                }
                Ok(())
            };
            unless_gone(remove(&*self.disk)).map_err(|why| broken(&folder, why))?;
        }
        Ok(())
    }
}

/// Whoever has taken over the job cleans up, too.
fn unless_gone<T: Default>(done: io::Result<T>) -> io::Result<T> {
    match done {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        done => done,
    }
}

fn broken(path: &Path, why: io::Error) -> Error {
    Error::operating(format!("state: `{}`", path.display())).because(why)
}

fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result {
    disk.sync_folder(folder).map_err(|why| broken(folder, why))
}

#[cfg(test)]
mod tests;
