//! Values on their way into a job.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError as Refused};

use super::bell::Bell;
use super::{SendError, TrySendError, Typed};
use crate::connectors::{Fetched, Found, Plugs, Reader, Share, Source};
use crate::error::{Error, Result};
use crate::event::{Decode, Origin, Record};
use crate::stream::Context;

/// Values on their way through the job, where `capacity` is smaller: as many as an epoch takes.
const ON_THE_WAY: usize = 8_192;

/// A source of values of type `T` that the program feeds, and its feed.
///
/// # Order and time
/// The values form one partition, in the order in which they are sent; with several clones of the
/// feed, in the order in which they arrive. Decoding is skipped; steps before `event_time` run.
/// Values carry no stamp of a log: `event_time_from_record` and `max_ahead` find none. The source
/// is live: a feed that gives nothing for [`Settings::idle_timeout`](crate::Settings::idle_timeout)
/// stops holding the watermark, and what it gives then may be late with reason `idle`. It has an
/// end all the same: when the last clone of the feed is dropped, all open windows fire.
///
/// # Memory
/// `capacity` values (at least one) wait for the job; as many again, and 8,192 at least, are on
/// their way through it. Then sending waits. What operators keep comes on top, as everywhere.
///
/// # Letters
/// A letter of a value that comes late or has no usable time holds it as JSON, as it was when its
/// time was asked for. A value that a step before that refuses is gone; its letter holds offset
/// and error.
pub fn source<T: Send + 'static>(capacity: usize) -> (Feed<T>, EmbeddedSource<T>) {
    let capacity = capacity.max(1);
    let (sender, arriving) = mpsc::channel(capacity);
    let inlet = Inlet {
        arriving: Mutex::new(Some(arriving)),
        bell: Arc::default(),
        staged: Arc::default(),
        on_the_way: capacity.max(ON_THE_WAY) as u64,
    };
    let bell = Arc::clone(&inlet.bell);
    let sender = Some(sender);
    (Feed { sender, bell }, EmbeddedSource(inlet))
}

/// Sends values into a job. Made by [`source`]; clones feed the same source.
pub struct Feed<T> {
    /// `None` only while it is dropped.
    sender: Option<mpsc::Sender<T>>,
    bell: Arc<Bell>,
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("room", &self.sender().capacity())
            .finish_non_exhaustive()
    }
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        self.sender = None; // before the bell: the worker looks whether it was the last
        self.bell.ring();
    }
}

impl<T> Feed<T> {
    fn sender(&self) -> &mpsc::Sender<T> {
        self.sender.as_ref().expect("it lives")
    }

    /// Sends a value, as soon as there is room for it.
    ///
    /// If the future is dropped before it is ready, the value was not sent.
    ///
    /// # Errors
    /// The job is over; the value comes back.
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        let sent = self.sender().send(value).await;
        self.bell.ring();
        sent.map_err(|refused| SendError(refused.0))
    }

    /// Sends a value, and blocks the thread until there is room for it.
    ///
    /// # Errors
    /// The job is over; the value comes back.
    ///
    /// # Panics
    /// Called on a thread that runs async tasks: [`Feed::send`] is for those.
    pub fn blocking_send(&self, value: T) -> Result<(), SendError<T>> {
        let sent = self.sender().blocking_send(value);
        self.bell.ring();
        sent.map_err(|refused| SendError(refused.0))
    }

    /// Sends a value if there is room for it now.
    ///
    /// # Errors
    /// There is none, or the job is over; the value comes back.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let sent = self.sender().try_send(value);
        self.bell.ring();
        sent.map_err(|refused| match refused {
            Refused::Full(value) => TrySendError::Full(value),
            Refused::Closed(value) => TrySendError::Closed(value),
        })
    }
}

/// Where the values come out.
struct Inlet<T> {
    /// Taken by the reader.
    arriving: Mutex<Option<mpsc::Receiver<T>>>,
    bell: Arc<Bell>,
    /// Values whose records were fetched and not decoded yet: those of one batch.
    staged: Arc<Mutex<VecDeque<T>>>,
    on_the_way: u64,
}

/// The source of a [`Feed`], to be bound to a port of one job. Made by [`source`].
pub struct EmbeddedSource<T>(Inlet<T>);

impl<T> fmt::Debug for EmbeddedSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedSource")
    }
}

