//! `bid_stats` from files to a file as a whole process: events per second of processor time, peak
//! memory, and what a second worker brings. `cargo bench --bench files [-- MILLIONS]`.
//!
//! Every run asserts that its results are those of a plain loop over the same files. With
//! `ANABRANCH_BENCH_ASSERT` set, what misses half of its goal, or takes more memory than that, is
//! an error.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench prints figures"
)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use support::{Cost, bids_on_disk, cost_of, hold, median};

const RUNS: usize = 5;
/// Half of the goal: millions of events per second of processor time.
const RATE_MIN: f64 = 1.6;
const PEAK_MAX: f64 = 150.0;
/// Half of what a second worker is to bring.
const TWO_MIN: f64 = 1.3;
/// Milliseconds of a window, and how far out of order bids may come.
const SIZE: i64 = 10_000;
const LAG: i64 = 2_000;

fn run(source: &Path, out: &Path, workers: usize) -> Cost {
    cost_of(
        Command::new(env!("CARGO_BIN_EXE_bid_stats"))
            .arg(format!("--source=bids=file:{}", source.display()))
            .arg(format!("--output-dir={}", out.display()))
            .arg(format!("--workers={workers}"))
            .arg("--quiet")
            .stdin(Stdio::null()),
    )
}

#[derive(Deserialize)]
struct Bid {
    auction: i64,
    price: i64,
    date_time: i64,
}

/// The digest of what a plain loop finds in the files of `source`, each of which is a partition.
fn expected(source: &Path) -> String {
    let mut windows: HashMap<(i64, i64), (u64, i128, i64)> = HashMap::new();
    for file in fs::read_dir(source).expect("there are files") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("bids are text");
        let mut largest = i64::MIN + LAG;
        for line in text.lines() {
            let bid: Bid = sonic_rs::from_str(line).expect("a bid");
            let start = bid.date_time - bid.date_time.rem_euclid(SIZE);
            if start + SIZE > largest - LAG {
                let none = (0, 0, i64::MIN);
                let stats = windows.entry((bid.auction, start)).or_insert(none);
                let (count, sum, max) = *stats;
                let price = bid.price;
                *stats = (count + 1, sum + i128::from(price), price.max(max));
            }
            largest = bid.date_time.max(largest);
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("expected.jsonl");
    let mut out = BufWriter::new(fs::File::create(&path).expect("it can be written"));
    for ((auction, start), (count, sum, max)) in windows {
        let written = writeln!(
            out,
            "{{\"auction\":{auction},\"window_start\":{start},\"cnt\":{count},\
             \"sum_price\":{sum},\"max_price\":{max}}}"
        );
        written.expect("it can be written");
    }
    out.flush().expect("it can be written");
    digest(&path)
}

/// What there is, in whatever order it was written, and how many.
fn digest(results: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    let ended = command.arg("digest").arg(results).output();
    let ended = ended.expect("the program starts");
    assert!(ended.status.success(), "{ended:?}");
    String::from_utf8(ended.stdout).expect("a digest is text")
}

/// Runs both in turn; the medians of each.
fn alternate(count: u64, expected: &str, cases: &[(&str, &Path, usize)], out: &Path) {
    let mut costs: Vec<Vec<Cost>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..RUNS {
        for ((_, source, workers), costs) in cases.iter().zip(&mut costs) {
            costs.push(run(source, out, *workers));
            assert_eq!(digest(&out.join("stats.jsonl")), expected, "results");
        }
    }
    println!("| {count} bids, file to file | events per CPU-second | wall s | peak MB |");
    println!("|---|---|---|---|");
    for ((name, ..), costs) in cases.iter().zip(&costs) {
        let of = |figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
        let rate = count as f64 / of(|cost| cost.cpu) / 1e6;
        let (wall, peak) = (of(|cost| cost.wall), of(|cost| cost.peak_mb));
        println!("| {name} | {rate:.2} M | {wall:.2} | {peak:.0} |");
        hold(rate >= RATE_MIN, &format!("{name}: {rate:.2} M"));
        hold(peak <= PEAK_MAX, &format!("{name}: {peak:.0} MB"));
    }
    let walls = |costs: &[Cost]| costs.iter().map(|cost| cost.wall).collect::<Vec<_>>();
    if let [one, two] = &costs[..] {
        let ratios = walls(one)
            .iter()
            .zip(walls(two))
            .map(|(one, two)| one / two)
            .collect();
        let ratio = median(ratios);
        println!("two workers are {ratio:.2} times as fast as one");
        hold(ratio >= TWO_MIN, &format!("two workers: {ratio:.2}"));
    }
}

/// The same bids, but every second one is for one auction.
fn one_hot_key(folder: &Path) -> PathBuf {
    let hot = folder.with_extension("hot");
    if !hot.exists() {
        fs::create_dir_all(&hot).expect("the folder can be made");
        for file in fs::read_dir(folder).expect("there are files") {
            let file = file.expect("a file").path();
            let text = fs::read_to_string(&file).expect("bids are text");
            let mut out = String::with_capacity(text.len());
            for (nth, line) in text.lines().enumerate() {
                match line.split_once(",\"bidder\"") {
                    Some((_, rest)) if nth % 2 == 0 => {
                        out.push_str("{\"auction\":7,\"bidder\"");
                        out.push_str(rest);
                    }
                    _ => out.push_str(line),
                }
                out.push('\n');
            }
            fs::write(hot.join(file.file_name().expect("a name")), out).expect("it can be written");
        }
    }
    hot
}

fn main() {
    let millions = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse::<u64>().ok());
    let count = millions.unwrap_or(5) * 1_000_000;
    let out = tempfile::tempdir().expect("a folder for results");
    let folder = bids_on_disk(count, 2);
    let hot = one_hot_key(&folder);
    for (what, folder) in [
        ("every auction its share", &folder),
        ("one auction has half", &hot),
    ] {
        let expected = expected(folder);
        assert!(!expected.ends_with(" records 0\n"), "{expected}");
        println!("\n{what}; expected: {}", expected.trim_end());
        let cases = [
            ("one worker", folder.as_path(), 1),
            ("two workers", folder, 2),
        ];
        alternate(count, &expected, &cases, out.path());
    }
}
