//! Records as a correct job writes them, made from what the oracle says.

use serde_json::{Value, json};

use super::expected::{ALWAYS, Content, Cut, Expected, Id, Item, NEVER};
use super::progress::Names;

/// Value and headers of an output record of a job that reads `source`.
pub(crate) fn output_of(item: &Item, source: &str) -> (Option<Vec<u8>>, Vec<(String, String)>) {
    let (letter, partition, offset) = match (&item.content, &item.id) {
        (Content::Letter(letter), Id::Letter(_, partition, offset)) => (letter, partition, offset),
        (Content::Result(line), _) => return (Some(line.clone().into_bytes()), Vec::new()),
        (Content::Letter(_), Id::Result(..)) => unreachable!("a letter has the id of one"),
    };
    let mut headers = vec![
        ("reason", letter.reason.clone()),
        ("source", letter.source.clone()),
        ("topic", source.to_owned()),
        ("partition", partition.to_string()),
        ("offset", offset.to_string()),
    ];
    let numbers = [
        ("event-time", letter.event_time),
        ("watermark", letter.watermark),
        ("raw-bytes", letter.raw_bytes.map(u64::cast_signed)),
    ];
    for (name, number) in numbers {
        headers.extend(number.map(|number| (name, number.to_string())));
    }
    let named = headers
        .into_iter()
        .map(|(name, value)| (format!("anabranch.{name}"), value));
    (letter.raw.clone(), named.collect())
}

/// A progress record without its `outputs`: number, generation and whether it is the last.
pub(crate) fn progress_record(
    expected: &Expected,
    names: &Names,
    (checkpoint, generation, finished): (u64, u64, bool),
    cut: &Cut,
) -> Value {
    let parts = cut.next.iter().zip(&cut.ended).enumerate();
    let parts = parts.map(|(partition, (next, ended))| {
        json!({
            "partition": partition, "next": next, "floor": null, "left": [],
            "largest": expected.largest(partition, *next),
            "state": if *ended { "ended" } else { "reading" },
        })
    });
    let parts: Vec<_> = parts.collect();
    let time = |time: i64| (![NEVER, ALWAYS].contains(&time)).then_some(time);
    json!({
        "format": 1, "name": names.job, "checkpoint": checkpoint, "generation": generation,
        "manifest": format!("m{checkpoint}"), "crc": "0123abcd", "finished": finished,
        "watermark": time(expected.watermark(cut)), "horizon": time(expected.horizon(cut)),
        "sources": [{
            "port": names.port, "place": format!("kafka:{}", names.source), "identity": "id",
            "partitions": parts,
        }],
    })
}

/// The ends of outputs; of those that are 0 nothing is known.
pub(crate) fn outputs_record(names: &Names, ends: &[Vec<i64>; 3]) -> Value {
    let outputs = names.outputs.iter().zip(ends).map(|(topic, ends)| {
        let ends = ends.iter().map(|end| (*end > 0).then_some(*end));
        json!({"topic": topic, "ends": ends.collect::<Vec<_>>()})
    });
    outputs.collect()
}
