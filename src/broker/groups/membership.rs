//! Who is in a group, and who reads what: the classic protocol as a state machine.
//!
//! ```text
//! Empty ── join ──► Preparing ── all have joined, or time is up ──► Completing
//!   ▲                   ▲                                              │ the leader's assignment
//!   └── last leaves ────┴── join, leave, silence ──── Stable ◄─────────┘
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::Committer;
use crate::broker::refusal::{Answer, Code};

/// As Kafka's `group.max.size` could be set; each member costs memory.
const MAX_MEMBERS: usize = 1_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Empty,
    /// Members join again.
    Preparing {
        deadline: Instant,
    },
    /// The leader assigns.
    Completing,
    Stable,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance: Option<StrBytes>,
    pub(super) client: StrBytes,
    pub(super) host: StrBytes,
    /// Protocols that it can do, the best first, with what it says in each.
    pub(super) protocols: Vec<(StrBytes, Bytes)>,
    pub(super) session: Duration,
    pub(super) rebalance: Duration,
    pub(super) assignment: Bytes,
    /// Whether it has joined since the group began to change.
    pub(super) joined: bool,
    /// Requests of it that wait here: meanwhile it need not be heard of.
    pub(super) waiting: usize,
    pub(super) heard: Instant,
}

impl Member {
    /// What it says in a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let mut all = self.protocols.iter();
        let found = all.find(|(name, _)| name.as_str() == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(super) struct Membership {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) leader: StrBytes,
    pub(super) protocol_type: StrBytes,
    pub(super) protocol: StrBytes,
    pub(super) members: BTreeMap<StrBytes, Member>,
    /// Ids that were given out and have not joined yet, and until when they may.
    promised: BTreeMap<StrBytes, Instant>,
    numbered: u64,
}

/// Who joins.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) id: StrBytes,
    pub(super) protocol_type: StrBytes,
    pub(super) member: Member,
    /// Whether it can join again under an id that it is told.
    pub(super) knows_promises: bool,
}

/// How a join goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// Join again with this id.
    Promised(StrBytes),
    /// Nothing changes; the member with this id goes on.
    Unchanged(StrBytes),
    /// Wait until the generation is above this one.
    Wait(StrBytes, i32),
}

impl Membership {
    pub(super) fn join(&mut self, joiner: Joiner, now: Instant) -> Answer<Joining> {
        self.check_protocols(&joiner)?;
        let (id, known) = match self.identify(&joiner, now)? {
            Identified::Known(id) => (id, true),
            Identified::New(id) => (id, false),
            Identified::Promised(id) => return Ok(Joining::Promised(id)),
        };
        self.protocol_type = joiner.protocol_type;
        if let Some(member) = self.members.get_mut(&id).filter(|_| known) {
            let same = member.protocols == joiner.member.protocols;
            member.heard = now;
            let settled = match self.phase {
                Phase::Stable => id != self.leader,
                Phase::Completing => true,
                Phase::Empty | Phase::Preparing { .. } => false,
            };
            if same && settled {
                return Ok(Joining::Unchanged(id));
            }
        }
        if !known && self.members.len() >= MAX_MEMBERS {
            return Err(Code::GroupMaxSizeReached.into());
        }
        let before = self.generation;
        self.prepare(now);
        let mut member = joiner.member;
        let old = self.members.remove(&id);
        (member.joined, member.waiting) = (true, old.map_or(0, |old| old.waiting));
        self.members.insert(id.clone(), member);
        self.complete(now);
        Ok(Joining::Wait(id, before))
    }

    fn check_protocols(&self, joiner: &Joiner) -> Answer {
        let offered = &joiner.member.protocols;
        let inconsistent = || Err(Code::InconsistentGroupProtocol.into());
        if offered.is_empty() || joiner.protocol_type.is_empty() {
            return inconsistent();
        }
        let others = || self.members.iter().filter(|(id, _)| **id != joiner.id);
        let replaces = |member: &Member| {
            member.instance.is_some() && member.instance == joiner.member.instance
        };
        let mut others = others().filter(|(_, member)| !replaces(member)).peekable();
        if others.peek().is_none() {
            return Ok(());
        }
        let others: Vec<_> = others.collect();
        let all_can = |name: &StrBytes| {
            others
                .iter()
                .all(|(_, member)| member.protocols.iter().any(|own| own.0 == *name))
        };
        let common = offered.iter().any(|(name, _)| all_can(name));
        if common && joiner.protocol_type == self.protocol_type {
            return Ok(());
        }
        inconsistent()
    }

    fn identify(&mut self, joiner: &Joiner, now: Instant) -> Answer<Identified> {
        let instance = joiner.member.instance.as_ref();
        let same = |member: &Member| instance.is_some() && member.instance.as_ref() == instance;
        let mut all = self.members.iter();
        let holder = all
            .find(|(_, member)| same(member))
            .map(|(id, _)| id.clone());
        match (joiner.id.is_empty(), holder) {
            // A static member that comes back takes its own place under a new id.
            (true, Some(old)) => {
                let new = self.fresh_id(joiner);
                self.replace(&old, &new);
                Ok(Identified::Known(new))
            }
            (false, Some(holder)) if holder != joiner.id => Err(Code::FencedInstanceId.into()),
            (false, _) if self.members.contains_key(&joiner.id) => {
                Ok(Identified::Known(joiner.id.clone()))
            }
            (false, _) => match self.promised.remove(&joiner.id) {
                Some(_) => Ok(Identified::New(joiner.id.clone())),
                None => Err(Code::UnknownMemberId.into()),
            },
            (true, None) if instance.is_none() && joiner.knows_promises => {
                if self.promised.len() >= MAX_MEMBERS {
                    return Err(Code::GroupMaxSizeReached.into());
                }
                let id = self.fresh_id(joiner);
                self.promised
                    .insert(id.clone(), now + joiner.member.session);
                Ok(Identified::Promised(id))
            }
            (true, None) => Ok(Identified::New(self.fresh_id(joiner))),
        }
    }

