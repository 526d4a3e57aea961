//! A check beside a job that runs, and one that would go on.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::connectors::{
    Commit, Member, MemorySource, NullSink, PartitionEnd, Reader, Share, Source, SourceCut,
};
use crate::error::ErrorKind;
use crate::runtime::progress_record::ProgressRecord;
use crate::runtime::{Describe, Settings};
use crate::state::disk::Disk;
use crate::state::manifest::{FORMAT, Manifest, SourceState};
use crate::state::store::Store;
use crate::stream::Flow;
use crate::time::Watermarks;

/// A job in another process: whenever somebody has read its progress, it commits and rewrites its
/// state, which deletes all that was committed before; so often.
struct Elsewhere {
    job: Mutex<(Store, Manifest, Vec<u8>)>,
    moves: AtomicUsize,
}

impl Elsewhere {
    fn begin(dir: &Path, moves: usize) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let store = Store::begin(&disk, dir, 0, 0, 1).unwrap();
        let items = SourceState {
            port: "items".to_owned(),
            ..SourceState::default()
        };
        let manifest = Manifest {
            format: FORMAT,
            job: "job".to_owned(),
            lineage: "one".to_owned(),
            sources: vec![items],
            ..Manifest::default()
        };
        let begun = Self {
            job: Mutex::new((store, manifest, Vec::new())),
            moves: AtomicUsize::new(moves),
        };
        begun.go_on();
        begun
    }

    fn go_on(&self) {
        let (store, manifest, record) = &mut *self.job.lock().unwrap();
        manifest.checkpoint += 1;
        store.begin_full();
        store.append(0, manifest.checkpoint, b"parcel").unwrap();
        let named = store.prepare(manifest).unwrap();
        let progress = ProgressRecord::of(manifest, &named, Vec::new());
        *record = progress.to_bytes().unwrap();
        store.clean(manifest).unwrap();
    }

    fn checkpoint(&self) -> u64 {
        self.job.lock().unwrap().1.checkpoint
    }
}

impl Commit for Elsewhere {
    fn describe(&self) -> String {
        "progress".to_owned()
    }

    fn check(&self) -> Result {
        Ok(())
    }

    fn last(&self) -> Result<Option<Vec<u8>>> {
        let record = self.job.lock().unwrap().2.clone();
        let fewer = |moves: usize| moves.checked_sub(1);
        if self.moves.fetch_update(SeqCst, SeqCst, fewer).is_ok() {
            self.go_on();
        }
        Ok(Some(record))
    }

    fn members(&self) -> Result<Vec<Member>> {
        Ok(Vec::new())
    }

    fn own(&self, _: &str) -> Result {
        unreachable!("nobody is shut out")
    }

    fn prepare(&self) -> Result {
        unreachable!("nothing is made")
    }

    fn fence(&self) -> Result {
        unreachable!("nobody is shut out")
    }

    fn written(&self) -> Result<Vec<PartitionEnd>> {
        unreachable!("nothing is written")
    }

    fn commit(&self, _: &[u8]) -> Result<bool> {
        unreachable!("nothing is written")
    }

    fn renew(&self, _: &[u8]) -> Result {
        unreachable!("nothing is written")
    }

    fn stop(&self) {}
}

/// The plan of a job that would go on with what is in `dir`.
fn plan(dir: &Path, source: impl Source + 'static, commit: &Arc<Elsewhere>) -> Plan {
    let job: Arc<Describe> = Arc::new(|flow: &Flow<'_>| {
        let items = flow.source::<i64>("items").json();
        let items = items.event_time(|item| *item, Watermarks::lag(Duration::ZERO));
        items.sink("out", |s| s.json());
        Ok(())
    });
    let settings = Settings::new()
        .workers(1)
        .state_dir(dir)
        .bind_source("items", source)
        .bind_sink("out", NullSink::new())
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    let mut plan = Plan::new("job", &job, &settings).unwrap();
    let own = plan.checkpoint.as_mut().unwrap();
    own.commit = Some(Arc::clone(commit) as Arc<dyn Commit>);
    plan
}

