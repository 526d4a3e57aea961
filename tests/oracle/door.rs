//! The door: reads a source's partitions record by record, and lets in, or names late, or dead.
//!
//! It walks each partition from its start to its end on its own. `newest` below is the contract's
//! `L_p`: the largest event time of the earlier records that were no dead letters; before the first
//! there is none, and nothing can be late.

use super::{At, Input, Letter, Params};

/// An event that may be used, with its position: `(time, partition, offset)`, there being one
/// source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<T> {
    pub time: i64,
    pub partition: usize,
    pub offset: i64,
    pub body: T,
}

/// All verdicts on an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicts<T> {
    pub read: usize,
    /// In the order of positions.
    pub entered: Vec<Event<T>>,
    pub late: Vec<Letter>,
    pub dead: Vec<Letter>,
}

/// The reason for a record that is valid but whose time lies outside the years 0000 to 9999. The
/// contract only says that it is a dead letter; a `time` that cannot be one is taken as a field of
/// the wrong type.
pub const OUT_OF_RANGE: &str = "decode";

struct Record<'a> {
    at: At,
    offset: i64,
    value: Option<&'a [u8]>,
    timestamp: Option<i64>,
}

/// Lets a decoder (event time and what the job needs, or what is wrong) and the door's rules judge
/// all records.
pub fn judge<T>(
    input: &Input,
    params: &Params,
    decode: impl Fn(&[u8]) -> Result<(i64, T), String>,
) -> Verdicts<T> {
    let mut verdicts = Verdicts {
        read: 0,
        entered: Vec::new(),
        late: Vec::new(),
        dead: Vec::new(),
    };
    for (partition, records) in partitions(input).into_iter().enumerate() {
        let mut newest: Option<i64> = None;
        for record in records {
            verdicts.read += 1;
            let (time, body) = match admit(&record, params, &decode) {
                Ok(event) => event,
                Err(reason) => {
                    verdicts.dead.push(letter(&record, params, reason));
                    continue;
                }
            };
            let watermark = newest.map(|time| time - params.lag);
            let closes = params.closing(time) + params.allowed_lateness;
            if watermark.is_some_and(|watermark| closes <= watermark) {
                verdicts.late.push(Letter {
                    event_time: Some(time),
                    watermark,
                    ..letter(&record, params, "late")
                });
            } else {
                let offset = record.offset;
                verdicts.entered.push(Event {
                    time,
                    partition,
                    offset,
                    body,
                });
            }
            newest = newest.max(Some(time));
        }
    }
    verdicts.late.sort();
    verdicts.dead.sort();
    verdicts
        .entered
        .sort_by_key(|e| (e.time, e.partition, e.offset));
    verdicts
}

/// An event, or the reason of a dead letter. Size is looked at before content: nobody decodes what
/// is too large.
fn admit<T>(
    record: &Record<'_>,
    params: &Params,
    decode: impl Fn(&[u8]) -> Result<(i64, T), String>,
) -> Result<(i64, T), &'static str> {
    let value = record.value.ok_or("null-value")?;
    if value.len() > params.max_record_bytes {
        return Err("too-large");
    }
    let (time, body) = decode(value).map_err(|_| "decode")?;
    if let (Some(ahead), Some(stamp)) = (params.max_ahead, record.timestamp)
        && i128::from(time) - i128::from(stamp) > i128::from(ahead)
    {
        return Err("too-far-ahead");
    }
    Ok((time, body))
}

/// A dead letter; one that is too large keeps its first 1,024 bytes.
fn letter(record: &Record<'_>, params: &Params, reason: &str) -> Letter {
    let cut = record.value.filter(|_| reason == "too-large");
    let shown = record.value.map(|value| {
        let shown = if cut.is_some() {
            value.len().min(1_024)
        } else {
            value.len()
        };
        value[..shown].to_vec()
    });
    Letter {
        at: record.at.clone(),
        source: params.source().to_owned(),
        reason: reason.to_owned(),
        event_time: None,
        watermark: None,
        raw: shown,
        raw_bytes: cut.map(|value| value.len() as u64),
    }
}

/// The partitions in their order.
fn partitions(input: &Input) -> Vec<Vec<Record<'_>>> {
    match input {
        Input::Files(files) => {
            let mut files: Vec<_> = files.iter().collect();
            files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
            let read = files.iter().map(|f| lines(&f.name, &f.bytes));
            read.collect()
        }
        Input::Topic { name, partitions } => {
            let mut partitions: Vec<_> = partitions.iter().collect();
            partitions.sort_by_key(|p| p.number);
            let read = partitions.iter().map(|p| {
                let records = p.records.iter().map(|r| Record {
                    at: At::Topic {
                        topic: name.clone(),
                        partition: p.number,
                        offset: r.offset,
                    },
                    offset: r.offset,
                    value: r.value.as_deref(),
                    timestamp: r.timestamp,
                });
                records.collect()
            });
            read.collect()
        }
    }
}

/// The lines of a file that hold more than white space; the others have a number too.
fn lines<'a>(file: &str, bytes: &'a [u8]) -> Vec<Record<'a>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut records = Vec::new();
    let mut number = 0;
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        number += 1;
        // A carriage return belongs to the line's end only where a newline follows.
        let line = match piece.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => piece,
        };
        if line.iter().all(|byte| b" \t\r".contains(byte)) {
            continue;
        }
        records.push(Record {
            at: At::File {
                file: file.to_owned(),
                line: number,
            },
            offset: i64::try_from(number).expect("no file has that many lines"),
            value: Some(line),
            timestamp: None,
        });
    }
    records
}
