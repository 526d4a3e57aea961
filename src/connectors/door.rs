//! The door: the part of one source that one worker reads. It picks the partition, has its records
//! decoded, judges them, and cuts what enters into epochs.
//!
//! It decides and stages; the timely operator around it ([`super::reader`]) sends what it staged.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::door_state::{DoorState, records_max};
use super::judge::Judge;
use super::pick::{Doing, Partition, Pick, behind, pick};
use super::{Cut, Pace, Reader, Tuning};
use crate::error::Result;
use crate::event::{DeadReason, Decode, Record};
use crate::observe::{Board, Metrics, PartitionStatus, SourceStatus, now};
use crate::operators::watermark::Known;
use crate::state::Checkpoints;
use crate::stream::{Closings, Control};
use crate::time::watermark::Mark;
use crate::time::{Epoch, EventTime, Watermarks, millis};

/// Records asked for at a time.
const FETCH: usize = 1_024;
/// Idle and joining partitions are looked at this often, however busy the others are.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The board is brought up to date at most this often.
const POST_EVERY: Duration = Duration::from_millis(250);

/// The event time of a decoded value, or why it has none.
pub(crate) type TimeOf<T> =
    Box<dyn Fn(&T, &Record<'_>) -> std::result::Result<EventTime, (DeadReason, String)>>;

/// Writes a value for a letter.
pub(crate) type Show<T> = fn(&T) -> Option<Vec<u8>>;

/// What the operator around a door has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Send what is staged.
    Staged,
    /// Send what is staged, then the mark, and go on with this epoch.
    Cut(Epoch, Option<Mark>),
    /// Nothing to do until woken, or until this much later.
    Wait(Option<Duration>),
    /// Send what is staged and the mark; nothing will ever come again.
    End(Mark),
    /// The run is stopped: nothing more is sent, and nothing fires.
    Stop,
}

impl Work {
    /// The mark that is to be sent.
    pub(crate) fn mark(self) -> Option<Mark> {
        match self {
            Self::Cut(_, mark) => mark,
            Self::End(mark) => Some(mark),
            Self::Staged | Self::Wait(_) | Self::Stop => None,
        }
    }
}

/// Everything a door is made of.
pub(crate) struct Door<T> {
    /// Its number among all doors of the job, and its worker and source.
    pub(crate) id: usize,
    pub(crate) worker: usize,
    pub(crate) source: u16,
    pub(crate) port: Arc<str>,
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) grows: bool,
    pub(crate) live: bool,
    pub(crate) decode: Decode<T>,
    pub(crate) time_of: TimeOf<T>,
    /// Of a source that gives values and no bytes.
    pub(crate) show: Option<Show<T>>,
    pub(crate) rules: Watermarks,
    pub(crate) closings: Closings,
    pub(crate) tuning: Tuning,
    pub(crate) pace: Arc<Pace>,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: Arc<SourceStatus>,
    pub(crate) board: Arc<Board>,
    pub(crate) known: Rc<Cell<Known>>,
    pub(crate) checkpoints: Option<Arc<Checkpoints>>,
    pub(crate) state: DoorState<T>,
}

impl<T> Door<T> {
    /// Called once an activation, before [`Door::work`]: finds new partitions, and makes every
    /// partition worth asking once.
    pub(crate) fn wake(&mut self, complete: Option<Epoch>) -> Result {
        let clock = now();
        let first = self.state.epoch == Epoch::FIRST;
        for found in self.reader.discover()? {
            if self.leaves_out(found.partition) {
                continue;
            }
            self.board
                .name(self.source, found.partition, &self.port, &found.origin);
            let partition = self.found(found, first, clock);
            self.state.partitions.push(partition);
        }
        for partition in &mut self.state.partitions {
            partition.worth_asking = partition.doing != Doing::Ended;
        }
        while let Some((epoch, _)) = self.state.passing.front()
            && complete.is_none_or(|next| *epoch < next)
        {
            let (_, offsets) = self.state.passing.pop_front().expect("it is there");
            for (partition, next) in offsets {
                self.reader.passed(partition, next);
            }
        }
        if let Some(checkpoints) = &self.checkpoints {
            let state = &mut self.state;
            state.history.forget(complete);
            state.history.tell(checkpoints, self.source, state.epoch);
        }
        Ok(())
    }

