//! What is done to a disk in such an order that the power may fail at any moment.
//!
//! Nothing is repaired after an error: the process ends, and the next one finds what is there. What
//! it finds is whole, but not on the disk for certain if the process before it was killed or met an
//! error: before anything is done that relies on it, its folder has to be synced.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;

/// What a file is called while it is written, around its name.
const PREFIX: &str = ".";
const SUFFIX: &str = ".tmp";

/// Writes a file that is there wholly or not at all: until this returns, what is found at `path` is
/// what was there before or all of `bytes`, and from then on it is `bytes`.
///
/// It is written under another name beside its place; what a process that died has left there goes.
/// Two processes must not write one file at a time.
pub(crate) fn write_whole(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let meanwhile = meanwhile(path)?;
    let mut file = match disk.create(&meanwhile) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Removed, not written over: a power loss may have left one file under both names.
            disk.remove_file(&meanwhile)?;
            disk.create(&meanwhile)?
        }
        created => created?,
    };
    file.append(bytes)?;
    file.sync()?;
    disk.rename(&meanwhile, path)?;
    disk.sync_folder(parent(path))
}

/// Makes a folder that is this process's alone: nobody has made it before, and after this nobody
/// can. If the power fails before this returns, it may be there and empty.
pub(crate) fn new_folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.create_folder(path)?;
    disk.sync_folder(parent(path))
}

/// Makes a folder and those above it, as far as they are not there. When this returns, its name is
/// on the disk, also if it was there before.
pub(crate) fn make_folders(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let above = parent(path);
    match disk.create_folder(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound && above != path => {
            make_folders(disk, above)?;
            new_folder(disk, path)
        }
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => name_for_certain(disk, path),
        made => {
            made?;
            name_for_certain(disk, above)?;
            disk.sync_folder(above)
        }
    }
}

