//! Processor time as the scheduler counts it, in nanoseconds: that of `/proc/self/stat` comes in
//! hundredths of a second.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use std::{fs, thread};

/// Of the threads that were noted and have ended.
static NOTED: AtomicU64 = AtomicU64::new(0);

/// Adds the time of its thread when that ends.
struct Noted(Cell<bool>);

impl Drop for Noted {
    fn drop(&mut self) {
        if self.0.get() {
            let spent = of(Path::new("/proc/thread-self")).expect("Linux");
            NOTED.fetch_add(spent, SeqCst);
        }
    }
}

thread_local! {
    static HERE: Noted = const { Noted(Cell::new(false)) };
}

/// This thread is a worker.
#[inline]
pub(crate) fn note() {
    HERE.with(|noted| noted.0.set(true));
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// All of the workers' threads, from their start to their end.
    pub(crate) workers: Duration,
    /// The thread that writes checkpoints, but for its last millisecond.
    pub(crate) writer: Duration,
}

/// Does `work` on a thread of its own, whose workers are noted; one such at a time.
pub(crate) fn over<T: Send>(work: impl FnOnce() -> T + Send) -> (T, Spent) {
    NOTED.store(0, SeqCst);
    thread::scope(|scope| {
        let work = scope.spawn(work);
        let mut writer = 0;
        while !work.is_finished() {
            writer = of_writer().unwrap_or(0).max(writer);
            thread::sleep(Duration::from_millis(1));
        }
        let done = work.join().expect("the run ends well");
        let [workers, writer] = [NOTED.load(SeqCst), writer].map(Duration::from_nanos);
        (done, Spent { workers, writer })
    })
}

fn of_writer() -> Option<u64> {
    let mut threads = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let is_writer = |thread: &fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm"));
        name.is_ok_and(|name| name.trim_end() == "checkpoints")
    };
    of(&threads.find(is_writer)?.path())
}

/// Nanoseconds of processor time of a thread; `None` if it has ended.
fn of(thread: &Path) -> Option<u64> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    text.split(' ').next()?.parse().ok()
}
