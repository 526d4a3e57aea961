//! Looks out for new partitions of a live topic, for where they begin, and for the brokers and the
//! topic themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use humantime::format_duration;
use tracing::{debug, info, warn};

use super::admin::Probe;
use super::assignment::Assignment;
use super::options::KafkaOptions;
use super::stalled::Stalled;
use crate::error::{Error, Result};
use crate::observe::{now, since};

/// How often it looks. A reader that had no client needs one first, so a new partition is promised
/// to be seen within two seconds.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take. Nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it looks where partitions begin, which changes with retention.
const BEGINS_EVERY: Duration = Duration::from_mins(1);

/// A reader, and how many partitions of the topic it has heard of.
struct Client {
    assignment: Weak<Assignment>,
    known: u32,
    stalled: Stalled,
}

/// How often in a row a topic is not found until it is gone.
const GONE_AFTER: u32 = 3;

/// A thread that asks for the number of partitions, until it is dropped. Where there is no answer
/// for `--broker-timeout`, or the topic is gone, its readers fail.
pub(super) struct Scout {
    clients: Arc<Mutex<Vec<Client>>>,
    begins: Arc<Mutex<BTreeMap<u32, u64>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Scout {
    /// `grows`: readers are told of new partitions.
    pub(super) fn start(probe: Probe, topic: Arc<str>, grows: bool) -> Result<Self> {
        let clients = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let begins = Arc::default();
        let (theirs, until) = (Arc::clone(&clients), Arc::clone(&stop));
        let told = Arc::clone(&begins);
        let thread = thread::Builder::new()
            .name("kafka-scout".into())
            .spawn(move || {
                let mut watch = Watch::new(&topic, &probe.options);
                let (mut looked, mut turn) = (None, 0);
                while !until.load(Ordering::Acquire) {
                    thread::park_timeout(EVERY);
                    let count = probe.look(&topic, PATIENCE.min(watch.timeout));
                    match watch.verdict(count, now()) {
                        Err(why) => fail(&theirs, &why),
                        Ok(()) if grows => tell(&theirs, &topic, count.unwrap_or(0)),
                        Ok(()) => {}
                    }
                    let is_there = count.is_some_and(|count| count > 0);
                    let is_due = looked.is_none_or(|looked| since(looked) >= BEGINS_EVERY);
                    if grows && is_there && is_due {
                        looked = Some(now());
                        find_begins(&told, &topic, &probe);
                    }
                    find_stalled(&theirs, &topic, &probe, &mut turn);
                }
            })
            .map_err(|cause| Error::operating("no thread for a Kafka source").because(cause))?;
        Ok(Self {
            clients,
            begins,
            stop,
            thread,
        })
    }

    /// Where partitions begin, as was found last.
    pub(super) fn begins(&self) -> BTreeMap<u32, u64> {
        let begins = self.begins.lock().unwrap_or_else(PoisonError::into_inner);
        begins.clone()
    }

    /// Tells `assignment` of every partition from number `known` on.
    pub(super) fn watch_for(&self, assignment: &Arc<Assignment>, known: u32) {
        let client = Client {
            assignment: Arc::downgrade(assignment),
            known,
            stalled: Stalled::new(&assignment.options),
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

/// What the answers so far mean.
struct Watch {
    topic: Arc<str>,
    bootstrap: String,
    timeout: Duration,
    answered: Instant,
    absent: u32,
}

impl Watch {
    fn new(topic: &Arc<str>, options: &KafkaOptions) -> Self {
        Self {
            topic: Arc::clone(topic),
            bootstrap: options.bootstrap.clone(),
            timeout: options.broker_timeout,
            answered: now(),
            absent: 0,
        }
    }

    /// Whether to go on after an answer (`None`: none, 0: no topic) at `now`; if not, why.
    fn verdict(&mut self, count: Option<u32>, now: Instant) -> Result<(), String> {
        let Self {
            topic, bootstrap, ..
        } = self;
        match count {
            None if now.duration_since(self.answered) < self.timeout => return Ok(()),
            None => {
                let timeout = format_duration(self.timeout);
                return Err(format!(
                    "topic `{topic}`: no answer from Kafka at `{bootstrap}` for {timeout} \
                     (--broker-timeout)"
                ));
            }
            Some(0) => self.absent += 1,
            Some(_) => self.absent = 0,
        }
        self.answered = now;
        if self.absent >= GONE_AFTER {
            return Err(format!("topic `{topic}` at `{bootstrap}` no longer exists"));
        }
        Ok(())
    }
}

fn fail(clients: &Mutex<Vec<Client>>, why: &str) {
    let clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
    let readers = clients
        .iter()
        .filter_map(|client| client.assignment.upgrade());
    readers.for_each(|assignment| assignment.fail(why));
}

/// Asks where partitions begin. Without an answer what was known stays. All else waits meanwhile,
/// so it is not for long.
fn find_begins(begins: &Mutex<BTreeMap<u32, u64>>, topic: &str, probe: &Probe) {
    match probe.begins(topic, EVERY) {
        Ok(found) => {
            let mut begins = begins.lock().unwrap_or_else(PoisonError::into_inner);
            begins.extend(found);
        }
        Err(why) => debug!(target: "kafka", "where `{topic}` begins is not known: {why}"),
    }
}

/// Fails every reader that waits for records which the broker has. `turn`: the partition that is
/// asked for first.
fn find_stalled(clients: &Mutex<Vec<Client>>, topic: &str, probe: &Probe, turn: &mut u32) {
    let lock = || clients.lock().unwrap_or_else(PoisonError::into_inner);
    let assigned = |client: &Client| client.assignment.upgrade();
    let silent = |assignment: Arc<Assignment>| assignment.silent().at(now()).into_keys();
    let silent: BTreeSet<_> = lock()
        .iter()
        .filter_map(assigned)
        .flat_map(silent)
        .collect();
    // Each may take a while, so nobody is kept from the clients meanwhile.
    let began = now();
    let goes_on = || began.elapsed() < EVERY;
    let end = |partition| probe.end(topic, partition, EVERY);
    let asked = ask(&silent, turn, goes_on, end);
    for client in &mut *lock() {
        let Some(assignment) = client.assignment.upgrade() else {
            continue;
        };
        let silent = assignment.silent().at(now());
        if let Some((partition, at, end)) = client.stalled.look(&silent, now(), &asked) {
            assignment.fail(&format!(
                "`{topic}[{partition}]`: the client gives nothing from offset {at} on, though the \
                 log goes on to {end}: a restart reads on"
            ));
        }
    }
}

/// Asks for the ends of `partitions` as long as it `goes_on`, from `turn` on, which is then behind
/// the last one: those whose leader is gone must not keep all others from their turn.
fn ask(
    partitions: &BTreeSet<u32>,
    turn: &mut u32,
    goes_on: impl Fn() -> bool,
    end: impl Fn(u32) -> Option<u64>,
) -> BTreeMap<u32, Option<u64>> {
    let mut asked = BTreeMap::new();
    let begin = *turn;
    for partition in partitions.range(begin..).chain(partitions.range(..begin)) {
        if !goes_on() {
            break;
        }
        asked.insert(*partition, end(*partition));
        *turn = partition + 1;
    }
    asked
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_partition_is_asked_for_in_its_turn_though_some_do_not_answer() {
        let silent: BTreeSet<u32> = (0..8).collect();
        let (mut turn, mut answered) = (0, Vec::new());
        for round in 0..4 {
            let silences = Cell::new(0);
            // The leader of the first six is gone.
            let end = |partition: u32| {
                silences.set(silences.get() + u32::from(partition < 6));
                (partition > 5).then_some(9)
            };
            let asked = ask(&silent, &mut turn, || silences.get() < 2, end);
            let known = asked.into_iter().filter(|(_, end)| end.is_some());
            answered.extend(known.map(|(partition, _)| (round, partition)));
        }
        assert_eq!(answered, [(3, 6), (3, 7)]);
    }

    #[test]
    fn silence_counts_from_the_last_answer_and_absence_in_a_row() {
        let mut options = KafkaOptions::new("there:1", "job");
        options.broker_timeout = Duration::from_mins(1);
        let mut watch = Watch::new(&Arc::from("bids"), &options);
        let at = |seconds| now() + Duration::from_secs(seconds);
        assert_eq!(watch.verdict(None, at(50)), Ok(()));
        assert_eq!(watch.verdict(Some(4), at(55)), Ok(()));
        assert_eq!(watch.verdict(None, at(110)), Ok(()));
        let why = watch.verdict(None, at(120)).unwrap_err();
        for part in ["`bids`", "`there:1`", "for 1m", "--broker-timeout"] {
            assert!(why.contains(part), "{why}");
        }
        for count in [0, 0, 4, 0, 0] {
            assert_eq!(watch.verdict(Some(count), at(121)), Ok(()));
        }
        let why = watch.verdict(Some(0), at(122)).unwrap_err();
        assert_eq!(why, "topic `bids` at `there:1` no longer exists");
    }
}
