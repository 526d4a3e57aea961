//! Entries by key, packed: the entries lie in blocks that never move, and an index of eight bytes
//! an entry finds them. So growth never copies an entry, a table costs its entries and little more
//! at every size, and what a table holds comes out in the order in which it came in.

mod saved;

use std::hash::Hash;

use hashbrown::hash_table::Entry as Indexed;

use super::index::{DIVIDE_AT, Index, Place, low, spread};
use super::size::elsewhere;
use super::{Size, State};

/// Entries of a block.
const BLOCK: usize = 1024;
/// Entries that are looked at to know what all of them hold elsewhere.
const SAMPLES: usize = 4;
#[derive(Clone, Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    /// The stamp of the last checkpoint interval in which it changed.
    stamp: u32,
}

/// Where an entry may lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint(u32);

impl Hint {
    /// Knows nothing.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Which entries changed since the last checkpoint.
#[derive(Clone, Debug)]
struct Changes<K> {
    stamp: u32,
    touched: Vec<u32>,
    removed: Vec<K>,
    /// How far a save of everything has come.
    cursor: usize,
}

/// Values by key. See the module.
#[derive(Clone, Debug)]
pub(crate) struct Table<K, V> {
    blocks: Vec<Vec<Entry<K, V>>>,
    index: Index,
    len: usize,
    changes: Option<Changes<K>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            index: Index::default(),
            len: 0,
            changes: None,
        }
    }
}

