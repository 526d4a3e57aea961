//! A small job that saves its state on a disk which fails at every operation, in every way: what is
//! found afterwards is what a checkpoint held, whole, and the one that counts is always there.

mod model;

use super::*;
use crate::state::advice::LOST;
use crate::state::disk::RealDisk;
use crate::state::frame::{Frames, HEAD};
use crate::state::lossy::{Fault, LossyDisk, Sync};
use crate::state::saved::Parcels;
use crate::state::stable_hash;
use crate::time::Progress;
use model::*;

/// Power losses at a time.
const SEEDS: u64 = 24;

/// What is wrong first if the power fails before each operation and after the last.
fn wrong_after_power_loss(
    lives: &[&[Step]],
    commits: Commits,
    prepare: impl Fn(&LossyDisk),
) -> Option<String> {
    for operations in 0.. {
        let (disk, mut known) = (LossyDisk::new(), Known::default());
        prepare(&disk);
        disk.power_off_after(operations);
        let done = live_all(lives, &disk, commits, &mut known).is_ok();
        let of_seed = |seed| known.wrong_with(&disk.crash(seed * 1_000 + operations));
        let wrong = (0..SEEDS).find_map(of_seed);
        if done || wrong.is_some() {
            return wrong;
        }
    }
    unreachable!("it comes to its end")
}

/// Calls `found` with the disk that a process leaves which is killed before each operation, and
/// after the last.
fn when_killed(commits: Commits, mut found: impl FnMut(LossyDisk, Known)) {
    for operations in 0.. {
        let (disk, mut known) = (LossyDisk::new(), Known::default());
        disk.power_off_after(operations);
        let done = live_all(LIVES, &disk, commits, &mut known).is_ok();
        disk.fail_no_more();
        found(disk, known);
        if done {
            assert!(operations > 200, "it did something");
            break;
        }
    }
}

const BOTH: [Commits; 2] = [Commits::Elsewhere, Commits::Here];

#[test]
fn what_counts_is_found_whenever_the_power_fails() {
    for commits in BOTH {
        let wrong = wrong_after_power_loss(LIVES, commits, |_| {});
        assert_eq!(wrong, None, "{commits:?}");
    }
}

#[test]
fn another_goes_on_whenever_the_process_is_killed_or_the_power_fails() {
    for commits in BOTH {
        when_killed(commits, |disk, known| {
            assert_eq!(known.wrong_with(&disk), None);
            (0..4).for_each(|seed| live_on(&disk.crash(seed), commits, known.clone()));
            live_on(&disk, commits, known);
        });
    }
}

#[test]
fn what_is_relied_on_stays_when_the_power_fails_after_a_kill() {
    let wrong = |newest: fn(&LossyDisk) -> Option<String>| {
        let mut wrong = 0;
        when_killed(Commits::Here, |disk, mut known| {
            let Some(name) = newest(&disk) else { return };
            let (_, crc) = read_manifest(&disk, dir(), &name).unwrap();
            known.prepared = Some(Named {
                manifest: name,
                crc,
            });
            let of_seed = |seed: &u64| known.wrong_with(&disk.crash(*seed)).is_some();
            wrong += (0..SEEDS).filter(of_seed).count();
        });
        wrong
    };
    assert_eq!(wrong(|disk| newest(disk, dir()).ok()?), 0);
    // Without its sync it does not.
    assert!(wrong(|disk| manifests(disk, dir()).ok()?.pop()) > 0);
}

/// Powers fail and processes are killed again and again, at moments that are drawn.
#[test]
fn what_counts_is_found_after_many_deaths() {
    for seed in 0..400 {
        let draw = |nth: u64, below: u64| (stable_hash(&(seed, nth)) >> 16) % below;
        let commits = BOTH[usize::from(draw(0, 2) == 0)];
        let (mut disk, mut known) = (LossyDisk::new(), Known::default());
        for death in 1..12 {
            let nth = 10 * death;
            disk.power_off_after(draw(nth, 60));
            let lives = &LIVES[usize::try_from(draw(nth + 1, LIVES.len() as u64)).unwrap()..];
            let _died = live_all(lives, &disk, commits, &mut known);
            if draw(nth + 2, 2) == 0 {
                disk = disk.crash(draw(nth + 3, u64::MAX));
            }
            disk.fail_no_more();
            assert_eq!(known.wrong_with(&disk), None, "seed {seed}, death {death}");
        }
        live_on(&disk, commits, known);
    }
}

