//! Made records as a source, and the same as files.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::connectors::{Fetched, Found, Reader, Share, Source, Waker};
use crate::error::{Error, Result};
use crate::event::{Origin, Record};

/// Appends the value of record `index` of `partition`, in one line without its newline. The same
/// arguments always give the same bytes.
pub type Make = Arc<dyn Fn(u32, u64, &mut Vec<u8>) + Send + Sync>;

/// Says how much time has passed since some moment in the past.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What is made at once, unless a single record is larger.
const PIECE: usize = 256 << 10;
/// How often, at most and at least, a worker is woken that waits for records to be due.
const TICKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// What to make.
#[derive(Clone)]
pub struct GeneratorSpec {
    /// The name in letters and messages.
    pub name: String,
    /// Partitions; default 1.
    pub partitions: u32,
    /// Records in each partition; default `None`: without end.
    pub records: Option<u64>,
    /// Records a second of all partitions together, shared out evenly; default `None`: as fast as
    /// they are taken. What was not taken in time is made up for.
    pub rate: Option<u64>,
    make: Make,
    clock: Clock,
}

impl GeneratorSpec {
    /// One partition without end, as fast as it is taken, of what `make` makes.
    pub fn new(name: impl Into<String>, make: Make) -> Self {
        let start = now();
        let clock = Arc::new(move || now() - start);
        Self {
            name: name.into(),
            partitions: 1,
            records: None,
            rate: None,
            make,
            clock,
        }
    }

    /// The same with `partitions` partitions.
    #[must_use]
    pub fn partitions(self, partitions: u32) -> Self {
        Self { partitions, ..self }
    }

    /// The same with `records` records in each partition.
    #[must_use]
    pub fn records(self, records: u64) -> Self {
        Self {
            records: Some(records),
            ..self
        }
    }

    /// The same with `rate` records a second in all.
    #[must_use]
    pub fn rate(self, rate: u64) -> Self {
        Self {
            rate: Some(rate),
            ..self
        }
    }

    /// The same by another clock, which says how much time has passed since some moment.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            clock: Arc::new(clock),
            ..self
        }
    }

    /// Writes every partition as a file `NAME-PP.jsonl` into `folder`, which is made if it is not
    /// there, and gives the files' paths by partition. Byte order of the names is the order of the
    /// partitions. Files that are there are replaced; the rate does not matter.
    ///
    /// # Errors
    /// A usage error without an end of the records, an operating error that names the file when it
    /// cannot be written.
    pub fn write_files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let Some(records) = self.records else {
            return Err(Error::usage(format!(
                "generator `{}`: records without end",
                self.name
            )));
        };
        let about = |path: &Path, cause| {
            Error::operating(format!("file `{}`", path.display())).because(cause)
        };
        fs::create_dir_all(folder).map_err(|cause: io::Error| about(folder, cause))?;
        let last = self.partitions.saturating_sub(1).to_string();
        let digits = last.len().max(2);
        let mut paths = Vec::new();
        for partition in 0..self.partitions {
            let path = folder.join(format!("{}-{partition:0digits$}.jsonl", self.name));
            let written = self.write_file(partition, records, &path);
            written.map_err(|cause| about(&path, cause))?;
            paths.push(path);
        }
        Ok(paths)
    }

    fn write_file(&self, partition: u32, records: u64, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::with_capacity(PIECE, File::create(path)?);
        let mut line = Vec::new();
        for index in 0..records {
            line.clear();
            (self.make)(partition, index, &mut line);
            line.push(b'\n');
            file.write_all(&line)?;
        }
        file.flush()
    }
}

impl fmt::Debug for GeneratorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratorSpec")
            .field("name", &self.name)
            .field("partitions", &self.partitions)
            .field("records", &self.records)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

/// The clock of a generator without another one.
#[expect(
    clippy::disallowed_methods,
    reason = "it paces records; no result depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

/// Made records as a source; bounded if the number of records is. An offset is a record's index.
///
/// A partition makes records when they are fetched, 256 KiB at once. With a rate, time begins when
/// the first worker opens the source, and a thread wakes the workers that wait, up to a thousand
/// times a second.
///
/// # Errors
/// An operating error when the system has no thread left.
#[derive(Debug)]
pub struct GeneratorSource {
    spec: GeneratorSpec,
    start: OnceLock<Duration>,
}

impl GeneratorSource {
    /// Makes what `spec` says.
    pub fn new(spec: GeneratorSpec) -> Self {
        Self {
            spec,
            start: OnceLock::new(),
        }
    }
}

impl Source for GeneratorSource {
    fn describe(&self) -> String {
        format!("generator:{}", self.spec.name)
    }

