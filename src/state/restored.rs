//! The state of a checkpoint in memory, until every operator has taken its own.

use std::collections::BTreeMap;
use std::ops::Range;

use super::saved::{Entries, Holds, Parcel};
use crate::error::Result;
use crate::time::Progress;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    logs: Vec<Vec<u8>>,
    /// Where the parcels of each operator lie: the log, and the bytes in it; in order for each log.
    operators: BTreeMap<String, Vec<(usize, Range<usize>)>>,
    progress: BTreeMap<String, Progress>,
}

impl Restored {
    /// Adds a log, whose parcels lie at `parcels`.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn add(&mut self, log: Vec<u8>, parcels: Vec<Range<usize>>) -> Result {
        let nth = self.logs.len();
        for range in parcels {
            let parcel = Parcel::read(&log[range.clone()])?;
            if let Holds::End(progress) = parcel.holds {
                // All workers had the same; the last one counts.
                self.progress.insert(parcel.operator.to_owned(), progress);
                continue;
            }
            if let Some(places) = self.operators.get_mut(parcel.operator) {
                places.push((nth, range));
                continue;
            }
            let places = vec![(nth, range)];
            self.operators.insert(parcel.operator.to_owned(), places);
        }
        self.logs.push(log);
        Ok(())
    }

    /// `operator` starts empty.
    pub(crate) fn forget(&mut self, operator: &str) {
        self.operators.remove(operator);
        self.progress.remove(operator);
    }

    /// What was known where `operator` had stopped; `None`: it was not there.
    pub(crate) fn progress(&self, operator: &str) -> Option<Progress> {
        self.progress.get(operator).copied()
    }

    /// Hands each entry of `operator` in a slot that `owns` to `each`, with its piece and group.
    ///
    /// # Errors
    /// What `each` says.
    pub(crate) fn entries(
        &self,
        operator: &str,
        owns: impl Fn(usize) -> bool,
        mut each: impl FnMut(u8, i64, &[u8]) -> Result,
    ) -> Result {
        for (log, range) in self.operators.get(operator).into_iter().flatten() {
            let parcel = Parcel::read(&self.logs[*log][range.clone()])?;
            let Holds::Entries(entries) = parcel.holds else {
                continue;
            };
            let entries: Entries<'_> = entries;
            for entry in entries {
                let (slot, bytes) = entry?;
                if owns(slot) {
                    each(parcel.piece, parcel.group, bytes)?;
                }
            }
        }
        Ok(())
    }
}
