//! What of a state directory is committed, as the progress topic of its job says.

use std::path::Path;

use serde::Serialize;

use super::read;
use crate::cli::cluster::Cluster;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::ProgressRecord;
use crate::state::advice::LOST;
use crate::state::manifest::Manifest;

/// What was committed last.
pub(super) struct Committed {
    place: String,
    record: Option<ProgressRecord>,
}

/// What a checkpoint is to a job that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// The next run goes on behind it.
    Committed,
    /// Its results are not visible, and may never be.
    Prepared,
    /// A later one is committed.
    Older,
}

impl Standing {
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Prepared => "prepared",
            Self::Older => "older",
        }
    }
}

impl Committed {
    pub(super) fn standing(&self, name: &str, manifest: &Manifest) -> Standing {
        match &self.record {
            Some(record) if record.manifest == name => Standing::Committed,
            Some(record) if manifest.checkpoint <= record.checkpoint => Standing::Older,
            _ => Standing::Prepared,
        }
    }

    /// The manifest that counts.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn name(&self) -> Result<&str> {
        let record = self.record.as_ref().ok_or_else(|| {
            let what = format!("{} has no progress: no checkpoint is committed", self.place);
            Error::new(ErrorKind::State, what)
        })?;
        Ok(&record.manifest)
    }
}

/// What `cluster` says of the job whose manifests `names` are; `None`: nobody said where it is, or
/// there is no manifest that says whose it is.
///
/// # Errors
/// It cannot be asked; it is of another run, or names what is not there.
pub(super) fn ask(cluster: &Cluster, dir: &Path, names: &[String]) -> Result<Option<Committed>> {
    if cluster.bootstrap.is_none() {
        return Ok(None);
    }
    let mut newest = names.iter().rev();
    let Some(newest) = newest.find_map(|name| read(dir, name).ok()) else {
        return Ok(None);
    };
    let topic = format!("{}.progress", newest.job);
    let place = format!("kafka:{topic}");
    let record = last(cluster, &topic)?;
    let record = record
        .map(|record| ProgressRecord::read(&record, &place))
        .transpose()?;
    let refuse = |what: String| Err(Error::new(ErrorKind::State, what));
    match &record {
        Some(record) if record.lineage != newest.lineage => {
            let dir = dir.display();
            refuse(format!(
                "state directory `{dir}` is of another run than {place}: it is another cluster, or \
                 the job was begun again with another --state-dir"
            ))
        }
        Some(record) if !names.contains(&record.manifest) => {
            let missing = dir.join(&record.manifest);
            let missing = missing.display();
            refuse(format!(
                "manifest `{missing}` is missing, which {place} says is committed; {LOST}"
            ))
        }
        _ => Ok(Some(Committed { place, record })),
    }
}

#[cfg(feature = "kafka")]
fn last(cluster: &Cluster, topic: &str) -> Result<Option<Vec<u8>>> {
    match cluster.options("anabranch-checkpoint")? {
        Some(options) => crate::connectors::read_progress(topic, &options.into()),
        None => Ok(None),
    }
}

#[cfg(not(feature = "kafka"))]
fn last(_: &Cluster, _: &str) -> Result<Option<Vec<u8>>> {
    Err(Error::usage("this program was built without Kafka"))
}
