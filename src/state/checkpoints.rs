//! Checkpoints while a job runs: what workers and the thread that commits tell each other.
//!
//! The first door that ends an epoch *declares* it a checkpoint before it lets go of the epoch.
//! Whoever may look at a later epoch can therefore see the declaration, and freezes what it has in
//! between: so all of them cut at the same place, though none waits for another. See
//! `docs/decisions/0008-checkpoints.md`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::restored::Restored;
use crate::time::watermark::PartitionClock;
use crate::time::{Epoch, Progress};

/// Bytes that may wait for the disk.
const PENDING_MAX: usize = 16 << 20;

/// What a partition had come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionFact {
    pub(crate) partition: u32,
    /// The offset of the next record.
    pub(crate) next: u64,
    pub(crate) clock: PartitionClock,
    pub(crate) stand: Stand,
}

/// What a partition did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    Joining,
    Reading,
    Idle,
    Ended,
}

/// A record that left as late with reason `idle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    /// The offset behind the record before it: in between there is none, and never will be.
    pub(crate) before: u64,
}

/// What the workers tell the thread that commits.
#[derive(Debug)]
pub(crate) enum Note {
    /// A worker is built, with so many operators that keep state, and so many doors.
    Built { operators: usize, doors: usize },
    /// A checkpoint is declared.
    Declared { epoch: Epoch, full: bool },
    /// A part of a worker's state.
    Parcel { worker: usize, bytes: Vec<u8> },
    /// An operator has handed over everything since it `began` to; so many bytes of it changed,
    /// where all was asked for. All that it holds would take about `live`.
    Saved {
        began: Instant,
        changed: u64,
        live: u64,
    },
    /// What the partitions of a door had come to at the end of the declared epoch.
    Door {
        source: u16,
        facts: Vec<PartitionFact>,
        left: Vec<Left>,
    },
    /// What was known of a source at the end of the declared epoch.
    Watermark { source: u16, progress: Progress },
    /// Every epoch before this one is complete behind all sinks of the job.
    Complete(Option<Epoch>),
    /// Time has passed, or the run ends: look around.
    Look,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// One more than the last epoch that was declared a checkpoint, and that was committed.
    declared: AtomicU64,
    committed: AtomicU64,
    /// The declared checkpoint saves everything, not only what changed.
    full: AtomicBool,
    /// The next door that ends an epoch is to declare it.
    wanted: AtomicBool,
    wants_full: AtomicBool,
    /// The latest epoch that a door has open. Held by a door that ends one.
    reached: Mutex<Epoch>,
    /// Epochs that were not empty, of all doors.
    cuts: AtomicU64,
    /// One more than the last of them.
    filled: AtomicU64,
    /// Doors that have read everything.
    ended: AtomicUsize,
    doors: AtomicUsize,
    /// Nothing is to be read any more, and everything is committed.
    released: AtomicBool,
    /// Whether sinks wait for the commit of a checkpoint before they write what is behind it.
    pub(crate) holds: bool,
    pending: AtomicUsize,
    notes: Sender<Note>,
    wakers: Mutex<Wakers>,
    restored: Mutex<Option<std::sync::Arc<Restored>>>,
    /// What was known of each source at the checkpoint that was restored.
    progress: BTreeMap<u16, Progress>,
    partitions: BTreeMap<u16, Vec<PartitionFact>>,
    skips: BTreeMap<(u16, u32), Vec<(u64, u64)>>,
}

#[derive(Default)]
struct Wakers {
    sinks: Vec<Box<dyn Fn() + Send + Sync>>,
    doors: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Wakers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wakers")
    }
}

/// What a run continues with.
#[derive(Debug, Default)]
pub(crate) struct Continued {
    pub(crate) state: Option<Restored>,
    pub(crate) progress: BTreeMap<u16, Progress>,
    pub(crate) partitions: BTreeMap<u16, Vec<PartitionFact>>,
    /// What a run that reads a log again leaves out, by source and partition.
    pub(crate) skips: BTreeMap<(u16, u32), Vec<(u64, u64)>>,
}

