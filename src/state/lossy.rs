//! A disk in memory that keeps what was synced and nothing else for certain; and that fails when it
//! is told to.
//!
//! It follows what POSIX promises, not what one file system does. A power loss, which is
//! [`LossyDisk::crash`], keeps of what was appended since a file's last sync any prefix, whose last
//! block may be garbage and in which blocks may be zero; what was cut off a file since its last
//! sync may be there again; and of what was done to the names in a folder since its last sync any
//! selection happened. A rename within a folder leaves the file its old name, the new one, or both.
//! A file that could not be synced never will be. What happened is drawn from a seed.

mod tests;
mod tree;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};
use tree::{Id, Tree};

/// See the module. A clone is the same disk: what another process sees after the one that wrote
/// was killed.
#[derive(Clone, Debug, Default)]
pub(crate) struct LossyDisk {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    tree: Tree,
    operations: u64,
    planned: Vec<Planned>,
    left_out: Vec<Sync>,
    syncs: u64,
    /// The one sync with this number is left out, too.
    left_out_nth: Option<u64>,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `ENOSPC`: all but reading and removing.
    NoSpace,
    /// `EROFS`: all but reading.
    ReadOnly,
    /// `EIO`: anything.
    Io,
}

/// What is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Files,
    Folders,
}

/// The operations from a number on fail, those that can: one of them or all.
#[derive(Clone, Copy, Debug)]
struct Planned {
    from: u64,
    once: bool,
    failure: Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Fault(Fault),
    PowerOff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reads,
    Writes,
    Removes,
}

impl LossyDisk {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The disk as it is found after the power was lost now. This one stays as it is, so that it
    /// can be asked with many seeds.
    pub(crate) fn crash(&self, seed: u64) -> Self {
        let state = State {
            tree: self.state().tree.after_power_loss(seed),
            ..State::default()
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
        }
    }

    /// How many operations there were, failed ones included.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many syncs there were, those included that were left out.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// After `some` more operations one fails: the first that can fail so.
    ///
    /// An append that fails has appended half; a sync that fails has synced nothing, and the file
    /// will never be synced.
    pub(crate) fn fail_after(&self, some: u64, fault: Fault) {
        self.plan(some, true, Failure::Fault(fault));
    }

    /// After `some` more operations all fail that can fail so.
    pub(crate) fn fail_all_after(&self, some: u64, fault: Fault) {
        self.plan(some, false, Failure::Fault(fault));
    }

    /// After `some` more operations all fail, and do nothing. [`Self::crash`] tells what is found
    /// then.
    pub(crate) fn power_off_after(&self, some: u64) {
        self.plan(some, false, Failure::PowerOff);
    }

    fn plan(&self, some: u64, once: bool, failure: Failure) {
        let mut state = self.state();
        let from = state.operations + some;
        state.planned.push(Planned {
            from,
            once,
            failure,
        });
        // Without power nothing fails in another way.
        state
            .planned
            .sort_by_key(|it| it.failure != Failure::PowerOff);
    }

    /// No operation fails from now on.
    pub(crate) fn fail_no_more(&self) {
        self.state().planned.clear();
    }

    /// Syncs succeed from now on and do nothing: as if who writes had left them out. A proof that
    /// holds all the same proves nothing.
    pub(crate) fn leave_out(&self, sync: Sync) {
        self.state().left_out.push(sync);
    }

    /// As [`Self::leave_out`], but only the sync that comes after `some` others.
    pub(crate) fn leave_out_one(&self, some: u64) {
        let mut state = self.state();
        state.left_out_nth = Some(state.syncs + some);
    }

    /// Flips `bits` in the byte at `at`, also of what was synced.
    pub(crate) fn flip(&self, path: &Path, at: usize, bits: u8) -> io::Result<()> {
        self.state().tree.flip(path, at, bits)
    }

