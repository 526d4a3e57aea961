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
    pub(super) fn start(run: &Run) -> Self {
        let (end, ended) = channel();
        let run = run.clone();
        let terminal = is_terminal();
        let every = if terminal { OFTEN } else { SELDOM };
        let thread = thread::spawn(move || {
            let mut reporter = Reporter::new(&run, terminal);
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                reporter.report(&run);
            }
            reporter.clear();
        });
        Self {
            end: Some(end),
            thread: Some(thread),
        }
    }
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
    fn new(run: &Run, terminal: bool) -> Self {
        let before = Moment::of(&run.metrics, now());
        Self {
            terminal,
            shown: false,
            before,
            last_result: (before.results, before.at),
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
