//! The runs that a test is made of, and the watchdog over each.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::connectors::Cut;
use crate::error::Result;
use crate::job::Job;
use crate::observe::Summary;
use crate::runtime::Settings;

/// One way to run a job: nothing of it may show in the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    pub(super) workers: usize,
    pub(super) cut: Cut,
    /// Draws the interleaving; `None`: as it comes.
    pub(super) seed: Option<u64>,
}

/// A run that takes longer hangs.
const WATCHDOG: Duration = Duration::from_mins(1);

/// All combinations of workers up to `workers_max`, cuts, and `seeds` interleavings.
pub(super) fn variants(workers_max: usize, seeds: u64) -> Vec<Variant> {
    let mut variants = Vec::new();
    for workers in 1..=workers_max {
        for cut in [Cut::Records(1), Cut::Records(7), Cut::Never] {
            variants.push(Variant {
                workers,
                cut,
                seed: None,
            });
            variants.push(Variant {
                workers,
                cut,
                seed: Some(workers as u64 + 17),
            });
        }
        for seed in 0..seeds {
            let cut = Cut::Random(seed);
            variants.push(Variant {
                workers,
                cut,
                seed: Some(seed),
            });
        }
    }
    variants
}

/// Runs `job` in one way. Every event is sent through the codec behind its source, in front of
/// operators with state, and in front of its sink; and so is what has changed of the state, after
/// each epoch.
pub(super) fn run_variant(job: &Job, settings: Settings, variant: Variant) -> Result<Summary> {
    let Variant { workers, cut, seed } = variant;
    let mut settings = settings.workers(workers);
    settings.cut = Some((cut, seed));
    settings.round_trip = true;
    let (sender, receiver) = channel();
    let job = job.clone();
    let running = thread::spawn(move || {
        // The other side has given up if it does not listen.
        let _ = sender.send(job.run(settings));
    });
    match receiver.recv_timeout(WATCHDOG) {
        Ok(outcome) => {
            running.join().expect("it has answered");
            outcome
        }
        Err(RecvTimeoutError::Timeout) => panic!("{variant:?}: no end after {WATCHDOG:?}"),
        Err(RecvTimeoutError::Disconnected) => match running.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it answers before it ends"),
        },
    }
}
