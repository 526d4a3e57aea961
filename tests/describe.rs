//! What `describe` says is all that somebody has to know of a job, and the same for people and for
//! programs.
//!
//! Caught here: a port, a parameter, the rule for lateness, a piece of state or a step that is not
//! said, or is said otherwise in the other form.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;

use program::run;
use serde_json::Value;
use tempfile::tempdir;

struct Told {
    name: &'static str,
    /// The source first.
    ports: [&'static str; 4],
    /// What they are by default on Kafka.
    topics: [&'static str; 4],
    /// The default of the first parameter.
    size: &'static str,
    late_when: &'static str,
    /// Operators, and what of each must stay.
    state: &'static [[&'static str; 2]],
    dataflow: &'static [&'static str],
}

const JOBS: [Told; 2] = [
    Told {
        name: "bid_stats",
        ports: ["bids", "stats", "late", "dead"],
        topics: ["bids", "bid-stats", "bid_stats.late", "bid_stats.dead"],
        size: "10s",
        late_when: "end of its window of 10000 ms + allowed lateness <= partition's watermark",
        state: &[[
            "window",
            "window: tumbling, 10000 ms, of (i64, (u64, IntSum, i64))",
        ]],
        dataflow: &[
            "source bids",
            "json",
            "event_time",
            "key_by",
            "window: tumbling, 10000 ms",
            "aggregate",
            "emit_final",
            "map",
            "sink stats",
            "sink late",
            "sink dead",
        ],
    },
    Told {
        name: "user_activity",
        ports: ["events", "activity", "late", "dead"],
        topics: [
            "events",
            "user-activity",
            "user_activity.late",
            "user_activity.dead",
        ],
        size: "1m",
        late_when: "time < partition's watermark - allowed lateness",
        state: &[
            ["dedup", "dedup within 1h, of (String, Envelope)"],
            ["order", "order of (String, Envelope)"],
            [
                "window",
                "window: tumbling, 60000 ms, of (String, (u64, BTreeMap<String, u64>, \
                 Option<(Position, String)>, Option<(Position, String)>))",
            ],
        ],
        dataflow: &[
            "source events",
            "json",
            "event_time",
            "dedup within 1h",
            "key_by",
            "order",
            "window: tumbling, 60000 ms",
            "aggregate",
            "emit_final",
            "map",
            "sink activity",
            "sink late",
            "sink dead",
        ],
    },
];

/// The lines of the text from `title` to the next empty one.
fn part<'a>(text: &'a [String], title: &str) -> Vec<&'a str> {
    let mut lines = text.iter().map(String::as_str);
    assert!(lines.any(|line| line == title), "`{title}` in: {text:?}");
    lines.take_while(|line| !line.is_empty()).collect()
}

fn of(told: &Value, list: &str, field: &str) -> Vec<String> {
    let all = told[list].as_array().unwrap().iter();
    all.map(|one| one[field].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn describe_tells_people_and_programs_the_same() {
    let folder = tempdir().unwrap();
    for job in &JOBS {
        let said = run(job.name, folder.path(), &["describe"]);
        assert_eq!((said.code, said.err.len()), (0, 0), "{}", said.said());
        let json = run(job.name, folder.path(), &["describe", "-o", "json"]);
        let told: Value = serde_json::from_str(&json.out.join("\n")).unwrap();
        let text = said.out.join("\n");
        let of = |list: &str, field: &str| of(&told, list, field);
        assert_eq!(told["job"], job.name);
        assert_eq!(
            [of("sources", "name"), of("sinks", "name")].concat(),
            job.ports
        );
        let topics = [of("sources", "topic"), of("sinks", "topic")].concat();
        assert_eq!(topics, job.topics);
        for topic in topics {
            assert!(text.contains(&format!("topic {topic}\n")), "{text}");
        }
        let parameters = of("parameters", "name");
        for known in ["size", "lag", "allowed-lateness", "timestamp-unit"] {
            assert!(parameters.iter().any(|name| name == known), "{known}");
        }
        assert_eq!(of("parameters", "default")[0], job.size);
        let shown = [of("parameters", "help"), of("parameters", "expects")];
        for shown in shown.concat().iter().chain(&parameters) {
            assert!(text.contains(shown), "`{shown}` in: {text}");
        }
    }
}

#[test]
fn describe_tells_lateness_state_and_dataflow() {
    let folder = tempdir().unwrap();
    for job in &JOBS {
        let text = run(job.name, folder.path(), &["describe"]).out;
        let json = run(job.name, folder.path(), &["describe", "-o", "json"]);
        let told: Value = serde_json::from_str(&json.out.join("\n")).unwrap();
        let pairs = |pairs: &[[&str; 2]]| -> Vec<String> {
            let lines = pairs.iter().map(|[one, two]| format!("  {one:<18}{two}"));
            lines.collect()
        };
        let lateness = [[job.ports[0], job.late_when]];
        assert_eq!(part(&text, "an event is late when"), pairs(&lateness));
        assert_eq!(of(&told, "lateness", "source"), [job.ports[0]]);
        assert_eq!(of(&told, "lateness", "late_when"), [job.late_when]);

        let title = "stays as it is while there is a state directory; all else may change";
        assert_eq!(part(&text, title), pairs(job.state));
        let [names, stays] = ["operator", "stays"].map(|field| of(&told, "state", field));
        let state: Vec<_> = names
            .iter()
            .zip(&stays)
            .map(|(a, b)| [&**a, &**b])
            .collect();
        assert_eq!(state, job.state);

        let steps: Vec<_> = job
            .dataflow
            .iter()
            .map(|step| format!("  {step}"))
            .collect();
        assert_eq!(part(&text, "dataflow"), steps);
        assert_eq!(told["dataflow"], serde_json::json!(job.dataflow));
    }
}
