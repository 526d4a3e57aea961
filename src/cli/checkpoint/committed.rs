//! What of a state directory is committed, as the progress topic of its job says.

use std::path::Path;

use serde::Serialize;

use super::{LOOKS, read};
use crate::cli::cluster::Cluster;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::ProgressRecord;
use crate::state::advice::LOST;
use crate::state::disk::RealDisk;
use crate::state::manifest::Manifest;
use crate::state::store;

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

/// The manifests in `dir`, the newest last, and what `cluster` says of the job that they are of;
/// `None`: nobody said where that is, or there is no manifest that says whose it is.
///
/// # Errors
/// It cannot be asked; it is of another run, or names what is not there.
pub(super) fn ask(cluster: &Cluster, dir: &Path) -> Result<(Vec<String>, Option<Committed>)> {
    match cluster.bootstrap {
        Some(_) => compare(dir, |topic| last(cluster, topic)),
        None => Ok((store::manifests(&RealDisk, dir)?, None)),
    }
}

/// As [`ask`]; `last` reads the last record of a topic.
fn compare(
    dir: &Path,
    mut last: impl FnMut(&str) -> Result<Option<Vec<u8>>>,
) -> Result<(Vec<String>, Option<Committed>)> {
    let mut before = None;
    for _ in 0..LOOKS {
        let names = store::manifests(&RealDisk, dir)?;
        let Some(newest) = names.iter().rev().find_map(|name| read(dir, name).ok()) else {
            if store::manifests(&RealDisk, dir)? == names {
                return Ok((names, None));
            }
            continue; // a job has deleted what was listed
        };
        let topic = format!("{}.progress", newest.job);
        let place = format!("kafka:{topic}");
        let record = last(&topic)?;
        let record = record
            .map(|record| ProgressRecord::read(&record, &place))
            .transpose()?;
        // After the record, for what it names was there before it.
        let names = store::manifests(&RealDisk, dir)?;
        let is_there = |record: &ProgressRecord| names.contains(&record.manifest);
        if record.as_ref().is_none_or(is_there) || record == before {
            let known = judge(dir, &names, &newest, Committed { place, record })?;
            return Ok((names, Some(known)));
        }
        // A job that has committed since has deleted it.
        before = record;
    }
    let what = format!(
        "state directory `{}` changes faster than it can be looked at",
        dir.display()
    );
    Err(Error::operating(what))
}

