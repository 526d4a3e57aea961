//! That the disk loses what it may, keeps what it must, and is otherwise as a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::Path;

use proptest::prelude::*;

use super::{Fault, LossyDisk, Sync};
use crate::state::disk::{Disk, DiskFile, RealDisk};

const SEEDS: u64 = 400;

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn create(disk: &LossyDisk, name: &str) -> Box<dyn DiskFile> {
    disk.create(path(name)).unwrap()
}

/// A file with these bytes, synced, whose name is not.
fn write(disk: &LossyDisk, name: &str, bytes: &[u8]) {
    let mut file = create(disk, name);
    file.append(bytes).unwrap();
    file.sync().unwrap();
}

fn sync_root(disk: &LossyDisk) {
    disk.sync_folder(path("/")).unwrap();
}

/// All that may be found after a power loss.
fn found<T: Ord>(disk: &LossyDisk, look: impl Fn(&LossyDisk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| look(&disk.crash(seed))).collect()
}

/// Name and contents of each file in the root.
fn files(disk: &LossyDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list(path("/")).unwrap();
    let with_bytes = |name: String| {
        let bytes = disk.read(path(&name)).unwrap();
        (name, bytes)
    };
    names.into_iter().map(with_bytes).collect()
}

fn names(disk: &LossyDisk) -> String {
    disk.list(path("/")).unwrap().join(" ")
}

fn kind<T>(result: io::Result<T>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind())
}

// ------------------------------------------------------------------------------------- power loss

#[test]
fn a_tail_that_is_not_synced_is_torn_anywhere() {
    let disk = LossyDisk::new();
    let mut file = create(&disk, "file");
    sync_root(&disk);
    file.append(b"kept").unwrap();
    file.sync().unwrap();
    file.append(b"lost").unwrap();
    let found = found(&disk, |disk| disk.read(path("file")).unwrap());
    for tail in ["", "l", "lo", "los", "lost", "\0", "\0\0", "\0\0\0\0"] {
        let whole = format!("kept{tail}").into_bytes();
        assert!(found.contains(&whole), "{tail:?} is never found");
    }
    assert!(found.iter().all(|bytes| bytes.starts_with(b"kept")));
    let of_a_writer = |byte: &u8| b"\0lost".contains(byte);
    let garbage = |bytes: &Vec<u8>| !bytes[4..].iter().all(of_a_writer);
    assert!(found.iter().any(garbage), "garbage is never found");
}

#[test]
fn blocks_are_written_in_any_order_and_garbage_is_in_the_last_one_only() {
    let disk = LossyDisk::new();
    let mut file = create(&disk, "file");
    sync_root(&disk);
    file.append(&[1; 700]).unwrap();
    file.sync().unwrap();
    file.append(&[2; 2_000]).unwrap();
    let found = found(&disk, |disk| disk.read(path("file")).unwrap());
    let (mut hole, mut garbage) = (false, false);
    for bytes in &found {
        assert_eq!(bytes[..700], [1; 700]);
        let tail = &bytes[700..];
        let zero = tail.iter().position(|byte| *byte == 0);
        hole |= zero.is_some_and(|at| tail[at..].contains(&2));
        let foreign = tail.iter().position(|byte| ![0, 2].contains(byte));
        let Some(foreign) = foreign else { continue };
        garbage = true;
        assert!(700 + foreign >= (bytes.len() - 1) / 512 * 512);
    }
    assert!(hole && garbage && found.len() > 50, "{} ends", found.len());
}

#[test]
fn what_is_cut_off_may_come_back_until_the_file_is_synced() {
    let disk = LossyDisk::new();
    write(&disk, "file", b"kept");
    sync_root(&disk);
    let mut file = disk.reopen(path("file"), 4).unwrap();
    file.append(b"off").unwrap();
    let read = |disk: &LossyDisk| disk.read(path("file")).unwrap();
    let mut file = disk.reopen(path("file"), 2).unwrap();
    assert_eq!(read(&disk), b"ke");
    let either = BTreeSet::from([b"ke".to_vec(), b"keptoff".to_vec()]);
    assert_eq!(found(&disk, read), either);
    file.append(b"xy").unwrap();
    let is = found(&disk, read);
    for text in ["ke", "kex", "kexy", "keptoff", "kextoff", "kexyoff"] {
        assert!(is.contains(text.as_bytes()), "{text} is never found");
    }
    file.sync().unwrap();
    assert_eq!(found(&disk, read), BTreeSet::from([b"kexy".to_vec()]));
}

