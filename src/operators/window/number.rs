//! What can be summed exactly, and what has a smallest and a largest.

use super::exact_mean::mean;
use super::{ExactSum, IntSum};
use crate::state::State;

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
    /// Whether this one is larger than `other`.
    fn exceeds(&self, other: &Self) -> bool;
}

macro_rules! ordered {
    ($($ordered:ty),*) => {$(
        impl Extreme for $ordered {
            #[inline]
            fn exceeds(&self, other: &Self) -> bool {
                self > other
            }
        }
    )*};
}
ordered!(
    i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, bool, char, String
);
ordered!(crate::time::EventTime);

impl Extreme for f64 {
    #[inline]
    fn exceeds(&self, other: &Self) -> bool {
        self.total_cmp(other).is_gt()
    }
}

impl Extreme for f32 {
    #[inline]
    fn exceeds(&self, other: &Self) -> bool {
        self.total_cmp(other).is_gt()
    }
}
