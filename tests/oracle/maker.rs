//! The records of the hostile input, aimed at every edge.
//!
//! A partition is a list of moves of a clock: forward, back within the lag, to a border of a
//! window, onto the very instant at which something closes and one beside it, to an instant that
//! another partition used. Some records repeat an earlier id around the edge of its retention, some
//! are broken, some only look it. The generator aims; it does not judge: what a record is worth is
//! for the oracle to say.

use super::hostile::Plan;
use super::malformed::{Edit, Members, apply, odd, plain, wrong};
use super::text::{self, Rng};
use super::time::Unit;
use super::{Job, Params, time};

/// A record before it is put into a file or a topic.
#[derive(Clone, Debug)]
pub struct Item {
    pub value: Vec<u8>,
    /// What the record says of its time, if anything.
    pub time: Option<i64>,
}

/// Most partitions live around here.
pub const BASE: i64 = 1_700_000_000_000;
pub const DAY: i64 = 86_400_000;

/// The records of a plan, by partition.
pub fn items(plan: &Plan, params: &Params) -> Vec<Vec<Item>> {
    let mut wrong = wrong(params.job);
    if params.unit == Unit::Nanoseconds {
        // These are times then, behind which all else is late.
        let ends: [&[u8]; 2] = [b"9223372036854775807", b"-9223372036854775808"];
        wrong.retain(|edit| !matches!(edit, Edit::Value(_, value) if ends.contains(value)));
    }
    let mut maker = Maker {
        rng: Rng(plan.seed),
        params,
        wrong,
        odd: odd(params.job),
        newest: BASE,
        times: Vec::new(),
        used: Vec::new(),
        serial: 0,
    };
    (0..plan.partitions)
        .map(|i| maker.partition(i, plan))
        .collect()
}

struct Maker<'a> {
    rng: Rng,
    params: &'a Params,
    wrong: Vec<Edit>,
    odd: Vec<Edit>,
    /// Largest time in this partition so far.
    newest: i64,
    /// Times in the partitions before this one, for ties.
    times: Vec<i64>,
    /// Ids in all partitions so far, with their times.
    used: Vec<(String, i64)>,
    serial: usize,
}

