//! The exact sum of integers.
//!
//! Sums of `i64` do not fit an `i64`, and an `i128` is aligned to 16 bytes, which would blow up
//! every row of state that holds one. This one is 16 bytes at the alignment of a `u64`, and costs
//! the same two instructions an addition.

use serde::{Deserialize, Serialize};

/// Sums integers exactly, in any order.
///
/// No stream overflows it: that takes 2^64 additions of the largest `i64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(Rust, packed(8))]
pub struct IntSum(i128);

impl IntSum {
    /// Adds one number.
    #[inline]
    pub fn add(&mut self, number: i64) {
        self.0 += i128::from(number);
    }

    /// Adds all that another sum has taken.
    #[inline]
    pub fn merge(&mut self, other: IntSum) {
        self.0 += other.0;
    }

    /// Returns the sum.
    #[inline]
    pub fn value(self) -> i128 {
        self.0
    }
}

impl From<i128> for IntSum {
    fn from(sum: i128) -> Self {
        IntSum(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(numbers: &[i64]) -> IntSum {
        let mut sum = IntSum::default();
        for &number in numbers {
            sum.add(number);
        }
        sum
    }

    #[test]
    fn takes_sixteen_bytes_and_no_padding() {
        assert_eq!((size_of::<IntSum>(), align_of::<IntSum>()), (16, 8));
    }

    #[test]
    fn goes_beyond_the_range_of_its_numbers() {
        assert_eq!(sum(&[i64::MAX; 3]).value(), 3 * i128::from(i64::MAX));
        assert_eq!(sum(&[i64::MIN; 3]).value(), 3 * i128::from(i64::MIN));
    }

    proptest! {
        #[test]
        fn splits_and_merges_to_the_same(numbers: Vec<i64>, at: prop::sample::Index) {
            let (left, right) = numbers.split_at(at.index(numbers.len() + 1));
            let mut merged = sum(right);
            merged.merge(sum(left));
            let naive: i128 = numbers.iter().copied().map(i128::from).sum();
            prop_assert_eq!(merged, sum(&numbers));
            prop_assert_eq!(merged.value(), naive);
        }

        #[test]
        fn comes_back_from_its_encoding(high: i64, low: u64) {
            let sum = IntSum::from(i128::from(high) << 64 | i128::from(low));
            let config = bincode::config::standard();
            let bytes = bincode::serde::encode_to_vec(sum, config).unwrap();
            let (back, _) = bincode::serde::decode_from_slice::<IntSum, _>(&bytes, config).unwrap();
            prop_assert_eq!(back, sum);
        }
    }
}
