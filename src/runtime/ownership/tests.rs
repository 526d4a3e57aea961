//! A start, in a group that says what a test wants.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::connectors::TopicEnds;
use crate::runtime::Instance;

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

    fn written(&self) -> Result<Vec<TopicEnds>> {
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
