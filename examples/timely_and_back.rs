//! Down to timely and differential, and back: how many people visited each page in each minute.
//!
//! The stream that [`EventStream::timely`] hands out has epochs as timestamps. Which epoch a visit
//! came in is no fact of the log, so what is computed here must not show it: the set of (minute,
//! page, user) is the same however it is cut, and its members go back at the end of their minute.

use anabranch::connectors::{MemorySink, MemorySource, NullSink, Style};
use anabranch::differential_dataflow::AsCollection;
use anabranch::differential_dataflow::operators::ThresholdTotal;
use anabranch::prelude::*;
use anabranch::stable_hash;
use anabranch::time::Epoch;
use anabranch::timely::dataflow::StreamVec;
use anabranch::timely::dataflow::channels::pact::Pipeline;
use anabranch::timely::dataflow::operators::Operator;
use anabranch::timely::dataflow::operators::vec::Map;

const MINUTE: i64 = 60_000;

type Builder<T> = anabranch::timely::container::CapacityContainerBuilder<Vec<T>>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Visit {
    page: String,
    user: String,
    at: i64,
}

/// One visit of each user to each page in each minute, at the minute's last millisecond.
fn first_visits(visits: StreamVec<'_, Epoch, Event<Visit>>) -> StreamVec<'_, Epoch, Event<Visit>> {
    let updates = visits.unary::<Builder<_>, _, _, _>(Pipeline, "updates", |_, _| {
        |input, output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for Event { at, value } in batches.flat_map(|batch| batch.drain(..)) {
                    let minute = at.time.millis().div_euclid(MINUTE) * MINUTE;
                    let at = minute + MINUTE - 1;
                    session.give((Visit { at, ..value }, *time.time(), 1_isize));
                }
            });
        }
    });
    // Each member is added once and never taken out. Differential keeps all it has seen.
    let members = updates.as_collection().distinct_total().inner;
    members.map(|(visit, _, _)| Event {
        at: Position {
            time: EventTime::from_millis(visit.at),
            source: 0,
            partition: 0,
            offset: stable_hash(&visit),
            index: 0,
        },
        value: visit,
    })
}

fn visitors(flow: &Flow<'_>) -> Result {
    let lag = flow.param(
        "lag",
        Duration::from_secs(5),
        "how far out of order visits may come",
    )?;
    flow.source::<Visit>("visits")
        .json()
        .event_time(|visit| visit.at, Watermarks::lag(lag))
        .timely(first_visits)
        .key_by_ref(|visit| visit.page.as_str())
        .window(Tumbling::of(Duration::from_mins(1)))
        .aggregate(|a| a.count())
        .emit_final()
        .map(|w| (w.key, w.window.start, w.value))
        .sink("visitors", |s| s.json().key_ref(|row| row.0.as_str()));
    Ok(())
}

/// The job, for the test that runs it in every way.
pub(crate) fn job() -> Job {
    Job::new("visitors", visitors)
}

/// What it reads: two partitions.
pub(crate) fn visits() -> [Vec<String>; 2] {
    let visit = |page: &str, user: &str, at: i64| {
        format!(r#"{{"page":"{page}","user":"{user}","at":{at}}}"#)
    };
    [
        vec![
            visit("/", "ada", 0),
            visit("/", "ada", 59_999),
            visit("/", "bob", 58_000),
            visit("/", "ada", 60_000),
        ],
        vec![
            visit("/", "ada", 30_000),
            visit("/help", "ada", 61_000),
            visit("/", "bob", 59_000),
        ],
    ]
}

/// What it says of that.
pub(crate) const VISITORS: [&str; 3] = [r#"["/",0,2]"#, r#"["/",60000,1]"#, r#"["/help",60000,1]"#];

pub(crate) fn main() -> Result {
    let visits = visits().map(|lines| lines.into_iter().map(String::into_bytes));
    let results = MemorySink::new(Style::Lines);
    let settings = Settings::new()
        .workers(2)
        .bind_source("visits", MemorySource::new("visits", visits))
        .bind_sink("visitors", results.clone())
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    job().run(settings)?;
    let mut lines = results.lines();
    lines.sort_unstable();
    assert_eq!(lines, VISITORS);
    Ok(())
}
