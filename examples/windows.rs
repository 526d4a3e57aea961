//! Windows over a vector: how often each word came in each minute.

#![expect(
    clippy::unnecessary_wraps,
    reason = "a description returns a result: this one has no parameter that could be wrong"
)]

use anabranch::connectors::{MemorySink, MemorySource, Style};
use anabranch::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Heard {
    word: String,
    at: i64,
}

fn words(flow: &Flow<'_>) -> Result {
    flow.source::<Heard>("words")
        .json()
        .event_time(|heard| heard.at, Watermarks::lag(Duration::from_secs(5)))
        .key_by_ref(|heard| heard.word.as_str())
        .window(Tumbling::of(Duration::from_mins(1)))
        .aggregate(|a| a.count())
        .emit_final()
        .map(|w| (w.key, w.window.start, w.value))
        .sink("counts", |s| s.json());
    Ok(())
}

pub(crate) fn main() -> Result {
    let heard = vec![
        r#"{"word":"to","at":1000}"#,
        r#"{"word":"be","at":59999}"#,
        r#"{"word":"to","at":58000}"#,
        r#"{"word":"to","at":60000}"#,
    ];
    let counts = MemorySink::new(Style::Lines);
    let words = Job::new("words", words)
        .bind_source("words", MemorySource::new("words", [heard]))
        .bind_sink("counts", counts.clone());
    let letters = Settings::new().sink_uri("late", "null:");
    words.run(letters.sink_uri("dead", "null:"))?; // at the end of the vector all windows fire
    let mut lines = counts.lines();
    lines.sort_unstable(); // between keys there is no order
    let expected = [r#"["be",0,1]"#, r#"["to",0,2]"#, r#"["to",60000,1]"#];
    assert_eq!(lines, expected);
    Ok(())
}
