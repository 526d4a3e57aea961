//! The progress of a run on stderr: one line that is rewritten on a terminal, a line each ten
//! seconds elsewhere.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::console::{is_terminal, rewrite, say};
use super::report::{Moment, line, why_waiting};
use crate::observe::now;
use crate::runtime::Run;

/// On a terminal.
const OFTEN: Duration = Duration::from_secs(1);
/// Elsewhere, and the time after which missing results are explained.
const SELDOM: Duration = Duration::from_secs(10);

/// Reports until it is dropped.
pub(super) struct Progress {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Reports of `runs`, of which each begins when the one before has ended.
    pub(super) fn start(runs: Vec<Run>) -> Self {
        let (end, ended) = channel();
        let terminal = is_terminal();
        let every = if terminal { OFTEN } else { SELDOM };
        let thread = thread::spawn(move || {
            let mut current = 0;
            let mut reporter = Reporter::new(terminal, now());
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let next = at_work(&runs);
                if next != current {
                    current = next;
                    reporter = Reporter::new(terminal, reporter.before.at);
                }
                reporter.report(&runs[current]);
            }
            reporter.clear();
        });
        Self {
            end: Some(end),
            thread: Some(thread),
        }
    }
}

/// Which of `runs` is to be told of: the first that has not ended, or the last.
fn at_work(runs: &[Run]) -> usize {
    let has_ended = |run: &Run| {
        let workers = run.metrics.workers();
        workers.iter().all(|worker| worker.life.has_ended())
    };
    let first = runs.iter().position(|run| !has_ended(run));
    first.unwrap_or(runs.len() - 1)
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A reporter that failed has nothing more to say.
            let _ = thread.join();
        }
    }
}

struct Reporter {
    terminal: bool,
    shown: bool,
    before: Moment,
    last_result: (u64, Instant),
}

impl Reporter {
    /// Of a run that has done nothing by `since`.
    fn new(terminal: bool, since: Instant) -> Self {
        let before = Moment {
            at: since,
            read: 0,
            results: 0,
        };
        Self {
            terminal,
            shown: false,
            before,
            last_result: (before.results, since),
        }
    }

    fn report(&mut self, run: &Run) {
        let moment = Moment::of(&run.metrics, now());
        let text = line(&run.metrics, &run.board, self.before, moment);
        self.before = moment;
        self.show(&text);
        if moment.results != self.last_result.0 {
            self.last_result = (moment.results, moment.at);
        } else if moment.at.duration_since(self.last_result.1) >= SELDOM {
            if let Some(why) = why_waiting(&run.metrics, &run.board, moment.at) {
                self.clear();
                say(&why);
            }
            self.last_result.1 = moment.at;
        }
    }

    fn show(&mut self, text: &str) {
        if self.terminal {
            // The line is cut where a usual terminal ends, or rewriting would leave parts behind.
            let cut: String = text.chars().take(110).collect();
            rewrite(&cut);
            self.shown = true;
        } else {
            say(text);
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            rewrite("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_of_until_its_last_worker_has_ended() {
        let runs = [Run::with_workers(2), Run::with_workers(1)];
        let end = |run: usize, worker| runs[run].metrics.worker(worker).life.end();
        assert_eq!(at_work(&runs), 0);
        end(0, 0);
        assert_eq!(at_work(&runs), 0);
        end(0, 1);
        assert_eq!(at_work(&runs), 1);
        end(1, 0);
        assert_eq!(at_work(&runs), 1, "the last one stays");
    }
}