#[test]
fn neither_syncs_of_files_nor_of_folders_can_be_left_out() {
    for commits in BOTH {
        for sync in [Sync::Files, Sync::Folders] {
            let wrong = wrong_after_power_loss(LIVES, commits, |disk| {
                durable::make_folders(disk, dir()).unwrap();
                disk.leave_out(sync);
            });
            assert!(wrong.is_some(), "{sync:?} for {commits:?}");
        }
    }
}

/// Those of the syncs of some lives that can be left out, one at a time.
fn needless(lives: &[&[Step]]) -> Vec<u64> {
    let (disk, commits) = (LossyDisk::new(), Commits::Here);
    live_all(lives, &disk, commits, &mut Known::default()).unwrap();
    let is_needless = |nth: &u64| {
        let wrong = wrong_after_power_loss(lives, commits, |disk| disk.leave_out_one(*nth));
        wrong.is_none()
    };
    (0..disk.syncs()).filter(is_needless).collect()
}

#[test]
fn each_sync_is_needed() {
    // Those of the folder above, which is the root and has no name: one would do. And the last,
    // that of the state directory before logs go: no folder has gone.
    assert_eq!(needless(&[&[Delta, Full]]), [0, 1, 14]);
    // Here one has: it held a manifest, whose logs go. The root again, and the folder of the
    // manifest that is relied on: for those who come after a kill.
    let all = needless(&[&[Delta], &[Nothing], &[Nothing, Full]]);
    assert_eq!(all, [0, 1, 8, 9, 13, 14]);
}

/// An error that a life ends with names what it is about, and why.
fn assert_names(error: &Error, fault: Fault) {
    assert_eq!(error.kind(), ErrorKind::Operating, "{error}");
    let said = error.to_string();
    assert!(said.contains("`/state"), "{said}");
    assert!(said.ends_with(&fault.error().to_string()), "{said}");
}

#[test]
fn an_error_of_the_disk_is_told_and_breaks_nothing() {
    for fault in [Fault::NoSpace, Fault::ReadOnly, Fault::Io] {
        for lasts in [false, true] {
            let mut told = 0;
            for operations in 0.. {
                let (disk, mut known) = (LossyDisk::new(), Known::default());
                if lasts {
                    disk.fail_all_after(operations, fault);
                } else {
                    disk.fail_after(operations, fault);
                }
                let done = live_all(LIVES, &disk, Commits::Here, &mut known);
                disk.fail_no_more();
                if disk.operations() < operations {
                    break;
                }
                if let Err(error) = done {
                    told += 1;
                    assert_names(&error, fault);
                }
                let of_seed = |seed| known.wrong_with(&disk.crash(seed));
                assert_eq!((0..4).find_map(of_seed), None);
                assert_eq!(known.wrong_with(&disk), None);
                live_on(&disk, Commits::Here, known);
            }
            assert!(told > 150, "{told} of {fault:?}");
        }
    }
}

/// A disk with a manifest of logs of two generations.
fn written() -> (LossyDisk, Named, Manifest) {
    let (disk, mut known) = (LossyDisk::new(), Known::default());
    let lives: [&[Step]; 2] = [&[Delta, Delta], &[Delta]];
    live_all(&lives, &disk, Commits::Here, &mut known).unwrap();
    let named = known.committed.unwrap();
    let (manifest, _) = read_manifest(&disk, dir(), &named.manifest).unwrap();
    assert_eq!(manifest.logs.len(), 4);
    (disk, named, manifest)
}

fn read_kept(disk: &LossyDisk, manifest: &Manifest) -> Result<Kept> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    read(&disk, manifest)
}

