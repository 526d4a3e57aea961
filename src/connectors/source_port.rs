//! How a source is written down in a job's description: the port, how its records are decoded, and
//! when each event happened.

use std::any::TypeId;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::door::{Door, Show, TimeOf};
use super::door_state::DoorState;
use super::reader::{Nothing, Sent, send};
use super::{Pace, Plugs, ToEventTime, Tuning, embedded};
use crate::error::Result;
use crate::event::{Decode, Record, each_record, json};
use crate::operators::watermark::{Known, watermark};
use crate::state::State;
use crate::stream::{
    Closings, Context, EventStream, Flow, LettersAt, Port, PortKind, Sequence, Stream, short_name,
};
use crate::time::{Epoch, EventTime, Watermarks};

/// A source whose records are still bytes.
#[must_use = "say how its records are decoded: `.json()` or `.decode(..)`"]
pub struct Undecoded<'scope, T> {
    cx: Rc<Context<'scope>>,
    port: usize,
    holds: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Undecoded<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Undecoded")
    }
}

impl<'scope> Flow<'scope> {
    /// Declares the source port `name`, whose records hold a `T` each. Bound to a broker alone, it
    /// reads the topic of the same name.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// let lengths = Job::new("lengths", |flow: &Flow<'_>| {
    ///     flow.source::<String>("words")
    ///         .decode(|record| String::from_utf8(record.value.unwrap_or_default().to_vec()))
    ///         .event_time(|word| word.len() as i64, Watermarks::lag(Duration::ZERO))
    ///         .map(|word| word.len() as u64)
    ///         .sink("lengths", |s| s.json());
    ///     Ok(())
    /// });
    /// testing::run(lengths).source("words", [["to", "begin"]]).expect("lengths", ["2", "5"]);
    /// ```
    pub fn source<T: 'static>(&self, name: &str) -> Undecoded<'scope, T> {
        let port = self.cx.description.borrow_mut().port(Port {
            name: name.to_owned(),
            kind: PortKind::Source,
            holds: short_name(std::any::type_name::<T>()),
            of: TypeId::of::<T>(),
            topic: Some(name.to_owned()),
        });
        self.cx.step(format!("source {name}"));
        Undecoded {
            cx: Rc::clone(&self.cx),
            port,
            holds: PhantomData,
        }
    }
}

impl<'scope, T: 'static> Undecoded<'scope, T> {
    /// Each value is a JSON object of type `T`. What is not becomes a dead letter with reason
    /// `decode`: wrong JSON anywhere in the record, bytes behind it, a field that is missing, null,
    /// given twice or of the wrong type. Unknown fields are ignored.
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Order { amount: i64, placed_at: i64 }
    ///
    /// let amounts = Job::new("amounts", |flow: &Flow<'_>| {
    ///     flow.source::<Order>("orders")
    ///         .json()
    ///         .event_time(|order| order.placed_at, Watermarks::lag(Duration::ZERO))
    ///         .map(|order| order.amount)
    ///         .sink("amounts", |s| s.json());
    ///     Ok(())
    /// });
    /// let (good, bad) = (r#"{"amount":7,"placed_at":1}"#, r#"{"amount":"7","placed_at":2}"#);
    /// let answer = testing::run(amounts).source("orders", [[good, bad]]).answer(&["amounts"]);
    /// assert_eq!(answer.lines, [["7"]]);
    /// assert_eq!(answer.summary.dead, 1);
    /// ```
    pub fn json(self) -> Stream<'scope, T>
    where
        T: DeserializeOwned,
    {
        self.cx.step("json");
        self.decoded(each_record(|_, value| json::decode(value)))
    }

    /// Each record is decoded by `decode`, which sees key, value, headers and stamp. Null values
    /// and values above 900,000 bytes do not come here. An error makes a dead letter with reason
    /// `decode`.
    ///
    /// # Example
    /// ```
    /// # use anabranch::prelude::*;
    /// fn describe(flow: &Flow<'_>) -> Result {
    ///     flow.source::<i64>("numbers")
    ///         .decode(|record| {
    ///             let text = std::str::from_utf8(record.value.unwrap_or_default());
    ///             text.map_err(|e| e.to_string())?.parse().map_err(|_| "not a number".to_owned())
    ///         })
    ///         .event_time(|n| *n, Watermarks::lag(Duration::ZERO))
    ///         .sink("copy", |s| s.json());
    ///     Ok(())
    /// }
    /// # Job::new("numbers", describe).describe(&Settings::new()).unwrap();
    /// ```
    pub fn decode<E: fmt::Display>(
        self,
        mut decode: impl FnMut(&Record<'_>) -> Result<T, E> + 'static,
    ) -> Stream<'scope, T> {
        self.cx.step("decode");
        self.decoded(each_record(move |record, _| {
            decode(record).map_err(|why| why.to_string())
        }))
    }

    /// By `decode`, unless what is bound to the port gives values and no bytes.
    fn decoded(self, decode: Decode<T>) -> Stream<'scope, T> {
        let Self { cx, port, .. } = self;
        let typed = embedded::decode_typed(&cx, port);
        Stream {
            cx,
            port,
            decode: typed.unwrap_or(decode),
        }
    }
}

