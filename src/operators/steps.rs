//! Steps before event time: they run inside the source, on batches, before any record is judged.
//!
//! What is refused here never enters: it is a dead letter with the record's raw bytes. A record
//! that `filter` drops, or that becomes nothing, counts as used.

use crate::event::{DeadReason, Pieces, Record};
use crate::stream::Stream;

impl<'scope, T: 'static> Stream<'scope, T> {
    /// Turns each value into another.
    pub fn map<U: 'static>(self, mut map: impl FnMut(T) -> U + 'static) -> Stream<'scope, U> {
        self.each("map", move |nth, value, pieces| {
            pieces.good.push((nth, map(value)));
        })
    }

    /// Keeps the values for which `keep` holds.
    pub fn filter(self, mut keep: impl FnMut(&T) -> bool + 'static) -> Self {
        self.each("filter", move |nth, value, pieces| {
            if keep(&value) {
                pieces.good.push((nth, value));
            }
        })
    }

    /// Turns each value into any number of values, which stand in this order.
    pub fn flat_map<U: 'static, I: IntoIterator<Item = U>>(
        self,
        mut flat_map: impl FnMut(T) -> I + 'static,
    ) -> Stream<'scope, U> {
        self.each("flat_map", move |nth, value, pieces| {
            pieces
                .good
                .extend(flat_map(value).into_iter().map(|value| (nth, value)));
        })
    }

    /// Shows each value to `look` and passes it on.
    pub fn inspect(self, mut look: impl FnMut(&T) + 'static) -> Self {
        self.each("inspect", move |nth, value, pieces| {
            look(&value);
            pieces.good.push((nth, value));
        })
    }

    /// Turns each value into another, or its record into a dead letter with reason `decode`.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// let ports = Job::new("ports", |flow: &Flow<'_>| {
    ///     flow.source::<i64>("numbers")
    ///         .decode(|record| sonic_rs::from_slice::<i64>(record.value()))
    ///         .try_map(u16::try_from)
    ///         .event_time(|port| i64::from(*port), Watermarks::lag(Duration::ZERO))
    ///         .sink("ports", |s| s.json());
    ///     Ok(())
    /// });
    /// testing::run(ports).source("numbers", [["80", "-1", "443"]]).expect("ports", ["80", "443"]);
    /// ```
    pub fn try_map<U: 'static, E: std::fmt::Display>(
        self,
        mut try_map: impl FnMut(T) -> Result<U, E> + 'static,
    ) -> Stream<'scope, U> {
        self.each("try_map", move |nth, value, pieces| match try_map(value) {
            Ok(value) => pieces.good.push((nth, value)),
            Err(why) => pieces.bad.push((nth, DeadReason::Decode, why.to_string())),
        })
    }

    fn each<U: 'static>(
        self,
        name: &'static str,
        mut step: impl FnMut(u32, T, &mut Pieces<U>) + 'static,
    ) -> Stream<'scope, U> {
        let Self {
            cx,
            port,
            mut decode,
        } = self;
        cx.step(name);
        let mut before = Pieces::default();
        let decode = Box::new(move |records: &[Record<'_>], pieces: &mut Pieces<U>| {
            decode(records, &mut before);
            before
                .good
                .drain(..)
                .for_each(|(nth, value)| step(nth, value, pieces));
            // A record with a defect in one of its pieces is one dead letter, in its place.
            pieces.bad.append(&mut before.bad);
            pieces.bad.sort_by_key(|bad| bad.0);
        });
        Stream { cx, port, decode }
    }
}