    /// The next thing to do. `complete` is the first epoch that is not complete behind all sinks;
    /// `None`: all are.
    pub(crate) fn work(&mut self, complete: Option<Epoch>) -> Result<Work> {
        if self.control.is_faulty() {
            return Ok(Work::Wait(None));
        }
        let room = complete.map(|next| next.number() + self.tuning.in_flight_max);
        if let Some(other) = self.instead_of_reading(room) {
            return Ok(other);
        }
        loop {
            if self.is_full() {
                self.pace.raise(self.id, self.state.epoch.next());
                return Ok(self.cut(room));
            }
            if self.admit_silent()? {
                return Ok(Work::Staged);
            }
            let clock = now();
            let reached = behind(&self.state.partitions, self.rules, clock);
            self.pace.post(self.id, reached);
            let drift = millis(self.tuning.drift_max);
            match pick(
                &self.state.partitions,
                self.rules,
                self.pace.behind(),
                drift,
            ) {
                Pick::Read(nth) => {
                    if self.read(nth)? > 0 {
                        return Ok(Work::Staged);
                    }
                }
                Pick::TooFarAhead => {
                    self.pace.wait(self.id);
                    // Asked once more: the other may have moved between the two looks.
                    let again = pick(
                        &self.state.partitions,
                        self.rules,
                        self.pace.behind(),
                        drift,
                    );
                    if again == Pick::TooFarAhead {
                        return Ok(self.rest(room, Some(super::pick::GRACE)));
                    }
                }
                Pick::Nothing => return Ok(self.rest(room, None)),
            }
        }
    }

    /// Tests let doors pause at random, so that workers meet in every order.
    fn pauses(&mut self) -> bool {
        self.tuning.jitter.is_some() && self.state.random.below(3) == 0
    }

    fn is_full(&self) -> bool {
        self.state.records >= self.state.records_max
            || self.state.bytes >= self.tuning.epoch_bytes_max && self.tuning.cut != Cut::Never
    }

    /// Whether the epoch is not opened until the watermark before it is known: a busy door would
    /// else never know it, and never look at its idle and joining partitions.
    fn holds_for_silent(&self) -> bool {
        let silent =
            |partition: &Partition| matches!(partition.doing, Doing::Idle | Doing::Joining);
        self.live
            && self.state.records == 0
            && self.known.get().next < self.state.epoch
            && self.state.partitions.iter().any(silent)
            && now().duration_since(self.state.looked) > LOOK_EVERY
    }

