//! Files as a sink: hidden while they are written, and then there, whole.
//!
//! ```text
//! STEP 1  prepare   a hidden file beside the place, or a folder for part files
//! STEP 2  write     each worker collects lines, and hands on pieces of whole lines
//! STEP 3  close     what was handed on is on the disk
//! STEP 4  finish    renamed, and the folder is on the disk
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Packing;
use super::check::check_output;
use super::folder::{Folder, PartWriter};
use super::hidden::{Hidden, sync_folder};
use super::kept::Kept;
use super::pack::Packer;
use crate::connectors::{Batch, Outputs, Share, Sink, Style, Writer, Written};
use crate::error::{Error, Result};
use crate::state::OutputState;

/// How much a worker collects before it writes: enough to hide the system call and, where each
/// piece is packed for itself, to lose no ratio; not so much that packing it holds up the worker.
pub(super) const PIECE: usize = 256 << 10;
/// A part file of this size is followed by the next one.
pub(super) const PART_BYTES: u64 = 64 << 20;
/// More links behind one another than any system follows.
const LINKS_MAX: usize = 40;

/// A file of lines, or a folder of part files.
///
/// A path that ends in `/` is a folder: each worker writes part files of its own,
/// `part-WWW-CCCCCCCCCC.jsonl` (worker and roll, from 0), the next one after 64 MiB. The folder is
/// made if its parent exists. Every other path is one file, which all workers append to by pieces
/// of whole lines, in any order between workers and in order of each; `.gz` and `.zst` are packed.
///
/// An output is complete or absent: it is written under a hidden name beside its place and renamed
/// in [`Sink::finish`], and a run that fails removes it. It exists after success even if nothing
/// was written. A file that was there is replaced; a link is followed. Part files are renamed one
/// by one, so that a folder is as whole as the machine is alive meanwhile. What is no ordinary
/// file, a device or a named pipe, is written at once and in place, and may block the worker.
///
/// # Errors
/// Usage errors: a folder that is not empty, unless `overwrite` allows to replace the part files in
/// it; a file's path that is a folder. Operating errors, naming file or folder: a parent folder
/// that is missing, a full disk, an output that another process is writing.
#[derive(Debug)]
pub struct FileSink {
    pub(super) path: PathBuf,
    overwrite: bool,
    parent_is_made: bool,
    pub(super) begins: Mutex<Begins>,
    pub(super) output: Mutex<Output>,
}

/// With what a run begins.
#[derive(Debug, Default)]
pub(super) enum Begins {
    /// It has no checkpoints.
    #[default]
    Alone,
    /// No checkpoint has anything of it.
    Anew,
    GoesOn(OutputState),
}

#[derive(Debug, Default)]
pub(super) enum Output {
    /// Not prepared, or finished.
    #[default]
    None,
    File(Arc<Mutex<Single>>),
    Folder(Arc<Folder>),
    Kept(Arc<Kept>),
}

impl FileSink {
    /// The file at `path`, or the folder if it ends in `/`. `overwrite`: part files that are in the
    /// folder are replaced; other files in it stay.
    pub fn new(path: impl Into<PathBuf>, overwrite: bool) -> Self {
        Self {
            path: path.into(),
            overwrite,
            parent_is_made: false,
            begins: Mutex::default(),
            output: Mutex::default(),
        }
    }

    /// Its parent folder is made before it is prepared, if it is not there.
    pub(crate) fn in_made_folder(mut self) -> Self {
        self.parent_is_made = true;
        self
    }

    /// Where the output will be, with links resolved as far as they exist, so that two sinks write
    /// to one place if and only if their paths are equal.
    pub fn path(&self) -> PathBuf {
        // While it grows what a link leads to is not there.
        let parent_and_name = || {
            let path = follow(&self.path);
            let parent = parent(&path).canonicalize().ok()?;
            Some(parent.join(path.file_name()?))
        };
        let whole = self.path.canonicalize().ok();
        whole
            .or_else(parent_and_name)
            .unwrap_or_else(|| self.path.clone())
    }