/// Whether what is `known` is of the run that made `newest`, and what counts is among `names`.
fn judge(dir: &Path, names: &[String], newest: &Manifest, known: Committed) -> Result<Committed> {
    let refuse = |what: String| Err(Error::new(ErrorKind::State, what));
    let place = &known.place;
    match &known.record {
        Some(record) if record.lineage != newest.lineage => {
            let dir = dir.display();
            refuse(format!(
                "state directory `{dir}` is of another run than {place}: it is another cluster, or \
                 the job was begun again with another --state-dir"
            ))
        }
        // Checkpoint 0 may be that of a first start that failed.
        None if newest.checkpoint > 0 => {
            let (dir, number) = (dir.display(), newest.checkpoint);
            refuse(format!(
                "state directory `{dir}` has checkpoint {number} of job `{}`, and {place} has no \
                 progress: it is another cluster, or the topic was deleted; or the job has no \
                 Kafka sink, or ran at-least-once, and its newest checkpoint is committed: ask \
                 without --bootstrap",
                newest.job
            ))
        }
        Some(record) if !names.contains(&record.manifest) => {
            let missing = dir.join(&record.manifest);
            let missing = missing.display();
            refuse(format!(
                "manifest `{missing}` is missing, which {place} says is committed; {LOST}"
            ))
        }
        _ => Ok(known),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::state::disk::Disk;
    use crate::state::manifest::FORMAT;
    use crate::state::store::Store;

    /// A job that commits one checkpoint after the other.
    struct Job {
        store: Store,
        manifest: Manifest,
        record: Vec<u8>,
    }

    impl Job {
        fn begin(dir: &Path) -> Self {
            let mut begun = Self::prepare(dir);
            begun.commit();
            begun
        }

        /// It has not written anything yet.
        fn prepare(dir: &Path) -> Self {
            let disk: Arc<dyn Disk> = Arc::new(RealDisk);
            Self {
                store: Store::begin(&disk, dir, 0, 0, 1).unwrap(),
                manifest: Manifest {
                    format: FORMAT,
                    job: "job".to_owned(),
                    lineage: "one".to_owned(),
                    ..Manifest::default()
                },
                record: Vec::new(),
            }
        }

        fn commit(&mut self) {
            self.manifest.checkpoint += 1;
            let named = self.store.prepare(&mut self.manifest).unwrap();
            let record = ProgressRecord::of(&self.manifest, &named, Vec::new());
            self.record = record.to_bytes().unwrap();
            self.store.clean(&self.manifest).unwrap();
        }
    }

    #[test]
    fn what_a_job_commits_meanwhile_is_found() {
        for (before, after) in [(0, 0), (1, 0), (0, 1), (2, 3)] {
            let folder = tempfile::tempdir().unwrap();
            let (dir, mut job, mut looks) = (folder.path(), Job::begin(folder.path()), 0);
            let found = compare(dir, |topic| {
                assert_eq!(topic, "job.progress");
                looks += 1;
                let commits = |number| if looks == 1 { 0..number } else { 0..0 };
                commits(before).for_each(|_| job.commit());
                let record = job.record.clone();
                commits(after).for_each(|_| job.commit());
                Ok(Some(record))
            });
            let (names, known) = found.unwrap();
            let name = known.as_ref().unwrap().name().unwrap();
            assert!(names.iter().any(|it| it == name), "{name} in {names:?}");
            assert_eq!(looks, if after == 0 { 1 } else { 2 });
        }
    }

    #[test]
    fn a_job_that_commits_elsewhere_is_not_said_to_be_prepared() {
        let folder = tempfile::tempdir().unwrap();
        Job::begin(folder.path());
        let error = compare(folder.path(), |_| Ok(None))
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        let sentence = format!(
            "state directory `{}` has checkpoint 1 of job `job`, and kafka:job.progress has no \
             progress: it is another cluster, or the topic was deleted; or the job has no Kafka \
             sink, or ran at-least-once, and its newest checkpoint is committed: ask without \
             --bootstrap",
            folder.path().display()
        );
        assert_eq!(error.to_string(), sentence);
        // A first start may have been killed before it committed anything.
        let first = tempfile::tempdir().unwrap();
        let mut before = Job::prepare(first.path());
        let prepared = before.store.prepare(&mut before.manifest).unwrap();
        let (names, known) = compare(first.path(), |_| Ok(None)).unwrap();
        assert_eq!(names, std::slice::from_ref(&prepared.manifest));
        let standing = known
            .unwrap()
            .standing(&prepared.manifest, &before.manifest);
        assert_eq!(standing, Standing::Prepared);
    }

    #[test]
    fn what_is_missing_while_nothing_moves_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, mut job) = (folder.path(), Job::begin(folder.path()));
        let committed = job.record.clone();
        job.commit();
        let mut looks = 0;
        let found = compare(dir, |_| {
            looks += 1;
            Ok(Some(committed.clone()))
        });
        let error = found.map(|_| ()).unwrap_err();
        assert_eq!((error.kind(), looks), (ErrorKind::State, 2));
        let says = "checkpoint-0000000001.json` is missing, which kafka:job.progress says";
        assert!(error.to_string().contains(says), "{error}");
        // One that is never seen at rest is not called damaged.
        let found = compare(dir, |_| {
            let record = job.record.clone();
            job.commit();
            Ok(Some(record))
        });
        let error = found.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Operating);
        // Without any manifest nobody is asked.
        fs::remove_dir_all(dir).unwrap();
        let found = compare(dir, |_| panic!("there is nothing to ask for"));
        assert!(matches!(found.unwrap(), (names, None) if names.is_empty()));
    }
}
