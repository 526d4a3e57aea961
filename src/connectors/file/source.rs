//! Files as a source: a file is a partition, and so is each file of a folder.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::which::{check_same, files_in, identity};
use super::{Filled, Lines, Packing};
use crate::connectors::{Fetched, Found, PartitionCut, Reader, Share, Source, SourceCut};
use crate::error::{Error, Result};
use crate::event::{Origin, RECORD_BYTES_MAX, Record};

/// What a buffer of a partition has when there is room for it: enough to hide the system call.
const CHUNK_MAX: usize = 256 << 10;
/// What it has at least, however many partitions there are.
const CHUNK_MIN: usize = 4 << 10;
/// With more files than this, a file is closed between two reads: few systems allow more at once.
const OPEN_FILES_MAX: usize = 256;

/// One file of lines, or a folder of them.
///
/// A file is partition 0. Of a folder, each `*.jsonl` and `*.ndjson`, also with `.gz` or `.zst`
/// behind it, is one partition, numbered in byte order of the names; other files, hidden ones and
/// subfolders are left out, and a log line says so. Which files belong to the source is settled in
/// [`Source::prepare`]. A record's offset is its line's number less one: every line counts, also
/// those of whitespace, which are not given.
///
/// Files end in `.gz` or `.zst` when they are packed so; several members or frames in one file
/// follow each other. A line longer than a record may be is given as its beginning, with its true
/// length in [`Record::full_len`]. Named pipes are read as files, and block the worker while they
/// are silent.
///
/// # Errors
/// Operating errors, each naming the file and the line where there is one: what is missing or
/// cannot be read, at the start or on the way; a packed file that is damaged or cut off; a file
/// that shrinks or is replaced while it is read; a folder without a file to read.
///
/// # Memory
/// The buffers of a worker's partitions share [`Share::buffer_bytes`], but each has 4 KiB at least
/// and 256 KiB at most, only while the partition is read, and more only around a line that needs
/// it. What decompression holds beside them is up to the files: a gzip file 50 KiB, a zstd file its
/// window, usually 2 to 8 MiB.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    longest: usize,
    files: Mutex<Arc<[PathBuf]>>,
    resumed: OnceLock<SourceCut>,
}

impl FileSource {
    /// The file or folder at `path`, which is looked at only in [`Source::prepare`].
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            longest: RECORD_BYTES_MAX,
            files: Mutex::default(),
            resumed: OnceLock::new(),
        }
    }

    fn files(&self) -> Arc<[PathBuf]> {
        Arc::clone(&self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where reading of `partition` begins.
    fn start(&self, partition: u32) -> u64 {
        let cuts = self.resumed.get().map_or(&[][..], |cut| &cut.partitions);
        let cut = cuts.iter().find(|cut| cut.partition == partition);
        cut.map_or(0, |cut| cut.next)
    }

    /// Lines of up to `bytes` are given whole; by default, those that can be a record.
    pub(crate) fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }
}

impl Source for FileSource {
    fn place(&self) -> Option<String> {
        let path = self.path.canonicalize().ok()?;
        Some(format!("file:{}", path.display()))
    }

