//! State that a version of the format has written stays readable, and what is written now is what
//! that version says, byte for byte.
//!
//! `tests/state/format-1` is a state directory of two generations: what a job with every kind of
//! state left when it was killed, and beside it a manifest with files of results. A format's files
//! are never written again. When the format gets
//! its next number, `BLESS=1 cargo test --lib the_bytes_of_state` adds those of the new one.

mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::state::checkpoints::Continued;
use crate::state::disk::{Disk, RealDisk};
use crate::state::frame;
use crate::state::manifest::{
    FORMAT, Manifest, OperatorShape, PartitionStand, PartitionState, SourceState,
};
use crate::state::outputs::{OutputFile, OutputState};
use crate::state::saved::{Holds, Parcel};
use crate::state::store::{Store, manifests, read_log, read_logs, read_manifest};
use crate::time::{EventTime, Progress};
use kinds::{Part, Ran, run};

/// Where the results lie that a job gives which goes on from the state beside them.
const RESULTS: &str = "results.txt";
/// A manifest with files of results.
const OUTPUTS: &str = "outputs.json";

fn folder(format: u32) -> PathBuf {
    PathBuf::from(format!("tests/state/format-{format}"))
}

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// What the last manifest in `dir` has, as a job continues with it.
fn found(dir: &Path) -> (Manifest, Continued) {
    let name = manifests(&RealDisk, dir).unwrap().pop().unwrap();
    let (manifest, _) = read_manifest(&RealDisk, dir, &name).unwrap();
    let state = read_logs(&real(), dir, &manifest.logs).unwrap();
    let sources = manifest.sources.iter().zip(0u16..);
    let continued = Continued {
        state: Some(state),
        progress: sources
            .map(|(source, nth)| (nth, source.progress()))
            .collect(),
        ..Continued::default()
    };
    (manifest, continued)
}

/// Where the parts stand after which the job is killed.
fn progress() -> Progress {
    Progress {
        watermark: EventTime::from_millis(120),
        horizon: EventTime::from_millis(110),
        last: EventTime::NEVER,
    }
}

/// A manifest with something in every field.
fn manifest(ran: &Ran) -> Manifest {
    let shape = |(name, shape): &(String, String)| OperatorShape {
        name: name.clone(),
        shape: shape.clone(),
    };
    let stands = [
        PartitionStand::Reading,
        PartitionStand::Joining,
        PartitionStand::Idle,
        PartitionStand::Ended,
    ];
    let partition = |(stand, nth): (PartitionStand, u32)| PartitionState {
        partition: nth,
        first: u64::from(nth),
        next: 100 + u64::from(nth),
        left: vec![(20, 22), (30, 31)],
        end: (stand == PartitionStand::Ended).then_some(103),
        largest: (stand != PartitionStand::Joining).then_some(125),
        floor: (stand == PartitionStand::Idle).then_some(-7),
        state: stand,
    };
    let mut source = SourceState {
        port: "items".to_owned(),
        place: "kafka:items".to_owned(),
        identity: "R-_y8kcdTYuqTSKMb0d6cg".to_owned(),
        partitions: stands.into_iter().zip(0..).map(partition).collect(),
        ..SourceState::default()
    };
    source.set_progress(progress());
    Manifest {
        format: FORMAT,
        job: "kinds-7".to_owned(),
        name: "kinds".to_owned(),
        lineage: "19a8c1f3b2e-4d2".to_owned(),
        made_at: 1_700_000_000_123,
        operators: ran.stateful.iter().map(shape).collect(),
        sources: vec![source],
        ..Manifest::default()
    }
}

/// A manifest with what only some have.
fn manifest_with_outputs() -> Manifest {
    let file = |nth: u64, done| OutputFile {
        path: format!("/out/part-000-000000000{nth}.jsonl"),
        len: 1_234 * nth,
        crc: 0x00c0_ffee,
        done,
    };
    let outputs = OutputState {
        port: "results".to_owned(),
        place: "/out".to_owned(),
        next: 3,
        files: vec![file(1, true), file(2, false)],
    };
    Manifest {
        format: FORMAT,
        job: "kinds-7".to_owned(),
        outputs: vec![outputs],
        full_millis: Some(1_250),
        ..Manifest::default()
    }
}

/// Appends the parcels of a checkpoint, and makes it.
fn save(store: &mut Store, manifest: &mut Manifest, parcels: &[Vec<u8>]) {
    manifest.checkpoint += 1;
    for parcel in parcels {
        store.append(0, manifest.checkpoint, parcel).unwrap();
    }
    if manifest.checkpoint == 1 {
        manifest.full_bytes = store.bytes();
    }
    store.prepare(manifest).unwrap();
    store.clean(manifest).unwrap();
}

/// Writes the state directory that this version writes.
fn write(dir: &Path) {
    let [first, second, ..] = Part::all();
    let ran = run(1, Continued::default(), vec![first, second]);
    let mut manifest = manifest(&ran);
    let mut store = Store::begin(&real(), dir, 0, 0, 1).unwrap();
    for parcels in &ran.parcels {
        save(&mut store, &mut manifest, parcels);
    }
    drop(store);
    let (mut manifest, continued) = found(dir);
    let [_, _, third, _] = Part::all();
    let ran = run(1, continued, vec![third]);
    let mut store = Store::begin(&real(), dir, 1, 0, 1).unwrap();
    store.continue_with(manifest.logs.clone());
    save(&mut store, &mut manifest, &ran.parcels[0]);
    drop(store);
    fs::write(dir.join(RESULTS), results(1, dir)).unwrap();
    let (bytes, _) = manifest_with_outputs().to_bytes().unwrap();
    fs::write(dir.join(OUTPUTS), bytes).unwrap();
}

