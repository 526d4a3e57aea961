//! Room for what comes: the oldest segments of topics that may lose records go first, and compacted
//! topics are compacted, never shortened.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::compaction;
use super::config::TopicConfig;
use super::log::Log;
use super::state::Broker;
use super::sync::lock;
use crate::observe::now;
use crate::time::millis;

impl Broker {
    /// Reserves so many bytes, if they can be had.
    pub(super) fn make_room(&self, bytes: usize) -> bool {
        let budget = &self.topics.budget;
        if budget.reserve(bytes) {
            return true;
        }
        if bytes > budget.limit() {
            return false;
        }
        let _alone = lock(&self.reclaiming);
        let mut compacted = false;
        while !budget.reserve(bytes) {
            if self.drop_oldest_segment() {
                continue;
            }
            if compacted {
                return false;
            }
            for (log, config) in self.logs().filter(|(_, config)| config.compact) {
                compaction::run(&mut lock(&log), &config, now(), true);
            }
            compacted = true;
        }
        true
    }

    /// Whether there was one.
    fn drop_oldest_segment(&self) -> bool {
        let deletable = self.logs().filter(|(_, config)| config.delete);
        let ages = deletable.filter_map(|(log, _)| {
            let oldest = lock(&log).oldest();
            oldest.map(|born| (born, log))
        });
        let oldest = ages.min_by_key(|(born, _)| *born);
        oldest.is_some_and(|(_, log)| {
            lock(&log).drop_oldest();
            true
        })
    }

    fn logs(&self) -> impl Iterator<Item = (Arc<Mutex<Log>>, Arc<TopicConfig>)> {
        self.topics.all().into_iter().flat_map(|topic| {
            let config = topic.config();
            let logs = topic.partitions().into_iter();
            logs.map(move |log| (log, Arc::clone(&config)))
        })
    }

    /// Compacts what has become worth it.
    pub(super) fn compact(&self, now: Instant) {
        for (log, config) in self.logs().filter(|(_, config)| config.compact) {
            compaction::run(&mut lock(&log), &config, now, false);
        }
    }

    /// Drops what is beyond the retention of its topic, and forgets idle producers.
    pub(super) fn retain(&self, now: Instant, time: i64) {
        for (log, config) in self.logs() {
            let mut log = lock(&log);
            log.expire_producers(now);
            if config.delete {
                let oldest = config.retention.map(|age| time.saturating_sub(millis(age)));
                log.retain(config.retention_bytes, oldest);
            }
        }
    }
}
