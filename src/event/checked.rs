//! Types for fields that a format demands: a time in either of its spellings, and fields that must
//! be there with the right type though nobody reads them.
//!
//! All of them are also state: they come back from an encoding that does not describe itself.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Unexpected, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::time::rfc3339;

/// An integer time of less than this is in seconds, if the unit is to be guessed: in seconds it
/// lies before the year 5138, in milliseconds before March 1973.
const SECONDS_END: u64 = 100_000_000_000;

/// A string that must be there, whatever it says. Takes no memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnyString;

/// An object that must be there, whatever it holds. Takes no memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnyObject;

impl Serialize for AnyString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str("")
        } else {
            serializer.serialize_unit()
        }
    }
}

impl<'de> Deserialize<'de> for AnyString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(AnyString)
        } else {
            <()>::deserialize(deserializer).map(|()| AnyString)
        }
    }
}

impl Visitor<'_> for AnyString {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

impl Serialize for AnyObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_map(Some(0))?.end()
        } else {
            serializer.serialize_unit()
        }
    }
}

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_map(AnyObject)
        } else {
            <()>::deserialize(deserializer).map(|()| AnyObject)
        }
    }
}

impl<'de> Visitor<'de> for AnyObject {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

/// A time as a record spells it: an integer, whose unit the record does not tell, or RFC 3339.
///
/// # Example
/// ```text
/// 1714137600123    "2024-04-26T13:20:00.123Z"    "2024-04-26 15:20:00.123+02:00"
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// An integer, in a unit that only the producer knows.
    Integer(i64),
    /// A text, which tells all; in milliseconds since 1970 UTC.
    Instant(i64),
}

/// The unit of times that are integers. As a parameter: `s`, `ms`, `us`, `ns`, `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    #[default]
    Millis,
    /// Microseconds, cut toward the past.
    Micros,
    /// Nanoseconds, cut toward the past.
    Nanos,
    /// Seconds if the number is less than 100,000,000,000 in size, otherwise milliseconds.
    Auto,
}

/// A time lies outside of the years 0000 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeyondCalendar {
    /// The time as it was given.
    pub time: i64,
    /// Its unit.
    pub unit: TimestampUnit,
}

/// A text names no unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownUnit;

impl Stamp {
    /// Returns the time in milliseconds since 1970 UTC.
    ///
    /// # Errors
    /// If it lies outside of the years 0000 to 9999.
    pub fn to_millis(self, unit: TimestampUnit) -> Result<i64, BeyondCalendar> {
        let (time, unit) = match self {
            Stamp::Integer(time) => (time, unit),
            Stamp::Instant(millis) => (millis, TimestampUnit::Millis),
        };
        let millis = match unit {
            TimestampUnit::Seconds => time.saturating_mul(1_000),
            TimestampUnit::Micros => time.div_euclid(1_000),
            TimestampUnit::Nanos => time.div_euclid(1_000_000),
            TimestampUnit::Auto if time.unsigned_abs() < SECONDS_END => time * 1_000,
            TimestampUnit::Millis | TimestampUnit::Auto => time,
        };
        let known = (rfc3339::MIN_MS..=rfc3339::MAX_MS).contains(&millis);
        known.then_some(millis).ok_or(BeyondCalendar { time, unit })
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let human = serializer.is_human_readable();
        match *self {
            Stamp::Integer(time) if human => serializer.serialize_i64(time),
            Stamp::Instant(millis) if human => serializer.collect_str(&rfc3339::format(millis)),
            Stamp::Integer(time) => (false, time).serialize(serializer),
            Stamp::Instant(millis) => (true, millis).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(StampVisitor);
        }
        let (text, time) = <(bool, i64)>::deserialize(deserializer)?;
        Ok(if text {
            Stamp::Instant(time)
        } else {
            Stamp::Integer(time)
        })
    }
}

struct StampVisitor;

impl Visitor<'_> for StampVisitor {
    type Value = Stamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time")
    }

    fn visit_i64<E>(self, time: i64) -> Result<Stamp, E> {
        Ok(Stamp::Integer(time))
    }

    fn visit_u64<E: serde::de::Error>(self, time: u64) -> Result<Stamp, E> {
        let problem = || E::invalid_value(Unexpected::Unsigned(time), &self);
        i64::try_from(time)
            .map(Stamp::Integer)
            .map_err(|_| problem())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Stamp, E> {
        let problem = || E::invalid_value(Unexpected::Str(text), &self);
        rfc3339::parse(text).map(Stamp::Instant).ok_or_else(problem)
    }
}

impl TimestampUnit {
    const NAMES: [(&str, TimestampUnit); 5] = [
        ("s", TimestampUnit::Seconds),
        ("ms", TimestampUnit::Millis),
        ("us", TimestampUnit::Micros),
        ("ns", TimestampUnit::Nanos),
        ("auto", TimestampUnit::Auto),
    ];
}

impl FromStr for TimestampUnit {
    type Err = UnknownUnit;

    fn from_str(text: &str) -> Result<Self, UnknownUnit> {
        let known = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        known.map(|(_, unit)| unit).ok_or(UnknownUnit)
    }
}

impl fmt::Display for TimestampUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.into_iter().find(|(_, unit)| unit == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl fmt::Display for BeyondCalendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BeyondCalendar { time, unit } = self;
        write!(
            f,
            "the time {time} (unit {unit}) lies outside of the years 0000 to 9999"
        )
    }
}

impl fmt::Display for UnknownUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected one of s, ms, us, ns, auto")
    }
}

