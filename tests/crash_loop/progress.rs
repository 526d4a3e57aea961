//! The progress record: what the job says it has committed, and what must hold from one to the
//! next.

use serde_json::Value;

use super::expected::{ALWAYS, Cut, Expected, NEVER};
use super::log::Log;
use crate::oracle::Job;

/// The key of the progress record in its topic.
pub(crate) const PROGRESS_KEY: &str = "progress";

/// Names that a round's records must carry.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) job: String,
    /// The source's port and topic.
    pub(crate) port: String,
    pub(crate) source: String,
    /// Results, late, dead.
    pub(crate) outputs: [String; 3],
}

impl Names {
    /// The names of the job that reads the log.
    pub(crate) fn of(log: &Log, outputs: [String; 3]) -> Self {
        Self {
            job: job_name(log.params.job).to_owned(),
            port: log.params.source().to_owned(),
            source: log.topic.clone(),
            outputs,
        }
    }
}

pub(crate) fn job_name(job: Job) -> &'static str {
    match job {
        Job::BidStats => "bid_stats",
        Job::UserActivity => "user_activity",
    }
}

/// One record of the progress topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) checkpoint: u64,
    pub(crate) generation: u64,
    pub(crate) finished: bool,
    pub(crate) cut: Cut,
    pub(crate) topic_id: String,
    /// The end of each partition of each output, as far as there is anything.
    pub(crate) ends: [Vec<Option<i64>>; 3],
    watermark: Option<i64>,
    horizon: Option<i64>,
    largest: Vec<Option<i64>>,
}

fn number(object: &Value, name: &str) -> Result<i64, String> {
    let value = object.get(name).and_then(Value::as_i64);
    value.ok_or_else(|| format!("`{name}` is no integer in {object}"))
}

fn count(object: &Value, name: &str) -> Result<u64, String> {
    u64::try_from(number(object, name)?).map_err(|_| format!("`{name}` is negative"))
}

/// An integer, or none for null and where it is left out.
fn maybe(object: &Value, name: &str) -> Result<Option<i64>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => number(object, name).map(Some),
    }
}

fn text<'a>(object: &'a Value, name: &str) -> Result<&'a str, String> {
    let value = object.get(name).and_then(Value::as_str);
    value.ok_or_else(|| format!("`{name}` is no text in {object}"))
}

fn list<'a>(object: &'a Value, name: &str) -> Result<&'a [Value], String> {
    let value = object.get(name).and_then(Value::as_array);
    value
        .map(Vec::as_slice)
        .ok_or_else(|| format!("`{name}` is no list in {object}"))
}

fn same(what: &str, found: &str, wanted: &str) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{what} is `{found}`, not `{wanted}`"))
}

