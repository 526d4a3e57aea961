//! A state directory: a folder for each generation of the job, in it the logs of its workers and a
//! manifest for each checkpoint.
//!
//! ```text
//! DIR/lock                                 held by the process that runs
//! DIR/gen=00000003/worker=000.0000000041.log   from checkpoint 41 on
//! DIR/gen=00000003/checkpoint-0000000041.json
//! ```
//! A process writes into a generation of its own only, and deletes what no committed manifest
//! names, in its own generation and in older ones.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::disk::{Disk, DiskFile};
use super::durable;
use super::frame::{self, Frames};
use super::manifest::{LogPart, Manifest};
use super::restored::Restored;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::crash_point;

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
}

impl Store {
    /// Begins a generation above `above` and above all that are there.
    ///
    /// # Errors
    /// Names the folder that cannot be made.
    pub(crate) fn begin(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        above: u64,
        workers: usize,
    ) -> Result<Self> {
        let there = generations(&**disk, dir)?.last().copied().unwrap_or(0);
        let generation = there.max(above) + 1;
        let folder = dir.join(folder_of(generation));
        durable::new_folder(&**disk, &folder).map_err(|why| broken(&folder, why))?;
        crash_point("generation made");
        Ok(Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            generation,
            before: Vec::new(),
            logs: (0..workers).map(|_| None).collect(),
        })
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
        let path = format!(
            "{}/worker={worker:03}.{checkpoint:010}.log",
            folder_of(self.generation)
        );
        let about = |why| broken(&self.dir.join(&path), why);
        let log = match &mut self.logs[worker] {
            Some(log) => log,
            none => none.insert(Log {
                file: self.disk.create(&self.dir.join(&path)).map_err(about)?,
                path: path.clone(),
                len: 0,
                crc: 0,
                synced: false,
            }),
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
        let newest = generations(&*self.disk, &self.dir)?.last().copied();
        if newest == Some(self.generation) {
            return Ok(());
        }
        let dir = self.dir.display();
        let what =
            format!("another instance has taken over this job: `{dir}` is no longer its own");
        Err(Error::new(ErrorKind::Owned, what))
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
        self.disk
            .sync_folder(&folder)
            .map_err(|why| broken(&folder, why))?;
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
        for generation in generations(&*self.disk, &self.dir)? {
            if generation <= self.generation {
                self.clean_folder(generation, &keep)?;
            }
        }
        Ok(())
    }

    fn clean_folder(&self, generation: u64, keep: &BTreeSet<&str>) -> Result {
        let name = folder_of(generation);
        let folder = self.dir.join(&name);
        let about = |why| broken(&folder, why);
        let mut left = 0;
        for file in self.disk.list(&folder).map_err(about)? {
            if keep.contains(&*format!("{name}/{file}")) {
                left += 1;
            } else {
                self.disk.remove_file(&folder.join(&file)).map_err(about)?;
            }
        }
        if left == 0 && generation < self.generation {
            self.disk.remove_folder(&folder).map_err(about)?;
        }
        Ok(())
    }
}

fn folder_of(generation: u64) -> String {
    format!("gen={generation:08}")
}

pub(crate) fn manifest_name(generation: u64, checkpoint: u64) -> String {
    format!("{}/checkpoint-{checkpoint:010}.json", folder_of(generation))
}

fn broken(path: &Path, why: io::Error) -> Error {
    Error::operating(format!("state: `{}`", path.display())).because(why)
}

/// Generations in `dir`, in order. A directory that is not there has none.
pub(crate) fn generations(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>> {
    let names = match disk.list(dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(|why| broken(dir, why))?,
    };
    let numbers = names
        .iter()
        .filter_map(|name| name.strip_prefix("gen=")?.parse().ok());
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Names of all manifests in `dir`, the newest last.
pub(crate) fn manifests(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for generation in generations(disk, dir)? {
        let name = folder_of(generation);
        let folder = dir.join(&name);
        let files = disk.list(&folder).map_err(|why| broken(&folder, why))?;
        let manifests = files.into_iter().filter(|file| {
            let path = Path::new(file);
            file.starts_with("checkpoint-") && path.extension().is_some_and(|it| it == "json")
        });
        found.extend(manifests.map(|file| format!("{name}/{file}")));
    }
    Ok(found)
}

/// Reads the manifest `name`.
///
/// # Errors
/// It is missing or damaged, and what to do.
pub(crate) fn read_manifest(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(Manifest, u32)> {
    let path = dir.join(name);
    let bytes = disk.read(&path).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => Error::new(
            ErrorKind::State,
            format!(
                "manifest `{}` is missing; start with --rebuild, which reads the log again",
                path.display()
            ),
        ),
        _ => broken(&path, why),
    })?;
    Manifest::read(&bytes, &path.display().to_string())
}

/// Reads the logs of a manifest, several at a time, and checks them.
///
/// # Errors
/// Names the log that is missing, too short or damaged, and what to do.
pub(crate) fn read_logs(disk: &Arc<dyn Disk>, dir: &Path, logs: &[LogPart]) -> Result<Restored> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut restored = Restored::default();
    for some in logs.chunks(threads) {
        let read: Vec<_> = thread::scope(|scope| {
            let reads: Vec<_> = some
                .iter()
                .map(|log| scope.spawn(|| read_log(&**disk, dir, log)))
                .collect();
            reads.into_iter().map(|read| read.join()).collect()
        });
        for log in read {
            let panicked = |_| Error::operating("reading the state panicked");
            let (bytes, parcels) = log.map_err(panicked)??;
            restored.add(bytes, parcels)?;
        }
    }
    Ok(restored)
}

type Parcels = Vec<std::ops::Range<usize>>;

fn read_log(disk: &dyn Disk, dir: &Path, log: &LogPart) -> Result<(Vec<u8>, Parcels)> {
    let path = dir.join(&log.path);
    let refuse = |what: String| {
        let place = path.display();
        let what = format!("log `{place}` {what}; start with --rebuild, which reads the log again");
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
