//! Count, sum and maximum of the prices bid for each auction in each window of time.

use anabranch::event::checked::{AnyString, Stamp, TimestampUnit};
use anabranch::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: AnyString,
    date_time: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stats {
    auction: i64,
    window_start: EventTime,
    cnt: u64,
    sum_price: i128,
    max_price: i64,
}

fn bid_stats(flow: &Flow<'_>) -> Result {
    let size = flow.param("size", Duration::from_secs(10), "length of a window")?;
    let lag = flow.param(
        "lag",
        Duration::from_secs(2),
        "how far out of order bids may come",
    )?;
    let allowed = flow.param(
        "allowed-lateness",
        Duration::ZERO,
        "how much longer than the lag a window waits for bids",
    )?;
    let unit = flow.param(
        "timestamp-unit",
        TimestampUnit::Millis,
        "unit of `date_time`",
    )?;
    flow.source::<Bid>("bids")
        .json()
        .event_time(
            move |bid| Stamp::Integer(bid.date_time).to_millis(unit),
            Watermarks::lag(lag).allowed_lateness(allowed),
        )
        .key_by(|bid| bid.auction)
        .window(Tumbling::of(size))
        .aggregate(|a| (a.count(), a.sum(|bid| bid.price), a.max(|bid| bid.price)))
        .emit_final()
        .map(|w| Stats {
            auction: w.key,
            window_start: w.window.start,
            cnt: w.value.0,
            sum_price: w.value.1,
            max_price: w.value.2,
        })
        .sink("stats", |s| {
            s.json().topic("bid-stats").key(|stats| stats.auction)
        });
    Ok(())
}

/// The job, for whoever embeds it.
pub(crate) fn job() -> Job {
    Job::new("bid_stats", bid_stats)
}
