//! The disk, as checkpoints see it: files that are written once, from the beginning to the end.
//!
//! What was written may be lost until it is synced, and so may a name until its folder is synced.
//! All calls may block for seconds: none belongs on a worker's thread.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::UNIX_EPOCH;

/// The name of the file that [`lock`] locks.
pub(crate) const LOCK: &str = "lock";

/// Bytes that are looked at in one go where a file need not be in memory.
const PIECE: usize = 1 << 20;

/// The files that checkpoints are made of. Behind a trait, so that tests can lose what was not
/// synced.
pub(crate) trait Disk: Send + Sync + fmt::Debug {
    /// A new file, which must not exist yet.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there, cut to its first `len` bytes, to be appended to.
    fn reopen(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>>;
    /// The CRC-32C of the first `len` bytes of a file, of any length.
    ///
    /// # Errors
    /// As [`Disk::read_prefix`].
    fn checksum(&self, path: &Path, len: u64) -> io::Result<u32>;
    /// How many files are best read at a time.
    fn readers(&self) -> usize;
    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The first `len` bytes of a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if it has fewer.
    fn read_prefix(&self, path: &Path, len: u64) -> io::Result<Vec<u8>>;
    /// Bytes in a file.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// The names in a folder, sorted.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// A new folder, which must not exist yet.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Returns when the names in a folder, and that others are gone, are on the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or folder another name. A file that has it is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder, which must be empty.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Keeps what is at `path`, if anything is, from others that ask so, as long as the file that
    /// is returned is open. A disk of tests has one process.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`]: somebody has it.
    fn hold(&self, _path: &Path) -> io::Result<Option<File>> {
        Ok(None)
    }
}

/// A file that is being written.
///
/// After an error nothing is known of what was appended since the last sync, and a sync that
/// succeeds later says nothing of it: the system tells once that it could not write. Such a file
/// is to be given up.
pub(crate) trait DiskFile: Send + fmt::Debug {
    /// Appends all of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when what was appended is on the disk; the file's name is not.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn reopen(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).open(path)?;
        if file.metadata()?.len() != len {
            file.set_len(len)?;
        }
        Ok(Box::new(file))
    }

    fn checksum(&self, path: &Path, len: u64) -> io::Result<u32> {
        let mut file = File::open(path)?.take(len);
        let mut piece = vec![0; PIECE];
        let (mut crc, mut read) = (0, 0);
        loop {
            match file.read(&mut piece)? {
                0 if read < len => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => return Ok(crc),
                some => {
                    crc = crc32c::crc32c_append(crc, &piece[..some]);
                    read += some as u64;
                }
            }
        }
    }

    fn readers(&self) -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // One allocation of the file's length, and reads as large as the system takes them.
        fs::read(path)
    }

    fn read_prefix(&self, path: &Path, len: u64) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        // Asked first: `len` may be nonsense, and is reserved.
        let has = file.metadata()?.len();
        let too_short = |has| {
            let what = format!("{has} of {len} bytes are there");
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, what))
        };
        if has < len {
            return too_short(has);
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX))?;
        match file.take(len).read_to_end(&mut bytes)? as u64 {
            read if read < len => too_short(read),
            _ => Ok(bytes),
        }
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let found = fs::metadata(path)?;
        if found.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(found.len())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            // Names here are our own: one that is no text is somebody else's, as is any other that
            // is not known.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn hold(&self, path: &Path) -> io::Result<Option<File>> {
        let file = match File::open(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let busy = "another process or sink is writing it";
                Err(io::Error::new(io::ErrorKind::ResourceBusy, busy))
            }
            // Some file systems know no locks; then there is no protection.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
        }
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // The length is synced with the bytes; times of access and change need not be.
        self.sync_data()
    }
}

/// A folder that is this process's alone, as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is given back when it is dropped"]
pub(crate) struct Lock {
    /// Open, and so locked: the system gives the lock back when the process ends, however it ends.
    file: File,
}

