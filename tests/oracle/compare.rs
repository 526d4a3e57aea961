//! Holds what a job wrote against an [`Outcome`].
//!
//! Results and letters are compared as JSON: white space and optional escapes are free, while the
//! order of keys and the spelling of numbers are not. Between keys results have no order; those of
//! one key keep theirs.

use std::collections::BTreeMap;

use super::json::canonical;
use super::object::{Field, Object, integer};
use super::{At, Letter, Outcome};

/// Checks the text of the three sink files.
///
/// # Errors
/// The first difference.
pub fn files(expected: &Outcome, results: &str, late: &str, dead: &str) -> Result<(), String> {
    results_of(expected, results).map_err(|why| format!("results: {why}"))?;
    letters(&expected.late, &late_letters(late)?).map_err(|why| format!("late: {why}"))?;
    letters(&expected.dead, &dead_letters(dead)?).map_err(|why| format!("dead: {why}"))
}

/// Checks result lines.
///
/// # Errors
/// The first key whose results differ, with both.
pub fn results_of(expected: &Outcome, text: &str) -> Result<(), String> {
    let wanted = by_key(expected.results.iter().map(String::as_str))?;
    let found = by_key(text.lines())?;
    for key in wanted.keys().chain(found.keys()) {
        if wanted.get(key) != found.get(key) {
            let (wanted, found) = (wanted.get(key), found.get(key));
            return Err(format!(
                "key {key}:\nexpected {wanted:#?}\nfound {found:#?}"
            ));
        }
    }
    Ok(())
}

/// Results by the first field, which is the key in both jobs, each key's in order.
fn by_key<'a>(
    lines: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let canonical = canonical(line.as_bytes()).map_err(|why| format!("{why} in {line}"))?;
        let object = Object::parse(line.as_bytes()).map_err(|why| format!("{why} in {line}"))?;
        let Some((_, key)) = object.members.first() else {
            return Err(format!("no key in {line}"));
        };
        keys.entry(format!("{key:?}")).or_default().push(canonical);
    }
    Ok(keys)
}

/// Checks letters of any origin, in any order.
///
/// # Errors
/// The first letter that is missing, not wanted, or different.
pub fn letters(expected: &[Letter], found: &[Letter]) -> Result<(), String> {
    let wanted = by_place(expected)?;
    let found = by_place(found)?;
    for place in wanted.keys().chain(found.keys()) {
        match (wanted.get(place), found.get(place)) {
            (Some(wanted), Some(found)) if same(wanted, found) => {}
            (wanted, found) => {
                return Err(format!(
                    "expected {}\nfound    {}",
                    shown(wanted),
                    shown(found)
                ));
            }
        }
    }
    Ok(())
}

fn by_place(letters: &[Letter]) -> Result<BTreeMap<&At, &Letter>, String> {
    let mut places = BTreeMap::new();
    for letter in letters {
        if places.insert(&letter.at, letter).is_some() {
            return Err(format!("{:?} is there twice", letter.at));
        }
    }
    Ok(places)
}

fn shown(letter: Option<&&Letter>) -> String {
    let Some(letter) = letter else {
        return "nothing".to_owned();
    };
    let mut raw = letter.raw.clone().unwrap_or_default();
    raw.truncate(300);
    let raw = raw.escape_ascii();
    let (at, reason) = (&letter.at, &letter.reason);
    let (time, watermark, cut) = (letter.event_time, letter.watermark, letter.raw_bytes);
    format!("{at:?} {reason} time {time:?} watermark {watermark:?} cut {cut:?} raw {raw}")
}

/// A late record is valid, and a sink may write it as an object in its line, so it is compared as
/// JSON; what is dead is compared byte by byte.
fn same(wanted: &Letter, found: &Letter) -> bool {
    let mut pair = [wanted.clone(), found.clone()];
    if wanted.event_time.is_some() {
        for letter in &mut pair {
            let raw = letter.raw.take().unwrap_or_default();
            letter.raw = Some(canonical(&raw).map_or(raw, String::into_bytes));
        }
    }
    pair[0] == pair[1]
}

/// Reads a file that a `dead` sink wrote.
///
/// # Errors
/// What is not as the contract has it, and in which line.
pub fn dead_letters(text: &str) -> Result<Vec<Letter>, String> {
    let read = text
        .lines()
        .map(|line| dead_letter(line).map_err(|why| format!("{why} in {line}")));
    read.collect()
}

