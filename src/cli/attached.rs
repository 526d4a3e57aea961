//! A job as a child process: it tells its parent how it stands, and closes when the parent does.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{end, watched};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::observe::{Resumed, Summary, now};
use crate::runtime::{Run, Settings};
use crate::time::EventTime;

/// How often it is told.
const OFTEN: Duration = Duration::from_millis(100);
/// Counters are written batch by batch: between two writes they do not balance for a moment.
const MOMENT: Duration = Duration::from_millis(1);
const MOMENTS: usize = 50;

/// How a job that runs as a child process stands. Times are milliseconds since 1970 UTC, `None`
/// where nothing is known yet or nothing is left.
///
/// It balances whenever it is told: read = used + duplicates + late + dead + held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Records read.
    pub read: u64,
    /// Records that entered and were no duplicates.
    pub used: u64,
    /// Records that repeated an event.
    pub duplicates: u64,
    /// Late records.
    pub late: u64,
    /// Those of them whose partition had been silent.
    pub late_idle: u64,
    /// Dead letters.
    pub dead: u64,
    /// Records that have entered and wait for a verdict.
    pub held: u64,
    /// Results written.
    pub results: u64,
    /// Windows that are open.
    pub windows_open: u64,
    /// The earliest end of an open window.
    pub next_end: Option<i64>,
    /// The watermark of the source that is furthest behind.
    pub watermark: Option<i64>,
    /// The largest event time read.
    pub largest: Option<i64>,
    /// All partitions, source by source.
    pub partitions: Vec<PartitionState>,
    /// Where the run went on, if it did; what is counted, is counted from there on.
    pub resumed: Option<Resumed>,
    /// The last checkpoint that it has committed.
    pub checkpoint: Option<u64>,
    /// The run is over: these are its last numbers.
    pub ended: bool,
}

/// What a partition of a source does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The port of the source.
    pub source: String,
    /// Its number.
    pub partition: u32,
    /// Its watermark.
    pub watermark: Option<i64>,
    /// Whether it is read; if not, it is silent or at its end, and holds no watermark.
    pub reading: bool,
    /// Milliseconds since its last record.
    pub silent: Option<u64>,
}

/// Runs `job` with settings of one's own as the child of a process that watches it: standard output
/// has a [`Status`] in one line of JSON ten times a second and one at the end; when standard input
/// closes, the job does, as on SIGTERM.
pub fn run_attached(job: &Job, settings: &Settings) -> ExitCode {
    match attached(job, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

fn attached(job: &Job, settings: &Settings) -> Result {
    let plan = job.plan(settings)?;
    let run = Run::new(&plan);
    end_with_input(Arc::clone(&run.control));
    let (end, ended) = channel::<()>();
    let watched_run = run.clone();
    let teller = thread::spawn(move || tell_often(&watched_run, &ended));
    let outcome = watched(plan, &run);
    drop(end);
    // A teller that failed has nothing more to say.
    let _ = teller.join();
    let summary = outcome?;
    if !summary.balances() {
        let why = format!("records were lost or counted twice: {summary}");
        return Err(Error::operating(why));
    }
    tell(&Status {
        ended: true,
        ..status(&summary, &run)
    })
}

/// The parent holds the other end of standard input, also if it dies: then this ends.
fn end_with_input(control: Arc<crate::stream::Control>) {
    thread::spawn(move || {
        // An error is an end too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        control.stop(signal_hook::consts::SIGTERM);
    });
}

fn tell_often(run: &Run, ended: &Receiver<()>) {
    while ended.recv_timeout(OFTEN) == Err(RecvTimeoutError::Timeout) {
        // A parent that is gone is noticed by standard input.
        if let Some(status) = balanced(run, ended)
            && tell(&status).is_err()
        {
            return;
        }
    }
}

/// The status at the next moment at which it balances; nothing if none comes soon.
fn balanced(run: &Run, ended: &Receiver<()>) -> Option<Status> {
    for _ in 0..MOMENTS {
        let summary = Summary::of(&run.metrics);
        if summary.balances() {
            return Some(status(&summary, run));
        }
        let waited = ended.recv_timeout(MOMENT);
        if waited != Err(RecvTimeoutError::Timeout) {
            return None;
        }
    }
    None
}

fn tell(status: &Status) -> Result {
    let broken = |cause: io::Error| Error::operating("stdout").because(cause);
    let mut line = sonic_rs::to_string(status).expect("plain data can be written");
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes()).map_err(broken)?;
    stdout.flush().map_err(broken)
}

fn status(summary: &Summary, run: &Run) -> Status {
    let clock = now();
    let (metrics, board) = (&run.metrics, &run.board);
    let sources = board.sources();
    let partitions = sources.iter().flat_map(|source| {
        let told = |status: crate::observe::PartitionStatus| PartitionState {
            source: source.name.to_string(),
            partition: status.partition,
            watermark: known(status.watermark),
            reading: status.reading,
            silent: (status.last_record)
                .map(|last| u64::try_from(clock.duration_since(last).as_millis()).unwrap_or(0)),
        };
        source.partitions().into_iter().map(told)
    });
    Status {
        read: summary.read,
        used: summary.used,
        duplicates: summary.duplicates,
        late: summary.late,
        late_idle: summary.late_idle,
        dead: summary.dead,
        held: summary.held,
        results: summary.results,
        windows_open: metrics.gauge(|worker| &worker.windows_open),
        next_end: known(metrics.next_end()),
        watermark: board.behind().and_then(|source| known(source.watermark())),
        largest: known(metrics.largest()),
        partitions: partitions.collect(),
        resumed: run.checkpoints.resumed().cloned(),
        checkpoint: run.checkpoints.last().map(|last| last.number),
        ended: false,
    }
}

fn known(time: EventTime) -> Option<i64> {
    let known = time != EventTime::NEVER && time != EventTime::END;
    known.then(|| time.millis())
}
