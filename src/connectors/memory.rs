//! Records and results in memory: for tests, and for programs that hold their input.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Batch, Fetched, Found, PartitionCut, Reader, Share, Sink, Source, SourceCut, Style, Writer,
    Written,
};
use crate::error::Result;
use crate::event::{Origin, Record};
use crate::time::EventTime;

/// One record of a [`MemorySource`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryRecord {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a null value.
    pub value: Option<Vec<u8>>,
    /// The stamp that the log gives it.
    pub timestamp: Option<EventTime>,
}

impl From<&str> for MemoryRecord {
    fn from(value: &str) -> Self {
        Self::from(value.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for MemoryRecord {
    fn from(value: Vec<u8>) -> Self {
        Self {
            value: Some(value),
            ..Self::default()
        }
    }
}

/// Partitions of records that lie in memory; each ends with its last record.
#[derive(Debug)]
pub struct MemorySource {
    name: Arc<str>,
    partitions: Arc<Vec<Vec<MemoryRecord>>>,
    /// Where a run goes on, by partition.
    starts: Mutex<Vec<u64>>,
}

impl Clone for MemorySource {
    /// The same records, to be read from the first on.
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            partitions: Arc::clone(&self.partitions),
            starts: Mutex::default(),
        }
    }
}

impl MemorySource {
    /// A source of these partitions, called `name` in letters.
    pub fn new<P, R>(name: &str, partitions: impl IntoIterator<Item = P>) -> Self
    where
        P: IntoIterator<Item = R>,
        R: Into<MemoryRecord>,
    {
        let of = |records: P| records.into_iter().map(Into::into).collect();
        let partitions = Arc::new(partitions.into_iter().map(of).collect());
        Self {
            name: Arc::from(name),
            partitions,
            starts: Mutex::default(),
        }
    }

    fn starts(&self) -> Vec<u64> {
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut starts = starts.clone();
        starts.resize(self.partitions.len(), 0);
        starts
    }
}

impl Source for MemorySource {
    fn describe(&self) -> String {
        format!("memory:{}", self.name)
    }

    fn bounded(&self) -> bool {
        true
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn resume(&self, cut: &SourceCut) -> Result {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        *starts = cut.partitions.iter().map(|cut| cut.next).collect();
        Ok(())
    }

    fn cut(&self) -> Result<Option<SourceCut>> {
        let cut = |(partition, next)| PartitionCut {
            partition,
            next,
            end: None,
        };
        Ok(Some(SourceCut {
            identity: self.name.to_string(),
            partitions: (0..).zip(self.starts()).map(cut).collect(),
        }))
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        let count = u32::try_from(self.partitions.len()).expect("few partitions");
        let found = (0..count)
            .filter(|partition| share.owns(*partition))
            .map(|partition| Found {
                partition,
                origin: Origin::Memory(Arc::clone(&self.name), partition),
            });
        Ok(Box::new(MemoryReader {
            found: found.collect(),
            partitions: Arc::clone(&self.partitions),
            next: (self.starts().into_iter())
                .map(|next| usize::try_from(next).unwrap_or(usize::MAX))
                .collect(),
        }))
    }
}

struct MemoryReader {
    found: Vec<Found>,
    partitions: Arc<Vec<Vec<MemoryRecord>>>,
    next: Vec<usize>,
}

impl Reader for MemoryReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        Ok(std::mem::take(&mut self.found))
    }

    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let all = &self.partitions[partition as usize];
        let next = &mut self.next[partition as usize];
        *next = all.len().min(*next);
        let end = all.len().min(next.saturating_add(max));
        for (offset, record) in (*next as u64..).zip(&all[*next..end]) {
            records.push(Record {
                offset,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                timestamp: record.timestamp,
                headers: None,
                full_len: None,
            });
        }
        *next = end;
        Ok(if end == all.len() {
            Fetched::End
        } else {
            Fetched::Some
        })
    }
}

/// One record that was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrittenRecord {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its stamp; `None`: the time of writing.
    pub timestamp: Option<EventTime>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Collects what is written, in the order of writing.
#[derive(Clone, Debug)]
pub struct MemorySink {
    style: Style,
    written: Arc<Mutex<Vec<WrittenRecord>>>,
}

impl MemorySink {
    /// A sink that takes lines, or records with keys and headers.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            written: Arc::default(),
        }
    }

    /// Everything that was written so far.
    pub fn records(&self) -> Vec<WrittenRecord> {
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The values that were written so far, as text; what is no UTF-8 is replaced.
    pub fn lines(&self) -> Vec<String> {
        let text = |record: WrittenRecord| {
            String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned()
        };
        self.records().into_iter().map(text).collect()
    }
}

impl Sink for MemorySink {
    fn describe(&self) -> String {
        "memory:".to_owned()
    }

    fn style(&self) -> Style {
        self.style
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn open(&self, _: Share) -> Result<Box<dyn Writer>> {
        Ok(Box::new(MemoryWriter(Arc::clone(&self.written))))
    }

    fn finish(&self, _: bool) -> Result {
        Ok(())
    }
}

struct MemoryWriter(Arc<Mutex<Vec<WrittenRecord>>>);

impl Writer for MemoryWriter {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend(batch.records[from..].iter().map(|record| WrittenRecord {
            key: batch.key(record).map(<[u8]>::to_vec),
            value: batch.value(record).map(<[u8]>::to_vec),
            timestamp: record.timestamp,
            headers: batch.headers[record.headers.0 as usize..record.headers.1 as usize].to_vec(),
        }));
        Ok(Written::All)
    }

    fn flush(&mut self) -> Result {
        Ok(())
    }

    fn close(&mut self) -> Result {
        Ok(())
    }
}
