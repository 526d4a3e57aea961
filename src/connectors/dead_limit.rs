//! When there are too many dead letters to go on.

use super::door::Door;
use crate::error::{Error, ErrorKind, Result};

/// How many dead letters are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum DeadLimit {
    /// When the first 1,000 records are all dead letters.
    #[default]
    AllOfFirstThousand,
    /// More than so many.
    Count(u64),
    /// More than this share of 100, from the thousandth record on.
    Percent(f64),
    /// None.
    Off,
}

impl<T> Door<T> {
    /// Whether there are too many dead letters.
    pub(super) fn check_dead(&self) -> Result {
        let (metrics, tally) = (&self.metrics, &self.state.tally);
        if tally.entered + tally.late + tally.idle > 0 && !metrics.is_alive() {
            metrics.set_alive();
        }
        if self.state.dead.is_empty() {
            return Ok(());
        }
        let dead = metrics.dead();
        let too_many = match self.tuning.dead_limit {
            DeadLimit::Off => return Ok(()),
            DeadLimit::AllOfFirstThousand if metrics.is_alive() || dead < 1_000 => return Ok(()),
            DeadLimit::AllOfFirstThousand => "the first 1,000 records are all".to_owned(),
            DeadLimit::Count(most) if dead <= most => return Ok(()),
            DeadLimit::Count(most) => format!("more than {most} records are"),
            DeadLimit::Percent(most) => {
                let read = metrics.sum(|worker| &worker.read) + tally.read;
                #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
                let share = dead as f64 * 100.0 / read as f64;
                if read < 1_000 || share <= most {
                    return Ok(());
                }
                format!("more than {most} % of {read} records are")
            }
        };
        let first = self.board.first_dead();
        let why = format!("{too_many} dead letters (--max-dead); the first is {first}");
        Err(Error::new(ErrorKind::Limit, why))
    }
}
