//! Where the entries of a table lie: eight bytes an entry, in parts that grow one after another.

use hashbrown::HashTable;

/// A table of this many entries divides its index, so that no growth step takes long: at ten
/// million entries a step rehashes some 150,000 index words, about a millisecond.
pub(super) const DIVIDE_AT: usize = 65_536;
const PARTS: usize = 64;
/// Hash to part. Each part is the 64th root of two larger than the one before it, so they come to
/// their growth steps one after another, and the index as a whole is as full at every size.
static PART_OF: [u8; CELLS] = cells();
const CELLS: usize = 4096;

/// What the index knows of an entry: enough of its hash to rehash without a look at the entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) hash: u32,
    pub(super) at: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Index {
    parts: Vec<HashTable<Place>>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            parts: vec![HashTable::new()],
        }
    }
}

impl Index {
    #[inline]
    pub(super) fn part(&self, hash: u64) -> &HashTable<Place> {
        &self.parts[part_of(hash, self.parts.len())]
    }

    #[inline]
    pub(super) fn part_mut(&mut self, hash: u64) -> &mut HashTable<Place> {
        let parts = self.parts.len();
        &mut self.parts[part_of(hash, parts)]
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(HashTable::allocation_size).sum()
    }

    /// Makes parts of the whole, once.
    pub(super) fn divide(&mut self, hash_of: impl Fn(u32) -> u64) {
        if self.parts.len() > 1 {
            return;
        }
        let parts = (0..PARTS).map(|_| HashTable::new()).collect();
        let whole = std::mem::replace(&mut self.parts, parts);
        for place in whole.into_iter().flatten() {
            let part = self.part_mut(hash_of(place.at));
            part.insert_unique(spread(place.hash), place, |place| spread(place.hash));
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.parts.iter().map(HashTable::allocation_size).collect()
    }
}

#[inline]
pub(super) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[inline]
pub(super) fn low(hash: u64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is what is wanted"
    )]
    let low = hash as u32;
    low
}

#[inline]
fn part_of(hash: u64, parts: usize) -> usize {
    if parts == 1 {
        return 0;
    }
    usize::from(PART_OF[(hash >> 34) as usize % CELLS])
}

const fn cells() -> [u8; CELLS] {
    /// 2^(1/64) - 1 in 2^32nds.
    const ROOT: u64 = 46_769_127;
    let mut cells = [0; CELLS];
    let (mut part, mut bound, mut cell) = (0, (1 << 32) + ROOT, 0);
    while cell < CELLS {
        // The sizes double from the first part to the last: part `i` ends at 2^((i + 1) / 64) - 1.
        while part + 1 < PARTS && ((cell as u64) << 32) / CELLS as u64 + (1 << 32) >= bound {
            bound += (bound * ROOT) >> 32;
            part += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "there are 64 parts")]
        let number = part as u8;
        cells[cell] = number;
        cell += 1;
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_double_in_size_from_the_first_to_the_last() {
        let size = |part| {
            PART_OF
                .iter()
                .filter(|cell| usize::from(**cell) == part)
                .count()
        };
        assert!((0..PARTS).all(|part| size(part) >= 43), "none is empty");
        assert!(
            PART_OF.is_sorted() && (1..6).contains(&(size(PARTS - 1).abs_diff(2 * size(0)) + 1))
        );
    }
}