impl<K: State + Hash + Eq, V: State> Table<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory it takes, without what keys and values hold elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        let first = self.blocks.first().map_or(0, Vec::capacity);
        let entries = first + self.blocks.len().saturating_sub(1) * BLOCK;
        let list = self.blocks.capacity() * size_of::<Vec<Entry<K, V>>>();
        entries * size_of::<Entry<K, V>>() + self.index.bytes() + list
    }

    /// What it takes, with an estimate of what keys and values hold elsewhere.
    pub(crate) fn size(&self) -> Size {
        let step = (self.len / SAMPLES).max(1);
        let some = (0..self.len).step_by(step).take(SAMPLES).map(|at| {
            let Entry { key, value, .. } = &self.blocks[at / BLOCK][at % BLOCK];
            elsewhere(key) + elsewhere(value)
        });
        Size::sampled(self.len, self.bytes(), some)
    }

    /// The value of `key`, whose stable hash is `hash`.
    #[cfg(test)]
    pub(crate) fn get(&self, hash: u64, key: &K) -> Option<&V> {
        let Self { blocks, index, .. } = self;
        let part = index.part(hash);
        let place = part.find(spread(low(hash)), same(blocks, hash, key))?;
        Some(&entry(blocks, place.at).value)
    }

    /// Where the entry with this hash may lie: asked for a batch of keys before the first is
    /// changed, the processor fetches many lines of the index, and then of the entries, at a time.
    #[inline]
    pub(crate) fn hint(&self, hash: u64) -> Hint {
        let part = self.index.part(hash);
        let place = part.find(spread(low(hash)), |place| place.hash == low(hash));
        Hint(place.map_or(u32::MAX, |place| place.at))
    }

    /// As [`Table::upsert`]; a good `hint` saves the search, any other costs a look.
    #[inline]
    pub(crate) fn upsert_at(
        &mut self,
        hint: Hint,
        hash: u64,
        key: K,
        absent: impl FnOnce() -> V,
        change: impl FnOnce(&mut V),
    ) {
        let (block, nth) = (hint.0 as usize / BLOCK, hint.0 as usize % BLOCK);
        let hinted = self.blocks.get_mut(block);
        match hinted.and_then(|block| block.get_mut(nth)) {
            Some(entry) if entry.key == key => {
                change(&mut entry.value);
                if let Some(changes) = &mut self.changes {
                    note(changes, &mut entry.stamp, hint.0);
                }
            }
            _ => self.upsert(hash, key, absent, change),
        }
    }

    /// Changes the value of `key`, if there is one.
    #[inline]
    pub(crate) fn change<R>(
        &mut self,
        hash: u64,
        key: &K,
        change: impl FnOnce(&mut V) -> R,
    ) -> Option<R> {
        let Self {
            blocks,
            index,
            changes,
            ..
        } = self;
        let part = index.part(hash);
        let at = part.find(spread(low(hash)), same(blocks, hash, key))?.at;
        let entry = &mut blocks[at as usize / BLOCK][at as usize % BLOCK];
        let changed = change(&mut entry.value);
        if let Some(changes) = changes {
            note(changes, &mut entry.stamp, at);
        }
        Some(changed)
    }

    /// Changes the value of `key`; an absent one is first made by `absent`.
    #[inline]
    pub(crate) fn upsert(
        &mut self,
        hash: u64,
        key: K,
        absent: impl FnOnce() -> V,
        change: impl FnOnce(&mut V),
    ) {
        if self.len == DIVIDE_AT {
            let blocks = &self.blocks;
            let hash_of = |at| super::stable_hash(&entry(blocks, at).key);
            self.index.divide(hash_of);
        }
        let Self {
            blocks,
            index,
            len,
            changes,
        } = self;
        let part = index.part_mut(hash);
        let found = part.entry(spread(low(hash)), same(blocks, hash, &key), |place| {
            spread(place.hash)
        });
        let at = match found {
            Indexed::Occupied(place) => place.get().at,
            Indexed::Vacant(vacant) => {
                let at = u32::try_from(*len).expect("fewer than 2^32 entries");
                vacant.insert(Place {
                    hash: low(hash),
                    at,
                });
                push(
                    blocks,
                    Entry {
                        key,
                        value: absent(),
                        stamp: 0,
                    },
                );
                *len += 1;
                at
            }
        };
        let entry = &mut blocks[at as usize / BLOCK][at as usize % BLOCK];
        change(&mut entry.value);
        if let Some(changes) = changes {
            note(changes, &mut entry.stamp, at);
        }
    }

    /// Takes `key` out.
    pub(crate) fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let removed = self.forget(hash, key)?;
        if let Some(changes) = &mut self.changes {
            changes.removed.push(key.clone());
        }
        Some(removed)
    }

    /// Takes `key` out, and no checkpoint hears of it: whoever loads its entry forgets it again.
    fn forget(&mut self, hash: u64, key: &K) -> Option<V> {
        let Self {
            blocks,
            index,
            len,
            changes,
        } = self;
        let part = index.part_mut(hash);
        let place = part
            .find_entry(spread(low(hash)), same(blocks, hash, key))
            .ok()?;
        let (place, _) = place.remove();
        *len -= 1;
        let last = pop(blocks);
        let last_at = u32::try_from(*len).expect("fewer than 2^32 entries");
        if place.at == last_at {
            return Some(last.value);
        }
        // The last entry moves into the hole.
        let moved_hash = super::stable_hash(&last.key);
        let part = index.part_mut(moved_hash);
        let moved = part
            .find_mut(spread(low(moved_hash)), |other| other.at == last_at)
            .expect("every entry is in the index");
        moved.at = place.at;
        let hole = &mut blocks[place.at as usize / BLOCK][place.at as usize % BLOCK];
        let removed = std::mem::replace(hole, last);
        if let Some(changes) = changes
            && hole.stamp == changes.stamp
        {
            changes.touched.push(place.at);
        }
        Some(removed.value)
    }

    /// Looks at `some` entries from where the last call stopped, around and around, and forgets
    /// those that are not to be kept. Checkpoints do not hear of it: what decides that must decide
    /// the same when they are loaded.
    pub(crate) fn sweep(
        &mut self,
        cursor: &mut usize,
        some: usize,
        mut keep: impl FnMut(&K, &V) -> bool,
    ) {
        for _ in 0..some.min(self.len) {
            if *cursor >= self.len {
                *cursor = 0;
            }
            let at = u32::try_from(*cursor).expect("fewer than 2^32 entries");
            let looked_at = entry(&self.blocks, at);
            if keep(&looked_at.key, &looked_at.value) {
                *cursor += 1;
                continue;
            }
            // Another entry moves to this place and is looked at next.
            let key = looked_at.key.clone();
            self.forget(super::stable_hash(&key), &key);
            if self.is_empty() {
                return;
            }
        }
    }

    /// Forgets what is not to be kept, as [`Table::sweep`] would in time.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&K, &V) -> bool) {
        let mut cursor = 0;
        self.sweep(&mut cursor, self.len, keep);
    }

    /// Everything in it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.blocks.iter().flatten();
        entries.map(|entry| (&entry.key, &entry.value))
    }

    /// Everything in it, in the order in which it came (as far as nothing was removed). Memory is
    /// let go block by block.
    pub(crate) fn drain(self) -> Drain<K, V> {
        Drain {
            left: self.len,
            blocks: self.blocks.into_iter(),
            block: Vec::new().into_iter(),
        }
    }
}