#[test]
fn names_are_lost_each_for_itself() {
    let disk = LossyDisk::new();
    write(&disk, "a", b"");
    write(&disk, "b", b"");
    let expected = ["", "a", "a b", "b"].map(str::to_owned);
    assert_eq!(found(&disk, names), BTreeSet::from(expected));
    sync_root(&disk);
    assert_eq!(found(&disk, names), BTreeSet::from(["a b".to_owned()]));
    disk.remove_file(path("a")).unwrap();
    write(&disk, "c", b"");
    let expected = ["a b", "a b c", "b", "b c"].map(str::to_owned);
    assert_eq!(found(&disk, names), BTreeSet::from(expected));
}

#[test]
fn a_rename_leaves_old_or_new_or_both() {
    let disk = LossyDisk::new();
    write(&disk, "new", b"new");
    write(&disk, "file", b"old");
    sync_root(&disk);
    disk.rename(path("new"), path("file")).unwrap();
    let files = |is: &[(&str, &str)]| {
        let owned = |(name, bytes): &(&str, &str)| ((*name).to_owned(), bytes.as_bytes().to_vec());
        is.iter().map(owned).collect::<BTreeMap<_, _>>()
    };
    let expected = BTreeSet::from([
        files(&[("file", "old"), ("new", "new")]),
        files(&[("file", "new"), ("new", "new")]),
        files(&[("file", "new")]),
    ]);
    assert_eq!(found(&disk, self::files), expected);
    sync_root(&disk);
    let expected = BTreeSet::from([files(&[("file", "new")])]);
    assert_eq!(found(&disk, self::files), expected);
}

#[test]
fn two_names_of_one_file_stay_two() {
    let disk = LossyDisk::new();
    write(&disk, "a", b"");
    sync_root(&disk);
    disk.rename(path("a"), path("b")).unwrap();
    let both = (0..SEEDS).map(|seed| disk.crash(seed));
    let both = both.into_iter().find(|disk| names(disk) == "a b").unwrap();
    both.rename(path("a"), path("b")).unwrap();
    assert_eq!(names(&both), "a b", "as POSIX has it");
}

#[test]
fn a_file_that_moves_is_in_one_folder_at_least_if_the_new_one_is_synced_first() {
    let disk = LossyDisk::new();
    disk.create_folder(path("from")).unwrap();
    disk.create_folder(path("to")).unwrap();
    write(&disk, "from/a", b"");
    sync_root(&disk);
    disk.sync_folder(path("from")).unwrap();
    disk.rename(path("from/a"), path("to/a")).unwrap();
    let places = |disk: &LossyDisk| {
        let places = ["from/a", "to/a"].map(|file| disk.read(path(file)).is_ok());
        (places[0], places[1])
    };
    let expected = BTreeSet::from([(true, false), (true, true)]);
    assert_eq!(found(&disk, places), expected);
    disk.sync_folder(path("to")).unwrap();
    assert_eq!(found(&disk, places), BTreeSet::from([(true, true)]));
    disk.sync_folder(path("from")).unwrap();
    assert_eq!(found(&disk, places), BTreeSet::from([(false, true)]));
}

#[test]
fn a_folder_that_is_lost_takes_what_is_in_it() {
    let disk = LossyDisk::new();
    disk.create_folder(path("folder")).unwrap();
    write(&disk, "folder/a", b"a");
    disk.sync_folder(path("folder")).unwrap();
    let in_folder = |disk: &LossyDisk| kind(disk.read(path("folder/a")));
    let expected = [Err(ErrorKind::NotFound), Ok(b"a".to_vec())];
    assert_eq!(found(&disk, in_folder), BTreeSet::from(expected));
    sync_root(&disk);
    let expected = BTreeSet::from([Ok(b"a".to_vec())]);
    assert_eq!(found(&disk, in_folder), expected);
}