    pub(super) fn output(&self) -> MutexGuard<'_, Output> {
        lock(&self.output)
    }

    pub(super) fn is_folder(&self) -> bool {
        self.path.as_os_str().as_bytes().ends_with(b"/")
    }
}

impl Sink for FileSink {
    fn place(&self) -> Option<String> {
        // Devices take any number of writers.
        let path = self.path();
        (!path.starts_with("/dev")).then(|| format!("file:{}", path.display()))
    }

    fn describe(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn style(&self) -> Style {
        Style::Lines
    }

    fn check(&self, _creates: bool) -> Result<String> {
        check_output(
            &self.path,
            self.overwrite || self.goes_on(),
            self.parent_is_made,
        )
    }

    fn is_exactly_once(&self) -> bool {
        self.outputs().is_some()
    }

    fn outputs(&self) -> Option<&dyn Outputs> {
        // What was written to a device or a pipe cannot be taken back; a path that is no text has
        // no form in a manifest. `/dev/stdout` may lead to a pipe, which has no path at all.
        let ordinary = fs::metadata(&self.path).map_or(true, |it| it.is_file() || it.is_dir());
        (ordinary && self.path().to_str().is_some()).then_some(self)
    }

    fn prepare(&self) -> Result {
        let parent = parent(&self.path);
        fs::metadata(parent).map_err(|cause| {
            let (parent, path) = (parent.display(), self.path.display());
            Error::operating(format!("folder `{parent}`, for `{path}`")).because(cause)
        })?;
        if !self.is_folder() && self.path.is_dir() {
            let path = self.path.display();
            let hint = format!("file `{path}` is a folder; `{path}/` writes part files into it");
            return Err(Error::usage(hint));
        }
        let mut output = self.output();
        // What an earlier call has made goes first: it holds the locks.
        *output = Output::None;
        let place = self.path();
        let keep = |before: Option<&OutputState>| {
            let kept = Kept::prepare((&*self.path, &*place), before, self.overwrite)?;
            Ok::<_, Error>(Output::Kept(Arc::new(kept)))
        };
        *output = match &*lock(&self.begins) {
            Begins::GoesOn(before) => keep(Some(before))?,
            Begins::Anew => keep(None)?,
            Begins::Alone if self.is_folder() => {
                Output::Folder(Arc::new(Folder::prepare(&self.path, self.overwrite)?))
            }
            Begins::Alone => {
                let single = Single::create(&self.path, &place)?;
                Output::File(Arc::new(Mutex::new(single)))
            }
        };
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Writer>> {
        let about = |cause| cannot_write(&self.path, cause);
        let mut piece_bytes = share.buffer_bytes.min(PIECE);
        let (place, packing) = match &*self.output() {
            Output::None => return Err(about(io::Error::other("it is not prepared"))),
            Output::File(single) => {
                if matches!(lock(single).target, Target::InPlace(_)) {
                    piece_bytes = 0; // a checkpoint counts on what was taken
                }
                let place = Place::File(self.path.clone(), Arc::clone(single));
                (place, Packing::of(&self.path))
            }
            Output::Folder(folder) => {
                let parts = PartWriter::new(Arc::clone(folder), share.worker, PART_BYTES);
                (Place::Parts(parts), Packing::Plain)
            }
            Output::Kept(kept) => return kept.open(&share),
        };
        let waits = packing != Packing::Plain;
        let packer = packing.packer().map_err(about)?;
        Ok(Box::new(FileWriter {
            place,
            packer,
            piece: Vec::new(),
            piece_bytes,
            waits,
        }))
    }

    fn finish(&self, complete: bool) -> Result {
        match mem::take(&mut *self.output()) {
            // The last checkpoint has shown all that there is to show.
            Output::None | Output::Kept(_) => Ok(()),
            Output::File(single) => {
                let finished = lock(&single).finish(complete);
                finished.map_err(|cause| cannot_write(&self.path, cause))
            }
            Output::Folder(folder) => folder.finish(complete),
        }
    }
}

/// What `path` leads to, if it is a link to something that is not there.
fn follow(path: &Path) -> PathBuf {
    let next = |from: &PathBuf| fs::read_link(from).ok().map(|to| parent(from).join(to));
    let all = std::iter::successors(Some(path.to_owned()), next);
    all.take(LINKS_MAX)
        .last()
        .unwrap_or_else(|| path.to_owned())
}

/// The one file that all workers write to.
#[derive(Debug)]
pub(super) struct Single {
    target: Target,
    packing: Packing,
    written: bool,
    failed: bool,
}

#[derive(Debug)]
enum Target {
    Hidden(Hidden),
    /// Something that is no ordinary file and cannot be renamed.
    InPlace(File),
    Finished,
}

impl Single {
    /// The file at `path`, which links lead to `place`.
    fn create(path: &Path, place: &Path) -> Result<Self> {
        let target = match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                File::options().append(true).open(path).map(Target::InPlace)
            }
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            Ok(_) | Err(_) => Hidden::create(place).map(Target::Hidden),
        };
        let target = target.map_err(|cause| cannot_write(path, cause))?;
        Ok(Self {
            target,
            packing: Packing::of(path),
            written: false,
            failed: false,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let result = match &mut self.target {
            Target::Hidden(hidden) => hidden.write_all(bytes),
            Target::InPlace(file) => file.write_all(bytes),
            Target::Finished => Err(io::Error::other("it is finished")),
        };
        self.written = true;
        self.failed |= result.is_err();
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Hidden(hidden) => hidden.sync().inspect_err(|_| self.failed = true),
            Target::InPlace(_) | Target::Finished => Ok(()),
        }
    }

    fn finish(&mut self, complete: bool) -> io::Result<()> {
        if complete && self.failed {
            return Err(io::Error::other(
                "a write failed before, it stays incomplete",
            ));
        }
        if complete && !self.written {
            // No bytes at all would be a damaged file for the readers of packed ones.
            self.write(self.packing.packer()?.pack(b"")?)?;
        }
        match mem::replace(&mut self.target, Target::Finished) {
            Target::Hidden(hidden) if complete => {
                let folder = parent(hidden.place()).to_owned();
                hidden.reveal()?;
                sync_folder(&folder)
            }
            Target::Hidden(_) | Target::InPlace(_) | Target::Finished => Ok(()),
        }
    }
}

/// What one worker writes.
#[derive(Debug)]
struct FileWriter {
    place: Place,
    packer: Packer,
    piece: Vec<u8>,
    piece_bytes: usize,
    /// Whether pieces are full before they are handed on, because each is packed for itself.
    waits: bool,
}

#[derive(Debug)]
enum Place {
    File(PathBuf, Arc<Mutex<Single>>),
    Parts(PartWriter),
}

impl FileWriter {
    fn hand_on(&mut self) -> Result {
        if self.piece.is_empty() {
            return Ok(());
        }
        match &mut self.place {
            Place::File(path, single) => {
                let packed = self.packer.pack(&self.piece);
                let written = packed.and_then(|bytes| lock(single).write(bytes));
                written.map_err(|cause| cannot_write(path, cause))?;
            }
            Place::Parts(parts) => parts.write(&self.piece)?,
        }
        self.piece.clear();
        Ok(())
    }
}

impl Writer for FileWriter {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        self.piece.extend_from_slice(lines_from(batch, from));
        if self.piece.len() >= self.piece_bytes {
            self.hand_on()?;
        }
        Ok(Written::All)
    }

