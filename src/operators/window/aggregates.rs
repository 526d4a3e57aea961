//! The aggregates that come with the engine, and the builder that names them.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use super::{Aggregate, Extreme, Number};
use crate::event::{Event, Position};
use crate::state::State;

/// Names aggregates over events of type `T`; the argument of
/// [`WindowedStream::aggregate`](crate::WindowedStream::aggregate).
///
/// # Time and state
/// None of them depends on the order in which events come, nor on workers or epochs. Each keeps a
/// few words for each key and open window, however many events there are; `first` and `last` a
/// value and its place, `count_by` an entry for each kind. A window without events has no result,
/// so none of them says what nothing would be.
///
/// # Example
/// ```
/// use anabranch::prelude::*;
/// use anabranch::testing;
///
/// testing::drive(|numbers: EventStream<'_, i64>| {
///     numbers
///         .key_by(|_| ())
///         .window(Tumbling::of(Duration::from_millis(10)))
///         .aggregate(|a| {
///             let (count, sum, avg) = (a.count(), a.sum(|n| *n), a.avg(|n| *n));
///             let (min, max, by) = (a.min(|n| *n), a.max(|n| *n), a.count_by(|n| n % 2));
///             (count, sum, avg, min, max, a.first(|n| *n), a.last(|n| *n), by)
///         })
///         .emit_final()
///         .map(|w| {
///             let (count, sum, avg, min, max, first, last, by) = w.value;
///             assert_eq!((count, sum, avg), (4, 13, 3.25));
///             assert_eq!(by.into_iter().collect::<Vec<_>>(), [(0, 1), (1, 3)]);
///             (min, max, first, last)
///         })
/// })
/// .input([(3, 2), (1, 5), (2, 1), (1, 5)]) // by time 5, 5, 1, 2
/// .expect([(9, (1, 5, 5, 2))]);
/// ```
#[derive(Debug)]
pub struct Aggregates<T>(PhantomData<fn(&T)>);

impl<T> Aggregates<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }

    /// How many events there are, duplicates too unless `dedup` is in front.
    pub fn count(&self) -> Count {
        Count
    }

    /// The exact sum: of integers as `i128`, of floats rounded once, whatever the order.
    pub fn sum<N: Number, F: Fn(&T) -> N + 'static>(&self, of: F) -> Sum<F> {
        Sum(of)
    }

    /// The mean: of integers the exact quotient rounded once, of floats the exact sum by the count.
    pub fn avg<N: Number, F: Fn(&T) -> N + 'static>(&self, of: F) -> Avg<F> {
        Avg(of)
    }

    /// The smallest value.
    pub fn min<V: Extreme, F: Fn(&T) -> V + 'static>(&self, of: F) -> Min<F> {
        Min(of)
    }

    /// The largest value.
    pub fn max<V: Extreme, F: Fn(&T) -> V + 'static>(&self, of: F) -> Max<F> {
        Max(of)
    }

    /// The value of the first event in log order: by event time, then by source, partition and
    /// offset, never by arrival.
    pub fn first<V: State, F: Fn(&T) -> V + 'static>(&self, of: F) -> First<F> {
        First(of)
    }

    /// The value of the last event in log order; ties as in [`first`](Self::first).
    pub fn last<V: State, F: Fn(&T) -> V + 'static>(&self, of: F) -> Last<F> {
        Last(of)
    }

    /// How many events there are of each kind; kinds come out sorted.
    pub fn count_by<V: State + Ord, F: Fn(&T) -> V + 'static>(&self, of: F) -> CountBy<F> {
        CountBy(of)
    }

    /// A user's own aggregate.
    pub fn custom<A: Aggregate<T>>(&self, aggregate: A) -> A {
        aggregate
    }

    /// An own aggregate from closures: projection, neutral accumulator, addition, combination. The
    /// laws of [`Aggregate`] hold for it too.
    ///
    /// # Example
    /// ```
    /// # use anabranch::prelude::*;
    /// # use anabranch::testing;
    /// testing::drive(|bits: EventStream<'_, u64>| {
    ///     bits.key_by(|_| 0u8)
    ///         .window(Tumbling::of(Duration::from_millis(10)))
    ///         .aggregate(|a| a.fold(|x| *x, || 0u64, |acc, x| *acc |= x, |acc, x| *acc |= x))
    ///         .emit_final()
    ///         .map(|w| w.value)
    /// })
    /// .input([(1, 0b01), (2, 0b10)])
    /// .expect([(9, 0b11)]);
    /// ```
    pub fn fold<I, Acc, P, N, F, M>(&self, input: P, init: N, add: F, merge: M) -> Fold<P, N, F, M>
    where
        I: State,
        Acc: State,
        P: Fn(&T) -> I + 'static,
        N: Fn() -> Acc + 'static,
        F: Fn(&mut Acc, I) + 'static,
        M: Fn(&mut Acc, Acc) + 'static,
    {
        Fold {
            input,
            init,
            add,
            merge,
        }
    }
}

