//! Writes epoch after epoch to one connector, and holds each until its last record is taken.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use timely::dataflow::operators::Capability;

use super::{Batch, Plugs, Share, Waker, Writer, Written};
use crate::error::Result;
use crate::event::Letter;
use crate::observe::SinkStatus;
use crate::stream::Shared;
use crate::time::Epoch;

/// Bytes after which a batch is handed to the connector.
const BATCH_BYTES: usize = 256 << 10;
/// Records that one activation encodes before it lets others run.
const WORK_MAX: usize = 16_384;

/// Puts the records of an epoch in order.
pub(super) type Order<In> = Box<dyn Fn(&mut [In])>;

struct Stash<In> {
    /// Held until the connector has taken the last record.
    capability: Capability<Epoch>,
    batches: VecDeque<Vec<In>>,
    ordered: bool,
}

/// See the module.
pub(super) struct EpochWriter<In, F> {
    pub(super) shared: Rc<Shared>,
    plugs: Option<Rc<Plugs>>,
    /// Nothing is bound in a job that is only described; `None` too once it is closed.
    writer: Option<Box<dyn Writer>>,
    encode: F,
    order: Option<Order<In>>,
    results: bool,
    status: Arc<SinkStatus>,
    open: BTreeMap<Epoch, Stash<In>>,
    /// Results that were too large, each with its epoch.
    pub(super) refused: Vec<(Capability<Epoch>, Letter)>,
    /// What the connector has not taken yet: the batch, from this record on.
    batch: Batch,
    from: usize,
    /// Bytes of a record when it is encoded: about what one that waits holds outside of itself.
    each: usize,
    /// Bytes that were told to those who watch the pressure: that may be written, and may not.
    told: [usize; 2],
}

impl<In, F: FnMut(In, &mut Batch) -> Result> EpochWriter<In, F> {
    pub(super) fn new(
        shared: Rc<Shared>,
        port: (usize, &str),
        waker: Waker,
        order: Option<Order<In>>,
        results: bool,
        encode: F,
    ) -> Self {
        let (port, name) = port;
        if let Some(checkpoints) = &shared.checkpoints {
            let waker = waker.clone();
            checkpoints.on_commit(move || waker.wake());
        }
        let status = shared.board.sink(name);
        let plugs: Option<Rc<Plugs>> = Rc::clone(&shared.plugs).downcast().ok();
        let mut writer = None;
        if let Some(plugs) = &plugs
            && let Some(sink) = plugs.sinks.get(port)
        {
            let share = Share {
                worker: shared.worker,
                workers: shared.workers,
                port,
                buffer_bytes: plugs.tuning.buffer_bytes,
                waker,
            };
            match sink.open(share) {
                Ok(opened) => writer = Some(opened),
                Err(error) => shared.control.fail(error),
            }
            plugs.unclosed.set(plugs.unclosed.get() + 1);
        }
        Self {
            shared,
            plugs,
            writer,
            encode,
            order,
            results,
            status,
            open: BTreeMap::new(),
            refused: Vec::new(),
            batch: Batch::default(),
            from: 0,
            each: 0,
            told: [0, 0],
        }
    }

    /// Where records of `epoch` wait for their turn.
    pub(super) fn stash(
        &mut self,
        epoch: Epoch,
        capability: impl FnOnce() -> Capability<Epoch>,
    ) -> &mut VecDeque<Vec<In>> {
        let stash = self.open.entry(epoch);
        let fresh = || Stash {
            capability: capability(),
            batches: VecDeque::new(),
            ordered: false,
        };
        &mut stash.or_insert_with(fresh).batches
    }

    /// Writes what can be written. `first_open`: the first epoch that can still get records;
    /// `None`: none can. Returns whether to go on soon.
    pub(super) fn write(&mut self, first_open: Option<Epoch>) -> Result<bool> {
        let again = self.write_epochs(first_open);
        if let Some(each) = self.batch.bytes().checked_div(self.batch.records.len()) {
            self.each = each;
        }
        let [ready, behind] = self.waiting(first_open);
        let each = size_of::<In>() + self.each;
        let bytes = [ready * each + self.batch.bytes(), behind * each];
        self.shared.pressure.change(self.told, bytes);
        self.told = bytes;
        again
    }