#[test]
fn what_was_found_once_is_found_again() {
    let disk = LossyDisk::new();
    for name in ["a", "b", "c", "d"] {
        create(&disk, name).append(&[7; 1_000]).unwrap();
    }
    for seed in 0..SEEDS {
        let first = files(&disk.crash(seed));
        assert_eq!(files(&disk.crash(seed)), first, "the same seed");
        assert_eq!(files(&disk.crash(seed).crash(seed + 1)), first);
    }
    assert_eq!(names(&disk), "a b c d", "the disk itself is as it was");
}

/// What a checkpoint does in its folder, and what is certain after it.
#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Append(usize, usize),
    Sync(usize),
    Rename(usize, usize),
    Remove(usize),
    SyncFolder,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0usize..4;
    prop_oneof![
        name.clone().prop_map(Step::Create),
        (name.clone(), 1usize..1_500).prop_map(|(name, bytes)| Step::Append(name, bytes)),
        name.clone().prop_map(Step::Sync),
        (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        name.prop_map(Step::Remove),
        Just(Step::SyncFolder),
    ]
}

/// A file as its writer knows it; its bytes are its number.
#[derive(Debug)]
struct Written {
    number: u8,
    handle: Box<dyn DiskFile>,
    len: usize,
    synced: usize,
}

/// What a writer may rely on, by the names: which file is certainly there. A name that was changed
/// since the folder was synced is certain of nothing.
#[derive(Debug, Default)]
struct Writer {
    files: Vec<Written>,
    names: BTreeMap<usize, usize>,
    certain: BTreeMap<usize, usize>,
    changed: BTreeSet<usize>,
}

impl Writer {
    fn take(&mut self, disk: &LossyDisk, step: &Step) {
        let at = |name: usize| name.to_string();
        match *step {
            Step::Create(name) if !self.names.contains_key(&name) => {
                let number = u8::try_from(self.files.len() + 1).unwrap();
                self.names.insert(name, self.files.len());
                self.changed.insert(name);
                self.files.push(Written {
                    number,
                    handle: create(disk, &at(name)),
                    len: 0,
                    synced: 0,
                });
            }
            Step::Append(name, bytes) => {
                let Some(nth) = self.names.get(&name) else {
                    return;
                };
                let file = &mut self.files[*nth];
                file.handle.append(&vec![file.number; bytes]).unwrap();
                file.len += bytes;
            }
            Step::Sync(name) => {
                let Some(nth) = self.names.get(&name) else {
                    return;
                };
                let file = &mut self.files[*nth];
                file.handle.sync().unwrap();
                file.synced = file.len;
            }
            Step::Rename(from, to) if from != to => {
                let Some(nth) = self.names.remove(&from) else {
                    return;
                };
                disk.rename(path(&at(from)), path(&at(to))).unwrap();
                self.names.insert(to, nth);
                self.changed.extend([from, to]);
            }
            Step::Remove(name) if self.names.remove(&name).is_some() => {
                disk.remove_file(path(&at(name))).unwrap();
                self.changed.insert(name);
            }
            Step::SyncFolder => {
                sync_root(disk);
                self.certain.clone_from(&self.names);
                self.changed.clear();
            }
            _ => {}
        }
    }

    /// Whether all that is certain was found, and nothing that was never there.
    fn is_content(&self, found: &BTreeMap<String, Vec<u8>>) -> bool {
        let is_certain = |name: &usize| !self.changed.contains(name);
        let is_kept = |(name, nth): (&usize, &usize)| {
            let file = &self.files[*nth];
            let Some(bytes) = found.get(&name.to_string()) else {
                return false;
            };
            let synced = bytes.get(..file.synced);
            let is_own = |synced: &[u8]| synced.iter().all(|byte| *byte == file.number);
            bytes.len() <= file.len && synced.is_some_and(is_own)
        };
        let is_known = |name: &String| {
            let name = name.parse().unwrap();
            self.certain.contains_key(&name) || self.changed.contains(&name)
        };
        let mut certain = self.certain.iter().filter(|(name, _)| is_certain(name));
        certain.all(is_kept) && found.keys().all(is_known)
    }
}

