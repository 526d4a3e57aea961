//! The exact sum of floats.
//!
//! Adding floats rounds at each step, so a sum depends on the order of its terms; and the order in
//! which workers meet their records is nobody's promise. This sum therefore does not round until
//! it is read. Every finite float is an integer multiple of 2^-1074, so a sum of floats is a large
//! fixed-point number, and integers add alike in any order.
//!
//! The numbers of one key seldom differ much in size. So 128 bits, the *window*, placed around the
//! first of them, mostly hold the whole sum. A number that does not fit moves the window; if no
//! place of it fits both, the window's content is added to the *wide* part, which spans all floats
//! and is allocated only then. The sum is always window plus wide part; how it is split between
//! them depends on the order, so the encoding does not show it: equal sums have equal bytes.
//!
//! # Source
//! Kulisch, "Very fast and exact accumulation of products", 2011, for the wide part; Neal, "Fast
//! exact summation using small and large superaccumulators", 2015, for the idea of two parts.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::int_sum::IntSum;

/// The exponent of the smallest positive float, and the unit of the wide part.
const LOWEST: i32 = -1074;
/// Bits of a float's significand.
const SIGNIFICAND: i32 = 53;
/// 2098 bits span all floats; what is beyond lets 2^76 of the largest be added.
const LIMBS: usize = 34;
/// The window's bits without its sign and the last carry.
const WINDOW: i32 = 126;
/// How many bits a fresh window keeps free below its first number.
const ROOM_BELOW: i32 = 40;

const NAN: u8 = 1;
const INFINITE: u8 = 2;
const NEGATIVE_INFINITE: u8 = 4;
const NEGATIVE: u8 = 8;

/// Sums floats exactly and rounds once, so that the order of addition does not matter.
///
/// The sum of nothing and a sum of zeros, whatever their signs, is `0.0`. An infinity makes the sum
/// infinite; infinities of both signs, or a NaN, make it NaN.
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    /// Counts units of 2^`unit`.
    window: IntSum,
    wide: Option<Box<Wide>>,
    unit: i16,
    specials: u8,
}

impl ExactSum {
    /// Adds one number.
    #[inline]
    pub fn add(&mut self, number: f64) {
        let bits = number.to_bits();
        let field = i32::from((bits >> 52) as u16 & 0x7ff);
        let fraction = (bits & ((1 << 52) - 1)).cast_signed();
        // The fields 0 (subnormal) and 1 have the same exponent; only the latter an implicit bit.
        let magnitude = if field == 0 {
            fraction
        } else {
            fraction | 1 << 52
        };
        let value = if number.is_sign_negative() {
            -magnitude
        } else {
            magnitude
        };
        if field == 0x7ff {
            self.specials |= match number {
                f64::INFINITY => INFINITE,
                f64::NEG_INFINITY => NEGATIVE_INFINITE,
                _ => NAN,
            };
        } else {
            self.add_scaled(value.into(), field.max(1) - 1 + LOWEST, SIGNIFICAND);
        }
    }

    /// Adds all that another sum has taken.
    pub fn merge(&mut self, other: &ExactSum) {
        self.specials |= other.specials;
        let window = other.window.value();
        self.add_scaled(window, other.unit.into(), length(window));
        if let Some(theirs) = &other.wide {
            self.wide.get_or_insert_default().add_wide(theirs);
        }
    }

    /// Returns the sum, rounded to the nearest float, ties to even.
    pub fn value(&self) -> f64 {
        match self.specials {
            0 => {}
            INFINITE => return f64::INFINITY,
            NEGATIVE_INFINITE => return f64::NEG_INFINITY,
            _ => return f64::NAN,
        }
        let (negative, magnitude) = if self.wide.is_none() {
            let window = self.window.value();
            (window < 0, round(window.unsigned_abs(), self.unit.into()))
        } else {
            let (negative, magnitude) = self.total().split_sign();
            (negative, magnitude.round())
        };
        if negative { -magnitude } else { magnitude }
    }

