//! The verdict on a batch of records of one partition: enters, late, dead.

use std::sync::Arc;

use super::door::{Show, TimeOf};
use super::pick::Partition;
use crate::event::{Cause, DeadReason, Event, Letter, Origin, Pieces, Position, Record};
use crate::observe::{Board, Metrics, Tally};
use crate::time::watermark::Verdict;
use crate::time::{Closing, EventTime, LateReason, Watermarks};

/// Judges a batch of one partition.
pub(super) struct Judge<'a, T> {
    pub(super) partition: &'a mut Partition,
    pub(super) rules: Watermarks,
    pub(super) closings: &'a [Closing],
    pub(super) source: u16,
    pub(super) port: &'a Arc<str>,
    pub(super) time_of: &'a TimeOf<T>,
    pub(super) show: Option<Show<T>>,
    pub(super) max_ahead: Option<i64>,
    pub(super) tally: &'a mut Tally,
    pub(super) metrics: &'a Metrics,
    /// Whether some record was no dead letter.
    pub(super) alive: bool,
    pub(super) board: &'a Board,
    pub(super) worker: usize,
    pub(super) events: &'a mut Vec<Event<T>>,
    pub(super) late: &'a mut Vec<Letter>,
    pub(super) dead: &'a mut Vec<Letter>,
    /// Offsets of records that leave with reason `idle`.
    pub(super) left: &'a mut Vec<u64>,
}

impl<T> Judge<'_, T> {
    pub(super) fn batch(&mut self, records: &[Record<'_>], pieces: &mut Pieces<T>) {
        self.tally.read += records.len() as u64;
        if pieces.are_one_each(records.len()) {
            for (record, (_, value)) in records.iter().zip(pieces.good.drain(..)) {
                self.one(record, value);
            }
            return;
        }
        let mut good = pieces.good.drain(..).peekable();
        let mut bad = pieces.bad.drain(..).peekable();
        let mut several = Vec::new();
        for (nth, record) in (0u32..).zip(records) {
            if let Some((_, reason, why)) = bad.next_if(|bad| bad.0 == nth) {
                while bad.next_if(|bad| bad.0 == nth).is_some() {}
                while good.next_if(|good| good.0 == nth).is_some() {}
                self.dies(record, reason, why);
                continue;
            }
            let Some((_, value)) = good.next_if(|good| good.0 == nth) else {
                self.tally.entered += 1; // it became nothing, on purpose
                continue;
            };
            if good.peek().is_none_or(|good| good.0 != nth) {
                self.one(record, value);
                continue;
            }
            several.push(value);
            while let Some((_, value)) = good.next_if(|good| good.0 == nth) {
                several.push(value);
            }
            self.several(record, &mut several);
        }
    }

    /// A record that became one value.
    #[inline]
    fn one(&mut self, record: &Record<'_>, value: T) {
        let time = match self.time(record, &value) {
            Ok(time) => time,
            Err((reason, why)) => {
                self.dies(record, reason, why);
                show(self.show, &value, self.dead);
                return;
            }
        };
        let verdict = self
            .partition
            .clock
            .judge_at(time, self.closings, self.rules);
        self.saw(time);
        match verdict {
            Verdict::Enters => {
                self.tally.entered += 1;
                self.events.push(Event {
                    at: self.position(record, time, 0),
                    value,
                });
            }
            Verdict::Late { reason, watermark } => {
                self.leaves(record, reason);
                self.late.push(self.letter(
                    record,
                    Cause::Late {
                        reason,
                        event_time: time,
                        watermark,
                    },
                ));
                show(self.show, &value, self.late);
            }
        }
    }

    /// A record that became several values: all are judged by what was before the record, and it
    /// counts as late only if none of them enters.
    fn several(&mut self, record: &Record<'_>, values: &mut Vec<T>) {
        let times: std::result::Result<Vec<_>, _> = values
            .iter()
            .map(|value| self.time(record, value))
            .collect();
        let times = match times {
            Ok(times) => times,
            Err((reason, why)) => {
                self.dies(record, reason, why);
                if let Some(first) = values.first() {
                    show(self.show, first, self.dead);
                }
                values.clear();
                return;
            }
        };
        let before = self.partition.clock;
        let (mut entered, mut late) = (false, None);
        for ((index, value), time) in (0..).zip(values.drain(..)).zip(times) {
            self.saw(time);
            match before.judge_at(time, self.closings, self.rules) {
                Verdict::Enters => {
                    entered = true;
                    self.events.push(Event {
                        at: self.position(record, time, index),
                        value,
                    });
                }
                Verdict::Late { reason, watermark } => {
                    late = Some(reason);
                    let cause = Cause::Late {
                        reason,
                        event_time: time,
                        watermark,
                    };
                    self.late.push(self.letter(record, cause));
                    show(self.show, &value, self.late);
                }
            }
        }
        match late {
            Some(reason) if !entered => self.leaves(record, reason),
            _ => self.tally.entered += 1,
        }
    }

    /// No event of the record enters.
    fn leaves(&mut self, record: &Record<'_>, reason: LateReason) {
        self.tally.count_late(reason);
        if reason == LateReason::Idle {
            self.left.push(record.offset);
        }
    }

    #[inline]
    fn time(
        &self,
        record: &Record<'_>,
        value: &T,
    ) -> std::result::Result<EventTime, (DeadReason, String)> {
        let time = (self.time_of)(value, record)?;
        if !time.is_plausible() {
            let why = format!(
                "event time {} ms lies outside years 0 to 9999",
                time.millis()
            );
            return Err((DeadReason::NoEventTime, why));
        }
        if let (Some(ahead), Some(stamp)) = (self.max_ahead, record.timestamp)
            && time > stamp.plus(ahead)
        {
            let why = format!("event time {time} is past the record's own stamp {stamp}");
            return Err((DeadReason::TooFarAhead, why));
        }
        Ok(time)
    }

    #[inline]
    fn saw(&mut self, time: EventTime) {
        if !self.alive {
            self.alive = true;
            self.metrics.set_alive();
        }
        let clock = &mut self.partition.clock;
        let first = clock.largest == EventTime::NEVER;
        let behind = if first {
            0
        } else {
            clock.largest.millis() - time.millis()
        };
        self.tally.saw(behind);
        clock.saw(time);
    }

    #[inline]
    fn position(&self, record: &Record<'_>, time: EventTime, index: u64) -> Position {
        let partition = self.partition.number;
        Position {
            time,
            source: self.source,
            partition,
            offset: record.offset,
            index,
        }
    }

    #[cold]
    #[inline(never)]
    fn dies(&mut self, record: &Record<'_>, reason: DeadReason, error: String) {
        self.metrics.worker(self.worker).count_dead(reason);
        if !self.alive {
            self.metrics.died_first();
        }
        let cause = Cause::dead(reason, error);
        self.board.died(|| {
            let (origin, offset) = (&self.partition.origin, record.offset);
            let place = match origin {
                Origin::File(name) => format!("{name}: line {}", offset + 1),
                _ => format!("{origin}: offset {offset}"),
            };
            format!("{}: {place}: {cause}", self.port)
        });
        self.dead.push(self.letter(record, cause));
    }

    fn letter(&self, record: &Record<'_>, cause: Cause) -> Letter {
        Letter::new(
            self.port,
            &self.partition.origin,
            self.partition.number,
            record,
            cause,
        )
    }
}

/// Where records have no bytes, the last letter gets those of its value.
fn show<T>(show: Option<Show<T>>, value: &T, letters: &mut [Letter]) {
    if let (Some(show), Some(letter)) = (show, letters.last_mut()) {
        letter.value = show(value);
    }
}
