//! The loops that the engine is held against, each a whole program: one thread, the same client
//! with the same buffers, no engine.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::thread;
use std::time::Duration;

use anabranch::connectors::{
    Batch, Encoded, Fetched, KafkaOptions, KafkaSink, KafkaSource, Reader, Share, Sink, Source,
    Waker, Writer, Written,
};
use anabranch::event::Record;
use anabranch::time::EventTime;
use serde::Deserialize;

/// What the engine gives each of the job's four ports of its budget.
const BUFFER: usize = 16 << 20;
const FETCH: usize = 4_096;
const SIZE: i64 = 10_000;
const LAG: i64 = 2_000;
/// A lost wake-up would cost this much.
const NAP: Duration = Duration::from_millis(100);

/// What a loop is told: brokers, topics, and for the relay what to produce.
pub(crate) struct Order<'a> {
    pub(crate) bootstrap: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) partitions: u32,
    /// Records that come, results that leave, bytes of a result.
    pub(crate) relay: Option<(u64, u64, usize)>,
}

impl<'a> Order<'a> {
    /// Reads what [`Order::words`] has written.
    pub(crate) fn read(words: &'a [String]) -> Self {
        let number = |nth: usize| words[nth].parse::<u64>().expect("a number");
        let relay = (words.len() > 4).then(|| {
            let bytes = usize::try_from(number(6)).expect("small");
            (number(4), number(5), bytes)
        });
        Self {
            bootstrap: &words[0],
            from: &words[1],
            to: &words[2],
            partitions: u32::try_from(number(3)).expect("few"),
            relay,
        }
    }

    /// The order as arguments of a program.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = [self.bootstrap, self.from, self.to]
            .map(str::to_owned)
            .to_vec();
        words.push(self.partitions.to_string());
        if let Some((records, results, bytes)) = self.relay {
            words.extend([records.to_string(), results.to_string(), bytes.to_string()]);
        }
        words
    }

    /// Does it.
    pub(crate) fn run(&self) {
        match self.relay {
            Some((records, results, bytes)) => self.drive(&mut Relay {
                records,
                results,
                value: vec![b'x'; bytes],
                read: 0,
                written: 0,
            }),
            None => self.drive(&mut Hand::new(self.partitions)),
        }
    }

    fn drive(&self, work: &mut impl Work) {
        let mut options = KafkaOptions::new(self.bootstrap, "bench");
        options.bounded = true;
        let source = KafkaSource::new(self.from, options.clone());
        let sink = KafkaSink::new(self.to, options, false);
        source.prepare().expect("the source");
        sink.prepare().expect("the sink");
        let main = thread::current();
        let share = Share {
            worker: 0,
            workers: 1,
            port: 0,
            buffer_bytes: BUFFER,
            waker: Waker::new(move || main.unpark()),
        };
        let mut reader = source.open(share.clone()).expect("the reader");
        let mut writer = sink.open(share).expect("the writer");
        reader.discover().expect("partitions");
        let mut batch = Batch::default();
        loop {
            let (mut some, mut ended) = (false, 0);
            for partition in 0..self.partitions {
                match read(&mut *reader, partition, work, &mut batch) {
                    Fetched::Some => some = true,
                    Fetched::End => ended += 1,
                    Fetched::Wait | Fetched::CaughtUp => {}
                }
                write(&mut *writer, &mut batch);
            }
            if ended == self.partitions {
                break;
            }
            if !some {
                thread::park_timeout(NAP);
            }
        }
        work.end(&mut batch);
        write(&mut *writer, &mut batch);
        writer.close().expect("everything is acknowledged");
        sink.finish(true).expect("the sink ends");
    }
}

fn read(
    reader: &mut dyn Reader,
    partition: u32,
    work: &mut impl Work,
    batch: &mut Batch,
) -> Fetched {
    let mut records = Vec::with_capacity(FETCH);
    let fetched = reader
        .fetch(partition, FETCH, &mut records)
        .expect("records");
    work.take(partition, &records, fetched, batch);
    fetched
}

fn write(writer: &mut dyn Writer, batch: &mut Batch) {
    let mut from = 0;
    while let Written::Full(next) = writer.write(batch, from).expect("results are taken") {
        from = next;
        thread::park_timeout(NAP);
    }
    batch.clear();
}

