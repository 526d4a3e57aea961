//! Results on their way out of a job.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::bell::Bell;
use super::{TryRecvError, Typed};
use crate::connectors::{Batch, Encoded, Plugs, Share, Sink, Style, Writer, Written};
use crate::error::{Error, Result};
use crate::stream::Context;

/// A sink for results of type `T` that the program takes, and where it takes them.
///
/// # Order
/// As in a topic: results of one key come in order if the sink is given the key
/// (`|s| s.json().key(..)`) or they come from a keyed operator; between keys there is no order.
///
/// # Memory
/// `capacity` results (at least one) wait to be taken. Then the job pauses, and with it its
/// sources; it goes on when half of them are taken. After
/// [`RunningJob::stop`](crate::RunningJob::stop) nothing pauses: what is on its way, which is
/// bounded, comes beyond `capacity`.
///
/// # Errors
/// A result that nobody can take, because [`Results`] was dropped, ends the job with an operating
/// error; a job that is being stopped lets it go.
pub fn sink<T: Send + 'static>(capacity: usize) -> (EmbeddedSink<T>, Results<T>) {
    let (sender, results) = mpsc::unbounded_channel();
    let level = Arc::new(Level {
        capacity: capacity.max(1),
        waiting: AtomicUsize::new(0),
        is_stopping: AtomicBool::new(false),
        bells: Mutex::default(),
    });
    let outlet = Outlet {
        sender: Mutex::new(Some(sender)),
        level: Arc::clone(&level),
    };
    (EmbeddedSink(outlet), Results { results, level })
}

/// How full the channel is, and who waits for room.
struct Level {
    capacity: usize,
    waiting: AtomicUsize,
    is_stopping: AtomicBool,
    /// One of each worker.
    bells: Mutex<Vec<Arc<Bell>>>,
}

impl Level {
    fn is_full(&self) -> bool {
        self.waiting.load(SeqCst) >= self.capacity && !self.is_stopping.load(SeqCst)
    }

    /// A result was taken. Workers go on when half are: else they would run for one result at a
    /// time.
    fn falls(&self) {
        let left = self.waiting.fetch_sub(1, SeqCst) - 1;
        if left == self.capacity / 2 {
            self.ring();
        }
    }

    fn ring(&self) {
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.iter().for_each(|bell| bell.ring());
    }
}

/// Takes the results of a job. Made by [`sink`].
pub struct Results<T> {
    results: mpsc::UnboundedReceiver<T>,
    level: Arc<Level>,
}

impl<T> fmt::Debug for Results<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results")
            .field("waiting", &self.level.waiting)
            .finish_non_exhaustive()
    }
}

impl<T> Drop for Results<T> {
    fn drop(&mut self) {
        self.results.close(); // before the bells: workers look whether anybody is there
        self.level.ring();
    }
}

impl<T> Results<T> {
    /// The next result, as soon as there is one; `None`: the job is over and all were taken.
    ///
    /// If the future is dropped before it is ready, no result is lost.
    pub async fn recv(&mut self) -> Option<T> {
        let result = self.results.recv().await;
        self.took(result)
    }

    /// The next result; blocks the thread until there is one. `None`: the job is over and all were
    /// taken.
    ///
    /// # Panics
    /// Called on a thread that runs async tasks: [`Results::recv`] is for those.
    pub fn blocking_recv(&mut self) -> Option<T> {
        let result = self.results.blocking_recv();
        self.took(result)
    }

    /// The next result, if it is at hand.
    ///
    /// # Errors
    /// It is not, or the job is over.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let result = self.results.try_recv().map_err(|none| match none {
            mpsc::error::TryRecvError::Empty => TryRecvError::Empty,
            mpsc::error::TryRecvError::Disconnected => TryRecvError::Closed,
        })?;
        self.level.falls();
        Ok(result)
    }

    fn took(&self, result: Option<T>) -> Option<T> {
        if result.is_some() {
            self.level.falls();
        }
        result
    }
}

