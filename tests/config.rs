//! A run does what flags, environment and file say together, and tells nobody the secrets in them.
//!
//! Caught here: a layer that wins where it should not; a wrong setting without its place; a secret
//! in any output; data among diagnostics, or diagnostics that are no JSON where JSON was asked for.

#![allow(clippy::unwrap_used, reason = "tests may fail")]

mod program;
#[path = "config/said.rs"]
mod said;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use program::{DEADLINE, Ended, Running, bid, names, program};
use tempfile::{TempDir, tempdir};

/// A folder with `bids.jsonl`: 5 bids on one auction, in the windows from 0 and 10,000; and with
/// `job.toml`, which binds all ports.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    let lines: String = (0..5).map(|n| bid(1, n, n * 4_000)).collect();
    fs::write(folder.path().join("bids.jsonl"), lines).unwrap();
    let bound = "[source]\nbids = \"file:bids.jsonl\"\n[sink]\nstats = \"-\"\nlate = \"null:\"\n\
                 dead = \"null:\"\n";
    fs::write(folder.path().join("job.toml"), bound).unwrap();
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// Runs `bid_stats` with variables of the environment.
fn run(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = program("bid_stats", folder, arguments);
    command.envs(variables.iter().copied());
    Running::start(&mut command).ended()
}

#[track_caller]
fn refused(folder: &Path, variables: &[(&str, &str)], arguments: &[&str], says: &[&str]) {
    let ended = run(folder, variables, arguments);
    assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.said());
    assert_eq!(ended.err.len(), 1, "one line: {}", ended.said());
    for part in says {
        assert!(ended.said().contains(part), "`{part}` in: {}", ended.said());
    }
    assert!(ended.out.is_empty(), "{:?}", ended.out);
}

/// The number of windows says the size, the start line the number of workers.
#[track_caller]
fn workers_and_windows(ended: &Ended) -> (String, usize) {
    assert_eq!(ended.code, 0, "{}", ended.said());
    let start = ended
        .err
        .iter()
        .find(|line| line.contains(" workers"))
        .unwrap();
    let workers = start.split(' ').nth(1).unwrap();
    (workers.to_owned(), ended.out.len())
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let folder = folder();
    let bound = fs::read_to_string(folder.path().join("job.toml")).unwrap();
    let file = format!("workers = 3\nstart = \"earliest\"\n{bound}[set]\nsize = \"1m\"\n");
    write(folder.path(), "all.toml", &file);
    let with = |variables: &[(&str, &str)], flags: &[&str]| {
        let all = [&["--config", "all.toml"], flags].concat();
        workers_and_windows(&run(folder.path(), variables, &all))
    };
    let variables = [("ANABRANCH_WORKERS", "2"), ("ANABRANCH_SET_SIZE", "10s")];
    let is = |workers: &str, windows| (workers.to_owned(), windows);
    assert_eq!(with(&[], &[]), is("3", 1));
    assert_eq!(with(&variables, &[]), is("2", 2));
    assert_eq!(
        with(&variables, &["-w", "1", "--set", "size=4s"]),
        is("1", 5)
    );
    // What one of them says of a table leaves the rest of it.
    assert_eq!(with(&variables[..1], &["--set", "lag=9s"]), is("2", 1));
    assert_eq!(with(&[], &["--sink", "stats=null:"]), is("3", 0));
    let named = [
        ("ANABRANCH_CONFIG", "all.toml"),
        ("ANABRANCH_SINK_STATS", "null:"),
    ];
    let ended = run(folder.path(), &named, &["run"]);
    assert_eq!(workers_and_windows(&ended), is("3", 0));
}

#[test]
fn the_example_of_the_documentation_holds() {
    let folder = folder();
    let text = include_str!("../docs/running.md");
    let (_, from) = text.split_once("```toml\n").unwrap();
    write(folder.path(), "doc.toml", from.split_once("```").unwrap().0);
    let variables = [("ANABRANCH_WORKERS", "2"), ("KAFKA_PASSWORD", "x")];
    let shown = ["--config", "doc.toml", "--set", "lag=10s"];
    let here = [
        "--source",
        "bids=file:bids.jsonl",
        "--sink",
        "stats=-",
        "--sink",
        "dead=null:",
    ];
    let ended = run(folder.path(), &variables, &[&shown[..], &here].concat());
    assert_eq!(workers_and_windows(&ended), ("2".to_owned(), 1));
}