    fn describe(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn bounded(&self) -> bool {
        true
    }

    fn resume(&self, cut: &SourceCut) -> Result {
        let twice = |_| Error::usage("a source is resumed once");
        self.resumed.set(cut.clone()).map_err(twice)
    }

    fn cut(&self) -> Result<Option<SourceCut>> {
        let files = self.files();
        let cut = |(partition, _)| PartitionCut {
            partition,
            next: self.start(partition),
            end: None,
        };
        let partitions = (0..).zip(files.iter()).map(cut).collect();
        let identity = identity(&files)?;
        Ok(Some(SourceCut {
            identity,
            partitions,
        }))
    }

    fn check(&self, _creates: bool) -> Result<String> {
        self.prepare()?;
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(format!("readable, {} partitions", files.len()))
    }

    fn prepare(&self) -> Result {
        let about = |cause| cannot_read(&self.path, cause);
        let is_folder = fs::metadata(&self.path).map_err(about)?.is_dir();
        let files = if is_folder {
            files_in(&self.path)?
        } else {
            vec![self.path.clone()]
        };
        for file in &files {
            check(file).map_err(|cause| cannot_read(file, cause))?;
        }
        if let Some(cut) = self.resumed.get() {
            check_same(&cut.identity, &identity(&files)?)?;
        }
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files.into();
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        let files = self.files();
        let keep_open = files.len() <= OPEN_FILES_MAX;
        let own = (0..)
            .zip(files.iter())
            .filter(|(partition, _)| share.owns(*partition));
        let partitions: Vec<_> = own
            .map(|(number, path)| {
                let start = self.start(number);
                Partition::new(number, path, (start, self.longest))
            })
            .collect();
        let budget = share.buffer_bytes / partitions.len().max(1);
        Ok(Box::new(FileReader {
            partitions,
            budget,
            keep_open,
            discovered: false,
        }))
    }
}

/// Whether a file of this name, found in a folder, is one of its partitions.
pub(crate) fn is_partition(name: &[u8]) -> bool {
    let unpacked = name
        .strip_suffix(b".gz")
        .or(name.strip_suffix(b".zst"))
        .unwrap_or(name);
    let hidden = name.starts_with(b".");
    !hidden && (unpacked.ends_with(b".jsonl") || unpacked.ends_with(b".ndjson"))
}

/// Whether the file at `path` can be read. A pipe is not opened: that would use it up.
fn check(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() {
        File::open(path).map(drop)
    } else {
        Ok(())
    }
}

pub(super) fn cannot_read(path: &Path, cause: io::Error) -> Error {
    Error::operating(format!("file `{}`", path.display())).because(cause)
}

/// The partitions of one worker, in order.
struct FileReader {
    partitions: Vec<Partition>,
    budget: usize,
    keep_open: bool,
    discovered: bool,
}

impl Reader for FileReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        if std::mem::replace(&mut self.discovered, true) {
            return Ok(Vec::new());
        }
        Ok(self.partitions.iter().map(Partition::found).collect())
    }

    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let place = self
            .partitions
            .binary_search_by_key(&partition, |it| it.number);
        let Some(partition) = place.ok().and_then(|place| self.partitions.get_mut(place)) else {
            return Err(Error::operating(format!(
                "no partition {partition} on this worker"
            )));
        };
        partition.fetch(self.budget, self.keep_open, max, records)
    }
}

struct Partition {
    number: u32,
    path: PathBuf,
    /// The first record that is wanted.
    start: u64,
    longest: usize,
    state: State,
}

enum State {
    /// Not opened yet.
    Waiting,
    Reading(Lines<Box<dyn Read>>),
    Ended,
    /// An error was given; nothing that comes behind it can be trusted.
    Failed,
}

impl Partition {
    fn new(number: u32, path: &Path, (start, longest): (u64, usize)) -> Self {
        Self {
            number,
            path: path.to_owned(),
            start,
            longest,
            state: State::Waiting,
        }
    }

    fn found(&self) -> Found {
        let origin = Origin::File(self.path.to_string_lossy().into());
        Found {
            partition: self.number,
            origin,
        }
    }

    fn fetch<'a>(
        &'a mut self,
        budget: usize,
        keep_open: bool,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        if matches!(self.state, State::Waiting) {
            let lines = lines_of(&self.path, budget, keep_open, self.longest);
            self.state = State::Reading(lines.map_err(|cause| cannot_read(&self.path, cause))?);
        }
        let filled = match &mut self.state {
            State::Reading(lines) => lines.fill().map_err(|cause| (cause, lines.number())),
            State::Failed => Err((io::Error::other("it could not be read before"), 0)),
            State::Waiting | State::Ended => Ok(Filled::End),
        };
        match filled {
            Ok(Filled::Lines) => {}
            Ok(Filled::Wait) => return Ok(Fetched::Wait),
            Ok(Filled::End) => {
                self.state = State::Ended;
                return Ok(Fetched::End);
            }
            Err((cause, line)) => {
                self.state = State::Failed;
                let place = format!("file `{}`, line {line}", self.path.display());
                return Err(Error::operating(place).because(cause));
            }
        }
        if let State::Reading(lines) = &mut self.state {
            lines.take(max, records);
            if self.start > 0 {
                records.retain(|record| record.offset >= self.start);
            }
        }
        Ok(Fetched::Some)
    }
}

