//! Standard output and standard error as sinks.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::connectors::file::lines_from;
use crate::connectors::{Batch, CLOSE_MAX, Share, Sink, Style, Waker, Writer, Written};
use crate::error::{Error, Result};
use crate::observe::{now, since};

/// What is written at once: enough to hide the system call.
const PIECE: usize = 256 << 10;
/// Whoever waits for a reader looks this often whether it still has to.
const LOOK: Duration = Duration::from_millis(50);

/// Results as lines on standard output; diagnostics never go there.
///
/// The lines of a batch stay together, and all workers share the stream. Lines leave when an epoch
/// is complete, or sooner when there are many. While nobody takes them, [`Written::Full`] is the
/// answer; so not more than 256 KiB and a batch wait, and as much is being written. A checkpoint
/// waits until they are taken. Null values are no lines.
///
/// # Errors
/// An operating error when the other end is closed or the system cannot write. It comes with a
/// later call than the one that gave the lines, with [`Writer::close`] at the latest.
pub type StdoutSink = StreamSink<io::Stdout>;

/// Results as lines on standard error, as [`StdoutSink`] writes them.
pub type StderrSink = StreamSink<io::Stderr>;

/// Results as lines into a stream of bytes that a thread writes.
pub struct StreamSink<W> {
    outlet: Arc<Outlet>,
    /// Until the thread has it.
    target: Mutex<Option<W>>,
}

impl StreamSink<io::Stdout> {
    /// Standard output of this process.
    pub fn new() -> Self {
        Self::to("stdout", io::stdout())
    }
}

impl StreamSink<io::Stderr> {
    /// Standard error of this process.
    pub fn new() -> Self {
        Self::to("stderr", io::stderr())
    }
}

impl Default for StreamSink<io::Stdout> {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for StreamSink<io::Stderr> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W> StreamSink<W> {
    fn to(name: &'static str, target: W) -> Self {
        let outlet = Outlet {
            name,
            queue: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            outlet: Arc::new(outlet),
            target: Mutex::new(Some(target)),
        }
    }
}

impl<W> fmt::Debug for StreamSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamSink")
            .field(&self.outlet.name)
            .finish()
    }
}

impl<W: Write + Send + 'static> Sink for StreamSink<W> {
    fn describe(&self) -> String {
        self.outlet.name.to_owned()
    }

    fn style(&self) -> Style {
        Style::Lines
    }

    fn prepare(&self) -> Result {
        let Some(target) = lock(&self.target).take() else {
            return Ok(());
        };
        let outlet = Arc::clone(&self.outlet);
        let name = outlet.name;
        let thread = thread::Builder::new().name(name.to_owned());
        let spawned = thread.spawn(move || outlet.drain(target));
        spawned
            .map(drop)
            .map_err(|cause| Error::operating(name).because(cause))
    }

    fn open(&self, share: Share) -> Result<Box<dyn Writer>> {
        let (outlet, worker) = (Arc::clone(&self.outlet), share.worker);
        Ok(Box::new(StreamWriter {
            outlet,
            worker,
            waker: share.waker,
        }))
    }

    fn is_buffered(&self) -> bool {
        true
    }

    fn settle(&self, is_over: &dyn Fn() -> bool) -> Result {
        self.outlet.settle(is_over)
    }

    fn stopping(&self) {
        lock(&self.outlet.queue).asked.get_or_insert_with(now);
        self.outlet.changed.notify_all();
    }

    fn finish(&self, _complete: bool) -> Result {
        let mut queue = lock(&self.outlet.queue);
        queue.stopped = true;
        self.outlet.changed.notify_all();
        self.outlet.check(&queue)
    }
}

impl<W> Drop for StreamSink<W> {
    fn drop(&mut self) {
        lock(&self.outlet.queue).stopped = true;
        self.outlet.changed.notify_all();
    }
}

