//! Whoever was taken over while it started leaves files alone; and a panic is told with its place.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::connectors::{FileSink, NullSink, Reader, Share, Source};
use crate::runtime::{Describe, Settings};
use crate::state::disk::{Disk, RealDisk};
use crate::state::store::{Store, newest_generation};
use crate::stream::Flow;
use crate::time::Watermarks;

/// While it is prepared another process takes over, commits a part file, and dies.
struct Slow {
    state: PathBuf,
    part: PathBuf,
}

impl Source for Slow {
    fn describe(&self) -> String {
        "slow".to_owned()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn prepare(&self) -> Result {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let seen = newest_generation(&*disk, &self.state)?;
        Store::begin(&disk, &self.state, seen, 0, 1)?;
        fs::create_dir(self.part.parent().unwrap()).unwrap();
        fs::write(&self.part, "committed\n").unwrap();
        Ok(())
    }

    fn open(&self, _: Share) -> Result<Box<dyn Reader>> {
        unreachable!("nothing is read")
    }
}

fn plan(folder: &Path, source: Slow) -> Plan {
    let job: Arc<Describe> = Arc::new(|flow: &Flow<'_>| {
        let items = flow.source::<i64>("items").json();
        let items = items.event_time(|item| *item, Watermarks::lag(Duration::ZERO));
        items.sink("out", |s| s.json());
        Ok(())
    });
    let settings = Settings::new()
        .workers(1)
        .state_dir(folder.join("state"))
        .bind_source("items", source)
        .bind_sink("out", FileSink::new(folder.join("out/"), false))
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    Plan::new("job", &job, &settings).unwrap()
}

#[test]
fn a_panic_outside_of_operators_names_none() {
    let connector = |nth: &usize| {
        assert!(*nth == 0, "no such broker");
        Ok(())
    };
    let error = at_once(&[0, 1], connector).unwrap_err();
    assert_eq!(error.to_string(), "a connector panicked: no such broker");
}

#[test]
fn whoever_is_taken_over_while_it_starts_removes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let part = folder.join("out").join(".part-000-0000000000.jsonl.tmp");
    let source = Slow {
        state: folder.join("state"),
        part: part.clone(),
    };
    let plan = plan(folder, source);
    let error = run(plan, &Run::with_workers(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Owned, "{error}");
    assert_eq!(fs::read_to_string(&part).unwrap(), "committed\n");
}
