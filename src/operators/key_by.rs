//! Keys: what belongs together.

use std::hash::Hash;
use std::rc::Rc;

use crate::state::State;
use crate::stream::{EventStream, KeyedStream};
use crate::time::Closing;

impl<'scope, T: State> EventStream<'scope, T> {
    /// Says which events belong together. Nothing moves yet: the operator behind it decides what
    /// has to be exchanged.
    ///
    /// # Time and state
    /// It keeps nothing and lets time pass as it is. What stands behind it keeps state for each
    /// key, so a key that never ends (one for each request, say) is state that never ends.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|events: EventStream<'_, i64>| {
    ///     events
    ///         .key_by(|n| n % 2)
    ///         .window(Tumbling::of(Duration::from_millis(10)))
    ///         .aggregate(|a| a.count())
    ///         .emit_final()
    ///         .map(|w| (w.key, w.value))
    /// })
    /// .input([(1, 4), (2, 5), (3, 6)])
    /// .expect([(9, (0, 2)), (9, (1, 1))]);
    /// ```
    pub fn key_by<K: State + Hash + Eq>(
        self,
        key: impl Fn(&T) -> K + 'static,
    ) -> KeyedStream<'scope, K, T> {
        self.cx.step("key_by");
        KeyedStream {
            stream: self,
            key: Rc::new(key),
        }
    }

    /// As [`EventStream::key_by`], for a key that can be borrowed from the event.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// testing::drive(|names: EventStream<'_, String>| {
    ///     names.key_by_ref(|name| name.as_str()).order().events()
    /// })
    /// .input([(2, "b".to_owned()), (1, "a".to_owned())])
    /// .expect([(1, "a".to_owned()), (2, "b".to_owned())]);
    /// ```
    pub fn key_by_ref<K>(self, key: impl Fn(&T) -> &K + 'static) -> KeyedStream<'scope, K::Owned, T>
    where
        K: ToOwned + ?Sized,
        K::Owned: State + Hash + Eq,
    {
        self.key_by(move |value| key(value).to_owned())
    }

    /// Tells the doors in front when the operator that is put here can take no more. Behind it
    /// nobody asks the doors for anything.
    pub(crate) fn close_at(&mut self, closing: Closing) {
        for door in self.closings.drain(..) {
            door.borrow_mut().push(closing);
        }
    }
}

impl<'scope, K, T: State> KeyedStream<'scope, K, T> {
    /// The events without the key.
    pub fn events(self) -> EventStream<'scope, T> {
        self.stream
    }
}
