//! `--http` tells the truth, in a form that Prometheus reads, while the job runs.
//!
//! Caught here: a text that a scraper refuses (checked by a reader of the form that shares no code
//! with the writer); a number that does not fit what was read; a job that says it is ready or alive
//! when it is not; an address that nobody can have and an error that does not name it; a partition
//! of a topic whose lag is not told, or is 0 where it is not; and a secret that is told.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;
#[cfg(all(feature = "kafka", feature = "dev-broker"))]
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use program::{DEADLINE, Running, bid, program, run};
use tempfile::tempdir;

/// Samples by name and labels, as they are written.
type Samples = BTreeMap<String, f64>;

/// Asks for `path`; status and body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Reads Prometheus' text form 0.0.4, as its definition says, and what its linter asks for: every
/// family has help and type before its samples and stands in one piece, counters end in `_total`.
fn parse(text: &str) -> Result<Samples, String> {
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let (mut helped, mut typed) = (String::new(), (String::new(), String::new()));
    if !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').ok_or(line)?;
            if help.is_empty() || !families.insert(name.to_owned()) {
                return Err(format!("no help, or a family in two pieces: {line}"));
            }
            name.clone_into(&mut helped);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').ok_or(line)?;
            if name != helped || !["counter", "gauge"].contains(&kind) {
                return Err(format!("a type that is not expected: {line}"));
            }
            typed = (name.to_owned(), kind.to_owned());
        } else {
            let (series, value) = sample(line).ok_or_else(|| format!("no sample: {line}"))?;
            let name = series.split('{').next().unwrap();
            let counts = typed.1 == "counter";
            if name != typed.0 || counts != name.ends_with("_total") || counts && value < 0.0 {
                return Err(format!("not of the family {typed:?}: {line}"));
            }
            if samples.insert(series, value).is_some() {
                return Err(format!("twice: {line}"));
            }
        }
    }
    Ok(samples)
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<(String, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        value if value.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            value.parse().ok()?
        }
        _ => return None,
    };
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
    };
    let is_name = |name: &str| {
        let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        letters && name.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let end = closing_quote(after)?;
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
        if !is_name(label) {
            return None;
        }
    }
    is_name(name).then(|| (series.to_owned(), value))
}

/// Where the value of a label ends.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\\' | '"' | 'n' if escaped => escaped = false,
            _ if escaped => return None,
            '\\' => escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

#[test]
fn the_reader_refuses_what_a_scraper_would() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    let good = format!("{head}a_total{{x=\"q\\\"\\\\\\n\",y=\"\"}} 1\na_total 2.5\n");
    assert_eq!(parse(&good).unwrap().len(), 2);
    for bad in [
        "a_total 1\n".to_owned(),
        format!("{head}a_total one\n"),
        format!("{head}a_total 1"),
        format!("{head}a_total{{x=\"1}} 1\n"),
        format!("{head}a_total{{x=\"\\q\"}} 1\n"),
        format!("{head}a_total 1\na_total 2\n"),
        format!("{head}b_total 1\n"),
        format!("{head}a_total 1\n{head}a_total{{x=\"1\"}} 1\n"),
        head.replace("counter", "gauge") + "a_total 1\n",
        "# HELP a A.\n# TYPE a counter\na 1\n".to_owned(),
    ] {
        assert!(parse(&bad).is_err(), "{bad}");
    }
}

/// A job that answers over HTTP, and where.
fn answering(mut running: Running) -> (Running, String) {
    let line = running.wait_err("http://");
    let (_, address) = line.split_once("http://").unwrap();
    (running, address.trim().to_owned())
}

/// `bid_stats` on standard input.
fn listening(folder: &Path, more: &[&str]) -> (Running, String) {
    let bound = "--source bids=- --sink stats=- --sink late=null: --sink dead=null: --workers 2";
    let bound = bound.split(' ').chain(["--http", "127.0.0.1:0"]);
    let arguments: Vec<_> = bound.chain(more.iter().copied()).collect();
    answering(Running::start(&mut program(
        "bid_stats",
        folder,
        &arguments,
    )))
}

