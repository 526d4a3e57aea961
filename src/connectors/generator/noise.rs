//! Chance that can be repeated, and numbers as text without a formatter.

/// Random numbers that belong to one record (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Noise(u64);

impl Noise {
    /// The numbers of record `index` of `partition`.
    pub(super) fn of(seed: u64, partition: u32, index: u64) -> Self {
        Self(mix(
            mix(mix(seed).wrapping_add(u64::from(partition))).wrapping_add(index)
        ))
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to `bound` less one, all equally likely.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        // The upper half of a product of two 32-bit numbers, so it fits.
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// One of `all`.
    pub(super) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(u32::try_from(all.len()).unwrap_or(u32::MAX)) as usize]
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Appends `number` in decimal digits.
pub(super) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the last `digits` hexadecimal digits of `number`.
pub(super) fn push_hex(out: &mut Vec<u8>, number: u64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = (number >> (4 * place)) & 15;
        out.push(b"0123456789abcdef"[digit as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_a_formatter_writes_them() {
        for number in [0, 7, 10, 1_714_137_600_123, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
            out.clear();
            push_hex(&mut out, number, 12);
            assert_eq!(
                out,
                format!("{:012x}", number & 0xffff_ffff_ffff).as_bytes()
            );
        }
    }

    #[test]
    fn draws_are_even_and_differ_between_records() {
        let mut counts = [0_u32; 10];
        for index in 0..10_000 {
            counts[Noise::of(1, 2, index).below(10) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1_100).contains(count)),
            "{counts:?}"
        );
        let first = |seed, partition, index| Noise::of(seed, partition, index).next();
        assert_ne!(first(1, 0, 0), first(0, 1, 0));
        assert_ne!(first(0, 0, 1), first(0, 1, 0));
    }
}
