//! JSON, in and out.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anabranch::State;
use anabranch::connectors::generator::{behaviour, bids};
use anabranch::connectors::{MemorySource, SinkPort};
use anabranch::event::checked::{AnyObject, AnyString, Stamp};
use anabranch::prelude::*;
use serde::de::DeserializeOwned;

use crate::jobs::{Case, Measured, Shape, go};
use crate::made::{Item, Made, Total};
use crate::plain;

const JSON: u64 = 400_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: AnyString,
    date_time: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    event_id: String,
    event_type: String,
    user_id: String,
    timestamp: Stamp,
    data: AnyObject,
}

/// Reads lines that lie in memory, by `describe`; gives how many of them entered.
fn lines(
    name: &'static str,
    lines: &MemorySource,
    describe: impl Fn(&Flow<'_>, Total) + Clone + Send + Sync + 'static,
) -> Case {
    let lines = lines.clone();
    let run = move || {
        let (total, describe) = (Total::default(), describe.clone());
        let sum = total.clone();
        let job = Job::new(name, move |flow: &Flow<'_>| {
            describe(flow, sum.clone());
            Ok(())
        });
        go(&job, lines.clone(), 1, 0);
        assert_eq!(total.get(), JSON, "{name}");
    };
    Case {
        name,
        records: JSON,
        run: Box::new(run),
    }
}

fn count<T: State>(events: Stream<'_, T>, total: &Total) {
    let mut part = total.part();
    events
        .filter(move |_| {
            part.add(1);
            false
        })
        .event_time(|_| 0_i64, Watermarks::lag(Duration::ZERO))
        .map(|_| 0_u64)
        .sink("out", SinkPort::json);
}

fn made(make: &dyn Fn(u32, u64, &mut Vec<u8>)) -> Vec<Vec<u8>> {
    let line = |index| {
        let mut line = Vec::new();
        make(0, index, &mut line);
        line
    };
    (0..JSON).map(line).collect()
}

/// Decodes each line to an owned value, or only goes over them.
fn decode_loop<T: DeserializeOwned + 'static>(lines: Vec<Vec<u8>>) -> [Case; 2] {
    let lines = Arc::new(lines);
    let taken = Arc::clone(&lines);
    let decode = move || {
        let decoded = |line: &&Vec<u8>| black_box(sonic_rs::from_slice::<T>(line)).is_ok();
        lines.iter().filter(decoded).count() as u64
    };
    let take = move || {
        taken
            .iter()
            .filter(|line| !black_box(line).is_empty())
            .count() as u64
    };
    [
        plain::case("loop-decode", JSON, JSON, decode),
        plain::case("loop-lines", JSON, JSON, take),
    ]
}

/// Decodes lines of each kind, or only takes them.
pub(crate) fn decode() -> [Measured; 2] {
    let nothing = |flow: &Flow<'_>, total: Total| {
        count(
            flow.source::<u8>("in").decode(|_| Ok::<_, String>(0)),
            &total,
        );
    };
    let bid = |flow: &Flow<'_>, total: Total| count(flow.source::<Bid>("in").json(), &total);
    let event = |flow: &Flow<'_>, total: Total| count(flow.source::<Envelope>("in").json(), &total);
    let (of_bids, mut noise) = (made(&*bids(1)), Vec::new());
    // Some made records are broken on purpose; the first that are not, again and again.
    let make = behaviour(1);
    for index in 0.. {
        let mut line = Vec::new();
        make(0, index, &mut line);
        if sonic_rs::from_slice::<Envelope>(&line).is_ok() {
            noise.push(line);
        }
        if noise.len() == 10_000 {
            break;
        }
    }
    let of_events = made(&move |_, index, out: &mut Vec<u8>| {
        out.extend_from_slice(&noise[usize::try_from(index).expect("small") % noise.len()]);
    });
    let memory = |lines: &Vec<Vec<u8>>| MemorySource::new("in", [lines.clone()]);
    let (bids, events) = (memory(&of_bids), memory(&of_events));
    [
        Measured {
            name: "decode a bid to owned",
            goal: 222.0,
            with: lines("decode-bid", &bids, bid),
            without: lines("bytes-bid", &bids, nothing),
            plain: Some(decode_loop::<Bid>(of_bids)),
        },
        Measured {
            name: "decode an envelope to owned",
            goal: 222.0,
            with: lines("decode-envelope", &events, event),
            without: lines("bytes-envelope", &events, nothing),
            plain: Some(decode_loop::<Envelope>(of_events)),
        },
    ]
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stats {
    auction: u64,
    window_start: EventTime,
    cnt: u64,
    sum_price: i128,
    max_price: i64,
}

fn stats(item: Item) -> Stats {
    Stats {
        auction: 1_000 + item.key,
        window_start: EventTime::from_millis(1_714_137_600_000 + item.time),
        cnt: 7,
        sum_price: i128::from(item.value) * 100,
        max_price: item.value,
    }
}

pub(crate) fn encode(shape: Shape) -> Measured {
    Measured {
        name: "encode",
        goal: 83.0,
        with: encoding("encode", shape, true),
        without: encoding("encode-none", shape, false),
        plain: Some([true, false].map(|all| encode_loop(shape, all))),
    }
}

/// Writes every item into one buffer, or none.
fn encode_loop(shape: Shape, all: bool) -> Case {
    let work = move || {
        let mut buffer = Vec::new();
        let encoded = |offset: &u64| {
            let stats = black_box(stats(shape.item(*offset)));
            if buffer.len() > 1 << 20 {
                buffer.clear();
            }
            !all || sonic_rs::to_writer(&mut buffer, &stats).is_ok()
        };
        (0..shape.records).filter(encoded).count() as u64
    };
    plain::case("loop-encode", shape.records, shape.records, work)
}

/// Encodes every item, or none.
fn encoding(name: &'static str, shape: Shape, all: bool) -> Case {
    let run = move || {
        let total = Total::default();
        let sum = total.clone();
        let job = Job::new(name, move |flow: &Flow<'_>| {
            let mut part = sum.part();
            flow.source::<Item>("in")
                .decode(move |record| Ok::<_, String>(shape.item(record.offset)))
                .event_time(|item| item.time, Watermarks::lag(Duration::ZERO))
                .map(stats)
                .filter(move |stats| {
                    part.add(1);
                    all || stats.auction == 0
                })
                .sink("out", SinkPort::json);
            Ok(())
        });
        let source = Made {
            partitions: 1,
            records: shape.records,
            ..Made::default()
        };
        go(&job, source, 1, if all { shape.records } else { 0 });
        assert_eq!(total.get(), shape.records, "{name}");
    };
    Case {
        name,
        records: shape.records,
        run: Box::new(run),
    }
}
