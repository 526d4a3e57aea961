//! The ports of the job: a log that can be read as far as it is shown, and topics that are written
//! in the transactions of the instance.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::broker::{Broker, Output};
use super::commit::Producer;
use super::dice::{Dice, guard};
use crate::connectors::{
    Batch, Fetched, Found, PartitionCut, Reader, Share, Sink, Source, SourceCut, Style, Writer,
    Written,
};
use crate::error::Result;
use crate::event::{Origin, Record};

/// A part of the log.
pub(super) struct SimSource {
    pub(super) port: &'static str,
    /// Its partitions, as they are numbered in the log; it calls the first of them 0.
    pub(super) partitions: Range<usize>,
    pub(super) log: Arc<Vec<Vec<String>>>,
    pub(super) broker: Arc<Broker>,
    pub(super) dice: Dice,
    pub(super) bounded: bool,
    /// Where it goes on, by partition.
    pub(super) cut: Mutex<Vec<PartitionCut>>,
}

impl Source for SimSource {
    fn describe(&self) -> String {
        self.port.to_owned()
    }

    fn bounded(&self) -> bool {
        self.bounded
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn resume(&self, cut: &SourceCut) -> Result {
        guard(&self.cut).clone_from(&cut.partitions);
        Ok(())
    }

    fn cut(&self) -> Result<Option<SourceCut>> {
        let mut partitions = guard(&self.cut).clone();
        let shown = self.broker.shown();
        for (partition, nth) in (0u32..).zip(self.partitions.clone()) {
            let known = partitions.iter().any(|cut| cut.partition == partition);
            if shown[nth].is_some() && !known {
                let end = self.log[nth].len() as u64;
                partitions.push(PartitionCut {
                    partition,
                    next: 0,
                    end: self.bounded.then_some(end),
                });
            }
        }
        let identity = format!("log of {}", self.port);
        Ok(Some(SourceCut {
            identity,
            partitions,
        }))
    }

    fn open(&self, share: Share) -> Result<Box<dyn Reader>> {
        let cut = guard(&self.cut).clone();
        let of = |partition: u32| cut.iter().find(|cut| cut.partition == partition);
        let place = |(partition, nth): (u32, usize)| {
            let end = self.log[nth].len() as u64;
            let next = of(partition).map_or(0, |cut| cut.next);
            let end = of(partition).and_then(|cut| cut.end).unwrap_or(end);
            (next, end)
        };
        let places: Vec<_> = (0..).zip(self.partitions.clone()).map(place).collect();
        let count = u32::try_from(places.len()).expect("few partitions");
        let owned = (0..count).filter(|partition| share.owns(*partition));
        Ok(Box::new(SimReader {
            port: self.port,
            first: self.partitions.start,
            log: Arc::clone(&self.log),
            broker: Arc::clone(&self.broker),
            dice: self.dice.clone(),
            bounded: self.bounded,
            unknown: owned.collect(),
            places,
        }))
    }
}

struct SimReader {
    port: &'static str,
    /// The number of its first partition in the log.
    first: usize,
    log: Arc<Vec<Vec<String>>>,
    broker: Arc<Broker>,
    dice: Dice,
    bounded: bool,
    /// Partitions that were not told yet.
    unknown: Vec<u32>,
    /// The next offset of each partition, and its end.
    places: Vec<(u64, u64)>,
}

impl Reader for SimReader {
    fn discover(&mut self) -> Result<Vec<Found>> {
        if self.unknown.is_empty() {
            return Ok(Vec::new());
        }
        let shown = self.broker.shown();
        let is_there = |partition: &mut u32| shown[self.first + *partition as usize].is_some();
        let found = self.unknown.extract_if(.., is_there);
        let found = found.map(|partition| Found {
            partition,
            origin: Origin::Memory(Arc::from(self.port), partition),
        });
        Ok(found.collect())
    }

    fn fetch<'a>(
        &'a mut self,
        partition: u32,
        max: usize,
        records: &mut Vec<Record<'a>>,
    ) -> Result<Fetched> {
        let nth = self.first + partition as usize;
        let (next, end) = &mut self.places[partition as usize];
        let shown = self.broker.shown()[nth].unwrap_or(0).min(*end);
        let some = (max as u64).min(self.dice.between(1, 9));
        let upto = shown.min(*next + some).max(*next);
        for offset in *next..upto {
            let value = &self.log[nth][usize::try_from(offset).expect("a small log")];
            records.push(Record {
                offset,
                key: None,
                value: Some(value.as_bytes()),
                timestamp: None,
                headers: None,
                full_len: None,
            });
        }
        *next = upto;
        Ok(if self.bounded && upto >= *end {
            Fetched::End
        } else if upto < shown {
            Fetched::Some
        } else if self.dice.one_in(8) {
            Fetched::Wait
        } else {
            Fetched::CaughtUp
        })
    }
}

/// A topic.
pub(super) struct SimSink {
    pub(super) topic: &'static str,
    pub(super) producer: Arc<Producer>,
}

impl Sink for SimSink {
    fn describe(&self) -> String {
        self.topic.to_owned()
    }

    fn style(&self) -> Style {
        Style::Records
    }

    fn prepare(&self) -> Result {
        Ok(())
    }

    fn open(&self, share: Share) -> Result<Box<dyn Writer>> {
        Ok(Box::new(SimWriter {
            topic: self.topic,
            producer: Arc::clone(&self.producer),
            share,
        }))
    }

    fn is_exactly_once(&self) -> bool {
        true
    }

    fn finish(&self, _: bool) -> Result {
        Ok(())
    }
}

struct SimWriter {
    topic: &'static str,
    producer: Arc<Producer>,
    share: Share,
}

impl Writer for SimWriter {
    fn write(&mut self, batch: &Batch, from: usize) -> Result<Written> {
        for (number, record) in batch.records.iter().enumerate().skip(from) {
            if self.producer.dice.one_in(20) {
                self.producer.broker.await_room(self.share.waker.clone());
                return Ok(Written::Full(number));
            }
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
            };
            self.producer.produce(Output {
                topic: self.topic,
                key: text(batch.key(record)).parse().unwrap_or(0),
                value: text(batch.value(record)),
            })?;
        }
        Ok(Written::All)
    }

    fn flush(&mut self) -> Result {
        Ok(())
    }

    fn close(&mut self) -> Result {
        Ok(())
    }
}
