//! A sink that keeps nothing but the number of its records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Batch, Share, Sink, Style, Writer, Written};
use crate::error::Result;

/// Discards every record, of any size, and counts it. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct NullSink {
    records: Arc<AtomicU64>,
}

impl NullSink {
    /// A sink with the count 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that it has taken so far, on all workers.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

impl Sink for NullSink {
    fn describe(&self) -> String {
        "null:".to_owned()
    }

    fn is_exactly_once(&self) -> bool {
        true // nobody ever sees anything twice
    }

    fn style(&self) -> Style {
        Style::Lines
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn open(&self, _: Share) -> Result<Box<dyn Writer>> {
        Ok(Box::new(self.clone()))
    }

    fn finish(&self, _: bool) -> Result {
        Ok(())
    }
}

impl Writer for NullSink {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        let records = batch.records.len().saturating_sub(from);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        Ok(Written::All)
    }

    fn flush(&mut self) -> Result {
        Ok(())
    }

    fn close(&mut self) -> Result {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::{Encoded, Waker};

    #[test]
    fn counts_what_it_discards_on_all_workers() {
        let sink = NullSink::new();
        sink.prepare().unwrap();
        let records = vec![Encoded::default(); 5];
        let batch = Batch {
            records,
            ..Batch::default()
        };
        for worker in 0..2 {
            let waker = Waker::new(|| {});
            let share = Share {
                worker,
                workers: 2,
                port: 0,
                buffer_bytes: 0,
                waker,
            };
            let mut writer = sink.open(share).unwrap();
            assert_eq!(writer.write(&batch, worker).unwrap(), Written::All);
            writer.flush().unwrap();
            writer.close().unwrap();
        }
        sink.finish(true).unwrap();
        assert_eq!(sink.records(), 9);
    }
}