#[test]
fn the_whole_run_can_stand_in_the_environment() {
    let folder = folder();
    let variables = [
        ("ANABRANCH_SOURCE_BIDS", "file:bids.jsonl"),
        ("ANABRANCH_OUTPUT_DIR", "out"),
        ("ANABRANCH_SET_TIMESTAMP_UNIT", "ms"),
        ("ANABRANCH_QUIET", "true"),
    ];
    let ended = run(folder.path(), &variables, &[]);
    assert_eq!((ended.code, ended.said().as_str()), (0, ""));
    let out = folder.path().join("out");
    assert_eq!(names(&out), ["dead.jsonl", "late.jsonl", "stats.jsonl"]);
}

#[test]
fn other_variables_are_warned_about_and_change_nothing() {
    let folder = folder();
    let variables = [("ANABRANCH_WORKRES", "7")];
    let ended = run(folder.path(), &variables, &["--config", "job.toml"]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let said = "`ANABRANCH_WORKRES` is no setting (did you mean `ANABRANCH_WORKERS`?)";
    assert!(ended.err[0].contains(said), "{}", ended.said());
}

/// A file, and what is said of it.
const BROKEN: &[(&str, [&str; 2])] = &[
    (
        "\nworker = 2\n",
        ["line 2", "unknown key `worker` (did you mean `workers`?)"],
    ),
    ("workers = \"many\"\n", ["line 1", "`workers`"]),
    ("workers = \n", ["line 1", "c.toml"]),
    (
        "idle-timeout = 5\n",
        ["line 1: `idle-timeout`", "10s, 1h30m, or off"],
    ),
    ("max-dead = \"x\"\n", ["line 1: `max-dead`", "5%"]),
    (
        "[sink]\nstat = \"-\"\n",
        ["line 2: ", "`stat` (did you mean `stats`?)"],
    ),
    (
        "[sink]\nstats = \"flie:x\"\n",
        ["`stats`: expected file:PATH", "`file`?"],
    ),
    (
        "[set]\nsize = 5\n",
        ["line 2: parameter `size`", "a duration such as"],
    ),
    (
        "[set]\nsise = \"5s\"\n",
        ["line 2: unknown parameter `sise`", "`size`?"],
    ),
    (
        "[property]\nacks = 1\n",
        ["line 2: property `acks`", "the engine owns it"],
    ),
    (
        "[property]\nsasl.pasword = 1\n",
        ["`sasl.pasword`", "`sasl.password`?"],
    ),
    (
        "[property]\nkey.deserializer = 1\n",
        ["line 2: ", "the Java client's"],
    ),
    (
        "[property]\n\"bidz:linger.ms\" = 1\n",
        ["no port `bidz`", "`bids`?"],
    ),
    (
        "log-format = \"xml\"\n",
        ["line 1: `log-format`", "pretty or json"],
    ),
];

#[test]
fn a_broken_configuration_ends_with_2_and_names_file_line_and_key() {
    let folder = folder();
    let bound = fs::read_to_string(folder.path().join("job.toml")).unwrap();
    for (text, says) in BROKEN {
        let tables = text.starts_with('[');
        let file = if tables {
            (*text).to_owned()
        } else {
            format!("{text}{bound}")
        };
        write(folder.path(), "c.toml", &file);
        let flags = [
            "--config",
            "c.toml",
            "--source",
            "bids=file:bids.jsonl",
            "--output-dir",
            "o",
        ];
        refused(folder.path(), &[], &flags, says);
    }
    assert!(!folder.path().join("o").exists());
    let missing = ["--config", "gone.toml"];
    refused(
        folder.path(),
        &[],
        &missing,
        &["--config", "`gone.toml`", "No such file"],
    );
    let variable = [("ANABRANCH_WORKERS", "two")];
    refused(
        folder.path(),
        &variable,
        &[],
        &["variable `ANABRANCH_WORKERS`"],
    );
    let port = [("ANABRANCH_SINK_STAT", "-")];
    let flags = ["--config", "job.toml"];
    refused(
        folder.path(),
        &port,
        &flags,
        &["`ANABRANCH_SINK_STAT`", "`stats`?"],
    );
}

#[cfg(feature = "kafka")]
#[test]
fn a_property_of_one_sink_is_refused_where_all_have_one_producer() {
    let folder = tempdir().unwrap();
    let job = "--bootstrap 127.0.0.1:1 --broker-timeout 500ms --job-id job --state-dir state";
    let with = |more: &'static str| -> Vec<_> { job.split(' ').chain(more.split(' ')).collect() };
    // Nothing that was given would have an effect without a word.
    for (more, port) in [
        ("-X late:linger.ms=50", "late"),
        ("-X linger.ms=5 -X stats:linger.ms=50", "stats"),
        ("-X stats:linger.ms=50 -X late:linger.ms=50", "stats"),
        (
            "-X stats:linger.ms=50 -X late:linger.ms=5 -X dead:linger.ms=50",
            "stats",
        ),
    ] {
        let given = format!("property `{port}:linger.ms`");
        let says = [&*given, "one producer", "`-X linger.ms=..`"];
        refused(folder.path(), &[], &with(more), &says);
    }
    for more in [
        "-X stats:linger.ms=50 -X late:linger.ms=50 -X dead:linger.ms=50",
        "-X stats:linger.ms=50 -X linger.ms=5",
        "-X late:linger.ms=50 --sink stats=null: --sink dead=null:",
        "-X late:linger.ms=50 --guarantee at-least-once",
        "-X bids:fetch.wait.max.ms=50",
    ] {
        // Nobody answers there.
        let ended = run(folder.path(), &[], &with(more));
        assert_eq!(ended.code, 1, "{more}: {}", ended.said());
    }
}

#[test]
fn kafka_properties_come_from_a_file_too_and_are_named_by_its_lines() {
    let folder = folder();
    let flags = ["--config", "job.toml", "--kafka-config", "c.properties"];
    for (text, says) in [
        (
            "# ours\n\nsasl.jaas.config = x \\\n  y;\n",
            ["line 3: ", "`sasl.username` and `sasl.p"],
        ),
        (
            "a=1\nenable.auto.commit: false\n",
            ["line 1: ", "no Kafka property `a`"],
        ),
        (
            "linger.ms=1\nenable.auto.commit: false\n",
            ["line 2: ", "the engine owns it"],
        ),
        (
            "linger.ms=1\nssl.truststore.location /x\n",
            ["line 2: ", "`ssl.ca.location`"],
        ),
        (
            "linger.ms=1\n=2\n",
            ["c.properties`, line 2", "without a name"],
        ),
        (
            "sasl.password=${env:NOT_THERE}\n",
            ["`sasl.password`", "`NOT_THERE` is not set"],
        ),
    ] {
        write(folder.path(), "c.properties", text);
        refused(folder.path(), &[], &flags, &says);
    }
    let gone = ["--kafka-config", "gone.properties"];
    refused(
        folder.path(),
        &[],
        &gone,
        &["--kafka-config", "`gone.properties`"],
    );
    write(
        folder.path(),
        "c.properties",
        "linger.ms=1\nsasl.username : me\n",
    );
    assert_eq!(run(folder.path(), &[], &flags).code, 0);
}

const SECRET: &str = "tr0ub4dor&3 \"quoted\"";

/// A broker as far as SASL goes: it tells whom it hears, and refuses with the password in the
/// reason, as no broker should.
fn door_keeper(tell: Sender<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tell) = (stream.unwrap(), tell.clone());
            // Until the client has gone.
            thread::spawn(move || while answer(&mut stream, &tell).is_ok() {});
        }
    });
    address
}