    /// Adds `value` units of 2^`exponent`; `value` has at most `length` bits.
    #[inline]
    fn add_scaled(&mut self, value: i128, exponent: i32, length: i32) {
        let shift = (exponent - i32::from(self.unit)).cast_unsigned();
        if shift.saturating_add(length.cast_unsigned()) <= WINDOW.cast_unsigned() {
            // Neither term has more than 127 bits with its sign, so nothing overflows here.
            let sum = self.window.value() + (value << shift);
            if sum.unsigned_abs() >> WINDOW == 0 {
                self.window = IntSum::from(sum);
                return;
            }
        }
        self.add_outside(value, exponent);
    }

    /// Adds what the window does not hold where it is.
    #[cold]
    fn add_outside(&mut self, value: i128, exponent: i32) {
        if value == 0 {
            return;
        }
        let mut window = self.window.value();
        if window != 0 {
            let unit = i32::from(self.unit);
            let low = i32::min(unit + trailing(window), exponent + trailing(value));
            let high = i32::max(unit + length(window), exponent + length(value));
            let spare = WINDOW - 1 - (high - low);
            if spare >= 0 {
                self.place(low - spare / 2);
                let shift = |number: i128, by: i32| match by {
                    0.. => number << by,
                    _ => number >> -by,
                };
                let unit_now = i32::from(self.unit);
                window = shift(window, unit - unit_now) + shift(value, exponent - unit_now);
                self.window = IntSum::from(window);
                return;
            }
            self.wide.get_or_insert_default().add_scaled(window, unit);
        }
        self.place(exponent - ROOM_BELOW.min(WINDOW - length(value)));
        self.window = IntSum::from(value << (exponent - i32::from(self.unit)));
    }

    /// Moves the window to `unit`, or to the end of the floats if that lies below it.
    fn place(&mut self, unit: i32) {
        self.unit = i16::try_from(unit.max(LOWEST)).expect("floats end at 2^1024, sums soon after");
    }

    fn total(&self) -> Wide {
        let mut total = self.wide.as_deref().cloned().unwrap_or_default();
        total.add_scaled(self.window.value(), self.unit.into());
        total
    }
}

/// A two's complement number in units of 2^`LOWEST`, least limb first.
#[derive(Clone, Debug)]
struct Wide([u64; LIMBS]);

impl Default for Wide {
    fn default() -> Self {
        Wide([0; LIMBS])
    }
}

impl Wide {
    fn add_scaled(&mut self, value: i128, exponent: i32) {
        let at = (exponent - LOWEST).cast_unsigned();
        let (limb, shift) = (at as usize / 64, at % 64);
        let low = value.cast_unsigned() << shift;
        let high = (value >> 1 >> (127 - shift)).cast_unsigned();
        let words = [low, high].map(halves);
        let sign = if value < 0 { u64::MAX } else { 0 };
        let words = words.into_iter().flatten().chain(std::iter::repeat(sign));
        self.add_words(limb, words);
    }

    fn add_wide(&mut self, other: &Wide) {
        self.add_words(0, other.0.iter().copied());
    }

    fn add_words(&mut self, from: usize, words: impl Iterator<Item = u64>) {
        let mut carry = false;
        for (limb, word) in self.0[from..].iter_mut().zip(words) {
            (*limb, carry) = limb.carrying_add(word, carry);
        }
    }

    fn is_negative(&self) -> bool {
        self.0[LIMBS - 1].cast_signed() < 0
    }

    /// Splits the number into its sign and its magnitude.
    fn split_sign(mut self) -> (bool, Wide) {
        let negative = self.is_negative();
        if negative {
            self.negate();
        }
        (negative, self)
    }

    fn negate(&mut self) {
        self.0.iter_mut().for_each(|limb| *limb = !*limb);
        self.add_words(0, std::iter::once(1).chain(std::iter::repeat(0)));
    }

    /// The range of limbs outside of which all are zero.
    fn used(&self) -> std::ops::Range<usize> {
        let end = self
            .0
            .iter()
            .rposition(|&limb| limb != 0)
            .map_or(0, |last| last + 1);
        let start = self.0[..end]
            .iter()
            .position(|&limb| limb != 0)
            .unwrap_or(end);
        start..end
    }

