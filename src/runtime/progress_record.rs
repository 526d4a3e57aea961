//! The record that commits a checkpoint: how far the job has come, and which manifest says the
//! rest.

use serde::{Deserialize, Serialize};

use super::checkpointer::smallest;
use crate::connectors::TopicEnds;
use crate::error::{Error, ErrorKind, Result};
use crate::state::OutputState;
use crate::state::manifest::{FORMAT, Manifest, PartitionState};
use crate::state::store::Named;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgressRecord {
    pub(crate) format: u32,
    /// The job's id, and the name of its description.
    pub(crate) job: String,
    pub(crate) name: String,
    pub(crate) lineage: String,
    pub(crate) checkpoint: u64,
    pub(crate) generation: u64,
    pub(crate) manifest: String,
    /// The manifest's checksum, in hexadecimal digits.
    pub(crate) crc: String,
    pub(crate) finished: bool,
    /// The smallest over all sources.
    pub(crate) watermark: Option<i64>,
    pub(crate) horizon: Option<i64>,
    pub(crate) sources: Vec<SourceRecord>,
    /// Files of results: a state that is made again does not tell of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) outputs: Vec<OutputState>,
    /// Where the results end that are committed with it, and all before them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) written: Vec<TopicEnds>,
}

/// How far a source was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceRecord {
    pub(crate) port: String,
    pub(crate) place: String,
    pub(crate) identity: String,
    pub(crate) watermark: Option<i64>,
    pub(crate) horizon: Option<i64>,
    pub(crate) partitions: Vec<PartitionState>,
}

