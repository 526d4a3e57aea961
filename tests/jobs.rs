//! The two jobs answer what the oracle answers, on hostile files, however they are run.
//!
//! Caught here: any dependence on workers, epochs or timing; a wrong verdict at any edge of
//! lateness; a record that is lost, used twice, or refused although it is good; a sum that is not
//! exact; an order within a key that is not the log's; a hot key that is combined wrongly on its
//! way; a unit of time, or a retention, that is taken for another.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests may fail"
)]

mod oracle;

#[path = "../dataflows/bid_stats.rs"]
mod bid_stats;
#[path = "../dataflows/user_activity.rs"]
mod user_activity;

use anabranch::{Job, testing};
use oracle::hostile::{self, Plan};
use oracle::malformed::{apply, members, odd, wrong};
use oracle::time::Unit;
use oracle::{Counts, FilePart, Input, Params, compare};

/// Runs `job` over files in every way and holds each run against the oracle; gives what that
/// counted.
fn hold(job: &Job, params: &Params, input: &Input, seeds: u64) -> Counts {
    let expected = oracle::run(input, params);
    assert!(
        expected.counts.balanced(),
        "the oracle: {:?}",
        expected.counts
    );
    let folder = tempfile::tempdir().unwrap();
    input.write_to(folder.path());
    let uri = format!("file:{}", folder.path().display());
    let (source, sink) = match job.name() {
        "bid_stats" => ("bids", "stats"),
        _ => ("events", "activity"),
    };
    let mut test = testing::run(job.clone())
        .source_uri(source, &uri)
        .seeds(seeds);
    for setting in params.settings() {
        let (key, value) = setting.split_once('=').unwrap();
        test = test.set(key, value);
    }
    test.check(&[sink, "late", "dead"], |run, answer| {
        let [results, late, dead] = [0, 1, 2].map(|port: usize| answer.lines[port].join("\n"));
        let same = compare::files(&expected, &results, &late, &dead);
        same.unwrap_or_else(|why| panic!("{run}: {why}"));
        let counts = [
            (answer.summary.read, expected.counts.read as u64),
            (answer.summary.used, expected.counts.used as u64),
            (answer.summary.duplicates, expected.counts.duplicates as u64),
            (answer.summary.late, expected.counts.late as u64),
            (answer.summary.dead, expected.counts.dead as u64),
            (answer.summary.results, expected.counts.results as u64),
        ];
        let equal = |(found, wanted): &(u64, u64)| found == wanted;
        assert!(counts.iter().all(equal), "{run}: {counts:?}");
    });
    expected.counts
}

/// Both jobs, with their defaults.
fn jobs() -> [(Job, Params); 2] {
    [
        (bid_stats::job(), Params::bid_stats()),
        (user_activity::job(), Params::user_activity()),
    ]
}

/// Holds both jobs against the oracle; gives what was counted of each run.
fn both(
    params: impl Fn(Params, u64) -> Params,
    plan: impl Fn(u64) -> Plan,
    runs: u64,
) -> Vec<Counts> {
    let mut counts = Vec::new();
    for (job, defaults) in jobs() {
        for seed in 0..runs {
            let params = params(defaults.clone(), seed);
            let input = hostile::files(&plan(seed), &params);
            counts.push(hold(&job, &params, &input, 3));
        }
    }
    counts
}

/// A file of these lines.
fn file(name: &str, bytes: &[u8]) -> FilePart {
    FilePart {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
    }
}

#[test]
fn every_kind_of_malformed_record_is_dead_and_every_odd_one_is_used() {
    for (job, params) in jobs() {
        let (wrong, odd) = (wrong(params.job), odd(params.job));
        let mut lines = Vec::new();
        for (nth, edit) in wrong.iter().chain(&odd).enumerate() {
            let mut members = members(params.job);
            if params.job == oracle::Job::UserActivity {
                members[0].1 = format!("\"e{nth}\""); // else all of them repeat one event
            }
            if nth < wrong.len() {
                // Were one of them believed, all behind it would be late.
                let time = members.iter_mut().find(|(name, _)| name.contains("time"));
                "90000000000".clone_into(&mut time.unwrap().1);
            }
            let line = apply(*edit, &members);
            assert!(!line.contains(&b'\n'), "it would be two records: {edit:?}");
            lines.extend(line);
            lines.push(b'\n');
        }
        let input = Input::Files(vec![file("all.jsonl", &lines)]);
        let counts = hold(&job, &params, &input, 1);
        assert_eq!((counts.dead, counts.used), (wrong.len(), odd.len()));
    }
}

