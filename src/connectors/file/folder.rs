//! A folder of part files as an output: every worker fills files of its own.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::hidden::{Hidden, sync_folder};
use super::sink::{cannot_write, parent};
use crate::error::{Error, Result};

/// A folder that part files are written into. While it is, the folder is locked; if it is dropped
/// before it is finished, it looks as before.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Whether it was made for this output.
    made: bool,
    /// Part files that the new ones replace.
    old: Vec<PathBuf>,
    /// Holds the lock.
    _lock: File,
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    full: Vec<Hidden>,
    failed: bool,
    finished: bool,
}

impl Folder {
    /// The folder at `path`, made if it is not there.
    ///
    /// # Errors
    /// A usage error if it is not empty and `overwrite` does not allow that; operating errors
    /// otherwise. Hidden files that a dead process has left in it do not count, and are removed.
    pub(super) fn prepare(path: &Path, overwrite: bool) -> Result<Self> {
        let about = |cause| cannot_write(path, cause);
        let made = match fs::create_dir(path) {
            Ok(()) => true,
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => false,
            Err(cause) => return Err(about(cause)),
        };
        let lock = File::open(path).map_err(about)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(about(io::Error::other(
                "another process or sink is writing into it",
            )));
        }
        let mut folder = Self {
            path: path.to_owned(),
            made,
            old: Vec::new(),
            _lock: lock,
            parts: Mutex::default(),
        };
        let others = folder.look().map_err(about)?;
        if !overwrite && (others || !folder.old.is_empty()) {
            return Err(not_empty(path));
        }
        Ok(folder)
    }

    /// Finds old part files, removes leavings, and says whether there is anything else.
    fn look(&mut self) -> io::Result<bool> {
        let mut others = false;
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
            if is_part(name) {
                self.old.push(path);
            } else if is_hidden_part(name) {
                fs::remove_file(&path)?;
            } else {
                others = true;
            }
        }
        Ok(others)
    }

    fn place(&self, worker: usize, roll: u64) -> PathBuf {
        self.path.join(part_name(worker, roll))
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the part files under their names and removes the old ones; or else removes the new.
    ///
    /// # Errors
    /// Operating errors, also when a write had failed before.
    pub(super) fn finish(&self, complete: bool) -> Result {
        let mut parts = self.parts();
        let full = mem::take(&mut parts.full);
        if !complete {
            drop(full);
            self.unmake();
            return Ok(());
        }
        let about = |cause| cannot_write(&self.path, cause);
        if parts.failed {
            return Err(about(io::Error::other(
                "a write failed before, it stays incomplete",
            )));
        }
        self.show(full).map_err(about)?;
        parts.finished = true;
        Ok(())
    }

    /// Removes the folder if it was made for this output and is empty; not if somebody else has
    /// put something into it.
    fn unmake(&self) {
        if self.made {
            drop(fs::remove_dir(&self.path));
        }
    }

    fn show(&self, mut full: Vec<Hidden>) -> io::Result<()> {
        if full.is_empty() {
            // A folder without a file is no source.
            full.push(Hidden::create(&self.place(0, 0))?);
        }
        let new: BTreeSet<_> = full.iter().map(|part| part.place().to_owned()).collect();
        full.into_iter().try_for_each(Hidden::reveal)?;
        for old in self.old.iter().filter(|old| !new.contains(*old)) {
            fs::remove_file(old)?;
        }
        sync_folder(&self.path)?;
        if self.made {
            sync_folder(parent(&self.path))
        } else {
            Ok(())
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let parts = mem::take(&mut *self.parts());
        if !parts.finished {
            drop(parts.full);
            self.unmake();
        }
    }
}

/// The name of a part file: `part-WWW-CCCCCCCCCC.jsonl`.
pub(super) fn part_name(worker: usize, roll: u64) -> String {
    format!("part-{worker:03}-{roll:010}.jsonl")
}

/// Whether a file of this name is a part file that is being written, or was.
pub(super) fn is_hidden_part(name: &[u8]) -> bool {
    let hidden = name.strip_prefix(b".");
    let hidden = hidden.and_then(|name| name.strip_suffix(b".tmp"));
    hidden.is_some_and(is_part)
}

/// Whether a file of this name is a part file.
pub(super) fn is_part(name: &[u8]) -> bool {
    let numbers = name
        .strip_prefix(b"part-")
        .and_then(|name| name.strip_suffix(b".jsonl"));
    let Some((worker, roll)) =
        numbers.and_then(|it| it.split_at_checked(it.len().checked_sub(11)?))
    else {
        return false;
    };
    let digits = |it: &[u8]| it.iter().all(u8::is_ascii_digit);
    worker.len() >= 3 && digits(worker) && roll[0] == b'-' && digits(&roll[1..])
}

/// The part files of one worker.
#[derive(Debug)]
pub(super) struct PartWriter {
    folder: Arc<Folder>,
    worker: usize,
    part_bytes: u64,
    /// Bytes in the last of `parts`.
    written: u64,
    /// All so far, the last one may still grow.
    parts: Vec<Hidden>,
}

impl PartWriter {
    /// Writes `worker`'s part files of `part_bytes` each, give or take a piece.
    pub(super) fn new(folder: Arc<Folder>, worker: usize, part_bytes: u64) -> Self {
        Self {
            folder,
            worker,
            part_bytes,
            written: 0,
            parts: Vec::new(),
        }
    }

    /// Appends `lines` to one part file.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result {
        let roll = self.parts.len() as u64;
        if self.parts.is_empty() || self.written >= self.part_bytes {
            let place = self.folder.place(self.worker, roll);
            let part = Hidden::create(&place).map_err(|cause| self.failed(&place, cause))?;
            if let Some(full) = self.parts.last_mut() {
                full.put_away();
            }
            self.parts.push(part);
            self.written = 0;
        }
        if let Some(part) = self.parts.last_mut()
            && let Err(cause) = part.write_all(lines)
        {
            let place = part.place().to_owned();
            return Err(self.failed(&place, cause));
        }
        self.written += lines.len() as u64;
        Ok(())
    }

    /// Returns when all part files are on the disk, and gives them to the folder.
    pub(super) fn close(&mut self) -> Result {
        for mut part in mem::take(&mut self.parts) {
            part.sync()
                .map_err(|cause| self.failed(part.place(), cause))?;
            part.put_away();
            self.folder.parts().full.push(part);
        }
        Ok(())
    }

    fn failed(&self, place: &Path, cause: io::Error) -> Error {
        self.folder.parts().failed = true;
        cannot_write(place, cause)
    }
}

