//! Without a log of commits the newest manifest is the commit: it is the one that is continued, or
//! nothing is.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::runtime::Instance;
use crate::state::disk::DiskFile;
use crate::state::lossy::LossyDisk;
use crate::state::store::newest_generation;

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
