//! Bytes to requests, responses to bytes; and why a request that lies about its lengths costs
//! nothing.
//!
//! `kafka-protocol` allocates an array before it reads it, by the count that the request claims:
//! some gigabytes for a few bytes of garbage, and an allocation that fails ends the process. So
//! each request is decoded twice, the first time from a [`Probe`], in which no number is larger
//! than what is left to read and one: a count that is too large then runs into the end of the
//! bytes, and the second decoding does not take place.

use bytes::{Buf, Bytes, BytesMut, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;
use kafka_protocol::protocol::{Decodable, Encodable};

/// A request that cannot be read, or a response that cannot be written: the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl From<TryGetError> for Broken {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

/// Reads a request.
pub(super) fn decode<T: Decodable>(mut bytes: Bytes, version: i16) -> Result<T, Broken> {
    let mut probe = Probe {
        rest: bytes.clone(),
        varint: 0,
        shift: 0,
    };
    T::decode(&mut probe, version).map_err(|_| Broken)?;
    T::decode(&mut bytes, version).map_err(|_| Broken)
}

/// Writes a response behind what is in `out`.
pub(super) fn encode<T: Encodable>(
    response: &T,
    version: i16,
    out: &mut BytesMut,
) -> Result<(), Broken> {
    response.encode(out, version).map_err(|error| {
        tracing::error!(%error, "a response does not fit its version");
        Broken
    })
}

/// The bytes of a request, with numbers cut to one more than is left.
///
/// Counts of arrays are `i32`, or varints of one to five single bytes; each element takes a byte at
/// least. Other numbers are cut as well, and their structure is the same.
struct Probe {
    rest: Bytes,
    /// What was read of a varint.
    varint: usize,
    shift: u32,
}

impl Buf for Probe {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.rest
    }

    fn advance(&mut self, count: usize) {
        self.rest.advance(count);
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let value = self.rest.try_get_i32()?;
        let too_many = i32::try_from(self.rest.len() + 1).unwrap_or(i32::MAX);
        Ok(value.min(too_many))
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.rest.try_get_u8()?;
        self.varint |= usize::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        let ends = byte & 0x80 == 0;
        // Lengths are written with one added. A varint that goes on after five bytes is none: the
        // decoder would stop there, and take what follows for something else than this probe.
        if self.varint > self.rest.len() + 1 || (self.shift > 28 && !ends) {
            return Err(TryGetError {
                requested: self.varint,
                available: self.rest.len(),
            });
        }
        if ends {
            (self.varint, self.shift) = (0, 0);
        }
        Ok(byte)
    }
}

impl ByteBuf for Probe {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.rest.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.rest.split_to(size)
    }
}
