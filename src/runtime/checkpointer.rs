//! The thread that makes checkpoints: it says when one is due, gathers what the workers hand over,
//! makes it durable, and commits it. Nothing of that happens on a worker's thread.
//!
//! ```text
//! STEP 1  due       a door declares the next epoch that it ends
//! STEP 2  gathered  every operator, door and source has told its part, and the probe behind all
//!                   sinks has passed the epoch; sinks that a crash could take results from are
//!                   waited for, and files of results are cut there
//! STEP 3  prepared  logs synced, manifest durable
//! STEP 4  committed progress and results become visible together, files get their names; sinks go
//!                   on
//! ```

mod gathered;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tracing::debug;

use crate::connectors::{Commit, Source, TopicEnds};
use crate::error::Result;
use crate::observe::{CheckpointBoard, Metrics, crash_point, now, since, time_of_day};
use crate::state::manifest::Manifest;
use crate::state::store::Store;
use crate::state::{Checkpoints, Note};
use crate::stream::Control;
use crate::time::{Epoch, EventTime};

use super::growth::Growth;
use super::progress_record::ProgressRecord;
use super::results::Results;
use super::worker::panicked;
use gathered::Gathered;

/// With nothing to do it looks around this often.
const LOOK: Duration = Duration::from_millis(100);
/// As long as there was no result, it looks this often whether there is one.
const SOON: Duration = Duration::from_millis(10);
/// An idle job looks this often whether it is still its own.
const OWN: Duration = Duration::from_secs(1);

/// How many parts a checkpoint has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    pub(super) workers: usize,
    pub(super) sources: usize,
}

/// See the module.
pub(super) struct Checkpointer {
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) notes: Receiver<Note>,
    pub(super) control: Arc<Control>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Arc<CheckpointBoard>,
    pub(super) store: Store,
    pub(super) commit: Option<Arc<dyn Commit>>,
    pub(super) sources: Vec<Arc<dyn Source>>,
    /// Files that become visible with checkpoints, and sinks that are waited for.
    pub(super) results: Results,
    pub(super) interval: Duration,
    /// Whether a run that has read everything is never to be continued.
    pub(super) finishes: bool,
    /// Whether a run that is stopped has not come to its end.
    pub(super) bounded: bool,
    pub(super) parts: Parts,
    /// The last checkpoint that was committed.
    pub(super) manifest: Manifest,
    /// Where the results end that belong to it.
    pub(super) written: Vec<TopicEnds>,
    pub(super) state: State,
}

/// Where it stands.
#[derive(Debug)]
pub(super) struct State {
    built: usize,
    operators: usize,
    doors: usize,
    gathered: Gathered,
    complete: Option<Epoch>,
    /// When the last checkpoint was asked for, and how many epochs had something in them then.
    asked: Instant,
    cuts: u64,
    /// There were results once.
    shown: bool,
    /// When it last looked whether the job is still its own.
    looked: Instant,
    /// The one that is asked for is the last.
    last: bool,
    growth: Growth,
    /// How long it took to make the last one durable.
    prepared: Duration,
    /// The last that this run has committed, if another place than the manifest says so.
    committed: Option<u64>,
}

impl State {
    pub(super) fn new(growth: Growth) -> Self {
        Self {
            growth,
            built: 0,
            operators: 0,
            doors: 0,
            gathered: Gathered::default(),
            complete: Some(Epoch::FIRST),
            asked: now(),
            cuts: 0,
            shown: false,
            looked: now(),
            last: false,
            prepared: Duration::ZERO,
            committed: None,
        }
    }
}

impl Checkpointer {
    /// Works until the run is over, or fails or panics and ends it.
    pub(super) fn run(mut self) -> Self {
        let worked = catch_unwind(AssertUnwindSafe(|| self.work()));
        let worked =
            worked.unwrap_or_else(|panic| Err(panicked("the thread of checkpoints", &*panic)));
        if let Err(error) = worked {
            self.control.fail(self.store.why(error));
        }
        self
    }