trait Work {
    fn take(&mut self, partition: u32, records: &[Record<'_>], said: Fetched, out: &mut Batch);
    fn end(&mut self, out: &mut Batch);
}

/// Gives as many results of the same size, and looks at nothing.
struct Relay {
    records: u64,
    results: u64,
    value: Vec<u8>,
    read: u64,
    written: u64,
}

impl Work for Relay {
    fn take(&mut self, _: u32, records: &[Record<'_>], _: Fetched, out: &mut Batch) {
        self.read += records.len() as u64;
        let due = self.read * self.results / self.records;
        for number in self.written..due {
            push(
                out,
                1_000 + (number % 31_700).cast_signed(),
                EventTime::from_millis(1),
                |values| {
                    values.extend_from_slice(&self.value);
                },
            );
        }
        self.written = due;
    }

    fn end(&mut self, _: &mut Batch) {
        assert_eq!((self.read, self.written), (self.records, self.results));
    }
}

fn push(out: &mut Batch, key: i64, time: EventTime, value: impl FnOnce(&mut Vec<u8>)) {
    let place = |at: usize| u32::try_from(at).expect("a batch is small");
    let (key_at, value_at) = (place(out.keys.len()), place(out.values.len()));
    out.keys
        .extend_from_slice(itoa::Buffer::new().format(key).as_bytes());
    value(&mut out.values);
    out.records.push(Encoded {
        key: Some((key_at, place(out.keys.len()))),
        value: Some((value_at, place(out.values.len()))),
        timestamp: Some(time),
        ..Encoded::default()
    });
}

#[derive(Deserialize)]
struct Bid<'a> {
    auction: i64,
    #[expect(dead_code, reason = "a bid without it is none")]
    bidder: i64,
    price: i64,
    #[serde(borrow)]
    #[expect(dead_code, reason = "a bid without it is none")]
    channel: &'a str,
    date_time: i64,
}

/// Hashes an integer by one multiplication.
#[derive(Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are integers")
    }

    fn write_i64(&mut self, key: i64) {
        let wide = u128::from(key.cast_unsigned()) * 0x9E37_79B9_7F4A_7C15;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are folded")]
        let folded = (wide >> 64) as u64 ^ wide as u64;
        self.0 = folded;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

struct Stats {
    count: u64,
    sum: i128,
    max: i64,
}

type ByAuction = HashMap<i64, Stats, BuildHasherDefault<Folded>>;

/// What somebody who knows how writes without an engine: windows by their start, each one map.
struct Hand {
    /// The largest time of each partition; `i64::MAX` once it has ended.
    largest: Vec<i64>,
    windows: Vec<(i64, ByAuction)>,
}

impl Hand {
    fn new(partitions: u32) -> Self {
        Self {
            largest: vec![i64::MIN + LAG; partitions as usize],
            windows: Vec::new(),
        }
    }

    #[inline]
    fn add(&mut self, start: i64, bid: &Bid<'_>) {
        // The window of the last bid is at the end.
        if self.windows.last().is_none_or(|(last, _)| *last != start) {
            let found = self.windows.iter().position(|(other, _)| *other == start);
            let window = found.map(|nth| self.windows.swap_remove(nth));
            self.windows
                .push(window.unwrap_or_else(|| (start, ByAuction::default())));
        }
        let (_, auctions) = self.windows.last_mut().expect("it is there");
        let none = || Stats {
            count: 0,
            sum: 0,
            max: i64::MIN,
        };
        let stats = auctions.entry(bid.auction).or_insert_with(none);
        stats.count += 1;
        stats.sum += i128::from(bid.price);
        stats.max = stats.max.max(bid.price);
    }

    fn fire(&mut self, watermark: i64, out: &mut Batch) {
        for (start, auctions) in self
            .windows
            .extract_if(.., |(start, _)| *start + SIZE <= watermark)
        {
            for (auction, stats) in auctions {
                let time = EventTime::from_millis(start + SIZE - 1);
                push(out, auction, time, |values| {
                    encode(auction, start, &stats, values);
                });
            }
        }
    }
}

fn encode(auction: i64, start: i64, stats: &Stats, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"{\"auction\":");
    out.extend_from_slice(digits.format(auction).as_bytes());
    out.extend_from_slice(b",\"window_start\":");
    out.extend_from_slice(digits.format(start).as_bytes());
    out.extend_from_slice(b",\"cnt\":");
    out.extend_from_slice(digits.format(stats.count).as_bytes());
    out.extend_from_slice(b",\"sum_price\":");
    out.extend_from_slice(digits.format(stats.sum).as_bytes());
    out.extend_from_slice(b",\"max_price\":");
    out.extend_from_slice(digits.format(stats.max).as_bytes());
    out.push(b'}');
}

impl Work for Hand {
    fn take(&mut self, partition: u32, records: &[Record<'_>], said: Fetched, out: &mut Batch) {
        let mut largest = self.largest[partition as usize];
        for record in records {
            let bid: Bid<'_> =
                sonic_rs::from_slice(record.value.unwrap_or_default()).expect("a bid");
            let start = bid.date_time - bid.date_time.rem_euclid(SIZE);
            if start + SIZE > largest - LAG {
                self.add(start, &bid);
            }
            largest = largest.max(bid.date_time);
        }
        if said == Fetched::End {
            largest = i64::MAX;
        }
        self.largest[partition as usize] = largest;
        let watermark = self.largest.iter().min().expect("there are partitions") - LAG;
        self.fire(watermark, out);
    }

    fn end(&mut self, out: &mut Batch) {
        self.fire(i64::MAX, out);
    }
}
