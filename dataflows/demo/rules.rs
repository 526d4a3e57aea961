//! What the demo runs, and with which parameters: small ones, so that results come within seconds.

use std::path::Path;
use std::time::Duration;

use anabranch::Settings;

use super::clock::whole;

pub(super) const PARTITIONS: u32 = 3;
pub(super) const WORKERS: usize = 2;
pub(super) const SIZE: Duration = Duration::from_secs(5);
pub(super) const LAG: Duration = Duration::from_secs(2);
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// Results can be seen when they are committed.
pub(super) const CHECKPOINT: Duration = Duration::from_millis(200);
/// Repeats come within a second or so; ids are kept this long, by the job and by the check.
pub(super) const RETENTION: Duration = Duration::from_mins(1);
/// As `run` has it.
pub(super) const MAX_AHEAD: Duration = Duration::from_mins(10);

pub(super) const EVENTS: &str = "events";
pub(super) const ACTIVITY: &str = "user-activity";
pub(super) const LATE: &str = "user_activity.late";
pub(super) const DEAD: &str = "user_activity.dead";

/// The parameters as the check needs them, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) size: i64,
    pub(super) lag: i64,
    pub(super) retention: i64,
    pub(super) max_ahead: i64,
}

/// Those of the demo.
pub(super) fn rules() -> Rules {
    Rules {
        size: whole(SIZE),
        lag: whole(LAG),
        retention: whole(RETENTION),
        max_ahead: whole(MAX_AHEAD),
    }
}

/// The settings of the job on a Kafka, with its state in a folder.
pub(super) fn settings(bootstrap: &str, state: &Path) -> Settings {
    let millis = |duration| format!("{}ms", whole(duration));
    Settings::new()
        .workers(WORKERS)
        .bootstrap(bootstrap)
        .job_id("user_activity")
        .state_dir(state)
        .checkpoint_interval(CHECKPOINT)
        .idle_timeout(Some(IDLE))
        .max_ahead(Some(MAX_AHEAD))
        .set("size", &millis(SIZE))
        .set("lag", &millis(LAG))
        .set("retention", &millis(RETENTION))
}
