//! Groups: members that share the partitions of topics, and offsets that are committed for them.
//!
//! [`membership`] decides, from requests and times that it is given; the requests are in [`join`]
//! and [`offsets`]. Connections wait here for each other when a group changes.

mod join;
mod listing;
mod membership;
mod offsets;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use kafka_protocol::protocol::StrBytes;

use self::membership::Membership;
use super::refusal::{Answer, Code, Refusal};
use super::sync::lock;

pub(super) use join::{Client, heartbeat, join, leave, sync};
pub(super) use listing::{delete, describe, list};
pub(super) use offsets::{commit, delete_offsets, fetch};

/// Groups that there may be: each is remembered until it is deleted.
const MAX_GROUPS: usize = 10_000;

/// A topic and a partition.
type Place = (String, i32);

/// What was committed for a partition.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
}

/// Who commits offsets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committer<'a> {
    pub(super) generation: i32,
    pub(super) member: &'a StrBytes,
    pub(super) instance: Option<&'a str>,
}

#[derive(Debug, Default)]
struct State {
    membership: Membership,
    offsets: BTreeMap<Place, Committed>,
    /// Offsets in open transactions, by producer.
    pending: HashMap<i64, BTreeMap<Place, Committed>>,
    deleted: bool,
}

#[derive(Debug, Default)]
struct Group {
    state: Mutex<State>,
    changed: Condvar,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_name: Mutex<BTreeMap<String, Arc<Group>>>,
}

impl Groups {
    fn find(&self, name: &str) -> Option<Arc<Group>> {
        lock(&self.by_name).get(name).cloned()
    }

    fn find_or_create(&self, name: &str) -> Answer<Arc<Group>> {
        if name.is_empty() {
            return Err(Code::InvalidGroupId.into());
        }
        let mut by_name = lock(&self.by_name);
        if let Some(group) = by_name.get(name) {
            return Ok(Arc::clone(group));
        }
        if by_name.len() >= MAX_GROUPS {
            let why = format!("there are {MAX_GROUPS} groups already");
            return Err(Refusal::new(Code::PolicyViolation, why));
        }
        let group = by_name.entry(name.to_owned()).or_default();
        Ok(Arc::clone(group))
    }

    fn all(&self) -> Vec<(String, Arc<Group>)> {
        let by_name = lock(&self.by_name);
        let each = by_name.iter();
        each.map(|(name, group)| (name.clone(), Arc::clone(group)))
            .collect()
    }

    /// Removes members that were not heard of, and ends rebalances that took too long.
    pub(super) fn expire(&self, now: Instant) {
        for (_, group) in self.all() {
            if lock(&group.state).membership.expire(now) {
                group.changed.notify_all();
            }
        }
    }

    /// Wakes all that wait.
    pub(super) fn notify_all(&self) {
        for (_, group) in self.all() {
            group.changed.notify_all();
        }
    }

    /// Forgets what was committed for a topic that is gone.
    pub(super) fn forget_topic(&self, topic: &str) {
        for (_, group) in self.all() {
            let mut state = lock(&group.state);
            state.offsets.retain(|place, _| place.0 != topic);
            for pending in state.pending.values_mut() {
                pending.retain(|place, _| place.0 != topic);
            }
        }
    }

    /// Keeps offsets until the transaction of the producer ends.
    pub(super) fn stage(
        &self,
        group: &str,
        producer: i64,
        committer: &Committer<'_>,
        offsets: impl Iterator<Item = (Place, Committed)>,
    ) -> Answer {
        let group = self.find_or_create(group)?;
        let mut state = lock(&group.state);
        if committer.is_member() {
            state.membership.check_committer(committer)?;
        }
        state.pending.entry(producer).or_default().extend(offsets);
        Ok(())
    }

    /// Commits or drops what a transaction staged.
    pub(super) fn end_transaction(&self, group: &str, producer: i64, commit: bool) {
        let Some(group) = self.find(group) else {
            return;
        };
        let mut state = lock(&group.state);
        let staged = state.pending.remove(&producer);
        if commit {
            state.offsets.extend(staged.into_iter().flatten());
        }
    }
}
