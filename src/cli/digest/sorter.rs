//! Sorts more records than memory holds: sorted runs in temporary files, merged at the end.
//!
//! Runs have levels. When a level is full it is merged to one run of the next, so that the number
//! of open files is small and a record is written once a level.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use crate::error::{Error, Result};

/// Runs of a level.
const FAN: usize = 32;
const BUFFER: usize = 64 << 10;

/// Records, as they come.
pub(super) struct Sorter {
    memory: usize,
    bytes: Vec<u8>,
    /// Where each record lies in `bytes`.
    records: Vec<(usize, usize)>,
    levels: Vec<Vec<File>>,
}

impl Sorter {
    /// A sorter that holds about `memory` bytes.
    pub(super) fn new(memory: usize) -> Self {
        Self {
            memory,
            // Pages that are never written cost nothing, and growing would hold twice as much.
            bytes: Vec::with_capacity(memory),
            records: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// Adds the record that `write` appends.
    ///
    /// # Errors
    /// Operating errors of the folder for temporary files.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result {
        let from = self.bytes.len();
        write(&mut self.bytes);
        self.records.push((from, self.bytes.len()));
        let index = self.records.len() * size_of::<(usize, usize)>();
        if self.bytes.len() + index > self.memory {
            self.spill().map_err(no_room)?;
        }
        Ok(())
    }

    /// Gives all records in the order of their bytes.
    ///
    /// # Errors
    /// As [`Sorter::add`].
    pub(super) fn finish(mut self, mut each: impl FnMut(&[u8])) -> Result {
        if self.levels.is_empty() {
            self.sort();
            for (from, to) in &self.records {
                each(&self.bytes[*from..*to]);
            }
            return Ok(());
        }
        let last = self.spill();
        let runs = self.levels.into_iter().flatten().collect();
        let merged = last.and_then(|()| {
            merge(runs, |record| {
                each(record);
                Ok(())
            })
        });
        merged.map_err(no_room)
    }

    fn sort(&mut self) {
        let record = |(from, to): &(usize, usize)| &self.bytes[*from..*to];
        self.records
            .sort_unstable_by(|a, b| record(a).cmp(record(b)));
    }

    /// Writes what is in memory as a run, and merges every level that is full.
    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut run = Run::new()?;
        for (from, to) in &self.records {
            run.push(&self.bytes[*from..*to])?;
        }
        self.records.clear();
        self.bytes.clear();
        let mut run = run.end()?;
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(run);
            if self.levels[level].len() < FAN {
                break;
            }
            let mut merged = Run::new()?;
            let full = std::mem::take(&mut self.levels[level]);
            merge(full, |record| merged.push(record))?;
            run = merged.end()?;
        }
        Ok(())
    }
}

/// A file of sorted records, each behind its length; it has no name, and is gone with the process.
struct Run(BufWriter<File>);

impl Run {
    fn new() -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        Ok(Self(BufWriter::with_capacity(BUFFER, file)))
    }

    fn push(&mut self, record: &[u8]) -> io::Result<()> {
        self.0.write_all(&(record.len() as u64).to_le_bytes())?;
        self.0.write_all(record)
    }

    fn end(self) -> io::Result<File> {
        let mut file = self.0.into_inner()?;
        file.rewind()?;
        Ok(file)
    }
}

/// Reads one record, or `None` at the end.
fn next(run: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match run.read_exact(&mut length) {
        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?;
    let mut record = vec![0; length];
    run.read_exact(&mut record)?;
    Ok(Some(record))
}

fn merge(runs: Vec<File>, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let readers = runs
        .into_iter()
        .map(|run| BufReader::with_capacity(BUFFER, run));
    let mut readers: Vec<_> = readers.collect();
    let mut heads = BinaryHeap::new();
    for (run, reader) in readers.iter_mut().enumerate() {
        heads.extend(next(reader)?.map(|record| Reverse((record, run))));
    }
    while let Some(Reverse((record, run))) = heads.pop() {
        each(&record)?;
        heads.extend(next(&mut readers[run])?.map(|record| Reverse((record, run))));
    }
    Ok(())
}

fn no_room(cause: io::Error) -> Error {
    let folder = std::env::temp_dir();
    let about = format!("temporary files in `{}` (TMPDIR)", folder.display());
    Error::operating(about).because(cause)
}
