//! Letters: records that leave by another door. A late record and a dead letter both keep their raw
//! bytes and their coordinates, so that nothing is lost and everything can be tried again.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Origin, Position, Record};
use crate::time::{EventTime, LateReason};

/// Largest value of a record, `max-record-bytes`; a larger one is a dead letter. Fixed, so that the
/// same log has the same dead letters everywhere.
pub(crate) const RECORD_BYTES_MAX: usize = 900_000;
/// How much of a value that is too large a letter keeps, and of any error.
const CUT_BYTES: usize = 1_024;
/// What is behind an error that was cut.
const CUT_MARK: char = '…';
/// Bytes of the headers that say why a letter left, but for its error and its source: the name of
/// a topic has 249 at most.
const HEADERS_MAX: usize = 768;
/// What the lengths of a header take in a record, at most.
const FRAMING: usize = 10;

/// Why a record is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadReason {
    /// It cannot be decoded.
    Decode,
    /// It has no event time, or an impossible one.
    NoEventTime,
    /// Its value is larger than 900,000 bytes.
    TooLarge,
    /// Its value is null.
    NullValue,
    /// Its event time lies too far past the stamp of its own record.
    TooFarAhead,
    /// User code refused it after it had entered.
    Processing,
    /// The result that it led to is larger than the sink takes.
    ResultTooLarge,
}

impl DeadReason {
    /// Its spelling in letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::NoEventTime => "no-event-time",
            Self::TooLarge => "too-large",
            Self::NullValue => "null-value",
            Self::TooFarAhead => "too-far-ahead",
            Self::Processing => "processing",
            Self::ResultTooLarge => "result-too-large",
        }
    }

    /// Whether it is said of a record that had already entered; such letters are counted apart.
    pub fn is_after_entry(self) -> bool {
        matches!(self, Self::Processing | Self::ResultTooLarge)
    }
}

/// Why a record left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// What it belongs to may be closed.
    Late {
        /// By its own past, or because its partition had been silent.
        reason: LateReason,
        /// When it happened.
        event_time: EventTime,
        /// The watermark of its partition before it; for `idle` the floor.
        watermark: EventTime,
    },
    /// It cannot be used.
    Dead {
        /// The kind of defect.
        reason: DeadReason,
        /// One sentence that names the field or the byte.
        error: String,
    },
}

impl Cause {
    /// Of a dead letter. User code may say anything: of a long error the beginning is kept.
    pub(crate) fn dead(reason: DeadReason, mut error: String) -> Self {
        cut(&mut error, CUT_BYTES);
        Self::Dead { reason, error }
    }
}

/// Cuts `text` between two characters, so that it has at most `max` bytes with the mark.
fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max.saturating_sub(CUT_MARK.len_utf8())));
        text.push(CUT_MARK);
    }
}

/// Reason and error, or reason and times, in one sentence.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late {
                reason,
                event_time,
                watermark,
            } => {
                let reason = reason.name();
                write!(
                    f,
                    "{reason}: event time {event_time}, watermark {watermark}"
                )
            }
            Self::Dead { reason, error } => write!(f, "{}: {error}", reason.name()),
        }
    }
}

/// A record that left as late or dead: raw bytes, coordinates, cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The port that it was read from.
    pub source: Arc<str>,
    /// The file or partition.
    pub origin: Origin,
    /// Its offset there.
    pub offset: u64,
    /// Its number among the partitions of the source.
    pub partition: u32,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; cut where it was too large.
    pub value: Option<Vec<u8>>,
    /// The value's length before it was cut.
    pub cut_from: Option<u64>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// What of its record was left out, because it was too large for its sink: `headers`, `key`.
    pub left_out: Vec<&'static str>,
    /// The stamp that the log gave it.
    pub timestamp: Option<EventTime>,
    /// Why it left.
    pub cause: Cause,
}

