//! A small job of two workers that keeps its state in checkpoints, and what has to be found of
//! them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::state::disk::Disk;
use crate::state::durable;
use crate::state::lossy::LossyDisk;
use crate::state::manifest::Manifest;
use crate::state::restored::Restored;
use crate::state::saved::Parcels;
use crate::state::store::found::read_log;
use crate::state::store::names::manifest_name;
use crate::state::store::{
    Named, Store, broken, manifests, newest, newest_generation, read_logs, read_manifest,
};
use crate::state::{codec, slot, stable_hash, worker_of_slot};
use crate::time::Progress;

pub(super) const WORKERS: usize = 2;
/// Few, so that most are written and removed again and again.
pub(super) const KEYS: u64 = 12;
pub(super) const OPERATOR: &str = "model";

/// What the job remembers.
pub(super) type Kept = BTreeMap<u64, u64>;

pub(super) fn dir() -> &'static Path {
    Path::new("/state")
}

/// What becomes of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// What changed is saved by this worker, or by all.
    Of(usize),
    Delta,
    /// Everything is saved anew.
    Full,
    /// Nothing changed, and nothing is saved.
    Nothing,
    /// It is prepared and not committed: the process dies between.
    Uncommitted,
}
pub(super) use Step::{Delta, Full, Nothing, Of, Uncommitted};

/// Generations, one process each.
pub(super) const LIVES: &[&[Step]] = &[
    &[Nothing, Delta, Of(1), Delta],
    &[Of(0), Uncommitted],
    &[Nothing],
    &[Delta, Full, Delta, Of(0), Full, Uncommitted],
    &[Full],
    &[Delta, Delta],
];

/// Where the checkpoint that counts is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    /// In a log that another keeps.
    Elsewhere,
    /// Nowhere: the newest manifest is the commit.
    Here,
}

/// What outlives a process and its disk: what each manifest that was begun has to give back, and
/// which one counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) states: BTreeMap<String, Kept>,
    pub(super) committed: Option<Named>,
    /// Durable, and to stay at least until another is committed.
    pub(super) prepared: Option<Named>,
}

/// A process of the job, from its start to its end or to its first error.
pub(super) struct Life<'a> {
    pub(super) known: &'a mut Known,
    pub(super) manifest: Manifest,
    pub(super) kept: Kept,
    pub(super) store: Store,
}

impl<'a> Life<'a> {
    pub(super) fn begin(disk: &LossyDisk, known: &'a mut Known, commits: Commits) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        durable::make_folders(&*disk, dir()).map_err(|why| broken(dir(), why))?;
        let name = match commits {
            Commits::Elsewhere => known.committed.as_ref().map(|named| named.manifest.clone()),
            Commits::Here => newest(&*disk, dir())?,
        };
        let (mut manifest, mut kept) = (Manifest::default(), Kept::new());
        known.prepared = None;
        if let Some(name) = name {
            let (found, crc) = read_manifest(&*disk, dir(), &name)?;
            kept = read(&disk, &found)?;
            assert_eq!(Some(&kept), known.states.get(&name), "{name}");
            let named = Named {
                manifest: name,
                crc,
            };
            // From here on it is relied on.
            known.prepared = Some(named.clone());
            known.committed = Some(named);
            manifest = found;
        }
        let mut store = Store::begin(
            &disk,
            dir(),
            newest_generation(&*disk, dir())?,
            manifest.generation,
            WORKERS,
        )?;
        store.continue_with(manifest.logs.clone());
        if known.committed.is_some() {
            store.clean(&manifest)?;
        }
        Ok(Self {
            known,
            manifest,
            kept,
            store,
        })
    }

    pub(super) fn steps(&mut self, steps: &[Step]) -> Result {
        steps.iter().try_for_each(|step| self.step(*step))
    }

    pub(super) fn step(&mut self, step: Step) -> Result {
        self.manifest.checkpoint += 1;
        if step == Full {
            self.store.begin_full();
        }
        for worker in 0..WORKERS {
            if step != Nothing && step != Of(1 - worker) {
                self.save(worker, step == Full)?;
            }
        }
        let name = manifest_name(self.store.generation, self.manifest.checkpoint);
        let kept = self.kept.clone();
        let twice = self.known.states.insert(name.clone(), kept);
        assert_eq!(twice, None, "{name} is written once");
        let named = self.store.prepare(&mut self.manifest)?;
        assert_eq!(named.manifest, name);
        self.known.prepared = Some(named.clone());
        if step != Uncommitted {
            self.known.committed = Some(named);
            self.store.clean(&self.manifest)?;
        }
        Ok(())
    }