/// Opens the file at `path`, to be read through buffers of `budget` bytes in all.
fn lines_of(
    path: &Path,
    budget: usize,
    keep_open: bool,
    longest: usize,
) -> io::Result<Lines<Box<dyn Read>>> {
    let raw = RawFile::open(path, keep_open)?;
    let chunk = |budget: usize| budget.clamp(CHUNK_MIN, CHUNK_MAX);
    let packing = Packing::of(path);
    if packing == Packing::Plain {
        return Ok(Lines::new(Box::new(raw), chunk(budget), longest));
    }
    let packed = BufReader::with_capacity(chunk(budget / 4), raw);
    Ok(Lines::new(
        packing.unpack(packed)?,
        chunk(budget / 2),
        longest,
    ))
}

/// The bytes of a file, opened when they are read, and closed in between if there are too many.
struct RawFile {
    path: PathBuf,
    file: Option<File>,
    keep_open: bool,
    /// Bytes read.
    at: u64,
    /// Bytes that it had when it was opened first; 0 for what is no ordinary file.
    length: u64,
    /// Device and inode: which file it is.
    identity: (u64, u64),
}

impl RawFile {
    fn open(path: &Path, keep_open: bool) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let ordinary = metadata.is_file();
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
            keep_open: keep_open || !ordinary,
            at: 0,
            length: if ordinary { metadata.len() } else { 0 },
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    fn reopen(&self) -> io::Result<File> {
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != self.identity {
            return Err(io::Error::other("it was replaced while it was read"));
        }
        file.seek(SeekFrom::Start(self.at))?;
        Ok(file)
    }
}