impl Letter {
    /// A letter of `record`, read from partition `partition` of `source`.
    pub(crate) fn new(
        source: &Arc<str>,
        origin: &Origin,
        partition: u32,
        record: &Record<'_>,
        cause: Cause,
    ) -> Self {
        let whole = record.value.map_or(0, <[u8]>::len);
        let full = record.full_len.unwrap_or(whole as u64);
        let cut = whole > RECORD_BYTES_MAX || record.full_len.is_some();
        let kept = if cut { CUT_BYTES.min(whole) } else { whole };
        Self {
            source: Arc::clone(source),
            origin: origin.clone(),
            offset: record.offset,
            partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(|value| value[..kept].to_vec()),
            cut_from: cut.then_some(full),
            headers: record.headers(),
            left_out: Vec::new(),
            timestamp: record.timestamp,
            cause,
        }
    }

    /// The letter of a result that is too large for its sink.
    pub(crate) fn of_result(
        (source, origin): (Arc<str>, Origin),
        at: Position,
        (key, value): (Option<&[u8]>, &[u8]),
        error: String,
    ) -> Self {
        let kept = CUT_BYTES.min(value.len());
        // A key that is itself too large would not fit either.
        let fits = key.is_none_or(|key| key.len() <= CUT_BYTES);
        Self {
            source,
            origin,
            offset: at.offset,
            partition: at.partition,
            key: key.filter(|_| fits).map(<[u8]>::to_vec),
            value: Some(value[..kept].to_vec()),
            cut_from: Some(value.len() as u64),
            headers: Vec::new(),
            left_out: if fits { Vec::new() } else { vec!["key"] },
            timestamp: Some(at.time),
            cause: Cause::dead(DeadReason::ResultTooLarge, error),
        }
    }

    /// Cuts the value, if the letter takes more than `max` bytes as a record with headers; if that
    /// is not enough, its own headers are left out, then a large key, and at last the error is cut
    /// further. Where it came from is told in any case, and what was left out.
    pub(crate) fn fit(&mut self, max: usize) {
        if self.record_bytes() <= max {
            return;
        }
        if let Some(value) = self.value.as_mut().filter(|value| value.len() > CUT_BYTES) {
            self.cut_from.get_or_insert(value.len() as u64);
            value.truncate(CUT_BYTES);
        }
        if self.record_bytes() > max && !self.headers.is_empty() {
            self.headers.clear();
            self.left_out.push("headers");
        }
        if self.record_bytes() > max && self.key.take_if(|key| key.len() > CUT_BYTES).is_some() {
            self.left_out.push("key");
        }
        let over = self.record_bytes().saturating_sub(max);
        if let (1.., Cause::Dead { error, .. }) = (over, &mut self.cause) {
            cut(error, error.len().saturating_sub(over));
        }
    }

    /// What it takes as a record with headers, at most.
    fn record_bytes(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let own = self.headers.iter();
        let own = own.map(|(name, value)| name.len() + len(value) + FRAMING);
        let error = match &self.cause {
            Cause::Dead { error, .. } => error.len(),
            Cause::Late { .. } => 0,
        };
        let told = error + self.source.len() + HEADERS_MAX;
        len(&self.value) + len(&self.key) + own.sum::<usize>() + told
    }

    /// The letter as one line of JSON, without the newline, appended to `out`.
    pub(crate) fn write_line(&self, out: &mut Vec<u8>) {
        let raw = self.value.as_deref().map(std::str::from_utf8);
        let mut line = Line {
            source: &self.source,
            ..Line::default()
        };
        match &self.origin {
            Origin::File(name) => {
                line.file = Some(name);
                line.line = Some(self.offset + 1);
            }
            Origin::Topic(name, partition) => {
                line.topic = Some(name);
                line.partition = Some(i64::from(*partition));
                line.offset = Some(self.offset);
            }
            Origin::Memory(name, partition) => {
                line.topic = Some(name);
                line.partition = Some(i64::from(*partition));
                line.offset = Some(self.offset);
            }
        }
        let late = match &self.cause {
            Cause::Late {
                reason,
                event_time,
                watermark,
            } => {
                line.reason = reason.name();
                line.event_time = Some(event_time.millis());
                line.watermark = Some(watermark.millis());
                true
            }
            Cause::Dead { reason, error } => {
                line.reason = reason.name();
                line.error = Some(error);
                false
            }
        };
        if let (false, Some(raw)) = (late, raw) {
            line.raw = raw.ok();
            line.raw_bytes = self.cut_from;
        }
        line.raw_base64 = match (raw, self.value.as_deref()) {
            (Some(Err(_)), Some(bytes)) => Some(STANDARD.encode(bytes)),
            _ => None,
        };
        sonic_rs::to_writer(&mut *out, &line).expect("a vector takes every line");
        if let (true, Some(Ok(event))) = (late, raw) {
            out.pop();
            out.extend_from_slice(b",\"event\":");
            write_event(event, out);
            out.push(b'}');
        }
    }

