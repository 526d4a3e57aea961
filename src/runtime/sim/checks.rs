//! What has to hold whenever something became visible.

use std::path::Path;

use super::DIR;
use super::oracle::{Cut, Outputs, closes, expected};
use super::story::{LAST, Story};
use crate::runtime::progress_record::{ProgressRecord, SourceRecord};
use crate::state::lossy::LossyDisk;
use crate::state::manifest::LogPart;
use crate::state::store;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Checks {
    last: Option<ProgressRecord>,
    /// The logs that it names.
    logs: Vec<LogPart>,
    pub(super) commits: u64,
    /// Commits of everything, in logs of their own, where there were others.
    pub(super) full_saves: u64,
}

type Checked = Result<(), String>;

impl Checks {
    /// `visible` and the `progress` beside it, and what would be found on the disk if the power
    /// failed now.
    pub(super) fn look(
        &mut self,
        story: &Story,
        visible: Outputs,
        progress: Option<&[u8]>,
        disk: &LossyDisk,
    ) -> Checked {
        let Some(bytes) = progress else {
            return same(visible, Outputs::new());
        };
        let record = ProgressRecord::read(bytes, "progress").map_err(|why| why.to_string())?;
        let cut = cut(story, source(&record)?);
        if self.last.as_ref() != Some(&record) {
            follows(self.last.as_ref(), &record)?;
            let logs = is_there(&record, disk)?;
            agrees(story, &record, &cut)?;
            self.commits += 1;
            let last = self.last.as_ref().map(|last| last.generation);
            let goes_on = |log: &LogPart| self.logs.iter().any(|last| last.path == log.path);
            let anew = !self.logs.is_empty() && !logs.is_empty() && !logs.iter().any(goes_on);
            self.full_saves += u64::from(anew && last == Some(record.generation));
            (self.last, self.logs) = (Some(record), logs);
        }
        same(visible, expected(story, &cut))
    }

    /// How far the job has come, in words.
    pub(super) fn reached(&self, story: &Story) -> String {
        let record = self.last.as_ref();
        let cut = record.and_then(|record| Some(cut(story, source(record).ok()?)));
        format!("{cut:?}")
    }

    /// Whether the job has written everything.
    pub(super) fn is_done(&self, story: &Story) -> bool {
        let Some(record) = &self.last else {
            return false;
        };
        let Ok(source) = source(record) else {
            return false;
        };
        let all = (story.log.iter()).map(|records| records.len() as u64);
        let read = cut(story, source).next.into_iter().eq(all);
        let horizon = LAST - story.lag - story.allowed;
        read && if story.bounded {
            record.finished
        } else {
            record.horizon == Some(horizon)
        }
    }
}

fn source(record: &ProgressRecord) -> Result<&SourceRecord, String> {
    record.sources.first().ok_or_else(|| "no source".to_owned())
}

fn cut(story: &Story, source: &SourceRecord) -> Cut {
    let partitions = 0..u32::try_from(story.log.len()).expect("few");
    let of = |number| {
        source
            .partitions
            .iter()
            .find(|state| state.partition == number)
    };
    let (next, left) = partitions
        .map(|number| of(number).map_or((0, Vec::new()), |it| (it.next, it.left.clone())))
        .unzip();
    Cut {
        next,
        left,
        horizon: source.horizon.unwrap_or(i64::MIN),
    }
}

/// Progress only goes forward.
fn follows(before: Option<&ProgressRecord>, now: &ProgressRecord) -> Checked {
    let Some(before) = before else {
        return must(now.checkpoint == 0, || format!("begins with {now:?}"));
    };
    let forward = before.lineage == now.lineage
        && before.checkpoint + 1 == now.checkpoint
        && before.generation <= now.generation
        && before.watermark <= now.watermark
        && before.horizon <= now.horizon
        && !before.finished;
    let place = |record: &ProgressRecord, number| {
        let mut states = source(record).into_iter().flat_map(|it| &it.partitions);
        states.find(|it| it.partition == number).map(|it| it.next)
    };
    let back = |number: &u32| place(before, *number) > place(now, *number);
    must(forward && !(0..8).any(|number| back(&number)), || {
        format!("progress goes from {before:?} to {now:?}")
    })
}

