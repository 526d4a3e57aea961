//! A table in checkpoints: the entries that changed, or all.

use std::collections::HashSet;
use std::hash::Hash;

use super::{BLOCK, Changes, Entry, Table};
use crate::error::Result;
use crate::state::saved::{Parcels, Saved};
use crate::state::{State, codec, slot, stable_hash};
use crate::time::Progress;

/// First byte of an entry: the key and its value follow, or the key alone, which was removed.
const PUT: u8 = 1;
const REMOVED: u8 = 0;

impl<K: State + Hash + Eq, V: State> Saved for Table<K, V> {
    fn track(&mut self) {
        self.changes.get_or_insert_with(|| Changes {
            stamp: 1,
            touched: Vec::new(),
            removed: Vec::new(),
            cursor: 0,
        });
    }

    fn check(&self) -> Result {
        let Some(first) = self.blocks.first().and_then(|block| block.first()) else {
            return Ok(());
        };
        codec::check(&first.key)?;
        codec::check(&first.value)
    }

    fn save(&mut self, all: bool, room: usize, out: &mut Parcels) -> Result<bool> {
        let Some(mut changes) = self.changes.take() else {
            return Ok(false);
        };
        let saved = if all {
            self.save_all(&mut changes, room, out)
        } else {
            self.save_changed(&mut changes, room, out)
        };
        if let Ok(false) = saved {
            changes.touched.clear();
            changes.touched.shrink_to(BLOCK);
            changes.removed.clear();
            changes.cursor = 0;
            changes.stamp = changes.stamp.wrapping_add(1).max(1);
        }
        self.changes = Some(changes);
        saved
    }

    fn held(&self) -> usize {
        self.len
    }

    fn load(&mut self, _group: i64, entry: &[u8]) -> Result<bool> {
        let (tag, rest) = entry.split_first().unwrap_or((&REMOVED, &[]));
        let (key, value) = codec::decode_first::<K>(rest)?;
        let hash = stable_hash(&key);
        if *tag == PUT {
            let value = codec::decode::<V>(value)?;
            let mut value = Some(value);
            let put = |there: &mut V| *there = value.take().expect("it is put once");
            // An absent one is made of a copy, and replaced at once: tables have one way in.
            if self.change(hash, &key, put).is_none() {
                let value = value.take().expect("it was not put");
                self.upsert(hash, key, || value, |_| {});
            }
        } else {
            self.forget(hash, &key);
        }
        Ok(*tag == PUT)
    }

    fn renew(&mut self) -> Result {
        let (before, len) = (self.changed()?, self.len());
        for entry in &before {
            self.load(0, entry)?;
        }
        // What was read back counts as changed, so it is just this that is written again.
        let after = self.changed()?;
        let known: HashSet<_> = before.iter().collect();
        if self.len() == len && after.iter().all(|entry| known.contains(entry)) {
            return Ok(());
        }
        Err(codec::differs::<(K, V)>("its bytes or its key differ"))
    }

    fn loaded(&mut self, _progress: Progress) {}
}

impl<K: State + Hash + Eq, V: State> Table<K, V> {
    /// The entries of what has changed.
    fn changed(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut parcels = Parcels::of("");
        while self.save(false, BLOCK, &mut parcels)? {}
        parcels.into_entries()
    }

    fn save_changed(
        &mut self,
        changes: &mut Changes<K>,
        room: usize,
        out: &mut Parcels,
    ) -> Result<bool> {
        let began = out.bytes;
        // Removals first: an entry may have come again since.
        let removed = take_last(&mut changes.removed, room, |key| {
            out.removal(slot_of(key), |out| {
                out.push(REMOVED);
                codec::encode(key, out)
            })?;
            Ok(out.is_full_since(began))
        })?;
        let room = if out.is_full_since(began) {
            0
        } else {
            room - removed
        };
        take_last(&mut changes.touched, room, |at| {
            let (block, nth) = (*at as usize / BLOCK, *at as usize % BLOCK);
            let entry = self.blocks.get_mut(block).and_then(|all| all.get_mut(nth));
            // What is not there moved into a hole, and was noted there again.
            if let Some(entry) = entry
                && entry.stamp == changes.stamp
            {
                entry.stamp = 0;
                put(entry, out)?;
            }
            Ok(out.is_full_since(began))
        })?;
        Ok(!changes.removed.is_empty() || !changes.touched.is_empty())
    }

    fn save_all(
        &mut self,
        changes: &mut Changes<K>,
        room: usize,
        out: &mut Parcels,
    ) -> Result<bool> {
        let began = out.bytes;
        let end = (changes.cursor + room).min(self.len);
        while changes.cursor < end && !out.is_full_since(began) {
            let entry = &self.blocks[changes.cursor / BLOCK][changes.cursor % BLOCK];
            let bytes = put(entry, out)?;
            if entry.stamp == changes.stamp {
                out.changed += bytes;
            }
            changes.cursor += 1;
        }
        Ok(changes.cursor < self.len)
    }
}

/// Takes the last `room` of `all` out, from the first of them on, until `save` says that this is
/// enough; returns how many.
fn take_last<T>(
    all: &mut Vec<T>,
    room: usize,
    mut save: impl FnMut(&T) -> Result<bool>,
) -> Result<usize> {
    let from = all.len() - all.len().min(room);
    let mut taken = 0;
    for one in &all[from..] {
        taken += 1;
        if save(one)? {
            break;
        }
    }
    all.drain(from..from + taken);
    Ok(taken)
}

fn slot_of<K: Hash>(key: &K) -> usize {
    usize::try_from(slot(stable_hash(key))).expect("there are 1024 slots")
}

fn put<K: State + Hash, V: State>(entry: &Entry<K, V>, out: &mut Parcels) -> Result<u64> {
    out.entry(slot_of(&entry.key), |out| {
        out.push(PUT);
        codec::encode(&entry.key, out)?;
        codec::encode(&entry.value, out)
    })
}