#[test]
fn the_writer_misses_what_was_not_synced() {
    for left_out in [None, Some(Sync::Files), Some(Sync::Folders)] {
        let (disk, mut writer) = (LossyDisk::new(), Writer::default());
        if let Some(sync) = left_out {
            disk.leave_out(sync);
        }
        for step in [
            Step::Create(0),
            Step::Append(0, 9),
            Step::Sync(0),
            Step::SyncFolder,
        ] {
            writer.take(&disk, &step);
        }
        let is_content = |seed| writer.is_content(&files(&disk.crash(seed)));
        assert_eq!((0..SEEDS).all(is_content), left_out.is_none());
    }
}

proptest! {
    #[test]
    fn what_is_synced_survives(
        steps in prop::collection::vec(step(), 0..40),
        seed in any::<u64>(),
    ) {
        let (disk, mut writer) = (LossyDisk::new(), Writer::default());
        for step in steps {
            writer.take(&disk, &step);
            for nth in 0..4 {
                let found = files(&disk.crash(seed.wrapping_add(nth)));
                prop_assert!(writer.is_content(&found), "{step:?}: {found:?}");
            }
        }
        writer.take(&disk, &Step::SyncFolder);
        prop_assert!(writer.is_content(&files(&disk.crash(seed))));
    }
}

// ----------------------------------------------------------------------------------------- faults

