//! The manifest of a checkpoint: all that a run continues with, by name and checksum.
//!
//! One line of JSON, so that a person can read it, and a line with its checksum, so that no damage
//! goes unnoticed. The checksum is also in the record that commits the checkpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checkpoints::{Left, PartitionFact, Stand};
use super::outputs::OutputState;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Resumed, ResumedSource};
use crate::time::watermark::PartitionClock;
use crate::time::{EventTime, Progress};

/// The version of everything in a state directory. Older ones stay readable.
pub(crate) const FORMAT: u32 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// The job's id, and the name of its description.
    pub(crate) job: String,
    pub(crate) name: String,
    /// What tells it from every other job that was started afresh.
    pub(crate) lineage: String,
    pub(crate) checkpoint: u64,
    pub(crate) generation: u64,
    /// When it was made, milliseconds since 1970 UTC.
    pub(crate) made_at: i64,
    /// The job has read everything: nothing is to be continued.
    pub(crate) finished: bool,
    pub(crate) operators: Vec<OperatorShape>,
    pub(crate) sources: Vec<SourceState>,
    pub(crate) logs: Vec<LogPart>,
    /// Files of results, of the sinks that write any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) outputs: Vec<OutputState>,
    /// Bytes of the logs when everything was last saved.
    pub(crate) full_bytes: u64,
    /// How long that took, in milliseconds, until it was durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) full_millis: Option<u64>,
}

/// An operator that keeps state, and what of its description must not change under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperatorShape {
    pub(crate) name: String,
    pub(crate) shape: String,
}

/// What a source had come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceState {
    pub(crate) port: String,
    /// What was read, for people.
    pub(crate) place: String,
    /// What tells it from another of the same name; empty: nothing does.
    pub(crate) identity: String,
    pub(crate) watermark: Option<i64>,
    pub(crate) horizon: Option<i64>,
    pub(crate) last: Option<i64>,
    pub(crate) partitions: Vec<PartitionState>,
}

/// What a partition had come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionState {
    pub(crate) partition: u32,
    /// The offset where the job began.
    #[serde(default)]
    pub(crate) first: u64,
    /// The offset of the next record.
    pub(crate) next: u64,
    /// Records that left as late with reason `idle`: the only ones whose fate is not in the log.
    /// First offset, and the one behind the last.
    #[serde(default)]
    pub(crate) left: Vec<(u64, u64)>,
    /// Where a bounded run ends.
    pub(crate) end: Option<u64>,
    pub(crate) largest: Option<i64>,
    pub(crate) floor: Option<i64>,
    pub(crate) state: PartitionStand,
}

/// What a partition did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PartitionStand {
    #[default]
    Reading,
    Joining,
    Idle,
    Ended,
}

/// A log, as far as it belongs to the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPart {
    /// Below the state directory.
    pub(crate) path: String,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

impl Manifest {
    /// A bounded run that goes on from here ends where the log does then.
    pub(crate) fn forget_ends(&mut self) {
        let sources = self.sources.iter_mut();
        let partitions = sources.flat_map(|source| &mut source.partitions);
        partitions.for_each(|partition| partition.end = None);
    }

    /// Where a run goes on, for whoever watches it.
    pub(crate) fn resumed(&self) -> Resumed {
        let next = |state: &PartitionState| (state.partition, state.next);
        let sources = self.sources.iter().map(|source| ResumedSource {
            source: source.port.clone(),
            watermark: source.watermark,
            next: source.partitions.iter().map(next).collect(),
        });
        Resumed {
            checkpoint: self.checkpoint,
            sources: sources.collect(),
        }
    }
}

/// A time as JSON has it: none before the first.
pub(crate) fn to_json(time: EventTime) -> Option<i64> {
    (time != EventTime::NEVER).then(|| time.millis())
}

fn from_json(time: Option<i64>) -> EventTime {
    time.map_or(EventTime::NEVER, EventTime::from_millis)
}

impl SourceState {
    pub(crate) fn set_progress(&mut self, progress: Progress) {
        self.watermark = to_json(progress.watermark);
        self.horizon = to_json(progress.horizon);
        self.last = to_json(progress.last);
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            watermark: from_json(self.watermark),
            horizon: from_json(self.horizon),
            last: from_json(self.last),
        }
    }

    /// A door tells what some partitions came to.
    pub(crate) fn set_partition(&mut self, fact: &PartitionFact) {
        let place = self
            .partitions
            .partition_point(|state| state.partition < fact.partition);
        let there = self.partitions.get(place);
        if there.is_none_or(|state| state.partition != fact.partition) {
            let partition = fact.partition;
            let fresh = PartitionState {
                partition,
                ..PartitionState::default()
            };
            self.partitions.insert(place, fresh);
        }
        let state = &mut self.partitions[place];
        // A partition that gave nothing yet does not know where it starts.
        assert!(
            fact.next == 0 || fact.next >= state.next,
            "source `{}`: partition {} goes back from {} to {}",
            self.port,
            state.partition,
            state.next,
            fact.next
        );
        state.next = state.next.max(fact.next);
        state.largest = to_json(fact.clock.largest);
        state.floor = to_json(fact.clock.floor);
        state.state = match fact.stand {
            Stand::Joining => PartitionStand::Joining,
            Stand::Reading => PartitionStand::Reading,
            Stand::Idle => PartitionStand::Idle,
            Stand::Ended => PartitionStand::Ended,
        };
    }

    /// A record left with reason `idle`.
    pub(crate) fn leave(&mut self, record: &Left) {
        let Left {
            partition,
            offset,
            before,
        } = *record;
        let all = &mut self.partitions;
        let Some(state) = all.iter_mut().find(|state| state.partition == partition) else {
            return;
        };
        match state.left.last_mut() {
            // Where no record lies between the two, one range holds both.
            Some((_, end)) if *end == before => *end = offset + 1,
            _ => state.left.push((offset, offset + 1)),
        }
    }

    /// Partitions begin at `begins`: what left before that nobody will read again.
    pub(crate) fn forget_left(&mut self, begins: &BTreeMap<u32, u64>) {
        for state in &mut self.partitions {
            let Some(begin) = begins.get(&state.partition) else {
                continue;
            };
            let gone = state.left.partition_point(|(_, end)| end <= begin);
            state.left.drain(..gone);
            if let Some((first, _)) = state.left.first_mut() {
                *first = (*first).max(*begin);
            }
        }
    }

    pub(crate) fn facts(&self) -> Vec<PartitionFact> {
        let fact = |state: &PartitionState| PartitionFact {
            partition: state.partition,
            next: state.next,
            clock: PartitionClock {
                largest: from_json(state.largest),
                floor: from_json(state.floor),
            },
            stand: match state.state {
                PartitionStand::Joining => Stand::Joining,
                PartitionStand::Reading => Stand::Reading,
                PartitionStand::Idle => Stand::Idle,
                PartitionStand::Ended => Stand::Ended,
            },
        };
        self.partitions.iter().map(fact).collect()
    }
}

