//! Without a log of commits the newest manifest is the commit: it is the one that is continued, or
//! nothing is.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::observe::Metrics;
use crate::runtime::Instance;
use crate::state::checkpoints::{PartitionFact, Stand};
use crate::state::disk::DiskFile;
use crate::state::lossy::LossyDisk;
use crate::state::store::newest_generation;
use crate::stream::Control;
use crate::time::watermark::PartitionClock;
use crate::time::{Epoch, EventTime, Progress};

fn plan() -> CheckpointPlan {
    CheckpointPlan {
        dir: "/state".into(),
        interval: Duration::from_secs(1),
        job: "job".to_owned(),
        name: "job".to_owned(),
        commit: None,
        operators: Vec::new(),
        instance: Instance::default(),
        allow_empty: Vec::new(),
        finishes: true,
        savepoint: None,
        small: 0,
    }
}

/// Makes some checkpoints, in two generations.
fn make(disk: &LossyDisk) -> Result {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let dir = Path::new("/state");
    crate::state::durable::make_folders(&*disk, dir).map_err(|_| Error::operating("no folder"))?;
    let mut manifest = Manifest::default();
    for _ in 0..2 {
        let mut store = Store::begin(&disk, dir, newest_generation(&*disk, dir)?, 0, 1)?;
        for _ in 0..2 {
            manifest.checkpoint += 1;
            store.append(0, manifest.checkpoint, b"parcel")?;
            store.prepare(&mut manifest)?;
        }
        store.clean(&manifest)?;
    }
    Ok(())
}

#[test]
fn the_newest_manifest_is_continued_and_from_then_on_stays() {
    let mut found = Vec::new();
    for operations in 0.. {
        let disk = LossyDisk::new();
        disk.power_off_after(operations);
        let done = make(&disk).is_ok();
        // The process was killed, and the power fails when another relies on what it found.
        disk.fail_no_more();
        if let Some((manifest, _)) = committed(&disk, &plan()).unwrap() {
            for seed in 0..50 {
                let again = committed(&disk.crash(seed), &plan()).unwrap();
                assert_eq!(again.map(|(again, _)| again).as_ref(), Some(&manifest));
            }
            found.push(manifest.checkpoint);
        }
        if done {
            break;
        }
    }
    found.dedup();
    assert_eq!(found, [1, 2, 3, 4]);
}

#[test]
fn a_damaged_manifest_is_refused_and_not_skipped() {
    let disk = LossyDisk::new();
    make(&disk).unwrap();
    let before = committed(&disk, &plan()).unwrap().unwrap();
    let newer = "/state/gen=00000002/checkpoint-0000000005.json";
    let mut file: Box<dyn DiskFile> = disk.create(Path::new(newer)).unwrap();
    file.append(b"half a manif").unwrap();
    let error = committed(&disk, &plan()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    let says = format!("manifest `{newer}` is damaged");
    assert!(error.to_string().starts_with(&says), "{error}");
    // What is being written is no manifest yet.
    let hidden = "/state/gen=00000002/.checkpoint-0000000005.json.tmp";
    disk.rename(Path::new(newer), Path::new(hidden)).unwrap();
    assert_eq!(committed(&disk, &plan()).unwrap(), Some(before));
}

/// The checkpointer of a job with one worker, whose source `bids` has come to 17 in partition 3,
/// and to a watermark of 40.
fn checkpointer() -> Checkpointer {
    let disk: Arc<dyn Disk> = Arc::new(LossyDisk::new());
    let (dir, (tell, notes)) = (Path::new("/state"), mpsc::channel());
    crate::state::durable::make_folders(&*disk, dir).unwrap();
    let mut source = SourceState {
        port: "bids".to_owned(),
        ..SourceState::default()
    };
    source.set_partition(&told(17));
    source.set_progress(at(40));
    Checkpointer {
        checkpoints: Arc::new(Checkpoints::new(tell, false, Continued::default())),
        notes,
        control: Arc::new(Control::default()),
        metrics: Arc::new(Metrics::new(1)),
        board: Arc::default(),
        store: Store::begin(&disk, dir, 0, 0, 1).unwrap(),
        commit: None,
        sources: Vec::new(),
        results: Results::default(),
        interval: Duration::from_hours(1),
        finishes: true,
        bounded: false,
        parts: Parts {
            workers: 1,
            sources: 1,
        },
        manifest: Manifest {
            sources: vec![source],
            ..Manifest::default()
        },
        written: Vec::new(),
        state: State::new(Growth::new(4 << 20, false, None)),
    }
}

fn told(next: u64) -> PartitionFact {
    PartitionFact {
        partition: 3,
        next,
        clock: PartitionClock {
            largest: EventTime::NEVER,
            floor: EventTime::NEVER,
        },
        stand: Stand::Reading,
    }
}

fn at(watermark: i64) -> Progress {
    Progress {
        watermark: EventTime::from_millis(watermark),
        ..Progress::START
    }
}

/// Why a run fails whose next checkpoint is to tell of offset `next` and of `progress`.
fn fault_of(next: u64, progress: Progress) -> Error {
    let checkpointer = checkpointer();
    let control = Arc::clone(&checkpointer.control);
    let checkpointing = Checkpointing::begin(checkpointer).unwrap();
    let (operators, doors) = (0, 1);
    for note in [
        Note::Built { operators, doors },
        Note::Declared {
            epoch: Epoch::FIRST,
            full: false,
        },
        Note::Door {
            source: 0,
            facts: vec![told(next)],
            left: Vec::new(),
        },
        Note::Watermark {
            source: 0,
            progress,
        },
        Note::Complete(None),
    ] {
        checkpointing.checkpoints.tell(note);
    }
    // Without it workers and whoever waits for the job would wait for ever.
    while !control.is_faulty() && !checkpointing.thread.is_finished() {
        thread::yield_now();
    }
    let fault = control.take_fault().expect("the run fails");
    checkpointing.end(true).unwrap();
    fault
}

#[test]
fn an_offset_that_goes_back_ends_the_run_and_says_where() {
    let fault = fault_of(5, at(40));
    assert_eq!(fault.kind(), ErrorKind::Panic);
    let says = "source `bids`: partition 3 goes back from 17 to 5";
    assert!(fault.to_string().ends_with(says), "{fault}");
}

#[test]
fn a_watermark_that_goes_back_ends_the_run_and_says_where() {
    for back in [at(39), Progress::START] {
        let fault = fault_of(17, back);
        assert_eq!(fault.kind(), ErrorKind::Panic);
        let says = "the watermark of `bids` went back";
        assert!(fault.to_string().ends_with(says), "{fault}");
    }
}
