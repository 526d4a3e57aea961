//! The log that a job reads while it is killed: hostile, but of a kind that lets windows close all
//! along, so that each kill strikes between results.
//!
//! All partitions follow one clock, each with a skew, gaps and disorder of its own. Records are
//! late, repeated, malformed, null, or stamped so that they are too far ahead; some stand exactly
//! at the edge of a window, of the lag or of a retention. What each is worth the oracle says.

use std::collections::VecDeque;

use crate::oracle::maker::BASE;
use crate::oracle::malformed::{Edit, Members, apply, odd, plain, wrong};
use crate::oracle::text::{self, Rng};
use crate::oracle::{Input, Job, Params, TopicPart, TopicRecord};

/// Event time between two records of the log.
const STEP: i64 = 10;
/// Ids that may come again.
const KNOWN: usize = 8_000;

/// All that a round's topic is going to hold.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) topic: String,
    pub(crate) params: Params,
    pub(crate) partitions: Vec<Vec<TopicRecord>>,
    /// The partition of each record, in the order in which they are produced.
    pub(crate) order: Vec<usize>,
}

impl Log {
    /// The log of a seed, with as many records.
    pub(crate) fn make(seed: u64, job: Job, topic: &str, records: usize) -> Self {
        let mut rng = Rng(seed ^ 0xC4A5);
        let params = params(&mut rng, job);
        let count = 2 + rng.below(4);
        let mut maker = Maker::new(rng, &params, count);
        let mut partitions = vec![Vec::new(); count];
        let mut order = Vec::with_capacity(records);
        for _ in 0..records {
            let partition = maker.choose();
            let mut record = maker.record(partition);
            record.offset = offset(partitions[partition].len());
            partitions[partition].push(record);
            order.push(partition);
        }
        Self {
            topic: topic.to_owned(),
            params,
            partitions,
            order,
        }
    }

    /// The whole log as the oracle reads it.
    pub(crate) fn input(&self) -> Input {
        let whole: Vec<_> = self.partitions.iter().map(|p| offset(p.len())).collect();
        self.until(&whole)
    }

    /// The log before the cut.
    pub(crate) fn until(&self, next: &[i64]) -> Input {
        let parts = self.partitions.iter().zip(next).zip(0..);
        let parts = parts.map(|((records, next), number)| TopicPart {
            number,
            records: records[..usize::try_from(*next).expect("a cut")].to_vec(),
        });
        Input::Topic {
            name: self.topic.clone(),
            partitions: parts.collect(),
        }
    }
}

fn offset(length: usize) -> i64 {
    i64::try_from(length).expect("a length fits")
}

/// Windows small enough that many close, and lateness in all its kinds.
fn params(rng: &mut Rng, job: Job) -> Params {
    let allowed_lateness = rng.pick(&[0, 0, 700]);
    let (size, lag) = match job {
        Job::BidStats => (rng.pick(&[1_000, 2_000, 5_000]), rng.pick(&[500, 2_000])),
        Job::UserActivity => (rng.pick(&[5_000, 20_000]), rng.pick(&[1_000, 5_000])),
    };
    let retention = match job {
        Job::BidStats => 0,
        Job::UserActivity => rng.pick(&[10_000, 60_000, 3_600_000]),
    };
    Params {
        size,
        lag,
        allowed_lateness,
        retention,
        ..Params::of(job)
    }
}

/// What a partition is like.
struct Habit {
    /// How often it is chosen, against the others.
    weight: usize,
    /// Its clock less the common one.
    skew: i64,
    /// Largest time so far.
    newest: i64,
    /// Not chosen before this record of the log.
    silent_until: i64,
}

struct Maker<'a> {
    rng: Rng,
    params: &'a Params,
    habits: Vec<Habit>,
    wrong: Vec<Edit>,
    odd: Vec<Edit>,
    /// Records so far.
    made: i64,
    /// Ids with their times.
    used: VecDeque<(String, i64)>,
}

impl<'a> Maker<'a> {
    fn new(mut rng: Rng, params: &'a Params, partitions: usize) -> Self {
        let mut habit = |_| Habit {
            weight: rng.pick(&[1, 3, 8]),
            skew: rng.between(0, 2 * params.size),
            newest: BASE,
            silent_until: 0,
        };
        let habits = (0..partitions).map(&mut habit).collect();
        // A value of 100,000 brackets costs more than all others of a round together.
        let mut wrong = wrong(params.job);
        wrong.retain(|edit| !matches!(edit, Edit::Deep(100_000, _)));
        Self {
            rng,
            params,
            habits,
            wrong,
            odd: odd(params.job),
            made: 0,
            used: VecDeque::new(),
        }
    }

    /// The partition of the next record. Now and then one falls silent for a while, and holds the
    /// watermark.
    fn choose(&mut self) -> usize {
        let made = self.made;
        let awake = |habit: &&Habit| habit.silent_until <= made;
        let total: usize = self.habits.iter().filter(awake).map(|h| h.weight).sum();
        let mut ticket = self.rng.below(total.max(1));
        let found = self.habits.iter().position(|habit| {
            let takes = habit.silent_until <= made;
            let hit = takes && ticket < habit.weight;
            ticket = ticket.saturating_sub(if takes { habit.weight } else { 0 });
            hit
        });
        let found = found.unwrap_or(0);
        if self.rng.one_in(2_000) {
            self.habits[found].silent_until = made + self.rng.between(100, 1_500);
        }
        found
    }

