//! Input made to break a stream engine, the same for the same seed.
//!
//! [`super::maker`] makes the records; here they become files, with all that may stand between
//! lines, or a topic, with its stamps and null values.

use super::maker::{BASE, DAY, Item, items};
use super::text::Rng;
use super::{FilePart, Headers, Input, Params, TopicPart, TopicRecord};

/// How much of it, and which.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub partitions: usize,
    /// Of each partition that is neither empty nor single.
    pub records: usize,
    /// Some values just at and just above the largest allowed size.
    pub huge: bool,
}

/// The files of a plan; without partitions there are none.
pub fn files(plan: &Plan, params: &Params) -> Input {
    let partitions = items(plan, params);
    let mut rng = Rng(plan.seed ^ 0xF11E);
    // In byte order capitals come first, and 10 before 2.
    let files = partitions.iter().enumerate().map(|(i, items)| FilePart {
        name: format!(
            "{}{i}.{}",
            rng.pick(&["p", "P", "_", "p-"]),
            rng.pick(&["jsonl", "ndjson"])
        ),
        bytes: file(&mut rng, items),
    });
    Input::Files(files.collect())
}

/// The topic of a plan, with offsets from 0. The stamps lie up to the years 0 and 9999, so a broker
/// that is to take them must neither limit how far ahead a stamp may be nor delete what is old.
pub fn topic(plan: &Plan, params: &Params, name: &str) -> Input {
    let partitions = items(plan, params);
    let (mut rng, mut others) = (Rng(plan.seed ^ 0x70_91C), Rng(plan.seed ^ 0x4EAD));
    let partitions = (0..).zip(&partitions).map(|(number, items)| {
        let mut records = records(&mut rng, params, items);
        for record in &mut records {
            record.headers = headers(&mut others);
        }
        TopicPart { number, records }
    });
    Input::Topic {
        name: name.to_owned(),
        partitions: partitions.collect(),
    }
}

fn file(rng: &mut Rng, items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if rng.one_in(3) {
        bytes.extend(b"\xEF\xBB\xBF");
    }
    for item in items {
        if rng.one_in(20) {
            bytes.extend(rng.pick(&[b"\n" as &[u8], b"\r\n", b" \t \n", b"\t\r\n", b"\n\n"]));
        }
        bytes.extend(&item.value);
        bytes.extend(if rng.one_in(3) {
            b"\r\n" as &[u8]
        } else {
            b"\n"
        });
    }
    // A carriage return without its newline would belong to the record, or not: nobody has said.
    if rng.one_in(2) && bytes.ends_with(b"}\n") {
        bytes.pop();
    }
    bytes
}

fn records(rng: &mut Rng, params: &Params, items: &[Item]) -> Vec<TopicRecord> {
    let mut records = Vec::new();
    for item in items {
        let ahead = params.max_ahead.unwrap_or(0);
        let stamp = item.time.map_or(BASE, |time| match rng.below(20) {
            0 => time - ahead,
            1 => time - ahead - 1,
            2 => time - ahead + 1,
            3 => time + DAY,
            _ => time,
        });
        let mut value = Some(item.value.clone());
        match rng.below(40) {
            0 => value = rng.pick(&[None, Some(Vec::new()), Some(b" ".to_vec())]),
            // In a topic a record may have more than one line.
            1 => value = value.map(|value| [b"\n" as &[u8], &value, b"\n"].concat()),
            _ => {}
        }
        records.push(TopicRecord {
            offset: i64::try_from(records.len()).expect("a length fits"),
            // Brokers and clients take no stamps before 1970, and some take 0 for "now".
            timestamp: Some(stamp.max(1)),
            key: rng.pick(&[
                None,
                Some(b"k".to_vec()),
                Some(Vec::new()),
                Some(vec![0xFF, 0]),
            ]),
            value,
            headers: Vec::new(),
        });
    }
    records
}

/// What a program, or a first journey as a letter, may have left on a record.
fn headers(rng: &mut Rng) -> Headers {
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    rng.pick(&[
        Vec::new(),
        vec![header("trace", Some(b"00-4bf9"))],
        vec![
            header("b", Some(b"\xFF\x00")),
            header("a", None),
            header("b", Some(b"")),
        ],
        vec![
            header("anabranch.reason", Some(b"old")),
            header("mine", Some(b"1")),
            header("anabranch.raw-bytes", Some(b"9")),
        ],
    ])
}