/// A folder that somebody else's files lie in.
pub(super) fn not_empty(path: &Path) -> Error {
    let path = path.display();
    Error::usage(format!(
        "folder `{path}` is not empty; --overwrite replaces the part files in it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn part_files_are_named_by_worker_and_roll_and_seen_at_the_end() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out/");
        let folder = Arc::new(Folder::prepare(&path, false).unwrap());
        for worker in [0, 12] {
            let mut writer = PartWriter::new(Arc::clone(&folder), worker, 10);
            for line in ["one\n", "two\n", "three\n", "four\n"] {
                writer.write(line.as_bytes()).unwrap();
            }
            writer.close().unwrap();
        }
        assert!(names(&path).iter().all(|name| name.starts_with('.')));
        folder.finish(true).unwrap();
        drop(folder);
        let (first, second) = ("part-000-0000000000.jsonl", "part-000-0000000001.jsonl");
        let third = "part-012-0000000000.jsonl";
        assert_eq!(
            names(&path),
            [first, second, third, "part-012-0000000001.jsonl"]
        );
        assert_eq!(fs::read(path.join(third)).unwrap(), b"one\ntwo\nthree\n");
        assert_eq!(fs::read(path.join(second)).unwrap(), b"four\n");
    }

    #[test]
    fn a_folder_that_is_not_empty_needs_the_flag_which_replaces_part_files_only() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out/");
        fs::create_dir(&path).unwrap();
        for name in [
            "part-000-0000000000.jsonl",
            "part-007-0000000003.jsonl",
            "notes",
        ] {
            fs::write(path.join(name), "old\n").unwrap();
        }
        let error = Folder::prepare(&path, false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--overwrite"), "{error}");

        let folder = Arc::new(Folder::prepare(&path, true).unwrap());
        let mut writer = PartWriter::new(Arc::clone(&folder), 0, 10);
        writer.write(b"new\n").unwrap();
        writer.close().unwrap();
        assert_eq!(
            fs::read(path.join("part-000-0000000000.jsonl")).unwrap(),
            b"old\n"
        );
        folder.finish(true).unwrap();
        assert_eq!(names(&path), ["notes", "part-000-0000000000.jsonl"]);
        assert_eq!(
            fs::read(path.join("part-000-0000000000.jsonl")).unwrap(),
            b"new\n"
        );
    }

    #[test]
    fn nothing_written_is_one_empty_part_file() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out/");
        Folder::prepare(&path, false).unwrap().finish(true).unwrap();
        assert_eq!(names(&path), ["part-000-0000000000.jsonl"]);
    }

    #[test]
    fn a_run_that_fails_leaves_no_trace() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out/");
        let folder = Arc::new(Folder::prepare(&path, false).unwrap());
        let mut writer = PartWriter::new(Arc::clone(&folder), 0, 10);
        writer.write(b"a\n").unwrap();
        writer.close().unwrap();
        folder.finish(false).unwrap();
        assert!(names(parent.path()).is_empty());

        fs::create_dir(&path).unwrap();
        fs::write(path.join("part-000-0000000000.jsonl"), "old\n").unwrap();
        let folder = Arc::new(Folder::prepare(&path, true).unwrap());
        let mut writer = PartWriter::new(Arc::clone(&folder), 0, 10);
        writer.write(b"a\n").unwrap();
        drop((writer, folder));
        assert_eq!(names(&path), ["part-000-0000000000.jsonl"]);
    }

    #[test]
    fn leavings_of_a_dead_process_do_not_count_and_a_living_one_keeps_the_folder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out/");
        fs::create_dir(&path).unwrap();
        fs::write(path.join(".part-000-0000000001.jsonl.tmp"), "half").unwrap();
        let folder = Folder::prepare(&path, false).unwrap();
        assert!(names(&path).is_empty());
        let second = Folder::prepare(&path, false).unwrap_err();
        assert_eq!(second.exit_code(), 1);
        folder.finish(true).unwrap();
    }

    #[test]
    fn knows_a_part_file_by_its_name() {
        let parts = ["part-000-0000000000.jsonl", "part-1000-0123456789.jsonl"];
        assert!(parts.iter().all(|name| is_part(name.as_bytes())));
        let others = [
            "part-00-0000000000.jsonl",
            "part-000-000000000.jsonl",
            "part-.jsonl",
            "part",
        ];
        assert!(!others.iter().any(|name| is_part(name.as_bytes())));
    }
}
