//! How a door begins and ends: partitions that are found, fall silent or end, and the part that a
//! door has in checkpoints when it reads no more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Door, POST_EVERY, Work};
use crate::connectors::Found;
use crate::connectors::pick::{Doing, Partition, mark};
use crate::observe::now;
use crate::state::{Checkpoints, Stand};
use crate::time::EventTime;
use crate::time::watermark::Mark;

impl<T> Door<T> {
    /// A partition as it begins: where a checkpoint left it, or read from the first epoch on, or
    /// joining.
    pub(super) fn found(&self, found: Found, first: bool, clock: Instant) -> Partition {
        let checkpoints = self.checkpoints.as_deref();
        let fact = checkpoints.and_then(|all| all.partition(self.source, found.partition));
        let continues = checkpoints.is_some_and(Checkpoints::continues);
        let doing = match fact.map(|fact| fact.stand) {
            None if first && !continues => Doing::Reading,
            None | Some(Stand::Joining) => Doing::Joining,
            Some(Stand::Idle) => Doing::Idle,
            Some(Stand::Ended) if !self.live => Doing::Ended,
            Some(Stand::Reading | Stand::Ended) => Doing::Reading,
        };
        let mut partition = Partition::new(found, doing, clock);
        if let Some(fact) = fact {
            (partition.next, partition.clock) = (fact.next, fact.clock);
        }
        if let Some(checkpoints) = checkpoints {
            partition.skips = checkpoints.skips(self.source, partition.number).to_vec();
        }
        partition
    }

    /// A run that reads a log again reads no partition that was not there the first time.
    pub(super) fn leaves_out(&self, partition: u32) -> bool {
        let known = self.tuning.again.as_ref();
        known.is_some_and(|known| !known.contains(&(self.source, partition)))
    }

    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        self.tuning.idle_timeout.filter(|_| self.live)
    }

    /// A partition that was silent for the whole time-out, and of which everything is cut, stops
    /// holding the watermark at the end of this epoch.
    pub(super) fn notice_silence(&mut self, clock: Instant) {
        let Some(timeout) = self.idle_timeout() else {
            return;
        };
        for partition in &mut self.state.partitions {
            let due = partition.idle_at(timeout).is_some_and(|at| at <= clock);
            if due && !partition.uncut {
                partition.doing = Doing::Idle;
                partition.worth_asking = false;
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        let ended = |partition: &Partition| partition.doing == Doing::Ended;
        !self.grows && self.state.partitions.iter().all(ended)
    }

    /// Everything was read. A door that has a part in checkpoints stays until the last one is made.
    pub(super) fn end(&mut self, room: Option<u64>) -> Work {
        let ended = std::mem::replace(&mut self.state.history.ended, true);
        if !ended {
            self.pace.post(self.id, EventTime::END);
            self.state.last_post = None;
        }
        let Some(checkpoints) = &self.checkpoints else {
            self.tell();
            return Work::End(Mark::Ended);
        };
        if checkpoints.is_released() {
            return Work::Stop;
        }
        if ended {
            return self.follow(room);
        }
        let checkpoints = Arc::clone(checkpoints);
        self.state.reached = self.tuning.reached.get(&self.source).copied();
        self.pace.raise(self.id, self.state.epoch.next());
        let work = self.cut(room);
        checkpoints.door_ended();
        work
    }

    /// Goes with the others, and reads nothing.
    pub(super) fn follow(&mut self, room: Option<u64>) -> Work {
        if self.pace.target() > self.state.epoch {
            return self.cut(room);
        }
        Work::Wait(None)
    }

    /// Whether no checkpoint waits for this door.
    pub(super) fn may_go(&self) -> bool {
        let released = |checkpoints: &Arc<Checkpoints>| checkpoints.is_released();
        self.checkpoints.as_ref().is_none_or(released)
    }

    pub(super) fn is_cut_wanted(&self) -> bool {
        let wanted = |checkpoints: &Arc<Checkpoints>| checkpoints.is_wanted();
        self.checkpoints.as_ref().is_some_and(wanted)
    }

    /// What it says at the end of the open epoch. A run that reads a log again says in the end what
    /// was known there the first time.
    pub(super) fn mark(&self) -> Mark {
        match self.state.reached {
            Some(reached) => Mark::Reading(reached),
            None => mark(&self.state.partitions, self.rules, self.tuning.ends),
        }
    }

    /// Lets go of everything where it stands.
    pub(super) fn stop(&mut self) -> Work {
        let counts = self.metrics.worker(self.worker);
        self.state.tally.flush(counts, &self.status);
        Work::Stop
    }

    /// It is woken when an epoch is complete; until then whoever looks is to see how it stands. One
    /// look is due at a time, for none that was asked for can be taken back.
    fn wait_for_room(&mut self) -> Work {
        self.tell();
        let clock = now();
        if self.state.next_look.is_some_and(|at| at > clock) {
            return Work::Wait(None);
        }
        self.state.next_look = Some(clock + POST_EVERY);
        Work::Wait(Some(POST_EVERY))
    }

    /// What is to be done before anything is read.
    pub(super) fn instead_of_reading(&mut self, room: Option<u64>) -> Option<Work> {
        let stopping = self.control.is_stopping();
        if stopping && self.may_go() {
            return Some(self.stop());
        }
        if room.is_some_and(|room| self.state.epoch.number() >= room) {
            return Some(self.wait_for_room());
        }
        if self.is_cut_wanted() {
            self.pace.raise(self.id, self.state.epoch.next());
            return Some(self.cut(room));
        }
        if stopping {
            return Some(self.follow(room));
        }
        if self.pauses() {
            return Some(Work::Wait(Some(Duration::ZERO)));
        }
        // Woken when the watermark is known.
        self.holds_for_silent().then_some(Work::Wait(None))
    }
}
