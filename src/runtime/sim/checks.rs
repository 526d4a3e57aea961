//! What has to hold whenever something became visible.

use std::ops::Range;
use std::path::Path;

use super::DIR;
use super::oracle::{Cut, Outputs, closes, expected};
use super::story::{LAST, SOURCES, Story};
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
        let cut = cut(story, &record)?;
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
        let cut = record.and_then(|record| cut(story, record).ok());
        format!("{cut:?}")
    }

    /// Whether the job has written everything.
    pub(super) fn is_done(&self, story: &Story) -> bool {
        let Some(record) = &self.last else {
            return false;
        };
        let Ok(cut) = cut(story, record) else {
            return false;
        };
        let all = (story.log.iter()).map(|records| records.len() as u64);
        let read = cut.next.into_iter().eq(all);
        let horizon = LAST - story.lag - story.allowed;
        read && if story.bounded {
            record.finished
        } else {
            cut.horizons.iter().all(|reached| *reached == horizon)
        }
    }
}

fn cut(story: &Story, record: &ProgressRecord) -> Result<Cut, String> {
    let ports = record.sources.iter().map(|source| source.port.as_str());
    let sources = story.sources();
    must(ports.eq(SOURCES.into_iter().take(sources.len())), || {
        format!("other sources than the job has: {record:?}")
    })?;
    let partitions = record
        .sources
        .iter()
        .zip(sources)
        .flat_map(|(source, all)| {
            let of = |nth| source.partitions.iter().find(|it| it.partition == nth);
            (0u32..).take(all.len()).map(of)
        });
    let (next, left) = partitions
        .map(|state| state.map_or((0, Vec::new()), |it| (it.next, it.left.clone())))
        .unzip();
    let horizons = record.sources.iter();
    let horizons = horizons.map(|source| source.horizon.unwrap_or(i64::MIN));
    Ok(Cut {
        next,
        left,
        horizons: horizons.collect(),
    })
}

/// Progress only goes forward.
fn follows(before: Option<&ProgressRecord>, now: &ProgressRecord) -> Checked {
    let Some(before) = before else {
        return must(now.checkpoint == 0, || format!("begins with {now:?}"));
    };
    let forward = before.lineage == now.lineage
        && before.checkpoint + 1 == now.checkpoint
        && before.generation <= now.generation
        && !before.finished
        && before.sources.len() == now.sources.len();
    let mut sources = before.sources.iter().zip(&now.sources);
    must(forward && !sources.any(goes_back), || {
        format!("progress goes from {before:?} to {now:?}")
    })
}

fn goes_back((before, now): (&SourceRecord, &SourceRecord)) -> bool {
    let place = |record: &SourceRecord, number| {
        let mut states = record.partitions.iter();
        states.find(|it| it.partition == number).map(|it| it.next)
    };
    before.watermark > now.watermark
        || before.horizon > now.horizon
        || (0..8).any(|number| place(before, number) > place(now, number))
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
    let sources = &record.sources;
    let least = (
        sources.iter().map(|source| source.watermark).min(),
        sources.iter().map(|source| source.horizon).min(),
    );
    must(
        least == (Some(record.watermark), Some(record.horizon)),
        || format!("not the smallest over all sources: {record:?}"),
    )?;
    for (nth, (source, partitions)) in sources.iter().zip(story.sources()).enumerate() {
        agrees_in(story, source, partitions, cut, cut.horizons[nth])?;
    }
    Ok(())
}

fn agrees_in(
    story: &Story,
    source: &SourceRecord,
    partitions: Range<usize>,
    cut: &Cut,
    horizon: i64,
) -> Checked {
    let ends = [Some(i64::MAX), None].contains(&source.watermark);
    let due = source.watermark.map(|watermark| watermark - story.allowed);
    must(ends || source.horizon == due, || {
        format!("watermark and horizon do not agree: {source:?}")
    })?;
    let (logs, next) = (
        &story.log[partitions.clone()],
        &cut.next[partitions.clone()],
    );
    let largest = |(log, next): (&Vec<Option<super::story::Item>>, &u64)| {
        let read = &log[..usize::try_from(*next).expect("a small log")];
        read.iter()
            .flatten()
            .map(|item| item.time - story.lag)
            .max()
    };
    let smallest = logs.iter().zip(next).map(largest).min().flatten();
    let exact = story.idle.is_none() && !story.joins && !story.bounded;
    must(!exact || source.watermark == smallest, || {
        format!("the watermark should be {smallest:?}: {source:?}")
    })?;
    for (log, left) in logs.iter().zip(&cut.left[partitions]) {
        let offsets = left.iter().flat_map(|(first, end)| *first..*end);
        for offset in offsets {
            let item = &log[usize::try_from(offset).expect("a small log")];
            let closed = item.as_ref().is_some_and(|it| closes(story, it) <= horizon);
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
