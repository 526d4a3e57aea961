//! The jobs whose state is saved. Each notes its workers, so that their time is counted.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anabranch::State;
use anabranch::connectors::SinkPort;
use anabranch::prelude::*;

use crate::activations::Longest;
use crate::made::mix;
use crate::{now, spent};

/// What a key keeps: about a hundred bytes of state each.
type Row = [u64; 12];

/// When the first record came.
pub(crate) type First = Arc<Mutex<Option<Instant>>>;

/// Counts in the row of each key.
struct Rows {
    first: First,
    seen: AtomicBool,
}

impl Process for Rows {
    type Key = u64;
    type In = u64;
    type Out = u64;
    type State = Row;

    fn on_event(&self, row: &mut Row, event: &Event<u64>, _: &mut ProcessContext<'_, Self>) {
        if !self.seen.swap(true, SeqCst) {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(now);
        }
        row[0] += 1;
        // Large numbers: small ones take a byte each.
        row[1..].fill(event.value.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63);
    }
}

/// Forgets a key when its timer fires.
struct Timers {
    after: i64,
}

impl Process for Timers {
    type Key = u64;
    type In = u64;
    type Out = u64;
    type State = (u64, i64);

    fn on_event(
        &self,
        seen: &mut (u64, i64),
        event: &Event<u64>,
        cx: &mut ProcessContext<'_, Self>,
    ) {
        let time = event.at.time.millis();
        *seen = (seen.0 + 1, time);
        cx.set_timer(time + self.after);
    }

    fn on_timer(&self, seen: &mut (u64, i64), at: EventTime, _: &mut ProcessContext<'_, Self>) {
        assert_eq!(*seen, (1, at.millis() - self.after), "a key comes once");
        *seen = (0, 0);
    }
}

fn watch<'scope, T: State>(
    stream: EventStream<'scope, T>,
    watched: Option<&Longest>,
) -> EventStream<'scope, T> {
    match watched {
        Some(watched) => watched.watch(stream),
        None => stream,
    }
}

/// The numbers from 0 on, each `each` milliseconds after the one before.
fn numbers<'scope>(flow: &Flow<'scope>, each: i64) -> EventStream<'scope, u64> {
    flow.source::<u64>("in")
        .decode(|record| {
            spent::note();
            Ok::<_, String>(record.offset)
        })
        .event_time(
            move |number| number.cast_signed() * each,
            Watermarks::lag(Duration::ZERO),
        )
}

/// Rows of a hundred bytes; `first` is when the first record came to them.
pub(crate) fn rows(keys: u64, first: &First) -> Job {
    let first = Arc::clone(first);
    Job::new("rows", move |flow: &Flow<'_>| {
        let rows = Rows {
            first: Arc::clone(&first),
            seen: AtomicBool::new(false),
        };
        numbers(flow, 1)
            .key_by(move |event| event % keys)
            .process("rows", rows)
            .sink("out", SinkPort::json);
        Ok(())
    })
}

/// Count, sum and maximum of each key in one window that stays open.
pub(crate) fn windows(keys: u64, watched: Option<&Longest>) -> Job {
    let watched = watched.cloned();
    Job::new("windows", move |flow: &Flow<'_>| {
        let windows = numbers(flow, 0)
            .key_by(move |number| number % keys)
            .window(Tumbling::of(Duration::from_hours(24)))
            .aggregate(|a| {
                (
                    a.count(),
                    a.sum(move |number| number % keys),
                    a.max(move |number| number % keys),
                )
            })
            .emit_final();
        watch(windows, watched.as_ref())
            .map(|_| 0_u64)
            .sink("out", SinkPort::json);
        Ok(())
    })
}

fn id(number: u64) -> u128 {
    u128::from(mix(number)) << 64 | u128::from(mix(!number))
}

/// A new id every millisecond; the last `keys` of them are remembered.
pub(crate) fn ids(keys: u64, watched: Option<&Longest>) -> Job {
    let watched = watched.cloned();
    Job::new("ids", move |flow: &Flow<'_>| {
        let kept = numbers(flow, 1).dedup(|number| id(*number), Duration::from_millis(keys));
        watch(kept, watched.as_ref())
            .filter(|_| false)
            .sink("out", SinkPort::json);
        Ok(())
    })
}

/// A new key every millisecond, with a timer; the last `keys` of them have state.
pub(crate) fn timers(keys: u64, watched: Option<&Longest>) -> Job {
    let watched = watched.cloned();
    Job::new("timers", move |flow: &Flow<'_>| {
        let after = keys.cast_signed();
        let silent = numbers(flow, 1)
            .key_by(|number| mix(*number))
            .process("timers", Timers { after });
        watch(silent, watched.as_ref()).sink("out", SinkPort::json);
        Ok(())
    })
}

/// Four events a second, each with an id of its own that is remembered for a day, in windows of a
/// minute.
pub(crate) fn month() -> Job {
    Job::new("month", |flow: &Flow<'_>| {
        numbers(flow, 250)
            .dedup(|number| id(*number), Duration::from_hours(24))
            .key_by(|number| number % 2_000)
            .window(Tumbling::of(Duration::from_mins(1)))
            .aggregate(|a| a.count())
            .emit_final()
            .map(|_| 0_u64)
            .sink("out", SinkPort::json);
        Ok(())
    })
}
