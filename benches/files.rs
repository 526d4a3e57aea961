//! `bid_stats` from files to a file as a whole process: events per second of processor time, peak
//! memory, and what a second worker brings. `cargo bench --bench files [-- MILLIONS]`.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a bench prints figures"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Cost, bids_on_disk, cost_of, median};

const RUNS: usize = 5;

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

/// Runs both in turn; the medians of each.
fn alternate(count: u64, cases: &[(&str, &Path, usize)], out: &Path) {
    let mut costs: Vec<Vec<Cost>> = cases.iter().map(|_| Vec::new()).collect();
    let mut lines = None;
    for _ in 0..RUNS {
        for ((_, source, workers), costs) in cases.iter().zip(&mut costs) {
            costs.push(run(source, out, *workers));
            let text = fs::read_to_string(out.join("stats.jsonl")).expect("there are results");
            // The same events, however they are split over files, give the same results.
            let now = text.lines().count();
            assert!(now > 0);
            assert_eq!(*lines.get_or_insert(now), now, "results");
        }
    }
    println!("| {count} bids, file to file | events per CPU-second | wall s | peak MB |");
    println!("|---|---|---|---|");
    for ((name, ..), costs) in cases.iter().zip(&costs) {
        let of = |figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
        let rate = count as f64 / of(|cost| cost.cpu) / 1e6;
        let (wall, peak) = (of(|cost| cost.wall), of(|cost| cost.peak_mb));
        println!("| {name} | {rate:.2} M | {wall:.2} | {peak:.0} |");
    }
    let walls = |costs: &[Cost]| costs.iter().map(|cost| cost.wall).collect::<Vec<_>>();
    if let [one, two] = &costs[..] {
        let ratios = walls(one)
            .iter()
            .zip(walls(two))
            .map(|(one, two)| one / two)
            .collect();
        println!("two workers are {:.2} times as fast as one", median(ratios));
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
        println!("\n{what}");
        let cases = [
            ("one worker", folder.as_path(), 1),
            ("two workers", folder, 2),
        ];
        alternate(count, &cases, out.path());
    }
}
