//! What is said on stderr, how much of it, and in which form.

use crate::program::{Ended, Running, bid, program};
use crate::{folder, run, write};

#[test]
fn stdout_has_data_alone_however_much_is_said() {
    let folder = folder();
    let quiet = run(folder.path(), &[], &["--config", "job.toml", "-q"]);
    assert_eq!((quiet.out.len(), quiet.err.len()), (2, 0));
    for format in ["pretty", "json"] {
        let arguments = [
            "--config",
            "job.toml",
            "-vv",
            "--log-level=trace",
            "--log-format",
            format,
        ];
        let loud = run(folder.path(), &[("ANABRANCH_X", "1")], &arguments);
        assert_eq!(loud.code, 0, "{}", loud.said());
        assert_eq!(loud.out, quiet.out, "{format}");
        assert!(loud.said().contains("ANABRANCH_X"), "{}", loud.said());
    }
}

#[test]
fn the_log_level_says_how_much_is_said() {
    let folder = folder();
    let said = |level| {
        let state = format!("state-{level}");
        let arguments = [
            "--source",
            "bids=file:bids.jsonl",
            "--output-dir",
            level,
            "--state-dir",
            &state,
            "--log-level",
            level,
        ];
        let ended = run(folder.path(), &[("ANABRANCH_X", "1")], &arguments);
        assert_eq!(ended.code, 0, "{}", ended.said());
        ended.said()
    };
    let [error, warn, debug] = ["error", "warn", "debug"].map(said);
    let warning = "`ANABRANCH_X` is no setting";
    assert!(!error.contains(warning), "{error}");
    assert!(warn.contains(warning) && !warn.contains("DEBUG"), "{warn}");
    assert!(
        debug.contains("DEBUG") && debug.contains(warning),
        "{debug}"
    );
}

#[test]
fn each_line_is_an_object_where_json_is_asked_for() {
    let folder = folder();
    write(folder.path(), "empty", "");
    let json = ["--config", "job.toml", "--log-format", "json"];
    let level = |line: &str| -> String {
        let told: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|why| {
            panic!("{why}: {line}");
        });
        for field in ["timestamp", "level", "message"] {
            assert!(told[field].is_string(), "{field} in: {line}");
        }
        told["level"].as_str().unwrap().to_owned()
    };
    let levels = |ended: Ended| ended.err.iter().map(|line| level(line)).collect::<Vec<_>>();
    let good = run(folder.path(), &[("ANABRANCH_X", "1")], &json);
    assert_eq!(levels(good), ["warn", "info", "info"]);
    for (variables, more, code) in [
        (&[][..], &["--set", "sise=1s"][..], 2),
        (&[], &["--no-such"], 2),
        (&[("ANABRANCH_LOG_FORMAT", "json")], &["--workers", "x"], 2),
        (&[], &["--source", "bids=file:gone"], 1),
        (&[], &["--sink", "late=file:empty/x"], 1),
    ] {
        let flags = if variables.is_empty() {
            &json[..]
        } else {
            &json[..2]
        };
        let ended = run(folder.path(), variables, &[flags, more].concat());
        assert_eq!(ended.code, code, "{}", ended.said());
        let last = ended.err.last().unwrap();
        assert!(last.contains(&format!("\"exit\":{code}")), "{last}");
        assert_eq!(levels(ended).last().unwrap(), "error");
    }
}

#[test]
fn progress_is_an_object_too() {
    let folder = folder();
    let arguments = [
        "--config",
        "job.toml",
        "--source",
        "bids=-",
        "--log-format",
        "json",
    ];
    let mut running = Running::start(&mut program("bid_stats", folder.path(), &arguments));
    running.write(&bid(1, 5, 1_000));
    let line = running.wait_err("/s · read 1 · watermark");
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["level"], "info");
    assert_eq!(running.ended().code, 0);
}