    fn record(&mut self, partition: usize) -> TopicRecord {
        self.made += 1;
        let clock = BASE + self.made * STEP + self.habits[partition].skew;
        let time = self.time(partition, clock);
        let (value, time) = self.value(time);
        if let Some(time) = time {
            let newest = &mut self.habits[partition].newest;
            *newest = time.max(*newest);
        }
        let rng = &mut self.rng;
        let ahead = self.params.max_ahead.unwrap_or_default();
        let stamp = time.map_or(clock, |time| match rng.below(300) {
            0 => time - ahead - 1,
            1 => time - ahead,
            2 => time + 86_400_000,
            _ => time,
        });
        let value = if rng.one_in(300) { None } else { Some(value) };
        TopicRecord {
            offset: 0,
            timestamp: Some(stamp),
            key: rng.pick(&[None, Some(b"k".to_vec()), Some(vec![0xFF, 0])]),
            value,
            headers: Vec::new(),
        }
    }

    fn time(&mut self, partition: usize, clock: i64) -> i64 {
        let Params {
            size,
            lag,
            allowed_lateness,
            ..
        } = *self.params;
        let rng = &mut self.rng;
        let beside = rng.between(-1, 1);
        let horizon = self.habits[partition].newest - lag - allowed_lateness;
        match rng.below(300) {
            0..180 => clock + rng.between(0, STEP),
            180..255 => clock - rng.between(0, lag),
            255..270 => self.params.window_start(clock) + beside,
            // The latest time that is still too late, and the ones beside it.
            270..280 => match self.params.job {
                Job::BidStats => self.params.window_start(horizon) + beside,
                Job::UserActivity => horizon - 1 + beside,
            },
            280..290 => clock - lag - rng.between(0, 2 * size),
            290..296 => {
                let other = rng.below(self.habits.len());
                self.habits[other].newest
            }
            296..298 => clock + rng.between(0, lag + size / 2),
            _ => clock - 3_600_000,
        }
    }

    /// A record's value, and the time that it says if it is believed.
    fn value(&mut self, time: i64) -> (Vec<u8>, Option<i64>) {
        let kind = self.rng.below(100);
        if kind < 3 {
            // It claims a time that would make all after it late.
            let (members, _) = self.members(time + 86_400_000);
            let edit = self.rng.pick(&self.wrong);
            return (apply(edit, &members), None);
        }
        let (members, time) = self.members(time);
        let value = if kind < 10 {
            apply(self.rng.pick(&self.odd), &members)
        } else {
            plain(&members)
        };
        (value, Some(time))
    }

    fn members(&mut self, time: i64) -> (Members, i64) {
        match self.params.job {
            Job::BidStats => (self.bid(time), time),
            Job::UserActivity => self.event(time),
        }
    }

    fn bid(&mut self, time: i64) -> Members {
        let rng = &mut self.rng;
        let auction = match rng.below(100) {
            0 => rng.pick(&[i64::MAX, i64::MIN, 0, -1]),
            _ => rng.between(1, 40),
        };
        // Two of the largest in a window are more than 64 bits hold.
        let price = match rng.below(20) {
            0 => rng.pick(&[i64::MAX, i64::MIN, 0, -1]),
            _ => rng.between(-5, 1_000),
        };
        let channel = rng.pick(&["web", "", "ünï", "a\"b\\c/\u{1}"]);
        vec![
            ("auction".to_owned(), auction.to_string()),
            ("bidder".to_owned(), rng.between(0, 50).to_string()),
            ("price".to_owned(), price.to_string()),
            ("channel".to_owned(), text::string(rng, channel)),
            ("date_time".to_owned(), time.to_string()),
        ]
    }

    fn event(&mut self, time: i64) -> (Members, i64) {
        let (id, time) = self.id(time);
        let rng = &mut self.rng;
        let users = ["u1", "u2", "", "é", "e\u{301}", "q\"\\/\u{0}", "😀"];
        let kinds = ["view", "buy", "", "v\n", "\u{fffd}", "😀"];
        let (kind, data) = (rng.pick(&kinds), rng.pick(&["{}", "{\"a\":[1,{}]}"]));
        let user = match rng.below(3) {
            0 => rng.pick(&users).to_owned(),
            _ => format!("user-{}", rng.below(12)),
        };
        let members = vec![
            ("eventId".to_owned(), text::string(rng, &id)),
            ("eventType".to_owned(), text::string(rng, kind)),
            ("userId".to_owned(), text::string(rng, &user)),
            (
                "timestamp".to_owned(),
                text::stamp(rng, time, self.params.unit),
            ),
            ("data".to_owned(), data.to_owned()),
        ];
        (members, time)
    }

    /// A new id, or one that was used a while ago, just now, or one retention ago.
    fn id(&mut self, time: i64) -> (String, i64) {
        let rng = &mut self.rng;
        let (id, at) = if self.used.is_empty() || !rng.one_in(5) {
            (format!("e{}", self.made), time)
        } else {
            let ago = usize::try_from(self.params.retention / STEP).expect("a count");
            let back = match rng.below(3) {
                0 => ago,
                1 => rng.below(20),
                _ => rng.below(self.used.len()),
            };
            let index = self.used.len() - 1 - back.min(self.used.len() - 1);
            let (id, used) = self.used[index].clone();
            let edge = used + self.params.retention + rng.between(-1, 1);
            let near = (edge - time).abs() <= self.params.lag;
            (id, if near { edge } else { time })
        };
        self.used.push_back((id.clone(), at));
        if self.used.len() > KNOWN {
            self.used.pop_front();
        }
        (id, at)
    }
}
