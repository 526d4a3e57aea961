//! The loops that the engine is held against, each a whole program: one thread, the same client
//! with the same buffers, and nothing of the engine, so that its connectors count, too.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::plain::{Came, Input, Output};

const SIZE: i64 = 10_000;
const LAG: i64 = 2_000;
/// With nothing to read it waits so long.
const NAP: Duration = Duration::from_millis(1);

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
        let mut input = Input::open(self.bootstrap, self.from, self.partitions);
        let output = Output::open(self.bootstrap, self.to);
        let mut ended = vec![false; self.partitions as usize];
        while ended.contains(&false) {
            let mut some = false;
            for (partition, ended) in ended.iter_mut().enumerate() {
                match input.next(partition, |value| work.take(partition, value)) {
                    Came::Some => some = true,
                    Came::Nothing => continue,
                    Came::End => {
                        *ended = true;
                        work.end(partition);
                    }
                }
                work.give(&output);
                output.serve();
            }
            if !some {
                input.serve();
                thread::sleep(NAP);
            }
        }
        output.end();
        work.check();
    }
}

trait Work {
    fn take(&mut self, partition: usize, value: &[u8]);

    /// Nothing more comes of `partition`.
    fn end(&mut self, partition: usize);

    /// Gives what is due.
    fn give(&mut self, out: &Output);

    /// Everything was taken and given.
    fn check(&self);
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
    #[inline]
    fn take(&mut self, _: usize, _: &[u8]) {
        self.read += 1;
    }

    fn end(&mut self, _: usize) {}

    fn give(&mut self, out: &Output) {
        let due = self.read * self.results / self.records;
        for number in self.written..due {
            out.send(1_000 + (number % 31_700).cast_signed(), 1, &self.value);
        }
        self.written = due;
    }

    fn check(&self) {
        assert_eq!((self.read, self.written), (self.records, self.results));
    }
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
    /// The result that is being written.
    value: Vec<u8>,
}

impl Hand {
    fn new(partitions: u32) -> Self {
        Self {
            largest: vec![i64::MIN + LAG; partitions as usize],
            windows: Vec::new(),
            value: Vec::new(),
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
    #[inline]
    fn take(&mut self, partition: usize, value: &[u8]) {
        let bid: Bid<'_> = sonic_rs::from_slice(value).expect("a bid");
        let start = bid.date_time - bid.date_time.rem_euclid(SIZE);
        let largest = self.largest[partition];
        if start + SIZE > largest - LAG {
            self.add(start, &bid);
        }
        self.largest[partition] = largest.max(bid.date_time);
    }

    fn end(&mut self, partition: usize) {
        self.largest[partition] = i64::MAX;
    }

    fn give(&mut self, out: &Output) {
        let watermark = self.largest.iter().min().expect("there are partitions") - LAG;
        let is_due = |(start, _): &mut (i64, ByAuction)| *start + SIZE <= watermark;
        for (start, auctions) in self.windows.extract_if(.., is_due) {
            for (auction, stats) in auctions {
                self.value.clear();
                encode(auction, start, &stats, &mut self.value);
                out.send(auction, start + SIZE - 1, &self.value);
            }
        }
    }

    fn check(&self) {
        assert!(self.windows.is_empty(), "a window never ended");
    }
}
