//! What a progress line says. Pure.

use std::time::Instant;

use crate::observe::{Board, Metrics, duration, grouped};
use crate::time::{EventTime, rfc3339};

/// The counters of a run at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) read: u64,
    pub(super) results: u64,
}

impl Moment {
    pub(super) fn of(metrics: &Metrics, at: Instant) -> Self {
        let read = metrics.sum(|worker| &worker.read);
        Self {
            at,
            read,
            results: metrics.sum(|worker| &worker.results),
        }
    }
}

/// `52,000/s · read 412,880 · watermark 12:04:58 (2.1s behind, held by events[2]) · ...`
pub(super) fn line(metrics: &Metrics, board: &Board, before: Moment, now: Moment) -> String {
    let elapsed = now.at.duration_since(before.at).as_millis().max(1);
    let rate = u128::from(now.read - before.read) * 1_000 / elapsed;
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let late = metrics.sum(|worker| &worker.late) + metrics.sum(|worker| &worker.idle);
    let dead: u64 = metrics
        .dead_by_reason()
        .iter()
        .map(|(_, count)| count)
        .sum();
    let backlog = to_go(board.backlog(), rate);
    let rate = grouped(rate);
    format!(
        "{rate}/s · read {}{backlog} · watermark {} · {} windows open · results {} · late {} \
         · dead {}",
        grouped(now.read),
        watermark(metrics, board, now.at),
        grouped(metrics.gauge(|worker| &worker.windows_open)),
        grouped(now.results),
        grouped(late),
        grouped(dead),
    )
}

/// ` · 309,000 records to go (about 12s)`: at this rate, if there is one.
fn to_go(records: u64, rate: u64) -> String {
    match (records, rate) {
        (0, _) => String::new(),
        (records, 0) => format!(" · {} records to go", grouped(records)),
        (records, rate) => {
            let millis = records.saturating_mul(1_000) / rate;
            let time = duration(millis);
            format!(" · {} records to go (about {time})", grouped(records))
        }
    }
}

fn watermark(metrics: &Metrics, board: &Board, now: Instant) -> String {
    let Some(source) = board.behind() else {
        return "none".to_owned();
    };
    match source.watermark() {
        EventTime::NEVER => format!("not known yet{}", holder(board, now)),
        EventTime::END => "at the end".to_owned(),
        watermark => {
            let behind = metrics.largest().millis() - watermark.millis();
            let behind = duration(u64::try_from(behind).unwrap_or(0));
            let time = rfc3339::time_of_day(watermark.millis());
            format!("{time} ({behind} behind{})", holder(board, now))
        }
    }
}

/// `, held by bids[0] (no data for 31 s)`
fn holder(board: &Board, now: Instant) -> String {
    board
        .holder(now)
        .map_or_else(String::new, |holder| format!(", {holder}"))
}

/// `12 windows wait: watermark 12:04:58, next end 12:05:00, held by bids[0] (no data for 31 s)`,
/// if windows wait.
pub(super) fn why_waiting(metrics: &Metrics, board: &Board, now: Instant) -> Option<String> {
    let open = metrics.gauge(|worker| &worker.windows_open);
    let next = metrics.next_end();
    if open == 0 || next == EventTime::END {
        return None;
    }
    let next = rfc3339::time_of_day(next.millis());
    let (watermark, held) = (board.reached(), holder(board, now));
    Some(format!(
        "{} windows wait: {watermark}, next end {next}{held}",
        grouped(open)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_go_has_a_time_as_long_as_it_moves() {
        assert_eq!(to_go(0, 5), "");
        assert_eq!(to_go(1_200, 0), " · 1,200 records to go");
        assert_eq!(
            to_go(120_000, 10_000),
            " · 120,000 records to go (about 12s)"
        );
    }
}
