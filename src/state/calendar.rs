//! Which keys wait for which times: an index over the timers that lie in a [`Table`](super::Table)
//! beside the state of their keys. It holds nothing of its own, so a checkpoint leaves it out and
//! a recovery makes it anew from the table.

use std::collections::BTreeMap;

use crate::time::EventTime;

/// Keys by time, then by the stable hash of the key. The number tells keys of one hash apart.
#[derive(Clone, Debug)]
pub(crate) struct Calendar<K> {
    due: BTreeMap<(EventTime, u64, u32), K>,
}

impl<K> Default for Calendar<K> {
    fn default() -> Self {
        Self {
            due: BTreeMap::new(),
        }
    }
}

impl<K: Eq> Calendar<K> {
    /// Times that keys wait for.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// Bytes of memory it takes, about: nodes of a B-tree are two thirds full.
    pub(crate) fn bytes(&self) -> usize {
        self.due.len() * (size_of::<(EventTime, u64, u32)>() + size_of::<K>()) * 3 / 2
    }

    /// The first time that a key waits for.
    pub(crate) fn first(&self) -> Option<EventTime> {
        self.due.first_key_value().map(|((time, ..), _)| *time)
    }

    /// Takes out the first time with its key and the hash of that.
    pub(crate) fn pop(&mut self) -> Option<(EventTime, u64, K)> {
        let ((time, hash, _), key) = self.due.pop_first()?;
        Some((time, hash, key))
    }

    /// `key` waits for `time`, for which it does not wait yet.
    pub(crate) fn add(&mut self, time: EventTime, hash: u64, key: K) {
        let twins = self.due.range((time, hash, 0)..=(time, hash, u32::MAX));
        let nth = twins.last().map_or(0, |((.., nth), _)| nth + 1);
        self.due.insert((time, hash, nth), key);
    }

    /// `key` waits for `time` no more.
    pub(crate) fn remove(&mut self, time: EventTime, hash: u64, key: &K) {
        let mut twins = self.due.range((time, hash, 0)..=(time, hash, u32::MAX));
        if let Some((at, _)) = twins.find(|(_, other)| *other == key) {
            let at = *at;
            self.due.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_hash_are_kept_apart() {
        let (mut calendar, at) = (Calendar::default(), EventTime::from_millis);
        for (time, key) in [(5, "b"), (3, "a"), (3, "b"), (3, "c")] {
            calendar.add(at(time), 7, key);
        }
        calendar.remove(at(3), 7, &"b");
        calendar.remove(at(4), 7, &"a");
        calendar.add(at(3), 7, "d");
        let mut left = Vec::new();
        while let Some((time, _, key)) = calendar.pop() {
            left.push((time.millis(), key));
        }
        assert_eq!(left, [(3, "a"), (3, "c"), (3, "d"), (5, "b")]);
    }
}
