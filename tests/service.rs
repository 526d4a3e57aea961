//! A job in a service is a guest: it neither prints nor exits, installs no hook, no handler and no
//! subscriber, and when it panics the others go on.
//!
//! The service is this program once more, as a child whose output is read: nothing a test harness
//! says would come between.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use anabranch::connectors::NullSink;
use anabranch::prelude::*;
use anabranch::{ErrorKind, RunningJob, embedded};

const CHILD: &str = "ANABRANCH_TEST_SERVICE";

fn main() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build();
        return runtime.expect("a runtime").block_on(service());
    }
    let me = std::env::current_exe().expect("this program");
    for plant in ["", "print"] {
        let child = Command::new(&me).env(CHILD, plant).output();
        let child = child.expect("it runs");
        let said =
            [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let quiet = said.iter().all(String::is_empty) && child.status.success();
        assert_eq!(
            quiet,
            plant.is_empty(),
            "{plant}: {:?}: {said:?}",
            child.status
        );
    }
}

/// Panics that this service's own hook saw.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The signals that somebody handles.
fn handled() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let lines = status.lines().filter(|line| line.starts_with("Sig"));
    lines.filter(|line| !line.starts_with("SigQ")).collect()
}

async fn service() {
    std::panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, SeqCst);
    }));
    let before = handled();
    let (good, mut results, job) = start("good", |n| n + 1);
    let (bad, _none, doomed) = start("bad", |n| {
        if n < 100 {
            n
        } else {
            panic!("{n} is too much")
        }
    });
    for n in 0..200 {
        good.send(n).await.expect("it runs");
        assert_eq!(results.recv().await, Some(n + 1));
        let _ = bad.try_send(n); // from some point on nobody takes it
    }
    tokio::time::timeout(Duration::from_secs(30), doomed.ended())
        .await
        .expect("it ends");
    assert!(bad.send(0).await.is_err());
    let error = doomed.stop().await.expect_err("it panicked");
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert_eq!(
        error.to_string(),
        "operator `map 2` panicked: 100 is too much"
    );

    // The other one has not noticed.
    good.send(1_000).await.expect("it runs");
    assert_eq!(results.recv().await, Some(1_001));
    assert_eq!(job.stop().await.expect("it stops").used, 201);
    assert_eq!(results.recv().await, None);

    // A description that panics is an error of its job too.
    let job = Job::new("none", |_: &Flow<'_>| panic!("not today"));
    let error = job.start(Settings::new()).expect_err("it panicked");
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(
        error.to_string().ends_with("panicked: not today"),
        "{error}"
    );

    assert_eq!(
        PANICS.load(SeqCst),
        2,
        "the hook is still the service's own"
    );
    assert_eq!(handled(), before, "no signal was taken");
    assert!(
        !tracing::dispatcher::has_been_set(),
        "no subscriber was installed"
    );
    noise();
}

/// Prints, if this is the child that has to be found out.
#[expect(clippy::print_stdout, reason = "the parent has to notice")]
fn noise() {
    if std::env::var_os(CHILD).is_some_and(|plant| plant == "print") {
        println!("noise");
    }
}

/// A job that sends on what `map` makes of each number, on two workers.
fn start(
    name: &str,
    map: impl Fn(i64) -> i64 + Send + Sync + Clone + 'static,
) -> (embedded::Feed<i64>, embedded::Results<i64>, RunningJob) {
    let (feed, source) = embedded::source(1_000);
    let (sink, results) = embedded::sink(1_000);
    let job = Job::new(name, move |flow: &Flow<'_>| {
        flow.source::<i64>("in")
            .json()
            .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
            .map(|n| n)
            .map(map.clone())
            .sink("out", |s| s.json());
        Ok(())
    });
    let settings = Settings::new()
        .workers(2)
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new());
    let job = job.bind_source("in", source).bind_sink("out", sink);
    (feed, results, job.start(settings).expect("it starts"))
}