impl Read for RawFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.reopen()?,
        };
        let read = file.read(buffer);
        if self.keep_open {
            self.file = Some(file);
        }
        let read = read?;
        self.at += read as u64;
        if read == 0 && !buffer.is_empty() && self.at < self.length {
            return Err(io::Error::other("it was cut while it was read"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::connectors::Waker;

    type Line = (u64, String);

    fn share(buffer_bytes: usize) -> Share {
        Share {
            worker: 0,
            workers: 1,
            port: 0,
            buffer_bytes,
            waker: Waker::new(|| {}),
        }
    }

    fn open(path: &Path, buffer_bytes: usize) -> Box<dyn Reader> {
        let source = FileSource::new(path);
        source.prepare().unwrap();
        source.open(share(buffer_bytes)).unwrap()
    }

    /// Lines of `partition` up to its end, or up to an error.
    fn read(reader: &mut dyn Reader, partition: u32) -> (Vec<Line>, Result) {
        let mut lines = Vec::new();
        loop {
            let mut records = Vec::new();
            let fetched = reader.fetch(partition, 7, &mut records);
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            lines.extend(
                records
                    .iter()
                    .map(|it| (it.offset, text(it.value.unwrap()))),
            );
            match fetched {
                Ok(Fetched::End) => return (lines, Ok(())),
                Ok(fetched) => assert_eq!(fetched, Fetched::Some),
                Err(error) => return (lines, Err(error)),
            }
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_file_is_one_partition_with_its_name_as_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.txt");
        fs::write(&path, "\u{feff}1\n\r\n \t\n2\r\n3").unwrap();
        let mut reader = open(&path, 1 << 20);
        let found = reader.discover().unwrap();
        assert_eq!((found.len(), found[0].partition), (1, 0));
        assert_eq!(found[0].origin, Origin::File(path.to_str().unwrap().into()));
        assert!(reader.discover().unwrap().is_empty());
        let (lines, end) = read(&mut *reader, 0);
        end.unwrap();
        assert_eq!(lines, [(0, "1".into()), (3, "2".into()), (4, "3".into())]);
        assert_eq!(read(&mut *reader, 0).0, []);
    }

    #[test]
    fn a_folder_has_a_partition_for_each_of_its_files_in_byte_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("b.jsonl"), "b").unwrap();
        fs::write(at("B.ndjson"), "B").unwrap();
        fs::write(at("a.jsonl.gz"), gzip(b"a")).unwrap();
        fs::write(
            at("\u{e4}.ndjson.zst"),
            zstd::encode_all(&b"ae"[..], 1).unwrap(),
        )
        .unwrap();
        for skipped in ["a.json", "a.jsonl.bz2", ".hidden.jsonl", "README", "a.gz"] {
            fs::write(at(skipped), "no").unwrap();
        }
        fs::create_dir(at("c.jsonl")).unwrap();
        let mut reader = open(folder.path(), 1 << 20);
        let names: Vec<_> = reader
            .discover()
            .unwrap()
            .iter()
            .map(|it| it.origin.to_string())
            .collect();
        let expected = ["B.ndjson", "a.jsonl.gz", "b.jsonl", "\u{e4}.ndjson.zst"];
        assert_eq!(names, expected.map(|name| at(name).display().to_string()));
        let all: Vec<_> = (0..4)
            .map(|it| read(&mut *reader, it).0[0].1.clone())
            .collect();
        assert_eq!(all, ["B", "a", "b", "ae"]);
    }

    #[test]
    fn files_are_dealt_out_to_workers() {
        let folder = tempfile::tempdir().unwrap();
        for name in 0..5 {
            fs::write(
                folder.path().join(format!("{name}.jsonl")),
                name.to_string(),
            )
            .unwrap();
        }
        let source = FileSource::new(folder.path());
        source.prepare().unwrap();
        let mut all = Vec::new();
        for worker in 0..3 {
            let mut reader = source
                .open(Share {
                    worker,
                    workers: 3,
                    port: 1,
                    ..share(9)
                })
                .unwrap();
            for found in reader.discover().unwrap() {
                let (lines, _) = read(&mut *reader, found.partition);
                all.push((found.partition, lines[0].1.clone()));
            }
        }
        all.sort();
        let expected: Vec<_> = (0..5).map(|it: u32| (it, it.to_string())).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn what_is_not_there_is_named_with_exit_1() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("x");
        let error = FileSource::new(&missing).prepare().unwrap_err();
        let start = format!("file `{}`: No such file", missing.display());
        assert!(error.to_string().starts_with(&start), "{error}");
        fs::write(folder.path().join("x.json"), "{}").unwrap();
        let none = FileSource::new(folder.path()).prepare().unwrap_err();
        assert!(none.to_string().contains("no file to read"), "{none}");
        let link = folder.path().join("x.jsonl");
        std::os::unix::fs::symlink(&missing, link).unwrap();
        let broken = FileSource::new(folder.path()).prepare().unwrap_err();
        assert!(
            broken.to_string().contains("x.jsonl`: No such file"),
            "{broken}"
        );
        assert!(
            [error, none, broken]
                .iter()
                .all(|error| error.exit_code() == 1)
        );
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        for (name, pack) in [
            ("a.gz", &gzip as &dyn Fn(&[u8]) -> Vec<u8>),
            ("a.zst", &zstd),
        ] {
            let path = folder.path().join(name);
            let long = [&b"2\nlong "[..], &vec![b'x'; 500_000]].concat();
            let packed = [&b"1\nhal"[..], b"f\n", b"", &long, b"\n3"]
                .map(pack)
                .concat();
            fs::write(&path, packed).unwrap();
            let (lines, end) = read(&mut *open(&path, 1), 0);
            end.unwrap();
            let lengths: Vec<_> = lines.iter().map(|(_, text)| text.len()).collect();
            assert_eq!(lengths, [1, 4, 1, 500_005, 1], "{name}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_file_and_line_and_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = (0..9_999)
            .map(|line| line.to_string())
            .collect::<Vec<_>>()
            .join("\n");
        let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
        for (name, mut packed) in [("a.jsonl.gz", gzip(text.as_bytes())), ("a.jsonl.zst", zstd)] {
            let path = folder.path().join(name);
            packed.truncate(packed.len() - 9);
            fs::write(&path, packed).unwrap();
            let mut reader = open(&path, 1);
            let (lines, end) = read(&mut *reader, 0);
            let error = end.unwrap_err();
            let start = format!("file `{}`, line {}: ", path.display(), lines.len() + 1);
            assert!(error.to_string().starts_with(&start), "{error}");
            assert_eq!(error.exit_code(), 1);
            assert!(read(&mut *reader, 0).1.is_err());
        }
    }

    #[test]
    fn a_file_that_changes_under_the_reader_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for (name, count) in [("few", 1), ("many", OPEN_FILES_MAX + 1)] {
            let folder = folder.path().join(name);
            fs::create_dir(&folder).unwrap();
            for number in 0..count {
                let path = folder.join(format!("{number:04}.jsonl"));
                fs::write(path, "x\n".repeat(10_000)).unwrap();
            }
            let first = folder.join("0000.jsonl");
            let changes: [&dyn Fn(); 3] = [
                &|| fs::write(&first, "x").unwrap(),
                &|| fs::remove_file(&first).unwrap(),
                &|| fs::write(&first, "x\n".repeat(10_000)).unwrap(),
            ];
            for (change, expected) in changes.iter().zip(["cut", "No such file", "replaced"]) {
                fs::write(&first, "x\n".repeat(10_000)).unwrap();
                let mut reader = open(&folder, 1);
                reader.fetch(0, 7, &mut Vec::new()).unwrap();
                if expected == "replaced" {
                    fs::rename(&first, folder.join("moved")).unwrap();
                }
                change();
                let (lines, end) = read(&mut *reader, 0);
                if expected == "cut" || name == "many" {
                    let error = end.unwrap_err().to_string();
                    assert!(error.contains("0000.jsonl`, line "), "{error}");
                    assert!(error.contains(expected), "{error}");
                } else {
                    end.unwrap();
                    assert_eq!(lines.len(), 10_000 - 7, "an open file stays");
                }
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_its_beginning_and_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        let lengths = [900_000, 900_001, 900_002, 3_000_000, 1];
        let lines = lengths.map(|length| "x".repeat(length) + "\r\n");
        fs::write(&path, lines.concat()).unwrap();
        for buffer_bytes in [1, 1 << 30] {
            let mut reader = open(&path, buffer_bytes);
            let mut got = Vec::new();
            loop {
                let mut records = Vec::new();
                let fetched = reader.fetch(0, 9, &mut records).unwrap();
                got.extend(records.iter().map(|it| (it.len(), it.full_len)));
                if fetched == Fetched::End {
                    break;
                }
            }
            let cut = 900_001;
            let long = [(cut, Some(900_002)), (cut, Some(3_000_000))];
            assert_eq!(
                got,
                [(900_000, None), (cut, None), long[0], long[1], (1, None)]
            );
        }
    }

    #[test]
    fn a_thousand_files_are_read_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let line = |file: usize, line: usize| format!("{file} {line} {}", "x".repeat(90));
        for file in 0..1_000 {
            let text: Vec<_> = (0..100).map(|it| line(file, it)).collect();
            fs::write(
                folder.path().join(format!("{file:03}.jsonl")),
                text.join("\n"),
            )
            .unwrap();
        }
        let mut reader = open(folder.path(), 1 << 20);
        let mut counts = vec![0; 1_000];
        let mut ended = 0;
        while ended < 1_000 {
            for partition in 0..1_000 {
                let mut records = Vec::new();
                let fetched = reader.fetch(partition, 9, &mut records).unwrap();
                let file = partition as usize;
                for record in &records {
                    assert_eq!(record.value.unwrap(), line(file, counts[file]).as_bytes());
                    counts[file] += 1;
                }
                ended += usize::from(fetched == Fetched::End && counts[file] == 100);
                counts[file] += usize::from(fetched == Fetched::End);
            }
        }
        let open_files = fs::read_dir("/proc/self/fd")
            .map(Iterator::count)
            .unwrap_or_default();
        assert!(open_files < 900, "{open_files}");
    }

    #[test]
    fn empty_files_have_no_lines_but_packed_ones_need_a_member() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let zstd = zstd::encode_all(&b""[..], 1).unwrap();
        for (name, bytes) in [
            ("a.jsonl", vec![]),
            ("b.jsonl.gz", gzip(b"")),
            ("c.jsonl.zst", zstd),
        ] {
            fs::write(at(name), bytes).unwrap();
            let (lines, end) = read(&mut *open(&at(name), 1), 0);
            end.unwrap();
            assert_eq!(lines, []);
        }
        for name in ["b.jsonl.gz", "c.jsonl.zst"] {
            fs::write(at(name), "").unwrap();
            read(&mut *open(&at(name), 1), 0).1.unwrap_err();
        }
    }
}
