//! Packing: which files are compressed, and how pieces of an output become members of such a file.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::mem;
use std::path::Path;

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
#[cfg(feature = "zstd")]
use zstd::bulk::Compressor;

/// Five times as fast as the usual 6 for a sixth more bytes: a worker packs between its other work.
const GZIP_LEVEL: u32 = 2;

/// How the bytes of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the ending of `path`.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension().map(OsStr::as_encoded_bytes) {
            Some(b"gz") => Self::Gzip,
            Some(b"zst") => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// The bytes that `packed` stands for; of all its members or frames, one behind the other.
    ///
    /// # Errors
    /// Reading from it fails where the bytes are damaged or cut off.
    pub(super) fn unpack(self, packed: impl BufRead + 'static) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Plain => Box::new(packed),
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            #[cfg(feature = "zstd")]
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(packed)?),
            #[cfg(not(feature = "zstd"))]
            Self::Zstd => return Err(no_zstd()),
        })
    }

    /// Packs pieces in this way.
    pub(super) fn packer(self) -> io::Result<Packer> {
        let kind = match self {
            Self::Plain => Kind::Plain,
            Self::Gzip => Kind::Gzip,
            #[cfg(not(feature = "zstd"))]
            Self::Zstd => return Err(no_zstd()),
            #[cfg(feature = "zstd")]
            Self::Zstd => {
                let mut compressor = Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL)?;
                compressor.include_checksum(true)?;
                Kind::Zstd(compressor)
            }
        };
        Ok(Packer {
            kind,
            packed: Vec::new(),
        })
    }
}

#[cfg(not(feature = "zstd"))]
fn no_zstd() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this program was built without `zstd`",
    )
}

/// Makes a complete member or frame of each piece, so that workers pack beside each other and their
/// pieces can follow each other in any order.
pub(super) struct Packer {
    kind: Kind,
    packed: Vec<u8>,
}

enum Kind {
    Plain,
    Gzip,
    #[cfg(feature = "zstd")]
    Zstd(Compressor<'static>),
}

impl Packer {
    /// What stands for `piece` in the file.
    pub(super) fn pack<'a>(&'a mut self, piece: &'a [u8]) -> io::Result<&'a [u8]> {
        self.packed.clear();
        match &mut self.kind {
            Kind::Plain => return Ok(piece),
            Kind::Gzip => {
                let packed = mem::take(&mut self.packed);
                let mut encoder = GzEncoder::new(packed, Compression::new(GZIP_LEVEL));
                encoder.write_all(piece)?;
                self.packed = encoder.finish()?;
            }
            #[cfg(feature = "zstd")]
            Kind::Zstd(compressor) => {
                self.packed
                    .reserve(zstd::zstd_safe::compress_bound(piece.len()));
                compressor.compress_to_buffer(piece, &mut self.packed)?;
            }
        }
        Ok(&self.packed)
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_a_row_unpack_to_their_sum_and_no_piece_to_nothing() {
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let mut packer = packing.packer().unwrap();
            let mut file = Vec::new();
            let long = b"x".repeat(100_000);
            for piece in [&b"one\n"[..], b"", b"two\n", &long, b"\n"] {
                file.extend_from_slice(packer.pack(piece).unwrap());
            }
            let mut text = Vec::new();
            packing
                .unpack(io::Cursor::new(file))
                .unwrap()
                .read_to_end(&mut text)
                .unwrap();
            assert_eq!(text, [b"one\ntwo\n", &long[..], b"\n"].concat());
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_an_error() {
        for packing in [Packing::Gzip, Packing::Zstd] {
            let whole = packing
                .packer()
                .unwrap()
                .pack(&b"text\n".repeat(999))
                .unwrap()
                .to_vec();
            let unpack = |bytes: Vec<u8>| {
                packing
                    .unpack(io::Cursor::new(bytes))
                    .unwrap()
                    .read_to_end(&mut Vec::new())
            };
            assert_eq!(unpack(whole.clone()).unwrap(), 4_995);
            for length in 1..whole.len() {
                assert!(
                    unpack(whole[..length].to_vec()).is_err(),
                    "{packing:?} {length}"
                );
            }
            let mut damaged = whole.clone();
            damaged[whole.len() / 2] ^= 0x55;
            assert!(unpack(damaged).is_err(), "{packing:?}");
            assert!(
                unpack([&whole[..], b"junk"].concat()).is_err(),
                "{packing:?}"
            );
        }
    }
}
