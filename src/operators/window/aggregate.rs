//! The contract of an aggregate, and tuples of aggregates.

use crate::event::Event;
use crate::state::State;

/// Folds the events of a key and window into one value.
///
/// # Laws
/// `merge` is commutative and associative, `init` is its neutral element, and `add(acc, x)` equals
/// `merge(acc, add(init(), x))`: all of them exactly, bit for bit. The engine adds in any order, on
/// any worker, and combines before it sends. [`assert_laws`](crate::testing::assert_laws) checks
/// them on examples.
///
/// # Example
/// ```
/// use anabranch::prelude::*;
/// use anabranch::testing;
///
/// /// How far the values lie apart.
/// struct Spread;
///
/// impl Aggregate<i64> for Spread {
///     type Input = i64;
///     type Acc = (i64, i64);
///     type Out = i64;
///     fn input(&self, value: &i64) -> i64 { *value }
///     fn init(&self) -> (i64, i64) { (i64::MAX, i64::MIN) }
///     fn add(&self, acc: &mut (i64, i64), x: i64) { self.merge(acc, (x, x)) }
///     fn merge(&self, acc: &mut (i64, i64), other: (i64, i64)) {
///         *acc = (acc.0.min(other.0), acc.1.max(other.1));
///     }
///     fn finish(&self, acc: &(i64, i64)) -> i64 { acc.1 - acc.0 }
/// }
///
/// testing::assert_laws(&Spread, &[3, -8, 21]);
/// testing::drive(|values: EventStream<'_, i64>| {
///     values.key_by(|_| 0u8)
///         .window(Tumbling::of(Duration::from_millis(10)))
///         .aggregate(|a| a.custom(Spread))
///         .emit_final()
///         .map(|w| w.value)
/// })
/// .input([(1, 3), (2, -8), (3, 21)])
/// .expect([(9, 29)]);
/// ```
pub trait Aggregate<T>: 'static {
    /// What it asks of an event: all that crosses to another worker.
    type Input: State;
    /// What it keeps for a key and window.
    type Acc: State;
    /// What it says in the end.
    type Out;

    /// Projects a value.
    fn input(&self, value: &T) -> Self::Input;

    /// Projects an event; to be given instead of `input` where the place in the log matters.
    #[inline]
    fn input_of(&self, event: &Event<T>) -> Self::Input {
        self.input(&event.value)
    }

    /// The accumulator of no events.
    fn init(&self) -> Self::Acc;

    /// Adds one event.
    fn add(&self, acc: &mut Self::Acc, input: Self::Input);

    /// Adds all events of another accumulator.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);

    /// The result.
    fn finish(&self, acc: &Self::Acc) -> Self::Out;
}

macro_rules! tuples {
    ($($aggregate:ident $nth:tt),+) => {
        impl<T, $($aggregate: Aggregate<T>),+> Aggregate<T> for ($($aggregate,)+) {
            type Input = ($($aggregate::Input,)+);
            type Acc = ($($aggregate::Acc,)+);
            type Out = ($($aggregate::Out,)+);

            #[inline]
            fn input(&self, value: &T) -> Self::Input {
                ($(self.$nth.input(value),)+)
            }
            #[inline]
            fn input_of(&self, event: &Event<T>) -> Self::Input {
                ($(self.$nth.input_of(event),)+)
            }
            #[inline]
            fn init(&self) -> Self::Acc {
                ($(self.$nth.init(),)+)
            }
            #[inline]
            fn add(&self, acc: &mut Self::Acc, input: Self::Input) {
                $(self.$nth.add(&mut acc.$nth, input.$nth);)+
            }
            #[inline]
            fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
                $(self.$nth.merge(&mut acc.$nth, other.$nth);)+
            }
            #[inline]
            fn finish(&self, acc: &Self::Acc) -> Self::Out {
                ($(self.$nth.finish(&acc.$nth),)+)
            }
        }
    };
}
tuples!(A 0);
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);
tuples!(A 0, B 1, C 2, D 3, E 4);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