    /// The headers that say why it left, behind its own.
    pub(crate) fn write_headers(&self, out: &mut Vec<(String, Option<Vec<u8>>)>) {
        let own = self
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with("anabranch."));
        out.extend(own.cloned());
        let mut say = |name: &str, value: String| {
            out.push((format!("anabranch.{name}"), Some(value.into_bytes())));
        };
        match &self.cause {
            Cause::Late {
                reason,
                event_time,
                watermark,
            } => {
                say("reason", reason.name().to_owned());
                say("event-time", event_time.millis().to_string());
                say("watermark", watermark.millis().to_string());
            }
            Cause::Dead { reason, error } => {
                say("reason", reason.name().to_owned());
                say("error", error.clone());
            }
        }
        say("source", self.source.to_string());
        let (Origin::File(name) | Origin::Topic(name, _) | Origin::Memory(name, _)) = &self.origin;
        say("topic", name.to_string());
        say("partition", self.partition.to_string());
        say("offset", self.offset.to_string());
        if let Some(bytes) = self.cut_from {
            say("raw-bytes", bytes.to_string());
        }
        if !self.left_out.is_empty() {
            say("cut", self.left_out.join(", "));
        }
    }
}

/// A record that was decoded from JSON goes into the line as the object it is; anything else as
/// text. Line breaks in valid JSON are white space, so a blank keeps them on one line.
fn write_event(event: &str, out: &mut Vec<u8>) {
    let is_object = event.trim_start().starts_with('{')
        && sonic_rs::from_str::<sonic_rs::LazyValue<'_>>(event).is_ok();
    if is_object {
        out.extend(event.bytes().map(|byte| {
            if matches!(byte, b'\n' | b'\r') {
                b' '
            } else {
                byte
            }
        }));
    } else {
        sonic_rs::to_writer(&mut *out, event).expect("a vector takes every line");
    }
}

