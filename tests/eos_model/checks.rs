//! What is held against every world: the output against the progress record, and the state that is
//! loaded against the output.

use super::steps::Harm;
use super::world::{Lineage, Manifest, SKIPPED, WORKERS, World, length};

/// What a reader of committed results may find wrong with them.
pub fn wrong_output(world: &World) -> Option<Harm> {
    let record = world.decided;
    let mut harm = None;
    for (epoch, results) in (1..).zip(world.results[0].into_iter().zip(world.results[1])) {
        let is_recorded = record.is_some() && epoch <= record.checkpoint;
        let some = [results.0, results.1]
            .iter()
            .filter(|tag| **tag != 0)
            .count();
        let found = match some {
            _ if some < WORKERS && is_recorded && epoch > world.start => Harm::Lost,
            WORKERS if results.0 != results.1 => Harm::Torn,
            1.. if !is_recorded => Harm::Beyond,
            _ => continue,
        };
        harm = harm.or(Some(found));
    }
    harm
}

/// Whether every result from the start to the last epoch is committed.
pub fn is_complete(world: &World, epochs: u8) -> bool {
    let expected = usize::from(world.start.min(epochs))..usize::from(epochs);
    let all = |results: &Lineage| results[expected.clone()].iter().all(|tag| *tag != 0);
    world.results.iter().all(all)
}

/// How a manifest differs from the results that were committed with it.
pub fn difference(world: &World, manifest: &Manifest) -> Option<Harm> {
    let checkpoint = manifest.name.checkpoint;
    for (part, results) in manifest.parts.iter().zip(&world.results) {
        if length(*part) != checkpoint {
            return Some(Harm::NoCut);
        }
        let pairs = part.iter().zip(results).take(usize::from(checkpoint));
        let is_same =
            |(tag, result): (&u8, &u8)| tag == result || (*tag == SKIPPED && *result == 0);
        if !pairs.into_iter().all(is_same) {
            return Some(Harm::Diverges);
        }
    }
    None
}

/// The inner invariant: committed progress names one manifest, which is durable and agrees with
/// the output.
pub fn unfounded(world: &World) -> Option<Harm> {
    if !world.decided.is_some() {
        return None;
    }
    match world.find(world.decided) {
        Some(manifest) if manifest.is_synced => difference(world, manifest),
        _ => Some(Harm::Missing),
    }
}