/// What every version can read.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Manifest {
    /// As it is written, and its checksum.
    ///
    /// # Errors
    /// None that is known of: every field has a form in JSON.
    pub(crate) fn to_bytes(&self) -> Result<(Vec<u8>, u32)> {
        let broken = |why| Error::operating("a manifest cannot be written").because(why);
        let mut bytes = sonic_rs::to_vec(self).map_err(|why| broken(why.to_string()))?;
        bytes.push(b'\n');
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(format!("crc32c {crc:08x}\n").as_bytes());
        Ok((bytes, crc))
    }

    /// Reads what [`Manifest::to_bytes`] wrote to `place`; `advice`: what to do if it is damaged.
    ///
    /// # Errors
    /// It is damaged, or of a newer format.
    pub(crate) fn read(bytes: &[u8], place: &str, advice: &str) -> Result<(Self, u32)> {
        let refuse = |why: &str| {
            let what = format!("manifest `{place}` {why}");
            Error::new(ErrorKind::State, what)
        };
        let damaged = || refuse(&format!("is damaged: its checksum is another; {advice}"));
        let body = bytes.len().checked_sub("crc32c 01234567\n".len());
        let (body, tail) = bytes.split_at(body.ok_or_else(damaged)?);
        let crc = crc32c::crc32c(body);
        if tail != format!("crc32c {crc:08x}\n").as_bytes() {
            return Err(damaged());
        }
        let broken = |why: sonic_rs::Error| refuse("cannot be read").because(why.to_string());
        let Format { format } = sonic_rs::from_slice(body).map_err(broken)?;
        if format > FORMAT {
            return Err(refuse(&format!(
                "has format {format}, and this version reads up to {FORMAT}: start a newer one"
            )));
        }
        Ok((sonic_rs::from_slice(body).map_err(broken)?, crc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::advice::LOST;

    fn manifest() -> Manifest {
        let mut source = SourceState {
            port: "bids".to_owned(),
            ..SourceState::default()
        };
        let clock = PartitionClock {
            largest: EventTime::from_millis(-5),
            floor: EventTime::NEVER,
        };
        for partition in [3, 1] {
            source.set_partition(&PartitionFact {
                partition,
                next: 17,
                clock,
                stand: Stand::Idle,
            });
        }
        Manifest {
            format: FORMAT,
            job: "a".to_owned(),
            checkpoint: 41,
            sources: vec![source],
            ..Manifest::default()
        }
    }

    #[test]
    fn it_comes_back_and_no_flipped_byte_goes_unnoticed() {
        let (bytes, crc) = manifest().to_bytes().unwrap();
        let (back, again) = Manifest::read(&bytes, "x", LOST).unwrap();
        assert_eq!((back, again), (manifest(), crc));
        let partitions: Vec<u32> = manifest().sources[0]
            .facts()
            .iter()
            .map(|fact| fact.partition)
            .collect();
        assert_eq!(partitions, [1, 3]);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let error = Manifest::read(&flipped, "x", LOST).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::State);
            }
        }
        for len in 0..bytes.len() {
            assert!(Manifest::read(&bytes[..len], "x", LOST).is_err(), "{len}");
        }
    }

    #[test]
    fn what_left_is_held_in_few_ranges_as_far_as_the_log_has_it() {
        let mut source = manifest().sources.remove(0);
        let left = |source: &SourceState| source.partitions[0].left.clone();
        // Between 20 and 22 lies a marker of a transaction, between 23 and 25 another record.
        for (offset, before) in [(19, 17), (20, 20), (22, 21), (25, 24), (30, 26), (31, 31)] {
            let partition = 1;
            source.leave(&Left {
                partition,
                offset,
                before,
            });
        }
        assert_eq!(left(&source), [(19, 23), (25, 32)]);
        for (begin, expected) in [
            (0, vec![(19, 23), (25, 32)]),
            (20, vec![(20, 23), (25, 32)]),
            (23, vec![(25, 32)]),
            (24, vec![(25, 32)]),
            (40, vec![]),
        ] {
            source.forget_left(&BTreeMap::from([(1, begin), (7, 1_000)]));
            assert_eq!(left(&source), expected);
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let newer = Manifest {
            format: FORMAT + 1,
            ..manifest()
        };
        let (bytes, _) = newer.to_bytes().unwrap();
        let error = Manifest::read(&bytes, "x", LOST).unwrap_err().to_string();
        assert_eq!(
            error,
            "manifest `x` has format 2, and this version reads up to 1: start a newer one"
        );
    }
}
