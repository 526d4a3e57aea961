//! What benches of whole processes share: data, and what a child process has cost.

#![allow(dead_code, reason = "not every bench needs all of it")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anabranch::connectors::generator::{GeneratorSpec, bids};

/// What a child process has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Seconds of processor time, user and system.
    pub(crate) cpu: f64,
    /// Seconds on the clock.
    pub(crate) wall: f64,
    /// Largest resident size, in MB.
    pub(crate) peak_mb: f64,
}

/// Seconds of processor time of all children that were waited for. The kernel counts hundredths.
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name in parentheses");
    let field = |nth: usize| -> f64 {
        let text = after_name
            .split_whitespace()
            .nth(nth - 3)
            .expect("the field is there");
        text.parse().expect("a number")
    };
    (field(16) + field(17)) / 100.0
}

/// Runs `command` to its end and says what it cost.
pub(crate) fn cost_of(command: &mut Command) -> Cost {
    let before = children_cpu();
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    let start = std::time::Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let status_of = format!("/proc/{}/status", child.id());
    let mut peak_mb: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        let status = fs::read_to_string(&status_of).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        peak_mb = kb.unwrap_or(0.0).max(peak_mb * 1_000.0) / 1_000.0;
        std::thread::sleep(Duration::from_millis(2));
    };
    let wall = start.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}");
    Cost {
        cpu: children_cpu() - before,
        wall,
        peak_mb,
    }
}

/// `count` bids in `files` files, made once and kept; the folder that holds them.
pub(crate) fn bids_on_disk(count: u64, files: u32) -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_TMPDIR").map_or_else(
        || std::env::temp_dir().join("anabranch-bench"),
        PathBuf::from,
    );
    let folder = base.join(format!("bids-{count}-{files}"));
    let complete = folder.join("complete");
    if !complete.exists() {
        fs::create_dir_all(&folder).expect("the folder can be made");
        GeneratorSpec::new("bids", bids(1))
            .partitions(files)
            .records(count / u64::from(files))
            .write_files(&folder)
            .expect("the files can be written");
        fs::write(complete, "").expect("the mark can be written");
    }
    folder
}

/// With `ANABRANCH_BENCH_ASSERT` set, what does not hold is an error.
pub(crate) fn hold(holds: bool, what: &str) {
    let must = std::env::var_os("ANABRANCH_BENCH_ASSERT").is_some();
    assert!(!must || holds, "{what}");
}

/// The middle of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
