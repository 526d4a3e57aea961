//! The protocol behind exactly-once, as a small state machine: every order in which its steps, its
//! broker and its faults can happen is looked at, so what holds here does not hang on luck.
//!
//! A job of two workers reads a log of a few epochs and commits each epoch's results, with a
//! progress record, in transactions of one producer; some epochs, among them the last, are
//! declared as checkpoints. A fault is one of: kill -9 between any two steps; a process that falls
//! asleep, so that another takes over, and wakes up at any time later; power loss, which takes any
//! of the manifests that are not synced; a start on another state folder; a transaction that the
//! broker aborts. Beside those, at any time and as often as they like: commit requests that are
//! answered, whose answer is lost, or of which a second copy arrives at any time later, and commits
//! that readers see only later. User code may decide otherwise each time: what was applied in two
//! incarnations counts as different.
//!
//! Held against that, in every state: no result up to the committed progress record is lost, none
//! is twice, none is visible beyond it; the two workers' results of an epoch come from one
//! incarnation; committed progress names one manifest, durable, and what it holds is the state
//! that the committed results came from, cut exactly there; progress never goes back; no start is
//! refused without cause. And from every state, if nothing more goes wrong, the job comes to its
//! end with all results.
//!
//! What the model takes for granted: the broker keeps what it has committed, and refuses whose
//! producer epoch is not the newest; one checkpoint is declared at a time; folders of generations
//! are created exclusively. Not in it: rebuilding from the log, and processes that share a job.
//!
//! Each [`Flaw`] is caught here, with the shortest way to it. `--nocapture` shows that way, and how
//! many states were looked at; a harm in the sound protocol is shown in the same form.

#![allow(
    unreachable_pub,
    reason = "the parts of this test crate use each other"
)]

#[path = "eos_model/checks.rs"]
mod checks;
#[path = "eos_model/outside.rs"]
mod outside;
#[path = "eos_model/protocol.rs"]
mod protocol;
#[path = "eos_model/search.rs"]
mod search;
#[path = "eos_model/steps.rs"]
mod steps;
#[path = "eos_model/world.rs"]
mod world;

use protocol::Protocol;
use search::{Path, search};
use steps::{Deed, Flaw, Harm, Step};
use world::World;

const PAGE: &str = include_str!("../docs/exactly-once.md");

/// Looks at every state of the sound protocol.
#[track_caller]
fn holds(epochs: u8, faults: u8, is_pedantic: bool) {
    let protocol = Protocol {
        epochs,
        faults,
        flaw: None,
        is_pedantic,
    };
    let found = search(protocol, |_| true);
    eprintln!(
        "sound with {faults} faults, epochs: {epochs}: {} states, {} steps deep",
        found.states, found.depth
    );
    if let Some(path) = found.harm {
        panic!("{path}");
    }
    let missing = possible().filter(|step| !found.kinds.iter().any(|kind| kind.is_like(step)));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
    let states = thousands(found.states);
    let is_told = PAGE.contains(&format!("| {states} |"));
    assert!(
        is_told || is_pedantic,
        "docs/exactly-once.md does not say {states}"
    );
}

/// With a comma between each three digits.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A step of each kind that the sound protocol has: a search that never loses power, or never asks
/// for a new producer, would bless anything.
fn possible() -> impl Iterator<Item = Step> {
    let deeds = [
        Deed::Looks,
        Deed::Refuses,
        Deed::Fences,
        Deed::Reads,
        Deed::Loads,
        Deed::StartsAt(0),
        Deed::Applies(0, 1),
        Deed::Declares(0, 1),
        Deed::Freezes(0, 1),
        Deed::Produces(0, 1),
        Deed::Writes(1),
        Deed::Syncs,
        Deed::Records(1),
        Deed::Sends,
        Deed::Resends,
        Deed::Renews,
        Deed::Deletes,
        Deed::IsFenced,
    ];
    let others = [
        Step::Start,
        Step::TakeOver,
        Step::StartElsewhere,
        Step::Kill(0),
        Step::PowerLoss,
        Step::TimesOut,
        Step::Completes,
        Step::Delivers { is_answered: true },
    ];
    deeds
        .map(|deed| Step::Act(0, deed))
        .into_iter()
        .chain(others)
}

/// The shortest way from a flaw to the harm that it does.
#[track_caller]
fn caught(flaw: Flaw, epochs: u8, faults: u8, harm: Harm) -> Path {
    let protocol = Protocol {
        epochs,
        faults,
        flaw: Some(flaw),
        is_pedantic: false,
    };
    let found = search(protocol, |found| found == harm);
    let Some(path) = found.harm else {
        panic!("{flaw:?} was not caught in {} states", found.states);
    };
    eprintln!("{flaw:?}: {} states, {path}", found.states);
    path
}

