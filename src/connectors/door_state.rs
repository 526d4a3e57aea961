//! What a door remembers and stages.

use std::collections::VecDeque;
use std::time::Instant;

use super::history::History;
use super::pick::Partition;
use super::{Cut, Tuning};
use crate::event::{Event, Letter, Pieces};
use crate::observe::{Tally, now};
use crate::time::watermark::Mark;
use crate::time::{Epoch, EventTime};

/// What a door remembers and stages.
pub(super) struct DoorState<T> {
    pub(super) partitions: Vec<Partition>,
    pub(super) epoch: Epoch,
    /// Records and bytes of the open epoch.
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) records_max: usize,
    pub(super) last_cut: Instant,
    /// When idle and joining partitions were looked at.
    pub(super) looked: Instant,
    pub(super) last_post: Option<Instant>,
    /// When a door that waits for room looks around next.
    pub(super) next_look: Option<Instant>,
    pub(super) announced: Option<Mark>,
    pub(super) pieces: Pieces<T>,
    pub(super) tally: Tally,
    pub(super) random: Random,
    /// What partitions had reached at the end of epochs that are still on their way.
    pub(super) passing: VecDeque<(Epoch, Vec<(u32, u64)>)>,
    pub(super) history: History,
    /// The watermark that is said once everything was read again.
    pub(super) reached: Option<EventTime>,
    pub(super) events: Vec<Event<T>>,
    pub(super) late: Vec<Letter>,
    pub(super) dead: Vec<Letter>,
    /// Offsets, in the batch that is being judged.
    pub(super) left: Vec<u64>,
}

impl<T> DoorState<T> {
    pub(super) fn new(tuning: &Tuning, id: usize) -> Self {
        let seed = match (tuning.cut, tuning.jitter) {
            (Cut::Random(seed), _) | (_, Some(seed)) => seed,
            _ => 0,
        };
        let mut random = Random(seed.wrapping_add(id as u64).wrapping_mul(0x9E37_79B9) | 1);
        Self {
            partitions: Vec::new(),
            epoch: Epoch::FIRST,
            records: 0,
            bytes: 0,
            records_max: records_max(tuning.cut, &mut random),
            last_cut: now(),
            looked: now(),
            last_post: None,
            next_look: None,
            announced: None,
            pieces: Pieces::default(),
            tally: Tally::default(),
            random,
            passing: VecDeque::new(),
            history: History::default(),
            reached: None,
            events: Vec::new(),
            late: Vec::new(),
            dead: Vec::new(),
            left: Vec::new(),
        }
    }
}

impl<T> DoorState<T> {
    /// The largest event time that was read.
    pub(super) fn largest(&self) -> EventTime {
        let all = self.partitions.iter();
        all.map(|partition| partition.clock.largest)
            .max()
            .unwrap_or(EventTime::NEVER)
    }
}

/// Just enough randomness for tests to vary cuts.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// How many records the next epoch takes.
pub(super) fn records_max(cut: Cut, random: &mut Random) -> usize {
    match cut {
        Cut::Records(records) => records,
        Cut::Never => usize::MAX,
        Cut::Random(_) => usize::try_from(random.below(300)).unwrap_or(0) + 1,
    }
}
