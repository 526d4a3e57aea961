//! What is called how in a state directory.

use crate::state::durable;

pub(super) fn folder_of(generation: u64) -> String {
    format!("gen={generation:08}")
}

pub(super) fn manifest_name(generation: u64, checkpoint: u64) -> String {
    format!("{}/checkpoint-{checkpoint:010}.json", folder_of(generation))
}

pub(super) fn log_name(generation: u64, worker: usize, checkpoint: u64) -> String {
    let folder = folder_of(generation);
    format!("{folder}/worker={worker:03}.{checkpoint:010}.log")
}

/// The generation of a folder with this name.
pub(super) fn generation_of(folder: &str) -> Option<u64> {
    let number = folder.strip_prefix("gen=")?.parse().ok()?;
    (folder_of(number) == folder).then_some(number)
}

/// Generation and checkpoint of the manifest with this name below the state directory; `None`: it
/// is the name of no manifest.
pub(super) fn place_of(name: &str) -> Option<(u64, u64)> {
    let (folder, file) = name.split_once('/')?;
    let generation = generation_of(folder)?;
    let number = file.strip_prefix("checkpoint-")?.strip_suffix(".json")?;
    let number = number.parse().ok()?;
    (manifest_name(generation, number) == name).then_some((generation, number))
}

/// Whether this is the name of a log below the state directory.
pub(super) fn is_log(name: &str) -> bool {
    let file = name.split_once('/').map_or("", |(_, file)| file);
    file.starts_with("worker=") && file.strip_suffix(".log").is_some()
}

/// Whether a store has given a file this name.
pub(super) fn is_ours(name: &str) -> bool {
    let Some((folder, file)) = name.split_once('/') else {
        return false;
    };
    let file = durable::is_to_become(file).unwrap_or(file);
    let name = format!("{folder}/{file}");
    place_of(&name).is_some() || is_log(&name)
}