    /// Idle and joining partitions are looked at only while the watermark of the epoch before is
    /// known here: whatever they give now is held against its horizon. Returns whether one that
    /// was idle gave records.
    fn admit_silent(&mut self) -> Result<bool> {
        let known = self.known.get();
        if known.next < self.state.epoch {
            return Ok(false);
        }
        self.state.looked = now();
        for nth in 0..self.state.partitions.len() {
            let partition = &mut self.state.partitions[nth];
            let floor = partition.clock.floor;
            match partition.doing {
                Doing::Joining => {
                    partition.clock.floor = floor.max(known.horizon);
                    (partition.doing, partition.since) = (Doing::Reading, now());
                }
                Doing::Idle if partition.worth_asking => {
                    partition.clock.floor = floor.max(known.horizon);
                    partition.doing = Doing::Reading;
                    if self.read(nth)? > 0 {
                        return Ok(true);
                    }
                    let partition = &mut self.state.partitions[nth];
                    partition.clock.floor = floor;
                    if partition.doing == Doing::Reading {
                        (partition.doing, partition.worth_asking) = (Doing::Idle, false);
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Reads a batch of partition `nth` of the list; returns how many records came.
    fn read(&mut self, nth: usize) -> Result<usize> {
        let Self { reader, state, .. } = self;
        let left = state.records_max - state.records;
        let number = state.partitions[nth].number;
        let mut records = Vec::with_capacity(FETCH.min(left));
        let fetched = reader.fetch(number, FETCH.min(left), &mut records)?;
        state.partitions[nth].check_next(&self.port, &records)?;
        // What a run that reads a log again leaves out was read all the same.
        let last = records.last().map(|record| record.offset);
        state.partitions[nth].leave_out(&mut records);
        state.pieces.good.clear();
        state.pieces.bad.clear();
        (self.decode)(&records, &mut state.pieces);
        let mut judge = Judge {
            partition: &mut state.partitions[nth],
            rules: self.rules,
            closings: &self.closings.borrow(),
            source: self.source,
            port: &self.port,
            time_of: &self.time_of,
            show: self.show,
            max_ahead: self.tuning.max_ahead.map(millis),
            tally: &mut state.tally,
            metrics: &self.metrics,
            alive: self.metrics.is_alive(),
            board: &self.board,
            worker: self.worker,
            events: &mut state.events,
            late: &mut state.late,
            dead: &mut state.dead,
            left: &mut state.left,
        };
        judge.batch(&records, &mut state.pieces);
        if self.checkpoints.is_some() {
            let (left, next) = (state.left.drain(..), state.partitions[nth].next);
            let history = &mut state.history;
            history.leave(state.epoch, number, left, &records, next);
        }
        state.left.clear();
        let count = records.len();
        state.records += count;
        state.bytes += records.iter().map(Record::len).sum::<usize>();
        let partition = &mut state.partitions[nth];
        if let Some(last) = last {
            partition.next = last + 1;
        }
        partition.said(fetched, count, now());
        self.check_dead()?;
        Ok(count)
    }

    /// Nothing to read now: follow the others, or cut what there is when the tick is due.
    fn rest(&mut self, room: Option<u64>, at_most: Option<Duration>) -> Work {
        let clock = now();
        self.notice_silence(clock);
        if self.is_done() {
            return self.end(room);
        }
        if self.pace.target() > self.state.epoch {
            return self.cut(room);
        }
        let changed = Some(self.mark()) != self.state.announced;
        let mut timers = vec![at_most];
        if self.state.records > 0 || changed {
            let due = self.state.last_cut + self.tuning.tick;
            // Without a tick an epoch ends only when all there is was read.
            if self.tuning.cut != Cut::Never && clock >= due {
                self.pace.raise(self.id, self.state.epoch.next());
                return self.cut(room);
            }
            timers.push(Some(due.saturating_duration_since(clock)));
        }
        let restraining = behind(&self.state.partitions, self.rules, clock) != EventTime::END;
        timers.push(restraining.then_some(super::pick::GRACE));
        if let Some(timeout) = self.idle_timeout() {
            let idle = self
                .state
                .partitions
                .iter()
                .filter_map(|p| p.idle_at(timeout))
                .min();
            timers.push(idle.map(|at| at.saturating_duration_since(clock)));
        }
        Work::Wait(timers.into_iter().flatten().min())
    }

    /// Ends the open epoch. Where others are further, it follows as far as there is room.
    fn cut(&mut self, room: Option<u64>) -> Work {
        self.notice_silence(now()); // also where there is always something to read
        let mark = self.mark();
        let news = (self.state.announced != Some(mark)).then_some(mark);
        self.state.announced = Some(mark);
        let state = &mut self.state;
        let next = state.epoch.next();
        let last = room.map_or(next, |room| Epoch::new(room).max(next));
        let to = self.pace.target().clamp(next, last);
        let passed: Vec<_> = (state.partitions.iter().filter(|partition| partition.uncut))
            .map(|partition| (partition.number, partition.next))
            .collect();
        if !passed.is_empty() {
            state.passing.push_back((state.epoch, passed));
        }
        if let Some(checkpoints) = &self.checkpoints {
            let ends = self.tuning.ends;
            state.history.push(state.epoch, &state.partitions, ends);
            // Before it lets go of the epoch: whoever looks at a later one knows of it.
            let empty = state.records == 0 && news.is_none();
            checkpoints.cut(state.epoch, to, empty);
        }
        state.epoch = to;
        (state.records, state.bytes) = (0, 0);
        state.records_max = records_max(self.tuning.cut, &mut state.random);
        state.last_cut = now();
        state
            .partitions
            .iter_mut()
            .for_each(|partition| partition.uncut = false);
        self.tell();
        if let Some(checkpoints) = &self.checkpoints {
            let state = &mut self.state;
            state.history.tell(checkpoints, self.source, state.epoch);
        }
        Work::Cut(self.state.epoch, news)
    }

    /// Tells counters and board. What was read is told before the mark leaves.
    fn tell(&mut self) {
        let (state, metrics) = (&mut self.state, self.metrics.worker(self.worker));
        state.tally.flush(metrics, &self.status);
        metrics.opens(state.epoch.number());
        self.metrics.saw(state.largest());
        let clock = now();
        let fresh = |last| clock.duration_since(last) < POST_EVERY;
        if state.last_post.is_some_and(fresh) {
            return;
        }
        state.last_post = Some(clock);
        let (reader, rules) = (&self.reader, self.rules);
        let partitions = state.partitions.iter().map(|partition| PartitionStatus {
            partition: partition.number,
            watermark: partition.clock.watermark(rules),
            reading: partition.doing == Doing::Reading,
            backlog: reader.backlog(partition.number),
            last_record: partition.last_record,
        });
        self.status.post(self.worker, partitions);
    }
}

mod turning;

#[cfg(test)]
mod tests;