/// Syncs the name of a folder that was there: whoever made it may have been killed before that.
fn name_for_certain(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.sync_folder(parent(path)) {
        // In a folder that may not be read it was made by somebody else, long ago.
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// What the file will be called whose name this is while it is written.
pub(crate) fn is_to_become(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)
}

/// Where a file for `path` is written.
pub(crate) fn meanwhile(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut meanwhile = OsString::from(PREFIX);
    meanwhile.push(name);
    meanwhile.push(SUFFIX);
    Ok(path.with_file_name(meanwhile))
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::disk::RealDisk;
    use crate::state::lossy::{Fault, LossyDisk, Sync};
    use std::io::ErrorKind;

    const SEEDS: u64 = 200;
    /// Longer than two blocks, so that they can be torn in each way.
    const LENGTH: usize = 1_300;

    type Act = fn(&dyn Disk) -> io::Result<()>;

    /// What is done, to which disk, and what has to hold of the disk that is found later, which
    /// is more once the act was done.
    #[derive(Clone, Copy)]
    struct Promise {
        disk: fn() -> LossyDisk,
        act: Act,
        holds: fn(found: &LossyDisk, done: bool) -> bool,
    }

    fn file() -> &'static Path {
        Path::new("/state/file")
    }

    fn old() -> Vec<u8> {
        vec![b'o'; LENGTH]
    }

    fn new() -> Vec<u8> {
        vec![b'n'; LENGTH + 1]
    }

    fn write_new(disk: &dyn Disk) -> io::Result<()> {
        write_whole(disk, file(), &new())
    }

    fn without() -> LossyDisk {
        let disk = LossyDisk::new();
        new_folder(&disk, parent(file())).unwrap();
        disk
    }

    fn with_old() -> LossyDisk {
        let disk = without();
        write_whole(&disk, file(), &old()).unwrap();
        disk
    }

    /// The power failed after the rename, and left the file both names.
    fn with_old_by_two_names() -> LossyDisk {
        let disk = without();
        disk.leave_out(Sync::Folders);
        write_whole(&disk, file(), &old()).unwrap();
        let mut found = (0..SEEDS).map(|seed| disk.crash(seed));
        let both = [".file.tmp", "file"];
        found
            .find(|disk| disk.list(parent(file())).unwrap() == both)
            .unwrap()
    }

    fn absent_or_new(found: &LossyDisk, done: bool) -> bool {
        match found.read(file()) {
            Ok(bytes) => bytes == new(),
            Err(error) => !done && error.kind() == ErrorKind::NotFound,
        }
    }

    fn old_or_new(found: &LossyDisk, done: bool) -> bool {
        let bytes = found.read(file());
        bytes.is_ok_and(|bytes| bytes == new() || (!done && bytes == old()))
    }

    const WRITES: [Promise; 3] = [
        Promise {
            disk: without,
            act: write_new,
            holds: absent_or_new,
        },
        Promise {
            disk: with_old,
            act: write_new,
            holds: old_or_new,
        },
        Promise {
            disk: with_old_by_two_names,
            act: write_new,
            holds: old_or_new,
        },
    ];

    const NEW_FOLDER: Promise = Promise {
        disk: without,
        act: |disk| new_folder(disk, Path::new("/state/new")),
        holds: |found, done| match found.list(Path::new("/state/new")) {
            Ok(names) => names.is_empty(),
            Err(error) => !done && error.kind() == ErrorKind::NotFound,
        },
    };

    const FOLDERS: Promise = Promise {
        disk: without,
        act: |disk| make_folders(disk, Path::new("/state/of/job")),
        holds: |found, done| match found.list(Path::new("/state/of/job")) {
            Ok(names) => names.is_empty(),
            Err(error) => !done && error.kind() == ErrorKind::NotFound,
        },
    };

    impl Promise {
        /// How often it is broken if the power fails before each operation and after the last, by
        /// all seeds.
        fn broken(&self, left_out: Option<Sync>) -> usize {
            let mut broken = 0;
            for operations in 0.. {
                let disk = (self.disk)();
                if let Some(sync) = left_out {
                    disk.leave_out(sync);
                }
                disk.power_off_after(operations);
                let done = (self.act)(&disk).is_ok();
                let holds = |seed: &u64| (self.holds)(&disk.crash(*seed), done);
                broken += (0..SEEDS).filter(|seed| !holds(seed)).count();
                if done {
                    assert!(operations > 1, "it did something");
                    break;
                }
            }
            broken
        }

        /// It is done again, on a disk that was left in the midst of it, and holds.
        fn is_done_again(&self, disk: &LossyDisk) {
            (self.act)(disk).unwrap();
            assert!((self.holds)(disk, true));
            (0..8).for_each(|seed| assert!((self.holds)(&disk.crash(seed), true)));
        }
    }

    #[test]
    fn a_file_is_old_or_new_whenever_the_power_fails() {
        for write in WRITES {
            assert_eq!(write.broken(None), 0);
        }
    }

    #[test]
    fn a_folder_that_was_made_stays() {
        assert_eq!(NEW_FOLDER.broken(None), 0);
        assert_eq!(FOLDERS.broken(None), 0);
    }

    #[test]
    fn each_sync_is_needed() {
        for write in WRITES {
            assert!(write.broken(Some(Sync::Files)) > 0);
            assert!(write.broken(Some(Sync::Folders)) > 0);
        }
        assert!(NEW_FOLDER.broken(Some(Sync::Folders)) > 0);
        assert!(FOLDERS.broken(Some(Sync::Folders)) > 0);
    }

    #[test]
    fn the_order_is_needed() {
        let in_place: Act = |disk| {
            let _gone = disk.remove_file(file());
            let mut file_itself = disk.create(file())?;
            file_itself.append(&new())?;
            file_itself.sync()?;
            disk.sync_folder(parent(file()))
        };
        let synced_last: Act = |disk| {
            let hidden = meanwhile(file())?;
            let _gone = disk.remove_file(&hidden);
            let mut hidden_file = disk.create(&hidden)?;
            hidden_file.append(&new())?;
            disk.rename(&hidden, file())?;
            hidden_file.sync()?;
            disk.sync_folder(parent(file()))
        };
        for act in [in_place, synced_last] {
            for write in WRITES {
                assert!(Promise { act, ..write }.broken(None) > 0);
            }
        }
    }

    #[test]
    fn what_a_dead_process_left_is_no_obstacle() {
        for write in WRITES {
            for operations in 0..10 {
                let disk = (write.disk)();
                disk.power_off_after(operations);
                let done = (write.act)(&disk).is_ok();
                for seed in 0..SEEDS {
                    write.is_done_again(&disk.crash(seed));
                }
                // It was killed, and the system goes on.
                disk.fail_no_more();
                assert!((write.holds)(&disk, done));
                write.is_done_again(&disk);
            }
        }
    }

    #[test]
    fn an_error_is_told_and_breaks_nothing() {
        for write in WRITES {
            let mut told = 0;
            for fault in [Fault::NoSpace, Fault::ReadOnly, Fault::Io] {
                for operations in 0..10 {
                    let disk = (write.disk)();
                    disk.fail_after(operations, fault);
                    let done = (write.act)(&disk);
                    disk.fail_no_more();
                    let is_done = done.is_ok();
                    if let Err(error) = done {
                        told += 1;
                        assert_eq!(error.raw_os_error(), fault.error().raw_os_error());
                    }
                    assert!((write.holds)(&disk, is_done));
                    let holds = |seed| (write.holds)(&disk.crash(seed), is_done);
                    assert!((0..SEEDS).all(holds));
                    write.is_done_again(&disk);
                }
            }
            assert!(told >= 3 * 5, "{told} errors");
        }
    }

    #[test]
    fn a_folder_is_made_by_one() {
        let disk = (NEW_FOLDER.disk)();
        (NEW_FOLDER.act)(&disk).unwrap();
        let error = (NEW_FOLDER.act)(&disk).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn folders_are_made_again_after_a_kill_or_a_power_loss_at_any_moment() {
        for operations in 0..10 {
            let disk = (FOLDERS.disk)();
            disk.power_off_after(operations);
            let _died = (FOLDERS.act)(&disk);
            (0..SEEDS).for_each(|seed| FOLDERS.is_done_again(&disk.crash(seed)));
            disk.fail_no_more();
            FOLDERS.is_done_again(&disk);
        }
    }

    #[test]
    fn real_folders_are_made_once_and_found_later() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("of/job");
        for _ in 0..2 {
            make_folders(&RealDisk, &folder).unwrap();
            assert!(folder.is_dir());
        }
        let in_file = root.path().join("file");
        std::fs::write(&in_file, "").unwrap();
        assert!(make_folders(&RealDisk, &in_file.join("job")).is_err());
    }

    #[test]
    fn a_real_disk_has_the_file_and_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("new");
        new_folder(&RealDisk, &folder).unwrap();
        for bytes in [old(), new()] {
            write_whole(&RealDisk, &folder.join("file"), &bytes).unwrap();
            assert_eq!(RealDisk.read(&folder.join("file")).unwrap(), bytes);
        }
        assert_eq!(RealDisk.list(&folder).unwrap(), ["file"]);
    }

    #[test]
    fn a_leftover_is_known_by_its_name() {
        let hidden = meanwhile(Path::new("state/manifest")).unwrap();
        assert_eq!(hidden, Path::new("state/.manifest.tmp"));
        assert_eq!(is_to_become(".manifest.tmp"), Some("manifest"));
        assert_eq!(is_to_become("manifest"), None);
        assert_eq!(parent(Path::new("manifest")), Path::new("."));
    }
}