/// What is said of a log whose byte at `at` is another.
fn damage(log: &[u8], at: usize) -> String {
    let begin = log.as_ptr().addr();
    let mut frames = Frames::new(log).map(|frame| {
        let frame = frame.unwrap();
        (frame.as_ptr().addr() - begin, frame.len())
    });
    let (start, len) = frames.find(|(start, len)| at < start + len).unwrap();
    let of = if at < start {
        "head".to_owned()
    } else {
        format!("{len} bytes")
    };
    let frame = start - HEAD;
    format!("the frame at byte {frame} is damaged: the checksum of its {of} differs")
}

#[test]
fn each_flipped_byte_is_found_and_named() {
    let (disk, named, manifest) = written();
    let expected = read_kept(&disk, &manifest).unwrap();
    let files = manifest.logs.iter().map(|log| (&log.path, log.len));
    let len = disk.len(&dir().join(&named.manifest)).unwrap();
    for (path, len) in files.chain([(&named.manifest, len)]) {
        let file = dir().join(path);
        let whole = disk.read(&file).unwrap();
        for at in 0..usize::try_from(len).unwrap() {
            let bits = 1 << (at % 8);
            disk.flip(&file, at, bits).unwrap();
            let found = newest(&disk, dir()).unwrap().unwrap();
            assert_eq!(found, named.manifest, "it is not skipped");
            let error = read_manifest(&disk, dir(), &found)
                .and_then(|(manifest, _)| read_kept(&disk, &manifest))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State);
            let (kind, why) = if *path == named.manifest {
                ("manifest", "its checksum is another".to_owned())
            } else {
                ("log", damage(&whole, at))
            };
            let sentence = format!("{kind} `{}` is damaged: {why}; {LOST}", file.display());
            assert_eq!(error.to_string(), sentence);
            disk.flip(&file, at, bits).unwrap();
        }
    }
    assert_eq!(read_kept(&disk, &manifest).unwrap(), expected);
}

/// Puts other bytes into the place of a file.
fn replace(disk: &LossyDisk, path: &Path, bytes: &[u8]) {
    disk.remove_file(path).unwrap();
    disk.create(path).unwrap().append(bytes).unwrap();
}

#[test]
fn a_log_is_as_long_as_the_manifest_says_whatever_follows() {
    let (disk, _, manifest) = written();
    let expected = read_kept(&disk, &manifest).unwrap();
    for log in &manifest.logs {
        let path = dir().join(&log.path);
        let whole = disk.read(&path).unwrap();
        for len in 0..whole.len() {
            replace(&disk, &path, &whole[..len]);
            let error = read_kept(&disk, &manifest).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State);
            let says = format!("log `{}` has fewer than {} bytes", path.display(), log.len);
            assert!(error.to_string().starts_with(&says), "{error}");
        }
        // What a process wrote that died before its next checkpoint, torn.
        for tail in [&whole[..whole.len() / 2], &[0; 600]] {
            replace(&disk, &path, &[&whole, tail].concat());
            assert_eq!(read_kept(&disk, &manifest).unwrap(), expected);
        }
        disk.remove_file(&path).unwrap();
        let says = format!("log `{}` is missing", path.display());
        let error = read_kept(&disk, &manifest).unwrap_err();
        assert!(error.to_string().starts_with(&says), "{error}");
        disk.create(&path).unwrap().append(&whole).unwrap();
    }
    assert_eq!(read_kept(&disk, &manifest).unwrap(), expected);
}