impl std::error::Error for BeyondCalendar {}
impl std::error::Error for UnknownUnit {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::event::json;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Fields {
        name: AnyString,
        data: AnyObject,
        at: Stamp,
    }

    fn decode(name: &str, data: &str, at: &str) -> Result<Fields, String> {
        json::decode(format!(r#"{{"name":{name},"data":{data},"at":{at}}}"#).as_bytes())
    }

    fn stamp(at: &str) -> Result<Stamp, String> {
        decode("\"\"", "{}", at).map(|fields| fields.at)
    }

    #[test]
    fn takes_the_right_type_and_no_other() {
        for name in [r#""""#, r#""a""#, r#""a\n""#] {
            for data in ["{}", r#"{"a":[{}],"a":null}"#] {
                assert!(decode(name, data, "1").is_ok(), "{name} {data}");
            }
        }
        for (name, data, problem) in [
            ("1", "{}", "`name`: expected a string, found 1"),
            ("null", "{}", "`name`: expected a string, found null"),
            ("[]", "{}", "`name`: expected a string, found an array"),
            ("{}", "{}", "`name`: expected a string, found an object"),
            ("\"\"", "null", "`data`: expected an object, found null"),
            ("\"\"", "[]", "`data`: expected an object, found an array"),
            ("\"\"", "\"{}\"", "`data`: expected an object, found \"{}\""),
            (
                "\"\"",
                "{\"a\":01}",
                "byte 24: a number with a leading zero",
            ),
        ] {
            assert_eq!(decode(name, data, "1"), Err(problem.to_owned()));
        }
        assert!(json::decode::<Fields>(br#"{"name":"","at":1}"#).is_err());
    }

    #[test]
    fn a_time_is_an_integer_or_a_text() {
        assert_eq!(stamp("-5"), Ok(Stamp::Integer(-5)));
        assert_eq!(stamp("-0"), Ok(Stamp::Integer(0)));
        assert_eq!(
            stamp("1714137600123"),
            Ok(Stamp::Integer(1_714_137_600_123))
        );
        assert_eq!(stamp("\"1970-01-01T00:00:01Z\""), Ok(Stamp::Instant(1000)));
        assert_eq!(
            stamp("\"1970-01-01\\u005400:00:01Z\""),
            Ok(Stamp::Instant(1000))
        );
        for (at, found) in [
            ("\"soon\"", "\"soon\""),
            ("\"1714137600123\"", "\"1714137600123\""),
            ("1.0", "1.0"),
            ("1e3", "1000.0"),
            ("null", "null"),
            ("true", "true"),
            ("{}", "an object"),
            ("9223372036854775808", "9223372036854775808"),
        ] {
            assert_eq!(
                stamp(at),
                Err(format!("`at`: expected a time, found {found}"))
            );
        }
    }

    #[test]
    fn a_unit_turns_integers_into_milliseconds_and_leaves_texts_alone() {
        use TimestampUnit::{Auto, Micros, Millis, Nanos, Seconds};
        for (time, unit, millis) in [
            (1, Seconds, 1000),
            (-1, Seconds, -1000),
            (-1, Millis, -1),
            (1_999, Micros, 1),
            (-1, Micros, -1),
            (-1_000, Micros, -1),
            (-1_001, Micros, -2),
            (-1, Nanos, -1),
            (1_714_137_600_123_456_789, Nanos, 1_714_137_600_123),
            (99_999_999_999, Auto, 99_999_999_999_000),
            (-62_167_219_200, Auto, rfc3339::MIN_MS),
            (100_000_000_000, Auto, 100_000_000_000),
            (-100_000_000_000, Auto, -100_000_000_000),
            (0, Auto, 0),
        ] {
            assert_eq!(
                Stamp::Integer(time).to_millis(unit),
                Ok(millis),
                "{time} {unit}"
            );
            assert_eq!(
                Stamp::Instant(time / 1_000_000).to_millis(unit),
                Ok(time / 1_000_000)
            );
        }
        for (time, unit) in [
            (i64::MAX, Seconds),
            (i64::MIN, Seconds),
            (253_402_300_800, Seconds),
            (rfc3339::MAX_MS + 1, Millis),
            (rfc3339::MIN_MS - 1, Auto),
            (-99_999_999_999, Auto),
            (i64::MAX, Micros),
        ] {
            let error = BeyondCalendar { time, unit };
            assert_eq!(Stamp::Integer(time).to_millis(unit), Err(error));
            assert!(error.to_string().contains(&format!("{time} (unit {unit})")));
        }
    }

    #[test]
    fn units_have_names() {
        for (name, unit) in TimestampUnit::NAMES {
            assert_eq!((name.parse(), unit.to_string().as_str()), (Ok(unit), name));
        }
        for name in ["", "S", "sec", "ms ", "min"] {
            assert_eq!(name.parse::<TimestampUnit>(), Err(UnknownUnit), "{name}");
        }
    }

    proptest! {
        #[test]
        fn comes_back_from_state_and_from_json(
            time: i64,
            millis in rfc3339::MIN_MS..=rfc3339::MAX_MS,
        ) {
            let config = bincode::config::standard();
            for at in [Stamp::Integer(time), Stamp::Instant(millis)] {
                let all = (AnyString, at, AnyObject, 7_u8);
                let bytes = bincode::serde::encode_to_vec(all, config).unwrap();
                let back = bincode::serde::decode_from_slice(&bytes, config).unwrap();
                prop_assert_eq!(back, (all, bytes.len()));
                let text = serde_json::to_string(&all).unwrap();
                let back: (AnyString, Stamp, AnyObject, u8) = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(back, all);
            }
        }
    }
}