/// What every version can read.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl ProgressRecord {
    pub(crate) fn of(manifest: &Manifest, named: &Named, written: Vec<TopicEnds>) -> Self {
        let sources = manifest.sources.iter().map(|source| SourceRecord {
            port: source.port.clone(),
            place: source.place.clone(),
            identity: source.identity.clone(),
            watermark: source.watermark,
            horizon: source.horizon,
            partitions: source.partitions.clone(),
        });
        Self {
            format: FORMAT,
            job: manifest.job.clone(),
            name: manifest.name.clone(),
            lineage: manifest.lineage.clone(),
            checkpoint: manifest.checkpoint,
            generation: manifest.generation,
            manifest: named.manifest.clone(),
            crc: format!("{:08x}", named.crc),
            finished: manifest.finished,
            watermark: smallest(manifest.sources.iter().map(|source| source.watermark)),
            horizon: smallest(manifest.sources.iter().map(|source| source.horizon)),
            sources: sources.collect(),
            outputs: manifest.outputs.clone(),
            written,
        }
    }

    /// As it is written.
    ///
    /// # Errors
    /// None that is known of: every field has a form in JSON.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let broken = |why: sonic_rs::Error| Error::operating(why.to_string());
        sonic_rs::to_vec(self).map_err(broken)
    }

    /// Reads what was committed at `place`.
    ///
    /// # Errors
    /// It is of a newer format, or none.
    pub(crate) fn read(bytes: &[u8], place: &str) -> Result<Self> {
        let refuse = |why: String| Error::new(ErrorKind::State, format!("{place}: {why}"));
        let broken =
            |why: sonic_rs::Error| refuse(format!("its last record is no progress: {why}"));
        let Format { format } = sonic_rs::from_slice(bytes).map_err(broken)?;
        if format > FORMAT {
            return Err(refuse(format!(
                "its last record has format {format}, and this version reads up to {FORMAT}: start \
                 a newer one"
            )));
        }
        sonic_rs::from_slice(bytes).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::PartitionEnd;
    use crate::state::manifest::{PartitionStand, SourceState};
    use crate::state::outputs::OutputFile;

    /// As format 1 has it. This may never change: when the format gets its next number, this stays
    /// what is read, and what is written is added.
    const FORMAT_1: &str = concat!(
        r#"{"format":1,"job":"bids-7","name":"bid_stats","lineage":"19a8c1f3b2e-4d2","#,
        r#""checkpoint":41,"generation":3,"#,
        r#""manifest":"gen=00000003/checkpoint-0000000041.json","crc":"00c0ffee","#,
        r#""finished":false,"watermark":-5,"horizon":null,"sources":[{"port":"bids","#,
        r#""place":"kafka:bids","identity":"R-_y8kcdTYuqTSKMb0d6cg","watermark":-5,"#,
        r#""horizon":null,"partitions":[{"partition":3,"first":7,"next":17,"#,
        r#""left":[[9,11]],"end":null,"largest":12,"floor":-7,"state":"idle"}]}]}"#,
    );

    fn record() -> ProgressRecord {
        let partition = PartitionState {
            partition: 3,
            first: 7,
            next: 17,
            left: vec![(9, 11)],
            end: None,
            largest: Some(12),
            floor: Some(-7),
            state: PartitionStand::Idle,
        };
        let source = SourceState {
            port: "bids".to_owned(),
            place: "kafka:bids".to_owned(),
            identity: "R-_y8kcdTYuqTSKMb0d6cg".to_owned(),
            watermark: Some(-5),
            partitions: vec![partition],
            ..SourceState::default()
        };
        let manifest = Manifest {
            job: "bids-7".to_owned(),
            name: "bid_stats".to_owned(),
            lineage: "19a8c1f3b2e-4d2".to_owned(),
            checkpoint: 41,
            generation: 3,
            sources: vec![source],
            ..Manifest::default()
        };
        let named = Named {
            manifest: "gen=00000003/checkpoint-0000000041.json".to_owned(),
            crc: 0x00c0_ffee,
        };
        ProgressRecord::of(&manifest, &named, Vec::new())
    }

    #[test]
    fn it_says_where_results_end_as_far_as_that_is_known() {
        let end = |topic: &str, partition, end| PartitionEnd {
            topic: topic.to_owned(),
            partition,
            end,
        };
        let mut all = Vec::new();
        TopicEnds::merge(
            &mut all,
            vec![
                end("stats", 0, Some(7)),
                end("stats", 2, Some(3)),
                end("stats", 3, Some(5)),
            ],
        );
        TopicEnds::merge(
            &mut all,
            vec![
                end("stats", 1, Some(2)),
                // What was known is too low now.
                end("stats", 3, None),
                end("late", 0, Some(1)),
            ],
        );
        let mut record = record();
        record.written = all;
        let told =
            r#","written":[{"topic":"stats","ends":[7,2,3,null]},{"topic":"late","ends":[1]}]}"#;
        let bytes = String::from_utf8(record.to_bytes().unwrap()).unwrap();
        let before = FORMAT_1.strip_suffix('}').unwrap();
        assert_eq!(bytes, format!("{before}{told}"));
        assert_eq!(
            ProgressRecord::read(bytes.as_bytes(), "topic").unwrap(),
            record
        );
    }

    #[test]
    fn files_of_results_are_written_and_read_as_they_were() {
        let file = |nth: u64, done| OutputFile {
            path: format!("/out/part-{nth}"),
            len: 7 * nth,
            crc: 9,
            done,
        };
        let outputs = OutputState {
            port: "results".to_owned(),
            place: "/out".to_owned(),
            next: 3,
            files: vec![file(1, true), file(2, false)],
        };
        let record = ProgressRecord {
            outputs: vec![outputs],
            ..record()
        };
        let before = FORMAT_1.strip_suffix('}').unwrap();
        let told = concat!(
            r#","outputs":[{"port":"results","place":"/out","next":3,"files":["#,
            r#"{"path":"/out/part-1","len":7,"crc":9,"done":true},"#,
            r#"{"path":"/out/part-2","len":14,"crc":9,"done":false}]}]}"#,
        );
        let format_1 = format!("{before}{told}");
        let bytes = record.to_bytes().unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), format_1);
        let back = ProgressRecord::read(format_1.as_bytes(), "topic").unwrap();
        assert_eq!(back, record);
    }

    #[test]
    fn it_is_written_and_read_as_it_was() {
        let bytes = record().to_bytes().unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), FORMAT_1);
        let back = ProgressRecord::read(FORMAT_1.as_bytes(), "topic").unwrap();
        assert_eq!(back, record());
    }

    #[test]
    fn a_newer_one_and_what_is_none_are_refused() {
        let newer = FORMAT_1.replace("\"format\":1", "\"format\":2");
        for (bytes, says) in [(&*newer, "has format 2"), ("?", "is no progress")] {
            let error = ProgressRecord::read(bytes.as_bytes(), "topic").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