/// See [`Aggregates::count`].
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    type Input = ();
    type Acc = u64;
    type Out = u64;
    #[inline]
    fn input(&self, _: &T) {}
    #[inline]
    fn init(&self) -> u64 {
        0
    }
    #[inline]
    fn add(&self, acc: &mut u64, (): ()) {
        *acc += 1;
    }
    #[inline]
    fn merge(&self, acc: &mut u64, other: u64) {
        *acc += other;
    }
    fn finish(&self, acc: &u64) -> u64 {
        *acc
    }
}

/// See [`Aggregates::sum`].
#[derive(Clone, Copy, Debug)]
pub struct Sum<F>(F);

impl<T, N: Number, F: Fn(&T) -> N + 'static> Aggregate<T> for Sum<F> {
    type Input = N;
    type Acc = N::Sum;
    type Out = N::Total;
    #[inline]
    fn input(&self, value: &T) -> N {
        (self.0)(value)
    }
    #[inline]
    fn init(&self) -> N::Sum {
        N::Sum::default()
    }
    #[inline]
    fn add(&self, acc: &mut N::Sum, input: N) {
        input.add_to(acc);
    }
    #[inline]
    fn merge(&self, acc: &mut N::Sum, other: N::Sum) {
        N::merge(acc, other);
    }
    fn finish(&self, acc: &N::Sum) -> N::Total {
        N::total(acc)
    }
}

/// See [`Aggregates::avg`].
#[derive(Clone, Copy, Debug)]
pub struct Avg<F>(F);

impl<T, N: Number, F: Fn(&T) -> N + 'static> Aggregate<T> for Avg<F> {
    type Input = N;
    type Acc = (N::Sum, u64);
    type Out = f64;
    #[inline]
    fn input(&self, value: &T) -> N {
        (self.0)(value)
    }
    #[inline]
    fn init(&self) -> (N::Sum, u64) {
        (N::Sum::default(), 0)
    }
    #[inline]
    fn add(&self, acc: &mut (N::Sum, u64), input: N) {
        input.add_to(&mut acc.0);
        acc.1 += 1;
    }
    #[inline]
    fn merge(&self, acc: &mut (N::Sum, u64), other: (N::Sum, u64)) {
        N::merge(&mut acc.0, other.0);
        acc.1 += other.1;
    }
    fn finish(&self, acc: &(N::Sum, u64)) -> f64 {
        N::mean(&acc.0, acc.1)
    }
}

/// Aggregates that keep one of their inputs, replaced when a better one comes.
macro_rules! keeps_one {
    ($(#[$doc:meta])* $name:ident, $worst:ident, $better:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<F>(F);

        impl<T, V: Extreme, F: Fn(&T) -> V + 'static> Aggregate<T> for $name<F> {
            type Input = V;
            type Acc = V::Kept;
            type Out = V;
            #[inline]
            fn input(&self, value: &T) -> V {
                (self.0)(value)
            }
            #[inline]
            fn init(&self) -> V::Kept {
                V::$worst()
            }
            #[inline]
            fn add(&self, acc: &mut V::Kept, input: V) {
                let better: fn(&V, &V) -> bool = $better;
                if V::kept(acc).is_none_or(|kept| better(&input, kept)) {
                    *acc = input.into();
                }
            }
            #[inline]
            fn merge(&self, acc: &mut V::Kept, other: V::Kept) {
                let better: fn(&V, &V) -> bool = $better;
                let Some(new) = V::kept(&other) else { return };
                if V::kept(acc).is_none_or(|kept| better(new, kept)) {
                    *acc = other;
                }
            }
            fn finish(&self, acc: &V::Kept) -> V {
                let kept = V::kept(acc).cloned();
                kept.expect("a window that fires holds an event")
            }
        }
    };
}
keeps_one!(
    /// See [`Aggregates::min`].
    Min, highest, |new, kept| kept.exceeds(new)
);
keeps_one!(
    /// See [`Aggregates::max`].
    Max, lowest, |new, kept| new.exceeds(kept)
);