    /// Returns a number that is not negative as units of a power of two, if they fit the window.
    fn narrow(&self) -> Option<(i128, i32)> {
        let used = self.used();
        let [low, middle, high] = [0, 1, 2].map(|at| self.0.get(used.start + at).copied());
        let [low, middle, high] = [low, middle, high].map(|limb| u128::from(limb.unwrap_or(0)));
        let zeros = low.trailing_zeros() % u64::BITS;
        let fits = used.len() <= 2 || (used.len() == 3 && high >> zeros == 0);
        let magnitude = (middle << 64 | low) >> zeros | high << 64 << (64 - zeros);
        let exponent = i32::try_from(used.start).ok()? * 64 + zeros.cast_signed() + LOWEST;
        (fits && magnitude >> (WINDOW - 1) == 0).then_some((magnitude.cast_signed(), exponent))
    }

    /// Rounds a number that is not negative.
    fn round(&self) -> f64 {
        // The top limbs have 128 significant bits; of the rest it matters whether any is set.
        let end = self.used().end.max(3);
        let [low, middle, high] = [end - 3, end - 2, end - 1].map(|at| self.0[at]);
        let lost = high.leading_zeros();
        let top = u128::from(high) << 64 | u128::from(middle);
        let top = top << lost | (u128::from(low) << lost >> 64);
        let rest = low.checked_shl(lost).is_some_and(|low| low != 0)
            || self.0[..end - 3].iter().any(|&limb| limb != 0);
        let limbs = i32::try_from(end - 2).expect("there are few limbs");
        round(
            top | u128::from(rest),
            LOWEST + limbs * 64 - lost.cast_signed(),
        )
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the halves are cut on purpose"
)]
fn halves(word: u128) -> [u64; 2] {
    [word as u64, (word >> 64) as u64]
}

fn length(value: i128) -> i32 {
    (i128::BITS - value.unsigned_abs().leading_zeros()).cast_signed()
}

fn trailing(value: i128) -> i32 {
    value.trailing_zeros().cast_signed()
}

/// Rounds `magnitude` units of 2^`exponent` to the nearest float, ties to even.
pub(super) fn round(magnitude: u128, exponent: i32) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    let top = (u128::BITS - magnitude.leading_zeros()).cast_signed() + exponent;
    let ulp = (top - SIGNIFICAND).max(LOWEST);
    let significand = match ulp - exponent {
        128.. => 0,
        drop @ 1.. => {
            let (kept, half) = (magnitude >> drop, 1_u128 << (drop - 1));
            let rest = magnitude & ((half << 1).wrapping_sub(1));
            kept + u128::from(rest > half || (rest == half && kept & 1 == 1))
        }
        drop => magnitude << -drop,
    };
    // The implicit bit adds one to the exponent's field, a carry out of the significand another.
    let field = u64::from((ulp - LOWEST).cast_unsigned());
    let significand = u64::try_from(significand).expect("it has at most 53 bits and a carry");
    let bits = (field << 52) + significand;
    f64::from_bits(bits.min(f64::INFINITY.to_bits()))
}

/// What a sum is, however it came about: specials and sign, then the magnitude without zero limbs
/// at its ends.
#[derive(Serialize, Deserialize)]
struct Canonical {
    flags: u8,
    first: u8,
    limbs: Vec<u64>,
}

