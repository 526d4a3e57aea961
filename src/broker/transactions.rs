//! The coordinator of transactions: who a transactional id is, and what its transaction touches.
//!
//! A producer that registers an id again gets a newer epoch, and with it the older one is fenced:
//! its transaction is aborted by markers of the newer epoch, and whatever it still sends is
//! refused. A transaction ends at once and as a whole, so no one ever meets one that is half ended.

mod requests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::refusal::{Answer, Code, Refusal};
use super::state::Broker;
use super::sync::lock;
use crate::observe::{now, time_of_day};

pub(super) use requests::{
    add_offsets, add_partitions, commit_offsets, end_transaction, init_producer_id,
};

/// As Kafka's `transaction.max.timeout.ms`.
const MAX_TIMEOUT: Duration = Duration::from_mins(15);
/// An id that has no transaction open is forgotten after as long as in Kafka.
const IDLE: Duration = Duration::from_hours(7 * 24);
const NO_EPOCH: i16 = -1;

/// A producer id and its epoch.
pub(super) type ProducerKey = (i64, i16);

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Empty,
    Open {
        since: Instant,
        partitions: BTreeSet<(String, i32)>,
        groups: BTreeSet<String>,
    },
    Ended {
        commit: bool,
    },
}

#[derive(Debug)]
struct Transaction {
    producer: i64,
    epoch: i16,
    /// The epoch before, if its producer asked for the newer one: it may not have heard the answer.
    last_epoch: i16,
    timeout: Duration,
    phase: Phase,
    touched: Instant,
}

/// All transactional ids.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    by_id: Mutex<HashMap<String, Transaction>>,
    next_producer: AtomicI64,
}

impl Transaction {
    fn new(producer: i64, now: Instant) -> Self {
        Self {
            producer,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout: MAX_TIMEOUT,
            phase: Phase::Empty,
            touched: now,
        }
    }

    fn key(&self) -> ProducerKey {
        (self.producer, self.epoch)
    }

    /// Whether the one that asks is the producer of the id.
    fn check(&self, (producer, epoch): ProducerKey) -> Answer {
        if producer != self.producer {
            return Err(Code::InvalidProducerIdMapping.into());
        }
        if epoch != self.epoch {
            let why = format!("producer {producer} has epoch {}, not {epoch}", self.epoch);
            return Err(Refusal::new(Code::ProducerFenced, why));
        }
        Ok(())
    }

    /// The partitions and groups of the transaction, which begins if none is open.
    fn open(&mut self, now: Instant) -> (&mut BTreeSet<(String, i32)>, &mut BTreeSet<String>) {
        if !matches!(self.phase, Phase::Open { .. }) {
            self.phase = Phase::Open {
                since: now,
                partitions: BTreeSet::new(),
                groups: BTreeSet::new(),
            };
        }
        self.touched = now;
        match &mut self.phase {
            Phase::Open {
                partitions, groups, ..
            } => (partitions, groups),
            Phase::Empty | Phase::Ended { .. } => unreachable!("it was opened"),
        }
    }

    /// Ends what is open, everywhere.
    fn end(&mut self, broker: &Broker, commit: bool) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended { commit });
        let Phase::Open {
            partitions, groups, ..
        } = phase
        else {
            self.phase = phase;
            return;
        };
        let (time, now) = (time_of_day().millis(), now());
        for (name, number) in partitions {
            let Some(topic) = broker.topics.named(&name) else {
                continue;
            };
            if let Some(log) = topic.partition(number) {
                let roll = broker.topics.roll(&topic.config());
                lock(&log).end_transaction(self.key(), commit, (time, now), roll);
            }
        }
        for group in groups {
            broker.groups.end_transaction(&group, self.producer, commit);
        }
    }

    /// Fences the producer and aborts what it has open.
    fn fence(&mut self, broker: &Broker) {
        self.epoch += 1;
        self.last_epoch = NO_EPOCH;
        self.end(broker, false);
    }

    /// The next epoch, or a new producer id where there is none.
    fn advance(&mut self, fresh: impl FnOnce() -> i64) {
        // The last one is kept for fencing.
        if self.epoch >= i16::MAX - 1 {
            (self.producer, self.epoch, self.last_epoch) = (fresh(), 0, NO_EPOCH);
            return;
        }
        self.last_epoch = self.epoch;
        self.epoch += 1;
    }
}

impl Transactions {
    /// An id for a producer, that no other has.
    pub(super) fn fresh_producer(&self) -> i64 {
        self.next_producer.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a transactional id: fences whoever had it, and aborts what is open.
    ///
    /// `known` is what a producer believes to be that only wants its next epoch.
    pub(super) fn register(
        &self,
        broker: &Broker,
        id: &str,
        timeout: Duration,
        known: Option<ProducerKey>,
    ) -> Answer<ProducerKey> {
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(Code::InvalidTransactionTimeout.into());
        }
        let now = now();
        let mut by_id = lock(&self.by_id);
        let new = || Transaction::new(self.fresh_producer(), now);
        let transaction = by_id.entry(id.to_owned()).or_insert_with(new);
        if let Some((producer, epoch)) = known.filter(|_| transaction.epoch != NO_EPOCH) {
            let was_answered = epoch == transaction.last_epoch && epoch != NO_EPOCH;
            if producer == transaction.producer && was_answered {
                return Ok(transaction.key());
            }
            if (producer, epoch) != transaction.key() {
                return Err(Code::ProducerFenced.into());
            }
        }
        if matches!(transaction.phase, Phase::Open { .. }) {
            transaction.fence(broker);
        }
        transaction.advance(|| self.fresh_producer());
        transaction.phase = Phase::Empty;
        transaction.timeout = timeout;
        transaction.touched = now;
        Ok(transaction.key())
    }

    /// Lets `act` see the transaction of the producer.
    fn with<T>(
        &self,
        id: &str,
        producer: ProducerKey,
        act: impl FnOnce(&mut Transaction) -> Answer<T>,
    ) -> Answer<T> {
        let mut by_id = lock(&self.by_id);
        let transaction = by_id.get_mut(id).ok_or(Code::InvalidProducerIdMapping)?;
        transaction.check(producer)?;
        act(transaction)
    }

    /// Ends the transaction of a producer; ending it again in the same way does nothing.
    fn end(&self, broker: &Broker, id: &str, producer: ProducerKey, commit: bool) -> Answer {
        self.with(id, producer, |transaction| match transaction.phase {
            Phase::Open { .. } => {
                transaction.touched = now();
                transaction.end(broker, commit);
                Ok(())
            }
            Phase::Ended { commit: ended } if ended == commit => Ok(()),
            Phase::Empty | Phase::Ended { .. } => Err(Code::InvalidTxnState.into()),
        })
    }

    /// Aborts transactions that have been open for too long, and forgets idle ids.
    pub(super) fn expire(&self, broker: &Broker, now: Instant) {
        lock(&self.by_id).retain(|_, transaction| {
            let Phase::Open { since, .. } = transaction.phase else {
                return now.saturating_duration_since(transaction.touched) < IDLE;
            };
            if now.saturating_duration_since(since) > transaction.timeout {
                transaction.fence(broker);
            }
            true
        });
    }
}