    fn flush(&mut self) -> Result {
        if self.waits { Ok(()) } else { self.hand_on() }
    }

    fn close(&mut self) -> Result {
        self.hand_on()?;
        match &mut self.place {
            Place::File(path, single) => lock(single)
                .sync()
                .map_err(|cause| cannot_write(path, cause)),
            Place::Parts(parts) => parts.close(),
        }
    }
}

/// The values of `batch` from record `from` on as lines, in one piece. Null values are no lines.
pub(crate) fn lines_from(batch: &Batch, from: usize) -> &[u8] {
    let first = batch
        .records
        .iter()
        .skip(from)
        .find_map(|record| record.value);
    first.map_or(&[], |(start, _)| &batch.values[start as usize..])
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

pub(super) fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn cannot_write(path: &Path, cause: io::Error) -> Error {
    Error::operating(format!("file `{}`", path.display())).because(cause)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::thread;

    use super::*;
    use crate::connectors::file::FileSource;
    use crate::connectors::{Encoded, Reader, Source, Waker};

    fn share(worker: usize) -> Share {
        let waker = Waker::new(|| {});
        Share {
            worker,
            workers: 2,
            port: 0,
            buffer_bytes: 1 << 20,
            waker,
        }
    }

    fn batch(values: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for value in values {
            let from = u32::try_from(batch.values.len()).unwrap();
            batch.values.extend_from_slice(value.as_bytes());
            let to = u32::try_from(batch.values.len()).unwrap();
            batch.values.push(b'\n');
            batch.records.push(Encoded {
                value: Some((from, to)),
                ..Encoded::default()
            });
        }
        batch
    }

    fn write(sink: &FileSink, worker: usize, values: &[&str]) {
        let mut writer = sink.open(share(worker)).unwrap();
        assert_eq!(writer.write(&batch(values), 0).unwrap(), Written::All);
        writer.flush().unwrap();
        writer.close().unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn read(path: &Path) -> Vec<String> {
        let source = FileSource::new(path);
        source.prepare().unwrap();
        let mut reader = source
            .open(Share {
                workers: 1,
                ..share(0)
            })
            .unwrap();
        let mut lines = Vec::new();
        loop {
            let mut records = Vec::new();
            let end = Reader::fetch(&mut *reader, 0, 99, &mut records).unwrap();
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            lines.extend(records.iter().map(|record| text(record.value.unwrap())));
            if end == crate::connectors::Fetched::End {
                return lines;
            }
        }
    }

    #[test]
    fn an_output_is_complete_or_absent_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        fs::write(&path, "old\n").unwrap();
        for (complete, expected) in [(false, "old\n"), (true, "1\n2\n")] {
            let sink = FileSink::new(&path, false);
            sink.prepare().unwrap();
            write(&sink, 0, &["1", "2"]);
            assert_eq!(fs::read(&path).unwrap(), b"old\n");
            sink.finish(complete).unwrap();
            assert_eq!(fs::read(&path).unwrap(), expected.as_bytes());
            assert_eq!(names(folder.path()), ["out.jsonl"]);
        }
    }

    #[test]
    fn a_sink_that_is_never_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FileSink::new(folder.path().join("out.jsonl"), false);
        sink.prepare().unwrap();
        write(&sink, 0, &["1"]);
        drop(sink);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn every_bound_file_exists_after_success_if_empty() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"] {
            let path = folder.path().join(name);
            let sink = FileSink::new(&path, false);
            sink.prepare().unwrap();
            sink.finish(true).unwrap();
            assert!(read(&path).is_empty());
        }
    }

    #[test]
    fn workers_append_whole_lines_each_in_its_order_packed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"] {
            let path = folder.path().join(name);
            let sink = FileSink::new(&path, false);
            sink.prepare().unwrap();
            thread::scope(|scope| {
                for worker in 0..4 {
                    let sink = &sink;
                    scope.spawn(move || {
                        let mut writer = sink.open(share(worker)).unwrap();
                        for count in 0..300 {
                            let value = format!("{worker} {count} {}", "x".repeat(5_000));
                            writer
                                .write(&batch(&["not this", &value, &value]), 1)
                                .unwrap();
                            writer.flush().unwrap();
                        }
                        writer.close().unwrap();
                    });
                }
            });
            sink.finish(true).unwrap();
            let lines = read(&path);
            assert_eq!(lines.len(), 4 * 600);
            for worker in 0..4 {
                let own = lines
                    .iter()
                    .filter(|line| line.starts_with(&format!("{worker} ")));
                for (place, line) in own.enumerate() {
                    assert!(line.starts_with(&format!("{worker} {} x", place / 2)));
                    assert_eq!(line.trim_start_matches(|it| it != 'x').len(), 5_000);
                }
            }
        }
    }

    #[test]
    fn null_values_are_no_lines() {
        let mut batch = batch(&["1", "2"]);
        batch.records.insert(1, Encoded::default());
        assert_eq!(lines_from(&batch, 0), b"1\n2\n");
        assert_eq!(lines_from(&batch, 1), b"2\n");
        assert_eq!(lines_from(&batch, 3), b"");
    }

    #[test]
    fn a_missing_parent_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["no/out.jsonl", "no/out/"] {
            let error = FileSink::new(folder.path().join(name), false)
                .prepare()
                .unwrap_err();
            assert_eq!(error.exit_code(), 1);
            let text = error.to_string();
            assert!(
                text.contains("/no`") && text.contains("No such file"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_folder_without_the_slash_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = FileSink::new(folder.path(), false).prepare().unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_folder_takes_part_files() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out/");
        let sink = FileSink::new(format!("{}/", path.display()), false);
        sink.prepare().unwrap();
        write(&sink, 1, &["1", "2"]);
        sink.finish(true).unwrap();
        assert_eq!(
            fs::read(path.join("part-001-0000000000.jsonl")).unwrap(),
            b"1\n2\n"
        );
    }

    #[test]
    fn a_full_disk_is_an_operating_error_that_names_the_file() {
        let sink = FileSink::new("/dev/full", false);
        sink.prepare().unwrap();
        let mut writer = sink.open(share(0)).unwrap();
        let error = writer.write(&batch(&["1"]), 0).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(
            error
                .to_string()
                .starts_with("file `/dev/full`: No space left"),
            "{error}"
        );
        assert!(sink.finish(true).is_err());
    }

    #[test]
    fn a_device_is_written_in_place_and_a_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FileSink::new("/dev/null", false);
        sink.prepare().unwrap();
        write(&sink, 0, &["1"]);
        sink.finish(true).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());

        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old\n").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let sink = FileSink::new(&link, false);
        sink.prepare().unwrap();
        write(&sink, 0, &["1"]);
        sink.finish(true).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"1\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // While a run goes on with the file, it is hidden, and its place is what it was.
        let place = sink.path();
        fs::remove_file(&real).unwrap();
        assert_eq!(sink.path(), place);
    }

    #[test]
    fn what_a_pipe_is_given_is_in_it_at_once_packed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"] {
            let (mut output, input) = io::pipe().unwrap();
            let path = folder.path().join(name);
            let descriptor = format!("/proc/self/fd/{}", input.as_raw_fd());
            std::os::unix::fs::symlink(descriptor, &path).unwrap();
            let sink = FileSink::new(&path, false);
            assert!(sink.outputs().is_none());
            sink.prepare().unwrap();
            let mut writer = sink.open(share(0)).unwrap();
            assert_eq!(writer.write(&batch(&["1"]), 0).unwrap(), Written::All);
            // As if it were killed: neither flushed nor closed.
            drop((writer, sink, input));
            let mut taken = Vec::new();
            output.read_to_end(&mut taken).unwrap();
            let copy = folder.path().join(format!("copy-{name}"));
            fs::write(&copy, taken).unwrap();
            assert_eq!(read(&copy), ["1"], "{name}");
        }
    }

    #[test]
    fn two_spellings_of_one_place_have_one_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| FileSink::new(folder.path().join(name), false).path();
        assert_eq!(path("out"), path("./out"));
        assert_ne!(path("out"), path("other"));
        fs::create_dir(folder.path().join("parts")).unwrap();
        assert_eq!(path("parts/"), path("./parts/../parts/"));
    }
}
