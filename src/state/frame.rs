//! Frames: bytes on a disk that know whether they are still what was written.
//!
//! ```text
//! u32  length of the payload
//! u32  checksum of the payload
//! u32  checksum of the eight bytes before
//!      payload
//! ```
//!
//! Numbers are in little-endian form, checksums are CRC32C. The head has a checksum of its own, so
//! that a length is believed only if it is the one that was written: then a file that ends too
//! early is told from one that is damaged, and damage within 32 bits in a row is found for certain.
//! Zeros, which a file system may leave where it lost a tail, are not a frame. A file that is cut
//! between two frames looks whole: who knows how long it was has to ask for that many bytes.

use std::fmt;

use crc32c::crc32c;

use crate::error::{Error, ErrorKind, Result};

/// Bytes before the payload.
pub(crate) const HEAD: usize = 12;
/// The longest payload: more than anybody needs who cuts what is large, and little enough to be
/// read into memory.
pub(crate) const LONGEST: usize = 1 << 30;

/// Appends `payload` in a frame.
///
/// # Errors
/// A payload that is longer than [`LONGEST`]; then nothing is appended.
pub(crate) fn write_frame(payload: &[u8], out: &mut Vec<u8>) -> Result {
    let head = head(payload)?;
    out.reserve(HEAD + payload.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    Ok(())
}

fn head(payload: &[u8]) -> Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&length(payload.len())?.to_le_bytes());
    head[4..8].copy_from_slice(&crc32c(payload).to_le_bytes());
    let checksum = crc32c(&head[..8]);
    head[8..].copy_from_slice(&checksum.to_le_bytes());
    Ok(head)
}

fn length(bytes: usize) -> Result<u32> {
    let fits = u32::try_from(bytes).ok().filter(|_| bytes <= LONGEST);
    fits.ok_or_else(|| {
        let what = format!("a frame of {bytes} bytes of state: at most {LONGEST} can be written");
        Error::new(ErrorKind::Limit, what)
    })
}

/// The payloads of the frames that fill some bytes. After an error there is nothing more, for where
/// the next frame begins is not known.
#[derive(Clone, Debug)]
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    /// Where the next frame begins.
    at: usize,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn read(&self) -> Result<&'a [u8], Wrong> {
        let here = &self.bytes[self.at..];
        let torn = |needs| Wrong::Torn {
            has: here.len(),
            needs,
        };
        let Some((head, rest)) = here.split_first_chunk::<HEAD>() else {
            return Err(torn(HEAD));
        };
        let [length, checksum, of_head] = numbers(head);
        if crc32c(&head[..8]) != of_head {
            return Err(Wrong::DamagedHead);
        }
        let Some(length) = usize::try_from(length).ok().filter(|it| *it <= LONGEST) else {
            return Err(Wrong::Absurd { length });
        };
        let payload = rest.get(..length).ok_or_else(|| torn(HEAD + length))?;
        if crc32c(payload) != checksum {
            return Err(Wrong::Damaged { length });
        }
        Ok(payload)
    }
}

fn numbers(head: &[u8; HEAD]) -> [u32; 3] {
    let (numbers, _) = head.as_chunks::<4>();
    [0, 1, 2].map(|nth: usize| u32::from_le_bytes(numbers[nth]))
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], BadFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let read = self.read().map_err(|wrong| BadFrame { at: self.at, wrong });
        self.at = match read {
            Ok(payload) => self.at + HEAD + payload.len(),
            Err(_) => self.bytes.len(),
        };
        Some(read)
    }
}

/// A frame that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadFrame {
    /// The byte at which it begins.
    pub(crate) at: usize,
    pub(crate) wrong: Wrong,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The bytes end inside it.
    Torn { has: usize, needs: usize },
    /// The checksum of its head differs.
    DamagedHead,
    /// The checksum of its payload differs.
    Damaged { length: usize },
    /// Its length is one that nobody writes, and yet the one that was written.
    Absurd { length: u32 },
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the frame at byte {} ", self.at)?;
        match self.wrong {
            Wrong::Torn { has, needs } => {
                write!(f, "is torn: {has} of at least {needs} bytes are there")
            }
            Wrong::DamagedHead => f.write_str("is damaged: the checksum of its head differs"),
            Wrong::Damaged { length } => {
                write!(f, "is damaged: the checksum of its {length} bytes differs")
            }
            Wrong::Absurd { length } => {
                write!(
                    f,
                    "says that it has {length} bytes, and the most is {LONGEST}"
                )
            }
        }
    }
}