    fn is_left_out(&self, sync: Sync) -> bool {
        let mut state = self.state();
        let now = state.syncs;
        state.syncs += 1;
        state.left_out.contains(&sync) || state.left_out_nth == Some(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(&self, kind: Kind, what: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        match state.next_fails(kind) {
            Some(failure) => Err(failure.error()),
            None => what(&mut state.tree),
        }
    }
}

impl State {
    /// Counts an operation, and says whether it fails.
    fn next_fails(&mut self, kind: Kind) -> Option<Failure> {
        let now = self.operations;
        self.operations += 1;
        let fails = |it: &Planned| it.from <= now && it.failure.can_hit(kind);
        let nth = self.planned.iter().position(fails)?;
        let failure = self.planned[nth].failure;
        if self.planned[nth].once {
            self.planned.remove(nth);
        }
        Some(failure)
    }
}

impl Failure {
    fn can_hit(self, kind: Kind) -> bool {
        match self {
            Self::Fault(Fault::NoSpace) => kind == Kind::Writes,
            Self::Fault(Fault::ReadOnly) => kind != Kind::Reads,
            Self::Fault(Fault::Io) | Self::PowerOff => true,
        }
    }

    fn error(self) -> io::Error {
        match self {
            Self::Fault(fault) => fault.error(),
            Self::PowerOff => io::Error::other("the power is off"),
        }
    }
}

impl Fault {
    /// As the system gives it.
    pub(crate) fn error(self) -> io::Error {
        let number = match self {
            Self::NoSpace => rustix::io::Errno::NOSPC,
            Self::ReadOnly => rustix::io::Errno::ROFS,
            Self::Io => rustix::io::Errno::IO,
        };
        number.into()
    }
}

impl Disk for LossyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let id = self.run(Kind::Writes, |tree| tree.create(path))?;
        let disk = self.clone();
        Ok(Box::new(LossyFile { disk, id }))
    }

    fn reopen(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let id = self.run(Kind::Writes, |tree| tree.cut(path, len))?;
        let disk = self.clone();
        Ok(Box::new(LossyFile { disk, id }))
    }

    fn checksum(&self, path: &Path, len: u64) -> io::Result<u32> {
        Ok(crc32c::crc32c(&self.read_prefix(path, len)?))
    }

    fn readers(&self) -> usize {
        1 // operations have numbers
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.run(Kind::Reads, |tree| tree.contents(path).map(<[u8]>::to_vec))
    }

    fn read_prefix(&self, path: &Path, len: u64) -> io::Result<Vec<u8>> {
        let prefix = |tree: &mut Tree| {
            let contents = tree.contents(path)?;
            let prefix = usize::try_from(len)
                .ok()
                .and_then(|len| contents.get(..len));
            Ok(prefix.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
        };
        self.run(Kind::Reads, prefix)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.run(Kind::Reads, |tree| Ok(tree.contents(path)?.len() as u64))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.run(Kind::Reads, |tree| tree.list(folder))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.run(Kind::Writes, |tree| tree.create_folder(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if self.is_left_out(Sync::Folders) {
            return self.run(Kind::Writes, |_| Ok(()));
        }
        self.run(Kind::Writes, |tree| tree.sync_folder(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Kind::Writes, |tree| tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(Kind::Removes, |tree| tree.remove(path, false))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.run(Kind::Removes, |tree| tree.remove(path, true))
    }
}

#[derive(Debug)]
struct LossyFile {
    disk: LossyDisk,
    id: Id,
}

impl DiskFile for LossyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let fails = state.next_fails(Kind::Writes);
        let done = match fails {
            None => bytes,
            Some(Failure::Fault(_)) => &bytes[..bytes.len() / 2],
            Some(Failure::PowerOff) => &[],
        };
        state.tree.append(self.id, done)?;
        fails.map_or(Ok(()), |failure| Err(failure.error()))
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.disk.is_left_out(Sync::Files) {
            return self.disk.run(Kind::Writes, |_| Ok(()));
        }
        let mut state = self.disk.state();
        match state.next_fails(Kind::Writes) {
            None => state.tree.sync(self.id),
            Some(failure) => {
                state.tree.give_up(self.id)?;
                Err(failure.error())
            }
        }
    }
}