impl Checkpoints {
    /// `holds`: sinks write nothing that is behind a checkpoint before it is committed.
    pub(crate) fn new(notes: Sender<Note>, holds: bool, continued: Continued) -> Self {
        Self {
            declared: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            full: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            wants_full: AtomicBool::new(false),
            reached: Mutex::new(Epoch::FIRST),
            cuts: AtomicU64::new(0),
            filled: AtomicU64::new(0),
            ended: AtomicUsize::new(0),
            doors: AtomicUsize::new(usize::MAX),
            released: AtomicBool::new(false),
            holds,
            pending: AtomicUsize::new(0),
            notes,
            wakers: Mutex::default(),
            restored: Mutex::new(continued.state.map(std::sync::Arc::new)),
            progress: continued.progress,
            partitions: continued.partitions,
            skips: continued.skips,
        }
    }

    /// Tells the thread that commits. If it is gone, the run ends anyway.
    pub(crate) fn tell(&self, note: Note) {
        if let Note::Parcel { bytes, .. } = &note {
            self.pending.fetch_add(bytes.len(), SeqCst);
        }
        let _ = self.notes.send(note);
    }

    /// So many bytes of parcels are written.
    pub(crate) fn written(&self, bytes: usize) {
        self.pending.fetch_sub(bytes, SeqCst);
    }

