//! What the jobs `bid_stats` and `user_activity` must answer, computed the slow and plain way.
//!
//! Written from the contract alone, and sharing no code with the engine: its own JSON scanner, its
//! own calendar, its own door, and loops over sorted vectors in place of operators. It knows no
//! epochs, no workers and no watermark of the whole job, because the answer may not depend on any
//! of them: who is late follows from a record's own partition, and everything else from the order
//! of positions.
//!
//! [`run`] takes an [`Input`] and [`Params`] and gives an [`Outcome`]; [`compare`]
//! holds what a job wrote against it; [`hostile`] and [`flights`] make input.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate that includes this module uses another part of it"
)]

pub mod activity;
pub mod bids;
pub mod compare;
pub mod door;
pub mod flights;
pub mod hostile;
pub mod json;
pub mod maker;
pub mod malformed;
pub mod object;
pub mod text;
pub mod time;

use std::path::Path;

use time::Unit;

/// The input of a job's one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A folder of JSON-lines files, in any order; partitions are numbered in byte order of the
    /// names.
    Files(Vec<FilePart>),
    /// A topic; its partitions carry their own numbers.
    Topic {
        name: String,
        partitions: Vec<TopicPart>,
    },
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePart {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPart {
    pub number: i32,
    pub records: Vec<TopicRecord>,
}

/// One record of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRecord {
    pub offset: i64,
    /// Milliseconds; without one, no record is too far ahead.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

/// Names and values, in order.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

impl Input {
    /// Writes the files into `dir`, which exists.
    ///
    /// # Panics
    /// When a file cannot be written, and on a topic.
    pub fn write_to(&self, dir: &Path) {
        let Input::Files(files) = self else {
            panic!("only files can be written to a folder");
        };
        for file in files {
            std::fs::write(dir.join(&file.name), &file.bytes).expect("an input file is written");
        }
    }
}

/// Which job, because the lateness rule differs (a window closes at its end, dedup one past the
/// event).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    BidStats,
    UserActivity,
}

/// A job's parameters; durations in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    pub job: Job,
    pub size: i64,
    pub lag: i64,
    pub allowed_lateness: i64,
    /// Of dedup; `bid_stats` has none.
    pub retention: i64,
    pub unit: Unit,
    /// `None` is off. Files have no such rule.
    pub max_ahead: Option<i64>,
    pub max_record_bytes: usize,
}

impl Params {
    /// The defaults of `bid_stats`.
    pub fn bid_stats() -> Self {
        Self {
            job: Job::BidStats,
            size: 10_000,
            lag: 2_000,
            allowed_lateness: 0,
            retention: 0,
            unit: Unit::Milliseconds,
            max_ahead: Some(600_000),
            max_record_bytes: 900_000,
        }
    }

    /// The defaults of `user_activity`.
    pub fn user_activity() -> Self {
        Self {
            job: Job::UserActivity,
            size: 60_000,
            lag: 5_000,
            retention: 3_600_000,
            unit: Unit::Auto,
            ..Self::bid_stats()
        }
    }

    /// The defaults of a job.
    pub fn of(job: Job) -> Self {
        match job {
            Job::BidStats => Self::bid_stats(),
            Job::UserActivity => Self::user_activity(),
        }
    }

    /// The name of the job's source.
    pub fn source(&self) -> &'static str {
        match self.job {
            Job::BidStats => "bids",
            Job::UserActivity => "events",
        }
    }

    /// `KEY=VALUE` for `--set`, all of the job's parameters.
    pub fn settings(&self) -> Vec<String> {
        let mut all = vec![
            format!("size={}ms", self.size),
            format!("lag={}ms", self.lag),
            format!("allowed-lateness={}ms", self.allowed_lateness),
            format!("timestamp-unit={}", self.unit.name()),
        ];
        if self.job == Job::UserActivity {
            all.push(format!("retention={}ms", self.retention));
        }
        all
    }

    /// The start of the window that holds `time`.
    pub fn window_start(&self, time: i64) -> i64 {
        time.div_euclid(self.size) * self.size
    }

    /// From which horizon on an event of `time` comes too late.
    pub fn closing(&self, time: i64) -> i64 {
        match self.job {
            Job::BidStats => self.window_start(time) + self.size,
            Job::UserActivity => time + 1,
        }
    }
}

/// Where a record stood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// Line from 1.
    File { file: String, line: u64 },
    Topic {
        topic: String,
        partition: i32,
        offset: i64,
    },
}

/// A record that left as late or as a dead letter, in the form in which it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    pub at: At,
    pub source: String,
    pub reason: String,
    /// Of late records only.
    pub event_time: Option<i64>,
    /// `W_p` before the record; of late records only.
    pub watermark: Option<i64>,
    /// The record as read; its first 1,024 bytes where it was cut; none where it had no value.
    pub raw: Option<Vec<u8>>,
    /// The whole length of what was cut.
    pub raw_bytes: Option<u64>,
}

/// What became of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: usize,
    pub used: usize,
    pub duplicates: usize,
    pub late: usize,
    pub dead: usize,
    pub results: usize,
}

impl Counts {
    /// No record is lost and none is made up.
    pub fn balanced(&self) -> bool {
        self.read == self.used + self.duplicates + self.late + self.dead
    }

    /// The balance as the summary of a bounded run begins.
    pub fn summary(&self) -> String {
        format!(
            "read {} = used {} + duplicates {} + late {} + dead {} · results {}",
            grouped(self.read),
            grouped(self.used),
            grouped(self.duplicates),
            grouped(self.late),
            grouped(self.dead),
            grouped(self.results),
        )
    }
}

/// A number with a comma after each group of thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What a bounded run must give. Results are sorted by key, those of one key by window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// JSON lines without their line ends.
    pub results: Vec<String>,
    /// Sorted by coordinates.
    pub late: Vec<Letter>,
    /// Sorted by coordinates.
    pub dead: Vec<Letter>,
    pub counts: Counts,
}

/// What a bounded run of the job must give.
pub fn run(input: &Input, params: &Params) -> Outcome {
    match params.job {
        Job::BidStats => bids::run(input, params),
        Job::UserActivity => activity::run(input, params),
    }
}

/// The stamp of a result whose window starts at `start`; `None`: the time of writing.
pub fn stamp(start: i64, largest: i64, params: &Params) -> Option<i64> {
    let stamp = largest.min(start + params.size - 1);
    (stamp > 0).then_some(stamp)
}

/// The event times of the records that are no dead letters, late ones included, with partition and
/// offset.
pub fn times(input: &Input, params: &Params) -> Vec<(usize, i64, i64)> {
    let verdicts = door::judge(input, params, |value| match params.job {
        Job::BidStats => bids::decode(value, params).map(|(time, _)| (time, ())),
        Job::UserActivity => activity::decode(value, params).map(|(time, _)| (time, ())),
    });
    let late = verdicts.late.iter().filter_map(|letter| match letter.at {
        At::File { .. } => None,
        At::Topic {
            partition, offset, ..
        } => Some((usize::try_from(partition).ok()?, offset, letter.event_time?)),
    });
    let entered = verdicts.entered.iter();
    let entered = entered.map(|event| (event.partition, event.offset, event.time));
    entered.chain(late).collect()
}
