//! Compaction: of the records of a key, the last one stays.
//!
//! Only closed segments below the stable end are compacted, so the newest records are all there for
//! a while, as in Kafka; under pressure the last segment is closed first. Records of aborted
//! transactions go, and so does a record without a value once it is older than
//! `delete.retention.ms`. What stays, stays at its offset, byte for byte.

use std::collections::HashMap;
use std::time::Instant;

use bytes::BytesMut;

use super::batch::{Batch, Header};
use super::config::TopicConfig;
use super::log::Log;
use super::records::{Malformed, Records};
use super::segment::{Segment, Stored};

/// Compacts where enough is new, or in any case.
pub(super) fn run(log: &mut Log, config: &TopicConfig, now: Instant, force: bool) {
    let end = compactable_end(log, force);
    if end <= log.clean_end || (!force && !is_dirty(log, config, end)) {
        return;
    }
    let last = last_offsets(log, end);
    let mut aborted_until = AbortedUntil::of(log);
    let mut segments = std::mem::take(&mut log.segments);
    let (mut kept, mut freed) = (Vec::new(), 0);
    for segment in segments.drain(..) {
        if segment.last() >= end {
            kept.push(segment);
            continue;
        }
        let old = now.saturating_duration_since(segment.born) > config.tombstone_age;
        let before = segment.cost;
        let after = rewrite(segment, |batch| {
            shorten(batch, &last, &mut aborted_until, old)
        });
        freed += before - after.as_ref().map_or(0, |segment| segment.cost);
        kept.extend(after);
    }
    log.segments.extend(kept);
    log.give_back(freed);
    log.clean_end = end;
    // Who is told of an aborted transaction waits for its marker, which is gone with its records.
    log.aborted.retain(|aborted| aborted.last >= end);
}

/// The end of the closed segments that are decided.
fn compactable_end(log: &Log, force: bool) -> i64 {
    let closed = if force {
        log.segments.len()
    } else {
        log.segments.len().saturating_sub(1)
    };
    let stable = log.stable_end();
    let decided = log
        .segments
        .iter()
        .take(closed)
        .take_while(|segment| segment.last() < stable);
    decided.last().map_or(0, |segment| segment.last() + 1)
}

/// Whether the part that was never compacted is large enough.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn is_dirty(log: &Log, config: &TopicConfig, end: i64) -> bool {
    let size = |segments: &mut dyn Iterator<Item = &Segment>| {
        segments.map(|segment| segment.cost).sum::<usize>() as f64
    };
    let clean = size(
        &mut log
            .segments
            .iter()
            .filter(|segment| segment.last() < log.clean_end),
    );
    let below = |segment: &&Segment| segment.last() >= log.clean_end && segment.last() < end;
    let dirty = size(&mut log.segments.iter().filter(below));
    dirty > 0.0 && dirty / (dirty + clean) >= config.dirty_ratio
}

/// The last offset of each key below `end`.
fn last_offsets(log: &Log, end: i64) -> HashMap<Box<[u8]>, i64> {
    let mut aborted = AbortedUntil::of(log);
    let mut last: HashMap<Box<[u8]>, i64> = HashMap::new();
    for batch in log.batches_from(0).take_while(|batch| batch.base < end) {
        let header = batch.header();
        if header.is_control() || aborted.covers(batch, &header) {
            continue;
        }
        let Ok(records) = Records::of(&batch.bytes) else {
            continue;
        };
        for record in records.iter().map_while(Result::ok) {
            let offset = batch.base + record.offset_delta;
            match record.key {
                Some(key) if last.contains_key(key) => {
                    last.entry(key.into()).insert_entry(offset);
                }
                Some(key) => {
                    last.insert(key.into(), offset);
                }
                None => {}
            }
        }
    }
    last
}

/// Which batches belong to aborted transactions: per producer, where each one reaches from and to.
struct AbortedUntil(HashMap<i64, Vec<(i64, i64)>>);

impl AbortedUntil {
    fn of(log: &Log) -> Self {
        let mut ranges: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
        for aborted in &log.aborted {
            let range = (aborted.first, aborted.last);
            ranges.entry(aborted.producer_id).or_default().push(range);
        }
        Self(ranges)
    }

    fn covers(&mut self, batch: &Stored, header: &Header) -> bool {
        header.is_transactional()
            && self.0.get(&header.producer_id).is_some_and(|ranges| {
                let after = ranges.partition_point(|range| range.1 < batch.base);
                ranges.get(after).is_some_and(|range| range.0 <= batch.base)
            })
    }
}

fn rewrite(segment: Segment, mut shorten: impl FnMut(Stored) -> Option<Stored>) -> Option<Segment> {
    let born = segment.born;
    let mut kept = segment.batches.into_iter().filter_map(&mut shorten);
    let mut segment = Segment::new(kept.next()?, born);
    kept.for_each(|batch| segment.push(batch));
    segment.batches.shrink_to_fit();
    Some(segment)
}

/// What stays of a batch.
fn shorten(
    batch: Stored,
    last: &HashMap<Box<[u8]>, i64>,
    aborted: &mut AbortedUntil,
    old: bool,
) -> Option<Stored> {
    let header = batch.header();
    // A marker says nothing once what it ended is compacted: what was aborted is gone, and the rest
    // needs none.
    if header.is_control() || aborted.covers(&batch, &header) {
        return None;
    }
    match survivors(&batch, &header, last, old) {
        Ok(Some((0, _))) => None,
        Ok(Some((_, bytes))) => Some(bytes),
        Ok(None) | Err(Malformed) => Some(batch),
    }
}

/// The records that stay and how many they are; nothing where all of them do.
fn survivors(
    batch: &Stored,
    header: &Header,
    last: &HashMap<Box<[u8]>, i64>,
    old: bool,
) -> Result<Option<(i32, Stored)>, Malformed> {
    let records = Records::of(&batch.bytes)?;
    let (mut kept, mut count, mut largest) = (BytesMut::new(), 0, i64::MIN);
    for record in records.iter() {
        let record = record?;
        let newest = record.key.and_then(|key| last.get(key)).copied();
        let stays = newest.is_none_or(|at| at == batch.base + record.offset_delta);
        if stays && (record.has_value || !old) {
            kept.extend_from_slice(record.bytes);
            count += 1;
            largest = largest.max(record.timestamp(header));
        }
    }
    if count == header.count {
        return Ok(None);
    }
    let header = Header {
        attributes: header.without_codec(),
        max_timestamp: largest,
        count,
        ..*header
    };
    let bytes = Batch::make(header, &kept).place(batch.base);
    let max_timestamp = largest;
    Ok(Some((
        count,
        Stored {
            max_timestamp,
            bytes,
            ..batch.clone()
        },
    )))
}