impl Lock {
    /// Writes into the file who holds it now, for others to read. Until here it says who held it
    /// last.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn sign(&mut self, who: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all(format!("{who}\n").as_bytes())
    }
}

/// Locks `folder`. `None` if it is locked already, by another process or by this one.
///
/// The file stays when the lock is given back: a process that waits to lock a file that is gone
/// would share the folder with one that locks a new file.
///
/// # Errors
/// What the system says, which includes a file system that knows no locks.
pub(crate) fn lock(folder: &Path) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(LOCK))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(cause),
        Ok(()) => Ok(Some(Lock { file })),
    }
}

/// What the holder of `folder`'s lock wrote, or the last one that held it; `None` if nobody did, or
/// while the holder is still writing.
pub(crate) fn lock_holder(folder: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(folder.join(LOCK)) {
        Ok(text) => Ok(text.strip_suffix('\n').map(str::to_owned)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// What tells `folder`, which was locked once, from any copy of it: a copied file is another file,
/// and was born later.
///
/// # Errors
/// The file of the lock is not there.
pub(crate) fn lock_mark(folder: &Path) -> io::Result<String> {
    let found = fs::metadata(folder.join(LOCK))?;
    let born = found.created().ok();
    let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    // Where births are not noted, the device tells at least another file system.
    let other = born.map_or_else(|| found.dev().into(), |born| born.as_nanos());
    Ok(format!("{:x}-{other:x}", found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = RealDisk.create(&path).unwrap();
        file.append(b"some ").unwrap();
        file.append(b"bytes").unwrap();
        file.sync().unwrap();
        RealDisk.sync_folder(folder.path()).unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"some bytes");
        assert_eq!(RealDisk.read_prefix(&path, 4).unwrap(), b"some");
        assert_eq!(RealDisk.len(&path).unwrap(), 10);
        for too_long in [11, u64::MAX] {
            let error = RealDisk.read_prefix(&path, too_long).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            let said = format!("10 of {too_long} bytes are there");
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn what_is_read_takes_its_length_of_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let length = 3_000_001;
        RealDisk
            .create(&path)
            .unwrap()
            .append(&vec![7; length])
            .unwrap();
        assert_eq!(RealDisk.read(&path).unwrap().capacity(), length);
        let prefix = RealDisk.read_prefix(&path, 2_000_001).unwrap();
        assert_eq!((prefix.len(), prefix.capacity()), (2_000_001, 2_000_001));
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let holder = || lock_holder(folder).unwrap();
        assert_eq!(holder(), None);
        let mut first = lock(folder).unwrap().unwrap();
        assert_eq!(holder(), None, "it has said nothing yet");
        first.sign("process 11, started at 1700000000000").unwrap();
        assert!(lock(folder).unwrap().is_none());
        let said = Some("process 11, started at 1700000000000".to_owned());
        assert_eq!(holder(), said);
        drop(first);
        // It stands there until the next one has something to say.
        let mut second = lock(folder).unwrap().unwrap();
        assert_eq!(holder(), said);
        // A shorter text leaves nothing of the longer one.
        second.sign("process 7").unwrap();
        assert_eq!(holder().unwrap(), "process 7");
    }

    #[test]
    fn a_copied_folder_is_another_and_a_moved_one_the_same() {
        let parent = tempfile::tempdir().unwrap();
        let [first, copy, moved] = ["first", "copy", "moved"].map(|name| parent.path().join(name));
        fs::create_dir(&first).unwrap();
        lock(&first).unwrap().unwrap().sign("somebody").unwrap();
        let mark = lock_mark(&first).unwrap();
        drop(lock(&first).unwrap().unwrap());
        assert_eq!(lock_mark(&first).unwrap(), mark, "locked again");
        fs::create_dir(&copy).unwrap();
        fs::copy(first.join(LOCK), copy.join(LOCK)).unwrap();
        assert_ne!(lock_mark(&copy).unwrap(), mark);
        fs::rename(&first, &moved).unwrap();
        assert_eq!(lock_mark(&moved).unwrap(), mark);
        assert!(lock_mark(&first).is_err());
    }
}