    /// Records that wait for the connector alone, and those that wait for a commit before it. What
    /// waits for operators before the sink, because its epoch is still open, must not hold these
    /// back: each would wait for the other.
    fn waiting(&self, first_open: Option<Epoch>) -> [usize; 2] {
        let complete = |epoch: Epoch| match first_open {
            None => true,
            Some(open) if self.order.is_some() => epoch < open,
            Some(open) => epoch <= open,
        };
        let mut records = [0, 0];
        for (epoch, stash) in &self.open {
            if !complete(*epoch) {
                break;
            }
            let behind = usize::from(!self.may_write(*epoch));
            records[behind] += stash.batches.iter().map(Vec::len).sum::<usize>();
        }
        records
    }

    /// Whether no checkpoint before `epoch` waits for its commit.
    fn may_write(&self, epoch: Epoch) -> bool {
        let checkpoints = self.shared.checkpoints.as_ref();
        checkpoints.is_none_or(|checkpoints| checkpoints.may_write(epoch))
    }

    fn write_epochs(&mut self, first_open: Option<Epoch>) -> Result<bool> {
        let mut work = 0;
        loop {
            if !self.hand_over()? {
                return Ok(false); // the connector wakes us when it has room
            }
            let Some(epoch) = self.open.keys().next().copied() else {
                break;
            };
            if first_open.is_some_and(|open| open < epoch) || !self.may_write(epoch) {
                break; // an earlier epoch may still come, or we are woken at the commit
            }
            let complete = first_open.is_none_or(|open| open > epoch);
            let stash = self.open.get_mut(&epoch).expect("it is the first");
            if let Some(order) = &self.order
                && !stash.ordered
            {
                if !complete {
                    break;
                }
                stash.put_in_order(order);
            }
            while let Some(records) = stash.batches.pop_front() {
                work += records.len();
                for record in records {
                    (self.encode)(record, &mut self.batch)?;
                }
                let refused = self.batch.refused.drain(..);
                let refused = refused.map(|letter| (stash.capability.clone(), letter));
                self.refused.extend(refused);
                if self.batch.values.len() >= BATCH_BYTES {
                    break;
                }
            }
            if work > WORK_MAX {
                return Ok(true);
            }
            if !stash.batches.is_empty() {
                continue;
            }
            if !complete {
                break;
            }
            if !self.hand_over()? {
                return Ok(false);
            }
            self.open.remove(&epoch); // its capability with it
        }
        if !self.hand_over()? {
            return Ok(false);
        }
        self.finish(first_open)?;
        Ok(false)
    }

    /// Gives the batch to the connector; returns whether it took all of it.
    fn hand_over(&mut self) -> Result<bool> {
        if self.batch.records.is_empty() {
            return Ok(true);
        }
        let Some(writer) = &mut self.writer else {
            self.batch.clear();
            return Ok(true);
        };
        match writer.write(&self.batch, self.from)? {
            Written::Full(from) => {
                self.from = from;
                Ok(false)
            }
            Written::All => {
                let records = self.batch.records.len() as u64;
                self.status.written.fetch_add(records, Relaxed);
                if self.results {
                    self.shared.count().results.fetch_add(records, Relaxed);
                }
                self.batch.clear();
                self.from = 0;
                Ok(true)
            }
        }
    }

    /// Nothing more is at hand. At the end of the input the connector is closed: what it took is
    /// durable then.
    fn finish(&mut self, first_open: Option<Epoch>) -> Result {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if first_open.is_some() || !self.open.is_empty() {
            return writer.flush();
        }
        writer.close()?;
        self.writer = None;
        if let Some(plugs) = &self.plugs {
            plugs.unclosed.set(plugs.unclosed.get() - 1);
        }
        Ok(())
    }
}