/// Scrapes until `done`.
fn scrape_until(address: &str, mut done: impl FnMut(&Samples) -> bool) -> Samples {
    for _ in 0..600 {
        let (status, text) = get(address, "/metrics");
        assert_eq!(status, 200);
        let samples = parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        if done(&samples) {
            return samples;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("it does not come: {:?}", get(address, "/metrics"));
}

/// What a scrape tells of the six records below.
const TOLD: [(&str, f64); 17] = [
    ("anabranch_info{job=\"bid_stats\",version=\"0.1.0\"}", 1.0),
    ("anabranch_records_entered_total", 3.0),
    ("anabranch_records_late_total{reason=\"late\"}", 1.0),
    ("anabranch_records_late_total{reason=\"idle\"}", 0.0),
    ("anabranch_records_dead_total{reason=\"decode\"}", 2.0),
    ("anabranch_records_duplicate_total", 0.0),
    ("anabranch_sink_records_total{sink=\"stats\"}", 2.0),
    ("anabranch_sink_records_total{sink=\"late\"}", 1.0),
    ("anabranch_sink_records_total{sink=\"dead\"}", 2.0),
    ("anabranch_watermark_seconds", 14.5),
    ("anabranch_source_watermark_seconds{source=\"bids\"}", 14.5),
    ("anabranch_event_time_max_seconds", 16.5),
    ("anabranch_lateness_max_seconds", 13.5),
    ("anabranch_windows_open", 1.0),
    ("anabranch_window_next_end_seconds", 20.0),
    ("anabranch_state_entries{operator=\"window\"}", 1.0),
    ("anabranch_state_limit_bytes", 48.0 * 1024.0 * 1024.0),
];

#[test]
fn a_scrape_tells_what_became_of_every_record() {
    let folder = tempdir().unwrap();
    let (mut running, address) = listening(folder.path(), &[]);
    // Two keys in the window from 0, one in the next; a late one; two dead ones.
    let lines = [
        bid(1, 5, 1_000),
        bid(2, 5, 2_000),
        bid(1, 7, 16_500),
        bid(1, 9, 3_000),
        "{}\n".to_owned(),
        "no\n".to_owned(),
    ];
    running.write(&lines.concat());
    let read = "anabranch_source_records_total{source=\"bids\"}";
    let results = "anabranch_results_total";
    let samples = scrape_until(&address, |now| {
        now.get(read) == Some(&6.0) && now.get(results) == Some(&2.0)
    });
    let limited = listening(folder.path(), &["--memory", "64MiB"]);
    let limit = scrape_until(&limited.1, |now| !now.is_empty())["anabranch_state_limit_bytes"];
    for (name, value) in TOLD {
        let found = if name.ends_with("limit_bytes") {
            limit
        } else {
            samples[name]
        };
        assert!((found - value).abs() < 1e-9, "{name}: {found}, not {value}");
    }
    for positive in [
        "anabranch_state_bytes{operator=\"window\"}",
        "process_resident_memory_bytes",
    ] {
        assert!(samples[positive] > 0.0, "{positive}");
    }
    // A worker may not have lived for a tick of the system yet.
    let busy = "anabranch_worker_busy_seconds_total{worker=\"1\"}";
    assert!(samples.contains_key(busy));
    let in_flight = samples["anabranch_epochs_in_flight"];
    assert!((0.0..=9.0).contains(&in_flight), "{in_flight}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&address, path), (200, "ok\n".to_owned()), "{path}");
    }
    assert_eq!(get(&address, "/").0, 404);
    let ended = running.ended();
    assert_eq!(ended.code, 0, "{}", ended.said());
    assert!(
        TcpStream::connect(&address).is_err(),
        "it is gone with the job"
    );
}

#[test]
#[cfg(all(feature = "kafka", feature = "dev-broker"))]
fn a_scrape_tells_the_lag_of_each_partition_and_no_secret() {
    let topics = topics::Topics::new();
    let bids = topics::Topics::fresh("bids");
    topics.create(&bids, 3);
    let fill = |partition, count| {
        let lines: Vec<_> = (0..count).map(|n| bid(1, n, n)).collect();
        let records = lines.iter().map(|line| (None, None, Some(line.as_bytes())));
        topics.fill(&bids, partition, records);
    };
    fill(0, 5);
    fill(2, 3);
    let folder = tempdir().unwrap();
    let secret = "tr0ub4dor";
    std::fs::write(folder.path().join("secret"), secret).unwrap();
    let source = format!("bids=kafka:{bids}");
    let mut arguments = vec!["--bootstrap", topics.bootstrap(), "--source", &source];
    arguments.extend([
        "-X",
        "sasl.password=${file:secret}",
        "--http",
        "127.0.0.1:0",
    ]);
    for sink in ["stats=null:", "late=null:", "dead=null:"] {
        arguments.extend(["--sink", sink]);
    }
    let running = Running::start(&mut program("bid_stats", folder.path(), &arguments));
    let (running, address) = answering(running);
    let address = &*address;
    let read = "anabranch_source_records_total{source=\"bids\"}";
    let lag = |now: &Samples| -> Vec<Option<f64>> {
        let of = |partition| {
            let labels = format!("source=\"bids\",partition=\"{partition}\"");
            now.get(&format!("anabranch_source_lag_records{{{labels}}}"))
                .copied()
        };
        (0..4).map(of).collect()
    };
    let none = [Some(0.0), Some(0.0), Some(0.0), None];
    scrape_until(address, |now| {
        now.get(read) == Some(&8.0) && lag(now) == none
    });
    fill(1, 7);
    scrape_until(address, |now| {
        now.get(read) == Some(&15.0) && lag(now) == none
    });
    for path in ["/metrics", "/livez", "/readyz", "/"] {
        let (_, text) = get(address, path);
        assert!(!text.contains(secret), "{path}: {text}");
    }
    running.signal("TERM");
    assert_eq!(running.ended_with_open_input().code, 0);
}

/// A result for each bid, far more of them than pipes, buffers and epochs in flight hold.
#[test]
#[cfg(all(feature = "kafka", feature = "dev-broker"))]
fn a_job_whose_results_nobody_takes_lags_behind() {
    const COUNT: i32 = 200_000;
    let topics = topics::Topics::new();
    let bids = topics::Topics::fresh("bids");
    topics.create(&bids, 1);
    let lines: Vec<_> = (0..COUNT.into()).map(|n| bid(1, n, n * 10_000)).collect();
    let records = lines.iter().map(|line| (None, None, Some(line.as_bytes())));
    topics.fill(&bids, 0, records);
    let folder = tempdir().unwrap();
    let (bootstrap, source) = (topics.bootstrap(), format!("bids=kafka:{bids}"));
    let more = "--sink stats=- --sink late=null: --sink dead=null: --memory 8MiB --workers 1 \
                --http 127.0.0.1:0";
    let mut arguments: Vec<_> = more.split_whitespace().collect();
    arguments.extend(["--bootstrap", bootstrap, "--source", &source]);
    let mut command = program("bid_stats", folder.path(), &arguments);
    let (mut running, address) = answering(Running::start_unread(&mut command));
    let read = |now: &Samples| {
        now.get("anabranch_source_records_total{source=\"bids\"}")
            .copied()
    };
    let lag = |now: &Samples| {
        let series = "anabranch_source_lag_records{source=\"bids\",partition=\"0\"}";
        now.get(series).copied().unwrap_or(0.0)
    };
    let mut before = None;
    let stuck = scrape_until(&address, |now| {
        let stands = before == read(now);
        before = read(now);
        let in_flight = now["anabranch_epochs_in_flight"];
        stands && lag(now) > 0.0 && in_flight > 1.0
    });
    // It has read far more than one tick of the system takes.
    let busy = stuck["anabranch_worker_busy_seconds_total{worker=\"0\"}"];
    assert!(busy > 0.0, "{busy}");
    let (left, lag_now) = (f64::from(COUNT) - read(&stuck).unwrap(), lag(&stuck));
    assert!(left > 0.0 && lag_now >= left, "{lag_now} of {left} records");
    let mut out = running.take_out();
    let taken = thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    scrape_until(&address, |now| {
        read(now) == Some(f64::from(COUNT)) && lag(now) == 0.0
    });
    running.signal("TERM");
    assert_eq!(running.ended_with_open_input().code, 0);
    assert!(taken.join().unwrap().unwrap() > 64 << 10);
}

#[test]
fn a_scrape_tells_repeats_and_what_waits_for_a_verdict() {
    let folder = tempdir().unwrap();
    let bound = "--source events=- --sink activity=- --sink late=null: --sink dead=null: \
                 --http 127.0.0.1:0";
    let arguments: Vec<_> = bound.split_whitespace().collect();
    let mut command = program("user_activity", folder.path(), &arguments);
    let (mut running, address) = answering(Running::start(&mut command));
    // The last one is far enough ahead that the others are decided, and waits itself.
    for (id, second) in [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("c", 50)] {
        running.write(&format!(
            "{{\"eventId\":\"{id}\",\"eventType\":\"t\",\"userId\":\"u\",\
             \"timestamp\":{second},\"data\":{{}}}}\n"
        ));
    }
    scrape_until(&address, |now| {
        let told = |name: &str| now.get(&format!("anabranch_{name}")).copied();
        let counts = [
            "records_entered_total",
            "records_duplicate_total",
            "events_held",
        ];
        // An event, and two ids.
        counts.map(told) == [Some(5.0), Some(2.0), Some(1.0)]
            && told("state_entries{operator=\"dedup\"}") == Some(3.0)
    });
    let ended = running.ended();
    assert_eq!(ended.balance(), [5, 3, 2, 0, 0, 1], "{}", ended.said());
}

#[test]
fn an_address_that_cannot_be_had_is_named() {
    let folder = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let bound = ["--source", "bids=-", "--output-dir", "out"];
    for (address, code) in [(&*taken, 1), ("9100", 2), ("127.0.0.1:http", 2)] {
        let arguments = [&bound[..], &["--http", address]].concat();
        let ended = run("bid_stats", folder.path(), &arguments);
        let said = ended.said();
        assert_eq!(ended.code, code, "{said}");
        assert!(said.contains("--http") && said.contains(address), "{said}");
    }
    assert!(!folder.path().join("out").exists());
}
