//! The laws of an aggregate, checked on examples.

use crate::event::{Event, Position};
use crate::operators::Aggregate;
use crate::state::{State, codec};
use crate::time::EventTime;

/// Asserts the laws of [`Aggregate`](crate::Aggregate) on all orders and splits of up to five of
/// `values`: commutative, associative, neutral `init`, `add` in agreement with `merge`, bit for
/// bit.
///
/// # Panics
/// A law does not hold; the message names it and the values.
pub fn assert_laws<T: Clone + std::fmt::Debug, A: Aggregate<T>>(aggregate: &A, values: &[T])
where
    A::Out: State,
{
    for some in values.chunks(5) {
        let inputs: Vec<A::Input> = (0..)
            .zip(some)
            .map(|(n, v)| input(aggregate, n, v))
            .collect();
        let expected = bytes(aggregate, &fold(aggregate, inputs.iter()));
        permute(inputs.len(), &mut |order| {
            let in_order = || order.iter().map(|nth| &inputs[*nth]);
            let folded = fold(aggregate, in_order());
            assert_eq!(
                bytes(aggregate, &folded),
                expected,
                "commutative: {order:?} of {some:?}"
            );
            for split in 0..=order.len() {
                let left = fold(aggregate, in_order().take(split));
                let right = fold(aggregate, in_order().skip(split));
                let mut merged = left.clone();
                aggregate.merge(&mut merged, right);
                assert_eq!(
                    bytes(aggregate, &merged),
                    expected,
                    "associative: {order:?} split at {split} of {some:?}"
                );
            }
        });
    }
}

fn input<T: Clone, A: Aggregate<T>>(aggregate: &A, offset: u64, value: &T) -> A::Input {
    let time = EventTime::from_millis(0);
    let at = Position {
        time,
        source: 0,
        partition: 0,
        offset,
        index: 0,
    };
    aggregate.input_of(&Event {
        at,
        value: value.clone(),
    })
}

fn fold<'a, T, A: Aggregate<T>>(aggregate: &A, inputs: impl Iterator<Item = &'a A::Input>) -> A::Acc
where
    A::Input: 'a,
{
    let mut acc = aggregate.init();
    inputs.for_each(|input| aggregate.add(&mut acc, input.clone()));
    acc
}

fn bytes<T, A: Aggregate<T>>(aggregate: &A, acc: &A::Acc) -> Vec<u8>
where
    A::Out: State,
{
    let acc = codec::round_trip(acc).unwrap_or_else(|error| panic!("{error}"));
    let mut bytes = Vec::new();
    let encoded = codec::encode(&aggregate.finish(&acc), &mut bytes);
    encoded.unwrap_or_else(|error| panic!("{error}"));
    bytes
}

fn permute(length: usize, visit: &mut impl FnMut(&[usize])) {
    fn place(order: &mut Vec<usize>, length: usize, visit: &mut impl FnMut(&[usize])) {
        if order.len() == length {
            return visit(order);
        }
        for next in 0..length {
            if !order.contains(&next) {
                order.push(next);
                place(order, length, visit);
                order.pop();
            }
        }
    }
    place(&mut Vec::new(), length, visit);
}
