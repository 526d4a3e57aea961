//! The topics: their names, ids, partitions and configurations.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use uuid::Uuid;

use super::budget::Budget;
use super::config::TopicConfig;
use super::log::{Log, Roll};
use super::refusal::{Answer, Code, Refusal};
use super::sync::{lock, read, write};
use crate::observe::time_of_day;
use crate::state::StableHasher;

/// Partitions that all topics together may have: each costs memory before it has a record.
const MAX_PARTITIONS: usize = 20_000;
const MAX_NAME: usize = 249;
/// Of the memory of all logs, what one segment may take: retention drops whole ones.
const SEGMENT_SHARE: usize = 64;
const SEGMENT_BYTES: std::ops::RangeInclusive<usize> = 64 << 10..=8 << 20;

/// A topic. Readers take what is there now; partitions are only ever added.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) id: Uuid,
    config: RwLock<Arc<TopicConfig>>,
    partitions: RwLock<Vec<Arc<Mutex<Log>>>>,
}

impl Topic {
    pub(super) fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&read(&self.config))
    }

    pub(super) fn set_config(&self, config: TopicConfig) {
        *write(&self.config) = Arc::new(config);
    }

    pub(super) fn partitions(&self) -> Vec<Arc<Mutex<Log>>> {
        read(&self.partitions).clone()
    }

    pub(super) fn partition(&self, number: i32) -> Option<Arc<Mutex<Log>>> {
        let number = usize::try_from(number).ok()?;
        read(&self.partitions).get(number).cloned()
    }
}

#[derive(Debug, Default)]
struct Index {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

/// All topics.
#[derive(Debug)]
pub(super) struct Topics {
    index: RwLock<Index>,
    pub(super) budget: Arc<Budget>,
}

impl Topics {
    pub(super) fn new(memory: usize) -> Self {
        Self {
            index: RwLock::default(),
            budget: Arc::new(Budget::new(memory)),
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        read(&self.index).by_name.values().cloned().collect()
    }

    pub(super) fn named(&self, name: &str) -> Option<Arc<Topic>> {
        read(&self.index).by_name.get(name).cloned()
    }

    pub(super) fn with_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        read(&self.index).by_id.get(&id).cloned()
    }

    /// The log of a partition.
    pub(super) fn log(&self, topic: &str, partition: i32) -> Answer<Arc<Mutex<Log>>> {
        let found = self
            .named(topic)
            .and_then(|topic| topic.partition(partition));
        found.ok_or_else(|| Code::UnknownTopicOrPartition.into())
    }

    /// When a segment of such a topic is closed.
    pub(super) fn roll(&self, config: &TopicConfig) -> Roll {
        let most = (self.budget.limit() / SEGMENT_SHARE)
            .clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        Roll {
            bytes: config.segment_bytes.min(most),
            age: config.segment_age,
        }
    }

    /// Creates a topic, or only says whether it could.
    pub(super) fn create(
        &self,
        name: &str,
        partitions: usize,
        config: TopicConfig,
        only_check: bool,
    ) -> Answer<Option<Arc<Topic>>> {
        check_name(name)?;
        let mut index = write(&self.index);
        if index.by_name.contains_key(name) {
            let why = format!("Topic '{name}' already exists.");
            return Err(Refusal::new(Code::TopicAlreadyExists, why));
        }
        let folded = name.replace('.', "_");
        if let Some(other) = index
            .by_name
            .keys()
            .find(|other| other.replace('.', "_") == folded)
        {
            let why = format!("Topic '{name}' collides with existing topic: {other}");
            return Err(Refusal::new(Code::InvalidTopicException, why));
        }
        room(&index, partitions)?;
        if only_check {
            return Ok(None);
        }
        let topic = Arc::new(Topic {
            name: name.to_owned(),
            id: fresh_id(name),
            config: RwLock::new(Arc::new(config)),
            partitions: RwLock::new(self.logs(partitions)),
        });
        index.by_name.insert(name.to_owned(), Arc::clone(&topic));
        index.by_id.insert(topic.id, Arc::clone(&topic));
        Ok(Some(topic))
    }

    fn logs(&self, count: usize) -> Vec<Arc<Mutex<Log>>> {
        let log = || Arc::new(Mutex::new(Log::new(Arc::clone(&self.budget))));
        std::iter::repeat_with(log).take(count).collect()
    }

    /// Adds partitions, up to `count`, or only says whether it could.
    pub(super) fn grow(&self, name: &str, count: i32, only_check: bool) -> Answer {
        let index = write(&self.index);
        let topic = index
            .by_name
            .get(name)
            .ok_or(Code::UnknownTopicOrPartition)?;
        let partitions = read(&topic.partitions);
        let had = partitions.len();
        let more = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_sub(had));
        let Some(more) = more.filter(|more| *more > 0) else {
            let why = format!(
                "Topic currently has {had} partitions, which is higher than the requested {count}."
            );
            return Err(Refusal::new(Code::InvalidPartitions, why));
        };
        drop(partitions);
        room(&index, more)?;
        if !only_check {
            write(&topic.partitions).extend(self.logs(more));
        }
        Ok(())
    }

    /// Deletes a topic and gives its memory back.
    pub(super) fn delete(&self, name: &str) -> Answer<Arc<Topic>> {
        let topic = {
            let mut index = write(&self.index);
            let topic = index
                .by_name
                .remove(name)
                .ok_or(Code::UnknownTopicOrPartition)?;
            index.by_id.remove(&topic.id);
            topic
        };
        for log in topic.partitions() {
            lock(&log).delete();
        }
        Ok(topic)
    }
}

fn room(index: &Index, more: usize) -> Answer {
    let counts = index
        .by_name
        .values()
        .map(|topic| read(&topic.partitions).len());
    if counts.sum::<usize>().saturating_add(more) <= MAX_PARTITIONS {
        return Ok(());
    }
    let why = format!("more than {MAX_PARTITIONS} partitions in all");
    Err(Refusal::new(Code::InvalidPartitions, why))
}

fn check_name(name: &str) -> Answer {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = (1..=MAX_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && name.chars().all(legal);
    if good {
        return Ok(());
    }
    let why = format!(
        "Topic name is invalid: '{name}' is empty, longer than {MAX_NAME}, '.', '..', or has \
         other characters than ASCII letters, digits, '.', '_' and '-'"
    );
    Err(Refusal::new(Code::InvalidTopicException, why))
}

/// An id that no other topic has: by the name, the time and a number, so that a topic that is
/// deleted and created again is another one.
fn fresh_id(name: &str) -> Uuid {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let half = |salt: u64| {
        let mut hasher = StableHasher::default();
        hasher.write(name.as_bytes());
        hasher.write_u64(salt);
        hasher.write_u64(number);
        hasher.write_i64(time_of_day().millis());
        hasher.write_u64(u64::from(std::process::id()));
        hasher.finish()
    };
    uuid::Builder::from_random_bytes(
        (u128::from(half(1)) << 64 | u128::from(half(2))).to_be_bytes(),
    )
    .into_uuid()
}
