//! A small job that writes a file and a folder of part files on a disk which fails at every
//! operation: what is seen was committed, and what was committed is there.

use super::*;
use crate::state::durable;
use crate::state::lossy::{LossyDisk, Sync};
use crate::state::manifest::Manifest;

/// Power losses at a time.
const SEEDS: u64 = 24;
/// Checkpoints of each process; the last of each second process ends a run.
const LIVES: [u64; 5] = [3, 1, 2, 4, 2];
const TOTAL: u64 = 12;

/// What a checkpoint adds: more than a block.
fn lines(checkpoints: std::ops::RangeInclusive<u64>) -> String {
    let line = |nth: u64| format!("{nth} {}\n", "x".repeat(700));
    checkpoints.map(line).collect()
}

fn failed(why: io::Error) -> Error {
    broken(Path::new("/"), why)
}

fn newest(disk: &dyn Disk) -> Result<Manifest> {
    let names = disk.list(Path::new("/state")).map_err(failed)?;
    let Some(name) = names.iter().rfind(|name| name.starts_with('m')) else {
        return Ok(Manifest::default());
    };
    disk.sync_folder(Path::new("/state")).map_err(failed)?;
    let path = Path::new("/state").join(name);
    Ok(Manifest::read(&disk.read(&path).map_err(failed)?, name, AFRESH)?.0)
}

/// A process of the job.
struct Life {
    disk: Arc<dyn Disk>,
    checkpoint: u64,
    single: Growing,
    part: Option<Growing>,
    full: Vec<Growing>,
}

impl Life {
    fn begin(disk: &LossyDisk) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        for folder in ["/state", "/out", "/parts"] {
            durable::make_folders(&*disk, Path::new(folder)).map_err(failed)?;
        }
        let manifest = newest(&*disk)?;
        let (mut single, mut full) = (None, Vec::new());
        if let [all, parts] = &manifest.outputs[..] {
            single = Some(Growing::go_on(&disk, &all.files[0])?);
            show_found(&disk, &parts.files)?;
            for file in parts.files.iter().filter(|file| !file.done) {
                full.push(Growing::go_on(&disk, file)?);
            }
        }
        let parts = Path::new("/parts");
        for name in disk.list(parts).map_err(failed)? {
            let path = parts.join(&name);
            if name.starts_with('.') && !full.iter().any(|part| part.is_hidden_at(&path)) {
                disk.remove_file(&path).map_err(failed)?;
            }
        }
        let begin = || Growing::begin(&disk, Path::new("/out/all")).map_err(failed);
        Ok(Self {
            single: single.map_or_else(begin, Ok)?,
            checkpoint: manifest.checkpoint,
            part: None,
            full,
            disk,
        })
    }

    fn write(&mut self) -> Result {
        let next = self.checkpoint + 1;
        let line = lines(next..=next);
        self.single.append(line.as_bytes()).map_err(failed)?;
        if self.part.is_none() {
            let place = format!("/parts/part-{next:03}");
            let part = Growing::begin(&self.disk, Path::new(&place)).map_err(failed)?;
            self.part = Some(part);
        }
        let part = self.part.as_mut().expect("it was begun");
        part.append(line.as_bytes()).map_err(failed)
    }

    fn checkpoint(&mut self, ends: bool) -> Result {
        self.checkpoint += 1;
        let done = ends || self.checkpoint.is_multiple_of(2);
        self.full.extend(self.part.take_if(|_| done));
        let mut all = OutputState::default();
        let mut parts = OutputState::default();
        self.single.sync().map_err(failed)?;
        all.files.push(self.single.listed(ends));
        let full = self.full.iter_mut().map(|part| (part, true));
        for (part, done) in full.chain(self.part.iter_mut().map(|part| (part, false))) {
            part.sync().map_err(failed)?;
            parts.files.push(part.listed(done));
        }
        for folder in ["/out", "/parts"] {
            self.disk.sync_folder(Path::new(folder)).map_err(failed)?;
        }
        let manifest = Manifest {
            checkpoint: self.checkpoint,
            outputs: vec![all, parts],
            ..Manifest::default()
        };
        let path = format!("/state/m-{:03}", self.checkpoint);
        let (bytes, _) = manifest.to_bytes()?;
        durable::write_whole(&*self.disk, Path::new(&path), &bytes).map_err(failed)?;
        self.full.clear();
        let files = manifest.outputs.iter().flat_map(|state| &state.files);
        show(&*self.disk, files)
    }
}

/// All processes, one after the other; each leaves something that is not committed.
fn live_all(disk: &LossyDisk) -> Result {
    for (nth, checkpoints) in (0u64..).zip(LIVES) {
        let mut life = Life::begin(disk)?;
        for step in 1..=checkpoints {
            life.write()?;
            life.checkpoint(nth % 2 == 1 && step == checkpoints)?;
        }
        if nth % 2 == 0 {
            life.write()?;
        }
    }
    Ok(())
}

