//! A state directory that is not the one that progress tells of is refused, and the sentence says
//! which of the two is another.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::connectors::{Member, PartitionEnd};
use crate::runtime::Instance;
use crate::state::durable::make_folders;
use crate::state::lossy::LossyDisk;
use crate::state::manifest::FORMAT;
use crate::state::store::{Named, Store};

/// A topic of progress with this last record.
struct Says(Option<Vec<u8>>);

impl Commit for Says {
    fn describe(&self) -> String {
        "kafka:job.progress".to_owned()
    }
    fn check(&self) -> Result {
        Ok(())
    }
    fn last(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.0.clone())
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
        Ok(Vec::new())
    }
    fn commit(&self, _: &[u8]) -> Result<bool> {
        Ok(false)
    }
    fn renew(&self, _: &[u8]) -> Result {
        Ok(())
    }
    fn stop(&self) {}
}

/// Checkpoint 4 of job `bids`, in the first generation.
fn made() -> (Arc<dyn Disk>, Manifest, Named) {
    let disk: Arc<dyn Disk> = Arc::new(LossyDisk::new());
    let dir = Path::new("/state");
    make_folders(&*disk, dir).unwrap();
    let mut store = Store::begin(&disk, dir, 0, 0, 1).unwrap();
    let mut manifest = Manifest {
        format: FORMAT,
        job: "bids".to_owned(),
        lineage: "one".to_owned(),
        checkpoint: 4,
        ..Manifest::default()
    };
    let named = store.prepare(&mut manifest).unwrap();
    (disk, manifest, named)
}

/// The job, and where its last record is `record`.
fn own(record: Option<&ProgressRecord>) -> CheckpointPlan {
    let record = record.map(|record| record.to_bytes().unwrap());
    CheckpointPlan {
        dir: "/state".into(),
        interval: Duration::from_secs(1),
        job: "bids".to_owned(),
        name: "bids".to_owned(),
        commit: Some(Arc::new(Says(record))),
        operators: Vec::new(),
        instance: Instance::default(),
        allow_empty: Vec::new(),
        finishes: true,
        savepoint: None,
        small: 0,
    }
}

fn looked(disk: &Arc<dyn Disk>, own: &CheckpointPlan) -> Result<u64> {
    look(&**disk, own, &**own.commit.as_ref().unwrap(), 1)
}

#[track_caller]
fn assert_refused<T: fmt::Debug>(found: Result<T>, sentence: &str) {
    let error = found.unwrap_err();
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (ErrorKind::State, sentence)
    );
}

#[test]
fn the_manifest_that_is_loaded_is_the_one_that_progress_names() {
    let (disk, manifest, named) = made();
    let mut record = ProgressRecord::of(&manifest, &named, Vec::new());
    let found = committed(&*disk, &own(Some(&record))).unwrap();
    assert_eq!(found, Some((manifest, Vec::new())));
    // One of that name is there, and whole: the checksum alone tells.
    record.crc = format!("{:08x}", named.crc ^ 1);
    assert_refused(
        committed(&*disk, &own(Some(&record))),
        "manifest `gen=00000001/checkpoint-0000000004.json` in `/state` is not the one that \
         kafka:job.progress names: start with --rebuild, which reads the log again",
    );
}

#[test]
fn a_directory_of_another_run_is_refused() {
    let (disk, manifest, named) = made();
    let record = ProgressRecord::of(&manifest, &named, Vec::new());
    assert_eq!(looked(&disk, &own(Some(&record))).unwrap(), 1);
    let other = ProgressRecord {
        job: "asks".to_owned(),
        lineage: "two".to_owned(),
        ..record
    };
    assert_refused(
        looked(&disk, &own(Some(&other))),
        "state directory `/state` is of another run than kafka:job.progress: job `asks` there, \
         job `bids` here; give its own --state-dir, or start with --rebuild, which reads the log \
         again",
    );
    // If another one has begun meanwhile, they need not agree.
    let _newer = Store::begin(&disk, Path::new("/state"), 1, 0, 1).unwrap();
    let error = looked(&disk, &own(Some(&other))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Owned);
}

#[test]
fn a_directory_without_its_progress_is_refused_but_for_that_of_a_first_start() {
    let (disk, mut manifest, _) = made();
    assert_refused(
        looked(&disk, &own(None)),
        "state directory `/state` has checkpoint 4 of job `bids`, and kafka:job.progress has no \
         progress: it is another cluster, or the topic was deleted, or the job ran at-least-once; \
         to start afresh empty the directory",
    );
    let disk: Arc<dyn Disk> = Arc::new(LossyDisk::new());
    make_folders(&*disk, Path::new("/state")).unwrap();
    let mut store = Store::begin(&disk, Path::new("/state"), 0, 0, 1).unwrap();
    manifest.checkpoint = 0;
    store.prepare(&mut manifest).unwrap();
    assert_eq!(looked(&disk, &own(None)).unwrap(), 0);
}

#[test]
fn a_directory_of_another_job_is_refused() {
    let (_, manifest, _) = made();
    let mut own = own(None);
    check_job(&manifest, &own).unwrap();
    own.job = "asks".to_owned();
    assert_refused(
        check_job(&manifest, &own),
        "state directory `/state` is of job `bids`, and this is `asks`; give each job a \
         --state-dir of its own",
    );
}
