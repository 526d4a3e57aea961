//! A record batch of format 2: what clients write, the log keeps and clients read, the same bytes.
//!
//! Of these bytes the broker sets the base offset and the leader epoch, which stand outside the
//! checksum. Only a topic that stamps records itself has the checksum computed anew.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::refusal::{Answer, Code, Refusal};

/// Bytes before the first record.
pub(super) const HEADER: usize = 61;
const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CHECKSUM_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
/// What the length does not count.
const BEFORE_LENGTH_ENDS: usize = 12;

const CODEC: i16 = 0b111;
const APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// What stands before the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) attributes: i16,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    pub(super) count: i32,
}

impl Header {
    /// Reads the header of whole batches.
    ///
    /// # Panics
    /// Where there are fewer bytes than a header has.
    pub(super) fn read(batch: &[u8]) -> Self {
        let mut fields = &batch[ATTRIBUTES_AT..HEADER];
        Self {
            attributes: fields.get_i16(),
            last_offset_delta: fields.get_i32(),
            base_timestamp: fields.get_i64(),
            max_timestamp: fields.get_i64(),
            producer_id: fields.get_i64(),
            producer_epoch: fields.get_i16(),
            base_sequence: fields.get_i32(),
            count: fields.get_i32(),
        }
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.count);
    }

    pub(super) fn codec(&self) -> i16 {
        self.attributes & CODEC
    }

    /// The attributes of the same records uncompressed.
    pub(super) fn without_codec(&self) -> i16 {
        self.attributes & !CODEC
    }

    pub(super) fn has_append_time(&self) -> bool {
        self.attributes & APPEND_TIME != 0
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(super) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether its producer numbers its batches.
    pub(super) fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// The number of its last record; numbers go round after the largest.
    pub(super) fn last_sequence(&self) -> i32 {
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(sum)
            .unwrap_or_else(|_| self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX)
    }
}

/// A batch that has been checked and is about to get its place.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) header: Header,
    bytes: BytesMut,
}

impl Batch {
    /// Checks what a client sent for one partition: one whole batch of records.
    pub(super) fn receive(sent: &[u8]) -> Answer<Self> {
        let corrupt = |why: &str| Refusal::new(Code::CorruptMessage, why);
        let invalid = |why: &str| Refusal::new(Code::InvalidRecord, why);
        if sent.len() < HEADER {
            return Err(corrupt("the batch is shorter than a header"));
        }
        if sent[MAGIC_AT] != 2 {
            return Err(invalid("only record batches of format 2 are taken"));
        }
        let length = usize::try_from((&sent[LENGTH_AT..]).get_i32()).unwrap_or(usize::MAX);
        match length.checked_add(BEFORE_LENGTH_ENDS) {
            Some(length) if length == sent.len() => {}
            Some(length) if (HEADER..sent.len()).contains(&length) => {
                return Err(invalid("more than one batch for a partition"));
            }
            _ => return Err(corrupt("the length of the batch is not that of its bytes")),
        }
        if (&sent[CHECKSUM_AT..]).get_u32() != crc32c::crc32c(&sent[ATTRIBUTES_AT..]) {
            return Err(corrupt("the checksum of the batch is wrong"));
        }
        let header = Header::read(sent);
        if header.is_control() {
            return Err(invalid("clients may not write control records"));
        }
        if header.count < 1 || header.last_offset_delta != header.count - 1 {
            return Err(invalid("the batch does not number its records from 0"));
        }
        if header.is_idempotent() && (header.producer_epoch < 0 || header.base_sequence < 0) {
            return Err(invalid("a producer id without epoch or sequence"));
        }
        // The bytes that came belong to the whole request; a copy is kept no longer than it must.
        let bytes = BytesMut::from(sent);
        Ok(Self { header, bytes })
    }

    /// A batch made here.
    pub(super) fn make(header: Header, records: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER + records.len());
        bytes.put_bytes(0, MAGIC_AT);
        bytes.put_u8(2);
        bytes.put_u32(0);
        header.write(&mut bytes);
        bytes.put_slice(records);
        let length = i32::try_from(bytes.len() - BEFORE_LENGTH_ENDS).unwrap_or(i32::MAX);
        bytes[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
        let mut batch = Self { header, bytes };
        batch.sum();
        batch
    }

    /// The control record that ends a transaction.
    pub(super) fn marker(producer: (i64, i16), commit: bool, time: i64) -> Self {
        // Length, attributes, deltas of time and offset; key: version 0 and type; value: version 0
        // and epoch of the coordinator; no headers. Lengths are zigzag.
        let kind = u8::from(commit);
        let record = [32, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, 0, 0, 0, 0, 0];
        let header = Header {
            attributes: TRANSACTIONAL | CONTROL,
            last_offset_delta: 0,
            base_timestamp: time,
            max_timestamp: time,
            producer_id: producer.0,
            producer_epoch: producer.1,
            base_sequence: -1,
            count: 1,
        };
        Self::make(header, &record)
    }

    /// Stamps all records with the time of the append.
    pub(super) fn stamp(&mut self, time: i64) {
        self.header.attributes |= APPEND_TIME;
        self.header.max_timestamp = time;
        let attributes = self.header.attributes.to_be_bytes();
        self.bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes);
        self.bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&time.to_be_bytes());
        self.sum();
    }

    fn sum(&mut self) {
        let sum = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.bytes[CHECKSUM_AT..ATTRIBUTES_AT].copy_from_slice(&sum.to_be_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, placed at `base`.
    pub(super) fn place(mut self, base: i64) -> Bytes {
        self.bytes[..LENGTH_AT].copy_from_slice(&base.to_be_bytes());
        self.bytes[EPOCH_AT..MAGIC_AT].copy_from_slice(&0_i32.to_be_bytes());
        self.bytes.freeze()
    }
}