    fn bounded(&self) -> bool {
        self.spec.records.is_some()
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        let start = *self.start.get_or_init(|| (self.spec.clock)());
        let own = (0..self.spec.partitions).filter(|partition| share.owns(*partition));
        let next: Vec<_> = own.map(|partition| (partition, 0)).collect();
        let ticker = match self.spec.rate {
            Some(rate) if !next.is_empty() => Some(Ticker::start(rate, share.waker.clone())?),
            _ => None,
        };
        Ok(Box::new(GeneratorReader {
            spec: self.spec.clone(),
            start,
            next,
            ticker,
            piece_bytes: share.buffer_bytes.min(PIECE),
            values: Vec::new(),
            ends: Vec::new(),
            discovered: false,
        }))
    }
}

struct GeneratorReader {
    spec: GeneratorSpec,
    start: Duration,
    /// Own partitions, and the index that comes next in each.
    next: Vec<(u32, u64)>,
    ticker: Option<Ticker>,
    piece_bytes: usize,
    /// The values that were fetched last, and where each ends.
    values: Vec<u8>,
    ends: Vec<usize>,
    discovered: bool,
}

impl GeneratorReader {
    /// How many records of `partition` are due by now.
    fn due(&self, partition: u32) -> u64 {
        let Some(rate) = self.spec.rate else {
            return u64::MAX;
        };
        let passed = (self.spec.clock)().saturating_sub(self.start);
        let all = passed.as_nanos().saturating_mul(u128::from(rate)) / 1_000_000_000;
        let partitions = u128::from(self.spec.partitions);
        let own = (all + partitions - 1).saturating_sub(u128::from(partition)) / partitions;
        u64::try_from(own).unwrap_or(u64::MAX)
    }
}

impl Reader for GeneratorReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        if mem::replace(&mut self.discovered, true) {
            return Ok(Vec::new());
        }
        let name: Arc<str> = self.spec.name.as_str().into();
        let origin = |partition| Origin::Memory(Arc::clone(&name), partition);
        let found = |(partition, _): &_| Found {
            partition: *partition,
            origin: origin(*partition),
        };
        Ok(self.next.iter().map(found).collect())
    }

    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let due = self.due(partition);
        let Ok(place) = self.next.binary_search_by_key(&partition, |it| it.0) else {
            return Ok(Fetched::End);
        };
        let from = self.next[place].1;
        let end = self.spec.records.unwrap_or(u64::MAX);
        if from >= end {
            return Ok(Fetched::End);
        }
        let to = due.min(end).min(from.saturating_add(max as u64));
        if to <= from {
            self.ticker.iter().for_each(Ticker::wait);
            return Ok(Fetched::Wait);
        }
        self.values.clear();
        self.ends.clear();
        for index in from..to {
            (self.spec.make)(partition, index, &mut self.values);
            self.ends.push(self.values.len());
            if self.values.len() >= self.piece_bytes {
                break;
            }
        }
        self.next[place].1 += self.ends.len() as u64;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let values = starts
            .zip(&self.ends)
            .map(|(start, end)| &self.values[start..*end]);
        records.extend(
            (from..)
                .zip(values)
                .map(|(index, value)| Record::line(index, value)),
        );
        Ok(Fetched::Some)
    }
}

/// Wakes a worker after it has said that it waits, until it is dropped.
struct Ticker {
    waits: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
}

impl Ticker {
    fn start(rate: u64, waker: Waker) -> Result<Self> {
        let period = Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        let period = period.clamp(TICKS.0, TICKS.1);
        let (waits, dropped) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let ticker = Self {
            waits: Arc::clone(&waits),
            dropped: Arc::clone(&dropped),
        };
        let tick = move || {
            while !dropped.load(Ordering::Acquire) {
                thread::sleep(period);
                if waits.swap(false, Ordering::AcqRel) {
                    waker.wake();
                }
            }
        };
        let thread = thread::Builder::new()
            .name("generator".to_owned())
            .spawn(tick);
        thread
            .map(|_| ticker)
            .map_err(|cause| Error::operating("generator").because(cause))
    }