impl Serialize for ExactSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (negative, magnitude) = self.total().split_sign();
        let used = magnitude.used();
        let sign = if negative { NEGATIVE } else { 0 };
        Canonical {
            flags: self.specials | sign,
            first: u8::try_from(used.start).expect("there are few limbs"),
            limbs: magnitude.0[used].to_vec(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ExactSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Canonical {
            flags,
            first,
            limbs,
        } = Canonical::deserialize(deserializer)?;
        let mut wide = Wide::default();
        let room = wide
            .0
            .get_mut(usize::from(first)..)
            .and_then(|to| to.get_mut(..limbs.len()));
        room.ok_or_else(|| de::Error::custom("a sum beyond all floats"))?
            .copy_from_slice(&limbs);
        let negative = flags & NEGATIVE != 0;
        let mut sum = ExactSum {
            specials: flags & !NEGATIVE,
            ..ExactSum::default()
        };
        if let Some((magnitude, exponent)) = wide.narrow() {
            let value = if negative { -magnitude } else { magnitude };
            sum.add_scaled(value, exponent, length(value));
        } else {
            if negative {
                wide.negate();
            }
            sum.wide = Some(Box::new(wide));
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    fn sum(numbers: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        for &number in numbers {
            sum.add(number);
        }
        sum
    }

    fn encode(sum: &ExactSum) -> Vec<u8> {
        bincode::serde::encode_to_vec(sum, bincode::config::standard()).unwrap()
    }

    fn decode(bytes: &[u8]) -> ExactSum {
        bincode::serde::decode_from_slice(bytes, bincode::config::standard())
            .unwrap()
            .0
    }

    /// A finite float in units of 2^-1074.
    fn scaled(x: f64) -> BigInt {
        let bits = x.abs().to_bits();
        let (field, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
        let size = match field {
            0 => BigInt::from(fraction),
            _ => BigInt::from(fraction | 1 << 52) << (field - 1),
        };
        if x < 0.0 { -size } else { size }
    }

    /// The sum of finite floats: adds big integers and finds the nearest float by bisection.
    fn reference(numbers: &[f64]) -> f64 {
        let exact: BigInt = numbers.iter().map(|&x| scaled(x)).sum();
        let target = BigInt::from(exact.magnitude().clone());
        // The bits of positive floats are ordered as the floats are.
        let (mut below, mut above) = (0_u64, f64::INFINITY.to_bits());
        while above - below > 1 {
            let middle = below.midpoint(above);
            let fits = scaled(f64::from_bits(middle)) <= target;
            *(if fits { &mut below } else { &mut above }) = middle;
        }
        // Infinity stands where the next float would: at 2^1024.
        let (down, up) = (scaled(f64::from_bits(below)), scaled_or_end(above));
        let (to_down, to_up) = (&target - down, up - &target);
        let nearest = match to_down.cmp(&to_up) {
            std::cmp::Ordering::Less => below,
            std::cmp::Ordering::Greater => above,
            std::cmp::Ordering::Equal => below + below % 2,
        };
        let size = f64::from_bits(nearest);
        if exact < BigInt::ZERO { -size } else { size }
    }

    fn scaled_or_end(bits: u64) -> BigInt {
        match f64::from_bits(bits) {
            f64::INFINITY => BigInt::from(1) << (1024 + 1074),
            x => scaled(x),
        }
    }

    fn any_finite() -> impl Strategy<Value = f64> {
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("finite", |x| x.is_finite())
    }

    /// Amounts, floats of one size, floats of all sizes, and pairs that nearly cancel.
    fn numbers() -> impl Strategy<Value = Vec<f64>> {
        let cents = (-1_000_000..1_000_000_i32).prop_map(|cents| f64::from(cents) / 100.0);
        let edge = prop::sample::select(vec![
            0.0,
            -0.0,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            f64::EPSILON,
            1.0,
            5e-324,
            -5e-324,
            9_007_199_254_740_993.0,
            1.797_693_134_862_315_5e308,
        ]);
        prop_oneof![
            prop::collection::vec(cents, 0..50),
            prop::collection::vec(-1.0..1.0_f64, 0..50),
            prop::collection::vec(any_finite(), 0..50),
            prop::collection::vec(prop_oneof![edge, any_finite(), -1e3..1e3_f64], 0..50),
            (prop::collection::vec(any_finite(), 0..20), -1.0..1.0_f64).prop_map(|(some, rest)| {
                let negated: Vec<_> = some.iter().map(|x| -x).collect();
                [some, vec![rest], negated].concat()
            }),
        ]
    }

    #[test]
    fn takes_thirty_two_bytes() {
        assert_eq!(size_of::<ExactSum>(), 32);
    }

    #[test]
    fn loses_nothing_between_large_and_small() {
        assert_eq!(
            sum(&[1e100, 1.0, -1e100]).value().to_bits(),
            1.0_f64.to_bits()
        );
        assert_eq!(sum(&[0.1; 10]).value().to_bits(), 1.0_f64.to_bits());
        let tiny = f64::from_bits(1);
        assert_eq!(
            sum(&[f64::MAX, tiny, f64::MIN]).value().to_bits(),
            tiny.to_bits()
        );
    }

    #[test]
    fn goes_beyond_the_largest_float_and_comes_back() {
        let mut numbers = vec![f64::MAX; 1000];
        assert!(sum(&numbers).value().is_infinite());
        numbers.extend([f64::MIN; 999]);
        assert_eq!(sum(&numbers).value().to_bits(), f64::MAX.to_bits());
    }

    #[test]
    fn has_no_negative_zero() {
        for zeros in [
            &[][..],
            &[-0.0],
            &[0.0, -0.0],
            &[1e300, -1e300],
            &[-1.0, 1.0],
        ] {
            assert_eq!(sum(zeros).value().to_bits(), 0, "{zeros:?}");
            assert_eq!(
                encode(&sum(zeros)),
                encode(&ExactSum::default()),
                "{zeros:?}"
            );
        }
    }

    #[test]
    fn infinities_and_nan_are_as_in_floating_point() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        assert_eq!(sum(&[1.0, inf, -5.0]).value().to_bits(), inf.to_bits());
        assert_eq!(sum(&[-inf, 1.0, -inf]).value().to_bits(), (-inf).to_bits());
        assert!(sum(&[inf, -inf]).value().is_nan());
        assert!(sum(&[1.0, nan, inf]).value().is_nan());
        assert!(sum(&[f64::MAX, f64::MAX]).value().is_infinite());
    }

    #[test]
    fn usual_amounts_need_no_wide_part_and_few_bytes() {
        let amounts: Vec<f64> = (1..100_000).map(|cents| f64::from(cents) / 100.0).collect();
        let small_first = sum(&amounts);
        let large_first = sum(&amounts.iter().rev().copied().collect::<Vec<_>>());
        for sum in [&small_first, &large_first] {
            assert!(sum.wide.is_none());
            assert!(encode(sum).len() <= 30);
        }
        assert_eq!(encode(&small_first), encode(&large_first));
    }

    #[test]
    fn a_first_number_unlike_the_others_moves_the_window() {
        for first in [1e-9, 1e12, 1e-12] {
            let sum = sum(&[first, 12.5, 1e9, 0.01]);
            assert!(sum.wide.is_none(), "{first}");
        }
    }

    #[test]
    fn a_broken_encoding_is_an_error() {
        let config = bincode::config::standard();
        for (first, limbs) in [(35_u8, vec![1_u64]), (33, vec![1, 1]), (255, vec![])] {
            let bytes = bincode::serde::encode_to_vec((0_u8, first, limbs), config).unwrap();
            assert!(bincode::serde::decode_from_slice::<ExactSum, _>(&bytes, config).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn is_the_exact_sum_rounded_once(numbers in numbers()) {
            prop_assert_eq!(sum(&numbers).value().to_bits(), reference(&numbers).to_bits());
        }

        #[test]
        fn order_does_not_matter((numbers, shuffled) in numbers().prop_flat_map(|numbers| {
            (Just(numbers.clone()), Just(numbers).prop_shuffle())
        })) {
            let (one, other) = (sum(&numbers), sum(&shuffled));
            prop_assert_eq!(one.value().to_bits(), other.value().to_bits());
            prop_assert_eq!(encode(&one), encode(&other));
        }

        #[test]
        fn splits_and_merges_to_the_same(numbers in numbers(), ats: [prop::sample::Index; 2]) {
            let (left, rest) = numbers.split_at(ats[0].index(numbers.len() + 1));
            let (middle, right) = rest.split_at(ats[1].index(rest.len() + 1));
            let mut merged = sum(right);
            merged.merge(&sum(left));
            let mut outer = sum(middle);
            outer.merge(&merged);
            prop_assert_eq!(outer.value().to_bits(), sum(&numbers).value().to_bits());
            prop_assert_eq!(encode(&outer), encode(&sum(&numbers)));
        }

        #[test]
        fn goes_on_after_a_checkpoint(before in numbers(), after in numbers()) {
            let mut restored = decode(&encode(&sum(&before)));
            prop_assert_eq!(encode(&restored), encode(&sum(&before)));
            for &number in &after {
                restored.add(number);
            }
            let all = [before, after].concat();
            prop_assert_eq!(restored.value().to_bits(), reference(&all).to_bits());
            prop_assert_eq!(encode(&restored), encode(&sum(&all)));
        }
    }
}