    fn fresh_id(&mut self, joiner: &Joiner) -> StrBytes {
        self.numbered += 1;
        let member = &joiner.member;
        let name = member.instance.as_ref().unwrap_or(&member.client);
        let process = std::process::id();
        StrBytes::from_string(format!("{name}-{process:08x}-{:08x}", self.numbered))
    }

    fn replace(&mut self, old: &StrBytes, new: &StrBytes) {
        if let Some(member) = self.members.remove(old) {
            self.members.insert(new.clone(), member);
        }
        if self.leader == *old {
            self.leader = new.clone();
        }
    }

    /// Begins a round of joins.
    fn prepare(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Preparing { .. }) {
            return;
        }
        let longest = self.members.values().map(|member| member.rebalance).max();
        for member in self.members.values_mut() {
            member.joined = false;
        }
        let deadline = now + longest.unwrap_or_default();
        self.phase = Phase::Preparing { deadline };
    }

    /// Ends the round if all have joined or its time is up; tells whether it did.
    fn complete(&mut self, now: Instant) -> bool {
        let Phase::Preparing { deadline } = self.phase else {
            return false;
        };
        if self.members.values().any(|member| !member.joined) && now < deadline {
            return false;
        }
        self.members
            .retain(|_, member| member.joined || member.instance.is_some());
        self.generation += 1;
        let Some(first) = self.members.keys().next().cloned() else {
            self.phase = Phase::Empty;
            self.leader = StrBytes::default();
            return true;
        };
        if self
            .members
            .get(&self.leader)
            .is_none_or(|leader| !leader.joined)
        {
            let mut joined = self.members.iter().filter(|(_, member)| member.joined);
            self.leader = joined.next().map_or(first, |(id, _)| id.clone());
        }
        self.protocol = self.vote();
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            member.heard = now;
        }
        self.phase = Phase::Completing;
        true
    }

    /// Of the protocols that all can do, the one that most like best; on a tie the leader's choice.
    fn vote(&self) -> StrBytes {
        let can = |name: &StrBytes| {
            let mut all = self.members.values();
            all.all(|member| member.protocols.iter().any(|own| own.0 == *name))
        };
        let favourite = |member: &Member| {
            member
                .protocols
                .iter()
                .map(|own| &own.0)
                .find(|name| can(name))
                .cloned()
        };
        let votes: Vec<_> = self.members.values().filter_map(favourite).collect();
        let count = |name: &StrBytes| votes.iter().filter(|vote| *vote == name).count();
        let leader = self.members.get(&self.leader);
        let order = leader
            .map(|leader| &leader.protocols[..])
            .unwrap_or_default();
        let candidates = order.iter().map(|own| &own.0).rev();
        candidates
            .max_by_key(|name| count(name))
            .cloned()
            .unwrap_or_default()
    }

    /// Checks that a member is who it says, in this generation, and notes that it was heard.
    pub(super) fn check(
        &mut self,
        (id, instance): (&StrBytes, Option<&str>),
        generation: i32,
        now: Instant,
    ) -> Answer {
        if let Some(instance) = instance {
            let mut all = self.members.iter();
            let holder = all.find(|(_, member)| member.instance.as_deref() == Some(instance));
            match holder {
                None => return Err(Code::UnknownMemberId.into()),
                Some((holder, _)) if holder != id => return Err(Code::FencedInstanceId.into()),
                Some(_) => {}
            }
        }
        let member = self.members.get_mut(id).ok_or(Code::UnknownMemberId)?;
        if generation != self.generation {
            return Err(Code::IllegalGeneration.into());
        }
        member.heard = now;
        Ok(())
    }

    /// The same for who commits offsets without being heard.
    pub(super) fn check_committer(&self, committer: &Committer<'_>) -> Answer {
        let member = self
            .members
            .get(committer.member)
            .ok_or(Code::UnknownMemberId)?;
        if committer.instance.is_some() && member.instance.as_deref() != committer.instance {
            return Err(Code::FencedInstanceId.into());
        }
        if committer.generation != self.generation {
            return Err(Code::IllegalGeneration.into());
        }
        Ok(())
    }

    /// Takes the leader's assignment.
    pub(super) fn assign(&mut self, assignments: impl Iterator<Item = (StrBytes, Bytes)>) {
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.phase = Phase::Stable;
    }

    /// Removes a member; the others share anew.
    pub(super) fn remove(&mut self, id: &StrBytes, now: Instant) -> Answer {
        if self.promised.remove(id).is_some() {
            return Ok(());
        }
        self.members.remove(id).ok_or(Code::UnknownMemberId)?;
        if self.phase != Phase::Empty {
            self.prepare(now);
            self.complete(now);
        }
        Ok(())
    }

    /// Removes who was not heard of for its session, and ends a round whose time is up; tells
    /// whether anything changed.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.promised.retain(|_, until| now < *until);
        let silent = |member: &Member| {
            member.waiting == 0 && now.saturating_duration_since(member.heard) > member.session
        };
        let each = self.members.iter();
        let gone: Vec<_> = each
            .filter(|(_, member)| silent(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            let removed = self.remove(id, now);
            debug_assert!(removed.is_ok(), "it was there");
        }
        self.complete(now) || !gone.is_empty()
    }
}

enum Identified {
    Known(StrBytes),
    New(StrBytes),
    Promised(StrBytes),
}
