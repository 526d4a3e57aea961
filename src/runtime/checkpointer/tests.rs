//! Whoever was taken over leaves files alone. What left as `idle` is held as long as it can be read
//! again. An outage of Kafka is not taken for a large state.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;

use super::*;
use crate::connectors::{Member, Outputs, PartitionEnd, Reader, Share, Sink, Style, Writer};
use crate::error::{Error, ErrorKind};
use crate::observe::simulated::Clock;
use crate::runtime::growth::SMALL;
use crate::state::checkpoints::Continued;
use crate::state::disk::Disk;
use crate::state::lossy::LossyDisk;
use crate::state::manifest::{PartitionState, SourceState};
use crate::state::{OutputState, durable};

/// Counts how often files are cut and shown.
#[derive(Clone, Default)]
struct Counts {
    cut: Arc<AtomicUsize>,
    shown: Arc<AtomicUsize>,
}

impl Counts {
    fn both(&self) -> (usize, usize) {
        (self.cut.load(SeqCst), self.shown.load(SeqCst))
    }
}

impl Sink for Counts {
    fn describe(&self) -> String {
        "counts".to_owned()
    }
    fn style(&self) -> Style {
        Style::Lines
    }
    fn prepare(&self) -> Result {
        Ok(())
    }
    fn open(&self, _: Share) -> Result<Box<dyn Writer>> {
        Err(Error::operating("nothing is written"))
    }
    fn outputs(&self) -> Option<&dyn Outputs> {
        Some(self)
    }
    fn finish(&self, _: bool) -> Result {
        Ok(())
    }
}

impl Outputs for Counts {
    fn place(&self) -> String {
        "/out".to_owned()
    }
    fn is_one_file(&self) -> bool {
        false
    }
    fn go_on(&self, _: Option<&OutputState>) {}
    fn is_due(&self, _: bool) -> Result<bool> {
        Ok(false)
    }
    fn cut(&self, _: bool) -> Result<OutputState> {
        self.cut.fetch_add(1, SeqCst);
        Ok(OutputState::default())
    }
    fn show(&self, _: &OutputState) -> Result {
        self.shown.fetch_add(1, SeqCst);
        Ok(())
    }
}

fn checkpointer(disk: &Arc<dyn Disk>, dir: &Path, sink: Counts) -> Checkpointer {
    let (tell, notes) = channel();
    let sinks: [Arc<dyn Sink>; 1] = [Arc::new(sink)];
    Checkpointer {
        checkpoints: Arc::new(Checkpoints::new(tell, true, Continued::default())),
        notes,
        control: Arc::default(),
        metrics: Arc::new(Metrics::new(1)),
        board: Arc::default(),
        store: Store::begin(disk, dir, 0, 0, 1).unwrap(),
        commit: None,
        sources: Vec::new(),
        results: Results::of(&["out".to_owned()], &sinks),
        interval: Duration::from_secs(1),
        finishes: true,
        bounded: false,
        parts: Parts::default(),
        manifest: Manifest::default(),
        written: Vec::new(),
        state: State::new(Growth::new(SMALL, false, None)),
    }
}

#[test]
fn a_process_that_was_taken_over_appends_to_no_file_and_names_none() {
    let disk: Arc<dyn Disk> = Arc::new(LossyDisk::new());
    let dir = Path::new("/state");
    durable::make_folders(&*disk, dir).unwrap();
    let counts = Counts::default();
    let mut zombie = checkpointer(&disk, dir, counts.clone());
    zombie.finish().unwrap();
    assert_eq!(counts.both(), (1, 1));
    let _successor = Store::begin(&disk, dir, 1, 0, 1).unwrap();
    let error = zombie.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Owned);
    assert_eq!(counts.both(), (1, 1));
}

/// A log whose first partition begins at 20.
struct Shortened;

impl Source for Shortened {
    fn describe(&self) -> String {
        "shortened".to_owned()
    }
    fn bounded(&self) -> bool {
        false
    }
    fn prepare(&self) -> Result {
        Ok(())
    }
    fn open(&self, _: Share) -> Result<Box<dyn Reader>> {
        Err(Error::operating("nothing is read"))
    }
    fn begins(&self) -> BTreeMap<u32, u64> {
        [(0, 20)].into()
    }
}

