//! The mean of integers, rounded once.

use super::exact_sum::round;

/// Divides `sum` by `count` and rounds the exact quotient to the nearest `f64`, ties to even.
///
/// Converting first and dividing then would round twice, and a large sum would lose its low digits
/// before they count. The mean of nothing is NaN.
pub(crate) fn mean(sum: i128, count: u64) -> f64 {
    if count == 0 {
        return f64::NAN;
    }
    // Shifted to the left end, the quotient has at least 64 bits, so the remainder lies below the
    // bit that decides the rounding: it matters only whether there is one.
    let magnitude = sum.unsigned_abs();
    let shift = magnitude.leading_zeros() % u128::BITS;
    let (dividend, divisor) = (magnitude << shift, u128::from(count));
    let inexact = dividend % divisor != 0;
    let mean = round(
        (dividend / divisor) | u128::from(inexact),
        -shift.cast_signed(),
    );
    if sum < 0 { -mean } else { mean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Compares twice the distance of `mean` and of its neighbours to the quotient, in integers:
    /// all are scaled by 2^1074, at which every finite float is an integer.
    fn is_nearest(mean: f64, sum: i128, count: u64) -> bool {
        use num_bigint::{BigInt, BigUint};
        let scaled = |x: f64| -> BigInt {
            let bits = x.abs().to_bits();
            let (field, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
            let size = match field {
                0 => BigInt::from(fraction),
                _ => BigInt::from(fraction | 1 << 52) << (field - 1),
            };
            if x < 0.0 { -size } else { size }
        };
        let exact = BigInt::from(sum) << 1074;
        let distance = |x: f64| -> BigUint {
            let difference: BigInt = scaled(x) * count - &exact;
            difference.into_parts().1
        };
        let own = distance(mean);
        [mean.next_up(), mean.next_down()].into_iter().all(|other| {
            let other = distance(other);
            own < other || (own == other && mean.to_bits().is_multiple_of(2))
        })
    }

    #[test]
    fn is_the_quotient_where_that_is_a_float() {
        assert_eq!(mean(10, 4).to_bits(), 2.5_f64.to_bits());
        assert_eq!(mean(-10, 4).to_bits(), (-2.5_f64).to_bits());
        assert_eq!(mean(0, 7).to_bits(), 0.0_f64.to_bits());
        assert!(mean(0, 0).is_nan());
    }

    #[test]
    fn does_not_round_twice() {
        // The sum as a float is 2^53 (its last bit is lost): a third of that is another number.
        let sum = (1_i128 << 53) + 1;
        #[expect(
            clippy::cast_precision_loss,
            reason = "this loss is what the test is about"
        )]
        let twice = sum as f64 / 3.0;
        assert_ne!(mean(sum, 3).to_bits(), twice.to_bits());
        assert!(is_nearest(mean(sum, 3), sum, 3));
    }

    #[test]
    fn breaks_ties_to_even() {
        let one_and_half_ulp = (1_i128 << 54) + 1; // over 2: halfway between 2^53 and 2^53 + 1
        assert_eq!(
            mean(one_and_half_ulp * 2, 2).to_bits(),
            mean(1 << 54, 1).to_bits()
        );
        assert!(is_nearest(mean((1 << 55) + 2, 2), (1 << 55) + 2, 2));
    }

    #[test]
    fn takes_the_largest_numbers() {
        for sum in [i128::MAX, i128::MIN, i128::from(i64::MAX), 1, -1] {
            for count in [1, 2, 3, u64::MAX] {
                assert!(is_nearest(mean(sum, count), sum, count), "{sum} / {count}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_other_float_is_nearer(sum: i128, shift in 0..127_u32, count in 1..=u64::MAX) {
            prop_assert!(is_nearest(mean(sum >> shift, count), sum >> shift, count));
        }

        #[test]
        fn no_other_float_is_nearer_for_usual_counts(sum: i64, count in 1..1_000_u64) {
            prop_assert!(is_nearest(mean(sum.into(), count), sum.into(), count));
        }
    }
}