#[test]
fn an_operation_fails_as_the_system_fails_it() {
    let disk = LossyDisk::new();
    write(&disk, "a", b"a");
    assert_eq!(disk.operations(), 3);
    disk.fail_after(1, Fault::NoSpace);
    disk.read(path("a")).unwrap();
    // Reading and removing need no space.
    disk.read(path("a")).unwrap();
    disk.remove_file(path("a")).unwrap();
    let error = disk.create(path("b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(error.raw_os_error(), Some(28));
    create(&disk, "b");
    assert_eq!(disk.operations(), 8);
    disk.fail_all_after(0, Fault::ReadOnly);
    disk.read(path("b")).unwrap();
    for _ in 0..2 {
        let error = disk.remove_file(path("b")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(30));
    }
    disk.fail_no_more();
    disk.fail_after(0, Fault::Io);
    let error = disk.read(path("b")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    disk.read(path("b")).unwrap();
}

#[test]
fn an_append_that_fails_leaves_a_half() {
    let disk = LossyDisk::new();
    let mut file = create(&disk, "a");
    disk.fail_after(0, Fault::NoSpace);
    assert!(file.append(b"abcd").is_err());
    assert_eq!(disk.read(path("a")).unwrap(), b"ab");
}

#[test]
fn what_could_not_be_synced_never_is() {
    let disk = LossyDisk::new();
    let mut file = create(&disk, "a");
    sync_root(&disk);
    file.append(b"kept").unwrap();
    file.sync().unwrap();
    file.append(b"lost").unwrap();
    disk.fail_after(0, Fault::Io);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(disk.read(path("a")).unwrap(), b"keptlost");
    let found = found(&disk, |disk| disk.read(path("a")).unwrap());
    assert!(found.contains(b"kept".as_slice()));
}

#[test]
fn nothing_happens_without_power() {
    let disk = LossyDisk::new();
    let mut file = create(&disk, "a");
    file.append(b"ab").unwrap();
    disk.fail_all_after(0, Fault::Io);
    disk.power_off_after(1);
    let error = disk.read(path("a")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    for error in [file.append(b"cd").unwrap_err(), file.sync().unwrap_err()] {
        assert_eq!(error.to_string(), "the power is off");
    }
    assert!(disk.sync_folder(path("/")).is_err());
    assert!(found(&disk, names).contains(""));
    let after = (0..SEEDS).map(|seed| disk.crash(seed));
    let after = after.into_iter().find(|disk| names(disk) == "a").unwrap();
    assert!(after.len(path("a")).unwrap() <= 2);
}

#[test]
fn syncs_that_are_left_out_sync_nothing() {
    let disk = LossyDisk::new();
    disk.leave_out(Sync::Files);
    write(&disk, "a", b"abc");
    sync_root(&disk);
    let length = |disk: &LossyDisk| disk.len(path("a")).unwrap();
    assert_eq!(found(&disk, length), BTreeSet::from([0, 1, 2, 3]));
    disk.leave_out(Sync::Folders);
    write(&disk, "b", b"");
    sync_root(&disk);
    assert!(found(&disk, names).contains("a"));
    assert_eq!(disk.operations(), 8, "they are counted");
}

#[test]
fn a_byte_is_flipped_where_it_is_told() {
    let disk = LossyDisk::new();
    write(&disk, "a", b"abc");
    sync_root(&disk);
    disk.flip(path("a"), 1, 0x20).unwrap();
    let read = |disk: &LossyDisk| disk.read(path("a")).unwrap();
    assert_eq!(found(&disk, read), BTreeSet::from([b"aBc".to_vec()]));
    let beyond = kind(disk.flip(path("a"), 3, 1));
    assert_eq!(beyond, Err(ErrorKind::UnexpectedEof));
}

// ------------------------------------------------------------------------------- as a real disk is

/// What one call answers on a disk, files being in `root`.
#[derive(Clone, Debug)]
enum Call {
    Create(&'static str, usize),
    Read(&'static str, u64),
    List(&'static str),
    CreateFolder(&'static str),
    Rename(&'static str, &'static str),
    RemoveFile(&'static str),
    RemoveFolder(&'static str),
}

fn call() -> impl Strategy<Value = Call> {
    let name = || prop::sample::select(vec!["a", "b", "c", "a/a", "a/b", "b/a", "b/c", "a/a/a"]);
    prop_oneof![
        (name(), 0usize..9).prop_map(|(name, bytes)| Call::Create(name, bytes)),
        (name(), 1u64..9).prop_map(|(name, len)| Call::Read(name, len)),
        name().prop_map(Call::List),
        prop::sample::select(vec!["a", "b", "a/a"]).prop_map(Call::CreateFolder),
        (name(), name()).prop_map(|(from, to)| Call::Rename(from, to)),
        name().prop_map(Call::RemoveFile),
        name().prop_map(Call::RemoveFolder),
    ]
}

fn answer(disk: &dyn Disk, root: &Path, call: &Call) -> Result<String, ErrorKind> {
    let at = |name: &str| root.join(name);
    let done = |result: io::Result<()>| kind(result).map(|()| String::new());
    match *call {
        Call::Create(name, bytes) => {
            let mut file = kind(disk.create(&at(name)))?;
            file.append(&vec![7; bytes]).unwrap();
            file.sync().unwrap();
            done(disk.sync_folder(at(name).parent().unwrap()))
        }
        Call::Read(name, len) => {
            let all = kind(disk.read(&at(name)))?;
            assert_eq!(disk.len(&at(name)).unwrap(), all.len() as u64);
            let prefix = kind(disk.read_prefix(&at(name), len));
            Ok(format!("{all:?} {prefix:?}"))
        }
        Call::List(name) => kind(disk.list(&at(name))).map(|names| names.join(" ")),
        Call::CreateFolder(name) => done(disk.create_folder(&at(name))),
        Call::Rename(from, to) => done(disk.rename(&at(from), &at(to))),
        Call::RemoveFile(name) => done(disk.remove_file(&at(name))),
        Call::RemoveFolder(name) => done(disk.remove_folder(&at(name))),
    }
}

proptest! {
    #[test]
    fn it_answers_as_a_real_disk(calls in prop::collection::vec(call(), 0..60)) {
        let folder = tempfile::tempdir().unwrap();
        let lossy = LossyDisk::new();
        for call in calls {
            let answered = answer(&lossy, path("/"), &call);
            // Folders that move between folders are not supported.
            if answered != Err(ErrorKind::Unsupported) {
                let expected = answer(&RealDisk, folder.path(), &call);
                prop_assert_eq!(answered, expected, "{:?}", call);
            }
        }
    }
}
