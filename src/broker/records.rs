//! The records inside a batch, where the broker has to look: keys for compaction, times for search.
//!
//! They are read where they lie. Headers are passed over, never parsed into a map: a record may
//! carry one name twice.

use std::borrow::Cow;
use std::io::Read;

use bytes::Buf;

use super::batch::{HEADER, Header};

/// No batch may unfold to more than this.
const MAX_UNFOLDED: u64 = 64 << 20;
/// What stands before the blocks that the Java client's Snappy writes.
const SNAPPY_JAVA: &[u8] = b"\x82SNAPPY\0";
const SNAPPY_JAVA_HEADER: usize = 16;

/// The bytes are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// All of it, with its length.
    pub(super) bytes: &'a [u8],
    pub(super) offset_delta: i64,
    pub(super) timestamp_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    /// Without one it deletes its key.
    pub(super) has_value: bool,
}

impl Record<'_> {
    /// When it was made, by its batch.
    pub(super) fn timestamp(&self, header: &Header) -> i64 {
        if header.has_append_time() {
            return header.max_timestamp;
        }
        header.base_timestamp.saturating_add(self.timestamp_delta)
    }
}

/// The records of a batch, unfolded.
#[derive(Debug)]
pub(super) struct Records<'a>(Cow<'a, [u8]>);

impl<'a> Records<'a> {
    /// Unfolds the records of a whole batch.
    pub(super) fn of(batch: &'a [u8]) -> Result<Self, Malformed> {
        let packed = batch.get(HEADER..).ok_or(Malformed)?;
        let codec = Header::read(batch).codec();
        Ok(Self(match codec {
            0 => Cow::Borrowed(packed),
            1 => Cow::Owned(limited(flate2::read::MultiGzDecoder::new(packed))?),
            2 => Cow::Owned(snappy(packed)?),
            3 => Cow::Owned(limited(lz4_flex::frame::FrameDecoder::new(packed))?),
            4 => {
                let decoder = zstd::Decoder::with_buffer(packed).map_err(|_| Malformed)?;
                Cow::Owned(limited(decoder)?)
            }
            _ => return Err(Malformed),
        }))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, Malformed>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let next = record(&mut rest);
            if next.is_err() {
                rest = &[];
            }
            Some(next)
        })
    }
}

fn limited(from: impl Read) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    let read = from.take(MAX_UNFOLDED + 1).read_to_end(&mut out);
    match read {
        Ok(bytes) if bytes as u64 <= MAX_UNFOLDED => Ok(out),
        _ => Err(Malformed),
    }
}

/// One block, or the chunks of blocks that the Java client writes.
fn snappy(packed: &[u8]) -> Result<Vec<u8>, Malformed> {
    if !packed.starts_with(SNAPPY_JAVA) {
        let mut out = Vec::new();
        unfold_block(packed, &mut out)?;
        return Ok(out);
    }
    let mut rest = packed.get(SNAPPY_JAVA_HEADER..).ok_or(Malformed)?;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let length = rest.try_get_i32().map_err(|_| Malformed)?;
        let block = split(&mut rest, i64::from(length))?;
        unfold_block(block, &mut out)?;
    }
    Ok(out)
}

fn unfold_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let more = snap::raw::decompress_len(block).map_err(|_| Malformed)?;
    let start = out.len();
    if (start + more) as u64 > MAX_UNFOLDED {
        return Err(Malformed);
    }
    out.resize(start + more, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]);
    written.map(|_| ()).map_err(|_| Malformed)
}

/// Takes one record from the front.
fn record<'a>(rest: &mut &'a [u8]) -> Result<Record<'a>, Malformed> {
    let whole = *rest;
    let length = varint(rest)?;
    let mut body = split(rest, length)?;
    let bytes = &whole[..whole.len() - rest.len()];
    body.try_get_i8().map_err(|_| Malformed)?;
    let timestamp_delta = varint(&mut body)?;
    let offset_delta = varint(&mut body)?;
    let key = field(&mut body)?;
    let has_value = field(&mut body)?.is_some();
    Ok(Record {
        bytes,
        offset_delta,
        timestamp_delta,
        key,
        has_value,
    })
}

/// Bytes with their length before them; −1 for none.
fn field<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    match varint(rest)? {
        -1 => Ok(None),
        length => split(rest, length).map(Some),
    }
}

fn split<'a>(rest: &mut &'a [u8], length: i64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (part, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(part)
}

/// A zigzag number of up to ten bytes.
fn varint(rest: &mut &[u8]) -> Result<i64, Malformed> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Malformed)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(Malformed)
}