fn answer(stream: &mut TcpStream, tell: &Sender<Vec<u8>>) -> std::io::Result<()> {
    let request = frame(stream)?;
    let body = match (request[1], request[3]) {
        // The versions of what is asked here; in the oldest form only.
        (18, 0) => versions(&[(3, 4), (17, 1), (18, 0), (36, 0)]),
        (18, _) => vec![0, 35, 0, 0, 0, 0],
        (17, _) => [&[0, 0, 0, 0, 0, 1, 0, 5], &b"PLAIN"[..]].concat(),
        (36, _) => {
            // Nobody listens any more once the password is known.
            let _ = tell.send(request.clone());
            let why = format!("I know {SECRET}");
            let length = u8::try_from(why.len()).unwrap();
            [&[0, 58, 0, length], why.as_bytes(), &[0; 4]].concat()
        }
        other => panic!("{other:?} was not asked for"),
    };
    let length = u32::try_from(body.len() + 4).unwrap();
    stream.write_all(&[&length.to_be_bytes(), &request[4..8], &body].concat())
}

fn versions(most: &[(u8, u8)]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 0, u8::try_from(most.len()).unwrap()];
    for (key, version) in most {
        body.extend([0, *key, 0, 0, 0, *version]);
    }
    body
}

fn frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

/// What a job says, with everything on that talks, while the broker hears and refuses the password.
fn all_said(folder: &Path, format: &str, way: &[&str]) -> String {
    let (tell, heard) = channel();
    let broker = door_keeper(tell);
    let talks = "-X security.protocol=sasl_plaintext -X sasl.mechanism=PLAIN -X debug=all -vv \
                 -X sasl.username=me";
    let mut arguments: Vec<_> = talks.split_whitespace().collect();
    arguments.extend(["--log-format", format, "--bootstrap", &broker]);
    arguments.extend(way);
    let mut command = program("bid_stats", folder, &arguments);
    command
        .env("THE_SECRET", SECRET)
        .env("ANABRANCH_BROKER_TIMEOUT", "3s");
    let ended = Running::start(&mut command).ended();
    let frame = heard.recv_timeout(DEADLINE).expect("a password");
    let frame = String::from_utf8_lossy(&frame).into_owned();
    assert!(frame.contains(SECRET), "the broker gets it: {frame:?}");
    let said = ended.said();
    assert_eq!(ended.code, 1, "{said}");
    assert!(said.contains("sasl.username"), "librdkafka talks: {said}");
    let out = ended.out.join("\n");
    let told = if way.contains(&"--check") {
        &out
    } else {
        &said
    };
    assert!(
        told.contains("I know ***"),
        "the broker's words are passed on: {told}"
    );
    said + "\n" + &out
}