/// The fields of a letter's line, in their order.
#[derive(Default, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the format"
)]
struct Line<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watermark: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(value: &[u8], cause: Cause) -> Letter {
        let origin = Origin::File(Arc::from("in.jsonl"));
        Letter::new(
            &Arc::from("bids"),
            &origin,
            0,
            &Record::line(6, value),
            cause,
        )
    }

    fn line(letter: &Letter) -> String {
        let mut out = Vec::new();
        letter.write_line(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn dead(reason: DeadReason) -> Cause {
        Cause::Dead {
            reason,
            error: "why".to_owned(),
        }
    }

    #[test]
    fn a_dead_letter_keeps_its_text_and_its_place() {
        assert_eq!(
            line(&letter(b"{\"a\":", dead(DeadReason::Decode))),
            concat!(
                r#"{"source":"bids","file":"in.jsonl","line":7,"reason":"decode","#,
                r#""error":"why","raw":"{\"a\":"}"#
            )
        );
    }

    #[test]
    fn what_is_not_text_is_kept_as_base64() {
        let text = line(&letter(b"\xff", dead(DeadReason::Decode)));
        assert!(
            text.ends_with(r#""error":"why","raw_base64":"/w=="}"#),
            "{text}"
        );
    }

    #[test]
    fn what_is_too_large_is_cut_and_says_so() {
        let text = line(&letter(
            &vec![b'x'; RECORD_BYTES_MAX + 1],
            dead(DeadReason::TooLarge),
        ));
        assert!(
            text.ends_with(r#"xxx","raw_bytes":900001}"#),
            "{}",
            text.len()
        );
        assert_eq!(text.matches('x').count(), CUT_BYTES);
    }

    #[test]
    fn whatever_is_large_gives_way_until_the_letter_fits() {
        let large = || vec![b'x'; 5_000];
        let mut whole = letter(&large(), dead(DeadReason::Decode));
        (whole.key, whole.headers) = (Some(large()), vec![("h".into(), Some(large()))]);
        let fits = |max| {
            let mut letter = whole.clone();
            letter.fit(max);
            assert!(letter.record_bytes() <= max, "{max}");
            let value = letter.value.map(|value| value.len());
            (value, letter.headers.len(), letter.key.is_some())
        };
        assert_eq!(fits(20_000), (Some(5_000), 1, true));
        assert_eq!(fits(13_000), (Some(CUT_BYTES), 1, true));
        assert_eq!(fits(8_000), (Some(CUT_BYTES), 0, true));
        assert_eq!(fits(4_000), (Some(CUT_BYTES), 0, false));
    }

    /// What a letter that has to fit into `max` bytes says was left out.
    fn cut_header(whole: &Letter, max: usize) -> Option<String> {
        let mut letter = whole.clone();
        letter.fit(max);
        let mut headers = Vec::new();
        letter.write_headers(&mut headers);
        let cut = headers
            .into_iter()
            .find(|(name, _)| name == "anabranch.cut");
        cut.map(|(_, value)| String::from_utf8(value.unwrap()).unwrap())
    }

    #[test]
    fn what_was_left_out_is_told() {
        let large = || Some(vec![b'x'; 5_000]);
        let mut whole = letter(b"{", dead(DeadReason::Decode));
        // One that has been here before.
        let before = ("anabranch.cut".into(), Some(b"key".to_vec()));
        (whole.key, whole.headers) = (large(), vec![("h".into(), large()), before]);
        assert_eq!(cut_header(&whole, 20_000), None);
        assert_eq!(cut_header(&whole, 8_000).as_deref(), Some("headers"));
        assert_eq!(cut_header(&whole, 4_000).as_deref(), Some("headers, key"));
        whole.headers.clear();
        assert_eq!(cut_header(&whole, 4_000).as_deref(), Some("key"));
        let place = (Arc::from("results"), Origin::File(Arc::from("results")));
        let at = Position {
            time: EventTime::from(5),
            source: 0,
            partition: 0,
            offset: 0,
            index: 0,
        };
        let key = large();
        let result = Letter::of_result(place, at, (key.as_deref(), b"{}"), "why".to_owned());
        assert_eq!(cut_header(&result, 20_000).as_deref(), Some("key"));
    }

    #[test]
    fn a_long_error_is_cut_between_characters_and_gives_way_at_last() {
        let long = "é".repeat(350_000);
        let mut letter = letter(b"{", Cause::dead(DeadReason::Processing, long));
        let error = |letter: &Letter| match &letter.cause {
            Cause::Dead { error, .. } => error.clone(),
            Cause::Late { .. } => String::new(),
        };
        assert_eq!(error(&letter), "é".repeat(510) + "…");
        letter.fit(1_000);
        assert!(letter.record_bytes() <= 1_000, "{letter:?}");
        assert!(error(&letter).starts_with("éé") && error(&letter).ends_with("é…"));
        let short = Cause::dead(DeadReason::Processing, "why".to_owned());
        assert_eq!(short.to_string(), "processing: why");
    }

    #[test]
    fn a_late_event_stays_an_object_on_one_line() {
        let cause = Cause::Late {
            reason: LateReason::Late,
            event_time: EventTime::from(5),
            watermark: EventTime::from(9),
        };
        assert_eq!(
            line(&letter(b"{\"a\":\n1}", cause)),
            concat!(
                r#"{"source":"bids","file":"in.jsonl","line":7,"reason":"late","#,
                r#""event_time":5,"watermark":9,"event":{"a": 1}}"#
            )
        );
    }

    #[test]
    fn a_second_journey_replaces_the_headers_of_the_first() {
        let mut twice = letter(b"{", dead(DeadReason::Decode));
        twice.headers = vec![
            ("anabranch.reason".to_owned(), Some(b"old".to_vec())),
            ("mine".to_owned(), None),
        ];
        let mut headers = Vec::new();
        twice.write_headers(&mut headers);
        let reasons: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name == "anabranch.reason")
            .collect();
        assert_eq!(reasons.len(), 1);
        assert_eq!(reasons[0].1.as_deref(), Some(&b"decode"[..]));
        assert_eq!(headers[0].0, "mine");
    }
}
