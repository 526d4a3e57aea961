//! State on its way into a checkpoint and back: pieces of an operator, entry by entry.
//!
//! A *parcel* is what an operator hands over at a time: a head that says whose entries follow, then
//! the entries. An entry begins with its slot and its length, so that a worker which reads the
//! parcels of others skips what is not its own without decoding it. What an entry holds, the piece
//! alone knows; that of parcels is known here.
//!
//! ```text
//! parcel  kind u8 · operator: len u16, UTF-8 · piece u8 · group i64 · entry*
//! entry   u32: slot in the high 10 bits, length in the low 22 · bytes
//! ```
//! All integers are little-endian. A length of 22 ones is followed by the true one, a `u64`.

use super::frame;
use super::hash::SLOTS;
use crate::error::{Error, Result};
use crate::time::{EventTime, Progress};

/// A parcel is closed when it has so many bytes.
const PARCEL_BYTES: usize = 128 << 10;
/// However few entries those are, no more bytes are saved in one go, but for the last entry's.
pub(crate) const GO_BYTES: u64 = 1 << 20;
const LEN_BITS: u32 = 22;
const LEN_MAX: u32 = (1 << LEN_BITS) - 1;
/// Entries follow that change what was there.
const ENTRIES: u8 = 1;
/// The operator has handed over everything; its progress follows.
const END: u8 = 2;

/// State that goes into checkpoints.
pub(crate) trait Saved {
    /// From now on it notes what changes.
    fn track(&mut self);

    /// Looks whether the first entry that it holds, if there is one, would come back.
    ///
    /// # Errors
    /// A type that does not come back as it was, by its name.
    fn check(&self) -> Result;

    /// Appends about `room` entries of what changed since it was last asked, or of `all` there is;
    /// fewer, if they have [`GO_BYTES`]. Returns whether there is more; nothing changes until there
    /// is not.
    ///
    /// # Errors
    /// A type that cannot be written, by its name.
    fn save(&mut self, all: bool, room: usize, out: &mut Parcels) -> Result<bool>;

    /// How many entries all there is has.
    fn held(&self) -> usize;

    /// Takes an entry of `group`; a later one replaces an earlier one. Returns whether something is
    /// held by it now; else it was that something is gone.
    ///
    /// # Errors
    /// A type that cannot be read back, by its name.
    fn load(&mut self, group: i64, entry: &[u8]) -> Result<bool>;

    /// Writes what has changed since it was last asked, and takes what is read back in its place:
    /// what a test does after each epoch, so that a type that would break at recovery breaks there.
    ///
    /// # Errors
    /// A type that does not come back as it was, by its name.
    fn renew(&mut self) -> Result;

    /// All entries were taken. What `progress` has passed is let go: operators do not save that.
    fn loaded(&mut self, progress: Progress);
}

/// Parcels of one operator under construction.
#[derive(Debug)]
pub(crate) struct Parcels {
    operator: Box<str>,
    piece: u8,
    group: i64,
    open: Vec<u8>,
    /// Complete ones.
    pub(crate) done: Vec<Vec<u8>>,
    /// Bytes of entries that changed, where all there are were asked for.
    pub(crate) changed: u64,
    /// Bytes that all entries take with their heads.
    pub(crate) bytes: u64,
    /// So many of them only say that something is gone.
    gone: u64,
    /// The other entries.
    entries: u64,
}

impl Parcels {
    /// The entries, in order.
    pub(super) fn into_entries(mut self) -> Result<Vec<Vec<u8>>> {
        self.close();
        let mut all = Vec::new();
        for parcel in &self.done {
            if let Holds::Entries(entries) = Parcel::read(parcel)?.holds {
                for entry in entries {
                    all.push(entry?.1.to_vec());
                }
            }
        }
        Ok(all)
    }

