//! The request to produce, read by hand: the only one that may be large, and the one on the path of
//! every record. Its counts are not believed: nothing is allocated before its bytes are there.

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;

use crate::broker::wire::Broken;

/// From this version on lengths are varints and structures end in tagged fields.
const FLEXIBLE: i16 = 9;

#[derive(Debug)]
pub(in crate::broker) struct ProduceRequest {
    pub(in crate::broker) acks: i16,
    pub(in crate::broker) topics: Vec<TopicBatches>,
}

#[derive(Debug)]
pub(in crate::broker) struct TopicBatches {
    pub(in crate::broker) name: StrBytes,
    pub(in crate::broker) partitions: Vec<PartitionBatch>,
}

#[derive(Debug)]
pub(in crate::broker) struct PartitionBatch {
    pub(in crate::broker) number: i32,
    pub(in crate::broker) batch: Bytes,
}

struct Reader {
    rest: Bytes,
    flexible: bool,
}

impl ProduceRequest {
    /// Reads versions 3 to 12.
    pub(in crate::broker) fn read(rest: Bytes, version: i16) -> Result<Self, Broken> {
        let flexible = version >= FLEXIBLE;
        let mut reader = Reader { rest, flexible };
        reader.string()?; // The transactional id: batches say which producer they are of.
        let acks = reader.rest.try_get_i16()?;
        reader.rest.try_get_i32()?; // How long to wait for followers: there are none.
        let topics = reader.array(|reader| {
            let topic = TopicBatches {
                name: reader.string()?.ok_or(Broken)?,
                partitions: reader.array(Reader::partition)?,
            };
            reader.tags()?;
            Ok(topic)
        })?;
        reader.tags()?;
        Ok(Self { acks, topics })
    }
}

impl Reader {
    fn partition(&mut self) -> Result<PartitionBatch, Broken> {
        let number = self.rest.try_get_i32()?;
        let length = if self.flexible {
            self.compact_length()?
        } else {
            usize::try_from(self.rest.try_get_i32()?).ok()
        };
        let batch = length.map_or(Ok(Bytes::new()), |length| self.bytes(length))?;
        self.tags()?;
        Ok(PartitionBatch { number, batch })
    }

    fn array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Broken>,
    ) -> Result<Vec<T>, Broken> {
        let count = if self.flexible {
            self.compact_length()?
        } else {
            usize::try_from(self.rest.try_get_i32()?).ok()
        };
        let mut items = Vec::new();
        for _ in 0..count.unwrap_or(0) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn string(&mut self) -> Result<Option<StrBytes>, Broken> {
        let length = if self.flexible {
            self.compact_length()?
        } else {
            usize::try_from(self.rest.try_get_i16()?).ok()
        };
        let Some(length) = length else {
            return Ok(None);
        };
        StrBytes::from_utf8(self.bytes(length)?)
            .map(Some)
            .map_err(|_| Broken)
    }

    /// A length plus one; nothing for 0.
    fn compact_length(&mut self) -> Result<Option<usize>, Broken> {
        Ok(self.varint()?.checked_sub(1))
    }

    fn varint(&mut self) -> Result<usize, Broken> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.rest.try_get_u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, Broken> {
        if length > self.rest.len() {
            return Err(Broken);
        }
        Ok(self.rest.split_to(length))
    }

    /// Passes over fields that are for others.
    fn tags(&mut self) -> Result<(), Broken> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.bytes(length)?;
        }
        Ok(())
    }
}
