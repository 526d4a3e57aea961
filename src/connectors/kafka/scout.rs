//! Looks out for new partitions of a live topic.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::{info, warn};

use super::admin::Probe;
use super::assignment::Assignment;
use crate::error::{Error, Result};

/// How often it looks; a new partition is to be seen within two seconds.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take. Nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reader, and how many partitions of the topic it has heard of.
struct Client {
    assignment: Weak<Assignment>,
    known: u32,
}

/// A thread that asks for the number of partitions, until it is dropped.
pub(super) struct Scout {
    clients: Arc<Mutex<Vec<Client>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Scout {
    pub(super) fn start(probe: Probe, topic: Arc<str>) -> Result<Self> {
        let clients = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, until) = (Arc::clone(&clients), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("kafka-scout".into())
            .spawn(move || {
                while !until.load(Ordering::Acquire) {
                    thread::park_timeout(EVERY);
                    if let Some(count) = probe.look(&topic, PATIENCE) {
                        tell(&theirs, &topic, count);
                    }
                }
            })
            .map_err(|cause| Error::operating("no thread for a Kafka source").because(cause))?;
        Ok(Self {
            clients,
            stop,
            thread,
        })
    }

    /// Tells `assignment` of every partition from number `known` on.
    pub(super) fn watch_for(&self, assignment: &Arc<Assignment>, known: u32) {
        let client = Client {
            assignment: Arc::downgrade(assignment),
            known,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.push(client);
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}

/// Tells every reader that has not heard of `count` partitions; those that fail hear it again.
fn tell(clients: &Mutex<Vec<Client>>, topic: &str, count: u32) {
    let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
    clients.retain_mut(|client| {
        let Some(assignment) = client.assignment.upgrade() else {
            return false;
        };
        if client.known >= count {
            return true;
        }
        let new: Vec<_> = (client.known..count)
            .filter(|partition| assignment.share.owns(*partition))
            .map(|partition| (partition, 0))
            .collect();
        match assignment.grow(&new) {
            Ok(()) => {
                client.known = count;
                if !new.is_empty() {
                    info!(target: "kafka", "topic `{topic}` now has {count} partitions");
                }
            }
            Err(cause) => warn!(target: "kafka", "new partitions of `{topic}`: {cause}"),
        }
        true
    });
}