/// What the workers and the writing thread share.
#[derive(Debug)]
struct Outlet {
    name: &'static str,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Lines that nobody writes yet.
    waiting: Vec<u8>,
    /// Whether they are to be written although they are few.
    due: bool,
    /// Whether the thread is writing others.
    writing: bool,
    /// No more lines come.
    stopped: bool,
    /// When somebody asked the run to stop.
    asked: Option<Instant>,
    /// Why the thread has given up.
    failed: Option<String>,
    /// Workers that were told that there is no room.
    full: BTreeMap<usize, Waker>,
}

impl Queue {
    fn wake(&mut self) {
        mem::take(&mut self.full).values().for_each(Waker::wake);
    }
}

impl Outlet {
    /// Writes what comes until no more does. Runs in the thread.
    fn drain(&self, mut target: impl Write) {
        let mut lines = Vec::new();
        while self.next(&mut lines) {
            let written = target.write_all(&lines).and_then(|()| target.flush());
            lines.clear();
            let mut queue = lock(&self.queue);
            queue.writing = false;
            queue.failed = written.err().map(|cause| match cause.kind() {
                ErrorKind::BrokenPipe => "closed pipe, nobody reads what is written".to_owned(),
                _ => cause.to_string(),
            });
            self.changed.notify_all();
            if queue.failed.is_some() {
                queue.wake();
                return;
            }
        }
    }