#[test]
fn what_left_is_forgotten_when_the_log_has_it_no_more() {
    let disk: Arc<dyn Disk> = Arc::new(LossyDisk::new());
    let dir = Path::new("/state");
    durable::make_folders(&*disk, dir).unwrap();
    let mut checkpointer = checkpointer(&disk, dir, Counts::default());
    checkpointer.sources = vec![Arc::new(Shortened)];
    let partition = |partition| PartitionState {
        partition,
        next: 40,
        left: vec![(10, 12), (19, 22), (30, 31)],
        ..PartitionState::default()
    };
    checkpointer.manifest.sources = vec![SourceState {
        partitions: vec![partition(0), partition(1)],
        ..SourceState::default()
    }];
    checkpointer.finish().unwrap();
    let left = |nth: usize| &checkpointer.manifest.sources[0].partitions[nth].left;
    assert_eq!(*left(0), [(20, 22), (30, 31)]);
    assert_eq!(left(1).len(), 3);
}

/// A Kafka that takes its time for a commit.
struct Away(Clock);

const OUTAGE: Duration = Duration::from_secs(35);

impl Commit for Away {
    fn describe(&self) -> String {
        "progress".to_owned()
    }
    fn check(&self) -> Result {
        Ok(())
    }
    fn last(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn members(&self) -> Result<Vec<Member>> {
        Ok(Vec::new())
    }
    fn own(&self, _: &str) -> Result {
        Ok(())
    }
    fn prepare(&self) -> Result {
        Ok(())
    }
    fn fence(&self) -> Result {
        Ok(())
    }
    fn written(&self) -> Result<Vec<PartitionEnd>> {
        self.0.advance(OUTAGE);
        Ok(Vec::new())
    }
    fn commit(&self, _: &[u8]) -> Result<bool> {
        self.0.advance(OUTAGE);
        Ok(true)
    }
    fn renew(&self, _: &[u8]) -> Result {
        self.0.advance(OUTAGE);
        Ok(())
    }
    fn stop(&self) {}
}

/// A checkpointer that commits there.
fn committing(clock: &Clock) -> Checkpointer {
    let disk: Arc<dyn Disk> = Arc::new(LossyDisk::new());
    let dir = Path::new("/state");
    durable::make_folders(&*disk, dir).unwrap();
    let mut checkpointer = checkpointer(&disk, dir, Counts::default());
    checkpointer.commit = Some(Arc::new(Away(clock.clone())));
    checkpointer
}

#[test]
fn an_outage_while_everything_is_saved_is_not_taken_for_a_large_state() {
    let clock = Clock::default();
    clock.install();
    let mut checkpointer = committing(&clock);
    checkpointer.parts.workers = 1;
    let (operators, doors) = (1, 0);
    checkpointer.take(Note::Built { operators, doors }).unwrap();
    let (epoch, full) = (Epoch::FIRST, true);
    checkpointer.take(Note::Declared { epoch, full }).unwrap();
    // A sink that is full holds the operator back.
    clock.advance(OUTAGE);
    let (began, changed, live) = (now(), 0, 0);
    clock.advance(Duration::from_secs(2));
    let saved = Note::Saved {
        began,
        changed,
        live,
    };
    checkpointer.take(saved).unwrap();
    assert!(!checkpointer.is_gathered(), "nothing is written yet");
    clock.advance(OUTAGE);
    checkpointer.take(Note::Complete(None)).unwrap();
    assert!(checkpointer.is_gathered());
    checkpointer.finish().unwrap();
    Clock::remove();
    assert_eq!(clock.passed(), OUTAGE * 5 + Duration::from_secs(2));
    assert_eq!(checkpointer.manifest.full_millis, Some(2_000));
}

#[test]
#[should_panic(expected = "checkpoint 7 does not follow Some(7)")]
fn a_checkpoint_that_was_committed_is_not_committed_again() {
    let mut checkpointer = committing(&Clock::default());
    let manifest = Manifest {
        checkpoint: 7,
        ..Manifest::default()
    };
    checkpointer.settle(manifest.clone()).unwrap();
    checkpointer.settle(manifest).unwrap();
}
