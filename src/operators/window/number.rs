//! What can be summed exactly, and what has a smallest and a largest.

use super::exact_mean::mean;
use super::{ExactSum, IntSum};
use crate::state::State;
use crate::time::EventTime;

/// A number that can be summed exactly.
pub trait Number: State {
    /// The running sum.
    type Sum: State + Default;
    /// The sum in the end.
    type Total: State;
    /// Adds this number.
    fn add_to(self, sum: &mut Self::Sum);
    /// Adds another sum.
    fn merge(sum: &mut Self::Sum, other: Self::Sum);
    /// The sum.
    fn total(sum: &Self::Sum) -> Self::Total;
    /// The sum by `count`, which is not 0.
    fn mean(sum: &Self::Sum, count: u64) -> f64;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Number for $integer {
            type Sum = IntSum;
            type Total = i128;
            #[inline]
            fn add_to(self, sum: &mut IntSum) {
                sum.add(i64::from(self));
            }
            #[inline]
            fn merge(sum: &mut IntSum, other: IntSum) {
                sum.merge(other);
            }
            fn total(sum: &IntSum) -> i128 {
                sum.value()
            }
            fn mean(sum: &IntSum, count: u64) -> f64 {
                mean(sum.value(), count)
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, u8, u16, u32);

impl Number for u64 {
    type Sum = IntSum;
    type Total = i128;
    #[inline]
    fn add_to(self, sum: &mut IntSum) {
        sum.merge(IntSum::from(i128::from(self)));
    }
    #[inline]
    fn merge(sum: &mut IntSum, other: IntSum) {
        sum.merge(other);
    }
    fn total(sum: &IntSum) -> i128 {
        sum.value()
    }
    fn mean(sum: &IntSum, count: u64) -> f64 {
        mean(sum.value(), count)
    }
}

macro_rules! floats {
    ($($float:ty),*) => {$(
        impl Number for $float {
            type Sum = ExactSum;
            type Total = f64;
            #[inline]
            fn add_to(self, sum: &mut ExactSum) {
                sum.add(f64::from(self));
            }
            #[inline]
            fn merge(sum: &mut ExactSum, other: ExactSum) {
                sum.merge(&other);
            }
            fn total(sum: &ExactSum) -> f64 {
                sum.value()
            }
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 events in a window")]
            fn mean(sum: &ExactSum, count: u64) -> f64 {
                sum.value() / count as f64
            }
        }
    )*};
}
floats!(f32, f64);

/// A value that has a smallest and a largest. Floats are ordered as IEEE 754's total order has it,
/// so that NaN has a place and the answer does not depend on arrival.
pub trait Extreme: State {
    /// What is kept of many: the best one, or what stands for none. Numbers need no room for
    /// "none": a bound of their range does.
    type Kept: State + From<Self>;
    /// Whether this one is larger than `other`.
    fn exceeds(&self, other: &Self) -> bool;
    /// What is kept before the first when the largest is wanted: nothing is below it.
    fn lowest() -> Self::Kept;
    /// What is kept before the first when the smallest is wanted: nothing is above it.
    fn highest() -> Self::Kept;
    /// The best one; `None` before the first, or a bound of the range.
    fn kept(kept: &Self::Kept) -> Option<&Self>;
}

macro_rules! ranged {
    ($($ranged:ty, $lowest:expr, $highest:expr, $exceeds:expr;)*) => {$(
        impl Extreme for $ranged {
            type Kept = Self;
            #[inline]
            fn exceeds(&self, other: &Self) -> bool {
                let exceeds: fn(&Self, &Self) -> bool = $exceeds;
                exceeds(self, other)
            }
            #[inline]
            fn lowest() -> Self {
                $lowest
            }
            #[inline]
            fn highest() -> Self {
                $highest
            }
            #[inline]
            fn kept(kept: &Self) -> Option<&Self> {
                Some(kept)
            }
        }
    )*};
}
macro_rules! integers_ranged {
    ($($integer:ty),*) => {
        ranged!($($integer, <$integer>::MIN, <$integer>::MAX, |a, b| a > b;)*);
    };
}
integers_ranged!(i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, char);
ranged! {
    bool, false, true, |a, b| a > b;
    // The ends of the total order are the NaNs with all bits of the payload set.
    f32, f32::from_bits(u32::MAX), f32::from_bits(u32::MAX >> 1), |a, b| a.total_cmp(b).is_gt();
    f64, f64::from_bits(u64::MAX), f64::from_bits(u64::MAX >> 1), |a, b| a.total_cmp(b).is_gt();
    EventTime, EventTime::NEVER, EventTime::END, |a, b| a > b;
}

impl Extreme for String {
    type Kept = Option<Self>;
    fn exceeds(&self, other: &Self) -> bool {
        self > other
    }
    fn lowest() -> Option<Self> {
        None
    }
    fn highest() -> Option<Self> {
        None
    }
    fn kept(kept: &Option<Self>) -> Option<&Self> {
        kept.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_float_lies_beyond_the_ends(bits: u64, half: u32) {
            let (float, half) = (f64::from_bits(bits), f32::from_bits(half));
            prop_assert!(!f64::lowest().exceeds(&float) && !float.exceeds(&f64::highest()));
            prop_assert!(!f32::lowest().exceeds(&half) && !half.exceeds(&f32::highest()));
        }
    }
}
