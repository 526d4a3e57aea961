//! `anabranch digest`: one number for the records of a file, a folder or a topic, whatever their
//! order and their spelling.
//!
//! The digest is the SHA-256 of the records in canonical form (`event::json::canonical`), sorted by
//! their bytes, each followed by a newline. For records without escapes and fractions it is what
//! `jq -cS . | LC_ALL=C sort | sha256sum` says. What is no JSON counts as its own bytes, a null
//! value (a tombstone) as `null`.

mod sorter;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tracing_subscriber::EnvFilter;

use super::args::Output;
use super::cluster::Cluster;
use super::{console, end, out};
use crate::connectors::{Fetched, FileSource, Share, Source, StdinSource, Waker};
use crate::error::{Error, Result};
use crate::event::{Record, json};
use crate::observe::grouped;
use sorter::Sorter;

/// What is sorted in memory; more goes to temporary files.
const MEMORY: usize = 64 << 20;
/// Records of one call.
const BATCH: usize = 4_096;
/// Far beyond every record; a file without newlines is no file of records.
const LONGEST: usize = 64 << 20;
/// A source that calls nobody is looked at this often.
const LOOK: Duration = Duration::from_millis(100);

/// What `digest` can be told.
#[derive(Debug, Args)]
pub struct Arguments {
    /// PATH: a file of JSON lines (.gz and .zst by ending) or a folder of them;
    /// kafka:TOPIC: what is committed there now; -: standard input
    #[arg(value_name = "PATH|kafka:TOPIC")]
    place: String,
    #[command(flatten)]
    cluster: Cluster,
    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Says the digest on standard output.
pub fn run(arguments: &Arguments) -> ExitCode {
    console::init_log(EnvFilter::new("warn"));
    let said = source(arguments)
        .and_then(|source| digest(&*source, MEMORY))
        .and_then(|found| out(&found.show(arguments.output)));
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

fn source(arguments: &Arguments) -> Result<Box<dyn Source>> {
    let place = arguments.place.as_str();
    if let Some(topic) = place.strip_prefix("kafka:") {
        return topic_source(topic, arguments);
    }
    Ok(match place {
        "-" => Box::new(StdinSource::new()),
        path => {
            let path = path.strip_prefix("file:").unwrap_or(path);
            Box::new(FileSource::new(path).longest(LONGEST))
        }
    })
}

#[cfg(not(feature = "kafka"))]
fn topic_source(_: &str, _: &Arguments) -> Result<Box<dyn Source>> {
    Err(Error::usage("this program was built without Kafka"))
}

#[cfg(feature = "kafka")]
fn topic_source(topic: &str, arguments: &Arguments) -> Result<Box<dyn Source>> {
    use crate::connectors::KafkaSource;
    let options = arguments.cluster.options("anabranch-digest")?;
    let options = options.ok_or_else(|| {
        let why = format!("kafka:{topic}: needs --bootstrap HOST:PORT");
        Error::usage(why)
    })?;
    Ok(Box::new(KafkaSource::new(topic, options)))
}

/// A digest, and how many records it is of.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Found {
    digest: String,
    records: u64,
    not_json: u64,
}

impl Found {
    fn show(&self, output: Output) -> String {
        if output == Output::Json {
            let json = sonic_rs::to_string(self).expect("texts and numbers can be written");
            return json + "\n";
        }
        if self.not_json > 0 {
            let count = grouped(self.not_json);
            console::say(&format!(
                "{count} records are no JSON; their bytes were taken"
            ));
        }
        format!("digest {} records {}\n", self.digest, grouped(self.records))
    }
}

fn digest(source: &dyn Source, memory: usize) -> Result<Found> {
    let mut sorter = Sorter::new(memory);
    let (mut records, mut not_json) = (0, 0);
    each_record(source, &mut |record| {
        records += 1;
        let value = record.value.unwrap_or(b"null");
        sorter.add(|bytes| {
            if json::canonical(value, bytes).is_err() {
                not_json += 1;
                bytes.extend_from_slice(value);
            }
        })
    })?;
    let mut hash = Sha256::new();
    sorter.finish(|record| {
        hash.update(record);
        hash.update(b"\n");
    })?;
    let hex = hex(&hash.finalize());
    Ok(Found {
        digest: format!("sha256:{hex}"),
        records,
        not_json,
    })
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// Reads all partitions of `source` to their ends, in one thread.
fn each_record(source: &dyn Source, each: &mut dyn FnMut(&Record<'_>) -> Result) -> Result {
    source.prepare()?;
    let this = thread::current();
    let mut reader = source.open(Share {
        worker: 0,
        workers: 1,
        port: 0,
        buffer_bytes: MEMORY,
        waker: Waker::new(move || this.unpark()),
    })?;
    let mut open: Vec<_> = reader.discover()?;
    while !open.is_empty() {
        let mut waits = true;
        let mut still = Vec::with_capacity(open.len());
        for found in open {
            let mut records = Vec::with_capacity(BATCH);
            let fetched = reader.fetch(found.partition, BATCH, &mut records)?;
            for record in &records {
                check_whole(record, &found.origin)?;
                each(record)?;
            }
            waits &= records.is_empty() && !matches!(fetched, Fetched::Some);
            if fetched != Fetched::End {
                still.push(found);
            }
        }
        open = still;
        if waits && !open.is_empty() {
            thread::park_timeout(LOOK);
        }
    }
    Ok(())
}

fn check_whole(record: &Record<'_>, origin: &crate::event::Origin) -> Result {
    match record.full_len {
        None => Ok(()),
        Some(bytes) => Err(Error::operating(format!(
            "`{origin}`: record {}: {bytes} bytes are too many for a record",
            record.offset + 1
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn of(path: &std::path::Path, memory: usize) -> Found {
        digest(&FileSource::new(path).longest(LONGEST), memory).unwrap()
    }

    #[test]
    fn order_spelling_packing_and_memory_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<_> = (0..5_000)
            .map(|n| format!(r#"{{"b":{},"a":"x{}"}}"#, n * 7 % 1_000, n % 13))
            .collect();
        let plain = folder.path().join("plain.jsonl");
        fs::write(&plain, lines.join("\n")).unwrap();
        let expected = of(&plain, MEMORY);
        assert_eq!((expected.records, expected.not_json), (5_000, 0));

        let other = folder.path().join("other.jsonl");
        let spelled = lines.iter().rev().map(|line| {
            let (b, a) = line.split_once(',').unwrap();
            format!(" {{ {} , {}.0 }}\r\n", a.trim_end_matches('}'), &b[1..])
        });
        fs::write(&other, spelled.collect::<String>() + " \n\n").unwrap();
        assert_eq!(of(&other, MEMORY), expected);
        // Some hundred sorted runs on disk, merged twice.
        assert_eq!(of(&other, 1_000), expected);

        let parts = folder.path().join("parts");
        fs::create_dir(&parts).unwrap();
        let (first, second) = lines.split_at(1_234);
        fs::write(parts.join("part-000.jsonl"), first.join("\n")).unwrap();
        let file = fs::File::create(parts.join("part-001.jsonl.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        packed.write_all(second.join("\n").as_bytes()).unwrap();
        packed.finish().unwrap();
        assert_eq!(of(&parts, MEMORY), expected);

        fs::write(&plain, lines[1..].join("\n")).unwrap();
        assert_ne!(of(&plain, MEMORY).digest, expected.digest);
        fs::write(&plain, lines.join("\n").replacen("x3", "x4", 1)).unwrap();
        assert_ne!(of(&plain, MEMORY).digest, expected.digest);
        fs::write(&plain, lines.join("\n") + "\n" + &lines[0]).unwrap();
        assert_ne!(of(&plain, MEMORY).digest, expected.digest, "a multiset");
    }

    #[test]
    fn the_digest_is_that_of_the_sorted_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        fs::write(&path, "{\"b\":2,\"a\":1.0}\n?\n{\"a\":0}\n").unwrap();
        let found = of(&path, MEMORY);
        let sorted = "?\n{\"a\":0}\n{\"a\":1,\"b\":2}\n";
        let hex = hex(&Sha256::digest(sorted));
        assert_eq!(found.digest, format!("sha256:{hex}"));
        assert_eq!((found.records, found.not_json), (3, 1));
    }

    #[test]
    fn a_long_line_counts_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        fs::write(&path, format!("{{\"a\":\"{}\"}}\n", "x".repeat(2_000_000))).unwrap();
        let whole = of(&path, MEMORY);
        assert_eq!((whole.records, whole.not_json), (1, 0));
    }
}
