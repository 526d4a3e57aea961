//! What happens outside of the processes: the broker, the supervisor, and fate.

use super::checks::wrong_output;
use super::protocol::Protocol;
use super::steps::{Harm, Next, Step};
use super::world::{Manifest, Phase, Process, Stage, Transaction, WORKERS, World};

/// What the broker does when nothing goes wrong, or only an answer is lost.
pub fn broker_steps(protocol: Protocol, world: &World, out: &mut Vec<Next>) {
    if world.transaction.phase == Phase::Deciding {
        let mut next = *world;
        complete(&mut next);
        out.push(happens(Step::Completes, next));
    }
    if world.requests == 0 {
        return;
    }
    let mut next = *world;
    next.requests -= 1;
    let is_ongoing = next.transaction.phase == Phase::Ongoing;
    let harm = is_ongoing.then(|| decide(&mut next)).flatten();
    let mut push = |world, is_answered| {
        out.push(Next {
            step: Step::Delivers { is_answered },
            world,
            harm,
        });
    };
    let waits = |who: &usize| next.processes[*who].stage == Stage::Committing;
    let owner = (0..world.alive())
        .filter(|who| world.is_owner(*who))
        .find(waits);
    if let Some(owner) = owner {
        let mut told = next;
        protocol.succeed(&mut told, owner);
        push(told, true);
    }
    push(next, false);
}

/// What is decided can be seen.
pub fn complete(world: &mut World) {
    if world.transaction.phase == Phase::Deciding {
        world.visible = world.decided;
        world.transaction = Transaction::default();
    }
}

/// The commit: there is no way back from here.
fn decide(world: &mut World) -> Option<Harm> {
    let transaction = world.transaction;
    world.transaction = Transaction {
        phase: Phase::Deciding,
        ..Transaction::default()
    };
    let mut harm = None;
    for worker in 0..WORKERS {
        for (result, epoch) in world.results[worker].iter_mut().zip(1..) {
            if transaction.results & Transaction::bit(epoch, worker) == 0 {
                continue;
            }
            if *result != 0 {
                harm = Some(Harm::Twice);
            }
            *result = transaction.incarnation;
        }
    }
    if transaction.record.is_some() {
        let before = world.decided;
        if before.is_some() && before.checkpoint >= transaction.record.checkpoint {
            harm = harm.or(Some(Harm::Backwards));
        }
        world.decided = transaction.record;
    }
    harm.or_else(|| wrong_output(world))
}

/// The state folder with which the supervisor starts the job.
pub fn usual_folder(world: &World) -> u8 {
    world.decided.folder
}

pub fn starts(step: Step, mut world: World, folder: u8) -> Next {
    world.add(Process::new(folder));
    happens(step, world)
}

fn happens(step: Step, world: World) -> Next {
    Next {
        step,
        world,
        harm: None,
    }
}

/// What goes wrong, once each time.
pub fn fault_steps(world: &World, out: &mut Vec<Next>) {
    let mut before = *world;
    before.faults += 1;
    if world.transaction.phase == Phase::Ongoing {
        let mut next = before;
        next.transaction = Transaction::default();
        next.owner = 0;
        next.requests = 0;
        out.push(happens(Step::TimesOut, next));
    }
    if let Some(newest) = world.alive().checked_sub(1) {
        deaths(&before, newest, out);
    }
    let elsewhere = 1 - usual_folder(world);
    out.push(starts(Step::StartElsewhere, before, elsewhere));
}

/// The newest process ends, or sleeps while another is started; an older one that ends is one that
/// does not wake up.
fn deaths(before: &World, newest: usize, out: &mut Vec<Next>) {
    out.push(starts(Step::TakeOver, *before, usual_folder(before)));
    let mut next = *before;
    next.remove(newest);
    out.push(happens(Step::Kill(newest), next));
    for lost in 1..1_u8 << before.disk.len() {
        let is_lost = |place: usize| lost & (1 << place) != 0;
        let may_be_lost = |place: usize| {
            let manifest = &before.disk[place];
            manifest.name.is_some() && !manifest.is_synced
        };
        let mut places = (0..before.disk.len()).filter(|place| is_lost(*place));
        if places.all(may_be_lost) {
            out.push(happens(Step::PowerLoss, without_power(*before, is_lost)));
        }
    }
}

fn without_power(mut world: World, is_lost: impl Fn(usize) -> bool) -> World {
    for place in (0..world.disk.len()).filter(|place| is_lost(*place)) {
        world.disk[place] = Manifest::default();
    }
    world.retain(|_| true);
    while world.alive() > 0 {
        world.remove(0);
    }
    world
}
