//! An event as the check reads it: by the contract, and with no code of the engine.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Larger values are dead letters, whatever they say.
const BYTES_MAX: usize = 900_000;
const DAY: i64 = 86_400_000;
/// From the year 0000 to the end of 9999, in milliseconds.
const YEARS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;
/// Integers below this are seconds.
const SECONDS_MAX: u64 = 100_000_000_000;

/// What counts of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) user: String,
    pub(super) time: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    event_id: String,
    event_type: String,
    user_id: String,
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The event in a value, unless it is to be a dead letter.
pub(super) fn read(value: Option<&[u8]>) -> Option<Happened> {
    let value = value.filter(|value| value.len() <= BYTES_MAX)?;
    let text = std::str::from_utf8(value).ok()?;
    let fields: Fields<'_> = serde_json::from_str(text).ok()?;
    if !fields.data.get().starts_with('{') {
        return None;
    }
    Some(Happened {
        time: millis(fields.timestamp.get())?,
        id: fields.event_id,
        kind: fields.event_type,
        user: fields.user_id,
    })
}

fn millis(json: &str) -> Option<i64> {
    let time = if json.starts_with('"') {
        rfc3339(&serde_json::from_str::<String>(json).ok()?)?
    } else {
        let number: i64 = json.parse().ok()?;
        let is_seconds = number.unsigned_abs() < SECONDS_MAX;
        if is_seconds { number * 1_000 } else { number }
    };
    YEARS.contains(&time).then_some(time)
}

/// `2026-01-02T03:04:05.678+01:00`: `T`, `t` or a blank; `Z`, `z`, an offset, or none for UTC.
fn rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|c| c.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let marks = [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")];
    let is_marked =
        |&(at, any): &(usize, &str)| text.get(at..=at).is_some_and(|mark| any.contains(mark));
    if !marks.iter().all(is_marked) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, zone) = fraction(&text[19..])?;
    let of_day = (hour * 3_600 + minute * 60 + second) * 1_000 + fraction;
    Some(days(year, month, day)? * DAY + of_day - offset(zone)?)
}

/// Milliseconds of `.678…`, and what follows.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(digits) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    let kept: String = digits[..count]
        .chars()
        .chain("00".chars())
        .take(3)
        .collect();
    let millis = (count > 0).then(|| kept.parse().ok()).flatten()?;
    Some((millis, &digits[count..]))
}

/// Milliseconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two = |text: &str, most: i64| -> Option<i64> {
        let plain = text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
        let number = plain.then(|| text.parse().ok()).flatten()?;
        (number <= most).then_some(number)
    };
    Some(sign * (two(hours, 23)? * 60 + two(minutes, 59)?) * 60_000)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, by years and months.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = [
        31,
        28 + i64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month)
        .ok()
        .filter(|month| (1..=12).contains(month))?;
    if !(1..=months[month - 1]).contains(&day) {
        return None;
    }
    // Days before a year, from the year 0 on, which is a leap year.
    let before = |year: i64| year * 365 + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
    let of_year: i64 = months[..month - 1].iter().sum();
    Some(before(year) - before(1970) + of_year + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(stamp: &str) -> Option<i64> {
        let line = format!(
            "{{\"data\":{{}},\"x\":[1],\"eventId\":\"a\",\"eventType\":\"b\",\
             \"userId\":\"c\",\"timestamp\":{stamp}}}"
        );
        read(Some(line.as_bytes())).map(|event| event.time)
    }

    #[test]
    fn stamps_are_milliseconds_seconds_or_times() {
        assert_eq!(time("1714137600123"), Some(1_714_137_600_123));
        assert_eq!(time("1714137600"), Some(1_714_137_600_000));
        assert_eq!(time("-0"), Some(0));
        assert_eq!(
            time("-99999999999"),
            Some(-99_999_999_999_000).filter(|t| YEARS.contains(t))
        );
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29 12:00:00.9999", 1_709_208_000_999),
            ("2026-01-02T03:04:05.678+01:00", 1_767_319_445_678),
            ("0000-01-01T00:00:00z", -62_167_219_200_000),
            ("9999-12-31t23:59:59.999-00:00", 253_402_300_799_999),
        ] {
            assert_eq!(time(&format!("\"{text}\"")), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_stamps_are_none() {
        for stamp in [
            "1.0",
            "5e0",
            "null",
            "[]",
            "\"12\"",
            "\"2024-01-01\"",
            "\"2023-02-29T00:00:00Z\"",
            "\"2024-01-01T00:00:60Z\"",
            "\"2024-01-01T00:00Z\"",
            "\"2024-01-01T00:00:00+0100\"",
            "\"2024-01-01T00:00:00.Z\"",
            "\"9999-12-31T23:59:59-01:00\"",
            "253402300800000",
            "9223372036854775808",
        ] {
            assert_eq!(time(stamp), None, "{stamp}");
        }
    }

    #[test]
    fn what_lacks_a_field_or_has_it_twice_is_no_event() {
        let whole = r#"{"eventId":"a","eventType":"b","userId":"c","timestamp":1,"data":{}}"#;
        assert!(read(Some(whole.as_bytes())).is_some());
        for (part, other) in [
            (r#""eventId":"a""#, r#""eventid":"a""#),
            (r#""userId":"c""#, r#""userId":null"#),
            (r#""eventType":"b""#, r#""eventType":7"#),
            (r#""data":{}"#, r#""data":[]"#),
            (r#""data":{}"#, r#""data":{},"data":{}"#),
            (r#""data":{}}"#, r#""data":{}} x"#),
        ] {
            let broken = whole.replace(part, other);
            assert_ne!(broken, whole);
            assert_eq!(read(Some(broken.as_bytes())), None, "{broken}");
        }
        assert_eq!(read(None), None);
        assert_eq!(read(Some(b"{\"eventId\":\"\xff\"}")), None);
        assert_eq!(read(Some(&vec![b' '; 900_001])), None);
    }
}