    pub(crate) fn of(operator: &str) -> Self {
        Self {
            operator: operator.into(),
            piece: 0,
            group: 0,
            open: Vec::new(),
            done: Vec::new(),
            changed: 0,
            bytes: 0,
            gone: 0,
            entries: 0,
        }
    }

    /// Bytes and number of the entries that say what is held.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.bytes - self.gone, self.entries)
    }

    /// Whether as much came since there were `bytes` as is saved in one go.
    pub(crate) fn is_full_since(&self, bytes: u64) -> bool {
        self.bytes - bytes >= GO_BYTES
    }

    /// Entries of the piece with this number follow.
    pub(crate) fn resume(&mut self, piece: u8) {
        if self.piece != piece {
            self.close();
            (self.piece, self.group) = (piece, 0);
        }
    }

    /// Entries of this group follow.
    pub(crate) fn group(&mut self, group: i64) {
        if self.group != group {
            self.close();
            self.group = group;
        }
    }

    /// Appends an entry of `slot`, which `write` writes; returns how many bytes it takes.
    pub(crate) fn entry(
        &mut self,
        slot: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result,
    ) -> Result<u64> {
        if self.open.len() >= PARCEL_BYTES {
            self.close();
        }
        if self.open.is_empty() {
            self.open = head(ENTRIES, &self.operator, self.piece, self.group);
            self.bytes += (self.open.len() + frame::HEAD) as u64;
        }
        let start = self.open.len();
        self.open.extend_from_slice(&[0; 4]);
        write(&mut self.open)?;
        let len = self.open.len() - start - 4;
        let short = u32::try_from(len).map_or(LEN_MAX, |len| len.min(LEN_MAX));
        let slot = u32::try_from(slot).expect("there are 1024 slots");
        let word = slot << LEN_BITS | short;
        self.open[start..start + 4].copy_from_slice(&word.to_le_bytes());
        if short == LEN_MAX {
            let long = (len as u64).to_le_bytes();
            self.open.splice(start + 4..start + 4, long);
        }
        let bytes = (self.open.len() - start) as u64;
        (self.entries, self.bytes) = (self.entries + 1, self.bytes + bytes);
        Ok(bytes)
    }

    /// As [`Parcels::entry`], of what is gone.
    pub(crate) fn removal(
        &mut self,
        slot: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result,
    ) -> Result {
        self.gone += self.entry(slot, write)?;
        self.entries -= 1;
        Ok(())
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    /// That was everything, at `progress`.
    pub(crate) fn end(&mut self, progress: Progress) {
        self.close();
        let mut end = head(END, &self.operator, 0, 0);
        for time in [progress.watermark, progress.horizon, progress.last] {
            end.extend_from_slice(&time.millis().to_le_bytes());
        }
        self.done.push(end);
    }
}

fn head(kind: u8, operator: &str, piece: u8, group: i64) -> Vec<u8> {
    let mut head = Vec::with_capacity(1 << 10);
    head.push(kind);
    let len = u16::try_from(operator.len()).expect("names of operators are short");
    head.extend_from_slice(&len.to_le_bytes());
    head.extend_from_slice(operator.as_bytes());
    head.push(piece);
    head.extend_from_slice(&group.to_le_bytes());
    head
}

/// A parcel as it is read back.
#[derive(Debug)]
pub(crate) struct Parcel<'a> {
    pub(crate) operator: &'a str,
    pub(crate) piece: u8,
    pub(crate) group: i64,
    pub(crate) holds: Holds<'a>,
}

/// What a parcel holds.
#[derive(Debug)]
pub(crate) enum Holds<'a> {
    Entries(Entries<'a>),
    End(Progress),
}

