//! A codec of one's own: lines with semicolons. What it refuses is a dead letter and never lost.

use anabranch::connectors::{MemorySink, MemorySource, NullSink, Style};
use anabranch::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    at: i64,
    degrees: f64,
}

/// `SENSOR;MILLISECONDS;DEGREES`. Null values and those that are too large never come here.
fn reading(record: &Record<'_>) -> Result<Reading, String> {
    let text = std::str::from_utf8(record.value.unwrap_or_default());
    let text = text.map_err(|why| why.to_string())?;
    let mut cells = text.split(';');
    let mut cell = |name: &str| cells.next().ok_or_else(|| format!("no {name}"));
    let (sensor, at, degrees) = (cell("sensor")?, cell("time")?, cell("degrees")?);
    Ok(Reading {
        sensor: sensor.to_owned(),
        at: at.parse().map_err(|_| format!("time: `{at}`"))?,
        degrees: degrees
            .parse()
            .map_err(|_| format!("degrees: `{degrees}`"))?,
    })
}

fn climate(flow: &Flow<'_>) -> Result {
    let size = flow.param("size", Duration::from_mins(1), "length of a window")?;
    flow.source::<Reading>("readings")
        .decode(reading)
        .event_time(
            |reading| reading.at,
            Watermarks::lag(Duration::from_secs(1)),
        )
        .key_by_ref(|reading| reading.sensor.as_str())
        .window(Tumbling::of(size))
        .aggregate(|a| {
            (
                a.sum(|reading| reading.degrees),
                a.max(|reading| reading.degrees),
            )
        })
        .emit_final()
        .map(|w| (w.key, w.window.start, w.value))
        .sink("climate", |s| s.json().key_ref(|row| row.0.as_str()));
    Ok(())
}

pub(crate) fn main() -> Result {
    let lines = ["roof;0;0.1", "roof;1;0.2", "roof;2;0.3", "roof;noon;21"];
    let (results, dead) = (MemorySink::new(Style::Lines), MemorySink::new(Style::Lines));
    let settings = Settings::new()
        .workers(2)
        .bind_source("readings", MemorySource::new("readings", [lines]))
        .bind_sink("climate", results.clone())
        .bind_sink("late", NullSink::new())
        .bind_sink("dead", dead.clone());
    Job::new("climate", climate).run(settings)?;

    // A sum is exact before it is rounded once: no 0.6000000000000001.
    assert_eq!(results.lines(), [r#"["roof",0,[0.6,0.3]]"#]);
    let [letter] = &dead.lines()[..] else {
        panic!("one dead letter: {:?}", dead.lines());
    };
    for part in [r#""reason":"decode""#, "time: `noon`", "roof;noon;21"] {
        assert!(letter.contains(part), "{letter}");
    }
    Ok(())
}
