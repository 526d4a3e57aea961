//! When there are too many dead letters to go on.

use super::door::Door;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Board, Summary};

/// How many dead letters are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum DeadLimit {
    /// When the first 1,000 records are all dead letters.
    #[default]
    AllOfFirstThousand,
    /// More than so many.
    Count(u64),
    /// More than this share of 100: looked at from the thousandth record on, and at the end.
    Percent(f64),
    /// None.
    Off,
}

impl<T> Door<T> {
    /// Whether there are too many dead letters.
    pub(super) fn check_dead(&self) -> Result {
        let (metrics, tally) = (&self.metrics, &self.state.tally);
        if self.state.dead.is_empty() {
            return Ok(());
        }
        let dead = metrics.dead();
        let too_many = match self.tuning.dead_limit {
            DeadLimit::Off => return Ok(()),
            DeadLimit::AllOfFirstThousand if !metrics.is_condemned() => return Ok(()),
            DeadLimit::AllOfFirstThousand => "the first 1,000 records are all".to_owned(),
            DeadLimit::Count(most) if dead <= most => return Ok(()),
            DeadLimit::Count(most) => format!("more than {most} records are"),
            DeadLimit::Percent(most) => {
                let read = metrics.sum(|worker| &worker.read) + tally.read;
                if read < 1_000 || share(dead, read) <= most {
                    return Ok(());
                }
                format!("more than {most} % of {read} records are")
            }
        };
        Err(exceeded(&too_many, &self.board))
    }
}

/// Whether there were too many dead letters in a run that has ended, however short it was.
pub(crate) fn check_dead_share(limit: DeadLimit, summary: &Summary, board: &Board) -> Result {
    match limit {
        DeadLimit::Percent(most) if share(summary.dead, summary.read.max(1)) > most => {
            let too_many = format!("more than {most} % of {} records are", summary.read);
            Err(exceeded(&too_many, board))
        }
        _ => Ok(()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of a count")]
fn share(dead: u64, read: u64) -> f64 {
    dead as f64 * 100.0 / read as f64
}

fn exceeded(too_many: &str, board: &Board) -> Error {
    let first = board.first_dead();
    let why = format!("{too_many} dead letters (--max-dead); the first is {first}");
    Error::new(ErrorKind::Limit, why)
}
