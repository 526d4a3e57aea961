//! Breadth-first search over all that can happen: every world once, and the shortest way to harm.

use std::fmt;
use std::iter::successors;

use super::protocol::Protocol;
use super::steps::{Harm, Next, Step};
use super::world::{Packed, World};

/// What a search has seen.
#[derive(Debug)]
pub struct Outcome {
    pub states: usize,
    /// The most steps that a state is away from the first.
    pub depth: usize,
    /// One step of each kind that was taken.
    pub kinds: Vec<Step>,
    pub harm: Option<Path>,
}

/// The shortest way to some harm.
#[derive(Debug)]
pub struct Path {
    pub harm: Harm,
    /// Each step with the world to which it leads.
    pub steps: Vec<(Step, World)>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} after {} steps:", self.harm, self.steps.len())?;
        let mut before = World::first();
        for (nth, (step, world)) in (1..).zip(&self.steps) {
            writeln!(f, "{nth:3}  {:56} {world}", step.describe(&before))?;
            before = *world;
        }
        Ok(())
    }
}

/// Looks at every world that can be reached, until a harm that is wanted is found.
pub fn search(protocol: Protocol, wanted: impl Fn(Harm) -> bool) -> Outcome {
    let mut seen = Seen::new();
    seen.insert(&World::first(), 0);
    let mut steps = Vec::new();
    // Where each world goes when nothing more goes wrong.
    let mut onward = Vec::new();
    let mut kinds: Vec<Step> = Vec::new();
    let (mut depth, mut deeper) = (0, 1);
    while onward.len() < seen.worlds.len() {
        let at = onward.len();
        if at == deeper {
            depth += 1;
            deeper = seen.worlds.len();
        }
        let world = seen.world(at);
        protocol.steps(&world, &mut steps);
        let undisturbed = Protocol::undisturbed(&world, &steps);
        onward.push(NOWHERE);
        for (nth, next) in steps.iter().enumerate() {
            if let Some(harm) = next.harm.filter(|harm| wanted(*harm)) {
                let path = seen.path(protocol, at, harm, Some(next));
                return seen.outcome(depth, kinds, Some(path));
            }
            if !kinds.iter().any(|kind| kind.is_like(&next.step)) {
                kinds.push(next.step);
            }
            let found = seen.insert(&next.world, at);
            if undisturbed == Some(nth) {
                onward[at] = found;
            }
        }
    }
    let stuck = wanted(Harm::Stuck).then(|| stuck(&seen, &onward)).flatten();
    let harm = stuck.map(|at| seen.path(protocol, at, Harm::Stuck, None));
    seen.outcome(depth, kinds, harm)
}

const NOWHERE: u32 = u32::MAX;

/// A world from which the job does not come to its end though nothing more goes wrong.
fn stuck(seen: &Seen, onward: &[u32]) -> Option<usize> {
    let mut known: Vec<_> = vec![Way::Unknown; onward.len()];
    let mut followed = Vec::new();
    for first in 0..onward.len() {
        let mut at = first;
        while known[at] != Way::Ends {
            if known[at] == Way::Followed {
                return Some(first);
            }
            known[at] = Way::Followed;
            followed.push(at);
            if seen.world(at).is_finished() {
                break;
            }
            if onward[at] == NOWHERE {
                return Some(first);
            }
            at = onward[at] as usize;
        }
        for at in followed.drain(..) {
            known[at] = Way::Ends;
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Unknown,
    Followed,
    Ends,
}

/// Two worlds that differ only in which worker is which are one.
fn pack(world: &World) -> Packed {
    world.with_workers_in_order().pack()
}

/// Every world so far in the order in which it was found, and where it was found from. `places` is
/// an open hash table: in the lower half of each place the number of a world, counted from 1, in
/// the upper half that of its hash, so that another world is seldom looked at.
struct Seen {
    worlds: Vec<Packed>,
    parents: Vec<u32>,
    places: Vec<u64>,
}

impl Seen {
    fn new() -> Self {
        Self {
            worlds: Vec::new(),
            parents: Vec::new(),
            places: vec![0; 1 << 16],
        }
    }

    fn world(&self, at: usize) -> World {
        World::unpack(self.worlds[at])
    }

    /// Its place among the worlds; it is added if it is new.
    fn insert(&mut self, world: &World, parent: usize) -> u32 {
        let world = pack(world);
        let hash = hash(&world);
        let place = self.place(hash, |at| self.worlds[at] == world);
        if self.places[place] != 0 {
            return to_u32(number(self.places[place]) - 1);
        }
        self.worlds.push(world);
        self.parents.push(to_u32(parent));
        self.places[place] = hash & UPPER | self.worlds.len() as u64;
        if self.worlds.len() * 2 > self.places.len() {
            self.grow();
        }
        to_u32(self.worlds.len() - 1)
    }

    fn grow(&mut self) {
        let larger = vec![0; self.places.len() * 2];
        self.places = larger;
        for (world, number) in self.worlds.iter().zip(1..) {
            let hash = hash(world);
            let place = self.place(hash, |_| false);
            self.places[place] = hash & UPPER | number;
        }
    }

    /// Where the world with this hash stands, or would.
    fn place(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> usize {
        let mask = self.places.len() - 1;
        let mut place = number(hash) & mask;
        loop {
            let found = self.places[place];
            let is_like = found & UPPER == hash & UPPER;
            if found == 0 || (is_like && is_it(number(found) - 1)) {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    /// The steps that led to a world, and one more if that does the harm. Worlds are kept with
    /// their workers exchanged or not, so the way is gone once more to name them as they were.
    fn path(&self, protocol: Protocol, at: usize, harm: Harm, last: Option<&Next>) -> Path {
        let parent = |at: &usize| Some(self.parents[*at] as usize);
        let back = successors(Some(at), parent).take_while(|at| *at != 0);
        let mut worlds: Vec<_> = back.map(|at| (self.worlds[at], None)).collect();
        worlds.reverse();
        worlds.extend(last.map(|next| (pack(&next.world), Some(harm))));
        let mut world = World::first();
        let mut options = Vec::new();
        let mut steps = Vec::new();
        for (wanted, harm) in worlds {
            protocol.steps(&world, &mut options);
            let leads_there =
                |next: &&Next| pack(&next.world) == wanted && (harm.is_none() || next.harm == harm);
            let next = options.iter().find(leads_there);
            let next = next.expect("a parent leads to its child");
            steps.push((next.step, next.world));
            world = next.world;
        }
        Path { harm, steps }
    }

    fn outcome(&self, depth: usize, kinds: Vec<Step>, harm: Option<Path>) -> Outcome {
        Outcome {
            states: self.worlds.len(),
            depth,
            kinds,
            harm,
        }
    }
}

const UPPER: u64 = 0xFFFF_FFFF << 32;

fn number(place: u64) -> usize {
    usize::try_from(place & !UPPER).expect("32 bits")
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).expect("memory ends before")
}

fn hash(world: &Packed) -> u64 {
    let mix = |hash: u64, word: &u64| {
        let mixed = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 29
    };
    world.iter().fold(0, mix)
}
