//! Reads results and letters back from their topics, as anybody could, and keeps the latest.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anabranch::{Error, Result};
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;

use super::envelope;
use super::recount::Activity;
use super::rules::{ACTIVITY, DEAD, EVENTS, LATE};
use super::text::{grouped, seconds, shown, time_of_day};
use super::topic::{consumer, header, number};

/// How many results are kept.
pub(super) const LATEST: usize = 8;
const POLL: Duration = Duration::from_millis(50);
/// Characters of a line that others may fill.
const LONGEST: usize = 160;

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) results: u64,
    /// The latest results in words, the newest first.
    pub(super) latest: VecDeque<String>,
    /// The latest late record and dead letter.
    pub(super) late: Option<String>,
    pub(super) dead: Option<String>,
}

impl Seen {
    fn add(&mut self, result: String) {
        self.results += 1;
        self.latest.truncate(LATEST - 1);
        self.latest.push_front(result);
    }
}

/// Follows the topics until it is dropped.
pub(super) struct Follower {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    failed: Arc<Mutex<Option<Error>>>,
}

impl Follower {
    pub(super) fn start(bootstrap: &str) -> Result<Self> {
        let consumer = consumer(bootstrap, &[ACTIVITY, LATE, DEAD])?;
        let (seen, stop): (Arc<Mutex<Seen>>, Arc<AtomicBool>) = (Arc::default(), Arc::default());
        let failed: Arc<Mutex<Option<Error>>> = Arc::default();
        let (to, until, fault) = (Arc::clone(&seen), Arc::clone(&stop), Arc::clone(&failed));
        let thread = thread::spawn(move || {
            if let Err(error) = follow(&consumer, &to, &until) {
                *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
        Ok(Self {
            seen,
            stop,
            thread: Some(thread),
            failed,
        })
    }

    pub(super) fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// Why it ended, if it did.
    pub(super) fn trouble(&self) -> Option<Error> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // If it failed, that was said.
            let _ = thread.join();
        }
    }
}

fn follow(consumer: &BaseConsumer, seen: &Mutex<Seen>, stop: &AtomicBool) -> Result {
    while !stop.load(SeqCst) {
        let broken = |cause| Error::operating("the results' consumer").because(cause);
        let message = match consumer.poll(POLL) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => continue,
            Some(message) => message.map_err(broken)?,
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match message.topic() {
            LATE => seen.late = Some(late(&message)),
            DEAD => seen.dead = Some(dead(&message)),
            _ => seen.add(result(message.payload())),
        }
    }
    Ok(())
}

/// `u-0417  12:04:55  7 events  view 4  like 2  comment 1`
fn result(value: Option<&[u8]>) -> String {
    let Ok(result) = serde_json::from_slice::<Activity>(value.unwrap_or_default()) else {
        return "a result that cannot be read".to_owned();
    };
    let mut kinds: Vec<_> = result.by_type.iter().collect();
    kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), kind.as_str()));
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("  {kind} {count}"))
        .collect();
    let line = format!(
        "{:<7} {}  {:>3} events{}",
        result.user,
        time_of_day(result.window_start),
        grouped(result.events),
        kinds.concat(),
    );
    shown(&line, LONGEST)
}

/// `events[1]@88121`
fn place(message: &BorrowedMessage<'_>) -> String {
    let part = |name| header(message, name).unwrap_or_else(|| "?".to_owned());
    format!("{EVENTS}[{}]@{}", part("partition"), part("offset"))
}

/// `late u-0092 by 3.4 s (events[1]@88121)`
fn late(message: &BorrowedMessage<'_>) -> String {
    let user = envelope::read(message.payload()).map_or("?".to_owned(), |event| event.user);
    let time = number(message, "event-time").unwrap_or(0);
    let by = seconds(number(message, "watermark").unwrap_or(0) - time);
    let idle = match header(message, "reason").as_deref() {
        Some("idle") => ", its partition had been silent",
        _ => "",
    };
    shown(
        &format!("late {user} by {by} ({}{idle})", place(message)),
        LONGEST,
    )
}

/// ``dead events[0]@90211 decode: `timestamp`: expected a time, found "soon"``
fn dead(message: &BorrowedMessage<'_>) -> String {
    let part = |name| header(message, name).unwrap_or_default();
    let line = format!(
        "dead {} {}: {}",
        place(message),
        part("reason"),
        part("error")
    );
    shown(&line, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_results_are_kept_and_the_newest_is_on_top() {
        let mut seen = Seen::default();
        (1..=LATEST + 2).for_each(|nth| seen.add(nth.to_string()));
        let newest: Vec<_> = (3..=LATEST + 2).rev().map(|nth| nth.to_string()).collect();
        assert_eq!(seen.latest, newest);
        assert_eq!(seen.results, 10);
    }
}