impl std::error::Error for BadFrame {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for payload in payloads {
            write_frame(payload, &mut out).unwrap();
        }
        out
    }

    /// What can be read, and what is wrong after it.
    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<BadFrame>) {
        let (mut payloads, mut bad) = (Vec::new(), None);
        for frame in Frames::new(bytes) {
            assert_eq!(bad, None, "nothing comes after an error");
            match frame {
                Ok(payload) => payloads.push(payload.to_vec()),
                Err(wrong) => bad = Some(wrong),
            }
        }
        (payloads, bad)
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)
    }

    #[test]
    fn a_frame_is_written_as_it_was() {
        // On disk: these bytes may never change. 0xE3069283 is the known sum of "123456789".
        let bytes = written(&[b"123456789".to_vec()]);
        assert_eq!(bytes[..8], [9, 0, 0, 0, 0x83, 0x92, 0x06, 0xE3]);
        assert_eq!(bytes[8..HEAD], [0x69, 0xD9, 0xE8, 0x9A]);
        assert_eq!(&bytes[HEAD..], b"123456789");
    }

    #[test]
    fn what_is_too_long_is_refused_by_writer_and_reader() {
        assert!(length(LONGEST).is_ok());
        let error = length(LONGEST + 1).unwrap_err().to_string();
        assert!(error.contains("1073741825 bytes"), "{error}");
        let mut absurd = written(&[Vec::new(), b"x".to_vec()]);
        let head = &mut absurd[HEAD..];
        head[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let checksum = crc32c(&head[..8]);
        head[8..HEAD].copy_from_slice(&checksum.to_le_bytes());
        let (_, bad) = read(&absurd);
        let said = "the frame at byte 12 says that it has 4294967295 bytes, and the most is \
                    1073741824";
        assert_eq!(bad.unwrap().to_string(), said);
    }

    #[test]
    fn each_damage_is_called_what_it_is() {
        let bytes = written(&[b"first".to_vec(), b"second".to_vec()]);
        let second = HEAD + 5;
        let wrong = |bytes: &[u8]| read(bytes).1.unwrap().to_string();
        let flipped = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            wrong(&bytes)
        };
        let cut = |at: usize| wrong(&bytes[..at]);
        let said = [
            (
                cut(second + 3),
                "the frame at byte 17 is torn: 3 of at least 12 bytes are there",
            ),
            (
                cut(second + 17),
                "the frame at byte 17 is torn: 17 of at least 18 bytes are there",
            ),
            (
                flipped(second),
                "the frame at byte 17 is damaged: the checksum of its head differs",
            ),
            (
                flipped(HEAD),
                "the frame at byte 0 is damaged: the checksum of its 5 bytes differs",
            ),
        ];
        for (said, expected) in said {
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn zeros_are_not_a_frame() {
        for zeros in 1..100 {
            let bad = read(&vec![0; zeros]).1.unwrap();
            assert_eq!(bad.at, 0, "{zeros} zeros");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(payloads in payloads()) {
            prop_assert_eq!(read(&written(&payloads)), (payloads, None));
        }

        #[test]
        fn every_flipped_byte_is_found(payloads in payloads(), flip in 1u8..) {
            let mut bytes = written(&payloads);
            for at in 0..bytes.len() {
                bytes[at] ^= flip;
                let (before, bad) = read(&bytes);
                bytes[at] ^= flip;
                let bad = bad.unwrap();
                // All before it is given, and the frame is named.
                prop_assert_eq!(&before, &payloads[..before.len()]);
                let frame = bad.at..bad.at + HEAD + payloads[before.len()].len();
                prop_assert!(frame.contains(&at), "{bad} but {at} was flipped");
                let torn = matches!(bad.wrong, Wrong::Torn { .. });
                prop_assert!(!torn, "{bad} but it is damaged");
            }
        }

        #[test]
        fn damage_of_32_bits_in_a_row_is_found(payloads in payloads(), damage in 1u32..) {
            let mut bytes = written(&payloads);
            let xor = |bytes: &mut [u8]| {
                bytes.iter_mut().zip(damage.to_le_bytes()).for_each(|(byte, it)| *byte ^= it);
            };
            for at in 0..bytes.len().saturating_sub(3) {
                xor(&mut bytes[at..]);
                prop_assert!(read(&bytes).1.is_some(), "at {at}");
                xor(&mut bytes[at..]);
            }
        }

        #[test]
        fn every_cut_is_found_that_is_not_between_frames(payloads in payloads()) {
            let bytes = written(&payloads);
            let mut whole = 0;
            for cut in 0..=bytes.len() {
                let (before, bad) = read(&bytes[..cut]);
                prop_assert_eq!(&before, &payloads[..before.len()]);
                let end = written(&payloads[..before.len()]).len();
                match bad {
                    None => whole += 1,
                    Some(bad) => {
                        prop_assert_eq!(bad.at, end);
                        let torn = matches!(bad.wrong, Wrong::Torn { .. });
                        prop_assert!(torn, "{bad} but it is cut");
                    }
                }
                prop_assert_eq!(bad.is_none(), cut == end);
            }
            prop_assert_eq!(whole, payloads.len() + 1);
        }
    }
}
