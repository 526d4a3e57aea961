//! A start, in a group that says what a test wants.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::connectors::PartitionEnd;
use crate::observe::simulated::Clock;
use crate::state::disk::Disk;
use crate::state::store::Store;

/// A group: what it says when it is asked for the first time, the second, and so on.
struct Group<M> {
    asked: AtomicUsize,
    members: M,
    prepare: fn(),
}

impl<M: Fn(usize) -> Vec<Member> + Send + Sync> Commit for Group<M> {
    fn describe(&self) -> String {
        "a group".to_owned()
    }

    fn check(&self) -> Result {
        Ok(())
    }

    fn last(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn members(&self) -> Result<Vec<Member>> {
        Ok((self.members)(self.asked.fetch_add(1, SeqCst)))
    }

    fn own(&self, _: &str) -> Result {
        Ok(())
    }

    fn prepare(&self) -> Result {
        (self.prepare)();
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

/// A job in `dir` with this group.
fn plan<M>(dir: &Path, instance: Instance, members: M, prepare: fn()) -> CheckpointPlan
where
    M: Fn(usize) -> Vec<Member> + Send + Sync + 'static,
{
    CheckpointPlan {
        dir: dir.to_owned(),
        interval: Duration::from_secs(1),
        job: "job".to_owned(),
        name: "job".to_owned(),
        commit: Some(Arc::new(Group {
            asked: AtomicUsize::new(0),
            members,
            prepare,
        })),
        operators: Vec::new(),
        instance,
        allow_empty: Vec::new(),
        finishes: true,
        savepoint: None,
        small: 4 << 20,
    }
}

#[test]
fn a_panic_of_a_start_keeps_its_text() {
    fn prepare() {
        panic!("no room for it");
    }
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), Instance::Yields, |_| Vec::new(), prepare);
    let error = own(&plan, &Control::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(error.to_string().contains("no room for it"), "{error}");
}

/// Begins the generation after `seen`.
fn begin(dir: &Path, seen: u64) -> Result {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    Store::begin(&disk, dir, seen, 0, 1).map(|_| ())
}

/// A start during whose first look another one begins a generation, which then is missing in the
/// group for so many looks, and is in it ever after. Returns what comes of it, how long it takes,
/// and whether it may begin a generation, too.
fn overtaken(instance: Instance, missing: usize) -> (Result<Owned>, Duration, bool) {
    let dir = tempfile::tempdir().unwrap();
    let (place, clock) = (dir.path().to_owned(), Clock::default());
    clock.install();
    let passes = clock.clone();
    let members = move |nth: usize| {
        passes.advance(Duration::from_secs(1));
        if nth == 0 {
            begin(&place, 0).unwrap();
        }
        let member = Member {
            name: "a program elsewhere".to_owned(),
            host: "/10.0.0.1".to_owned(),
        };
        let is_there = nth > missing;
        is_there.then_some(member).into_iter().collect()
    };
    let owned = own(
        &plan(dir.path(), instance, members, || {}),
        &Control::default(),
    );
    Clock::remove();
    let begun = owned
        .as_ref()
        .is_ok_and(|owned| begin(dir.path(), owned.seen).is_ok());
    (owned, clock.passed(), begun)
}

#[test]
fn another_one_that_begins_and_dies_while_it_is_looked_is_no_reason_to_end() {
    let (owned, took, begun) = overtaken(Instance::Yields, usize::MAX);
    assert_eq!(owned.unwrap().seen, 1);
    assert!(begun && took > MISSING && took < JOINED, "{took:?}");
}

#[test]
fn another_one_that_begins_while_it_is_looked_and_joins_late_is_let_be() {
    let (owned, took, _) = overtaken(Instance::Yields, 4);
    assert_eq!(owned.unwrap_err().kind(), ErrorKind::Owned);
    assert!(took > OUTLIVED, "{took:?}");
}

#[test]
fn whoever_is_told_to_take_over_does_so_also_from_one_that_begins_meanwhile() {
    let (owned, took, begun) = overtaken(Instance::TakesOver, 0);
    assert_eq!(owned.unwrap().seen, 1);
    assert!(begun && took < MISSING, "{took:?}");
}

#[test]
fn whoever_stands_by_asks_the_cluster_once_a_second() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Arc::new(Control::default()));
    let (asks, began) = (Arc::clone(&control), now());
    let members = move |nth: usize| {
        if nth == 2 {
            asks.stop(15);
        }
        let member = Member {
            name: "a program elsewhere".to_owned(),
            host: "/10.0.0.1".to_owned(),
        };
        vec![member]
    };
    let plan = plan(dir.path(), Instance::StandsBy, members, || {});
    let error = own(&plan, &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted(15));
    assert!(since(began) >= 2 * WATCH, "{:?}", since(began));
}