impl<In> Stash<In> {
    fn put_in_order(&mut self, order: &Order<In>) {
        let mut all: Vec<In> = self.batches.drain(..).flatten().collect();
        order(&mut all);
        let mut left = all.into_iter();
        loop {
            let some: Vec<In> = left.by_ref().take(1_024).collect();
            if some.is_empty() {
                break;
            }
            self.batches.push_back(some);
        }
        self.ordered = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use timely::container::CapacityContainerBuilder;
    use timely::dataflow::operators::generic::operator::source;

    use super::*;
    use crate::observe::Metrics;
    use crate::state::Checkpoints;
    use crate::state::checkpoints::Continued;
    use crate::stream::Pressure;

    /// Calls `test` with a capability, which only a dataflow gives.
    fn with_capability(test: impl FnOnce(Capability<Epoch>) + Send + Sync + 'static) {
        type Nothing = CapacityContainerBuilder<Vec<()>>;
        timely::execute_directly(move |worker| {
            worker.dataflow(|scope| {
                source::<Epoch, Nothing, _, _>(scope, "capability", |capability, _| {
                    test(capability);
                    |_| {}
                });
            });
        });
    }

    fn shared(checkpoints: Arc<Checkpoints>, limit: usize) -> Rc<Shared> {
        Rc::new(Shared {
            checkpoints: Some(checkpoints),
            worker: 0,
            workers: 1,
            control: Arc::default(),
            metrics: Arc::new(Metrics::new(1)),
            board: Arc::default(),
            budget: Arc::default(),
            pressure: Pressure::with_limit(limit),
            plugs: Rc::new(()),
            round_trip: false,
        })
    }

    #[test]
    fn what_waits_for_a_commit_stops_only_those_behind_its_checkpoint() {
        with_capability(|capability| {
            let (tell, _notes) = channel();
            let checkpoints = Arc::new(Checkpoints::new(tell, true, Continued::default()));
            let shared = shared(Arc::clone(&checkpoints), 4_000);
            let (port, waker) = ((0, "results"), Waker::new(|| {}));
            let encode = |_: u64, _: &mut Batch| Ok(());
            let mut writer = EpochWriter::new(Rc::clone(&shared), port, waker, None, true, encode);
            let high = || [false, true].map(|behind| shared.pressure.is_high(behind));
            let [declared, behind] = [3, 4].map(Epoch::new);
            checkpoints.want(false);
            checkpoints.cut(declared, declared.next(), false);
            for epoch in [declared, behind] {
                let stash = writer.stash(epoch, || capability.delayed(&epoch));
                stash.push_back(vec![0; 1_000]);
            }
            // The checkpoint's own results go out all the same.
            assert!(!writer.write(Some(behind)).unwrap());
            let held: Vec<_> = writer.open.keys().copied().collect();
            assert_eq!((held, high()), (vec![behind], [false, true]));
            checkpoints.commit();
            assert!(!writer.write(Some(behind.next())).unwrap());
            assert!(writer.open.is_empty());
            assert_eq!(high(), [false, false]);
        });
    }

    #[test]
    fn what_is_behind_a_checkpoint_and_still_open_stops_nobody() {
        with_capability(|capability| {
            let (tell, _notes) = channel();
            let checkpoints = Arc::new(Checkpoints::new(tell, true, Continued::default()));
            let shared = shared(Arc::clone(&checkpoints), 4_000);
            let (port, waker) = ((0, "results"), Waker::new(|| {}));
            let encode = |_: u64, _: &mut Batch| Ok(());
            let order: Order<u64> = Box::new(|records| records.sort_unstable());
            let mut writer =
                EpochWriter::new(Rc::clone(&shared), port, waker, Some(order), true, encode);
            let [declared, behind] = [3, 4].map(Epoch::new);
            checkpoints.want(false);
            checkpoints.cut(declared, declared.next(), false);
            let stash = writer.stash(behind, || capability.delayed(&behind));
            stash.push_back(vec![0; 1_000]);
            // It cannot be put in order before all of it is there.
            writer.write(Some(behind)).unwrap();
            assert!(!shared.pressure.is_high(true));
            writer.write(Some(behind.next())).unwrap();
            assert!(shared.pressure.is_high(true));
        });
    }
}