/// The job goes on to its end, whatever is there.
fn live_on(disk: &LossyDisk) -> Result {
    let mut life = Life::begin(disk)?;
    for step in life.checkpoint + 1..=TOTAL.max(life.checkpoint + 1) {
        life.write()?;
        life.checkpoint(step >= TOTAL)?;
    }
    Ok(())
}

fn text(disk: &LossyDisk, path: &str) -> Option<String> {
    let bytes = disk.read(Path::new(path)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What readers see of the part files.
fn seen(disk: &LossyDisk) -> String {
    let names = disk.list(Path::new("/parts")).unwrap_or_default();
    let seen = names.iter().filter(|name| !name.starts_with('.'));
    seen.filter_map(|name| text(disk, &format!("/parts/{name}")))
        .collect()
}

/// What is wrong with what is found.
fn wrong_with(disk: &LossyDisk) -> Option<String> {
    let committed = newest(disk).map_or(0, |manifest| manifest.checkpoint);
    let whole = lines(1..=committed);
    // A power loss may show the second of two parts and not the first.
    let seen_now = seen(disk);
    let distinct: BTreeSet<_> = seen_now.lines().collect();
    let is_whole = |line: &&str| whole.lines().any(|known| known == *line);
    if distinct.len() < seen_now.lines().count() || !distinct.iter().all(is_whole) {
        return Some(format!("parts show what {committed} checkpoints have not"));
    }
    if text(disk, "/out/all").is_some_and(|all| !whole.starts_with(&all)) {
        return Some(format!(
            "the file shows more than {committed} checkpoints have"
        ));
    }
    let next = disk.crash(0);
    if let Err(error) = live_on(&next) {
        return Some(error.to_string());
    }
    let all = lines(1..=newest(&next).ok()?.checkpoint);
    let is = [Some(seen(&next)), text(&next, "/out/all")];
    let holds = is.iter().all(|is| is.as_deref() == Some(&*all));
    (!holds).then(|| format!("after {committed} checkpoints it ends otherwise"))
}

fn wrong_after_power_loss(prepare: impl Fn(&LossyDisk)) -> Option<String> {
    for operations in 0.. {
        let disk = LossyDisk::new();
        prepare(&disk);
        disk.power_off_after(operations);
        let done = live_all(&disk).is_ok();
        let wrong = (0..SEEDS).find_map(|seed| wrong_with(&disk.crash(seed * 1_000 + operations)));
        if done || wrong.is_some() {
            assert!(operations > 10, "it did something");
            return wrong;
        }
    }
    unreachable!("it comes to its end")
}

#[test]
fn what_is_seen_was_committed_whenever_the_power_fails() {
    assert_eq!(wrong_after_power_loss(|_| {}), None);
}

#[test]
fn each_kind_of_sync_is_needed() {
    for sync in [Sync::Files, Sync::Folders] {
        let wrong = wrong_after_power_loss(|disk| disk.leave_out(sync));
        assert!(wrong.is_some(), "{sync:?}");
    }
}

#[test]
fn another_goes_on_after_a_kill_at_any_moment_and_a_power_loss_after_it() {
    for operations in 0.. {
        let disk = LossyDisk::new();
        disk.power_off_after(operations);
        let done = live_all(&disk).is_ok();
        disk.fail_no_more();
        for more in (0..40).step_by(3) {
            let again = disk.crash(0);
            again.power_off_after(more);
            let _killed = live_on(&again);
            let wrong = (0..4).find_map(|seed| wrong_with(&again.crash(seed)));
            assert_eq!(wrong, None, "after {operations} and {more}");
        }
        if done {
            break;
        }
    }
}

#[test]
fn what_is_missing_or_changed_is_named() {
    let disk = LossyDisk::new();
    let mut life = Life::begin(&disk).unwrap();
    life.write().unwrap();
    life.checkpoint(false).unwrap();
    let hidden = Path::new("/parts/.part-001.tmp");
    let refused = |disk: &LossyDisk, what: &str| {
        let error = Life::begin(disk).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::State);
        let says = format!("output `/parts/part-001` {what}");
        assert!(error.to_string().starts_with(&says), "{error}");
    };
    disk.flip(hidden, 100, 1).unwrap();
    refused(&disk, "has changed");
    disk.flip(hidden, 100, 1).unwrap();
    let short = disk.crash(0);
    short.reopen(hidden, 100).unwrap();
    refused(&short, "has changed");
    let gone = disk.crash(0);
    gone.remove_file(hidden).unwrap();
    refused(&gone, "is missing");
    live_on(&disk).unwrap();
    // A reader may take what it sees.
    disk.remove_file(Path::new("/parts/part-001")).unwrap();
    Life::begin(&disk).map(drop).unwrap();
}
