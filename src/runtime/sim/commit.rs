//! An instance's producer: what it asks the broker, and what becomes of that on its way. It does
//! what `connectors/kafka/transaction.rs` does, with a weather of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::Flaw;
use super::broker::{Broker, Late, Output, fenced};
use super::dice::{Dice, guard};
use super::life::Life;
use crate::connectors::{Commit, Member, PartitionEnd};
use crate::error::{Error, Result};
use crate::observe::simulated::Clock;
use crate::runtime::progress_record::ProgressRecord;
use crate::state::disk::Disk;
use crate::state::lossy::LossyDisk;
use crate::state::store;

/// A commit that takes longer may have been sent twice.
const DOUBTFUL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Producer {
    pub(super) broker: Arc<Broker>,
    pub(super) life: Arc<Life>,
    pub(super) dice: Dice,
    pub(super) clock: Clock,
    pub(super) flaw: Option<Flaw>,
    pub(super) disk: LossyDisk,
    epoch: Mutex<Option<u64>>,
    /// What was read first.
    first: OnceLock<Option<Vec<u8>>>,
}

impl Producer {
    pub(super) fn new(
        broker: &Arc<Broker>,
        life: &Arc<Life>,
        (dice, clock): (&Dice, &Clock),
        flaw: Option<Flaw>,
        disk: &LossyDisk,
    ) -> Arc<Self> {
        Arc::new(Self {
            broker: Arc::clone(broker),
            life: Arc::clone(life),
            dice: dice.clone(),
            clock: clock.clone(),
            flaw,
            disk: disk.clone(),
            epoch: Mutex::default(),
            first: OnceLock::new(),
        })
    }

    fn epoch(&self) -> Result<u64> {
        let epoch = *guard(&self.epoch);
        epoch.ok_or_else(|| Error::operating("a transaction begins after init_transactions"))
    }

    pub(super) fn produce(&self, output: Output) -> Result {
        self.life.effect("produce")?;
        self.broker.produce(self.epoch()?, output)
    }

    /// Sends a request; whoever dies of it does not know whether it arrives.
    fn send(&self, what: &str, request: Late) -> Result {
        let sent = self.life.effect(what);
        if sent.is_err() && self.dice.one_in(2) {
            self.broker.delay(request);
        }
        sent
    }

    /// Ends the transaction, and returns whether a copy of the request may be under way.
    fn end(&self) -> Result<bool> {
        let epoch = self.epoch()?;
        self.send("EndTxn", Late::Commit(epoch))?;
        let weather = self.dice.below(12);
        if weather < 8 {
            self.broker.commit(epoch)?;
            return Ok(false);
        }
        // The request or its answer is slow or lost, and it is sent once more. The other copy was
        // lost, or comes when it comes.
        let answered = weather < 10;
        if answered {
            self.broker.commit(epoch)?;
        }
        if self.dice.one_in(2) {
            self.broker.delay(Late::Commit(epoch));
        }
        self.clock
            .advance(DOUBTFUL + Duration::from_millis(self.dice.between(1, 900)));
        self.send("EndTxn again", Late::Commit(epoch))?;
        self.broker.commit(epoch)?;
        Ok(true)
    }

    fn init(&self) -> Result {
        *guard(&self.epoch) = None;
        self.send("InitProducerId", Late::Init)?;
        *guard(&self.epoch) = Some(self.broker.init());
        self.life.effect("InitProducerId answered")
    }

    /// Manifests go although the next is not committed.
    fn clean_early(&self, record: &[u8]) -> Result {
        let record = ProgressRecord::read(record, "flaw")?;
        let dir = Path::new(super::DIR);
        for name in store::manifests(&self.disk, dir)? {
            if name != record.manifest {
                // Somebody else may be as early.
                drop(self.disk.remove_file(&dir.join(name)));
            }
        }
        Ok(())
    }
}

impl Commit for Producer {
    fn describe(&self) -> String {
        "progress".to_owned()
    }

    fn check(&self) -> Result {
        Ok(())
    }

    fn last(&self) -> Result<Option<Vec<u8>>> {
        self.life.effect("read progress")?;
        let now = self.broker.progress();
        if self.flaw != Some(Flaw::ReadsBeforeFence) {
            return Ok(now);
        }
        Ok(self.first.get_or_init(|| now).clone())
    }

    fn members(&self) -> Result<Vec<Member>> {
        Ok(Vec::new())
    }

    fn own(&self, _: &str) -> Result {
        Ok(())
    }

    fn prepare(&self) -> Result {
        self.life.effect("prepare")
    }

    fn fence(&self) -> Result {
        if self.flaw != Some(Flaw::NoFence) {
            return self.init();
        }
        *guard(&self.epoch) = Some(self.broker.epoch());
        Ok(())
    }

    fn written(&self) -> Result<Vec<PartitionEnd>> {
        Ok(Vec::new())
    }

    fn commit(&self, record: &[u8]) -> Result<bool> {
        self.life.effect("produce progress")?;
        match self.flaw {
            Some(Flaw::ProgressApart) => self.broker.write_progress(record),
            Some(Flaw::CleansEarly) => self.clean_early(record)?,
            _ => {}
        }
        self.broker.produce_progress(self.epoch()?, record)?;
        let doubtful = self.end()?;
        self.life.effect("EndTxn answered")?;
        Ok(doubtful && self.flaw != Some(Flaw::GoesOnInDoubt))
    }

    fn renew(&self, record: &[u8]) -> Result {
        self.life.effect("read progress")?;
        if self.broker.progress().as_deref() != Some(record) {
            return Err(fenced());
        }
        self.init()
    }

    fn stop(&self) {}
}
