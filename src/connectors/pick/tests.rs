//! The rules of time as a random model around the real clocks, marks and choice of partition:
//! doors, epochs that run ahead, idle and joining partitions, windows.
//!
//! Each run draws a log, an assignment to doors, how far each door runs ahead, which partitions
//! fall idle or appear late, and cuts of any size. Three promises are held: nothing enters whose
//! closing time the horizon has reached; the final windows are those of a plain recount of the log
//! without the records that left as `idle`; the watermark is the end only when all have ended.
//! Every [`Bug`] breaks one of them, which the same harness must see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::connectors::Ends;
use crate::observe::now;
use crate::time::watermark::{LateReason, SourceClock, Verdict};
use crate::time::{Closing, Tumbling};

const SEEDS: u64 = 20_000;

/// A mistake that is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The watermark is the largest over doors instead of the smallest.
    Max,
    /// The watermark is asked before the floor.
    LateFirst,
    /// Who wakes or joins is held against nothing.
    NoFloor,
    /// Who wakes or joins does not wait for the watermark of the epoch before.
    NoWait,
    /// A door of which all partitions are idle says that it has ended.
    IdleIsEnd,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ mixed >> 31) % limit as u64).unwrap()
    }

    fn time(&mut self, limit: usize) -> i64 {
        i64::try_from(self.below(limit)).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A log, and how far it is written.
struct Written {
    log: Vec<i64>,
    visible: usize,
    next: usize,
    door: usize,
    known: bool,
}

/// What one door gave in one epoch.
struct Given {
    entered: Vec<i64>,
    mark: Mark,
    /// All partitions that it knew had ended.
    ended: bool,
}

struct Model {
    bug: Bug,
    random: Random,
    rules: Watermarks,
    windows: Tumbling,
    closing: Closing,
    written: Vec<Written>,
    /// The engine's own, by door; each knows its log by its number.
    doors: Vec<Vec<Partition>>,
    given: Vec<Vec<Given>>,
    clock: SourceClock,
    /// The watermark of each epoch that all doors have cut.
    watermarks: Vec<EventTime>,
    idle: BTreeSet<(usize, usize)>,
}

fn partition(number: usize, doing: Doing, clock: Instant) -> Partition {
    let partition = u32::try_from(number).unwrap();
    let origin = Origin::Memory(Arc::from("log"), partition);
    Partition::new(Found { partition, origin }, doing, clock)
}

impl Model {
    fn new(seed: u64, bug: Bug, clock: Instant) -> Self {
        let mut random = Random(seed);
        let size = [5, 10, 30][random.below(3)];
        let span = Duration::from_millis;
        let rules = Watermarks::lag(span([0, 3, 10][random.below(3)]))
            .allowed_lateness(span([0, 0, 7][random.below(3)]));
        let windows = Tumbling::of(span(size));
        let closing = if random.chance(40) {
            Closing::Next
        } else {
            Closing::WindowEnd(windows)
        };
        let doors = 1 + random.below(3);
        let written: Vec<_> = (0..=random.below(5))
            .map(|_| Written::draw(&mut random, doors))
            .collect();
        let owned = |door: usize| {
            let logs = written.iter().enumerate();
            let first = logs.filter(move |(_, log)| log.door == door && log.known);
            first.map(move |(number, _)| partition(number, Doing::Reading, clock))
        };
        Self {
            bug,
            rules,
            windows,
            closing,
            doors: (0..doors).map(|door| owned(door).collect()).collect(),
            given: (0..doors).map(|_| Vec::new()).collect(),
            clock: SourceClock::new(doors, EventTime::NEVER),
            watermarks: Vec::new(),
            idle: BTreeSet::new(),
            written,
            random,
        }
    }

    /// The horizon at the end of the epoch before `epoch`.
    fn horizon_before(&self, epoch: usize) -> EventTime {
        let before = epoch.checked_sub(1).map(|before| self.watermarks[before]);
        before.map_or(EventTime::NEVER, |watermark| {
            watermark.minus(self.rules.allowed)
        })
    }

    fn run(mut self) -> Result<usize, String> {
        while !self.is_finished() {
            for log in &mut self.written {
                let more = [0, 0, 1, 3][self.random.below(4)];
                log.visible = log.log.len().min(log.visible + more);
            }
            let door = self.random.below(self.doors.len());
            if self.given[door].len() <= self.watermarks.len() + 4 && self.admit(door) {
                self.epoch(door);
            }
            self.close()?;
        }
        self.compare()
    }

    fn is_finished(&self) -> bool {
        let ended = |partition: &Partition| partition.doing == Doing::Ended;
        self.written.iter().all(|log| log.known)
            && self.doors.iter().flatten().all(ended)
            && self
                .given
                .iter()
                .all(|given| given.len() == self.watermarks.len())
    }

    /// Lets in who wakes or joins at the start of the door's next epoch; says whether it may open.
    fn admit(&mut self, door: usize) -> bool {
        let epoch = self.given[door].len();
        let logs = &self.written;
        let wakes = |partition: &Partition| {
            let log = &logs[partition.number as usize];
            partition.doing == Doing::Idle && log.visible > log.next
        };
        let mut comes = self.doors[door].iter().any(wakes);
        for (number, log) in self.written.iter_mut().enumerate() {
            if log.door == door && !log.known && (log.visible > 0 || self.random.chance(20)) {
                log.known = true;
                self.doors[door].push(partition(number, Doing::Joining, now()));
            }
        }
        comes |= self.doors[door].iter().any(|p| p.doing == Doing::Joining);
        if !comes {
            return true;
        }
        if self.watermarks.len() < epoch && self.bug != Bug::NoWait {
            return false;
        }
        let floor = self.horizon_before(epoch.min(self.watermarks.len()));
        for partition in &mut self.doors[door] {
            let log = &self.written[partition.number as usize];
            let wakes = partition.doing == Doing::Idle && log.visible > log.next;
            if wakes || partition.doing == Doing::Joining {
                partition.doing = Doing::Reading;
                if self.bug != Bug::NoFloor {
                    partition.clock.floor = partition.clock.floor.max(floor);
                }
            }
        }
        true
    }

    /// One epoch of one door.
    fn epoch(&mut self, door: usize) {
        let mut entered = Vec::new();
        for partition in &mut self.doors[door] {
            let number = partition.number as usize;
            let log = &mut self.written[number];
            if partition.doing == Doing::Idle && log.next == log.log.len() && self.random.chance(30)
            {
                partition.doing = Doing::Ended; // nothing is ever appended
            }
            if partition.doing != Doing::Reading {
                continue;
            }
            let upto = log.next + [0, 1, 2, 50][self.random.below(4)];
            while log.next < upto.min(log.visible) {
                let time = EventTime::from_millis(log.log[log.next]);
                match judge(&partition.clock, time, self.closing, self.rules, self.bug) {
                    Verdict::Enters => entered.push(time.millis()),
                    Verdict::Late {
                        reason: LateReason::Idle,
                        ..
                    } => {
                        self.idle.insert((number, log.next));
                    }
                    Verdict::Late { .. } => {}
                }
                partition.clock.saw(time);
                log.next += 1;
            }
            if log.next == log.log.len() && self.random.chance(50) {
                partition.doing = Doing::Ended;
            } else if log.next == log.visible && self.random.chance(30) {
                partition.doing = Doing::Idle;
            }
        }
        let mark = match mark(&self.doors[door], self.rules, Ends::ForGood) {
            Mark::Idle if self.bug == Bug::IdleIsEnd => Mark::Ended,
            mark => mark,
        };
        let ended = |partition: &Partition| partition.doing == Doing::Ended;
        let ended = self.doors[door].iter().all(ended);
        self.given[door].push(Given {
            entered,
            mark,
            ended,
        });
    }

    /// Closes every epoch that all doors have cut.
    fn close(&mut self) -> Result<(), String> {
        while self
            .given
            .iter()
            .all(|given| given.len() > self.watermarks.len())
        {
            let epoch = self.watermarks.len();
            let horizon = self.horizon_before(epoch);
            let mut marks = Vec::new();
            for (door, given) in self.given.iter().enumerate() {
                let entered = given[epoch]
                    .entered
                    .iter()
                    .map(|time| EventTime::from_millis(*time));
                for time in entered {
                    if self.closing.of(time) <= horizon {
                        return Err(format!("{time} entered epoch {epoch} behind {horizon}"));
                    }
                }
                self.clock.mark(door, given[epoch].mark);
                marks.push(given[epoch].mark);
            }
            let mut watermark = self.clock.close();
            if self.bug == Bug::Max {
                let reading = marks.iter().filter_map(|mark| match mark {
                    Mark::Reading(watermark) => Some(*watermark),
                    Mark::Idle | Mark::Ended => None,
                });
                watermark = watermark.max(reading.max().unwrap_or(EventTime::NEVER));
                watermark = watermark.max(*self.watermarks.last().unwrap_or(&watermark));
            }
            let ended = self.given.iter().all(|given| given[epoch].ended);
            let before = self.watermarks.last().copied();
            if watermark == EventTime::END && before != Some(watermark) && !ended {
                return Err(format!("epoch {epoch} is said to be the end, and is not"));
            }
            self.watermarks.push(watermark);
        }
        Ok(())
    }

    /// The windows as they fired, against a recount of the log without the idle records.
    fn compare(self) -> Result<usize, String> {
        let (mut open, mut fired) = (BTreeMap::new(), BTreeMap::new());
        for epoch in 0..self.watermarks.len() {
            let entered = self.given.iter().flat_map(|given| &given[epoch].entered);
            for time in entered {
                let window = self.windows.window(EventTime::from_millis(*time));
                *open.entry(window.end).or_insert(0) += 1;
            }
            let rest = open.split_off(&self.horizon_before(epoch + 1).plus(1));
            for (end, count) in std::mem::replace(&mut open, rest) {
                if fired.insert(end, count).is_some() {
                    return Err(format!("the window that ends at {end} fired twice"));
                }
            }
        }
        let plain = self.recount();
        if fired != plain || !open.is_empty() {
            return Err(format!("fired {fired:?}, recounted {plain:?}"));
        }
        Ok(self.idle.len())
    }

    fn recount(&self) -> BTreeMap<EventTime, i32> {
        let (lag, allowed) = (self.rules.lag, self.rules.allowed);
        let mut plain = BTreeMap::new();
        for (number, written) in self.written.iter().enumerate() {
            let mut largest: Option<i64> = None;
            for (offset, time) in written.log.iter().enumerate() {
                if self.idle.contains(&(number, offset)) {
                    continue;
                }
                let at = EventTime::from_millis(*time);
                let closes = self.closing.of(at).millis();
                if largest.is_none_or(|largest| closes + allowed > largest - lag) {
                    *plain.entry(self.windows.window(at).end).or_insert(0) += 1;
                }
                largest = largest.max(Some(*time));
            }
        }
        plain
    }
}

impl Written {
    fn draw(random: &mut Random, doors: usize) -> Self {
        let mut time = random.time(61);
        let log = (0..random.below(41)).map(|_| {
            time += random.time(7);
            let back = if random.chance(40) {
                random.time(26)
            } else {
                0
            };
            time - back
        });
        Self {
            log: log.collect(),
            visible: 0,
            next: 0,
            door: random.below(doors),
            known: random.chance(80),
        }
    }
}

/// The verdict of the engine, or one with its tests in the wrong order.
fn judge(
    clock: &PartitionClock,
    time: EventTime,
    closing: Closing,
    rules: Watermarks,
    bug: Bug,
) -> Verdict {
    if bug == Bug::LateFirst {
        let ordinary = PartitionClock {
            floor: EventTime::NEVER,
            ..*clock
        };
        let verdict = ordinary.judge_at(time, &[closing], rules);
        if verdict != Verdict::Enters {
            return verdict;
        }
    }
    clock.judge_at(time, &[closing], rules)
}

/// How many of so many runs are wrong, the first of them in words, and how many had idle records.
fn runs(bug: Bug, seeds: u64) -> (u64, String, u64) {
    let clock = now();
    let (mut wrong, mut first, mut with_idle) = (0, String::new(), 0);
    for seed in 0..seeds {
        match Model::new(seed, bug, clock).run() {
            Ok(idle) => with_idle += u64::from(idle > 0),
            Err(why) => {
                wrong += 1;
                if first.is_empty() {
                    first = format!("seed {seed}: {why}");
                }
            }
        }
    }
    (wrong, first, with_idle)
}

#[test]
fn nothing_enters_behind_the_horizon_and_windows_are_the_logs() {
    let (wrong, first, with_idle) = runs(Bug::None, SEEDS);
    assert_eq!((wrong, first), (0, String::new()));
    assert!(with_idle > SEEDS / 10, "{with_idle}");
}

#[test]
fn every_planted_bug_is_seen() {
    for bug in [
        Bug::Max,
        Bug::LateFirst,
        Bug::NoFloor,
        Bug::NoWait,
        Bug::IdleIsEnd,
    ] {
        let mut seeds = 0..SEEDS;
        let seen = seeds.any(|seed| Model::new(seed, bug, now()).run().is_err());
        assert!(seen, "{bug:?}");
    }
}

fn drawn(clock: Instant) -> impl Strategy<Value = Vec<Partition>> {
    let doing = prop_oneof![
        3 => Just(Doing::Reading),
        1 => Just(Doing::Joining),
        1 => Just(Doing::Idle),
        1 => Just(Doing::Ended),
    ];
    let last = prop_oneof![
        3 => Just(Fetched::Some),
        1 => Just(Fetched::Wait),
        1 => Just(Fetched::CaughtUp),
    ];
    let one = (proptest::option::of(0i64..100), doing, last, any::<bool>());
    proptest::collection::vec(one, 0..6).prop_map(move |drawn| {
        let made = drawn.into_iter().enumerate();
        let partitions = made.map(|(number, (largest, doing, last, worth_asking))| Partition {
            clock: PartitionClock {
                largest: largest.map_or(EventTime::NEVER, EventTime::from_millis),
                floor: EventTime::NEVER,
            },
            last,
            worth_asking,
            ..partition(number, doing, clock)
        });
        partitions.collect()
    })
}

proptest! {
    #[test]
    fn the_furthest_behind_is_read_and_none_too_far_ahead(
        partitions in drawn(now()),
        drift in 0i64..50,
        late in any::<bool>(),
    ) {
        let rules = Watermarks::lag(Duration::from_millis(3));
        let clock = partitions.first().map_or_else(now, |first| first.since);
        let clock = if late { clock + GRACE } else { clock };
        let slowest = behind(&partitions, rules, clock);
        let restrains = |p: &&Partition| p.doing == Doing::Reading
            && (p.last == Fetched::Some || p.last == Fetched::Wait && !late);
        let largest = |p: &Partition| p.clock.largest;
        let naive = partitions.iter().filter(restrains).map(largest).min();
        prop_assert_eq!(slowest, naive.map_or(EventTime::END, |largest| largest.minus(3)));
        let candidates = || partitions.iter()
            .filter(|p| p.worth_asking && p.doing == Doing::Reading);
        match pick(&partitions, rules, slowest, drift) {
            Pick::Nothing => prop_assert_eq!(candidates().count(), 0),
            Pick::TooFarAhead => {
                let near = |p: &Partition| p.clock.largest <= naive.unwrap().plus(drift);
                prop_assert!(candidates().count() > 0 && !candidates().any(near));
            }
            Pick::Read(nth) => {
                let picked = &partitions[nth];
                prop_assert!(candidates().any(|p| p.number == picked.number));
                prop_assert!(candidates().all(|p| largest(p) >= largest(picked)));
                let far = naive.is_some_and(|slowest| largest(picked) > slowest.plus(drift));
                prop_assert!(!far);
            }
        }
    }

    #[test]
    fn a_mark_is_the_smallest_watermark_of_those_that_are_read(partitions in drawn(now())) {
        let rules = Watermarks::lag(Duration::from_millis(3));
        let count = |doing| partitions.iter().filter(|p| p.doing == doing).count();
        let read = partitions.iter().filter(|p| p.doing == Doing::Reading);
        let expected = match read.map(|p| p.clock.largest.minus(3)).min() {
            Some(smallest) => Mark::Reading(smallest),
            None if count(Doing::Ended) == partitions.len() => Mark::Ended,
            None => Mark::Idle,
        };
        prop_assert_eq!(mark(&partitions, rules, Ends::ForGood), expected);
    }
}
