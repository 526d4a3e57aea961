//! The door: the part of one source that one worker reads. It picks the partition, has its records
//! decoded, judges them, and cuts what enters into epochs.
//!
//! It decides and stages; the timely operator around it ([`super::reader`]) sends what it staged.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pick::{Doing, Partition, Pick, behind, mark, pick};
use super::{Cut, DeadLimit, Pace, Reader, Tuning};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Cause, DeadReason, Decode, Event, Letter, Origin, Pieces, Position, Record};
use crate::observe::{Board, Metrics, PartitionStatus, SourceStatus, Tally, now};
use crate::operators::watermark::Known;
use crate::stream::{Closings, Control};
use crate::time::watermark::{Mark, Verdict};
use crate::time::{Epoch, EventTime, Watermarks, millis};

/// Records asked for at a time.
const FETCH: usize = 1_024;
/// The board is brought up to date at most this often.
const POST_EVERY: Duration = Duration::from_millis(250);

/// The event time of a decoded value, or why it has none.
pub(crate) type TimeOf<T> =
    Box<dyn Fn(&T, &Record<'_>) -> std::result::Result<EventTime, (DeadReason, String)>>;

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
    pub(crate) rules: Watermarks,
    pub(crate) closings: Closings,
    pub(crate) tuning: Tuning,
    pub(crate) pace: Arc<Pace>,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: Arc<SourceStatus>,
    pub(crate) board: Arc<Board>,
    pub(crate) known: Rc<Cell<Known>>,
    pub(crate) state: DoorState<T>,
}

/// What a door remembers and stages.
pub(crate) struct DoorState<T> {
    partitions: Vec<Partition>,
    epoch: Epoch,
    /// Records and bytes of the open epoch.
    records: usize,
    bytes: usize,
    records_max: usize,
    last_cut: Instant,
    last_post: Option<Instant>,
    announced: Option<Mark>,
    pieces: Pieces<T>,
    tally: Tally,
    random: Random,
    /// What partitions had reached at the end of epochs that are still on their way.
    passing: VecDeque<(Epoch, Vec<(u32, u64)>)>,
    pub(crate) events: Vec<Event<T>>,
    pub(crate) late: Vec<Letter>,
    pub(crate) dead: Vec<Letter>,
}

impl<T> DoorState<T> {
    pub(crate) fn new(tuning: &Tuning, id: usize) -> Self {
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
            last_post: None,
            announced: None,
            pieces: Pieces::default(),
            tally: Tally::default(),
            random,
            passing: VecDeque::new(),
            events: Vec::new(),
            late: Vec::new(),
            dead: Vec::new(),
        }
    }
}

/// Just enough randomness for tests to vary cuts.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn records_max(cut: Cut, random: &mut Random) -> usize {
    match cut {
        Cut::Records(records) => records,
        Cut::Never => usize::MAX,
        Cut::Random(_) => usize::try_from(random.below(300)).unwrap_or(0) + 1,
    }
}

