//! The reader of one worker: batches of borrowed records, marks, and where the log ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use super::admin::describe;
use super::aside::aside;
use super::assignment::{Assignment, Span};
use super::client::{Consumer, Message, Messages, Queue, Right};
use super::stalled::AFTER;
use crate::connectors::{Fetched, Found, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Origin, Record};
use crate::state::advice::AFRESH;
use crate::time::EventTime;

/// How often offsets are shown to lag tools.
const COMMIT_EVERY: Duration = Duration::from_secs(5);
/// A partition that is not asked is not silent: others are let catch up.
const ASKED: Duration = Duration::from_secs(2);
/// How often the scout is told what is silent.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How long the last of them may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// A partition as far as it was read.
struct Slot {
    /// `None`: nothing to read, ever.
    queue: Option<Queue>,
    span: Span,
    /// Behind the last record that was given.
    next: u64,
    /// The end-of-partition mark, if nothing came after it. It lies behind `next` where the log's
    /// last offsets are markers of transactions or were compacted away.
    mark: Option<u64>,
    ended: bool,
    /// Since when there was nothing, and when it was last asked for.
    silent: Option<(Instant, Instant)>,
    /// Comes after the records that were given before it.
    failed: Option<Error>,
    passed: Option<u64>,
    committed: Option<u64>,
}

/// What a message is.
enum Taken<'a> {
    Record(Record<'a>),
    /// An end: the log's for now, or the span's.
    Mark,
    Error,
}

impl Slot {
    fn new(span: Span, queue: Option<Queue>) -> Self {
        Self {
            ended: queue.is_none(),
            queue,
            span,
            next: span.start,
            mark: None,
            silent: None,
            failed: None,
            passed: None,
            committed: None,
        }
    }

    /// Takes note of `message` and says what it is.
    fn take<'a>(&mut self, message: &'a Message) -> Taken<'a> {
        let end = self.span.end.unwrap_or(u64::MAX);
        let offset = message.offset().cast_unsigned();
        match message.error() {
            None if offset < end => {
                self.next = offset + 1;
                self.mark = None;
                Taken::Record(Record {
                    offset,
                    key: message.key(),
                    value: message.value(),
                    timestamp: message.timestamp().map(EventTime::from_millis),
                    headers: Some(message),
                    full_len: None,
                })
            }
            None => {
                self.ended = true;
                Taken::Mark
            }
            Some(RDKafkaErrorCode::PartitionEOF) => {
                self.mark = Some(offset);
                self.ended |= offset >= end;
                Taken::Mark
            }
            Some(_) => Taken::Error,
        }
    }

    /// Whether the last mark is the end of the log as the broker last told it.
    fn is_caught_up(&self, consumer: Option<&Consumer>, partition: u32) -> bool {
        let high = || consumer?.high(partition.cast_signed());
        self.mark.is_some() && self.mark == high()
    }

    /// The offset of the next record, were there one.
    fn position(&self) -> u64 {
        self.mark.map_or(self.next, |mark| mark.max(self.next))
    }

    /// What to show to lag tools: what has left the dataflow, and the markers behind it.
    fn progress(&self) -> Option<u64> {
        let passed = self.passed?;
        let shown = if passed >= self.next {
            passed.max(self.position())
        } else {
            passed
        };
        (self.committed != Some(shown)).then_some(shown)
    }
}

/// Reads the partitions of one worker.
pub(super) struct KafkaReader {
    /// Returned before the clients end: see `drop`.
    messages: Messages,
    slots: BTreeMap<u32, Slot>,
    consumer: Option<Arc<Consumer>>,
    assignment: Arc<Assignment>,
    fresh: Vec<u32>,
    last_commit: Instant,
    last_told: Instant,
}

impl KafkaReader {
    /// Reads `spans`. May wait for brokers.
    pub(super) fn open(assignment: Arc<Assignment>, spans: &[(u32, Span)]) -> Result<Self> {
        let starts: Vec<_> = spans
            .iter()
            .filter(|(_, span)| !span.is_empty())
            .map(|(partition, span)| (*partition, span.start))
            .collect();
        let mut queues: BTreeMap<_, _> = assignment.add(&starts)?.into_iter().collect();
        let slots = spans
            .iter()
            .map(|(partition, span)| (*partition, Slot::new(*span, queues.remove(partition))))
            .collect();
        Ok(Self {
            messages: Messages::default(),
            slots,
            consumer: assignment.consumer(),
            assignment,
            fresh: spans.iter().map(|(partition, _)| *partition).collect(),
            last_commit: now(),
            last_told: now(),
        })
    }

    /// Tells the scout which partitions are silent.
    fn tell_silent(&mut self) {
        let now = now();
        if now.duration_since(self.last_told) < TELL_EVERY {
            return;
        }
        self.last_told = now;
        let is_silent = |slot: &Slot| {
            slot.silent.is_some_and(|(since, asked)| {
                now.duration_since(since) >= AFTER && now.duration_since(asked) < ASKED
            })
        };
        let silent = self.slots.iter().filter(|(_, slot)| is_silent(slot));
        let silent = silent.map(|(partition, slot)| (*partition, slot.position()));
        self.assignment.silent().tell(silent.collect(), now);
    }