/// What `record` names is on the disk, whatever happens to that. Returns the logs.
fn is_there(record: &ProgressRecord, disk: &LossyDisk) -> Result<Vec<LogPart>, String> {
    let found = disk.crash(record.checkpoint);
    let dir = Path::new(DIR);
    let about = |why| format!("checkpoint {} is not durable: {why}", record.checkpoint);
    let read = store::read_manifest(&found, dir, &record.manifest);
    let (manifest, crc) = read.map_err(about)?;
    must(record.crc == format!("{crc:08x}"), || {
        format!(
            "`{}` is another manifest than was committed",
            record.manifest
        )
    })?;
    for log in &manifest.logs {
        store::read_log(&found, dir, log).map_err(about)?;
    }
    let same = manifest.checkpoint == record.checkpoint && manifest.lineage == record.lineage;
    must(same, || format!("{manifest:?} is not of {record:?}"))?;
    Ok(manifest.logs)
}

/// What is known of event time agrees with how far the log was read.
fn agrees(story: &Story, record: &ProgressRecord, cut: &Cut) -> Checked {
    let ends = [Some(i64::MAX), None].contains(&record.watermark);
    let due = record.watermark.map(|watermark| watermark - story.allowed);
    must(ends || record.horizon == due, || {
        format!("watermark and horizon do not agree: {record:?}")
    })?;
    let largest = |(log, next): (&Vec<Option<super::story::Item>>, &u64)| {
        let read = &log[..usize::try_from(*next).expect("a small log")];
        read.iter()
            .flatten()
            .map(|item| item.time - story.lag)
            .max()
    };
    let smallest = story.log.iter().zip(&cut.next).map(largest).min().flatten();
    let exact = story.idle.is_none() && !story.joins && !story.bounded;
    must(!exact || record.watermark == smallest, || {
        format!("the watermark should be {smallest:?}: {record:?}")
    })?;
    for (log, left) in story.log.iter().zip(&cut.left) {
        let offsets = left.iter().flat_map(|(first, end)| *first..*end);
        for offset in offsets {
            let item = &log[usize::try_from(offset).expect("a small log")];
            let closed = item
                .as_ref()
                .is_some_and(|it| closes(story, it) <= cut.horizon);
            must(closed && !exact, || format!("{item:?} left as idle"))?;
        }
    }
    Ok(())
}

/// Nothing is missing, nothing is there twice, nothing is different.
fn same(mut visible: Outputs, mut expected: Outputs) -> Checked {
    for topic in ["late", "dead"] {
        if let Some(values) = visible.get_mut(&(topic, 0)) {
            values.sort();
        }
    }
    visible.retain(|_, values| !values.is_empty());
    expected.retain(|_, values| !values.is_empty());
    if visible == expected {
        return Ok(());
    }
    let none = Vec::new();
    let places = visible.keys().chain(expected.keys());
    let differ = |place: &&_| visible.get(*place) != expected.get(*place);
    let place = places
        .into_iter()
        .find(differ)
        .expect("they differ somewhere");
    let of = |all: &Outputs| all.get(place).unwrap_or(&none).clone();
    let (visible, expected) = (of(&visible), of(&expected));
    let from = visible
        .iter()
        .zip(&expected)
        .take_while(|(a, b)| a == b)
        .count();
    let (topic, key) = place;
    Err(format!(
        "`{topic}`, key {key}: {} records, expected {}; the first {from} agree, then {:?}, \
         expected {:?}",
        visible.len(),
        expected.len(),
        visible.get(from),
        expected.get(from)
    ))
}

fn must(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}
