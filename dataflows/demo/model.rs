//! What is shown at one moment, and the words for it. Pure: the view draws it, the plain lines are
//! parts of it.

use anabranch::cli::{PartitionState, Status};

use super::follow::Seen;
use super::rules::{IDLE, LAG, PARTITIONS, SIZE, WORKERS};
use super::text::{grouped, seconds, time_of_day};

/// What is shown at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Where the broker listens.
    pub(super) address: String,
    /// What the job said last.
    pub(super) status: Status,
    /// Records that the job read in the last second.
    pub(super) per_second: u64,
    /// Records that are wanted each second.
    pub(super) rate: u64,
    /// The partition that is not written, and how many events wait for it.
    pub(super) paused: Option<(u32, u64)>,
    pub(super) seen: Seen,
    /// What became of the last kill.
    pub(super) recovery: Option<String>,
}

impl Model {
    pub(super) fn title(&self) -> String {
        format!(
            "anabranch demo · user_activity · {WORKERS} workers · Kafka on {0}  \
             (try: kcat -b {0} -t user-activity)",
            self.address
        )
    }

    /// The job's parameters, which are not the usual ones.
    pub(super) fn setup() -> String {
        format!(
            "each user's events in windows of {} s · lag {} s · idle-timeout {} s · \
             {PARTITIONS} partitions",
            SIZE.as_secs(),
            LAG.as_secs(),
            IDLE.as_secs(),
        )
    }

    /// `read 412,880 = used 409,101 + duplicates 3,377 + late 214 + dead 88 + held 100`
    pub(super) fn balance(&self) -> String {
        balance(&self.status)
    }

    /// `52,000/s`
    pub(super) fn speed(&self) -> String {
        format!("{}/s", grouped(self.per_second))
    }

    /// `watermark 12:04:58 (2.1 s behind) · held by events[2] · 1,204 windows open, next closes …`
    pub(super) fn watermark(&self) -> String {
        let status = &self.status;
        let mut parts = vec![match (status.watermark, status.largest) {
            (Some(watermark), Some(largest)) => {
                let behind = seconds((largest - watermark).max(0));
                format!("watermark {} ({behind} behind)", time_of_day(watermark))
            }
            _ => "watermark not known yet".to_owned(),
        }];
        parts.extend(self.holder());
        parts.extend(self.idle());
        let open = grouped(status.windows_open);
        parts.push(match status.next_end {
            Some(end) => format!("{open} windows open, next closes {}", time_of_day(end)),
            None => format!("{open} windows open"),
        });
        parts.join(" · ")
    }

    /// `held by events[2] (no data for 3 s)`
    fn holder(&self) -> Option<String> {
        let reading = self.status.partitions.iter().filter(|state| state.reading);
        let holder = reading.min_by_key(|state| (state.watermark, state.partition))?;
        let silent = match holder.silent {
            None => " (no data yet)".to_owned(),
            Some(0..1_000) => String::new(),
            Some(silent) => format!(" (no data for {} s)", silent / 1_000),
        };
        Some(format!("held by {}{silent}", name(holder)))
    }

    /// `events[2] idle, holds nothing`
    fn idle(&self) -> Option<String> {
        let idle = self.status.partitions.iter().filter(|state| !state.reading);
        let names: Vec<_> = idle.map(name).collect();
        (!names.is_empty()).then(|| format!("{} idle, holds nothing", names.join(", ")))
    }

    /// The keys, and what they do now.
    pub(super) fn keys(&self) -> String {
        let pause = match self.paused {
            None => "[p] pause a partition".to_owned(),
            Some((partition, waiting)) => {
                let waiting = grouped(waiting);
                format!("[p] resume events[{partition}] ({waiting} wait)")
            }
        };
        let rate = grouped(self.rate);
        format!(
            "[l] send a late event   {pause}   [r] rate {rate}/s   [k] kill -9 the job   [q] quit"
        )
    }

    /// All in one line, for whoever has no terminal.
    pub(super) fn line(&self) -> String {
        format!(
            "{} · {} · {} · results {}",
            self.balance(),
            self.speed(),
            self.watermark(),
            grouped(self.seen.results),
        )
    }
}

/// `events[2]`
fn name(state: &PartitionState) -> String {
    format!("{}[{}]", state.source, state.partition)
}

/// What became of every record that was read.
pub(super) fn balance(status: &Status) -> String {
    format!(
        "read {} = used {} + duplicates {} + late {} + dead {} + held {}",
        grouped(status.read),
        grouped(status.used),
        grouped(status.duplicates),
        grouped(status.late),
        grouped(status.dead),
        grouped(status.held),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn partition(partition: u32, watermark: i64, reading: bool, silent: u64) -> PartitionState {
        PartitionState {
            source: "events".to_owned(),
            partition,
            watermark: Some(watermark),
            reading,
            silent: Some(silent),
        }
    }

    /// A moment in a demo: partition 2 is idle.
    pub(in super::super) fn moment() -> Model {
        let noon = 43_200_000;
        Model {
            address: "127.0.0.1:40123".to_owned(),
            status: Status {
                read: 412_880,
                used: 409_101,
                duplicates: 3_377,
                late: 214,
                dead: 88,
                held: 100,
                windows_open: 1_204,
                next_end: Some(noon + 5_000),
                watermark: Some(noon),
                largest: Some(noon + 2_100),
                partitions: vec![
                    partition(0, noon, true, 20),
                    partition(1, noon + 9, true, 0),
                    partition(2, noon - 9_000, false, 9_000),
                ],
                ..Status::default()
            },
            per_second: 9_987,
            rate: 10_000,
            paused: Some((2, 1_234)),
            seen: Seen {
                results: 7,
                latest: (0..8)
                    .map(|n| format!("u-{n:04}  12:00:00  7 events  view 7"))
                    .collect(),
                late: Some("late u-0092 by 3.4 s (events[1]@88121)".to_owned()),
                dead: Some("dead events[0]@90211 decode: not JSON".to_owned()),
            },
            recovery: Some("recovered from checkpoint 41 in 0.4 s: 0 lost, 0 twice".to_owned()),
        }
    }

    #[test]
    fn a_moment_reads_as_a_balance_and_says_who_holds_the_watermark() {
        let model = moment();
        assert_eq!(
            model.balance(),
            "read 412,880 = used 409,101 + duplicates 3,377 + late 214 + dead 88 + held 100"
        );
        assert_eq!(
            model.watermark(),
            "watermark 12:00:00 (2.1 s behind) · held by events[0] · events[2] idle, holds nothing \
             · 1,204 windows open, next closes 12:00:05"
        );
    }

    #[test]
    fn a_silent_partition_is_named_before_it_is_idle() {
        let mut model = moment();
        model.status.partitions[2].reading = true;
        model.status.partitions[2].silent = Some(3_200);
        let line = model.watermark();
        assert!(
            line.contains("held by events[2] (no data for 3 s) · 1,204"),
            "{line}"
        );
        assert!(!line.contains("idle"), "{line}");
    }

    #[test]
    fn nothing_is_claimed_before_it_is_known() {
        let model = Model::default();
        assert_eq!(
            model.watermark(),
            "watermark not known yet · 0 windows open"
        );
    }
}