/// Aggregates that keep the value of one event, chosen by its place in the log.
macro_rules! keeps_place {
    ($(#[$doc:meta])* $name:ident, $better:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<F>(F);

        impl<T, V: State, F: Fn(&T) -> V + 'static> Aggregate<T> for $name<F> {
            type Input = (Position, V);
            type Acc = Option<(Position, V)>;
            type Out = V;
            fn input(&self, _: &T) -> (Position, V) {
                panic!(
                    "`{}` needs an event's place: an aggregate around it has to hand on `input_of`",
                    stringify!($name).to_lowercase()
                )
            }
            #[inline]
            fn input_of(&self, event: &Event<T>) -> (Position, V) {
                (event.at, (self.0)(&event.value))
            }
            #[inline]
            fn init(&self) -> Option<(Position, V)> {
                None
            }
            #[inline]
            fn add(&self, acc: &mut Option<(Position, V)>, input: (Position, V)) {
                if acc.as_ref().is_none_or(|kept| input.0 $better kept.0) {
                    *acc = Some(input);
                }
            }
            #[inline]
            fn merge(&self, acc: &mut Option<(Position, V)>, other: Option<(Position, V)>) {
                if let Some(other) = other {
                    Aggregate::<T>::add(self, acc, other);
                }
            }
            fn finish(&self, acc: &Option<(Position, V)>) -> V {
                acc.clone().expect("a window that fires holds an event").1
            }
        }
    };
}
keeps_place!(
    /// See [`Aggregates::first`].
    First, <
);
keeps_place!(
    /// See [`Aggregates::last`].
    Last, >
);

/// See [`Aggregates::count_by`].
#[derive(Clone, Copy, Debug)]
pub struct CountBy<F>(F);

impl<T, V: State + Ord, F: Fn(&T) -> V + 'static> Aggregate<T> for CountBy<F> {
    type Input = V;
    type Acc = BTreeMap<V, u64>;
    type Out = BTreeMap<V, u64>;
    fn input(&self, value: &T) -> V {
        (self.0)(value)
    }
    fn init(&self) -> BTreeMap<V, u64> {
        BTreeMap::new()
    }
    fn add(&self, acc: &mut BTreeMap<V, u64>, input: V) {
        *acc.entry(input).or_default() += 1;
    }
    fn merge(&self, acc: &mut BTreeMap<V, u64>, other: BTreeMap<V, u64>) {
        for (kind, count) in other {
            *acc.entry(kind).or_default() += count;
        }
    }
    fn finish(&self, acc: &BTreeMap<V, u64>) -> BTreeMap<V, u64> {
        acc.clone()
    }
}

/// See [`Aggregates::fold`].
#[derive(Clone, Copy, Debug)]
pub struct Fold<P, N, F, M> {
    input: P,
    init: N,
    add: F,
    merge: M,
}

impl<T, I, Acc, P, N, F, M> Aggregate<T> for Fold<P, N, F, M>
where
    I: State,
    Acc: State,
    P: Fn(&T) -> I + 'static,
    N: Fn() -> Acc + 'static,
    F: Fn(&mut Acc, I) + 'static,
    M: Fn(&mut Acc, Acc) + 'static,
{
    type Input = I;
    type Acc = Acc;
    type Out = Acc;
    fn input(&self, value: &T) -> I {
        (self.input)(value)
    }
    fn init(&self) -> Acc {
        (self.init)()
    }
    fn add(&self, acc: &mut Acc, input: I) {
        (self.add)(acc, input);
    }
    fn merge(&self, acc: &mut Acc, other: Acc) {
        (self.merge)(acc, other);
    }
    fn finish(&self, acc: &Acc) -> Acc {
        acc.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_laws;

    /// Of all that come with the engine. `kind` is what `count_by` tells apart.
    fn assert_all<V: Number + Extreme + std::fmt::Debug>(values: &[V], kind: fn(&V) -> u64) {
        let a = Aggregates::<V>::new();
        assert_laws(&a.count(), values);
        assert_laws(&a.sum(V::clone), values);
        assert_laws(&a.avg(V::clone), values);
        assert_laws(&a.min(V::clone), values);
        assert_laws(&a.max(V::clone), values);
        assert_laws(&a.first(V::clone), values);
        assert_laws(&a.last(V::clone), values);
        assert_laws(&a.count_by(kind), values);
    }

    #[test]
    fn every_aggregate_keeps_the_laws_on_integers() {
        let (min, max) = (i64::MIN, i64::MAX);
        let values = [3, -8, max, max, min, 0, 3, 3, 1, -1];
        assert_all(&values, |n| n.unsigned_abs() % 2);
    }

    #[test]
    fn every_aggregate_keeps_the_laws_on_floats() {
        // Sums that depend on the order where they are rounded on the way.
        let sizes = [1e100, 1.0, -1e100, 0.1, 1e-300];
        let zeros = [-0.0, 0.0, -0.0, f64::MIN_POSITIVE, -5e-324];
        // Two kinds of NaN, and what adds up to one.
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 1);
        let ends = [f64::NAN, other_nan, f64::INFINITY, f64::MAX, f64::MAX];
        let infinities = [f64::INFINITY, f64::NEG_INFINITY, f64::MIN, 0.0, -0.0];
        for values in [sizes, zeros, ends, infinities] {
            assert_all(&values, |n| n.to_bits());
        }
    }
}