#[inline]
fn entry<K, V>(blocks: &[Vec<Entry<K, V>>], at: u32) -> &Entry<K, V> {
    &blocks[at as usize / BLOCK][at as usize % BLOCK]
}

#[inline]
fn same<'a, K: Eq, V>(
    blocks: &'a [Vec<Entry<K, V>>],
    hash: u64,
    key: &'a K,
) -> impl Fn(&Place) -> bool + 'a {
    move |place| place.hash == low(hash) && entry(blocks, place.at).key == *key
}

/// The first block grows as any vector, so that a small table is small; later ones come whole.
#[inline]
fn push<K, V>(blocks: &mut Vec<Vec<Entry<K, V>>>, entry: Entry<K, V>) {
    match blocks.last_mut() {
        Some(last) if last.len() < BLOCK => last.push(entry),
        Some(_) => {
            let mut block = Vec::with_capacity(BLOCK);
            block.push(entry);
            blocks.push(block);
        }
        None => blocks.push(vec![entry]),
    }
}

fn pop<K, V>(blocks: &mut Vec<Vec<Entry<K, V>>>) -> Entry<K, V> {
    let last = blocks.last_mut().expect("the table is not empty");
    let entry = last.pop().expect("no block is empty");
    if last.is_empty() {
        blocks.pop();
    }
    entry
}

#[inline]
fn note<K>(changes: &mut Changes<K>, stamp: &mut u32, at: u32) {
    if *stamp != changes.stamp {
        *stamp = changes.stamp;
        changes.touched.push(at);
    }
}

/// The entries of a table that is no more.
#[derive(Debug)]
pub(crate) struct Drain<K, V> {
    left: usize,
    blocks: std::vec::IntoIter<Vec<Entry<K, V>>>,
    block: std::vec::IntoIter<Entry<K, V>>,
}

impl<K, V> Drain<K, V> {
    /// Entries that are still in it.
    pub(crate) fn len(&self) -> usize {
        self.left
    }
}

