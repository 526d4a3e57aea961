//! How large state is.

use std::ops::{Add, AddAssign};

use super::{State, codec};

/// What an allocation costs beside its bytes.
const ALLOCATION: usize = 16;

/// Entries, and the bytes of memory that they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

impl Size {
    /// `entries` that take `bytes`, and hold elsewhere what `some` of them do on average.
    pub(super) fn sampled(entries: usize, bytes: usize, some: impl Iterator<Item = usize>) -> Self {
        let (count, sum) = some.fold((0, 0), |(count, sum), each| (count + 1, sum + each));
        let average = sum / usize::max(count, 1);
        Self {
            entries,
            bytes: bytes + entries * average,
        }
    }
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Size {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), Add::add)
    }
}

/// About how many bytes `value` holds outside of itself: nothing if it has nothing to drop, else
/// about as many as its encoding has.
pub(super) fn elsewhere<T: State>(value: &T) -> usize {
    if std::mem::needs_drop::<T>() {
        codec::len(value) + ALLOCATION
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_elsewhere_is_estimated_where_there_is_any() {
        assert_eq!(elsewhere(&(7i64, [1u8; 32])), 0);
        let text = elsewhere(&"x".repeat(300));
        assert!((300..=330).contains(&text), "{text}");
        let size = Size::sampled(10, 100, [4, 8].into_iter());
        let expected = Size {
            entries: 10,
            bytes: 160,
        };
        assert_eq!(size, expected);
    }
}
