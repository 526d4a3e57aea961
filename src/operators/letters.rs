//! Letters of what is refused after entry (`docs/decisions/0004-letters-after-entry.md`).

use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;
use timely::dataflow::StreamVec;

use crate::event::{Cause, DeadReason, Letter, Origin, Position};
use crate::stream::Shared;
use crate::time::Epoch;

/// What an operator gives that may refuse: results, and letters among them.
pub(super) type OrLetter<T> = Result<T, Box<Letter>>;

/// The letter of `value`, which stood at `at` and was refused; it is counted.
pub(super) fn refused<T: Serialize>(
    shared: &Shared,
    at: Position,
    value: &T,
    why: &dyn Display,
) -> Box<Letter> {
    shared.count().count_dead(DeadReason::Processing);
    let place = shared.board.origin(at.source, at.partition);
    let (source, origin) = place.unwrap_or_else(|| {
        let unknown: Arc<str> = Arc::from("results");
        (Arc::clone(&unknown), Origin::Memory(unknown, at.partition))
    });
    Box::new(Letter {
        source,
        origin,
        offset: at.offset,
        partition: at.partition,
        key: None,
        value: sonic_rs::to_vec(value).ok(),
        cut_from: None,
        headers: Vec::new(),
        left_out: Vec::new(),
        timestamp: Some(at.time),
        cause: Cause::dead(DeadReason::Processing, why.to_string()),
    })
}

/// Results and letters apart.
pub(super) fn split<T: Clone + 'static>(
    both: StreamVec<'_, Epoch, OrLetter<T>>,
) -> (StreamVec<'_, Epoch, T>, StreamVec<'_, Epoch, Letter>) {
    use timely::dataflow::operators::core::OkErr;
    use timely::dataflow::operators::vec::Map;
    let (events, letters) = both.ok_err(|either| either);
    (events, letters.map(|letter: Box<Letter>| *letter))
}