/// Where results go in.
struct Outlet<T> {
    /// Gone when the run is over, so that whoever takes results learns of the end.
    sender: Mutex<Option<mpsc::UnboundedSender<T>>>,
    level: Arc<Level>,
}

/// The sink of [`Results`], to be bound to a port of one job. Made by [`sink`].
pub struct EmbeddedSink<T>(Outlet<T>);

impl<T> fmt::Debug for EmbeddedSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedSink")
    }
}

impl<T: Send + 'static> Sink for EmbeddedSink<T> {
    fn describe(&self) -> String {
        "embedded:".to_owned()
    }

    fn style(&self) -> Style {
        Style::Records
    }

    fn prepare(&self) -> Result {
        let sender = self.0.sender.lock();
        match *sender.unwrap_or_else(PoisonError::into_inner) {
            Some(_) => Ok(()),
            None => Err(Error::usage(
                "embedded sink: another job has used it; each job needs one of its own",
            )),
        }
    }

    fn open(&self, share: Share) -> Result<Box<dyn Writer>> {
        let sender = self.0.sender.lock();
        let sender = sender.unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.ok_or_else(|| Error::usage("embedded sink: its job is over"))?;
        let bell = Arc::new(Bell::default());
        bell.wakes(share.waker);
        let bells = self.0.level.bells.lock();
        bells
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&bell));
        let level = Arc::clone(&self.0.level);
        Ok(Box::new(ResultsWriter {
            sender,
            level,
            bell,
        }))
    }

    fn finish(&self, _: bool) -> Result {
        let sender = self.0.sender.lock();
        *sender.unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn stopping(&self) {
        self.0.level.is_stopping.store(true, SeqCst);
        self.0.level.ring();
    }

    fn typed(&self) -> Option<Typed<'_>> {
        Some(Typed::of::<T>(&self.0))
    }
}

struct ResultsWriter<T> {
    sender: mpsc::UnboundedSender<T>,
    level: Arc<Level>,
    bell: Arc<Bell>,
}

impl<T> ResultsWriter<T> {
    /// Whether there is room for one more; if not, also after a second look, the bell will ring.
    fn has_room(&self) -> bool {
        if !self.level.is_full() {
            return true;
        }
        self.bell.arm();
        !self.level.is_full()
    }
}

impl<T: Send + 'static> Writer for ResultsWriter<T> {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        let mut values = batch.typed.borrow_mut();
        let values: Option<&mut VecDeque<T>> = values.as_mut().and_then(|all| all.downcast_mut());
        let Some(values) = values else {
            return Err(Error::usage("embedded sink: it takes values and no bytes"));
        };
        for nth in from..batch.records.len() {
            if !self.has_room() && !self.sender.is_closed() {
                return Ok(Written::Full(nth));
            }
            let value = values.pop_front().expect("each record has a value");
            self.level.waiting.fetch_add(1, SeqCst);
            if self.sender.send(value).is_err() && !self.level.is_stopping.load(SeqCst) {
                let why = "embedded sink: nobody takes its results any more";
                return Err(Error::operating(why));
            }
        }
        Ok(Written::All)
    }

    fn flush(&mut self) -> Result {
        Ok(())
    }

    fn close(&mut self) -> Result {
        Ok(())
    }
}

/// Whether values and no bytes are to be written to sink number `port`.
pub(in crate::connectors) fn is_typed(cx: &Context<'_>, port: usize) -> bool {
    let plugs = Plugs::of(cx);
    plugs.is_some_and(|plugs| {
        plugs
            .sinks
            .get(port)
            .is_some_and(|sink| sink.typed().is_some())
    })
}

/// Puts a value beside the batch, with a record that has no bytes.
pub(in crate::connectors) fn encode_typed<T: Send + 'static>(
    value: T,
    partition: u32,
    batch: &mut Batch,
) {
    let typed = batch.typed.get_mut();
    let all = typed.get_or_insert_with(|| Box::new(VecDeque::<T>::new()));
    let all: Option<&mut VecDeque<T>> = all.downcast_mut();
    all.expect("a batch is of one type").push_back(value);
    batch.records.push(Encoded {
        partition,
        ..Encoded::default()
    });
}
