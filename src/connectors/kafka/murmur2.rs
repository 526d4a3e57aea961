//! The hash by which Kafka's clients choose a partition for a key.
//!
//! Results must land where the Java producer's default would put them, so that a topic written by
//! this engine and by others stays partitioned by key. This is that producer's `Utils.murmur2`:
//! the 32-bit murmur2 with a fixed seed and little-endian words.

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;

/// Hashes `bytes` as the Java client's `Utils.murmur2` does.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the hash takes the length modulo 2^32"
)]
pub(crate) fn murmur2(bytes: &[u8]) -> i32 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut hash = SEED ^ bytes.len() as u32;
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let rest = tail
            .iter()
            .rev()
            .fold(0, |rest, &byte| rest << 8 | u32::from(byte));
        hash = (hash ^ rest).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(MULTIPLIER);
    (hash ^ hash >> 15).cast_signed()
}

/// Chooses the partition of `key` as the Java client's default partitioner does.
///
/// # Panics
/// If `partitions` is zero.
pub(crate) fn partition(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & i32::MAX) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Kafka's `UtilsTest.testMurmur2`.
    const VECTORS: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
    ];

    #[test]
    fn hashes_as_kafka_does() {
        for (key, hash) in VECTORS {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit_and_not_its_sign() {
        // As a positive number the hash of "21" is 2^31 - 973,932,308 = 1,173,551,340.
        assert_eq!(partition(b"21", 1000), 340);
        assert_eq!(partition(b"abc", 7), 479_470_107 % 7);
    }

    #[test]
    fn one_partition_takes_every_key() {
        for key in [
            &b""[..],
            b"a",
            b"ab",
            b"abc",
            b"abcd",
            b"\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(partition(key, 1), 0);
        }
    }

    #[test]
    fn bytes_are_unsigned() {
        // Java masks each byte; without that, 0xff in the tail would smear ones over the others.
        assert_ne!(murmur2(b"\xff\x01"), murmur2(b"\xff\xff"));
    }
}
