//! A job inside a program: values in, results out. Lost or doubled values, a worker that is not
//! woken, a pause that never ends and memory that grows are what these tests would catch.

use std::time::{Duration, Instant};

use anabranch::connectors::{MemorySink, NullSink, Style};
use anabranch::embedded::{self, TryRecvError, TrySendError};
use anabranch::event::Letter;
use anabranch::prelude::*;
use anabranch::{ErrorKind, Status};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// A value that nobody may write: neither its JSON nor its state form is needed on one process.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Unwritten {
    key: u64,
    at: i64,
}

impl Serialize for Unwritten {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("it was written")
    }
}

/// Key, start of the window, events in it.
type Counted = (u64, i64, u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    key: u64,
    at: i64,
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a test has a deadline")]
    Instant::now()
}

/// Letters to nowhere.
fn settings(workers: usize) -> Settings {
    Settings::new()
        .workers(workers)
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", NullSink::new())
}

/// Each value as it came, without a stateful step.
fn copy() -> Job {
    Job::new("copy", |flow: &Flow<'_>| {
        flow.source::<Unwritten>("in")
            .json()
            .event_time(|value| value.at, Watermarks::lag(Duration::from_secs(1)))
            .sink("out", |s| s.json().key(|value| value.key));
        Ok(())
    })
}

/// How often each key was seen, in windows of 10 ms.
fn counts() -> Job {
    Job::new("counts", |flow: &Flow<'_>| {
        flow.source::<Reading>("in")
            .decode(|_| Err::<Reading, _>("values need no decoder"))
            .event_time(|value| value.at, Watermarks::lag(Duration::ZERO))
            .key_by(|value| value.key)
            .window(Tumbling::of(Duration::from_millis(10)))
            .aggregate(|a| a.count())
            .emit_final()
            .map(|w| (w.key, w.window.start.millis(), w.value))
            .sink("out", |s| s.json());
        Ok(())
    })
}

#[test]
fn values_pass_as_they_are() -> Result {
    for workers in 1..=3 {
        let (feed, source) = embedded::source(16);
        let (sink, mut results) = embedded::sink(16);
        let job = copy().bind_source("in", source).bind_sink("out", sink);
        let job = job.start(settings(workers))?;
        let value = |n: u64| Unwritten {
            key: n % 7,
            at: n.cast_signed(),
        };
        let sending = std::thread::spawn(move || {
            (0..20_000).for_each(|n| feed.blocking_send(value(n)).expect("the job takes it"));
        });
        let mut got = Vec::new();
        while let Some(result) = results.blocking_recv() {
            got.push(result);
        }
        sending.join().expect("it sends");
        for key in 0..7 {
            let of_key = |all: &[Unwritten]| -> Vec<i64> {
                let of = all.iter().filter(|value| value.key == key);
                of.map(|value| value.at).collect()
            };
            let expected: Vec<_> = (0..20_000).map(value).collect();
            assert_eq!(of_key(&got), of_key(&expected), "key {key}, {workers}");
        }
        let summary = job.join()?;
        assert_eq!((summary.used, summary.results), (20_000, 20_000));
        assert_eq!(results.try_recv(), Err(TryRecvError::Closed));
    }
    Ok(())
}

#[test]
fn dropping_the_last_feed_ends_the_log_and_stopping_does_not() -> Result {
    for stops in [false, true] {
        let (feed, source) = embedded::source(16);
        let (sink, mut results) = embedded::sink::<Counted>(16);
        let job = counts().bind_source("in", source).bind_sink("out", sink);
        let job = job.start(settings(2))?;
        let twin = feed.clone();
        feed.blocking_send(Reading { key: 1, at: 1 })?;
        drop(feed);
        twin.blocking_send(Reading { key: 1, at: 2 })?;
        twin.blocking_send(Reading { key: 1, at: 10 })?;
        assert_eq!(results.blocking_recv(), Some((1, 0, 2)));
        assert_eq!(job.status(), Status::Running);
        if stops {
            assert_eq!(job.blocking_stop()?.used, 3);
            assert_eq!(
                results.blocking_recv(),
                None,
                "an open window does not fire"
            );
            let back = twin.blocking_send(Reading { key: 1, at: 11 }).unwrap_err();
            assert_eq!(back.0.at, 11, "the value comes back");
        } else {
            drop(twin);
            assert_eq!(results.blocking_recv(), Some((1, 10, 1)));
            assert_eq!(results.blocking_recv(), None);
            assert_eq!(job.join()?.used, 3);
        }
    }
    Ok(())
}

