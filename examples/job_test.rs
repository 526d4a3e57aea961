//! The test of a job, in three lines: it runs with 1 to 4 workers, in every cut and with random
//! pauses, and all runs must say this.

#![expect(
    clippy::unnecessary_wraps,
    reason = "a description returns a result: this one has no parameter that could be wrong"
)]

use anabranch::prelude::*;
use anabranch::testing;

#[derive(Clone, Serialize, Deserialize)]
struct Visit {
    page: String,
    at: i64,
}

/// Visits of each page in each second.
fn visits(flow: &Flow<'_>) -> Result {
    flow.source::<Visit>("visits")
        .json()
        .event_time(|visit| visit.at, Watermarks::lag(Duration::from_millis(50)))
        .key_by_ref(|visit| visit.page.as_str())
        .window(Tumbling::of(Duration::from_secs(1)))
        .aggregate(|a| a.count())
        .emit_final()
        .map(|w| (w.key, w.window.start, w.value))
        .sink("counts", |s| s.json());
    Ok(())
}

pub(crate) fn main() {
    testing::run(Job::new("visits", visits))
        .source(
            "visits",
            [[r#"{"page":"/","at":0}"#, r#"{"page":"/","at":999}"#]],
        )
        .expect("counts", [r#"["/",0,2]"#]);
}
