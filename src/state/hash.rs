//! The stable hash, and where a key lives. Both are part of what is on disk: they may not change
//! with a compiler, a platform or a version.

use std::hash::{Hash, Hasher};

/// Slots that keyed state is divided into; the unit that moves between workers.
pub(crate) const SLOTS: u64 = 1024;

/// A hasher whose results are the same in every process, build and version.
///
/// Integers and bytes are folded by multiplication into 128 bits (as in wyhash); numbers are taken
/// in little-endian form.
#[derive(Clone, Copy, Debug)]
pub struct StableHasher(u64);

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
const MULTIPLIER: u64 = 0xD6E8_FEB8_6659_FD93;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves are what is wanted"
    )]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

impl Default for StableHasher {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Hasher for StableHasher {
    #[inline]
    fn finish(&self) -> u64 {
        fold(self.0 ^ SEED, MULTIPLIER)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.write_u64(u64::from_le_bytes(*chunk));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length tells "a" from "a\0".
        self.write_u64(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0 ^ value, MULTIPLIER).wrapping_add(SEED);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }
    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
    #[inline]
    fn write_u128(&mut self, value: u128) {
        self.write(&value.to_le_bytes());
    }
    #[inline]
    fn write_i8(&mut self, value: i8) {
        self.write_i64(i64::from(value));
    }
    #[inline]
    fn write_i16(&mut self, value: i16) {
        self.write_i64(i64::from(value));
    }
    #[inline]
    fn write_i32(&mut self, value: i32) {
        self.write_i64(i64::from(value));
    }
    #[inline]
    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }
    #[inline]
    fn write_isize(&mut self, value: isize) {
        self.write_i64(value as i64);
    }
    #[inline]
    fn write_i128(&mut self, value: i128) {
        self.write(&value.to_le_bytes());
    }
}

/// The stable hash of `key`.
#[inline]
pub fn stable_hash(key: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = StableHasher::default();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The slot of a key. It uses bits that the tables leave alone: they index by the low ones and tag
/// by the highest seven.
#[inline]
pub(crate) fn slot(hash: u64) -> u64 {
    (hash >> 44) % SLOTS
}

/// The worker that holds the slot of a key.
#[inline]
pub(crate) fn worker_of(hash: u64, workers: usize) -> u64 {
    worker_of_slot(slot(hash), workers)
}

/// The worker that holds `slot`.
#[inline]
pub(crate) fn worker_of_slot(slot: u64, workers: usize) -> u64 {
    slot * workers as u64 / SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_what_it_was() {
        // On disk: these may never change.
        let hashes = [
            stable_hash(&0u64),
            stable_hash(&-1i64),
            stable_hash("user-1"),
            stable_hash(&("a", 1u8)),
            stable_hash(&[1u8, 2, 3][..]),
        ];
        assert_eq!(hashes, PINNED);
    }
    const PINNED: [u64; 5] = [
        18_177_369_320_787_515_874,
        12_686_761_167_965_259_653,
        17_629_960_063_223_738_659,
        10_353_332_039_732_963_155,
        12_554_757_286_163_553_800,
    ];

    #[test]
    fn texts_that_differ_in_length_only_differ() {
        assert_ne!(stable_hash(&b"a"[..]), stable_hash(&b"a\0"[..]));
        assert_ne!(stable_hash(""), stable_hash("\0"));
    }

    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
    fn small_numbers_spread_evenly_over_slots_and_workers() {
        let mut per_slot = [0u32; SLOTS as usize];
        let mut per_worker = [0u32; 3];
        for key in 0..102_400i64 {
            let hash = stable_hash(&key);
            per_slot[slot(hash) as usize] += 1;
            per_worker[worker_of(hash, 3) as usize] += 1;
        }
        assert!(
            per_slot.iter().all(|count| (50..170).contains(count)),
            "{per_slot:?}"
        );
        assert!(
            per_worker
                .iter()
                .all(|count| (32_000..36_500).contains(count)),
            "{per_worker:?}"
        );
    }
}