impl<'a> Parcel<'a> {
    /// # Errors
    /// When it is none. Its checksum was right, so another version has written it.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut rest = Rest(bytes);
        let kind = rest.array::<1>()?[0];
        let len = usize::from(u16::from_le_bytes(rest.array()?));
        let operator = std::str::from_utf8(rest.take(len)?).map_err(|_| not_ours())?;
        let piece = rest.array::<1>()?[0];
        let group = i64::from_le_bytes(rest.array()?);
        let holds = match kind {
            ENTRIES => Holds::Entries(Entries(rest)),
            END => {
                let mut time = || rest.array().map(i64::from_le_bytes);
                Holds::End(Progress {
                    watermark: EventTime::from_millis(time()?),
                    horizon: EventTime::from_millis(time()?),
                    last: EventTime::from_millis(time()?),
                })
            }
            _ => return Err(not_ours()),
        };
        Ok(Self {
            operator,
            piece,
            group,
            holds,
        })
    }
}

/// Entries with their slots.
#[derive(Debug)]
pub(crate) struct Entries<'a>(Rest<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(usize, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.0.is_empty()).then(|| {
            let word = u32::from_le_bytes(self.0.array()?);
            let slot = (word >> LEN_BITS) as usize;
            let mut len = (word & LEN_MAX) as usize;
            if word & LEN_MAX == LEN_MAX {
                let long = u64::from_le_bytes(self.0.array()?);
                len = usize::try_from(long).map_err(|_| not_ours())?;
            }
            Ok((slot, self.0.take(len)?))
        })
    }
}

/// Bytes that are still to be read.
#[derive(Debug)]
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(not_ours)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| not_ours())
    }
}

#[cold]
fn not_ours() -> Error {
    Error::new(
        crate::error::ErrorKind::State,
        "a checkpoint holds a parcel that this version cannot read",
    )
}

const _: () = assert!(
    SLOTS <= 1 << (32 - LEN_BITS),
    "a slot has its bits in the head of an entry"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(parcels: &[Vec<u8>]) -> Vec<(u8, i64, usize, Vec<u8>)> {
        let mut all = Vec::new();
        for parcel in parcels {
            let parcel = Parcel::read(parcel).unwrap();
            let Holds::Entries(entries) = parcel.holds else {
                continue;
            };
            for entry in entries {
                let (slot, bytes) = entry.unwrap();
                all.push((parcel.piece, parcel.group, slot, bytes.to_vec()));
            }
        }
        all
    }

    #[test]
    fn entries_come_back_with_piece_group_and_slot() {
        let mut parcels = Parcels::of("window");
        let mut expected = Vec::new();
        for (piece, group, slot, len) in [
            (0u8, 0i64, 0usize, 3usize),
            (0, -5, 1_023, 0),
            (1, 7, 17, LEN_MAX as usize + 9),
        ] {
            let bytes = vec![7u8; len];
            parcels.resume(piece);
            parcels.group(group);
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(&bytes);
                Ok(())
            };
            parcels.entry(slot, write).unwrap();
            parcels.entry(slot, write).unwrap();
            expected.extend([
                (piece, group, slot, bytes.clone()),
                (piece, group, slot, bytes),
            ]);
        }
        let progress = Progress {
            watermark: EventTime::from_millis(9),
            ..Progress::START
        };
        parcels.end(progress);
        assert_eq!(entries(&parcels.done), expected);
        let end = Parcel::read(parcels.done.last().unwrap()).unwrap();
        assert!(matches!(end.holds, Holds::End(at) if at == progress));
        assert_eq!(end.operator, "window");
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let mut parcels = Parcels::of("x");
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"abc");
            Ok(())
        };
        parcels.entry(1, write).unwrap();
        parcels.end(Progress::START);
        for parcel in &parcels.done {
            for len in 0..parcel.len() {
                let read = Parcel::read(&parcel[..len]);
                let whole = read.is_ok_and(|parcel| match parcel.holds {
                    Holds::Entries(mut entries) => entries.all(|entry| entry.is_ok()),
                    Holds::End(_) => true,
                });
                // A parcel of no entries is one too.
                assert!(
                    !whole || len == 1 + 2 + 1 + 1 + 8,
                    "{len} of {}",
                    parcel.len()
                );
            }
        }
    }
}
