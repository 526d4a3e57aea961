//! The broker: a log that grows, the transactions of one job, and its progress. What it is asked
//! happens at once; what is late, lost or repeated is up to [`super::commit`].

use std::sync::Mutex;

use super::dice::guard;
use super::oracle::Outputs;
use crate::connectors::Waker;
use crate::error::{Error, ErrorKind, Result};

/// One record of a topic.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// The sink port.
    pub(super) topic: &'static str,
    pub(super) key: u32,
    pub(super) value: String,
}

/// A request that was sent and has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// `EndTxn` of the producer with this epoch.
    Commit(u64),
    /// `InitProducerId`.
    Init,
}

#[derive(Debug, Default)]
struct Inner {
    /// How many records of each partition can be read; `None`: there is no such partition yet.
    shown: Vec<Option<u64>>,
    /// The epoch of the one producer that may write.
    epoch: u64,
    open: Vec<Output>,
    open_progress: Option<Vec<u8>>,
    begun: bool,
    committed: Outputs,
    progress: Option<Vec<u8>>,
    /// How often something became visible.
    changes: u64,
    late: Vec<Late>,
    full: Vec<Waker>,
    /// How often a producer was shut out by something else than the start of another instance.
    shut_out: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Broker {
    inner: Mutex<Inner>,
}

pub(super) fn fenced() -> Error {
    Error::new(ErrorKind::Owned, "another producer has taken over")
}

impl Broker {
    pub(super) fn new(shown: Vec<Option<u64>>) -> Self {
        let this = Self::default();
        guard(&this.inner).shown = shown;
        this
    }

    /// How many records of each partition can be read.
    pub(super) fn shown(&self) -> Vec<Option<u64>> {
        guard(&self.inner).shown.clone()
    }

    /// So many more records of `partition` can be read, up to `all`.
    pub(super) fn show(&self, partition: usize, more: u64, all: u64) {
        let shown = &mut guard(&self.inner).shown[partition];
        *shown = Some(all.min(shown.unwrap_or(0) + more));
    }

    /// A new producer: the one before it is shut out, and what it left open is aborted.
    pub(super) fn init(&self) -> u64 {
        let mut inner = guard(&self.inner);
        inner.abort();
        inner.epoch += 1;
        inner.epoch
    }

    /// The producer of another instance that was not shut out.
    pub(super) fn epoch(&self) -> u64 {
        guard(&self.inner).epoch
    }

    pub(super) fn produce(&self, epoch: u64, output: Output) -> Result {
        let mut inner = guard(&self.inner);
        inner.check(epoch)?;
        inner.begun = true;
        inner.open.push(output);
        Ok(())
    }

    pub(super) fn produce_progress(&self, epoch: u64, record: &[u8]) -> Result {
        let mut inner = guard(&self.inner);
        inner.check(epoch)?;
        inner.begun = true;
        inner.open_progress = Some(record.to_vec());
        Ok(())
    }

    /// A record of progress that belongs to no transaction.
    pub(super) fn write_progress(&self, record: &[u8]) {
        let mut inner = guard(&self.inner);
        (inner.progress, inner.changes) = (Some(record.to_vec()), inner.changes + 1);
    }

    /// Ends the open transaction; a repeated request, when there is none, changes nothing.
    pub(super) fn commit(&self, epoch: u64) -> Result {
        let mut inner = guard(&self.inner);
        inner.check(epoch)?;
        inner.changes += u64::from(std::mem::take(&mut inner.begun));
        for output in std::mem::take(&mut inner.open) {
            let values = inner.committed.entry((output.topic, output.key));
            values.or_default().push(output.value);
        }
        if let Some(record) = inner.open_progress.take() {
            inner.progress = Some(record);
        }
        Ok(())
    }

    /// The transaction that is open was open for too long.
    pub(super) fn time_out(&self) {
        let mut inner = guard(&self.inner);
        if inner.begun {
            inner.abort();
            inner.epoch += 1;
            inner.shut_out += 1;
        }
    }

    pub(super) fn progress(&self) -> Option<Vec<u8>> {
        guard(&self.inner).progress.clone()
    }

    /// How often something became visible.
    pub(super) fn changes(&self) -> u64 {
        guard(&self.inner).changes
    }

    /// What somebody sees who reads committed records only.
    pub(super) fn visible(&self) -> Outputs {
        guard(&self.inner).committed.clone()
    }

    pub(super) fn delay(&self, request: Late) {
        guard(&self.inner).late.push(request);
    }

    pub(super) fn late(&self) -> usize {
        guard(&self.inner).late.len()
    }

    /// A late request arrives.
    pub(super) fn deliver(&self, nth: usize) -> Late {
        let request = guard(&self.inner).late.swap_remove(nth);
        match request {
            // Whoever sent it hears nothing of it.
            Late::Commit(epoch) => drop(self.commit(epoch)),
            Late::Init => {
                self.init();
                guard(&self.inner).shut_out += 1;
            }
        }
        request
    }

    /// All late requests arrive.
    pub(super) fn deliver_all(&self) {
        while self.late() > 0 {
            self.deliver(0);
        }
    }

    pub(super) fn shut_out(&self) -> u64 {
        guard(&self.inner).shut_out
    }

    /// Wakes `waker` when there is room.
    pub(super) fn await_room(&self, waker: Waker) {
        guard(&self.inner).full.push(waker);
    }

    pub(super) fn make_room(&self) {
        let full = std::mem::take(&mut guard(&self.inner).full);
        full.iter().for_each(Waker::wake);
    }
}

impl Inner {
    fn check(&self, epoch: u64) -> Result {
        if epoch == self.epoch {
            return Ok(());
        }
        Err(fenced())
    }

    fn abort(&mut self) {
        self.open.clear();
        (self.open_progress, self.begun) = (None, false);
    }
}