/// The results of a job that goes on from the state in `dir`, sorted, a line each.
fn results(workers: usize, dir: &Path) -> String {
    let (_, continued) = found(dir);
    let [.., last] = Part::all();
    lines(run(workers, continued, vec![last]).results)
}

fn lines(mut results: Vec<String>) -> String {
    results.sort_unstable();
    results.join("\n") + "\n"
}

/// All files below `dir`, by their names.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            all.extend(below.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            all.insert(name, fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn what_every_version_wrote_is_read_by_any_number_of_workers() {
    for format in 1..=FORMAT {
        let dir = folder(format);
        let expected = fs::read_to_string(dir.join(RESULTS)).unwrap();
        for workers in 1..4 {
            assert_eq!(results(workers, &dir), expected, "{workers} workers");
        }
    }
}

#[test]
fn files_of_results_that_every_version_wrote_are_read() {
    for format in 1..=FORMAT {
        let bytes = fs::read(folder(format).join(OUTPUTS)).unwrap();
        let (read, _) = Manifest::read(&bytes, OUTPUTS, "").unwrap();
        let expected = Manifest {
            format,
            ..manifest_with_outputs()
        };
        assert_eq!(read, expected);
    }
}

#[test]
fn what_is_read_is_what_a_run_without_an_end_has() {
    let parts = Part::all();
    let before = run(1, Continued::default(), parts[..3].to_vec()).results;
    let mut all = run(1, Continued::default(), parts.to_vec()).results;
    assert!(all.starts_with(&before));
    let expected = fs::read_to_string(folder(FORMAT).join(RESULTS)).unwrap();
    assert_eq!(lines(all.split_off(before.len())), expected);
}

/// What the logs hold: operator, piece, group, and the first byte of an entry.
fn kinds_of_entries(dir: &Path) -> BTreeSet<(String, u8, i64, Option<u8>)> {
    let (manifest, _) = found(dir);
    let mut all = BTreeSet::new();
    for log in &manifest.logs {
        let (bytes, parcels) = read_log(&RealDisk, dir, log).unwrap();
        for place in parcels {
            let parcel = Parcel::read(&bytes[place]).unwrap();
            let Holds::Entries(entries) = parcel.holds else {
                continue;
            };
            let operator = parcel.operator.to_owned();
            let firsts = entries.map(|entry| entry.unwrap().1.first().copied());
            all.extend(firsts.map(|first| (operator.clone(), parcel.piece, parcel.group, first)));
        }
    }
    all
}

#[test]
fn every_kind_of_state_is_in_the_files() {
    let all = kinds_of_entries(&folder(FORMAT));
    let has = |operator: &str, piece, is: &dyn Fn(i64, Option<u8>) -> bool| {
        let mut all = all.iter();
        all.any(|(of, nth, group, first)| (&**of, *nth) == (operator, piece) && is(*group, *first))
    };
    // Held events, and tables of ids and of keys.
    for (operator, piece) in [
        ("dedup", 0),
        ("dedup", 1),
        ("dedup_eager", 0),
        ("order", 0),
        ("silence", 0),
        ("silence", 1),
    ] {
        assert!(has(operator, piece, &|_, _| true), "{operator} {piece}");
    }
    // Windows, by their start; and a key that was removed.
    for start in [0, 50, 100] {
        assert!(has("window", 0, &|group, _| group == start));
    }
    assert!(has("window 2", 0, &|group, _| group == 80));
    assert!(has("silence", 1, &|_, first| first == Some(0)));
}

#[test]
fn what_operators_say_that_they_hold_is_what_saving_everything_takes() {
    let parts = Part::all();
    let whole = parts[..3].iter().map(|part| part.clone().whole()).collect();
    let whole = run(1, Continued::default(), whole);
    let deltas = run(1, Continued::default(), parts[..3].to_vec());
    for (nth, parcels) in whole.parcels.iter().enumerate() {
        let holds = |bytes: &&Vec<u8>| {
            let parcel = Parcel::read(bytes).unwrap();
            matches!(parcel.holds, Holds::Entries(_))
        };
        let all = parcels.iter().filter(holds);
        let all: u64 = all.map(|bytes| (bytes.len() + frame::HEAD) as u64).sum();
        assert_eq!(whole.live[nth], all);
        let about = all / 2..all * 2;
        let said = deltas.live[nth];
        assert!(about.contains(&said), "{said} of {all}");
    }
    // Whoever goes on from there knows it, too.
    let (_, continued) = found(&folder(FORMAT));
    let [.., last] = Part::all();
    let ended = run(1, continued, vec![last]);
    assert!(ended.live[0] < whole.live[2] / 2, "{:?}", ended.live);
}

#[test]
fn the_bytes_of_state_are_what_they_were() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let (now, own) = (files(dir.path()), folder(FORMAT));
    if std::env::var_os("BLESS").is_some() && !own.exists() {
        for (name, bytes) in &now {
            let path = own.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    let then = files(&own);
    assert_eq!(
        now.keys().collect::<Vec<_>>(),
        then.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &then {
        let differs = bytes.iter().zip(&now[name]).position(|(a, b)| a != b);
        assert!(
            *bytes == now[name],
            "{name} differs from that of format {FORMAT} at byte {differs:?}: what is written on \
             disk has changed, and what was written could not be read. Take the change back, or \
             raise `state::manifest::FORMAT`, go on reading the older one, and add files of the \
             new one with BLESS=1"
        );
    }
}
