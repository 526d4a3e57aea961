//! An operator of one's own: an alarm when a sensor has been silent for a minute, and one when its
//! reading jumps. It keeps a state for each sensor and sets timers in event time.

use anabranch::prelude::*;
use anabranch::testing;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    degrees: i64,
    at: i64,
}

const SILENCE: i64 = 60_000;

struct Alarms {
    /// Degrees from one reading to the next.
    jump: i64,
}

impl Process for Alarms {
    type Key = String;
    type In = Reading;
    type Out = String;
    /// The last reading, and the time for which the timer is set.
    type State = Option<(i64, i64)>;

    fn on_event(
        &self,
        last: &mut Self::State,
        event: &Event<Reading>,
        cx: &mut ProcessContext<'_, Self>,
    ) {
        let Reading { degrees, at, .. } = event.value;
        if degrees < -273 {
            return cx.dead_letter("colder than anything");
        }
        if let Some((before, timer)) = last.replace((degrees, at + SILENCE)) {
            cx.clear_timer(timer);
            if (degrees - before).abs() > self.jump {
                let sensor = cx.key().clone();
                cx.emit(format!("{sensor}: {before} to {degrees}"));
            }
        }
        cx.set_timer(at + SILENCE);
    }

    fn on_timer(&self, last: &mut Self::State, at: EventTime, cx: &mut ProcessContext<'_, Self>) {
        let sensor = cx.key().clone();
        cx.emit(format!("{sensor}: silent at {}", at.millis()));
        *last = None; // the default: nothing of this sensor is kept
    }
}

fn alarms(flow: &Flow<'_>) -> Result {
    let jump = flow.param("jump", 10_i64, "degrees that are too many at once")?;
    flow.source::<Reading>("readings")
        .json()
        .event_time(
            |reading| reading.at,
            Watermarks::lag(Duration::from_secs(5)),
        )
        .key_by_ref(|reading| reading.sensor.as_str())
        .process("alarms", Alarms { jump })
        .dead(|refused| refused.sink_as("refused", |letter| letter.cause.to_string(), |s| s.json()))
        .sink("alarms", |s| {
            s.encode(|text: &String, out: &mut Vec<u8>| {
                out.extend_from_slice(text.as_bytes());
                Ok::<_, Error>(())
            })
        });
    Ok(())
}

pub(crate) fn main() {
    let reading = |sensor: &str, degrees: i64, at: i64| {
        format!(r#"{{"sensor":"{sensor}","degrees":{degrees},"at":{at}}}"#)
    };
    let readings = [
        reading("roof", 20, 0),
        reading("cellar", 12, 1_000),
        reading("roof", 35, 31_000), // this one and the next come out of order
        reading("roof", 22, 30_000),
        reading("cellar", -300, 40_000),
        reading("roof", 34, 100_000),
    ];
    let lines = readings.iter().map(String::as_str);
    let answer = testing::run(Job::new("alarms", alarms))
        .source("readings", [lines])
        .answer(&["alarms", "refused"]);
    let alarms = [
        "cellar: silent at 61000",
        "roof: 22 to 35",
        "roof: silent at 160000",
        "roof: silent at 91000",
    ];
    assert_eq!(answer.lines[0], alarms);
    assert_eq!(answer.lines[1], [r#""processing: colder than anything""#]);
}
