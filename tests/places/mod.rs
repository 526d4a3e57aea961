//! The places at which a process can be made to end: see `crash_point` in the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The variable that says where, and at which hit: `NAME:HIT`.
pub(crate) const CRASH_AT: &str = "ANABRANCH_CRASH_AT";

/// Names of all places in the sources, but for those in folders that `skipped` picks.
pub(crate) fn places(skipped: impl Fn(&Path) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder that was found") {
            let path = entry.expect("its name").path();
            if path.is_dir() {
                folders.extend((!skipped(&path)).then_some(path));
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let calls = text.split("crash_point(\"").skip(1);
            found.extend(calls.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    found
}