/// A worker once saw room, then none, and slept without a bell: another had filled it meanwhile.
#[test]
fn workers_that_fill_the_same_channel_all_wake() {
    let round = || -> Result {
        let (feed, source) = embedded::source(16);
        let (sink, mut results) = embedded::sink::<Unwritten>(16);
        let job = copy().bind_source("in", source).bind_sink("out", sink);
        let job = job.start(settings(3))?;
        let send = move |n: i64| {
            feed.blocking_send(Unwritten {
                key: n.cast_unsigned() % 7,
                at: n,
            })
        };
        let sending = std::thread::spawn(move || (0..2_000).try_for_each(send));
        let (mut taken, mut last) = (0, now());
        loop {
            match results.try_recv() {
                Ok(_) => (taken, last) = (taken + 1, now()),
                Err(TryRecvError::Closed) => break,
                Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_micros(20)),
            }
            assert!(
                last.elapsed() < LONG,
                "stuck behind {taken}: {}",
                job.summary()
            );
        }
        sending.join().expect("it sends")?;
        assert_eq!((taken, job.join()?.results), (2_000, 2_000));
        Ok(())
    };
    let rounds = || (0..12).for_each(|_| round().expect("it ends well"));
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(rounds))));
}

#[test]
fn nobody_waits_for_a_clock() -> Result {
    let (feed, source) = embedded::source(4);
    let (sink, mut results) = embedded::sink(4);
    let job = copy().bind_source("in", source).bind_sink("out", sink);
    let job = job.start(settings(2))?;
    let began = now();
    for at in 0..100 {
        let value = Unwritten { key: 3, at };
        feed.blocking_send(value.clone())?;
        assert_eq!(results.blocking_recv(), Some(value));
    }
    // A worker that was not woken looks around four times a second.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "100 values took {took:?}");
    job.blocking_stop()?;
    Ok(())
}

#[test]
fn results_that_nobody_takes_pause_the_job_and_then_the_feed() -> Result {
    for (workers, capacity) in [(1, 1), (2, 1), (2, 8), (3, 1_000)] {
        let (feed, source) = embedded::source(capacity);
        let (sink, mut results) = embedded::sink(capacity);
        let job = copy().bind_source("in", source).bind_sink("out", sink);
        let job = job.start(settings(workers))?;
        let (mut sent, began) = (0, now());
        let mut full_since = None;
        // Full for a while: nothing moves any more.
        while full_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(400)) {
            assert!(began.elapsed() < LONG, "the feed takes {sent} values");
            match feed.try_send(Unwritten { key: 0, at: sent }) {
                Ok(()) => (sent, full_since) = (sent + 1, None),
                Err(TrySendError::Full(_)) => {
                    full_since.get_or_insert_with(now);
                    std::thread::yield_now();
                }
                Err(TrySendError::Closed(_)) => panic!("the job is over"),
            }
        }
        let bound = 2 * i64::try_from(capacity).expect("small") + 8_192 + 64;
        assert!(sent <= bound, "{sent} values wait, {bound} may");
        let rest = std::thread::spawn(move || {
            (sent..20_000).for_each(|at| {
                feed.blocking_send(Unwritten { key: 0, at })
                    .expect("the job goes on");
            });
        });
        for at in 0..20_000 {
            assert_eq!(results.blocking_recv(), Some(Unwritten { key: 0, at }));
        }
        rest.join().expect("it sends");
        assert_eq!(results.blocking_recv(), None);
        assert_eq!(job.join()?.results, 20_000);
    }
    Ok(())
}

#[test]
fn a_stop_waits_for_nobody_to_take_results() -> Result {
    let (feed, source) = embedded::source(8);
    let (sink, mut results) = embedded::sink::<Unwritten>(8);
    let job = copy().bind_source("in", source).bind_sink("out", sink);
    let job = job.start(settings(2))?;
    let mut sent = 0;
    while sent < 100 {
        if feed.try_send(Unwritten { key: 0, at: sent }).is_ok() {
            sent += 1;
        }
    }
    let began = now();
    let summary = job.blocking_stop()?;
    assert!(began.elapsed() < Duration::from_secs(5));
    let mut taken = 0;
    while results.blocking_recv().is_some() {
        taken += 1;
    }
    assert_eq!((summary.used, summary.results), (taken, taken));
    Ok(())
}

#[test]
fn a_job_whose_results_nobody_can_take_ends_with_an_error() -> Result {
    let (feed, source) = embedded::source(8);
    let (sink, results) = embedded::sink::<Unwritten>(8);
    let job = copy().bind_source("in", source).bind_sink("out", sink);
    let job = job.start(settings(2))?;
    drop(results);
    let mut at = 0;
    while feed.blocking_send(Unwritten { key: 0, at }).is_ok() {
        at += 1;
    }
    let error = job.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Operating);
    assert!(
        error.to_string().contains("nobody takes its results"),
        "{error}"
    );
    Ok(())
}