    fn work(&mut self) -> Result {
        while self.goes_on() {
            let note = match self.notes.recv_timeout(self.pause()) {
                Ok(note) => Some(note),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            self.turn(note)?;
        }
        Ok(())
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.checkpoints.is_released() && !self.control.is_faulty()
    }

    /// Takes `note`, if there is one, and does what is due.
    pub(super) fn turn(&mut self, note: Option<Note>) -> Result {
        if let Some(note) = note {
            self.take(note)?;
        }
        if self.is_gathered() {
            self.finish()?;
        }
        if since(self.state.looked) > OWN {
            self.state.looked = now();
            self.store.check_newest()?;
        }
        self.ask()
    }

    fn pause(&self) -> Duration {
        let due = self.state.asked + self.interval;
        due.saturating_duration_since(now()).clamp(
            Duration::from_millis(1),
            if self.state.shown { LOOK } else { SOON },
        )
    }

    fn take(&mut self, note: Note) -> Result {
        let state = &mut self.state;
        match note {
            Note::Built { operators, doors } => {
                state.built += 1;
                (state.operators, state.doors) = (state.operators + operators, state.doors + doors);
                if state.built == self.parts.workers {
                    self.checkpoints.built(state.doors);
                    self.checkpoints.forget_restored();
                }
            }
            Note::Declared { epoch, full } => {
                if full {
                    self.store.begin_full();
                }
                (state.gathered.epoch, state.gathered.full) = (Some(epoch), full);
            }
            Note::Parcel { worker, bytes } => {
                let checkpoint = self.manifest.checkpoint + 1;
                if !state.gathered.full {
                    state.gathered.changed += bytes.len() as u64;
                }
                self.store.append(worker, checkpoint, &bytes)?;
                self.checkpoints.written(bytes.len());
            }
            Note::Saved {
                began,
                changed,
                live,
            } => {
                state.gathered.saved.push((began, now()));
                state.gathered.changed += changed;
                state.gathered.live += live;
            }
            Note::Door {
                source,
                facts,
                left,
            } => {
                state.gathered.doors += 1;
                state.gathered.left.entry(source).or_default().extend(left);
                state
                    .gathered
                    .facts
                    .entry(source)
                    .or_default()
                    .extend(facts);
            }
            Note::Watermark { source, progress } => {
                state.gathered.progress.insert(source, progress);
            }
            Note::Complete(complete) => state.complete = complete,
            Note::Look => {}
        }
        Ok(())
    }

    fn is_gathered(&self) -> bool {
        let State {
            built,
            operators,
            doors,
            gathered,
            complete,
            ..
        } = &self.state;
        let passed = |epoch: Epoch| complete.is_none_or(|first| first > epoch);
        gathered.epoch.is_some_and(passed)
            && *built == self.parts.workers
            && gathered.saved.len() == *operators
            && gathered.doors == *doors
            && gathered.progress.len() == self.parts.sources
    }

    /// Asks for a checkpoint, if one is due.
    fn ask(&mut self) -> Result {
        let state = &mut self.state;
        let ready = state.built == self.parts.workers && self.checkpoints.is_settled();
        if !ready || state.gathered.epoch.is_some() {
            return Ok(());
        }
        let ends = self.control.is_stopping() || self.checkpoints.is_read();
        let cuts = self.checkpoints.cuts();
        let finished = self.finishes && self.checkpoints.is_read();
        let waits = self
            .results
            .is_due(ends && (!self.bounded || self.checkpoints.is_read()))?;
        if ends && (state.last || cuts == state.cuts && !finished && !waits) {
            self.checkpoints.release();
            return Ok(());
        }
        // The first result is not kept waiting.
        let first = !state.shown && self.metrics.sum(|worker| &worker.results) > 0;
        let passed = since(state.asked) >= self.interval;
        let due = cuts != state.cuts && (first || passed) || waits && passed;
        state.shown |= first;
        if !ends && !due {
            return Ok(());
        }
        (state.last, state.asked, state.cuts) = (ends, now(), cuts);
        let (bytes, full) = (self.store.bytes(), self.manifest.full_bytes);
        let took = Duration::from_millis(self.manifest.full_millis.unwrap_or(0));
        let all = state.growth.is_due(bytes, full, took);
        debug!("checkpoint asked for: first result {first}, interval {passed}, last {ends}");
        self.checkpoints.want(all);
        Ok(())
    }

    /// Makes the checkpoint durable, and commits it.
    fn finish(&mut self) -> Result {
        let mut gathered = std::mem::take(&mut self.state.gathered);
        let mut manifest = self.manifest.clone();
        let covers = |epoch| self.checkpoints.covers(epoch);
        let covered = gathered.epoch.is_some_and(covers);
        let growth = &mut self.state.growth;
        growth.gathered(gathered.changed, gathered.live, gathered.full);
        let read = covered && self.checkpoints.is_read();
        manifest.checkpoint += 1;
        manifest.made_at = time_of_day().millis();
        manifest.finished = self.state.last && self.finishes && read;
        gathered.tell(&mut manifest.sources, &self.sources);
        if gathered.full {
            manifest.full_bytes = self.store.bytes();
        }
        crash_point("checkpoint gathered");
        let ends = self.state.last && covered && (!self.bounded || read);
        self.results.settle(&|| self.control.is_faulty())?;
        // Whoever has taken over may have given their names to files that are appended to here.
        self.store.check_newest()?;
        manifest.outputs = self.results.cut(ends)?;
        self.settle(manifest)?;
        if gathered.full {
            // The next manifest has it.
            let took = gathered.took() + self.state.prepared;
            self.manifest.full_millis = u64::try_from(took.as_millis()).ok();
        }
        if !covered {
            // Something was read behind it, which it was to be the last for: another one is due.
            (self.state.last, self.state.cuts) = (false, u64::MAX);
        }
        self.checkpoints.commit();
        crash_point("checkpoint told");
        Ok(())
    }

    /// Prepares and commits `manifest`, and lets go of what is behind it.
    pub(super) fn settle(&mut self, mut manifest: Manifest) -> Result {
        let (last, next) = (self.state.committed, manifest.checkpoint);
        assert!(
            last.is_none_or(|last| next == last + 1),
            "checkpoint {next} does not follow {last:?}"
        );
        let began = now();
        let named = self.store.prepare(&mut manifest)?;
        let prepared = since(began);
        self.state.prepared = prepared;
        if let Some(commit) = &self.commit {
            TopicEnds::merge(&mut self.written, commit.written()?);
            let record = ProgressRecord::of(&manifest, &named, self.written.clone());
            let record = record.to_bytes()?;
            if commit.commit(&record)? {
                self.store.check_newest()?;
                commit.renew(&record)?;
            }
            self.state.committed = Some(next);
        }
        debug!(
            "checkpoint {} of {} bytes: prepared after {prepared:?}, committed after {:?}",
            manifest.checkpoint,
            self.store.bytes(),
            since(began)
        );
        let bytes = self.store.bytes();
        self.board.commit(manifest.checkpoint, bytes, began);
        if !manifest.outputs.is_empty() {
            self.store.check_newest()?;
            self.results.show(&manifest.outputs)?;
        }
        self.store.clean(&manifest)?;
        self.manifest = manifest;
        Ok(())
    }
}

/// The smallest of some times that are known.
pub(super) fn smallest(times: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    let times = times.map(|time| time.unwrap_or(EventTime::NEVER.millis()));
    times
        .min()
        .filter(|time| *time != EventTime::NEVER.millis())
}

#[cfg(test)]
mod tests;
