//! What may happen next: the protocol as a process follows it, or with one flaw.

use super::checks::{difference, is_complete, unfounded};
use super::outside::{broker_steps, complete, fault_steps, starts, usual_folder};
use super::steps::{Deed, Flaw, Harm, Next, Step};
use super::world::{
    ANYBODY, Lineage, Manifest, NONE, Name, Phase, Process, SKIPPED, Stage, Transaction, WORKERS,
    World, index,
};

/// Tags beyond this one are taken, so a run that needs more incarnations is not followed further.
const INCARNATIONS: u8 = 6;
/// Copies of a commit request under way that are told apart.
const REQUESTS: u8 = 3;

#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// How many epochs the log has.
    pub epochs: u8,
    /// How many faults fate may choose.
    pub faults: u8,
    /// What is wrong with the protocol.
    pub flaw: Option<Flaw>,
    /// Whether worlds that differ only in what can have no effect are told apart.
    pub is_pedantic: bool,
}

impl Protocol {
    fn has(self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// All that may happen next.
    pub fn steps(self, world: &World, out: &mut Vec<Next>) {
        out.clear();
        broker_steps(self, world, out);
        for who in 0..world.alive() {
            self.process_steps(world, who, out);
        }
        if world.alive() == 0 {
            out.push(starts(Step::Start, *world, usual_folder(world)));
        }
        if world.faults < self.faults {
            fault_steps(world, out);
        }
        for next in out {
            self.settle(next);
        }
    }

    /// Which of the steps is taken when nothing more goes wrong and older processes sleep.
    pub fn undisturbed(world: &World, steps: &[Next]) -> Option<usize> {
        let newest = world.alive().saturating_sub(1);
        let rank = |next: &Next| match next.step {
            Step::Completes => Some(0),
            Step::Delivers { is_answered: true } => Some(1),
            Step::Start => Some(2),
            Step::Act(who, Deed::Resends) if who == newest => Some(4),
            Step::Act(who, _) if who == newest => Some(3),
            _ => None,
        };
        let ranked = |(nth, next)| Some((rank(next)?, nth));
        let first = steps.iter().enumerate().filter_map(ranked).min();
        first.map(|(_, nth)| nth)
    }

    /// Forgets what can have no effect, and holds the sound protocol to its inner invariant.
    fn settle(self, next: &mut Next) {
        if !self.is_pedantic {
            self.forget(&mut next.world);
        }
        if self.flaw.is_none() && next.harm.is_none() {
            next.harm = unfounded(&next.world);
        }
    }

    fn forget(self, world: &mut World) {
        for who in (0..world.alive()).rev() {
            if is_over(world, who) {
                world.remove(who);
            }
        }
        // A manifest that no record names, and none will, is never opened by who loads exactly the
        // one that is named.
        if !self.has(Flaw::RestoresNewest) {
            let before = *world;
            world.retain(|manifest| may_be_named(&before, manifest.name));
        }
    }

    fn process_steps(self, world: &World, who: usize, out: &mut Vec<Next>) {
        match world.processes[who].stage {
            Stage::Absent | Stage::Finished => {}
            Stage::Looking => out.push(self.look(*world, who)),
            Stage::Fencing => out.push(self.fence(*world, who)),
            Stage::Reading => out.push(self.read(*world, who)),
            Stage::Loading => self.load(world, who, out),
            _ => {
                for worker in 0..WORKERS {
                    self.apply(world, who, worker, out);
                    out.extend(freeze(*world, who, worker));
                    self.produce(world, who, worker, out);
                }
                self.commit_steps(world, who, out);
            }
        }
    }

    // ------------------------------------------------------------------------------- recovery

    /// Whose state is it? Nobody is fenced before that is known.
    fn look(self, mut world: World, who: usize) -> Next {
        let seen = world.visible;
        let process = &mut world.processes[who];
        let is_foreign = seen.is_some() && seen.folder != process.folder;
        if is_foreign && !self.has(Flaw::IgnoresLineage) {
            return end(world, who, Deed::Refuses, None);
        }
        if self.has(Flaw::ReadsProgressOnce) {
            remember(process, seen);
        }
        process.stage = Stage::Fencing;
        let asks = self.has(Flaw::AsksForManifestEarly) && seen.is_some();
        if asks && world.find(seen).is_none() {
            return end(world, who, Deed::Refuses, Some(Harm::Refused));
        }
        act(world, who, Deed::Looks)
    }

    /// `init_transactions`: aborts what is open, and returns when what is decided can be seen.
    fn fence(self, mut world: World, who: usize) -> Next {
        if self.has(Flaw::FencesNobody) {
            world.owner = ANYBODY;
        } else {
            complete(&mut world);
            world.transaction = Transaction::default();
            world.owner = number(who);
            world.requests = 0;
        }
        world.processes[who].stage = if self.has(Flaw::ReadsProgressOnce) {
            Stage::Loading
        } else {
            Stage::Reading
        };
        act(world, who, Deed::Fences)
    }

    fn read(self, mut world: World, who: usize) -> Next {
        let mut seen = world.visible;
        let process = &mut world.processes[who];
        if seen.is_some() && seen.folder != process.folder {
            if !self.has(Flaw::IgnoresLineage) {
                return end(world, who, Deed::Refuses, None);
            }
            seen = Name::default();
        }
        if self.has(Flaw::RestoresNewest) {
            let found = world.disk.iter().map(|manifest| manifest.name);
            let of_folder = found.filter(|name| name.is_some() && name.folder == process.folder);
            let newest = of_folder.max_by_key(|name| (name.checkpoint, name.generation));
            seen = newest.unwrap_or(seen);
        }
        remember(process, seen);
        process.stage = Stage::Loading;
        act(world, who, Deed::Reads)
    }

    fn load(self, world: &World, who: usize, out: &mut Vec<Next>) {
        let process = world.processes[who];
        let named = process.named();
        if !named.is_some() {
            // Where the log ends depends on when one asks: `--start latest`.
            for start in 0..=1 {
                out.extend(self.start_fresh(*world, who, start));
            }
            return;
        }
        let Some(manifest) = world.find(named).copied() else {
            // Who was fenced meanwhile may find it deleted by the successor.
            let harm = world.is_owner(who).then_some(Harm::Missing);
            out.push(end(*world, who, Deed::Refuses, harm));
            return;
        };
        let is_last = named.checkpoint == self.epochs;
        let is_incomplete = is_last && !is_complete(world, self.epochs);
        let incomplete = is_incomplete.then_some(Harm::Incomplete);
        let harm = incomplete.or_else(|| difference(world, &manifest));
        let Some(mut next) = self.open_generation(*world, who) else {
            return;
        };
        let process = &mut next.processes[who];
        process.lineage = manifest.parts;
        process.produced = [named.checkpoint; WORKERS];
        process.committed = named.checkpoint;
        if is_last {
            process.stage = Stage::Finished;
        }
        out.push(Next {
            harm,
            ..act(next, who, Deed::Loads)
        });
    }

    /// The first start: resolves the offsets, and commits them as a checkpoint before it reads.
    fn start_fresh(self, world: World, who: usize, start: u8) -> Option<Next> {
        let mut world = self.open_generation(world, who)?;
        let process = &mut world.processes[who];
        for worker in 0..WORKERS {
            process.lineage[worker] = Lineage::default();
            process.lineage[worker][..usize::from(start)].fill(SKIPPED);
            process.produced[worker] = start;
        }
        process.committed = NONE;
        if !self.has(Flaw::StartsUnrecorded) {
            process.declared = start;
            process.frozen = [start; WORKERS];
        }
        Some(act(world, who, Deed::StartsAt(start)))
    }

    fn open_generation(self, mut world: World, who: usize) -> Option<World> {
        if world.incarnations == INCARNATIONS {
            assert!(
                self.flaw.is_some(),
                "the sound protocol is looked at as a whole"
            );
            return None;
        }
        world.incarnations += 1;
        let process = &mut world.processes[who];
        process.incarnation = world.incarnations;
        process.generation = if self.has(Flaw::ReusesGeneration) {
            process.generation + 1
        } else {
            world.incarnations
        };
        process.stage = Stage::Running;
        Some(world)
    }

    // -------------------------------------------------------------------------------- workers

    /// A worker applies its next epoch. Whether that is a checkpoint is known by then: it stands
    /// in the marks of the epoch, which is told here by who comes first.
    fn apply(self, world: &World, who: usize, worker: usize, out: &mut Vec<Next>) {
        let process = &world.processes[who];
        let applied = process.applied(worker);
        let epoch = applied + 1;
        let has_started = process.committed != NONE || self.has(Flaw::StartsUnrecorded);
        let must_freeze = process.declared <= applied && process.frozen[worker] == NONE;
        if epoch > self.epochs || !has_started || (must_freeze && !self.has(Flaw::FreezesLate)) {
            return;
        }
        let is_first = (0..WORKERS).all(|other| process.applied(other) < epoch);
        let mut next = *world;
        let process = &mut next.processes[who];
        process.lineage[worker][index(epoch)] = process.incarnation;
        if next.start == NONE {
            let skipped = process.lineage[worker]
                .iter()
                .filter(|tag| **tag == SKIPPED);
            next.start = skipped.map(|_| 1).sum();
        }
        if !is_first || epoch < self.epochs {
            out.push(act(next, who, Deed::Applies(worker, epoch)));
        }
        // One at a time is declared; the last epoch always is.
        if is_first && world.processes[who].declared == NONE {
            next.processes[who].declared = epoch;
            out.push(act(next, who, Deed::Declares(worker, epoch)));
        }
    }

    fn produce(self, world: &World, who: usize, worker: usize, out: &mut Vec<Next>) {
        let process = &world.processes[who];
        let epoch = process.produced[worker] + 1;
        let may = epoch <= process.declared || self.has(Flaw::ProducesAhead);
        let is_committing = matches!(process.stage, Stage::Committing | Stage::Renewing);
        if epoch > process.applied(worker) || !may || is_committing {
            return;
        }
        if !world.is_owner(who) {
            out.push(end(*world, who, Deed::IsFenced, None));
            return;
        }
        let mut next = *world;
        let transaction = &mut next.transaction;
        let has_begun = process.committed != NONE && epoch - 1 > process.committed;
        match transaction.phase {
            // The client tries again.
            Phase::Deciding => return,
            // A late copy of an earlier request has ended it.
            Phase::Empty if has_begun => {
                out.push(end(*world, who, Deed::Fails, None));
                return;
            }
            Phase::Empty | Phase::Ongoing => {
                transaction.phase = Phase::Ongoing;
                transaction.incarnation = process.incarnation;
                transaction.results |= Transaction::bit(epoch, worker);
            }
        }
        next.processes[who].produced[worker] = epoch;
        out.push(act(next, who, Deed::Produces(worker, epoch)));
    }

    // --------------------------------------------------------------------------------- commit

    fn commit_steps(self, world: &World, who: usize, out: &mut Vec<Next>) {
        match world.processes[who].stage {
            Stage::Running => out.extend(self.write(*world, who)),
            Stage::Written => out.push(self.sync(*world, who)),
            Stage::Prepared => out.extend(self.record(*world, who)),
            Stage::Recorded => out.push(send(*world, who)),
            Stage::Committing => out.extend(self.wait(*world, who)),
            Stage::Renewing => out.push(self.renew(*world, who)),
            Stage::Publishing => out.push(publish(*world, who)),
            Stage::Deleting => out.push(self.delete(*world, who)),
            _ => {}
        }
    }

    /// When the probe, which stands behind the sinks, has passed the checkpoint, and both parts are
    /// durable.
    fn write(self, mut world: World, who: usize) -> Option<Next> {
        let process = &mut world.processes[who];
        let checkpoint = process.declared;
        let has_passed = |worker: usize| process.produced[worker] >= checkpoint;
        let is_ready = |worker: usize| {
            let is_through = has_passed(worker) || self.has(Flaw::ProbesBeforeSinks);
            process.frozen[worker] != NONE && is_through
        };
        if checkpoint == NONE || !(0..WORKERS).all(is_ready) {
            return None;
        }
        let mut parts = process.lineage;
        for (part, cut) in parts.iter_mut().zip(process.frozen) {
            part[usize::from(cut)..].fill(0);
        }
        process.stage = Stage::Written;
        let name = process.manifest(checkpoint);
        world.write(Manifest {
            name,
            is_synced: false,
            parts,
        });
        Some(act(world, who, Deed::Writes(checkpoint)))
    }

    fn sync(self, mut world: World, who: usize) -> Next {
        let process = &mut world.processes[who];
        process.stage = Stage::Prepared;
        let own = process.manifest(process.declared);
        if self.has(Flaw::CommitsBeforeDurable) {
            return act(world, who, Deed::PutsOffSync);
        }
        mark_synced(&mut world, own);
        if self.has(Flaw::DeletesEarly) {
            world.retain(|manifest| {
                manifest.name.generation > own.generation || manifest.name == own
            });
        }
        act(world, who, Deed::Syncs)
    }

    /// The progress record, into the transaction.
    fn record(self, mut world: World, who: usize) -> Option<Next> {
        let process = world.processes[who];
        if !world.is_owner(who) {
            return Some(end(world, who, Deed::IsFenced, None));
        }
        let record = process.manifest(process.declared);
        if self.has(Flaw::RecordsBefore) {
            world.decided = record;
            world.visible = record;
        } else if !self.has(Flaw::RecordsAfter) {
            if world.transaction.phase == Phase::Deciding {
                return None;
            }
            world.transaction.phase = Phase::Ongoing;
            world.transaction.incarnation = process.incarnation;
            world.transaction.record = record;
        }
        world.processes[who].stage = Stage::Recorded;
        Some(act(world, who, Deed::Records(record.checkpoint)))
    }

    /// The client sends again, silently, after a time-out or on a new connection.
    fn wait(self, mut world: World, who: usize) -> Option<Next> {
        if !world.is_owner(who) {
            return Some(end(world, who, Deed::IsFenced, None));
        }
        let process = &mut world.processes[who];
        let has_copy = process.is_doubtful && world.requests > 0;
        if has_copy || self.has(Flaw::NeverResends) {
            return None;
        }
        process.is_doubtful = true;
        world.requests = (world.requests + 1).min(REQUESTS);
        Some(act(world, who, Deed::Resends))
    }

    /// A success was told to the process that waits for it.
    pub fn succeed(self, world: &mut World, who: usize) {
        let process = &mut world.processes[who];
        process.committed = process.declared;
        process.declared = NONE;
        process.frozen = [NONE; WORKERS];
        process.stage = if process.is_doubtful && !self.has(Flaw::ReusesProducer) {
            Stage::Renewing
        } else {
            self.after_commit()
        };
        process.is_doubtful = false;
    }

    fn after_commit(self) -> Stage {
        if self.has(Flaw::RecordsAfter) {
            Stage::Publishing
        } else {
            Stage::Deleting
        }
    }

    /// A new producer: the broker refuses all copies that are still under way.
    fn renew(self, mut world: World, who: usize) -> Next {
        if !world.is_owner(who) {
            return end(world, who, Deed::IsFenced, None);
        }
        complete(&mut world);
        world.requests = 0;
        world.processes[who].stage = self.after_commit();
        act(world, who, Deed::Renews)
    }

    fn delete(self, mut world: World, who: usize) -> Next {
        let process = &mut world.processes[who];
        let own = process.manifest(process.committed);
        let is_last = process.committed == self.epochs;
        process.stage = if is_last {
            Stage::Finished
        } else {
            Stage::Running
        };
        if self.has(Flaw::CommitsBeforeDurable) {
            mark_synced(&mut world, own);
        }
        let newer = |name: Name| name.generation > own.generation && !self.has(Flaw::DeletesNewer);
        world.retain(|manifest| {
            let name = manifest.name;
            name.folder != own.folder || name == own || newer(name)
        });
        let is_incomplete = is_last && !is_complete(&world, self.epochs);
        Next {
            harm: is_incomplete.then_some(Harm::Incomplete),
            ..act(world, who, Deed::Deletes)
        }
    }
}

// ----------------------------------------------------------------- the same with every flaw

fn act(world: World, who: usize, deed: Deed) -> Next {
    Next {
        step: Step::Act(who, deed),
        world,
        harm: None,
    }
}

fn end(mut world: World, who: usize, deed: Deed, harm: Option<Harm>) -> Next {
    world.remove(who);
    Next {
        harm,
        ..act(world, who, deed)
    }
}

fn number(who: usize) -> u8 {
    u8::try_from(who + 1).expect("two processes at most")
}

fn remember(process: &mut Process, seen: Name) {
    process.generation = seen.generation;
    process.committed = if seen.is_some() {
        seen.checkpoint
    } else {
        NONE
    };
}

/// A worker's part of the declared checkpoint: cut behind what it has applied, and durable.
fn freeze(mut world: World, who: usize, worker: usize) -> Option<Next> {
    let process = &mut world.processes[who];
    let applied = process.applied(worker);
    if process.declared > applied || process.frozen[worker] != NONE {
        return None;
    }
    process.frozen[worker] = applied;
    Some(act(world, who, Deed::Freezes(worker, applied)))
}

fn mark_synced(world: &mut World, name: Name) {
    for manifest in &mut world.disk {
        manifest.is_synced |= name == manifest.name;
    }
}

fn send(mut world: World, who: usize) -> Next {
    if !world.is_owner(who) {
        return end(world, who, Deed::IsFenced, None);
    }
    world.requests = (world.requests + 1).min(REQUESTS);
    world.processes[who].stage = Stage::Committing;
    act(world, who, Deed::Sends)
}

fn publish(mut world: World, who: usize) -> Next {
    let process = &mut world.processes[who];
    process.stage = Stage::Deleting;
    let record = process.manifest(process.committed);
    world.decided = record;
    world.visible = record;
    act(world, who, Deed::Publishes)
}

/// Whether a process was fenced and will end without any effect. What it applies until then, nobody
/// sees; but it may still write a manifest, and delete.
fn is_over(world: &World, who: usize) -> bool {
    let process = &world.processes[who];
    let produced = |worker: usize| process.produced[worker] >= process.declared;
    let may_act = match process.stage {
        Stage::Running => (0..WORKERS).all(produced),
        stage => {
            stage < Stage::Reading
                || matches!(stage, Stage::Written | Stage::Publishing | Stage::Deleting)
        }
    };
    !may_act && !world.is_owner(who)
}

fn may_be_named(world: &World, name: Name) -> bool {
    let records = [world.decided, world.visible, world.transaction.record];
    records.contains(&name)
        || world
            .processes
            .iter()
            .any(|process| name == process.named() || name == process.manifest(process.declared))
}