impl<T: Send + 'static> Source for EmbeddedSource<T> {
    fn describe(&self) -> String {
        "embedded:".to_owned()
    }

    fn bounded(&self) -> bool {
        false
    }

    fn grows(&self) -> bool {
        false // but it ends
    }

    fn prepare(&self) -> Result {
        let arriving = self.0.arriving.lock();
        match *arriving.unwrap_or_else(PoisonError::into_inner) {
            Some(_) => Ok(()),
            None => Err(Error::usage(
                "embedded source: another job has taken it; each job needs one of its own",
            )),
        }
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        if !share.owns(0) {
            return Ok(Box::new(Elsewhere));
        }
        let mut arriving = self.0.arriving.lock();
        let arriving = arriving.as_deref_mut().ok().and_then(Option::take);
        let arriving = arriving.ok_or_else(|| Error::usage("embedded source: opened twice"))?;
        self.0.bell.wakes(share.waker);
        Ok(Box::new(FeedReader {
            arriving,
            bell: Arc::clone(&self.0.bell),
            staged: Arc::clone(&self.0.staged),
            discovered: false,
            on_the_way: self.0.on_the_way,
            given: 0,
            passed: 0,
        }))
    }

    fn typed(&self) -> Option<Typed<'_>> {
        Some(Typed::of::<T>(&self.0))
    }
}

/// On workers that do not own the partition.
struct Elsewhere;

impl Reader for Elsewhere {
    fn discover(&mut self) -> Result<Vec<Found>> {
        Ok(Vec::new())
    }
    fn fetch<'a>(&'a mut self, _: u32, _: usize, _: &mut Vec<Record<'a>>) -> Result<Fetched> {
        Ok(Fetched::End)
    }
}

struct FeedReader<T> {
    arriving: mpsc::Receiver<T>,
    bell: Arc<Bell>,
    staged: Arc<Mutex<VecDeque<T>>>,
    discovered: bool,
    on_the_way: u64,
    /// Values that were given, and those of them that have left the dataflow.
    given: u64,
    passed: u64,
}

impl<T: Send + 'static> FeedReader<T> {
    /// The next value, or why there is none. When there is none the bell will ring.
    fn next(&mut self) -> Result<T, TryRecvError> {
        self.arriving.try_recv().or_else(|_| {
            self.bell.arm();
            self.arriving.try_recv()
        })
    }
}

impl<T: Send + 'static> Reader for FeedReader<T> {
    fn discover(&mut self) -> Result<Vec<Found>> {
        if std::mem::replace(&mut self.discovered, true) {
            return Ok(Vec::new());
        }
        Ok(vec![Found {
            partition: 0,
            origin: Origin::Memory("embedded".into(), 0),
        }])
    }

    fn fetch<'a>(&'a mut self, _: u32, max: usize, to: &mut Vec<Record<'a>>) -> Result<Fetched> {
        let staged = Arc::clone(&self.staged);
        let mut staged = staged.lock().unwrap_or_else(PoisonError::into_inner);
        staged.clear(); // what was not decoded never will be
        for _ in 0..max {
            if self.given - self.passed >= self.on_the_way {
                return Ok(Fetched::Wait); // doors are woken when an epoch is complete
            }
            match self.next() {
                Ok(value) => staged.push_back(value),
                Err(TryRecvError::Empty) => return Ok(Fetched::CaughtUp),
                Err(TryRecvError::Disconnected) => return Ok(Fetched::End),
            }
            to.push(Record::line(self.given, b""));
            self.given += 1;
        }
        Ok(Fetched::Some)
    }

    fn passed(&mut self, _: u32, offset: u64) {
        self.passed = offset;
    }
}

/// How values are decoded that come from an embedded source: not at all. `None`: something else is
/// bound to the port.
pub(in crate::connectors) fn decode_typed<T: 'static>(
    cx: &Context<'_>,
    port: usize,
) -> Option<Decode<T>> {
    let plugs = Plugs::of(cx)?;
    let inlet: &Inlet<T> = plugs.sources.get(port)?.typed()?.holds.downcast_ref()?;
    let staged = Arc::clone(&inlet.staged);
    Some(Box::new(move |records, pieces| {
        let mut staged = staged.lock().unwrap_or_else(PoisonError::into_inner);
        let values = staged.drain(..records.len());
        pieces.good.extend((0..).zip(values));
    }))
}