/// Reads a file that a `late` sink wrote.
///
/// # Errors
/// What is not as the contract has it, and in which line.
pub fn late_letters(text: &str) -> Result<Vec<Letter>, String> {
    let read = text
        .lines()
        .map(|line| late_letter(line).map_err(|why| format!("{why} in {line}")));
    read.collect()
}

fn dead_letter(line: &str) -> Result<Letter, String> {
    let object = Object::parse(line.as_bytes())?;
    let mut letter = letter(&object, &["reason", "error"])?;
    object.text("error")?;
    for (name, field) in &object.members {
        match (name.as_str(), field) {
            ("raw", Field::Text(text)) => letter.raw = Some(text.clone().into_bytes()),
            ("raw_base64", Field::Text(text)) => letter.raw = Some(base64(text)?),
            ("raw_bytes", Field::Number(number)) => {
                let bytes = integer(number).and_then(|bytes| u64::try_from(bytes).ok());
                letter.raw_bytes = Some(bytes.ok_or("`raw_bytes` is no length")?);
            }
            ("raw", Field::Null) => {}
            ("raw" | "raw_base64" | "raw_bytes", _) => return Err(format!("`{name}` is wrong")),
            _ => {}
        }
    }
    let names = object.names();
    if names.contains(&"raw") && names.contains(&"raw_base64") {
        return Err("raw stands there twice".to_owned());
    }
    // The start of a long text may end within a character; a whole one is text and must be shown as
    // such.
    let is_text = letter
        .raw
        .as_deref()
        .is_some_and(|raw| str::from_utf8(raw).is_ok());
    if names.contains(&"raw_base64") && is_text && letter.raw_bytes.is_none() {
        return Err("text is written in base64".to_owned());
    }
    Ok(letter)
}

fn late_letter(line: &str) -> Result<Letter, String> {
    let object = Object::parse(line.as_bytes())?;
    let rest = ["reason", "event_time", "watermark", "event"];
    let mut letter = letter(&object, &rest)?;
    letter.event_time = Some(object.integer("event_time")?);
    letter.watermark = Some(object.integer("watermark")?);
    letter.raw = match object.one("event")? {
        Field::Object(text) => Some(text.as_bytes().to_vec()),
        Field::Text(text) => Some(text.clone().into_bytes()),
        other => return Err(format!("`event` is {other:?}")),
    };
    Ok(letter)
}

/// The coordinates, which come first and in the contract's order, then `rest`.
fn letter(object: &Object<'_>, rest: &[&str]) -> Result<Letter, String> {
    let from_file = object.names().contains(&"file");
    let coordinates: &[&str] = if from_file {
        &["source", "file", "line"]
    } else {
        &["source", "topic", "partition", "offset"]
    };
    let order: Vec<&str> = coordinates.iter().chain(rest).copied().collect();
    if !object.names().starts_with(&order) {
        return Err(format!(
            "keys {:?} do not begin with {order:?}",
            object.names()
        ));
    }
    let at = if from_file {
        let path = object.text("file")?;
        At::File {
            // How the folder is spelled depends on how it was bound.
            file: path.rsplit('/').next().unwrap_or(path).to_owned(),
            line: u64::try_from(object.integer("line")?).map_err(|why| why.to_string())?,
        }
    } else {
        let partition = object.integer("partition")?;
        At::Topic {
            topic: object.text("topic")?.to_owned(),
            partition: i32::try_from(partition).map_err(|why| why.to_string())?,
            offset: object.integer("offset")?,
        }
    };
    Ok(Letter {
        at,
        source: object.text("source")?.to_owned(),
        reason: object.text("reason")?.to_owned(),
        event_time: None,
        watermark: None,
        raw: None,
        raw_bytes: None,
    })
}

/// Standard base64 with padding.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return Err("base64 of a wrong length".to_owned());
    }
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for digit in digits.bytes() {
        let Some(value) = (0_u32..)
            .zip(alphabet)
            .find(|(_, letter)| **letter == digit)
        else {
            return Err("a byte that is no base64".to_owned());
        };
        bits = (bits << 6) | value.0;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xFF).expect("eight bits"));
        }
    }
    Ok(out)
}