#[test]
fn several_feeds_and_several_sinks() -> Result {
    let job = Job::new("both", |flow: &Flow<'_>| {
        let source = |name: &str| {
            flow.source::<Reading>(name)
                .json()
                .event_time(|value| value.at, Watermarks::lag(Duration::ZERO))
        };
        let (left, right) = (source("left"), source("right"));
        left.clone().sink("copy", |s| s.json());
        left.union(right)
            .key_by(|value| value.key)
            .window(Tumbling::of(Duration::from_millis(10)))
            .aggregate(|a| a.count())
            .emit_final()
            .map(|w| (w.key, w.window.start.millis(), w.value))
            .sink("out", |s| s.json());
        Ok(())
    });
    for workers in 1..=3 {
        let (left, left_source) = embedded::source(4);
        let (right, right_source) = embedded::source(4);
        let (copy_sink, mut copies) = embedded::sink::<Reading>(10_000);
        let (sink, mut results) = embedded::sink::<Counted>(4);
        let job = job.clone().bind_source("left", left_source);
        let job = job.bind_source("right", right_source);
        let job = job.bind_sink("copy", copy_sink).bind_sink("out", sink);
        let job = job.start(settings(workers).idle_timeout(None))?;
        let feeds = [left, right].map(|feed| {
            std::thread::spawn(move || {
                (0..1_000).for_each(|at| {
                    let value = Reading { key: 5, at };
                    feed.blocking_send(value).expect("the job takes it");
                });
            })
        });
        for window in 0..100 {
            assert_eq!(results.blocking_recv(), Some((5, window * 10, 20)));
        }
        assert_eq!(results.blocking_recv(), None);
        for feed in feeds {
            feed.join().expect("it sends");
        }
        job.join()?;
        assert_eq!(std::iter::from_fn(|| copies.blocking_recv()).count(), 1_000);
    }
    Ok(())
}

#[test]
fn letters_are_values_too_and_hold_the_value_as_json() -> Result {
    let (feed, source) = embedded::source(4);
    let (late, mut letters) = embedded::sink::<Letter>(4);
    let (sink, dead) = (MemorySink::new(Style::Lines), MemorySink::new(Style::Lines));
    let job = counts()
        .bind_source("in", source)
        .bind_sink("out", sink.clone());
    let job = job.bind_sink("late", late).bind_sink("dead", dead.clone());
    let job = job.start(Settings::new().workers(2))?;
    feed.blocking_send(Reading { key: 1, at: 25 })?;
    feed.blocking_send(Reading { key: 1, at: 4 })?;
    feed.blocking_send(Reading {
        key: 1,
        at: i64::MAX - 7,
    })?;
    let letter = letters.blocking_recv().expect("one is late");
    assert_eq!(letter.value.as_deref(), Some(&br#"{"key":1,"at":4}"#[..]));
    assert_eq!((letter.offset, &*letter.source), (1, "in"));
    drop(feed);
    let summary = job.join()?;
    assert!(summary.balances(), "{summary}");
    assert_eq!(sink.lines(), ["[1,20,1]"]);
    assert_eq!(
        dead.lines(),
        [concat!(
            r#"{"source":"in","topic":"embedded","partition":0,"offset":2,"#,
            r#""reason":"no-event-time","error":"event time 9223372036854775800 ms lies outside "#,
            r#"years 0 to 9999","raw":"{\"key\":1,\"at\":9223372036854775800}"}"#
        )]
    );
    Ok(())
}

#[test]
fn a_feed_of_another_type_or_job_is_refused() -> Result {
    let (_feed, source) = embedded::source::<String>(1);
    let job = copy()
        .bind_source("in", source)
        .bind_sink("out", NullSink::new());
    let error = job.start(settings(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let said = "port `in` holds Unwritten, and what is bound to it gives String";
    assert_eq!(error.to_string(), said);

    let (feed, source) = embedded::source::<Unwritten>(1);
    let (sink, mut results) = embedded::sink::<Unwritten>(1);
    let job = copy().bind_source("in", source);
    let first = job.clone().bind_sink("out", sink).start(settings(1))?;
    // A job opens its sources on its own threads: what came through says that it has.
    feed.blocking_send(Unwritten { key: 1, at: 1 })
        .expect("the job takes it");
    assert!(results.blocking_recv().is_some());
    let second = job.bind_sink("out", NullSink::new()).start(settings(1))?;
    let error = second.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.to_string().contains("source"), "{error}");
    drop(first.blocking_stop());
    Ok(())
}

#[tokio::test]
async fn futures_of_both_ends_and_of_the_job() -> Result {
    let (feed, source) = embedded::source(2);
    let (sink, mut results) = embedded::sink::<Counted>(2);
    let job = counts().bind_source("in", source).bind_sink("out", sink);
    let job = job.start(settings(2))?;
    let sending = tokio::spawn(async move {
        for at in 0..500 {
            feed.send(Reading { key: 1, at })
                .await
                .expect("the job takes it");
        }
        feed
    });
    for window in 0..49 {
        assert_eq!(results.recv().await, Some((1, window * 10, 10)));
    }
    let feed = sending.await.expect("it sends");
    assert_eq!(results.try_recv(), Err(TryRecvError::Empty));
    // The last window is open: time goes no further until the feed ends.
    tokio::select! {
        result = results.recv() => panic!("{result:?}"),
        () = job.ended() => panic!("it ended"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    drop(feed);
    assert_eq!(results.recv().await, Some((1, 490, 10)));
    tokio::time::timeout(LONG, job.ended())
        .await
        .expect("it ends");
    assert_eq!(job.status(), Status::Ended);
    assert_eq!(job.summary().results, 50);
    assert_eq!(job.stop().await?.used, 500);
    Ok(())
}
