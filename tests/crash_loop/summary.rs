//! What was done and seen, as lines and as a page.

use std::fmt::Write;
use std::time::Duration;

use super::checker::{Checker, Tally};
use super::deeds::Deed;

/// Counts over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Instances that were alive when they were killed.
    pub(crate) kills: usize,
    pub(crate) starts: usize,
    pub(crate) zombies: usize,
    pub(crate) restarts: usize,
    pub(crate) rebuilds: usize,
    pub(crate) outages: usize,
    /// Ends of transactions that were held back.
    pub(crate) held: usize,
    /// Ends with 1 while the broker or the network failed.
    pub(crate) excused: usize,
    pub(crate) rounds: usize,
    pub(crate) checkpoints: usize,
    /// Records of the logs, and of the outputs.
    pub(crate) records: usize,
    pub(crate) visible: usize,
    pub(crate) tally: Tally,
    /// From the start of an instance to its first commit.
    recoveries: Vec<Duration>,
}

/// What a run was, beside its counts.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) call: String,
    pub(crate) seed: u64,
    pub(crate) broker: String,
    pub(crate) time: Duration,
    pub(crate) verdict: String,
}

impl Totals {
    pub(crate) fn add_checker(&mut self, checker: &Checker) {
        self.checkpoints += checker.checkpoints;
        self.visible += checker.records();
        self.tally.lost += checker.tally.lost;
        self.tally.twice += checker.tally.twice;
        self.tally.different += checker.tally.different;
    }

    pub(crate) fn recovered(&mut self, time: Duration) {
        self.recoveries.push(time);
    }

    /// Counts a deed that is done, and says how it goes.
    pub(crate) fn tell(&mut self, deed: &Deed) {
        self.zombies += usize::from(matches!(deed, Deed::Zombie { .. }));
        eprintln!(
            "{} kills, {} zombies, {} restarts, {} rebuilds, {} outages · {deed:?}",
            self.kills, self.zombies, self.restarts, self.rebuilds, self.outages
        );
    }

    /// The median and the largest time to the first commit.
    fn recovery(&self) -> String {
        let mut all = self.recoveries.clone();
        all.sort_unstable();
        match (all.get(all.len() / 2), all.last()) {
            (Some(median), Some(largest)) => {
                format!(
                    "{} ms, at most {} ms",
                    median.as_millis(),
                    largest.as_millis()
                )
            }
            _ => "not measured".to_owned(),
        }
    }

    /// How much of what is wrong.
    pub(crate) fn verdict(&self) -> String {
        let Tally {
            lost,
            twice,
            different,
        } = self.tally;
        format!("{lost} lost, {twice} twice, {different} different")
    }

    fn rows(&self, about: &About) -> Vec<(&'static str, String)> {
        let engine = format!(
            "anabranch {}{}",
            env!("CARGO_PKG_VERSION"),
            revision().map_or_else(String::new, |revision| format!(" ({revision})"))
        );
        let (_, client) = rdkafka::util::get_rdkafka_version();
        vec![
            ("seed", about.seed.to_string()),
            ("broker", about.broker.clone()),
            ("engine", engine),
            ("client", format!("librdkafka {client}")),
            ("rounds (a job and a log each)", self.rounds.to_string()),
            ("starts of the job", self.starts.to_string()),
            ("kill -9 of a living job", self.kills.to_string()),
            (
                "zombies (stopped, taken over, woken)",
                self.zombies.to_string(),
            ),
            ("broker restarts", self.restarts.to_string()),
            ("rebuilds without the state dir", self.rebuilds.to_string()),
            ("network outages", self.outages.to_string()),
            ("of these, ends of transactions held", self.held.to_string()),
            ("ends with 1 in an outage", self.excused.to_string()),
            ("checkpoints seen", self.checkpoints.to_string()),
            ("records produced", self.records.to_string()),
            ("records visible", self.visible.to_string()),
            ("start to first commit, median", self.recovery()),
            ("time", format!("{} s", about.time.as_secs())),
            ("verdict", about.verdict.clone()),
        ]
    }

    /// For a terminal.
    pub(crate) fn lines(&self, about: &About) -> String {
        let mut text = String::new();
        for (name, value) in self.rows(about) {
            writeln!(text, "{name:<38} {value}").expect("a string takes all");
        }
        text
    }

    /// For `docs/proof/`.
    pub(crate) fn page(&self, about: &About) -> String {
        let mut text = format!("# Kill loop\n\n`{}`\n\n| | |\n|---|---|\n", about.call);
        for (name, value) in self.rows(about) {
            writeln!(text, "| {name} | {value} |").expect("a string takes all");
        }
        text
    }
}

/// The commit of the sources, where git knows it.
fn revision() -> Option<String> {
    let mut git = std::process::Command::new("git");
    let told = git
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    (told.status.success() && !text.is_empty()).then(|| text.trim().to_owned())
}
