//! Real data as bids: the 336,776 departures of `nycflights13`, whose `flights.csv` has one line a
//! flight.
//!
//! Each airport of origin is a partition in the order of the schedule; the event time is when the
//! flight left, so a delay is a record out of order. A flight that never left (`NA`; 8,255 of them)
//! has `null` for its time, which makes it a dead letter. Times are UTC: the schedule's hour is
//! given so, and hours, minutes and delays agree with the local departure in every line.

use std::collections::BTreeMap;

use super::json::quote;
use super::{FilePart, Input, time};

/// The columns that are used.
const COLUMNS: [&str; 7] = [
    "time_hour",
    "minute",
    "dep_delay",
    "flight",
    "distance",
    "carrier",
    "origin",
];

/// One line of the table.
struct Flight<'a> {
    scheduled: i64,
    bid: String,
    origin: &'a str,
}

/// One file for each airport, from the text of `flights.csv`.
///
/// # Errors
/// The line that is not as expected.
pub fn bids(csv: &str) -> Result<Input, String> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut columns = [0; COLUMNS.len()];
    for (column, name) in columns.iter_mut().zip(COLUMNS) {
        let found = header
            .iter()
            .position(|title| title.trim_matches('"') == name);
        *column = found.ok_or_else(|| format!("no column {name}"))?;
    }
    let mut airports: BTreeMap<&str, Vec<Flight<'_>>> = BTreeMap::new();
    for line in lines {
        let flight = flight(line, columns).ok_or_else(|| format!("not a flight: {line}"))?;
        airports.entry(flight.origin).or_default().push(flight);
    }
    let files = airports.into_iter().map(|(airport, mut flights)| {
        // Stable, so that flights of one minute stay in the order of the table.
        flights.sort_by_key(|flight| flight.scheduled);
        FilePart {
            name: format!("{airport}.jsonl"),
            bytes: flights
                .into_iter()
                .flat_map(|f| f.bid.into_bytes())
                .collect(),
        }
    });
    Ok(Input::Files(files.collect()))
}

fn flight(line: &str, columns: [usize; COLUMNS.len()]) -> Option<Flight<'_>> {
    let cells: Vec<&str> = line.split(',').map(|cell| cell.trim_matches('"')).collect();
    let cell = |i: usize| cells.get(columns[i]).copied();
    let hour = time::rfc3339(cell(0)?)?;
    let minute: i64 = cell(1)?.parse().ok()?;
    let scheduled = hour + minute * 60_000;
    let left = match cell(2)? {
        "NA" | "" => "null".to_owned(),
        delay => (scheduled + delay.parse::<i64>().ok()? * 60_000).to_string(),
    };
    let flight: i64 = cell(3)?.parse().ok()?;
    let distance: i64 = cell(4)?.parse().ok()?;
    let (carrier, origin) = (quote(cell(5)?), cell(6)?);
    let bid = format!(
        "{{\"auction\":{flight},\"bidder\":0,\"price\":{distance},\"channel\":{carrier},\
         \"date_time\":{left}}}\n"
    );
    Some(Flight {
        scheduled,
        bid,
        origin,
    })
}