    fn wait(&self) {
        self.waits.store(true, Ordering::Release);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::connectors::file::FileSource;

    fn share(worker: usize, workers: usize) -> Share {
        let waker = Waker::new(|| {});
        Share {
            worker,
            workers,
            port: 0,
            buffer_bytes: 1 << 20,
            waker,
        }
    }

    fn name_it() -> Make {
        Arc::new(|partition, index, out| {
            out.extend_from_slice(format!("{partition}/{index}").as_bytes());
        })
    }

    /// All that `partition` has for now, and why there is no more.
    fn read(reader: &mut dyn Reader, partition: u32) -> (Vec<(u64, String)>, Fetched) {
        let mut all = Vec::new();
        loop {
            let mut records = Vec::new();
            let fetched = reader.fetch(partition, 7, &mut records).unwrap();
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            all.extend(
                records
                    .iter()
                    .map(|it| (it.offset, text(it.value.unwrap()))),
            );
            if fetched != Fetched::Some {
                return (all, fetched);
            }
        }
    }

    #[test]
    fn each_partition_has_its_records_on_one_worker() {
        let source =
            GeneratorSource::new(GeneratorSpec::new("g", name_it()).partitions(5).records(20));
        source.prepare().unwrap();
        assert!(source.bounded());
        let mut partitions = Vec::new();
        for worker in 0..3 {
            let mut reader = source.open(share(worker, 3)).unwrap();
            for found in reader.discover().unwrap() {
                assert_eq!(found.origin.to_string(), format!("g[{}]", found.partition));
                let (records, end) = read(&mut *reader, found.partition);
                let value = |index| format!("{}/{index}", found.partition);
                let expected: Vec<_> = (0..20).map(|index| (index, value(index))).collect();
                assert_eq!((records, end), (expected, Fetched::End));
                partitions.push(found.partition);
            }
            assert!(reader.discover().unwrap().is_empty());
        }
        partitions.sort_unstable();
        assert_eq!(partitions, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_rate_is_kept_by_the_clock_over_all_partitions() {
        let millis = Arc::new(AtomicU64::new(500));
        let clock = Arc::clone(&millis);
        let spec = GeneratorSpec::new("g", name_it()).partitions(4).rate(1_000);
        let spec = spec.clock(move || Duration::from_millis(clock.load(Ordering::SeqCst)));
        let source = GeneratorSource::new(spec);
        assert!(!source.bounded());
        let mut reader = source.open(share(0, 1)).unwrap();
        for (passed, expected) in [
            (0, [0; 4]),
            (3, [1, 1, 1, 0]),
            (2_000, [499, 499, 499, 500]),
        ] {
            millis.store(500 + passed, Ordering::SeqCst);
            let counts = [0, 1, 2, 3].map(|partition| {
                let (records, end) = read(&mut *reader, partition);
                assert_eq!(end, Fetched::Wait);
                records.len()
            });
            assert_eq!(counts, expected);
        }
    }

    #[test]
    fn who_waits_for_a_record_is_woken_when_it_is_due() {
        let (sender, woken) = std::sync::mpsc::channel();
        let waker = Waker::new(move || sender.send(()).unwrap_or_default());
        let source = GeneratorSource::new(GeneratorSpec::new("g", name_it()).rate(50).records(3));
        let mut reader = source
            .open(Share {
                waker,
                ..share(0, 1)
            })
            .unwrap();
        let mut count = 0;
        loop {
            let (records, end) = read(&mut *reader, 0);
            count += records.len();
            if end == Fetched::End {
                break;
            }
            woken.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert_eq!(count, 3);
    }

    #[test]
    fn a_file_holds_what_the_source_gives() {
        let folder = tempfile::tempdir().unwrap();
        let spec = GeneratorSpec::new("events", super::super::behaviour(7))
            .partitions(3)
            .records(999);
        let paths = spec.write_files(&folder.path().join("new")).unwrap();
        assert!(paths[2].ends_with("new/events-02.jsonl"));
        let files = FileSource::new(folder.path().join("new"));
        files.prepare().unwrap();
        let mut files = files.open(share(0, 1)).unwrap();
        let made = GeneratorSource::new(spec.clone());
        let mut made = made.open(share(0, 1)).unwrap();
        for partition in 0..3 {
            let mut count = 0;
            loop {
                let (mut left, mut right) = (Vec::new(), Vec::new());
                let ends = (
                    files.fetch(partition, 5, &mut left).unwrap(),
                    made.fetch(partition, 5, &mut right).unwrap(),
                );
                let values = |it: &[Record<'_>]| -> Vec<_> {
                    it.iter()
                        .map(|it| (it.offset, it.value.unwrap().to_vec()))
                        .collect()
                };
                if ends.0 == Fetched::End {
                    break;
                }
                // A file is given as far as its buffer goes, so compare one record at a time.
                assert_eq!(values(&left), values(&right));
                count += left.len();
            }
            assert_eq!(count, 999);
        }
        let endless = GeneratorSpec {
            records: None,
            ..spec
        }
        .write_files(folder.path());
        assert_eq!(endless.unwrap_err().exit_code(), 2);
    }

    #[test]
    fn more_than_a_hundred_files_keep_the_order_of_partitions() {
        let folder = tempfile::tempdir().unwrap();
        let spec = GeneratorSpec::new("g", name_it())
            .partitions(101)
            .records(1);
        let paths = spec.write_files(folder.path()).unwrap();
        assert!(paths.is_sorted());
        assert!(paths[7].ends_with("g-007.jsonl"));
    }
}
