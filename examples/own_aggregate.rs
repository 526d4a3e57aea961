//! An aggregate of one's own: a percentile by powers of two, and the check of its laws.

use std::collections::BTreeMap;

use anabranch::connectors::{MemorySink, MemorySource, NullSink, Style};
use anabranch::prelude::*;
use anabranch::testing;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Request {
    path: String,
    micros: u64,
    at: i64,
}

/// The smallest power of two below which so many of 100 requests took less.
struct Percentile(u64);

impl Aggregate<Request> for Percentile {
    /// All of a request that crosses to another worker: how many bits its time has.
    type Input = u32;
    /// Requests by number of bits: counts, so that the order of adding cannot matter.
    type Acc = BTreeMap<u32, u64>;
    type Out = u64;

    fn input(&self, request: &Request) -> u32 {
        u64::BITS - request.micros.leading_zeros()
    }

    fn init(&self) -> Self::Acc {
        BTreeMap::new()
    }

    fn add(&self, acc: &mut Self::Acc, bits: u32) {
        *acc.entry(bits).or_default() += 1;
    }

    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        for (bits, count) in other {
            *acc.entry(bits).or_default() += count;
        }
    }

    fn finish(&self, acc: &Self::Acc) -> u64 {
        let wanted = acc.values().sum::<u64>() * self.0;
        let mut below = 0;
        let reached = acc.iter().find(|(_, count)| {
            below += *count * 100;
            below >= wanted
        });
        reached.map_or(0, |(bits, _)| 1_u64.checked_shl(*bits).unwrap_or(u64::MAX))
    }
}

fn slowness(flow: &Flow<'_>) -> Result {
    let size = flow.param("size", Duration::from_secs(10), "length of a window")?;
    flow.source::<Request>("requests")
        .json()
        .event_time(
            |request| request.at,
            Watermarks::lag(Duration::from_secs(1)),
        )
        .key_by_ref(|request| request.path.as_str())
        .window(Tumbling::of(size))
        .aggregate(|a| {
            (
                a.custom(Percentile(50)),
                a.custom(Percentile(99)),
                a.count(),
            )
        })
        .emit_final()
        .map(|w| (w.key, w.window.start, w.value))
        .sink("slowness", |s| s.json().key_ref(|row| row.0.as_str()));
    Ok(())
}

fn request(micros: u64) -> Request {
    Request {
        path: "/".to_owned(),
        micros,
        at: 0,
    }
}

pub(crate) fn main() -> Result {
    // Adding in any order and merging in any grouping must give the same, bit for bit.
    let requests = [0, 1, 700, 1_023, 1_024, u64::MAX].map(request);
    testing::assert_laws(&Percentile(50), &requests);

    let lines: Vec<String> = (0..100)
        .map(|n| {
            let micros = if n % 10 == 0 { 40_000 } else { 900 };
            format!(r#"{{"path":"/","micros":{micros},"at":{n}}}"#)
        })
        .collect();
    let lines = lines.iter().map(String::as_str);
    let results = MemorySink::new(Style::Lines);
    let settings = Settings::new()
        .workers(2)
        .bind_source("requests", MemorySource::new("requests", [lines]))
        .bind_sink("slowness", results.clone())
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    Job::new("slowness", slowness).run(settings)?;
    assert_eq!(results.lines(), [r#"["/",0,[1024,65536,100]]"#]);
    Ok(())
}
