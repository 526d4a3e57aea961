//! What all connections share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::groups::Groups;
use super::topics::Topics;
use super::transactions::Transactions;

/// The broker behind its connections.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) topics: Topics,
    pub(super) groups: Groups,
    pub(super) transactions: Transactions,
    /// Whether asking for a topic creates it.
    pub(super) auto_create: bool,
    /// Held by whoever makes room.
    pub(super) reclaiming: Mutex<()>,
    stopping: AtomicBool,
}

impl Broker {
    pub(super) fn new(memory: usize, auto_create: bool) -> Self {
        Self {
            topics: Topics::new(memory),
            groups: Groups::default(),
            transactions: Transactions::default(),
            auto_create,
            reclaiming: Mutex::new(()),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends every wait.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.groups.notify_all();
    }
}
