//! When the demo ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anabranch::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::clock::now;
use super::stage::Stage;

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A key, a signal, or the time is over.
    Wished,
    /// The log is as long as it may become.
    Full,
}

/// When the demo ends: when its time is over, or at a signal.
pub(super) struct Until {
    at: Option<Instant>,
    signalled: Arc<AtomicBool>,
    armed: Arc<AtomicBool>,
}

impl Until {
    /// Ends at the first SIGINT, SIGTERM or SIGHUP.
    pub(super) fn signalled() -> Result<Self> {
        let (signalled, armed): (Arc<AtomicBool>, Arc<AtomicBool>) =
            (Arc::default(), Arc::default());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let (ends, asks) = (Arc::clone(&armed), Arc::clone(&signalled));
            flag::register_conditional_shutdown(signal, 128 + signal, ends)
                .and_then(|_| flag::register(signal, asks))
                .map_err(|cause| Error::operating("signals cannot be caught").because(cause))?;
        }
        Ok(Self {
            at: None,
            signalled,
            armed,
        })
    }

    /// Or when `time` is over, if there is one.
    pub(super) fn or_after(self, time: Option<Duration>) -> Self {
        let at = time.and_then(|time| now().checked_add(time));
        Self { at, ..self }
    }

    /// Why it ends now, if it does.
    pub(super) fn end(&self, stage: &Stage) -> Option<End> {
        let over = self.at.is_some_and(|at| now() >= at);
        if over || self.signalled.load(SeqCst) {
            return Some(End::Wished);
        }
        stage.is_full().then_some(End::Full)
    }

    /// From now on a signal ends the process at once. Not before the terminal is as it was.
    pub(super) fn arm(&self) {
        self.armed.store(true, SeqCst);
    }
}
