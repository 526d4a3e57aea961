//! A job that runs beside the program that started it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::observe::Summary;
use crate::runtime::{Plan, Run, panicked, run};
use crate::time::EventTime;

/// What a running job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It reads and writes.
    Running,
    /// It was asked to stop, or has failed, and closes its sinks.
    Stopping,
    /// It is over; [`RunningJob::join`] says how it ended.
    Ended,
}

/// A job that runs; made by [`Job::start`](crate::Job::start).
///
/// It ends by itself when all its sources have ended, or when it fails. Dropped, it is asked to
/// stop, and nobody waits for it.
#[must_use = "a job that is dropped is stopped"]
pub struct RunningJob {
    name: String,
    run: Run,
    ended: watch::Receiver<bool>,
    /// `None` once it was joined.
    thread: Option<JoinHandle<Result<Summary>>>,
}

/// What a job that is stopped from within is told; a supervisor would send the same.
const SIGTERM: i32 = 15;

impl RunningJob {
    pub(super) fn start(name: &str, plan: Plan) -> Result<Self> {
        let handle = Run::new(&plan);
        let (end, ended) = watch::channel(false);
        let watched = handle.clone();
        let body = move || {
            // What a connector does outside of the workers may panic too.
            let outcome = catch_unwind(AssertUnwindSafe(|| run(plan, &watched)));
            end.send_replace(true);
            outcome.unwrap_or_else(|panic| Err(panicked("start or end of the job", &*panic)))
        };
        let thread = Builder::new().name(format!("job {name}")).spawn(body);
        let failed = |why| Error::operating(format!("job `{name}`: no thread")).because(why);
        Ok(Self {
            name: name.to_owned(),
            run: handle,
            ended,
            thread: Some(thread.map_err(failed)?),
        })
    }

    /// What it does.
    pub fn status(&self) -> Status {
        let control = &self.run.control;
        match () {
            () if *self.ended.borrow() => Status::Ended,
            () if control.is_stopping() || control.is_faulty() => Status::Stopping,
            () => Status::Running,
        }
    }

    /// What became of the records so far. What is on its way does not balance yet.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.run.metrics)
    }

    /// The watermark of the source that is furthest behind.
    pub fn watermark(&self) -> EventTime {
        let behind = self.run.board.behind();
        behind.map_or(EventTime::NEVER, |source| source.watermark())
    }

    /// Ready when the job is over, whatever the reason; [`RunningJob::join`] does not wait then.
    pub async fn ended(&self) {
        // An error: its thread is gone without a word.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Waits until the job is over, which without a stop is when all its sources have ended;
    /// blocks the thread.
    ///
    /// Results that an embedded sink holds have to be taken meanwhile.
    ///
    /// # Errors
    /// What ended it: an operating error, a limit, a panic with the operator's name.
    pub fn join(mut self) -> Result<Summary> {
        self.outcome()
    }

    /// Asks the job to stop, and waits until it has: it reads no more, writes what is on its way,
    /// and closes its sinks, which takes ten seconds at most. Open windows do not fire. If it is
    /// still starting, and waits for brokers, they are waited for.
    ///
    /// What embedded sinks still get can be taken afterwards.
    ///
    /// # Errors
    /// What ended it before, or kept it from closing; or
    /// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted), if all its sources had an end
    /// that it has not reached.
    pub async fn stop(mut self) -> Result<Summary> {
        self.run.control.stop(SIGTERM);
        self.ended().await;
        self.outcome()
    }

    /// As [`RunningJob::stop`]; blocks the thread.
    ///
    /// # Errors
    /// As [`RunningJob::stop`].
    pub fn blocking_stop(mut self) -> Result<Summary> {
        self.run.control.stop(SIGTERM);
        self.outcome()
    }

    fn outcome(&mut self) -> Result<Summary> {
        let thread = self.thread.take().expect("it is joined once");
        thread
            .join()
            .unwrap_or_else(|panic| Err(panicked("end of the job", &*panic)))
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.run.control.stop(SIGTERM);
        }
    }
}

impl fmt::Debug for RunningJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningJob")
            .field("name", &self.name)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