/// A source that has been looked at, each time knowing where it goes on or not.
#[derive(Clone, Default)]
struct Log {
    cut: Arc<Mutex<Option<SourceCut>>>,
    looks: Arc<Mutex<Vec<bool>>>,
}

impl Source for Log {
    fn describe(&self) -> String {
        "log".to_owned()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn check(&self, _creates: bool) -> Result<String> {
        let known = self.cut.lock().unwrap().is_some();
        self.looks.lock().unwrap().push(known);
        Ok("there".to_owned())
    }

    fn prepare(&self) -> Result {
        unreachable!("nothing is read")
    }

    fn resume(&self, cut: &SourceCut) -> Result {
        let before = self.cut.lock().unwrap().replace(cut.clone());
        assert_eq!(before, None, "it is told once");
        Ok(())
    }

    fn open(&self, _: Share) -> Result<Box<dyn Reader>> {
        unreachable!("nothing is read")
    }
}

fn nothing() -> MemorySource {
    MemorySource::new("items", Vec::<Vec<Vec<u8>>>::new())
}

/// What was found of the state.
fn state_of(findings: &[Finding]) -> &Result<String> {
    let mut states = findings.iter().filter(|it| it.what.starts_with("state "));
    &states.next().unwrap().found
}

#[test]
fn a_job_that_commits_meanwhile_is_no_fault() {
    for moves in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let job = Arc::new(Elsewhere::begin(folder.path(), moves));
        let findings = check(&plan(folder.path(), nothing(), &job));
        for Finding { what, found } in &findings {
            assert!(found.is_ok(), "{what} after {moves}: {found:?}");
        }
        let says = format!("goes on behind checkpoint {} ", job.checkpoint());
        let said = state_of(&findings).as_ref().unwrap();
        assert!(said.starts_with(&says), "{said}");
    }
    // One that is never seen at rest is given up.
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(Elsewhere::begin(folder.path(), usize::MAX));
    let findings = check(&plan(folder.path(), nothing(), &job));
    assert!(state_of(&findings).is_err());
}

#[test]
fn what_is_missing_beside_a_job_that_rests_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(Elsewhere::begin(folder.path(), 0));
    let logs = store::logs(&RealDisk, folder.path()).unwrap();
    std::fs::remove_file(folder.path().join(&logs[0])).unwrap();
    let findings = check(&plan(folder.path(), nothing(), &job));
    let error = state_of(&findings).as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("is missing"), "{error}");
}

#[test]
fn a_log_is_looked_at_once_and_it_is_known_where_it_is_gone_on_with() {
    for moves in [0, 3, 7] {
        let folder = tempfile::tempdir().unwrap();
        let job = Arc::new(Elsewhere::begin(folder.path(), moves));
        let log = Log::default();
        let findings = check(&plan(folder.path(), log.clone(), &job));
        assert!(findings.iter().all(|finding| finding.found.is_ok()));
        assert_eq!(*log.looks.lock().unwrap(), [true], "{moves}");
    }
    // Where the state is damaged nobody knows, and it is looked at all the same.
    let folder = tempfile::tempdir().unwrap();
    let job = Arc::new(Elsewhere::begin(folder.path(), 0));
    let logs = store::logs(&RealDisk, folder.path()).unwrap();
    std::fs::remove_file(folder.path().join(&logs[0])).unwrap();
    let log = Log::default();
    let findings = check(&plan(folder.path(), log.clone(), &job));
    assert!(state_of(&findings).is_err());
    assert_eq!(*log.looks.lock().unwrap(), [false]);
}

#[test]
fn a_check_that_panics_says_why() {
    let riddle = || -> Result { panic!("a riddle") };
    let found = thread::scope(|scope| joined(scope.spawn(riddle)));
    let said = found.unwrap_err().to_string();
    assert_eq!(said, "a check panicked: a riddle");
}
