//! Many seeds, and each flaw.

#![cfg(test)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use super::Flaw;
use super::dice::Trace;
use super::played::{Counts, Played};
use super::world::play;

/// Seeds of a run, and what they came to.
const SEEDS: u64 = 10_000;
/// Seeds in which each flaw has to show.
const SHOWS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// The first of `seeds` with which something is wrong, and how often things happened before it.
fn search(seeds: &Range<u64>, flaw: Option<Flaw>) -> (Option<u64>, Vec<Counts>) {
    let (next, first) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let work = || {
        let mut counts = Vec::new();
        loop {
            let seed = next.fetch_add(1, SeqCst);
            if seed >= first.load(SeqCst) {
                return counts;
            }
            let played = play(seed, flaw, &Trace::default());
            counts.push(played.counts);
            if played.wrong.is_some() {
                first.fetch_min(seed, SeqCst);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let counts = thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let all = all.into_iter().map(|one| one.join().expect("no panic"));
        all.flatten().collect()
    });
    let first = first.into_inner();
    ((first < seeds.end).then_some(first), counts)
}

/// Plays `seed` once more, in words.
fn tell(seed: u64, flaw: Option<Flaw>) -> (Played, String) {
    let trace = Trace::in_words();
    let played = play(seed, flaw, &trace);
    let Some(wrong) = &played.wrong else {
        return (played, String::new());
    };
    let text = format!(
        "seed {seed}: {wrong}\n\nthe last of what happened:\n{}\n\n{:#?}\n\nagain: \
         ANABRANCH_SIM_SEED={seed} cargo test --lib sim::tests::every_seed",
        trace.last(60),
        Brief(&played),
    );
    (played, text)
}

/// A story without its log.
struct Brief<'a>(&'a Played);

impl std::fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let story = &self.0.story;
        let records: Vec<_> = story.log.iter().map(Vec::len).collect();
        f.debug_struct("Story")
            .field("shape", &story.shape)
            .field("records", &records)
            .field("lag, allowed", &(story.lag, story.allowed))
            .field("size, retention", &(story.size, story.retention))
            .field("bounded, joins", &(story.bounded, story.joins))
            .field("idle, cut", &(story.idle, story.cut))
            .field("second source", &story.second)
            .field("fates", &story.fates)
            .finish()
    }
}

#[test]
fn every_seed_gives_what_the_oracle_says() {
    let seeds = match number("ANABRANCH_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ANABRANCH_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let many = seeds.end - seeds.start;
    let (wrong, counts) = search(&seeds, None);
    if let Some(seed) = wrong {
        panic!("{}", tell(seed, None).1);
    }
    let sum = |of: fn(&Counts) -> u64| counts.iter().map(of).sum::<u64>();
    let sums = [
        ("second sources", sum(|it| it.second_sources)),
        ("starts", sum(|it| it.starts)),
        ("commits", sum(|it| it.commits)),
        ("full saves", sum(|it| it.full_saves)),
        ("kills", sum(|it| it.kills)),
        ("power losses", sum(|it| it.power_losses)),
        ("lost disks", sum(|it| it.lost_disks)),
        ("rebuilds with idle records", sum(|it| it.left_again)),
        ("zombies", sum(|it| it.zombies)),
        ("overtaken", sum(|it| it.overtaken)),
        ("stops", sum(|it| it.stops)),
        ("disk faults", sum(|it| it.disk_faults)),
        ("time-outs", sum(|it| it.time_outs)),
        ("clock jumps", sum(|it| it.clock_jumps)),
        ("late requests", sum(|it| it.late_requests)),
    ];
    eprintln!("{many} seeds: {sums:?}");
    if many >= 1_000 {
        for (what, times) in sums {
            assert!(times > 0, "no {what}");
        }
    }
}

#[test]
fn a_seed_is_played_again_step_by_step() {
    for seed in 0..60 {
        let [one, other] = [(); 2].map(|()| play(seed, None, &Trace::default()));
        assert_eq!(
            (one.hash, one.turns, one.counts),
            (other.hash, other.turns, other.counts)
        );
    }
}

fn finds(flaw: Flaw) {
    let (found, _) = search(&(0..SHOWS), Some(flaw));
    let seed = found.unwrap_or_else(|| panic!("{flaw:?} does not show in {SHOWS} seeds"));
    let wrong = tell(seed, Some(flaw)).0.wrong;
    eprintln!(
        "{flaw:?} shows in seed {seed}: {}",
        wrong.unwrap_or_default()
    );
}

#[test]
fn a_commit_before_its_manifest_is_durable_is_found() {
    finds(Flaw::NoSync);
}

#[test]
fn a_predecessor_that_is_not_shut_out_is_found() {
    finds(Flaw::NoFence);
}

#[test]
fn progress_that_is_read_too_early_is_found() {
    finds(Flaw::ReadsBeforeFence);
}

#[test]
fn results_that_are_not_held_back_are_found() {
    finds(Flaw::NoHold);
}

#[test]
fn a_producer_that_goes_on_in_doubt_is_found() {
    finds(Flaw::GoesOnInDoubt);
}

#[test]
fn a_manifest_that_goes_too_early_is_found() {
    finds(Flaw::CleansEarly);
}

#[test]
fn progress_outside_of_the_transaction_is_found() {
    finds(Flaw::ProgressApart);
}