    /// Changes some of a worker's keys, and saves them, or all.
    pub(super) fn save(&mut self, worker: usize, all: bool) -> Result {
        let mut parcels = Parcels::of(OPERATOR);
        for key in (0..KEYS).filter(|key| worker_of(*key) == worker) {
            let drawn = stable_hash(&(key, self.store.generation, self.manifest.checkpoint));
            let changed = drawn.is_multiple_of(3);
            match drawn % 7 {
                _ if !changed => {}
                0 => drop(self.kept.remove(&key)),
                _ => drop(self.kept.insert(key, drawn)),
            }
            let value = self.kept.get(&key).copied();
            if changed || all && value.is_some() {
                let write = |out: &mut Vec<u8>| codec::encode(&(key, value), out);
                parcels.entry(slot_of(key), write)?;
            }
        }
        parcels.end(Progress::START);
        for parcel in parcels.done {
            let checkpoint = self.manifest.checkpoint;
            self.store.append(worker, checkpoint, &parcel)?;
        }
        Ok(())
    }
}

pub(super) fn slot_of(key: u64) -> usize {
    usize::try_from(slot(stable_hash(&key))).unwrap()
}

pub(super) fn worker_of(key: u64) -> usize {
    usize::try_from(worker_of_slot(slot_of(key) as u64, WORKERS)).unwrap()
}

/// The state that a manifest gives back.
pub(super) fn read(disk: &Arc<dyn Disk>, manifest: &Manifest) -> Result<Kept> {
    kept_in(&read_logs(disk, dir(), &manifest.logs)?)
}

/// As [`read`], log by log: a hundred thousand disks are read here.
pub(super) fn read_in_turn(disk: &LossyDisk, manifest: &Manifest) -> Result<Kept> {
    let mut restored = Restored::default();
    for log in &manifest.logs {
        let (bytes, parcels) = read_log(disk, dir(), log)?;
        restored.add(bytes, parcels)?;
    }
    kept_in(&restored)
}

pub(super) fn kept_in(restored: &Restored) -> Result<Kept> {
    let mut kept = Kept::new();
    restored.entries(
        OPERATOR,
        |_| true,
        |_, _, entry| {
            match codec::decode::<(u64, Option<u64>)>(entry)? {
                (key, Some(value)) => kept.insert(key, value),
                (key, None) => kept.remove(&key),
            };
            Ok(())
        },
    )?;
    Ok(kept)
}

impl Known {
    /// What is wrong with a disk that was found.
    pub(super) fn wrong_with(&self, found: &LossyDisk) -> Option<String> {
        let must = [&self.committed, &self.prepared].into_iter().flatten();
        for Named { manifest, crc } in must {
            match self.whole(found, manifest) {
                Ok(there) if there == *crc => {}
                Ok(_) => return Some(format!("{manifest} is another")),
                Err(why) => return Some(why),
            }
        }
        let all = match manifests(found, dir()) {
            Err(_) if self.states.is_empty() => return None,
            all => all.unwrap(),
        };
        all.iter().find_map(|name| self.whole(found, name).err())
    }

    /// The checksum of a manifest that gives back its state.
    pub(super) fn whole(&self, found: &LossyDisk, name: &str) -> Result<u32, String> {
        let (manifest, crc) =
            read_manifest(found, dir(), name).map_err(|error| error.to_string())?;
        let kept = read_in_turn(found, &manifest).map_err(|error| error.to_string())?;
        match self.states.get(name) {
            Some(expected) if *expected == kept => Ok(crc),
            expected => Err(format!("{name} gives {kept:?}, and {expected:?} was saved")),
        }
    }
}

/// Lives all lives, one after the other, each killed at its end; until the first error.
pub(super) fn live_all(
    lives: &[&[Step]],
    disk: &LossyDisk,
    commits: Commits,
    known: &mut Known,
) -> Result {
    let mut lives = lives.iter();
    lives.try_for_each(|steps| Life::begin(disk, known, commits)?.steps(steps))
}

/// Another life on a disk that was found.
pub(super) fn live_on(disk: &LossyDisk, commits: Commits, mut known: Known) {
    let mut life = Life::begin(disk, &mut known, commits).unwrap();
    life.steps(&[Delta, Full, Of(1)]).unwrap();
    assert_eq!(known.wrong_with(disk), None);
    assert_eq!(known.wrong_with(&disk.crash(0)), None);
}