impl<K, V> Iterator for Drain<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(entry) = self.block.next() {
                self.left -= 1;
                return Some((entry.key, entry.value));
            }
            self.block = self.blocks.next()?.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::saved::{GO_BYTES, Holds, Parcel, Parcels, Saved};
    use super::super::stable_hash;
    use super::*;
    use crate::time::Progress;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    fn add(table: &mut Table<u32, u64>, key: u32, by: u64) {
        // Hints good and bad, and none.
        let hash = stable_hash(&key);
        let hint = match key % 3 {
            0 => table.hint(hash),
            1 => Hint(key),
            _ => Hint::NONE,
        };
        table.upsert_at(hint, hash, key, || 0, |value| *value += by);
    }

    /// Brings `copy` up to what `table` is, as a checkpoint and its recovery do.
    fn follow(copy: &mut Table<u32, u64>, table: &mut Table<u32, u64>, all: bool) -> usize {
        let mut parcels = Parcels::of("table");
        while table.save(all, 7, &mut parcels).unwrap() {}
        parcels.end(Progress::START);
        let mut count = 0;
        for parcel in &parcels.done {
            let Holds::Entries(entries) = Parcel::read(parcel).unwrap().holds else {
                continue;
            };
            for entry in entries {
                let (at, bytes) = entry.unwrap();
                assert!(at < 1024);
                copy.load(0, bytes).unwrap();
                count += 1;
            }
        }
        copy.loaded(Progress::START);
        count
    }

    fn sorted(table: &Table<u32, u64>) -> BTreeMap<u32, u64> {
        table.iter().map(|(key, value)| (*key, *value)).collect()
    }

    #[test]
    fn large_values_are_saved_some_bytes_at_a_time() {
        const VALUE: usize = 64 << 10;
        for all in [false, true] {
            let mut table = Table::default();
            table.track();
            for key in 0..40u32 {
                let value = || vec![u8::try_from(key).unwrap(); VALUE];
                table.upsert(stable_hash(&key), key, value, |_| {});
            }
            let (mut parcels, mut goes) = (Parcels::of("table"), 0);
            loop {
                let before = parcels.bytes;
                let more = table.save(all, 8_192, &mut parcels).unwrap();
                let bytes = parcels.bytes - before;
                assert!(bytes < GO_BYTES + 2 * VALUE as u64, "{bytes} in one go");
                goes += 1;
                if !more {
                    break;
                }
            }
            assert_eq!(goes, 3);
            assert_eq!(parcels.into_entries().unwrap().len(), 40, "all: {all}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_that_knows_what_changed(
            steps in prop::collection::vec((0u32..300, 0u8..12), 0..2_000),
        ) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            table.track();
            let (mut copy, mut dirty) = (Table::default(), BTreeSet::new());
            for (key, step) in steps {
                match step {
                    0..7 => {
                        add(&mut table, key, 3);
                        *model.entry(key).or_insert(0) += 3;
                        dirty.insert(key);
                    }
                    7 | 8 => {
                        let removed = table.remove(stable_hash(&key), &key);
                        prop_assert_eq!(removed, model.remove(&key));
                        dirty.insert(key);
                    }
                    9 | 10 => {
                        let saved = follow(&mut copy, &mut table, false);
                        prop_assert!(saved <= 2 * dirty.len(), "{} of {}", saved, dirty.len());
                        dirty.clear();
                        prop_assert_eq!(sorted(&copy), model.clone());
                    }
                    _ => {
                        copy = Table::default();
                        let saved = follow(&mut copy, &mut table, true);
                        dirty.clear();
                        prop_assert_eq!(saved, model.len());
                        prop_assert_eq!(sorted(&copy), model.clone());
                    }
                }
                prop_assert_eq!(table.get(stable_hash(&key), &key), model.get(&key));
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.drain().collect::<BTreeMap<_, _>>(), model);
        }
    }

    #[test]
    fn what_is_forgotten_is_not_saved_and_what_comes_again_is() {
        let mut table = Table::default();
        table.track();
        (0..100).for_each(|key| add(&mut table, key, 1));
        let mut copy = Table::default();
        assert_eq!(follow(&mut copy, &mut table, false), 100);
        table.retain(|key, _| key % 2 == 0);
        add(&mut table, 7, 9);
        assert_eq!(follow(&mut copy, &mut table, false), 1);
        copy.retain(|key, _| key % 2 == 0 || *key == 7);
        assert_eq!(sorted(&copy), sorted(&table));
    }

    #[test]
    fn what_says_that_an_entry_is_gone_is_no_entry() {
        let mut table = Table::default();
        table.track();
        (0..100).for_each(|key| add(&mut table, key, 1));
        while table.save(false, 7, &mut Parcels::of("table")).unwrap() {}
        for key in 0..60u32 {
            table.remove(stable_hash(&key), &key);
        }
        add(&mut table, 70, 1);
        let mut parcels = Parcels::of("table");
        while table.save(false, 7, &mut parcels).unwrap() {}
        // Head of an entry, tag, key, and the value of one.
        let (removals, value) = (60 * (4 + 1 + 4), 4 + 1 + 4 + 8);
        let mut empty = Parcels::of("table");
        empty.removal(0, |_| Ok(())).unwrap();
        let (head, none) = empty.held();
        assert_eq!(none, 0);
        assert_eq!(parcels.bytes, head + removals + value);
        assert_eq!(parcels.held(), (head + value, 1));
        let mut copy = Table::<u32, u64>::default();
        let entries = parcels.into_entries().unwrap();
        let loaded = entries.iter().map(|entry| copy.load(0, entry).unwrap());
        assert_eq!(loaded.filter(|held| *held).count(), 1);
    }

    #[test]
    fn what_has_no_order_does_not_come_back_in_a_test_and_it_says_what_does() {
        let all: BTreeMap<u32, u32> = (0..64).map(|n| (n, n)).collect();
        let mut ordered = Table::default();
        ordered.track();
        ordered.upsert(stable_hash(&1u32), 1u32, || all.clone(), |_| {});
        ordered.renew().unwrap();
        let mut table = Table::default();
        table.track();
        let unordered: HashMap<u32, u32> = all.into_iter().collect();
        table.upsert(stable_hash(&1u32), 1u32, || unordered, |_| {});
        let said = table.renew().unwrap_err().to_string();
        assert!(
            said.contains("HashMap") && said.contains("take a BTreeMap"),
            "{said}"
        );
    }

    #[test]
    fn large_tables_divide_their_index_and_lose_nothing() {
        let mut table = Table::default();
        (0..100_000).for_each(|key| add(&mut table, key, u64::from(key)));
        for key in (0..100_000).step_by(3) {
            assert_eq!(table.remove(stable_hash(&key), &key), Some(u64::from(key)));
        }
        for key in 0..100_000u32 {
            let expected = (key % 3 != 0).then_some(u64::from(key));
            assert_eq!(table.get(stable_hash(&key), &key).copied(), expected);
        }
    }

    #[test]
    fn parts_grow_one_after_another() {
        let mut table = Table::<u64, ()>::default();
        let (mut grown, mut most) = (0, 0);
        let mut before = Vec::new();
        for key in 0..1_000_000u64 {
            table.upsert(stable_hash(&key), key, || (), |()| {});
            if key < 200_000 || key % 4_096 > 0 {
                continue;
            }
            let now = table.index.sizes();
            let steps = now
                .iter()
                .zip(&before)
                .filter(|(now, before)| now != before)
                .count();
            (grown, most) = (grown + steps, most.max(steps));
            before = now;
        }
        assert!(
            grown > 64 && most <= 6,
            "{grown} steps, at most {most} at a time"
        );
    }

    #[test]
    fn entries_come_out_as_they_came_in() {
        let mut table = Table::default();
        (0..5_000).rev().for_each(|key| add(&mut table, key, 1));
        let keys: Vec<u32> = table.drain().map(|(key, _)| key).collect();
        assert!(keys.iter().copied().eq((0..5_000).rev()));
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn an_entry_costs_little_more_than_itself_at_every_size() {
        for size in [10_000u32, 20_000, 100_000, 300_000, 1_000_000] {
            let mut table = Table::<u32, [u64; 5]>::default();
            (0..size).for_each(|key| {
                table.upsert(stable_hash(&key), key, Default::default, |_| {});
            });
            let each = table.bytes() as f64 / f64::from(size);
            assert!(
                each <= 76.0,
                "{size} entries of 48 bytes: {each:.1} bytes each"
            );
        }
    }
}
