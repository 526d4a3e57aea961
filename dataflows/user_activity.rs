//! What each user did in each minute: events without repeats, in order, counted by type.

use std::collections::BTreeMap;

use anabranch::event::checked::{AnyObject, Stamp, TimestampUnit};
use anabranch::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    event_id: String,
    event_type: String,
    user_id: String,
    timestamp: Stamp,
    data: AnyObject,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Activity {
    #[serde(rename = "userId")]
    user_id: String,
    window_start: EventTime,
    window_end: EventTime,
    events: u64,
    by_type: BTreeMap<String, u64>,
    first_event_id: String,
    last_event_id: String,
}

fn user_activity(flow: &Flow<'_>) -> Result {
    let size = flow.param("size", Duration::from_mins(1), "length of a window")?;
    let lag = flow.param(
        "lag",
        Duration::from_secs(5),
        "how far out of order events may come",
    )?;
    let allowed = flow.param(
        "allowed-lateness",
        Duration::ZERO,
        "lateness beyond the lag",
    )?;
    let retention = flow.param(
        "retention",
        Duration::from_hours(1),
        "how long ids are known",
    )?;
    let unit = flow.param(
        "timestamp-unit",
        TimestampUnit::Auto,
        "unit of integer timestamps",
    )?;
    flow.source::<Envelope>("events")
        .json()
        .event_time(
            move |event| event.timestamp.to_millis(unit),
            Watermarks::lag(lag).allowed_lateness(allowed),
        )
        .dedup_ref(|event| event.event_id.as_str(), retention)
        .key_by_ref(|event| event.user_id.as_str())
        .order()
        .window(Tumbling::of(size))
        .aggregate(|a| {
            let (first, last) = (a.first(id), a.last(id));
            (
                a.count(),
                a.count_by(|event| event.event_type.clone()),
                first,
                last,
            )
        })
        .emit_final()
        .map(|w| Activity {
            user_id: w.key,
            window_start: w.window.start,
            window_end: w.window.end,
            events: w.value.0,
            by_type: w.value.1,
            first_event_id: w.value.2,
            last_event_id: w.value.3,
        })
        .sink("activity", |s| {
            s.json()
                .topic("user-activity")
                .key_ref(|a| a.user_id.as_str())
        });
    Ok(())
}

fn id(event: &Envelope) -> String {
    event.event_id.clone()
}

/// The job, for whoever embeds it.
pub(crate) fn job() -> Job {
    Job::new("user_activity", user_activity)
}
