//! The record that commits a checkpoint: how far the job has come, and which manifest says the
//! rest.

use serde::{Deserialize, Serialize};

use super::checkpointer::smallest;
use crate::error::{Error, ErrorKind, Result};
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
    pub(crate) fn of(manifest: &Manifest, named: &Named) -> Self {
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