#[test]
fn hostile_logs_have_one_answer() {
    let plan = |seed| Plan {
        seed,
        partitions: 1 + seed as usize % 5,
        records: 120,
        huge: false,
    };
    both(|params, _| params, plan, 10);
}

#[test]
fn hostile_logs_have_one_answer_with_lateness_and_other_sizes() {
    let plan = |seed| Plan {
        seed: 100 + seed,
        partitions: 3,
        records: 120,
        huge: false,
    };
    let params = |params: Params, seed| Params {
        size: [1, 7, 1_000, 86_400_000][seed as usize % 4],
        lag: [0, 1, 500, 10_000][seed as usize / 2 % 4],
        allowed_lateness: [0, 1, 3_000][seed as usize % 3],
        retention: [1, 20, 5_000, 60_000, 3_600_000][seed as usize % 5],
        unit: UNITS[seed as usize / 2 % 5],
        ..params
    };
    let counts = both(params, plan, 10);
    let of_all = |of: fn(&Counts) -> usize| counts.iter().map(of).sum::<usize>();
    let found = [
        of_all(|counts| counts.used),
        of_all(|counts| counts.duplicates),
        of_all(|counts| counts.late),
    ];
    assert!(found.iter().all(|found| *found > 100), "{found:?}");
}

const UNITS: [Unit; 5] = [
    Unit::Nanoseconds,
    Unit::Seconds,
    Unit::Auto,
    Unit::Microseconds,
    Unit::Milliseconds,
];

/// Far more events than keys: workers combine what they have of a window before they send it.
#[test]
fn a_hot_key_has_one_answer() {
    let line = |job: oracle::Job, nth: i64| {
        let key = if nth % 2 == 0 { 0 } else { nth % 10 };
        let time = 1_000_000 + nth * 15; // 15 seconds in all
        match job {
            oracle::Job::BidStats => format!(
                "{{\"auction\":{key},\"bidder\":1,\"price\":{},\"channel\":\"c\",\
                 \"date_time\":{time}}}\n",
                i64::MAX - nth
            ),
            oracle::Job::UserActivity => format!(
                "{{\"eventId\":\"{nth}\",\"eventType\":\"t{}\",\"userId\":\"{key}\",\
                 \"timestamp\":{time},\"data\":{{}}}}\n",
                nth % 3
            ),
        }
    };
    for (job, params) in jobs() {
        let params = Params {
            size: 10_000,
            unit: Unit::Milliseconds,
            ..params
        };
        let files = [0, 1].map(|worker| {
            let here = (0..1_000).filter(|nth| nth / 2 % 2 == worker);
            let lines: String = here.map(|nth| line(params.job, nth)).collect();
            file(&format!("{worker}.jsonl"), lines.as_bytes())
        });
        let counts = hold(&job, &params, &Input::Files(files.to_vec()), 2);
        assert_eq!((counts.used, counts.results), (1_000, 12));
    }
}

#[test]
fn records_of_the_largest_size_are_used_and_larger_ones_are_dead() {
    let plan = |seed| Plan {
        seed: 200 + seed,
        partitions: 2,
        records: 20,
        huge: true,
    };
    both(|params, _| params, plan, 1);
}

#[test]
fn empty_files_and_single_records_are_ordinary() {
    let records: [&[u8]; 2] = [
        br#"{"auction":1,"bidder":2,"price":3,"channel":"c","date_time":-1}"#,
        br#"{"eventId":"e","eventType":"t","userId":"u","timestamp":-1,"data":{}}"#,
    ];
    for ((job, params), record) in jobs().into_iter().zip(records) {
        let inputs = [
            vec![file("a.jsonl", b"")],
            vec![file("a.jsonl", record)],
            vec![file("a.jsonl", b"\n \n\r\n"), file("b.jsonl", record)],
            vec![file("a.jsonl", b"\xef\xbb\xbf")],
        ];
        for (input, results) in inputs.into_iter().zip([0, 1, 1, 0]) {
            let counts = hold(&job, &params, &Input::Files(input), 2);
            assert_eq!(counts.results, results);
        }
    }
}
