//! A file that nobody sees under its name before it is whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is written as `.NAME.tmp` beside its place, and then renamed.
///
/// It is locked while it is written, so that two processes cannot write one output; what a process
/// that died has left is taken over and emptied. If it is dropped before [`Hidden::reveal`], the
/// hidden file is removed, and what stood in its place is still there.
#[derive(Debug)]
pub(super) struct Hidden {
    place: PathBuf,
    meanwhile: PathBuf,
    /// `None` when it was put away; it is opened again to be synced.
    file: Option<File>,
    revealed: bool,
}

impl Hidden {
    /// An empty hidden file for `place`.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] while another process writes it, and what the system says.
    pub(super) fn create(place: &Path) -> io::Result<Self> {
        let meanwhile = hidden_name(place)?;
        loop {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&meanwhile)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let busy = "another process or sink is writing it";
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, busy));
                }
                // Some file systems know no locks; then there is no protection.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            // Its last owner may have renamed or removed it before the lock was ours.
            if is_still(&meanwhile, &file)? {
                file.set_len(0)?;
                let place = place.to_owned();
                return Ok(Self {
                    place,
                    meanwhile,
                    file: Some(file),
                    revealed: false,
                });
            }
        }
    }

    /// Where it will be.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Appends `bytes`.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open()?.write_all(bytes)
    }

    /// Closes it for now: nothing more is written.
    pub(super) fn put_away(&mut self) {
        self.file = None;
    }

    /// Returns when everything is on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.open()?.sync_all()
    }

    /// Gives it its name, in place of what had that name. The folder has to be synced after it.
    pub(super) fn reveal(mut self) -> io::Result<()> {
        self.sync()?;
        fs::rename(&self.meanwhile, &self.place)?;
        self.revealed = true;
        Ok(())
    }

    fn open(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().append(true).open(&self.meanwhile)?,
        };
        Ok(self.file.insert(file))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if !self.revealed
            && let Err(cause) = fs::remove_file(&self.meanwhile)
        {
            tracing::warn!(
                "file `{}` is left behind: {cause}",
                self.meanwhile.display()
            );
        }
    }
}

/// Where a file for `place` is hidden: `.NAME.tmp` beside it.
fn hidden_name(place: &Path) -> io::Result<PathBuf> {
    let Some(name) = place.file_name() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            "it has no name",
        ));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(place.with_file_name(hidden))
}

fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    match fs::metadata(path) {
        Ok(found) => Ok(identity(found) == identity(file.metadata()?)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// Returns when the names in `folder` are on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_seen_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        fs::write(&place, "old").unwrap();
        let mut hidden = Hidden::create(&place).unwrap();
        hidden.write_all(b"ne").unwrap();
        hidden.put_away();
        assert_eq!(fs::read(&place).unwrap(), b"old");
        hidden.write_all(b"w").unwrap();
        hidden.reveal().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn leaves_nothing_when_it_is_dropped_and_takes_over_what_a_dead_process_left() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        fs::write(folder.path().join(".out.tmp"), "half a li").unwrap();
        let mut hidden = Hidden::create(&place).unwrap();
        hidden.write_all(b"whole").unwrap();
        assert_eq!(fs::read(folder.path().join(".out.tmp")).unwrap(), b"whole");
        drop(hidden);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn is_written_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out");
        let first = Hidden::create(&place).unwrap();
        let second = Hidden::create(&place).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
        first.reveal().unwrap();
        Hidden::create(&place).unwrap();
    }
}
