//! Files as a sink, as checkpoints see them.

use std::io;
use std::sync::Arc;

use super::kept::Kept;
use super::sink::{Begins, FileSink, Output, cannot_write, lock};
use crate::connectors::Outputs;
use crate::error::Result;
use crate::state::OutputState;

impl FileSink {
    /// Whether a checkpoint has what is there.
    pub(super) fn goes_on(&self) -> bool {
        matches!(&*lock(&self.begins), Begins::GoesOn(_))
    }

    fn kept(&self) -> Result<Arc<Kept>> {
        match &*self.output() {
            Output::Kept(kept) => Ok(Arc::clone(kept)),
            _ => Err(cannot_write(
                &self.path,
                io::Error::other("it is not prepared"),
            )),
        }
    }
}

impl Outputs for FileSink {
    fn place(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }

    fn is_one_file(&self) -> bool {
        !self.is_folder()
    }

    fn go_on(&self, before: Option<&OutputState>) {
        *lock(&self.begins) = before.cloned().map_or(Begins::Anew, Begins::GoesOn);
    }

    fn is_due(&self, ends: bool) -> Result<bool> {
        Ok(self.kept()?.is_due(ends))
    }

    fn cut(&self, ends: bool) -> Result<OutputState> {
        self.kept()?.cut(ends)
    }

    fn show(&self, state: &OutputState) -> Result {
        self.kept()?.show(&state.files)
    }
}