impl Progress {
    /// Reads a record, and checks what it says of itself.
    ///
    /// # Errors
    /// What is not as the format has it.
    pub(crate) fn parse(value: &[u8], names: &Names, partitions: usize) -> Result<Self, String> {
        let record: Value = serde_json::from_slice(value).map_err(|why| why.to_string())?;
        if number(&record, "format")? != 1 {
            return Err(format!("an unknown format: {record}"));
        }
        same("name", text(&record, "name")?, &names.job)?;
        if text(&record, "manifest")?.is_empty() {
            return Err("no manifest is named".to_owned());
        }
        let crc = text(&record, "crc")?;
        if crc.len() != 8 || !crc.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("`{crc}` is no checksum"));
        }
        let finished = record.get("finished").and_then(Value::as_bool);
        let [source] = list(&record, "sources")? else {
            return Err(format!("not one source: {record}"));
        };
        same("port", text(source, "port")?, &names.port)?;
        let place = format!("kafka:{}", names.source);
        same("place", text(source, "place")?, &place)?;
        let (cut, largest) = cut(list(source, "partitions")?, partitions)?;
        Ok(Self {
            checkpoint: count(&record, "checkpoint")?,
            generation: count(&record, "generation")?,
            finished: finished.ok_or("`finished` is no boolean")?,
            cut,
            topic_id: text(source, "identity")?.to_owned(),
            ends: ends(&record, names)?,
            watermark: maybe(&record, "watermark")?,
            horizon: maybe(&record, "horizon")?,
            largest,
        })
    }

    /// Checks it against the log.
    ///
    /// # Errors
    /// What the log says otherwise.
    pub(crate) fn agrees(&self, expected: &Expected) -> Result<(), String> {
        let end = expected.end();
        for (partition, (next, largest)) in self.cut.next.iter().zip(&self.largest).enumerate() {
            if *next > end.next[partition] {
                return Err(format!("partition {partition}: {next} is beyond the log"));
            }
            let wanted = expected.largest(partition, *next);
            if wanted != *largest {
                return Err(format!(
                    "partition {partition}: the largest time before {next} is {wanted:?}, not \
                     {largest:?}"
                ));
            }
        }
        let at_end = self.cut.next.iter().zip(&end.next);
        for ((next, end), ended) in at_end.zip(&self.cut.ended) {
            if *ended && next != end {
                return Err(format!(
                    "a partition has ended at {next}, which is not {end}"
                ));
            }
        }
        if self.finished && self.cut != end {
            return Err(format!("finished at {:?}, which is not the end", self.cut));
        }
        let (watermark, horizon) = (expected.watermark(&self.cut), expected.horizon(&self.cut));
        for (what, found, wanted) in [
            ("watermark", self.watermark, watermark),
            ("horizon", self.horizon, horizon),
        ] {
            // Neither end of time is a number of milliseconds.
            let fits = match wanted {
                NEVER | ALWAYS => found.is_none_or(|found| found == wanted),
                _ => found == Some(wanted),
            };
            if !fits {
                return Err(format!("the {what} is {found:?}, not {wanted}"));
            }
        }
        Ok(())
    }

    /// Checks it against the record before it.
    ///
    /// # Errors
    /// What did not rise.
    pub(crate) fn follows(&self, before: &Self) -> Result<(), String> {
        let (old, new) = (before.checkpoint, self.checkpoint);
        if new <= old {
            return Err(format!("checkpoint {new} comes after {old}"));
        }
        let (old, new) = (before.generation, self.generation);
        if new < old {
            return Err(format!("generation {new} comes after {old}"));
        }
        if before.finished {
            return Err("the job went on after it was finished".to_owned());
        }
        same("the source's id", &self.topic_id, &before.topic_id)?;
        for (partition, (old, new)) in before.cut.next.iter().zip(&self.cut.next).enumerate() {
            if new < old {
                return Err(format!(
                    "partition {partition} goes back from {old} to {new}"
                ));
            }
        }
        if before
            .cut
            .ended
            .iter()
            .zip(&self.cut.ended)
            .any(|(old, new)| *old && !new)
        {
            return Err("a partition that had ended goes on".to_owned());
        }
        for (old, new) in before
            .ends
            .iter()
            .zip(&self.ends)
            .flat_map(|(old, new)| old.iter().zip(new))
        {
            if new.is_some_and(|new| old.is_some_and(|old| new < old)) {
                return Err(format!("an output's end goes back from {old:?} to {new:?}"));
            }
        }
        Ok(())
    }
}

/// The cut, and the largest event time of each partition.
fn cut(parts: &[Value], partitions: usize) -> Result<(Cut, Vec<Option<i64>>), String> {
    let mut cut = Cut {
        next: vec![-1; partitions],
        ended: vec![false; partitions],
    };
    let mut largest = vec![None; partitions];
    for part in parts {
        let number = usize::try_from(count(part, "partition")?).map_err(|why| why.to_string())?;
        let Some(next) = cut.next.get_mut(number).filter(|next| **next == -1) else {
            return Err(format!("partition {number} is one too many"));
        };
        *next = number_of(part)?;
        if !list(part, "left")?.is_empty() {
            return Err(format!("records left as idle, which is off: {part}"));
        }
        largest[number] = maybe(part, "largest")?;
        cut.ended[number] = match text(part, "state")? {
            "reading" => false,
            "ended" => true,
            other => return Err(format!("partition {number} is {other}")),
        };
    }
    if cut.next.contains(&-1) {
        return Err(format!("partitions are missing: {:?}", cut.next));
    }
    Ok((cut, largest))
}

fn number_of(part: &Value) -> Result<i64, String> {
    let next = number(part, "next")?;
    if next < 0 {
        return Err(format!("`next` is {next}"));
    }
    Ok(next)
}

fn ends(record: &Value, names: &Names) -> Result<[Vec<Option<i64>>; 3], String> {
    let mut ends: [Vec<Option<i64>>; 3] = Default::default();
    // It is left out as long as nothing was written.
    if record.get("written").is_none() {
        return Ok(ends);
    }
    let outputs = list(record, "written")?;
    for output in outputs {
        let topic = text(output, "topic")?;
        let found = names.outputs.iter().position(|name| name == topic);
        let found = found.ok_or_else(|| format!("`{topic}` is no output"))?;
        let each = list(output, "ends")?.iter().map(|end| match end {
            Value::Null => Ok(None),
            end => {
                let end = end.as_i64().filter(|end| *end >= 0);
                end.map(Some).ok_or_else(|| format!("no end in {output}"))
            }
        });
        ends[found] = each.collect::<Result<_, String>>()?;
    }
    Ok(ends)
}
