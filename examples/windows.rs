//! Windows over a vector: how often each word came in each minute.

#![expect(
    clippy::unnecessary_wraps,
    reason = "a description returns a result: this one has no parameter that could be wrong"
)]

use anabranch::{embedded, prelude::*};

fn words(flow: &Flow<'_>) -> Result {
    flow.source::<(String, i64)>("words")
        .json() // not asked: the values come as they are
        .event_time(|word| word.1, Watermarks::lag(Duration::from_secs(5)))
        .key_by(|word| word.0.clone())
        .window(Tumbling::of(Duration::from_mins(1)))
        .aggregate(|a| a.count())
        .emit_final()
        .map(|w| (w.key, w.window.start.millis(), w.value))
        .sink("counts", |s| s.json());
    Ok(())
}

pub(crate) fn main() -> Result {
    let ((feed, source), (sink, mut counts)) = (embedded::source(4), embedded::sink(4));
    let job = Job::new("words", words).bind_source("words", source);
    let letters = Settings::new()
        .sink_uri("late", "null:")
        .sink_uri("dead", "null:");
    let job = job.bind_sink("counts", sink).start(letters)?;
    for (word, at) in [
        ("to", 1_000_i64),
        ("be", 59_999),
        ("to", 58_000),
        ("to", 60_000),
    ] {
        feed.blocking_send((word.to_owned(), at))?;
    }
    drop(feed); // the end of the log: all windows fire
    let mut all: Vec<(String, i64, u64)> = std::iter::from_fn(|| counts.blocking_recv()).collect();
    all.sort_unstable();
    let expected = [("be", 0, 1), ("to", 0, 2), ("to", 60_000, 1)];
    assert_eq!(
        all,
        expected.map(|(word, minute, count)| (word.to_owned(), minute, count))
    );
    assert_eq!(job.join()?.used, 4);
    Ok(())
}