#[test]
fn secrets_are_in_no_line_of_a_run_that_says_all() {
    let folder = tempdir().unwrap();
    let at = folder.path();
    write(at, "secret", &format!("{SECRET}\n"));
    write(
        at,
        "c.properties",
        &format!("client.id={SECRET}\nsasl.password={SECRET}\n"),
    );
    write(
        at,
        "c.toml",
        "property.\"sasl.password\" = \"${env:THE_SECRET}\"\n",
    );
    let plain = format!("sasl.password={SECRET}");
    let ways: [&[&str]; 6] = [
        &[
            "-X",
            "sasl.password=${env:THE_SECRET}",
            "-X",
            "client.id=x${env:THE_SECRET}",
        ],
        &["-X", "sasl.password=${file:secret}"],
        &["-X", &plain],
        &["--kafka-config", "c.properties"],
        &["--config", "c.toml"],
        &["--config", "c.toml", "--check"],
    ];
    let cases = ways
        .iter()
        .flat_map(|way| ["pretty", "json"].map(|format| (way, format)));
    thread::scope(|scope| {
        for (way, format) in cases {
            scope.spawn(move || {
                let said = all_said(at, format, way);
                for part in ["tr0ub4dor", "quoted"] {
                    let shown = said.lines().find(|line| line.contains(part));
                    assert_eq!(shown, None, "{way:?} as {format}");
                }
            });
        }
    });
}

#[test]
fn a_check_does_not_show_a_path_that_was_substituted() {
    let folder = folder();
    write(
        folder.path(),
        "c.toml",
        "output-dir = \"out\"\n[source]\nbids = \"file:${env:THE_SECRET}\"\n",
    );
    let variables = [("THE_SECRET", "bids.jsonl")];
    let ended = run(
        folder.path(),
        &variables,
        &["--config", "c.toml", "--check"],
    );
    assert_eq!(ended.code, 0, "{}", ended.said());
    let out = ended.out.join("\n");
    assert!(out.contains("ok  source bids: file:***: readable"), "{out}");
    assert!(!out.contains("bids.jsonl"), "{out}");
}

#[test]
fn errors_about_a_secret_do_not_quote_it() {
    let folder = folder();
    for (variable, arguments) in [
        ("a wrong value", &["-X", "linger.ms=${env:THE_SECRET}"]),
        (
            "a wrong value",
            &["-X", "ssl.key.password=${env:THE_SECRET}"],
        ),
        (
            "a wrong value",
            &["-X", "security.protocol=${env:THE_SECRET}"],
        ),
        ("a wrong value", &["--set", "lag=1"]),
    ] {
        let bound = ["--bootstrap", "127.0.0.1:1", "--log-level", "trace"];
        let mut command = program(
            "bid_stats",
            folder.path(),
            &[&bound[..], arguments].concat(),
        );
        let ended = Running::start(command.env("THE_SECRET", variable)).ended();
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.said());
        assert!(!ended.said().contains(variable), "{}", ended.said());
    }
    write(
        folder.path(),
        "c.toml",
        "[set]\nsize = \"${env:THE_SECRET}\"\n",
    );
    let arguments = ["--config", "c.toml", "--output-dir", "."];
    let variables = [("THE_SECRET", "a wrong value")];
    refused(
        folder.path(),
        &variables,
        &arguments,
        &["line 2: parameter `size`", "found `***`"],
    );
    let told = run(
        folder.path(),
        &[("ANABRANCH_PROPERTY_SASL_PASSWORD", SECRET)],
        &["describe"],
    );
    assert_eq!(told.code, 0);
    assert!(!told.out.join("").contains("tr0ub4dor"), "{:?}", told.out);
    let unclosed = ["--config", "job.toml", "-X", "sasl.password=${env:X"];
    refused(
        folder.path(),
        &[],
        &unclosed,
        &["property `sasl.password`", "not closed"],
    );
}

#[test]
fn without_a_number_there_are_as_many_workers_as_cores() {
    let folder = folder();
    let ended = run(folder.path(), &[], &["--config", "job.toml"]);
    let cores = thread::available_parallelism().unwrap().to_string();
    assert_eq!(workers_and_windows(&ended), (cores, 2));
}
