//! `bid_stats`: count, sum and maximum of price per auction and tumbling window.

use std::collections::BTreeMap;

use super::door::judge;
use super::object::Object;
use super::{Counts, Input, Outcome, Params};

/// Count, exact sum, maximum.
struct Stats {
    count: u64,
    sum: i128,
    max: i64,
}

/// What a bounded run of the job gives.
pub fn run(input: &Input, params: &Params) -> Outcome {
    let verdicts = judge(input, params, |value| decode(value, params));
    let mut windows: BTreeMap<(i64, i64), Stats> = BTreeMap::new();
    let used = verdicts.entered.len();
    for event in verdicts.entered {
        let (auction, price) = event.body;
        let window = (auction, params.window_start(event.time));
        let stats = windows.entry(window).or_insert(Stats {
            count: 0,
            sum: 0,
            max: price,
        });
        stats.count += 1;
        stats.sum += i128::from(price);
        stats.max = stats.max.max(price);
    }
    let results: Vec<String> = windows
        .iter()
        .map(|((auction, start), Stats { count, sum, max })| {
            format!(
                "{{\"auction\":{auction},\"window_start\":{start},\"cnt\":{count},\
                 \"sum_price\":{sum},\"max_price\":{max}}}"
            )
        })
        .collect();
    Outcome {
        counts: Counts {
            read: verdicts.read,
            used,
            duplicates: 0,
            late: verdicts.late.len(),
            dead: verdicts.dead.len(),
            results: results.len(),
        },
        results,
        late: verdicts.late,
        dead: verdicts.dead,
    }
}

/// Event time, and auction and price. All five named fields must be right, also those that no
/// result shows.
///
/// # Errors
/// What is wrong with the record.
pub fn decode(value: &[u8], params: &Params) -> Result<(i64, (i64, i64)), String> {
    let bid = Object::parse(value)?;
    let auction = bid.integer("auction")?;
    bid.integer("bidder")?;
    let price = bid.integer("price")?;
    bid.text("channel")?;
    let time = bid.integer("date_time")?;
    let time = params
        .unit
        .millis(time)
        .ok_or("`date_time` is out of range")?;
    Ok((time, (auction, price)))
}