    /// Whether more parcels may be handed over.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.load(SeqCst) < PENDING_MAX
    }

    /// A checkpoint is due: the next door that ends an epoch declares it.
    pub(crate) fn want(&self, full: bool) {
        self.wants_full.store(full, SeqCst);
        self.wanted.store(true, SeqCst);
        self.wake_doors();
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(SeqCst)
    }

    /// A door ends `epoch`, which it still holds, and goes on to `to`. If a checkpoint is due, this
    /// is it, unless another door has let go of it before: what comes of that one's source may have
    /// been applied, and written, beyond it already.
    pub(crate) fn cut(&self, epoch: Epoch, to: Epoch, empty: bool) {
        if !empty {
            self.filled.fetch_max(epoch.number() + 1, SeqCst);
            self.cuts.fetch_add(1, SeqCst);
        }
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = *reached <= epoch;
        *reached = to.max(*reached);
        if !is_first || !self.wanted.load(SeqCst) {
            return;
        }
        let full = self.wants_full.load(SeqCst);
        self.full.store(full, SeqCst);
        let before = self.declared.swap(epoch.number() + 1, SeqCst);
        assert!(
            before <= epoch.number(),
            "checkpoints are declared in the order of epochs"
        );
        assert_eq!(
            before,
            self.committed.load(SeqCst),
            "one checkpoint is on its way at a time"
        );
        // Last, or for a moment it would look as if nothing were on its way.
        self.wanted.store(false, SeqCst);
        self.tell(Note::Declared { epoch, full });
        self.wake_doors(); // those that have nothing to read follow at once
    }

    /// Epochs with something in them, so far.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(SeqCst)
    }

    /// Whether nothing lies behind `epoch`.
    pub(crate) fn covers(&self, epoch: Epoch) -> bool {
        self.filled.load(SeqCst) <= epoch.number() + 1
    }

    /// The checkpoint that was declared last, if it lies at or behind `from`, and whether it saves
    /// everything.
    pub(crate) fn declared(&self, from: Epoch) -> Option<(Epoch, bool)> {
        let declared = self.declared.load(SeqCst);
        (declared > from.number()).then(|| (Epoch::new(declared - 1), self.full.load(SeqCst)))
    }

    /// Whether results of `epoch` may be written: no checkpoint before it waits for its commit.
    pub(crate) fn may_write(&self, epoch: Epoch) -> bool {
        let declared = self.declared.load(SeqCst);
        !self.holds || declared > epoch.number() || declared <= self.committed.load(SeqCst)
    }

    /// The declared checkpoint is committed.
    pub(crate) fn commit(&self) {
        self.committed.store(self.declared.load(SeqCst), SeqCst);
        let wakers = self.wakers();
        wakers
            .sinks
            .iter()
            .chain(&wakers.doors)
            .for_each(|wake| wake());
    }

    /// Whether no checkpoint is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_wanted() && self.declared.load(SeqCst) == self.committed.load(SeqCst)
    }

    /// All workers are built, with so many doors together.
    pub(crate) fn built(&self, doors: usize) {
        self.doors.store(doors, SeqCst);
    }

    /// A door has read everything. It stays until all have, for it has a part in checkpoints.
    pub(crate) fn door_ended(&self) {
        self.ended.fetch_add(1, SeqCst);
        self.tell(Note::Look);
    }

    /// Whether all doors have read everything.
    pub(crate) fn is_read(&self) -> bool {
        self.ended.load(SeqCst) >= self.doors.load(SeqCst)
    }

    /// Doors may go.
    pub(crate) fn release(&self) {
        self.released.store(true, SeqCst);
        self.wake_doors();
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released.load(SeqCst)
    }

    /// Calls `wake` after each commit.
    pub(crate) fn on_commit(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.wakers().sinks.push(Box::new(wake));
    }

    /// Calls `wake` whenever doors have something to do.
    pub(crate) fn on_want(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.wakers().doors.push(Box::new(wake));
    }

    fn wake_doors(&self) {
        self.wakers().doors.iter().for_each(|wake| wake());
    }

    fn wakers(&self) -> std::sync::MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state that the run continues with, until all workers have loaded it.
    pub(crate) fn restored(&self) -> Option<std::sync::Arc<Restored>> {
        let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        restored.clone()
    }

    /// Every worker has what it needs of the restored state.
    pub(crate) fn forget_restored(&self) {
        let mut restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        *restored = None;
    }

    /// What was known of `source` where the run continues.
    pub(crate) fn progress(&self, source: u16) -> Option<Progress> {
        self.progress.get(&source).copied()
    }

    /// What `partition` of `source` had come to where the run continues.
    pub(crate) fn partition(&self, source: u16, partition: u32) -> Option<PartitionFact> {
        let facts = self.partitions.get(&source)?;
        facts
            .iter()
            .find(|fact| fact.partition == partition)
            .copied()
    }

    /// Offsets of `partition` of `source` that are left out.
    pub(crate) fn skips(&self, source: u16, partition: u32) -> &[(u64, u64)] {
        self.skips
            .get(&(source, partition))
            .map_or(&[], |skips| skips)
    }

    /// Whether the run continues another one.
    pub(crate) fn continues(&self) -> bool {
        !self.partitions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Planted once and seen to fail: whoever ends an epoch declares it.
    #[test]
    fn a_door_that_others_have_passed_declares_nothing() {
        let (notes, told) = std::sync::mpsc::channel();
        let checkpoints = Checkpoints::new(notes, true, Continued::default());
        let [one, two, three, seven] = [1, 2, 3, 7].map(Epoch::new);
        // One lets go of it before a checkpoint is due: parts of the next may be applied.
        checkpoints.cut(one, two, false);
        checkpoints.want(false);
        checkpoints.cut(one, two, false);
        checkpoints.cut(Epoch::FIRST, two, false);
        assert!(checkpoints.is_wanted());
        assert!(told.try_recv().is_err());
        // It goes far ahead, where others wait for room.
        checkpoints.cut(two, seven, false);
        assert_eq!(checkpoints.declared(Epoch::FIRST), Some((two, false)));
        assert!(matches!(told.try_recv(), Ok(Note::Declared { epoch, .. }) if epoch == two));
        checkpoints.commit();
        checkpoints.want(true);
        checkpoints.cut(three, seven, false);
        assert!(checkpoints.is_wanted());
        checkpoints.cut(seven, seven.next(), false);
        assert_eq!(checkpoints.declared(three), Some((seven, true)));
    }
}