    /// The offsets that lag tools have not been shown yet.
    fn progress(&mut self) -> Option<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, slot) in &mut self.slots {
            if let Some(offset) = slot.progress() {
                let place = Offset::Offset(offset.cast_signed());
                let number = partition.cast_signed();
                if list
                    .add_partition_offset(&self.assignment.topic, number, place)
                    .is_ok()
                {
                    slot.committed = Some(offset);
                }
            }
        }
        (list.count() > 0).then_some(list)
    }
}

impl Reader for KafkaReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        self.assignment.check()?;
        self.tell_silent();
        if let Some(consumer) = &self.consumer {
            consumer.serve().map_err(|cause| {
                Error::operating(format!("topic `{}` cannot be read", self.assignment.topic))
                    .because(cause)
            })?;
        }
        for (partition, queue) in self.assignment.grown() {
            let span = Span {
                start: 0,
                end: None,
            };
            self.slots.insert(partition, Slot::new(span, Some(queue)));
            self.fresh.push(partition);
            self.consumer = self.assignment.consumer();
        }
        let found = |partition: u32| Found {
            partition,
            origin: Origin::Topic(Arc::clone(&self.assignment.topic), partition.cast_signed()),
        };
        Ok(self.fresh.drain(..).map(found).collect())
    }

    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let Self {
            slots,
            messages,
            assignment,
            consumer,
            ..
        } = self;
        let place = || format!("`{}[{partition}]`", assignment.topic);
        let slot = slots
            .get_mut(&partition)
            .ok_or_else(|| Error::operating(format!("{} is not read here", place())))?;
        if let Some(failed) = slot.failed.take() {
            return Err(failed);
        }
        let (Some(queue), false) = (&slot.queue, slot.ended) else {
            return Ok(Fetched::End);
        };
        queue.consume(messages, max);
        let messages: &'a Messages = messages;
        slot.silent = messages.is_empty().then(|| {
            let now = now();
            let since = slot.silent.map_or(now, |(since, _)| since);
            (since, now)
        });
        if let (false, Some(consumer)) = (messages.is_empty(), &consumer) {
            consumer.base.client().context().heard();
        }
        let before = records.len();
        records.reserve(messages.len());
        for message in messages.iter() {
            match slot.take(message) {
                Taken::Record(record) => records.push(record),
                Taken::Mark if slot.ended => break,
                Taken::Mark => {}
                Taken::Error => {
                    slot.failed = Some(failure(assignment, partition, slot, message));
                    break;
                }
            }
        }
        if records.len() > before || messages.len() == max {
            return Ok(Fetched::Some);
        }
        match slot.failed.take() {
            Some(failed) => Err(failed),
            None if slot.ended => Ok(Fetched::End),
            None if slot.is_caught_up(consumer.as_deref(), partition) => Ok(Fetched::CaughtUp),
            None => Ok(Fetched::Wait),
        }
    }

    fn backlog(&self, partition: u32) -> Option<u64> {
        let slot = self.slots.get(&partition)?;
        if slot.ended {
            return Some(0);
        }
        let end = match slot.span.end {
            Some(end) => end,
            None => self.consumer.as_ref()?.high(partition.cast_signed())?,
        };
        Some(end.saturating_sub(slot.position()))
    }

    fn passed(&mut self, partition: u32, offset: u64) {
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.passed = Some(offset);
        }
        let now = now();
        if now.duration_since(self.last_commit) < COMMIT_EVERY {
            return;
        }
        self.last_commit = now;
        if let (Some(list), Some(consumer)) = (self.progress(), &self.consumer)
            && let Err(cause) = consumer.base.commit(&list, CommitMode::Async)
        {
            debug!(target: "kafka", "offsets for lag tools were not taken: {cause}");
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.messages.clear();
        self.assignment.close();
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        let progress = self.progress();
        let slots = std::mem::take(&mut self.slots);
        let is_worth_waiting = progress.is_some() && !consumer.base.client().context().is_down();
        let (done, wait) = mpsc::channel();
        aside("kafka-source-end", move || {
            drop(slots);
            if let Some(list) = progress
                && let Err(cause) = consumer.base.commit(&list, CommitMode::Sync)
            {
                debug!(target: "kafka", "offsets for lag tools were not taken: {cause}");
            }
            let _ = done.send(());
        });
        if is_worth_waiting {
            let _ = wait.recv_timeout(LAST_COMMIT);
        }
    }
}

/// Why `message` is no record.
fn failure(assignment: &Assignment, partition: u32, slot: &Slot, message: &Message) -> Error {
    let topic = &assignment.topic;
    let offset = slot.position();
    let code = message.error();
    if code == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
        return assignment.options.lacks(topic, Right::Read);
    }
    let reason = message.reason().or_else(|| code.map(describe));
    let gone = matches!(
        code,
        Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset)
    );
    // The first offset may have been deleted between two looks; another start finds a new one.
    let kind = if gone && slot.position() > slot.span.start {
        ErrorKind::State
    } else {
        ErrorKind::Operating
    };
    let sentence = if gone {
        format!(
            "`{topic}[{partition}]` no longer has offset {offset}, the next to read; restore the \
             topic, or {AFRESH}"
        )
    } else {
        format!("`{topic}[{partition}]` cannot be read at offset {offset}")
    };
    let error = Error::new(kind, sentence);
    match reason {
        Some(reason) => error.because(reason),
        None => error,
    }
}

/// For the rhythm of commits only; no result depends on it.
#[expect(
    clippy::disallowed_methods,
    reason = "paces what lag tools see; no record meets it"
)]
fn now() -> Instant {
    Instant::now()
}
