//! An instance as the outside knows it: alive, or dead at its effect of a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use super::dice::Trace;
use super::world;
use crate::error::{Error, Result};

/// See the module.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) number: usize,
    dead: AtomicBool,
    effects: AtomicU64,
    dies_at: u64,
    trace: Trace,
}

impl Life {
    pub(super) fn new(number: usize, dies_at: Option<u64>, trace: &Trace) -> Arc<Self> {
        Arc::new(Self {
            number,
            dead: AtomicBool::new(false),
            effects: AtomicU64::new(0),
            dies_at: dies_at.unwrap_or(u64::MAX),
            trace: trace.clone(),
        })
    }

    /// It is about to do `what` to the outside, or to ask it. Others may do something before.
    ///
    /// # Errors
    /// It is dead: whatever it does now, nobody sees it.
    pub(super) fn effect(self: &Arc<Self>, what: &str) -> Result {
        self.check()?;
        self.trace.say(self.number, what);
        if self.effects.fetch_add(1, SeqCst) >= self.dies_at {
            self.die();
        }
        self.check()?;
        world::meanwhile(self);
        self.check()
    }

    fn check(&self) -> Result {
        if self.is_dead() {
            return Err(Error::operating("dead"));
        }
        Ok(())
    }

    pub(super) fn effects(&self) -> u64 {
        self.effects.load(SeqCst)
    }

    pub(super) fn die(&self) {
        if !self.dead.swap(true, SeqCst) {
            self.trace.say(self.number, "dies");
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(SeqCst)
    }
}