impl<T> Door<T> {
    /// Called once an activation, before [`Door::work`]: finds new partitions, and makes every
    /// partition worth asking once.
    pub(crate) fn wake(&mut self, complete: Option<Epoch>) -> Result {
        let clock = now();
        let first = self.state.epoch == Epoch::FIRST;
        for found in self.reader.discover()? {
            self.board
                .name(self.source, found.partition, &self.port, &found.origin);
            let doing = if first {
                Doing::Reading
            } else {
                Doing::Joining
            };
            self.state
                .partitions
                .push(Partition::new(found, doing, clock));
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
        Ok(())
    }

    /// The next thing to do. `complete` is the first epoch that is not complete behind all sinks;
    /// `None`: all are.
    pub(crate) fn work(&mut self, complete: Option<Epoch>) -> Result<Work> {
        if self.control.is_faulty() {
            return Ok(Work::Wait(None));
        }
        if self.control.is_stopping() {
            self.state.tally.flush(self.metrics.worker(self.worker));
            return Ok(Work::Stop);
        }
        let room = complete.map(|next| next.number() + self.tuning.in_flight_max);
        if room.is_some_and(|room| self.state.epoch.number() >= room) {
            return Ok(Work::Wait(None)); // woken when an epoch is complete
        }
        if self.pauses() {
            return Ok(Work::Wait(Some(Duration::ZERO)));
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

    /// Idle and joining partitions are looked at only while the watermark of the epoch before is
    /// known here: whatever they give now is held against its horizon. Returns whether one that
    /// was idle gave records.
    fn admit_silent(&mut self) -> Result<bool> {
        let known = self.known.get();
        if known.next < self.state.epoch {
            return Ok(false);
        }
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
                    (partition.doing, partition.worth_asking) = (Doing::Idle, false);
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
            max_ahead: self.tuning.max_ahead.map(millis),
            tally: &mut state.tally,
            metrics: &self.metrics,
            board: &self.board,
            worker: self.worker,
            events: &mut state.events,
            late: &mut state.late,
            dead: &mut state.dead,
        };
        judge.batch(&records, &mut state.pieces);
        let count = records.len();
        state.records += count;
        state.bytes += records.iter().map(Record::len).sum::<usize>();
        let partition = &mut state.partitions[nth];
        if let Some(last) = records.last() {
            partition.next = last.offset + 1;
        }
        partition.said(fetched, count, now());
        self.check_dead()?;
        Ok(count)
    }

    /// Whether there are too many dead letters.
    fn check_dead(&self) -> Result {
        let (metrics, tally) = (&self.metrics, &self.state.tally);
        if tally.entered + tally.late + tally.idle > 0 && !metrics.is_alive() {
            metrics.set_alive();
        }
        if self.state.dead.is_empty() {
            return Ok(());
        }
        let dead = metrics.dead();
        let too_many = match self.tuning.dead_limit {
            DeadLimit::Off => return Ok(()),
            DeadLimit::AllOfFirstThousand if metrics.is_alive() || dead < 1_000 => return Ok(()),
            DeadLimit::AllOfFirstThousand => "the first 1,000 records are all".to_owned(),
            DeadLimit::Count(most) if dead <= most => return Ok(()),
            DeadLimit::Count(most) => format!("more than {most} records are"),
            DeadLimit::Percent(most) => {
                let read = metrics.sum(|worker| &worker.read) + tally.read;
                #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
                let share = dead as f64 * 100.0 / read as f64;
                if read < 1_000 || share <= most {
                    return Ok(());
                }
                format!("more than {most} % of {read} records are")
            }
        };
        let first = self.board.first_dead();
        let why = format!("{too_many} dead letters (--max-dead); the first is {first}");
        Err(Error::new(ErrorKind::Limit, why))
    }

    /// Nothing to read now: follow the others, or cut what there is when the tick is due.
    fn rest(&mut self, room: Option<u64>, at_most: Option<Duration>) -> Work {
        let clock = now();
        self.notice_silence(clock);
        if self.is_done() {
            return self.end();
        }
        if self.pace.target() > self.state.epoch {
            return self.cut(room);
        }
        let changed = Some(mark(&self.state.partitions, self.rules)) != self.state.announced;
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

    fn idle_timeout(&self) -> Option<Duration> {
        self.tuning.idle_timeout.filter(|_| self.live)
    }

    /// A partition that was silent for the whole time-out, and of which everything is cut, stops
    /// holding the watermark at the end of this epoch.
    fn notice_silence(&mut self, clock: Instant) {
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

    fn is_done(&self) -> bool {
        let ended = |partition: &Partition| partition.doing == Doing::Ended;
        !self.grows && self.state.partitions.iter().all(ended)
    }

    /// Ends the open epoch. Where others are further, it follows as far as there is room.
    fn cut(&mut self, room: Option<u64>) -> Work {
        let mark = mark(&self.state.partitions, self.rules);
        let news = (self.state.announced != Some(mark)).then_some(mark);
        self.state.announced = Some(mark);
        let state = &mut self.state;
        let passed: Vec<_> = (state.partitions.iter().filter(|partition| partition.uncut))
            .map(|partition| (partition.number, partition.next))
            .collect();
        if !passed.is_empty() {
            state.passing.push_back((state.epoch, passed));
        }
        let next = state.epoch.next();
        let last = room.map_or(next, |room| Epoch::new(room).max(next));
        state.epoch = self.pace.target().clamp(next, last);
        (state.records, state.bytes) = (0, 0);
        state.records_max = records_max(self.tuning.cut, &mut state.random);
        state.last_cut = now();
        state
            .partitions
            .iter_mut()
            .for_each(|partition| partition.uncut = false);
        self.tell();
        Work::Cut(self.state.epoch, news)
    }

    fn end(&mut self) -> Work {
        self.pace.post(self.id, EventTime::END);
        self.state.last_post = None;
        self.tell();
        Work::End(Mark::Ended)
    }

    /// Tells counters and board. What was read is told before the mark leaves.
    fn tell(&mut self) {
        let state = &mut self.state;
        state.tally.flush(self.metrics.worker(self.worker));
        let largest = state
            .partitions
            .iter()
            .map(|partition| partition.clock.largest)
            .max();
        self.metrics.saw(largest.unwrap_or(EventTime::NEVER));
        let clock = now();
        if state
            .last_post
            .is_some_and(|last| clock.duration_since(last) < POST_EVERY)
        {
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

/// Judges a batch of one partition.
struct Judge<'a, T> {
    partition: &'a mut Partition,
    rules: Watermarks,
    closings: &'a [crate::time::Closing],
    source: u16,
    port: &'a Arc<str>,
    time_of: &'a TimeOf<T>,
    max_ahead: Option<i64>,
    tally: &'a mut Tally,
    metrics: &'a Metrics,
    board: &'a Board,
    worker: usize,
    events: &'a mut Vec<Event<T>>,
    late: &'a mut Vec<Letter>,
    dead: &'a mut Vec<Letter>,
}

impl<T> Judge<'_, T> {
    fn batch(&mut self, records: &[Record<'_>], pieces: &mut Pieces<T>) {
        let mut good = pieces.good.drain(..).peekable();
        let mut bad = pieces.bad.drain(..).peekable();
        let mut several = Vec::new();
        self.tally.read += records.len() as u64;
        for (nth, record) in (0u32..).zip(records) {
            if let Some((_, reason, why)) = bad.next_if(|bad| bad.0 == nth) {
                while bad.next_if(|bad| bad.0 == nth).is_some() {}
                while good.next_if(|good| good.0 == nth).is_some() {}
                self.dies(record, reason, why);
                continue;
            }
            let Some((_, value)) = good.next_if(|good| good.0 == nth) else {
                self.tally.entered += 1; // it became nothing, on purpose
                continue;
            };
            if good.peek().is_none_or(|good| good.0 != nth) {
                self.one(record, value);
                continue;
            }
            several.push(value);
            while let Some((_, value)) = good.next_if(|good| good.0 == nth) {
                several.push(value);
            }
            self.several(record, &mut several);
        }
    }

    /// A record that became one value.
    #[inline]
    fn one(&mut self, record: &Record<'_>, value: T) {
        let time = match self.time(record, &value) {
            Ok(time) => time,
            Err((reason, why)) => return self.dies(record, reason, why),
        };
        let verdict = self
            .partition
            .clock
            .judge_at(time, self.closings, self.rules);
        self.saw(time);
        match verdict {
            Verdict::Enters => {
                self.tally.entered += 1;
                self.events.push(Event {
                    at: self.position(record, time, 0),
                    value,
                });
            }
            Verdict::Late { reason, watermark } => {
                self.tally.count_late(reason);
                self.late.push(self.letter(
                    record,
                    Cause::Late {
                        reason,
                        event_time: time,
                        watermark,
                    },
                ));
            }
        }
    }

    /// A record that became several values: all are judged by what was before the record, and it
    /// counts as late only if none of them enters.
    fn several(&mut self, record: &Record<'_>, values: &mut Vec<T>) {
        let times: std::result::Result<Vec<_>, _> = values
            .iter()
            .map(|value| self.time(record, value))
            .collect();
        let times = match times {
            Ok(times) => times,
            Err((reason, why)) => {
                values.clear();
                return self.dies(record, reason, why);
            }
        };
        let before = self.partition.clock;
        let (mut entered, mut late) = (false, None);
        for ((index, value), time) in (0..).zip(values.drain(..)).zip(times) {
            self.saw(time);
            match before.judge_at(time, self.closings, self.rules) {
                Verdict::Enters => {
                    entered = true;
                    self.events.push(Event {
                        at: self.position(record, time, index),
                        value,
                    });
                }
                Verdict::Late { reason, watermark } => {
                    late = Some(reason);
                    let cause = Cause::Late {
                        reason,
                        event_time: time,
                        watermark,
                    };
                    self.late.push(self.letter(record, cause));
                }
            }
        }
        match late {
            Some(reason) if !entered => self.tally.count_late(reason),
            _ => self.tally.entered += 1,
        }
    }

    #[inline]
    fn time(
        &self,
        record: &Record<'_>,
        value: &T,
    ) -> std::result::Result<EventTime, (DeadReason, String)> {
        let time = (self.time_of)(value, record)?;
        if !time.is_plausible() {
            let why = format!(
                "event time {} ms lies outside years 0 to 9999",
                time.millis()
            );
            return Err((DeadReason::NoEventTime, why));
        }
        if let (Some(ahead), Some(stamp)) = (self.max_ahead, record.timestamp)
            && time > stamp.plus(ahead)
        {
            let why = format!("event time {time} is past the record's own stamp {stamp}");
            return Err((DeadReason::TooFarAhead, why));
        }
        Ok(time)
    }

    #[inline]
    fn saw(&mut self, time: EventTime) {
        let clock = &mut self.partition.clock;
        let first = clock.largest == EventTime::NEVER;
        let behind = if first {
            0
        } else {
            clock.largest.millis() - time.millis()
        };
        self.tally.saw(behind);
        clock.saw(time);
    }

    #[inline]
    fn position(&self, record: &Record<'_>, time: EventTime, index: u64) -> Position {
        let partition = self.partition.number;
        Position {
            time,
            source: self.source,
            partition,
            offset: record.offset,
            index,
        }
    }

    #[cold]
    #[inline(never)]
    fn dies(&mut self, record: &Record<'_>, reason: DeadReason, error: String) {
        self.metrics.worker(self.worker).count_dead(reason);
        self.board.died(|| {
            let (origin, offset) = (&self.partition.origin, record.offset);
            let place = match origin {
                Origin::File(name) => format!("{name}: line {}", offset + 1),
                _ => format!("{origin}: offset {offset}"),
            };
            format!("{}: {place}: {}: {error}", self.port, reason.name())
        });
        self.dead
            .push(self.letter(record, Cause::Dead { reason, error }));
    }

    fn letter(&self, record: &Record<'_>, cause: Cause) -> Letter {
        Letter::new(
            self.port,
            &self.partition.origin,
            self.partition.number,
            record,
            cause,
        )
    }
}
