//! Requests byte by byte: what no client sends by itself.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::client::{DEADLINE, now};

/// `CONCURRENT_TRANSACTIONS`.
const STILL_SETTLING: i16 = 51;

const HEADER: usize = 61;

/// A connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    number: i32,
}

/// A response, read from the front.
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        let rest = self.0.split_off(N);
        std::mem::replace(&mut self.0, rest).try_into().unwrap()
    }

    pub(crate) fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    pub(crate) fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    pub(crate) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }

    pub(crate) fn string(&mut self) -> String {
        let length = self.i16() as usize;
        let rest = self.0.split_off(length);
        String::from_utf8(std::mem::replace(&mut self.0, rest)).unwrap()
    }
}

pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

impl Raw {
    pub(crate) fn connect(bootstrap: &str) -> Self {
        let stream = TcpStream::connect(bootstrap).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, number: 0 }
    }

    /// Asks, and gives the response behind its header.
    pub(crate) fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> Answer {
        self.number += 1;
        let mut frame = Vec::new();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(self.number.to_be_bytes());
        string(&mut frame, "raw");
        frame.extend(body);
        self.stream
            .write_all(&(frame.len() as i32).to_be_bytes())
            .unwrap();
        self.stream.write_all(&frame).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).unwrap();
        let mut answer = Answer(answer);
        assert_eq!(answer.i32(), self.number, "answers come in order");
        answer
    }

    /// A producer id and its epoch; with a transactional id after trying again while the broker is
    /// busy with the one before.
    pub(crate) fn producer(&mut self, transactional: Option<&str>) -> (i64, i16) {
        let mut body = Vec::new();
        match transactional {
            Some(id) => string(&mut body, id),
            None => body.extend((-1_i16).to_be_bytes()),
        }
        body.extend(60_000_i32.to_be_bytes());
        let mut found = (-1, -1);
        super::client::until("a producer id", || {
            let mut answer = self.ask(22, 0, &body);
            answer.i32();
            let error = answer.i16();
            found = (answer.i64(), answer.i16());
            // Loading, not available, not the coordinator, concurrent transactions: soon.
            assert!(
                [0, 14, 15, 16, 51].contains(&error),
                "InitProducerId: {error}"
            );
            error == 0
        });
        found
    }

    /// The error of adding partition 0 of a topic to a transaction.
    pub(crate) fn add_partition(&mut self, id: &str, producer: (i64, i16), topic: &str) -> i16 {
        let mut body = Vec::new();
        string(&mut body, id);
        body.extend(producer.0.to_be_bytes());
        body.extend(producer.1.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        string(&mut body, topic);
        body.extend(1_i32.to_be_bytes());
        body.extend(0_i32.to_be_bytes());
        let mut answer = self.ask(24, 0, &body);
        answer.i32();
        assert_eq!(answer.i32(), 1);
        answer.string();
        assert_eq!(answer.i32(), 1);
        answer.i32();
        answer.i16()
    }

    /// The error of ending a transaction.
    /// While the one before is still being settled, Kafka says so, and is asked again.
    pub(crate) fn end(&mut self, id: &str, producer: (i64, i16), commit: bool) -> i16 {
        let began = now();
        loop {
            match self.try_end(id, producer, commit) {
                STILL_SETTLING => assert!(began.elapsed() < DEADLINE, "`{id}` is never settled"),
                code => return code,
            }
        }
    }

    fn try_end(&mut self, id: &str, producer: (i64, i16), commit: bool) -> i16 {
        let mut body = Vec::new();
        string(&mut body, id);
        body.extend(producer.0.to_be_bytes());
        body.extend(producer.1.to_be_bytes());
        body.push(u8::from(commit));
        let mut answer = self.ask(26, 0, &body);
        answer.i32();
        answer.i16()
    }

    /// Writes a batch to partition 0: the error, and the base offset.
    pub(crate) fn produce(
        &mut self,
        transactional: Option<&str>,
        topic: &str,
        batch: &[u8],
    ) -> (i16, i64) {
        let mut body = Vec::new();
        match transactional {
            Some(id) => string(&mut body, id),
            None => body.extend((-1_i16).to_be_bytes()),
        }
        body.extend((-1_i16).to_be_bytes());
        body.extend(10_000_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        string(&mut body, topic);
        body.extend(1_i32.to_be_bytes());
        body.extend(0_i32.to_be_bytes());
        body.extend((batch.len() as i32).to_be_bytes());
        body.extend(batch);
        let mut answer = self.ask(0, 7, &body);
        assert_eq!(answer.i32(), 1);
        answer.string();
        assert_eq!(answer.i32(), 1);
        answer.i32();
        (answer.i16(), answer.i64())
    }
}

/// A record batch as it is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) producer: (i64, i16),
    pub(crate) sequence: i32,
    pub(crate) transactional: bool,
    pub(crate) time: i64,
    pub(crate) key: Option<&'a str>,
    pub(crate) values: &'a [&'a str],
    /// What the header says how many they are.
    pub(crate) count: i32,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(values: &'a [&'a str]) -> Self {
        Self {
            producer: (-1, -1),
            sequence: -1,
            transactional: false,
            time: 1_000,
            key: None,
            values,
            count: values.len() as i32,
        }
    }

    pub(crate) fn by(mut self, producer: (i64, i16), sequence: i32) -> Self {
        (self.producer, self.sequence) = (producer, sequence);
        self
    }

    pub(crate) fn in_transaction(mut self) -> Self {
        self.transactional = true;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; 16];
        out.push(2);
        out.extend([0; 4]);
        out.extend((i16::from(self.transactional) << 4).to_be_bytes());
        out.extend((self.count - 1).to_be_bytes());
        out.extend(self.time.to_be_bytes());
        out.extend(self.time.to_be_bytes());
        out.extend(self.producer.0.to_be_bytes());
        out.extend(self.producer.1.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.count.to_be_bytes());
        assert_eq!(out.len(), HEADER);
        for (offset, value) in self.values.iter().enumerate() {
            // Attributes, delta of the time, delta of the offset; lengths are zigzag and small.
            let mut record = vec![0, 0, (offset * 2) as u8];
            match self.key {
                Some(key) => {
                    record.push(key.len() as u8 * 2);
                    record.extend(key.as_bytes());
                }
                None => record.push(1),
            }
            record.push(value.len() as u8 * 2);
            record.extend(value.as_bytes());
            record.push(0);
            assert!(record.len() < 64);
            out.push(record.len() as u8 * 2);
            out.extend(record);
        }
        let length = out.len() as i32 - 12;
        out[8..12].copy_from_slice(&length.to_be_bytes());
        let sum = crc32c(&out[21..]);
        out[17..21].copy_from_slice(&sum.to_be_bytes());
        out
    }
}

/// The checksum, bit by bit: not the code that it checks.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}