impl Maker<'_> {
    /// The first partition is an ordinary one; the others are of any kind.
    fn partition(&mut self, index: usize, plan: &Plan) -> Vec<Item> {
        let size = self.params.size;
        let kind = if index == 0 { 0 } else { self.rng.below(9) };
        let mut items = Vec::new();
        let (start, records) = match kind {
            0..=3 => (BASE + self.rng.between(0, 2 * size), plan.records),
            4 => (BASE - DAY, plan.records),
            5 => (-2 * size - self.rng.between(0, size), plan.records),
            6 => (time::FIRST, plan.records),
            7 => (BASE, 0),
            _ => (BASE, 1),
        };
        self.newest = start;
        let mut queue = Vec::new();
        while items.len() < records {
            let time = queue.pop().unwrap_or_else(|| self.next(&mut queue));
            self.newest = self.newest.max(time);
            items.push(self.item(time));
        }
        if kind == 6 && records > 0 {
            // Out of the first year, and then up to the last instant: after it nearly all is late.
            let end = [time::LAST - size, time::LAST - 1, time::LAST, BASE];
            let auto = [99_999_999_999, 100_000_000_000, BASE, 99_999_999_999_000];
            for at in [-100_000_000_000, time::FIRST]
                .into_iter()
                .chain(auto)
                .chain(end)
            {
                items.push(self.item(at));
            }
        }
        if plan.huge && records > 0 {
            let limit = self.params.max_record_bytes;
            for bytes in [limit, limit + 1, limit - 1, limit + 100_000] {
                items.push(self.padded(bytes));
            }
        }
        self.times.extend(items.iter().filter_map(|item| item.time));
        items
    }

    /// The next time; more that belong to the same move go to the queue, the last of them first.
    fn next(&mut self, queue: &mut Vec<i64>) -> i64 {
        let Params { size, lag, .. } = *self.params;
        let newest = self.newest;
        let beside = self.rng.between(-1, 1);
        let time = match self.rng.below(100) {
            0..35 => newest + self.rng.between(0, size / 4),
            35..60 => newest - self.rng.between(0, lag + size / 2),
            60..70 => self.params.window_start(newest) + self.rng.between(-1, 1) * size + beside,
            70..82 => self.edge(queue) + beside,
            82..85 => newest,
            85..96 => self.tie(queue),
            96 => newest + self.rng.between(0, 20) * size,
            97 => newest + DAY / 24,
            98 => newest - DAY,
            _ => newest + beside,
        };
        time.clamp(time::FIRST, time::LAST)
    }

    /// A time of another partition that is in reach, often repeated; else the next one it used.
    fn tie(&mut self, queue: &mut Vec<i64>) -> i64 {
        let reach = self.newest - self.params.lag..=self.newest + self.params.size;
        let near: Vec<i64> = self
            .times
            .iter()
            .filter(|t| reach.contains(t))
            .copied()
            .collect();
        let later = self.times.iter().filter(|time| **time > self.newest).min();
        let time = match near.as_slice() {
            [] => later.copied().unwrap_or(self.newest),
            near => self.rng.pick(near),
        };
        queue.extend(vec![time; self.rng.below(3)]);
        time
    }

    /// The latest time that is still too late, give or take the one beside it.
    fn edge(&mut self, queue: &mut Vec<i64>) -> i64 {
        let Params {
            size,
            lag,
            allowed_lateness,
            ..
        } = *self.params;
        let horizon = self.newest - lag - allowed_lateness;
        match self.params.job {
            Job::UserActivity => horizon - 1,
            Job::BidStats if self.rng.one_in(3) => self.params.window_start(horizon),
            // Moves the horizon to the end of a window, then asks for a place in it.
            Job::BidStats => {
                let end = self.params.window_start(horizon) + self.rng.between(1, 2) * size;
                queue.push(end - self.rng.pick(&[1, size, size - 1]));
                end + lag + allowed_lateness
            }
        }
    }

    fn item(&mut self, time: i64) -> Item {
        match self.rng.below(100) {
            0..8 => {
                // A broken record claims a time that would make all after it late, if it were
                // believed.
                let newest = self.newest;
                let (members, _) = self.members((newest + DAY / 2).min(time::LAST));
                self.newest = newest;
                let mut edit = self.rng.pick(&self.wrong);
                if matches!(edit, Edit::Deep(100_000, _)) && !self.rng.one_in(4) {
                    edit = Edit::Drop(0);
                }
                let value = apply(edit, &members);
                Item { value, time: None }
            }
            8..20 => {
                let (members, time) = self.members(time);
                let value = apply(self.rng.pick(&self.odd), &members);
                Item {
                    value,
                    time: Some(time),
                }
            }
            _ => {
                let (members, time) = self.members(time);
                let value = plain(&members);
                Item {
                    value,
                    time: Some(time),
                }
            }
        }
    }

    /// A good record's members in the order of the contract, and the time that they say.
    fn members(&mut self, time: i64) -> (Members, i64) {
        match self.params.job {
            Job::BidStats => self.bid(time),
            Job::UserActivity => self.event(time),
        }
    }

    fn bid(&mut self, time: i64) -> (Members, i64) {
        let rng = &mut self.rng;
        let auctions = [
            "1",
            "2",
            "3",
            "0",
            "-0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
        ];
        let auction = rng.pick(&auctions).to_owned();
        // Two of the largest in a window are more than 64 bits hold.
        let price = match rng.below(4) {
            0 => rng.pick(&[i64::MAX, i64::MIN, i64::MAX - 1, 0, -1]),
            _ => rng.between(-5, 1_000),
        };
        let number = text::integer(rng, time, self.params.unit);
        let channel = rng.pick(&["web", "", "ünï", "a\"b\\c/\u{1}"]);
        let members = vec![
            ("auction".to_owned(), auction),
            ("bidder".to_owned(), rng.between(0, 50).to_string()),
            ("price".to_owned(), price.to_string()),
            ("channel".to_owned(), text::string(rng, channel)),
            ("date_time".to_owned(), number.to_string()),
        ];
        (members, self.params.unit.millis(number).unwrap_or(time))
    }

    fn event(&mut self, time: i64) -> (Members, i64) {
        let (id, time) = self.id(time);
        self.used.push((id.clone(), time));
        let rng = &mut self.rng;
        // Composed and decomposed are two users. The last two types sort one way as UTF-8, the
        // other as UTF-16.
        let users = [
            "u1",
            "u2",
            "",
            "é",
            "e\u{301}",
            "U1",
            "u1 ",
            "q\"\\/\u{8}\u{0}\u{7f}",
            "😀",
        ];
        let kinds = ["view", "buy", "", "View", "v\n", "\u{fffd}", "😀"];
        let data = rng.pick(&["{}", "{\"page\":\"/x\"}", "{\"a\":[1,{}],\"a\":null}"]);
        let user = if rng.one_in(2) {
            "u1"
        } else {
            rng.pick(&users)
        };
        let kind = rng.pick(&kinds);
        let members = vec![
            ("eventId".to_owned(), text::string(rng, &id)),
            ("eventType".to_owned(), text::string(rng, kind)),
            ("userId".to_owned(), text::string(rng, user)),
            (
                "timestamp".to_owned(),
                text::stamp(rng, time, self.params.unit),
            ),
            ("data".to_owned(), data.to_owned()),
        ];
        (members, time)
    }

    /// A new id, or one that was used, at a time around the end of its retention or near its first
    /// use.
    fn id(&mut self, time: i64) -> (String, i64) {
        let rng = &mut self.rng;
        if self.used.is_empty() || !rng.one_in(4) {
            self.serial += 1;
            let id = match rng.below(30) {
                0 => String::new(),
                1 => format!("é{}", self.serial % 7),
                _ => format!("e{}", self.serial),
            };
            return (id, time);
        }
        let recent = self.used.len().min(200);
        let (id, used) = self.used[self.used.len() - 1 - rng.below(recent)].clone();
        let retention = self.params.retention;
        let again = match rng.below(4) {
            0 => used + retention + rng.between(-1, 1),
            1 => used - retention + rng.between(-1, 1),
            2 => used + rng.between(-2, 2),
            _ => time,
        };
        // Far from this partition's clock it would only be late, or make all after it late.
        let near = self.params.lag + 2 * self.params.size.max(retention);
        let in_reach = (again - self.newest).abs() <= near;
        let again = if in_reach { again } else { time };
        let again = again.clamp(time::FIRST, time::LAST);
        self.newest = self.newest.max(again);
        (id, again)
    }

    /// A good record of so many bytes.
    fn padded(&mut self, bytes: usize) -> Item {
        let (members, time) = self.members(self.newest);
        let mut value = plain(&members);
        let (open, close) = (b",\"x\":\"", b"\"}");
        value.pop();
        let fill = bytes - value.len() - open.len() - close.len();
        // Two-byte characters, so that a cut after 1,024 bytes can fall inside one.
        let odd = if fill % 2 == 1 { "x" } else { "" };
        value.extend(open);
        value.extend((odd.to_owned() + &"é".repeat(fill / 2)).as_bytes());
        value.extend(close);
        Item {
            value,
            time: Some(time),
        }
    }
}