impl<'scope, T: State> Stream<'scope, T> {
    /// Says when each event happened, and how far out of order a partition may be.
    ///
    /// Here every record is judged, by nothing but the records before it in its own partition: it
    /// enters, is late (port `late`), or has no usable time (port `dead`).
    ///
    /// # Example
    /// ```
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// let job = Job::new("in-time", |flow: &Flow<'_>| {
    ///     flow.source::<i64>("times")
    ///         .decode(|record| sonic_rs::from_slice::<i64>(record.value()))
    ///         .event_time(|time| *time, Watermarks::lag(Duration::from_millis(5)))
    ///         .key_by(|_| ())
    ///         .order()
    ///         .events()
    ///         .sink("in_time", |s| s.json());
    ///     Ok(())
    /// });
    /// // 94 is more than the lag behind the largest time before it: it leaves by the port `late`.
    /// testing::run(job)
    ///     .source("times", [["1", "100", "94", "95"]])
    ///     .expect("in_time", ["1", "100", "95"]);
    /// ```
    pub fn event_time<S: ToEventTime>(
        self,
        time: impl Fn(&T) -> S + 'static,
        rules: Watermarks,
    ) -> EventStream<'scope, T> {
        self.enter(Box::new(move |value, _| time(value).to_event_time()), rules)
    }

    /// As [`Stream::event_time`], with the stamp that the log gave the record. A record without one
    /// is a dead letter, `no-event-time`; lines of files have none.
    ///
    /// # Example
    /// ```
    /// use anabranch::connectors::MemoryRecord;
    /// use anabranch::prelude::*;
    /// use anabranch::testing;
    ///
    /// let job = Job::new("copy", |flow: &Flow<'_>| {
    ///     flow.source::<i64>("numbers")
    ///         .decode(|record| sonic_rs::from_slice::<i64>(record.value()))
    ///         .event_time_from_record(Watermarks::lag(Duration::ZERO))
    ///         .sink("copy", |s| s.json());
    ///     Ok(())
    /// });
    /// let record = |value: &str, stamp: Option<i64>| MemoryRecord {
    ///     timestamp: stamp.map(EventTime::from_millis),
    ///     ..MemoryRecord::from(value)
    /// };
    /// testing::run(job)
    ///     .source("numbers", [[record("7", Some(1_000)), record("8", None)]])
    ///     .expect("copy", ["7"]);
    /// ```
    pub fn event_time_from_record(self, rules: Watermarks) -> EventStream<'scope, T> {
        self.enter(
            Box::new(|_, record| record.timestamp.to_event_time()),
            rules,
        )
    }

    fn enter(self, time_of: TimeOf<T>, rules: Watermarks) -> EventStream<'scope, T> {
        let Self { cx, port, decode } = self;
        cx.step("event_time");
        let source = u16::try_from(port).expect("fewer than 65,536 sources");
        let checkpoints = cx.checkpoints.as_ref();
        let restored = checkpoints.and_then(|all| all.progress(source));
        let known = Rc::new(Cell::new(Known {
            next: Epoch::FIRST,
            horizon: restored.map_or(EventTime::NEVER, |progress| progress.horizon),
        }));
        let door = door(&cx, port, decode, time_of, rules, &known);
        let (live, name) = (door.live, Arc::clone(&door.port));
        let (status, closings) = (Arc::clone(&door.status), Rc::clone(&door.closings));
        let Sent {
            events,
            late,
            dead,
            marks,
            activator,
        } = send(&cx, door);
        let progress = watermark(&cx, marks, (source, rules), status, move |now| {
            known.set(now);
            if live {
                activator.activate(); // a silent partition may have waited for it
            }
        });
        cx.doors.borrow_mut().push((name, Rc::clone(&closings)));
        let mut letters = cx.letters.borrow_mut();
        letters.late.push(Some(late));
        let late = Some(letters.late.len() - 1);
        drop(letters);
        let letters = LettersAt {
            late,
            ..LettersAt::dead(&cx, dead)
        };
        EventStream {
            cx,
            events,
            progress,
            closings: vec![closings],
            branches: vec![Sequence::Log],
            letters,
        }
    }
}

/// The door of port number `port` on this worker, not opened yet.
fn door<T: State>(
    cx: &Context<'_>,
    port: usize,
    decode: Decode<T>,
    time_of: TimeOf<T>,
    rules: Watermarks,
    known: &Rc<Cell<Known>>,
) -> Door<T> {
    let name = source_name(cx, port);
    let plugs = Plugs::of(cx);
    let source = plugs.as_ref().and_then(|plugs| plugs.sources.get(port));
    let id = port * cx.workers + cx.worker;
    let idle = Tuning::within(0, cx.workers, 1);
    let tuning = plugs.as_ref().map_or(idle, |plugs| plugs.tuning.clone());
    let pace = plugs.as_ref().map(|plugs| Arc::clone(&plugs.pace));
    Door {
        id,
        worker: cx.worker,
        source: u16::try_from(port).expect("fewer than 65,536 sources"),
        reader: Box::new(Nothing),
        grows: source.is_some_and(|source| source.grows()),
        live: source.is_some_and(|source| !source.bounded()),
        decode,
        time_of,
        show: source
            .and_then(|source| source.typed())
            .map(|_| show::<T> as Show<T>),
        rules,
        closings: Closings::default(),
        state: DoorState::new(&tuning, id),
        tuning,
        pace: pace.unwrap_or_else(|| Arc::new(Pace::new(id + 1))),
        control: Arc::clone(&cx.control),
        metrics: Arc::clone(&cx.metrics),
        status: cx.board.source(&name, cx.workers),
        board: Arc::clone(&cx.board),
        known: Rc::clone(known),
        checkpoints: cx.checkpoints.clone(),
        port: name,
    }
}

/// A value for a letter, where the record has no bytes.
fn show<T: State>(value: &T) -> Option<Vec<u8>> {
    sonic_rs::to_vec(value).ok()
}

fn source_name(cx: &Context<'_>, port: usize) -> Arc<str> {
    let description = cx.description.borrow();
    let mut sources = description
        .ports
        .iter()
        .filter(|port| port.kind == PortKind::Source);
    Arc::from(sources.nth(port).map_or("", |port| &port.name))
}
