//! Where an event stands in the log: the order that decides every tie.

use serde::{Deserialize, Serialize};

use crate::time::EventTime;

/// The place of an event: `(event time, source, partition, offset, index)`, compared in this order.
///
/// No two events of a job are equal in it, so "first", "last" and every tie have one answer, which
/// does not depend on arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// When it happened.
    pub time: EventTime,
    /// The source, in the order in which the job declares them.
    pub source: u16,
    /// The partition in the source.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: u64,
    /// Which of the events that one record became: [`Position::child`] and [`Position::branch`].
    pub index: u64,
}

/// Bits of `index` that number the branches of unions; the others number what `flat_map` made.
const BRANCH_BITS: u32 = 16;
/// Bits that each level of `flat_map` takes.
const CHILD_BITS: u32 = 16;

impl Position {
    /// Most events that one event may become in one `flat_map`.
    pub const CHILDREN_MAX: u64 = 1 << CHILD_BITS;

    /// The place of the `nth` event that this one became, or `None` when there is no room for it:
    /// more than [`Position::CHILDREN_MAX`] children, or a fourth level of `flat_map`.
    pub fn child(self, nth: u64) -> Option<Self> {
        let low = self.index << BRANCH_BITS >> BRANCH_BITS;
        let fits = nth < Self::CHILDREN_MAX && low >> (64 - BRANCH_BITS - CHILD_BITS) == 0;
        let high = self.index ^ low;
        fits.then_some(Self {
            index: high | low << CHILD_BITS | nth,
            ..self
        })
    }

    /// The same place, `branches` further among the inputs of unions: two branches of one source
    /// that meet again keep apart, the first input first.
    #[must_use]
    pub fn branch(self, branches: u16) -> Self {
        Self {
            index: self.index + (u64::from(branches) << (64 - BRANCH_BITS)),
            ..self
        }
    }

    /// Which of the branches that unions put together it came by.
    pub(crate) fn branch_number(self) -> usize {
        usize::try_from(self.index >> (64 - BRANCH_BITS)).expect("16 bits")
    }
}

/// An event: a value and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event<T> {
    /// Where it stands.
    pub at: Position,
    /// What it says.
    pub value: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position {
        time: EventTime::from_millis(1),
        source: 0,
        partition: 2,
        offset: 3,
        index: 0,
    };

    #[test]
    fn children_stand_in_lexicographic_order() {
        let child = |path: &[u64]| {
            path.iter()
                .fold(AT, |at, nth| at.child(*nth).expect("there is room"))
                .index
        };
        let mut paths = [
            [1, 0, 0],
            [0, 0, 2],
            [0, 1, 0],
            [0, 0, 1],
            [2, 0, 0],
            [0, 65_535, 65_535],
        ];
        paths.sort_unstable();
        let indexes = paths.map(|path| child(&path));
        assert!(indexes.is_sorted() && indexes.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_fourth_level_or_too_many_children_are_refused() {
        let third = AT
            .child(1)
            .and_then(|at| at.child(0))
            .and_then(|at| at.child(0));
        assert_eq!(third.expect("three fit").child(0), None);
        assert_eq!(AT.child(Position::CHILDREN_MAX), None);
    }

    #[test]
    fn the_first_input_of_a_union_comes_first() {
        let (first, second) = (AT.child(65_535).expect("fits"), AT.branch(1));
        assert!(first < second && second < second.branch(1));
        assert_eq!(
            (first.branch_number(), second.branch(1).branch_number()),
            (0, 2)
        );
        assert!(second.branch(1).child(0).expect("fits") > second.child(9).expect("fits"));
    }
}
