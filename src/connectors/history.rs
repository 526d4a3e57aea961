//! A door's part in checkpoints: what its partitions had come to at the end of each epoch that may
//! still be declared one.

use std::collections::VecDeque;

use super::Ends;
use super::pick::{Doing, Partition};
use crate::event::Record;
use crate::state::{Checkpoints, Left, Note, PartitionFact, Stand};
use crate::time::Epoch;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History {
    ends: VecDeque<(Epoch, Vec<PartitionFact>)>,
    /// Records that left as late with reason `idle` and were not told yet, by their epochs.
    left: Vec<(Epoch, Left)>,
    /// The first epoch that may be declared next.
    next: Epoch,
    /// Everything was read, and the others know.
    pub(super) ended: bool,
}

impl History {
    /// Epoch `epoch` ends with `partitions`.
    pub(super) fn push(&mut self, epoch: Epoch, partitions: &[Partition], ends: Ends) {
        let facts = partitions.iter().map(|partition| fact(partition, ends));
        self.ends.push_back((epoch, facts.collect()));
    }

    /// The records at `offsets` left in the open epoch. They are some of `records` of `partition`,
    /// before the first of which `next` was the next offset.
    pub(super) fn leave(
        &mut self,
        epoch: Epoch,
        partition: u32,
        offsets: impl Iterator<Item = u64>,
        records: &[Record<'_>],
        next: u64,
    ) {
        self.left.extend(offsets.map(|offset| {
            let nth = records.partition_point(|record| record.offset < offset);
            let last = nth.checked_sub(1).and_then(|last| records.get(last));
            let before = last.map_or(next, |last| last.offset + 1);
            let left = Left {
                partition,
                offset,
                before,
            };
            (epoch, left)
        }));
    }

    /// Lets go of what no checkpoint can ask for any more: a declared epoch is not `complete`.
    pub(super) fn forget(&mut self, complete: Option<Epoch>) {
        let complete = |epoch: Epoch| complete.is_none_or(|first| epoch < first);
        while self.ends.get(1).is_some_and(|(epoch, _)| complete(*epoch)) {
            self.ends.pop_front();
        }
    }

    /// Tells what the declared checkpoint has to know of this door, which fills epoch `open`.
    pub(super) fn tell(&mut self, checkpoints: &Checkpoints, source: u16, open: Epoch) {
        let Some((epoch, _)) = checkpoints.declared(self.next) else {
            return;
        };
        if open <= epoch {
            return;
        }
        self.next = epoch.next();
        let ends = self.ends.iter().rev();
        let end = ends.into_iter().find(|(end, _)| *end <= epoch);
        let facts = end.map(|(_, facts)| facts.clone()).unwrap_or_default();
        let split = self.left.partition_point(|(left, ..)| *left <= epoch);
        let left = self.left.drain(..split).map(|(_, left)| left).collect();
        checkpoints.tell(Note::Door {
            source,
            facts,
            left,
        });
    }
}

fn fact(partition: &Partition, ends: Ends) -> PartitionFact {
    PartitionFact {
        partition: partition.number,
        next: partition.next,
        clock: partition.clock,
        stand: match partition.doing {
            Doing::Joining => Stand::Joining,
            Doing::Ended if ends == Ends::ForGood => Stand::Ended,
            Doing::Reading | Doing::Ended => Stand::Reading,
            Doing::Idle => Stand::Idle,
        },
    }
}
