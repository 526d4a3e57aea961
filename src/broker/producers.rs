//! What one partition knows of those who write to it: which batch of a producer comes next, and
//! whose transaction is open.
//!
//! A batch that is one of the last five comes again when its answer was lost: it is answered once
//! more and not kept twice. The coordinator enlists a producer before its first transactional batch
//! and ends the transaction by a marker: so a batch that was under way while its transaction ended
//! opens no other.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::batch::Header;
use super::refusal::{Answer, Code, Refusal};

/// Batches of a producer that are known again, as Kafka has it.
const REMEMBERED: usize = 5;
/// How long a producer that does nothing is remembered, as Kafka has it.
const IDLE: Duration = Duration::from_hours(24);

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Append it.
    New,
    /// It is there already, with this base offset.
    Repeated(i64),
}

/// A transaction that was aborted: its records are not for readers of committed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: i64,
    /// Its first record.
    pub(super) first: i64,
    /// Its marker.
    pub(super) last: i64,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    first: i32,
    last: i32,
    base: i64,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The last batches of this epoch, the newest last.
    written: VecDeque<Written>,
    /// Whether it has written nothing since its epoch advanced: then it begins at 0.
    advanced: bool,
    /// Whether its transaction may write here.
    enlisted: bool,
    /// The first offset of its open transaction.
    open: Option<i64>,
    touched: Instant,
}

impl Producer {
    fn new(epoch: i16, now: Instant) -> Self {
        Self {
            epoch,
            written: VecDeque::new(),
            advanced: false,
            enlisted: false,
            open: None,
            touched: now,
        }
    }

    fn advance(&mut self, epoch: i16) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.written.clear();
            self.advanced = true;
        }
    }

    fn sequence(&self, header: &Header) -> Answer<Verdict> {
        let sequence = header.base_sequence;
        if header.producer_epoch != self.epoch {
            if sequence == 0 {
                return Ok(Verdict::New);
            }
            return Err(out_of_order(header, 0));
        }
        let last = header.last_sequence();
        let same = |written: &&Written| written.first == sequence && written.last == last;
        if let Some(written) = self.written.iter().find(same) {
            return Ok(Verdict::Repeated(written.base));
        }
        let follows = self.written.back().map(|written| next(written.last));
        match follows.or(self.advanced.then_some(0)) {
            Some(expected) if expected != sequence => Err(out_of_order(header, expected)),
            _ => Ok(Verdict::New),
        }
    }
}

fn next(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

fn out_of_order(header: &Header, expected: i32) -> Refusal {
    let why = format!(
        "producer {} sends sequence {}, expected {expected}",
        header.producer_id, header.base_sequence
    );
    Refusal::new(Code::OutOfOrderSequenceNumber, why)
}

/// All producers of a partition.
#[derive(Debug, Default)]
pub(super) struct Producers {
    by_id: HashMap<i64, Producer>,
    /// First offsets of open transactions.
    open: BTreeSet<i64>,
}

impl Producers {
    /// Whether the batch is the one that comes next.
    pub(super) fn judge(&self, header: &Header) -> Answer<Verdict> {
        let transactional = header.is_transactional();
        if !header.is_idempotent() {
            if transactional {
                let why = "a transaction without producer";
                return Err(Refusal::new(Code::InvalidRecord, why));
            }
            return Ok(Verdict::New);
        }
        let stranger = || {
            Refusal::new(
                Code::InvalidTxnState,
                "the partition is not in the transaction",
            )
        };
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return if transactional {
                Err(stranger())
            } else {
                Ok(Verdict::New)
            };
        };
        if header.producer_epoch < producer.epoch {
            let why = format!(
                "producer {} has epoch {}, not {} any more",
                header.producer_id, producer.epoch, header.producer_epoch
            );
            return Err(Refusal::new(Code::InvalidProducerEpoch, why));
        }
        let verdict = producer.sequence(header)?;
        let admitted = producer.enlisted && producer.epoch == header.producer_epoch;
        if transactional && !admitted && verdict == Verdict::New {
            return Err(stranger());
        }
        if !transactional && producer.open.is_some() {
            return Err(Refusal::new(
                Code::InvalidTxnState,
                "the producer has a transaction open",
            ));
        }
        Ok(verdict)
    }

    /// Notes a batch that was appended at `base`.
    pub(super) fn note(&mut self, header: &Header, base: i64, now: Instant) {
        if !header.is_idempotent() {
            return;
        }
        let new = || Producer::new(header.producer_epoch, now);
        let producer = self.by_id.entry(header.producer_id).or_insert_with(new);
        producer.advance(header.producer_epoch);
        producer.touched = now;
        producer.advanced = false;
        if producer.written.len() == REMEMBERED {
            producer.written.pop_front();
        }
        producer.written.push_back(Written {
            first: header.base_sequence,
            last: header.last_sequence(),
            base,
        });
        if header.is_transactional() && producer.open.is_none() {
            producer.open = Some(base);
            self.open.insert(base);
        }
    }

    /// Lets the transaction of a producer write here.
    pub(super) fn enlist(&mut self, (id, epoch): (i64, i16), now: Instant) {
        let producer = self
            .by_id
            .entry(id)
            .or_insert_with(|| Producer::new(epoch, now));
        producer.advance(epoch);
        producer.enlisted = true;
        producer.touched = now;
    }

    /// Ends the transaction of a producer whose marker is at `marker`.
    pub(super) fn end(
        &mut self,
        (id, epoch): (i64, i16),
        commit: bool,
        marker: i64,
        now: Instant,
    ) -> Option<Aborted> {
        let producer = self
            .by_id
            .entry(id)
            .or_insert_with(|| Producer::new(epoch, now));
        producer.advance(epoch);
        producer.enlisted = false;
        producer.touched = now;
        let first = producer.open.take()?;
        self.open.remove(&first);
        (!commit).then_some(Aborted {
            producer_id: id,
            first,
            last: marker,
        })
    }

    /// The first offset that is not decided yet.
    pub(super) fn first_open(&self) -> Option<i64> {
        self.open.first().copied()
    }

    /// Forgets those that have done nothing for a day.
    pub(super) fn expire(&mut self, now: Instant) {
        self.by_id.retain(|_, producer| {
            producer.enlisted || now.saturating_duration_since(producer.touched) < IDLE
        });
    }
}