    /// Waits for lines to write and puts them into `lines`, which is empty.
    fn next(&self, lines: &mut Vec<u8>) -> bool {
        let mut queue = lock(&self.queue);
        loop {
            let enough = queue.due || queue.stopped || queue.waiting.len() >= PIECE;
            if enough && !queue.waiting.is_empty() {
                mem::swap(&mut queue.waiting, lines);
                (queue.due, queue.writing) = (false, true);
                queue.wake();
                return true;
            }
            if queue.stopped {
                return false;
            }
            queue = self.wait(queue);
        }
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all lines are written, unless it `is_over` before.
    fn settle(&self, is_over: impl Fn() -> bool) -> Result {
        let mut queue = lock(&self.queue);
        queue.due = true;
        self.changed.notify_all();
        while queue.failed.is_none() && (queue.writing || !queue.waiting.is_empty()) {
            // Whoever takes nothing would keep a run alive that is to end.
            let is_late = queue.asked.is_some_and(|asked| since(asked) > CLOSE_MAX);
            if is_late || is_over() {
                let why = "stopped: results were not all taken";
                return Err(Error::operating(self.name).because(why));
            }
            let waited = self.changed.wait_timeout(queue, LOOK);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.check(&queue)
    }

    fn check(&self, queue: &Queue) -> Result {
        let failed = queue.failed.as_deref();
        failed.map_or(Ok(()), |cause| {
            Err(Error::operating(self.name).because(cause))
        })
    }
}

#[derive(Debug)]
struct StreamWriter {
    outlet: Arc<Outlet>,
    worker: usize,
    waker: Waker,
}

impl Writer for StreamWriter {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        let mut queue = lock(&self.outlet.queue);
        self.outlet.check(&queue)?;
        if queue.waiting.len() >= PIECE {
            queue.full.insert(self.worker, self.waker.clone());
            return Ok(Written::Full(from));
        }
        queue.waiting.extend_from_slice(lines_from(batch, from));
        if queue.waiting.len() >= PIECE {
            self.outlet.changed.notify_all();
        }
        Ok(Written::All)
    }

    fn flush(&mut self) -> Result {
        let mut queue = lock(&self.outlet.queue);
        queue.due = true;
        self.outlet.changed.notify_all();
        self.outlet.check(&queue)
    }

    fn close(&mut self) -> Result {
        self.outlet.settle(|| false)
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::connectors::Encoded;

    fn share(buffer_bytes: usize) -> (Share, Arc<AtomicUsize>) {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let waker = Waker::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        (
            Share {
                worker: 0,
                workers: 1,
                port: 0,
                buffer_bytes,
                waker,
            },
            woken,
        )
    }

    fn patiently(mut done: impl FnMut() -> bool) {
        for _ in 0..2_000 {
            if done() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not happen");
    }

    fn lines(count: usize, length: usize) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..count {
            let from = u32::try_from(batch.values.len()).unwrap();
            batch.values.extend(std::iter::repeat_n(b'x', length));
            let to = u32::try_from(batch.values.len()).unwrap();
            batch.values.push(b'\n');
            batch.records.push(Encoded {
                value: Some((from, to)),
                ..Encoded::default()
            });
        }
        batch
    }

    #[test]
    fn lines_leave_when_they_are_flushed_and_in_order() {
        let (mut output, input) = io::pipe().unwrap();
        let sink = StreamSink::to("pipe", input);
        sink.prepare().unwrap();
        let mut writer = sink.open(share(1).0).unwrap();
        let mut text = vec![0; 4];
        for _ in 0..3 {
            assert_eq!(writer.write(&lines(2, 1), 0).unwrap(), Written::All);
            writer.flush().unwrap();
            output.read_exact(&mut text).unwrap();
            assert_eq!(text, b"x\nx\n");
        }
        writer.write(&lines(2, 1), 1).unwrap();
        writer.close().unwrap();
        sink.finish(true).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "x\n");
    }

    #[test]
    fn a_slow_reader_is_answered_with_full_and_nothing_is_lost() {
        let (mut output, input) = io::pipe().unwrap();
        let sink = StreamSink::to("pipe", input);
        sink.prepare().unwrap();
        let (share, woken) = share(1);
        let mut writer = sink.open(share).unwrap();
        let batch = lines(100, 999);
        let mut taken = 0;
        while writer.write(&batch, 0).unwrap() == Written::All {
            taken += 1;
            assert!(taken < 12, "it is bounded");
        }
        assert_eq!(writer.write(&batch, 40).unwrap(), Written::Full(40));
        let reader = thread::spawn(move || {
            let mut text = Vec::new();
            output.read_to_end(&mut text).map(|_| text.len())
        });
        patiently(|| woken.load(Ordering::SeqCst) > 0);
        patiently(|| writer.write(&batch, 40).unwrap() == Written::All);
        writer.close().unwrap();
        sink.finish(true).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), taken * 100_000 + 60_000);
    }

    #[test]
    fn what_is_not_taken_is_not_settled() {
        let (mut output, input) = io::pipe().unwrap();
        let sink = StreamSink::to("pipe", input);
        assert!(sink.is_buffered());
        sink.prepare().unwrap();
        let mut writer = sink.open(share(1).0).unwrap();
        sink.settle(&|| panic!("there is nothing to wait for"))
            .unwrap();
        // More than a pipe holds, and less than leaves by itself.
        assert_eq!(writer.write(&lines(200, 999), 0).unwrap(), Written::All);
        let looks = AtomicUsize::new(0);
        let over = sink.settle(&|| looks.fetch_add(1, Ordering::SeqCst) == 3);
        let over = over.unwrap_err();
        assert_eq!(over.exit_code(), 1);
        assert_eq!(
            over.to_string(),
            "pipe: stopped: results were not all taken"
        );
        thread::scope(|scope| {
            let settled = scope.spawn(|| sink.settle(&|| false));
            let mut text = vec![0; 200_000];
            output.read_exact(&mut text).unwrap();
            settled.join().unwrap().unwrap();
        });
        drop(output);
        writer.write(&lines(1, 1), 0).unwrap();
        let closed = sink.settle(&|| false).unwrap_err();
        assert!(closed.to_string().starts_with("pipe: closed"), "{closed}");
    }

    #[test]
    fn a_closed_pipe_is_an_operating_error() {
        let (output, input) = io::pipe().unwrap();
        drop(output);
        let sink = StreamSink::to("stdout", input);
        sink.prepare().unwrap();
        let mut writer = sink.open(share(1).0).unwrap();
        writer.write(&lines(1, 1), 0).unwrap();
        let error = writer.close().unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(
            error.to_string().starts_with("stdout: closed pipe"),
            "{error}"
        );
        assert!(writer.write(&lines(1, 1), 0).is_err());
        assert!(sink.finish(true).is_err());
    }
}