#[test]
fn three_epochs_and_two_faults() {
    holds(3, 2, false);
}

#[test]
fn two_epochs_and_three_faults() {
    holds(2, 3, false);
}

#[test]
fn one_epoch_and_four_faults() {
    holds(1, 4, false);
}

/// The other runs drop who was fenced, and manifests that no record can name. This one does not.
#[test]
fn what_is_left_out_makes_no_difference() {
    holds(1, 2, true);
    holds(2, 1, true);
}

#[test]
#[ignore = "half a minute and half a gigabyte"]
fn three_epochs_and_three_faults() {
    holds(3, 3, false);
}

#[test]
fn a_commit_before_the_manifest_is_durable() {
    caught(Flaw::CommitsBeforeDurable, 1, 1, Harm::Missing);
}

#[test]
fn a_broker_that_shuts_nobody_out() {
    caught(Flaw::FencesNobody, 1, 1, Harm::Twice);
}

#[test]
fn progress_that_is_read_before_the_fence_and_not_again() {
    caught(Flaw::ReadsProgressOnce, 1, 1, Harm::Twice);
}

#[test]
fn a_generation_that_is_used_twice() {
    caught(Flaw::ReusesGeneration, 1, 2, Harm::Diverges);
}

#[test]
fn a_producer_that_goes_on_after_doubt() {
    let path = caught(Flaw::ReusesProducer, 1, 1, Harm::Twice);
    let resends = Step::Act(0, Deed::Resends);
    assert!(path.steps.iter().any(|(step, _)| step.is_like(&resends)));
    caught(Flaw::ReusesProducer, 2, 1, Harm::Torn);
}

#[test]
fn a_lost_answer_that_nobody_asks_for_again() {
    caught(Flaw::NeverResends, 1, 0, Harm::Stuck);
}

#[test]
fn progress_before_the_transaction() {
    caught(Flaw::RecordsBefore, 2, 1, Harm::Lost);
    caught(Flaw::RecordsBefore, 1, 1, Harm::Incomplete);
}

#[test]
fn progress_after_the_transaction() {
    caught(Flaw::RecordsAfter, 1, 1, Harm::Beyond);
    caught(Flaw::RecordsAfter, 1, 1, Harm::Twice);
}

#[test]
fn a_checkpoint_that_is_not_declared() {
    caught(Flaw::FreezesLate, 3, 1, Harm::NoCut);
}

#[test]
fn the_newest_manifest_in_place_of_the_committed_one() {
    caught(Flaw::RestoresNewest, 2, 1, Harm::Lost);
}

#[test]
fn a_manifest_that_is_deleted_before_its_successor_is_committed() {
    caught(Flaw::DeletesEarly, 1, 1, Harm::Missing);
}

#[test]
fn a_zombie_that_deletes_newer_generations() {
    caught(Flaw::DeletesNewer, 1, 2, Harm::Missing);
}

#[test]
fn a_probe_before_the_sinks() {
    caught(Flaw::ProbesBeforeSinks, 1, 0, Harm::Lost);
}

#[test]
fn a_sink_that_runs_ahead_of_a_checkpoint() {
    caught(Flaw::ProducesAhead, 3, 0, Harm::Beyond);
    caught(Flaw::ProducesAhead, 3, 1, Harm::Twice);
}

#[test]
fn a_first_start_that_reads_before_it_commits() {
    caught(Flaw::StartsUnrecorded, 2, 1, Harm::Lost);
}

#[test]
fn an_empty_folder_that_counts_as_a_first_start() {
    caught(Flaw::IgnoresLineage, 1, 1, Harm::Backwards);
    caught(Flaw::IgnoresLineage, 1, 1, Harm::Twice);
}

#[test]
fn a_manifest_that_is_asked_for_before_the_fence() {
    caught(Flaw::AsksForManifestEarly, 1, 1, Harm::Refused);
}

/// The search tells worlds apart by their bits alone.
#[test]
fn the_bits_of_a_world_say_all_of_it() {
    let protocol = Protocol {
        epochs: 3,
        faults: 3,
        flaw: None,
        is_pedantic: false,
    };
    let mut steps = Vec::new();
    for walk in 0..2_000_usize {
        let mut world = World::first();
        let mut draw = walk;
        for _ in 0..80 {
            protocol.steps(&world, &mut steps);
            if steps.is_empty() {
                break;
            }
            // The upper bits of a linear congruence are random enough to choose by.
            draw = draw
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let next = steps[(draw >> 33) % steps.len()];
            let mut again = World::unpack(next.world.pack());
            again.starts = next.world.starts;
            for (process, named) in again.processes.iter_mut().zip(&next.world.processes) {
                process.number = named.number;
            }
            assert_eq!(again, next.world, "{}", next.step.describe(&world));
            world = next.world;
        }
    }
}
