//! Sinks, as checkpoints see them. What those of files have made durable goes into the manifest,
//! and what the manifest says is done is shown when it is committed. Others are waited for.

use std::sync::Arc;

use crate::connectors::{Outputs, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::state::OutputState;
use crate::state::advice::AFRESH;
use crate::state::disk::Disk;
use crate::state::outputs::{self, complete, is_one_file};

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Results {
    /// Those that write files, by the names of their ports.
    sinks: Vec<(String, Arc<dyn Sink>)>,
    /// Those that take what a crash may lose.
    buffered: Vec<Arc<dyn Sink>>,
}

impl Results {
    pub(super) fn of(names: &[String], sinks: &[Arc<dyn Sink>]) -> Self {
        let all = names.iter().cloned().zip(sinks.iter().cloned());
        let buffered = sinks.iter().filter(|sink| sink.is_buffered()).cloned();
        Self {
            sinks: all.filter(|(_, sink)| sink.outputs().is_some()).collect(),
            buffered: buffered.collect(),
        }
    }

    /// Whether writers have to hold back what is behind a checkpoint until it counts.
    pub(super) fn holds(&self) -> bool {
        !self.sinks.is_empty() || !self.buffered.is_empty()
    }

    /// Waits until what was written is durable, unless it `is_over` before.
    ///
    /// # Errors
    /// Names what could not be written.
    pub(super) fn settle(&self, is_over: &dyn Fn() -> bool) -> Result {
        self.buffered
            .iter()
            .try_for_each(|sink| sink.settle(is_over))
    }

    fn outputs(&self) -> impl Iterator<Item = (&str, &dyn Outputs)> {
        self.sinks
            .iter()
            .filter_map(|(name, sink)| Some((&**name, sink.outputs()?)))
    }

    /// Each sink goes on with what `before` has of it. Without any effect yet.
    pub(super) fn go_on(&self, before: &[OutputState]) {
        for (port, outputs) in self.outputs() {
            outputs.go_on(before.iter().find(|state| is_of(state, port, outputs)));
        }
    }

    /// Whether a sink goes on with `state`.
    fn goes_on(&self, state: &OutputState) -> bool {
        let mut outputs = self.outputs();
        outputs.any(|(port, outputs)| is_of(state, port, outputs))
    }

    /// Looks whether each sink can go on with what `before` has of it, and the others be left.
    ///
    /// # Errors
    /// As [`Results::leave`]; and a file that is missing or changed.
    pub(super) fn check(&self, disk: &dyn Disk, before: &[OutputState]) -> Result {
        self.check_left(before)?;
        let mut before = before.iter().filter(|state| self.goes_on(state));
        before.try_for_each(|state| outputs::check(disk, state))
    }

    /// What `before` has of ports that write elsewhere now is completed where it is.
    ///
    /// # Errors
    /// A file is to be complete at the end of the run only.
    pub(super) fn leave(&self, disk: &Arc<dyn Disk>, before: &[OutputState]) -> Result {
        self.check_left(before)?;
        let mut left = before.iter().filter(|state| !self.goes_on(state));
        left.try_for_each(|state| complete(disk, state))
    }

    fn check_left(&self, before: &[OutputState]) -> Result {
        for state in before.iter().filter(|state| !self.goes_on(state)) {
            let (port, place) = (&state.port, &state.place);
            if is_one_file(state) && state.files.iter().any(|file| !file.done) {
                let what = format!(
                    "sink `{port}` has written a part of `{place}`, and is bound to another place \
                     now: bind it there again, or {AFRESH}"
                );
                return Err(Error::new(ErrorKind::State, what));
            }
        }
        Ok(())
    }

    /// Whether something waits for a checkpoint to show it. `ends`: it would be the last one.
    pub(super) fn is_due(&self, ends: bool) -> Result<bool> {
        for (_, outputs) in self.outputs() {
            if outputs.is_due(ends)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes durable what was written, and says what that is.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn cut(&self, ends: bool) -> Result<Vec<OutputState>> {
        let cut = |(port, outputs): (&str, &dyn Outputs)| {
            let mut state = outputs.cut(ends)?;
            port.clone_into(&mut state.port);
            Ok(state)
        };
        self.outputs().map(cut).collect()
    }

    /// The checkpoint with `states` is committed.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn show(&self, states: &[OutputState]) -> Result {
        for (port, outputs) in self.outputs() {
            if let Some(state) = states.iter().find(|state| state.port == port) {
                outputs.show(state)?;
            }
        }
        Ok(())
    }
}

fn is_of(state: &OutputState, port: &str, outputs: &dyn Outputs) -> bool {
    state.port == port && state.place == outputs.place()
}