#[test]
fn a_log_of_another_checkpoint_is_told_from_the_one_that_is_named() {
    let (disk, _, manifest) = written();
    let [first, second] = [0, 1].map(|nth: usize| dir().join(&manifest.logs[nth].path));
    let mut bytes = disk.read(&second).unwrap();
    // Frames that are whole, and as many bytes.
    let len = usize::try_from(manifest.logs[0].len).unwrap();
    let mut fill = Vec::new();
    let missing = len.saturating_sub(bytes.len()).max(frame::HEAD);
    frame::write_frame(&vec![0; missing - frame::HEAD], &mut fill).unwrap();
    bytes.extend(fill);
    let mut named = manifest.logs[0].clone();
    named.len = bytes.len() as u64;
    replace(&disk, &first, &bytes);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let error = read_logs(&disk, dir(), &[named]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(
        error
            .to_string()
            .contains("is another than the manifest names")
    );
}

#[test]
fn a_manifest_that_was_copied_is_told() {
    let (disk, named, manifest) = written();
    let bytes = disk.read(&dir().join(&named.manifest)).unwrap();
    let copy = manifest_name(manifest.generation, manifest.checkpoint + 1);
    let mut file = disk.create(&dir().join(&copy)).unwrap();
    file.append(&bytes).unwrap();
    let error = read_manifest(&disk, dir(), &copy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    let says = format!("was written as `{}`", named.manifest);
    assert!(error.to_string().contains(&says), "{error}");
    let missing = manifest_name(9, 9);
    let error = read_manifest(&disk, dir(), &missing).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is missing; start with --rebuild")
    );
}

#[test]
fn what_is_not_known_is_left_alone() {
    let (disk, mut known) = (LossyDisk::new(), Known::default());
    live_all(&[&[Delta]], &disk, Commits::Here, &mut known).unwrap();
    let own = ["checkpoint-7.json", "checkpoint-old.json", "notes.txt"];
    let folder = dir().join(folder_of(1));
    for name in own {
        disk.create(&folder.join(name)).unwrap();
    }
    let strange = ["gen=7", "gen=+0000008", "gen=x", "lock"];
    for name in strange {
        disk.create_folder(&dir().join(name)).unwrap();
    }
    live_on(&disk, Commits::Here, known);
    let mut left = disk.list(&folder).unwrap();
    left.sort_by_key(|name| own.iter().position(|it| it == name));
    assert_eq!(left, own);
    assert_eq!(generations(&disk, dir()).unwrap(), [1, 2]);
}

#[test]
fn a_folder_of_a_generation_has_one_owner() {
    let disk: Arc<dyn Disk> = Arc::new(LossyDisk::new());
    disk.create_folder(dir()).unwrap();
    let first = Store::begin(&disk, dir(), 0, 0, WORKERS).unwrap();
    // It got the job when there was none, and slept before it began its own.
    let slept = Store::begin(&disk, dir(), 0, 0, WORKERS);
    assert_eq!(slept.err().unwrap().kind(), ErrorKind::Owned);
    let second = Store::begin(&disk, dir(), 1, 0, WORKERS).unwrap();
    // The log of commits has one that the disk has lost.
    let third = Store::begin(&disk, dir(), 2, 7, WORKERS).unwrap();
    let generations = [&first, &second, &third].map(|store| store.generation);
    assert_eq!(generations, [1, 2, 8]);
    // It is the only one that goes on; the others leave its own alone.
    assert!(third.check_newest().is_ok());
    assert_eq!(second.check_newest().unwrap_err().kind(), ErrorKind::Owned);
    third.clean(&Manifest::default()).unwrap();
    first.clean(&Manifest::default()).unwrap();
}

#[test]
fn a_real_disk_keeps_what_counts_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut store = Store::begin(&disk, root.path(), 0, 0, 1).unwrap();
    let mut manifest = Manifest::default();
    for checkpoint in 1..4 {
        manifest.checkpoint = checkpoint;
        if checkpoint == 3 {
            store.begin_full();
        }
        let mut parcels = Parcels::of(OPERATOR);
        parcels.end(Progress::START);
        store.append(0, checkpoint, &parcels.done[0]).unwrap();
        let named = store.prepare(&mut manifest).unwrap();
        store.clean(&manifest).unwrap();
        assert_eq!(
            newest(&RealDisk, root.path()).unwrap(),
            Some(named.manifest)
        );
    }
    let left = RealDisk.list(&root.path().join(folder_of(1))).unwrap();
    assert_eq!(
        left,
        ["checkpoint-0000000003.json", "worker=000.0000000003.log"]
    );
    assert!(read_logs(&disk, root.path(), &manifest.logs).is_ok());
}
