//! Digits, eight at a time.

/// Counts the digits at the start of `bytes`, and returns the number that they write as far as 64
/// bits hold it.
///
/// Eight at a time, so that no branch depends on how many there are: lengths of numbers are what a
/// processor predicts worst.
#[inline]
pub(super) fn integer(bytes: &[u8]) -> (usize, u64) {
    let (mut digits, mut value) = (0, 0_u64);
    while let Some(word) = bytes[digits..].first_chunk::<8>() {
        let (count, number) = digits_of(u64::from_le_bytes(*word));
        digits += count;
        value = value.wrapping_mul(TENS[count]).wrapping_add(number);
        if count < 8 {
            return (digits, value);
        }
    }
    while let Some(digit @ b'0'..=b'9') = bytes.get(digits) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        digits += 1;
    }
    (digits, value)
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);

const TENS: [u64; 9] = {
    let mut tens = [1; 9];
    let mut power = 1;
    while power < tens.len() {
        tens[power] = 10 * tens[power - 1];
        power += 1;
    }
    tens
};

/// How many of eight bytes, from the lowest on, are digits, and the number that these write.
#[inline]
fn digits_of(word: u64) -> (usize, u64) {
    let values = word ^ (ONES * u64::from(b'0'));
    // The high half of a byte is not 0 if it is no digit, before or after 6 is added.
    let strays = (values | values.wrapping_add(ONES * 6)) & (ONES * 0xf0);
    let count = strays.trailing_zeros() as usize / 8;
    // The digits move up to where eight would end, with noughts below; none is no shift at all.
    let shift = 64 - (strays.trailing_zeros() & !7);
    let eight = values.checked_shl(shift).unwrap_or(0);
    // Pairs, then fours, then all.
    let pairs = eight.wrapping_mul(10).wrapping_add(eight >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    (
        count,
        fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_digits_whatever_stands_behind(
            number in "[0-9]{0,20}", behind in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut bytes = number.into_bytes();
            bytes.extend(behind);
            let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
            let naive = digits.fold((0, 0_u64), |(count, value), digit| {
                (count + 1, value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
            });
            prop_assert_eq!(integer(&bytes), naive);
        }
    }
}
