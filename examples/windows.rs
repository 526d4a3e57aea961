//! Windows over a vector: the smallest job.

use anabranch::connectors::{MemorySink, MemorySource, NullSink, Style};
use anabranch::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    customer: String,
    amount: i64,
    placed_at: i64,
}

fn per_minute(flow: &Flow<'_>) -> Result {
    let lag = flow.param(
        "lag",
        Duration::from_secs(5),
        "how far out of order orders may come",
    )?;
    flow.source::<Order>("orders")
        .json()
        .event_time(|order| order.placed_at, Watermarks::lag(lag))
        .key_by_ref(|order| order.customer.as_str())
        .window(Tumbling::of(Duration::from_mins(1)))
        .aggregate(|a| (a.count(), a.sum(|order| order.amount)))
        .emit_final()
        .map(|w| (w.key, w.window.start, w.value.0, w.value.1))
        .sink("per_minute", |s| s.json().key_ref(|row| row.0.as_str()));
    Ok(())
}

pub(crate) fn main() -> Result {
    // One partition; the fourth order comes out of order, and the last one too late.
    let orders = vec![
        r#"{"customer":"ada","amount":30,"placed_at":1000}"#,
        r#"{"customer":"bob","amount":5,"placed_at":59999}"#,
        r#"{"customer":"ada","amount":2,"placed_at":64000}"#,
        r#"{"customer":"ada","amount":12,"placed_at":58000}"#,
        r#"{"customer":"bob","amount":7,"placed_at":65000}"#,
        r#"{"customer":"bob","amount":9,"placed_at":59000}"#,
    ];
    let (results, late) = (MemorySink::new(Style::Lines), MemorySink::new(Style::Lines));
    let settings = Settings::new()
        .workers(2)
        .bind_source("orders", MemorySource::new("orders", [orders]))
        .bind_sink("per_minute", results.clone())
        .bind_sink("late", late.clone())
        .bind_sink("dead", NullSink::new());
    let summary = Job::new("per-minute", per_minute).run(settings)?;

    let mut lines = results.lines();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"["ada",0,2,42]"#,
            r#"["ada",60000,1,2]"#,
            r#"["bob",0,1,5]"#,
            r#"["bob",60000,1,7]"#,
        ]
    );
    assert_eq!(late.lines().len(), 1);
    assert_eq!((summary.read, summary.used, summary.late), (6, 5, 1));
    Ok(())
}
