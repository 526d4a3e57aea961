//! JSON of records: strict in, compact out.
//!
//! A record is one valid JSON object in UTF-8, wholly: also where nobody looks, in the fields that
//! the type does not name. The fast decoders at hand skip such fields without a full check, take
//! an array for a struct, refuse `-0`, or overflow the stack on a deep record. So this module
//! brings its own: [`scan`] knows the grammar, [`read`] is the serde side of it. One pass does all
//! checks; text without escapes is borrowed.
//!
//! What the grammar leaves open: containers nest [`DEPTH_MAX`] deep and no deeper; an escape of
//! half a surrogate pair is no character, so a text that has one is wrong, be it needed or not.

use serde::{Deserialize, Serialize};

#[cfg(feature = "cli")]
mod canonical;
mod digits;
mod name;
mod problem;
mod read;
mod scan;

/// How deep arrays and objects may nest, the record itself included.
pub(crate) const DEPTH_MAX: u16 = 256;

/// Decodes a record, or says in one short sentence why it cannot.
///
/// # Errors
/// The sentence names the field (`` `price`: expected i64, found "12" ``) or, where the record is
/// no JSON, the byte, counted from 1.
pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("byte {}: not UTF-8", error.valid_up_to() + 1))?;
    scan::Scanner::new(text)
        .record()
        .map_err(|problem| problem.to_string())
}

/// Appends the one form that all spellings of this JSON value have ([`canonical`]).
///
/// # Errors
/// `bytes` are no JSON; what was appended then is nothing.
#[cfg(feature = "cli")]
pub(crate) fn canonical(bytes: &[u8], to: &mut Vec<u8>) -> Result<(), String> {
    let start = to.len();
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    canonical::write(text, to).map_err(|problem| {
        to.truncate(start);
        problem.to_string()
    })
}

/// Appends `value` as compact JSON.
///
/// NaN and infinities become `null`; integers are written whole, up to 128 bits.
///
/// # Errors
/// If the type has no form in JSON, such as a map whose keys are no text. Nothing is appended then.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, to: &mut Vec<u8>) -> Result<(), String> {
    let start = to.len();
    sonic_rs::to_writer(&mut *to, value).map_err(|error| {
        to.truncate(start);
        error.to_string()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct One {
        a: i64,
    }

    fn one(text: &str) -> Result<i64, String> {
        decode::<One>(text.as_bytes()).map(|one| one.a)
    }

    /// Wraps a value into a field that no one needs.
    fn skipped(value: &str) -> Result<i64, String> {
        one(&format!(r#"{{"x":{value},"a":1}}"#))
    }

    #[test]
    fn takes_any_valid_value_in_a_field_that_is_not_needed() {
        for value in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "10",
            "-1.50",
            "1e400",
            "1E+0",
            "0.1e-9",
            "99999999999999999999999999",
            "[]",
            "{}",
            " [ 1 , [ ] , { \"y\" : { } } ]\r\n\t ",
            r#""""#,
            r#""é 😀 \u00e9 \ud83d\ude00 \" \\ \/ \b\f\n\r\t \u0000""#,
            r#"{"y":1,"y":2}"#,
            "\"\u{7f}\u{2028}\"",
        ] {
            assert_eq!(skipped(value), Ok(1), "{value}");
            assert_eq!(
                one(&format!("\t{{\"a\":1,\"x\":{value}}}\n ")),
                Ok(1),
                "{value}"
            );
            let named = format!(r#"{{"x":1,"x":{value},"a":1}}"#);
            assert_eq!(one(&named), Ok(1), "unknown fields may repeat: {value}");
        }
    }

    #[test]
    fn refuses_what_is_no_json_wherever_it_stands() {
        for value in [
            "",
            "tru",
            "nul",
            "True",
            "NaN",
            "Infinity",
            "undefined",
            "01",
            "-01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1e+",
            "0x10",
            "1 2",
            "1_000",
            "'y'",
            "y",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1",
            "1]",
            "[}",
            "{]",
            "[1}",
            r#"{"y"}"#,
            r#"{"y":}"#,
            r#"{"y":1,}"#,
            r#"{,"y":1}"#,
            "{y:1}",
            "{1:1}",
            r#""y"#,
            r#""\q""#,
            r#""\u12""#,
            r#""\u12g4""#,
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud800y""#,
            "\"\n\"",
            "\"\u{1}\"",
            "\"\u{1f}\"",
            "/* y */ 1",
            "\u{a0}1",
        ] {
            for place in [
                "{\"x\":@,\"a\":1}",
                "{\"a\":1,\"x\":@}",
                "{\"a\":1,\"x\":[{\"y\":@}]}",
            ] {
                let problem = one(&place.replace('@', value)).unwrap_err();
                assert!(problem.starts_with("byte "), "{value}: {problem}");
            }
        }
    }

    #[test]
    fn refuses_text_that_is_not_utf8_wherever_it_stands() {
        for bytes in [
            &b"\xff"[..],
            b"\xc0\x80",
            b"\xed\xa0\x80",
            b"\xf5\x80\x80\x80",
            b"\xe2\x82",
        ] {
            for (before, behind) in [("{\"x\":\"", "\",\"a\":1}"), ("{\"", "\":1,\"a\":1}")] {
                let text = [before.as_bytes(), bytes, behind.as_bytes()].concat();
                let problem = decode::<One>(&text).unwrap_err();
                assert_eq!(problem, format!("byte {}: not UTF-8", before.len() + 1));
            }
        }
    }

    #[test]
    fn a_record_is_one_object_and_nothing_behind_it() {
        for (text, problem) in [
            ("", "byte 1: the text ends too early"),
            ("  ", "byte 3: the text ends too early"),
            ("[1]", "expected a JSON object, found an array"),
            ("\"a\"", "expected a JSON object, found a string"),
            ("12", "expected a JSON object, found a number"),
            ("null", "expected a JSON object, found null"),
            ("true", "expected a JSON object, found a boolean"),
            ("x", "byte 1: expected a JSON object"),
            ("\u{feff}{\"a\":1}", "byte 1: expected a JSON object"),
            ("{\"a\":1", "byte 7: the text ends too early"),
            ("{\"a\":1}}", "byte 8: expected the end of the record"),
            (
                "{\"a\":1}{\"a\":1}",
                "byte 8: expected the end of the record",
            ),
            ("{\"a\":1}\0", "byte 8: expected the end of the record"),
            ("{\"a\":1,}", "byte 8: expected a field's name"),
        ] {
            assert_eq!(one(text), Err(problem.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_integer_is_an_integer() {
        for (value, number) in [
            ("0", 0),
            ("-0", 0),
            ("-12", -12),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(one(&format!("{{\"a\":{value}}}")), Ok(number));
        }
        for (value, found) in [
            ("12.0", "12.0"),
            ("5e0", "5.0"),
            ("\"12\"", "\"12\""),
            ("9223372036854775808", "9223372036854775808"),
            ("-9223372036854775809", "-9.223372036854776e18"),
            ("18446744073709551616", "1.8446744073709552e19"),
            ("null", "null"),
            ("true", "true"),
            ("[1]", "an array"),
            ("{}", "an object"),
        ] {
            let problem = one(&format!("{{\"a\":{value}}}"));
            assert_eq!(problem, Err(format!("`a`: expected i64, found {found}")));
        }
        assert!(
            one("{\"a\":1e400}")
                .unwrap_err()
                .starts_with("`a`: 1e400 is beyond")
        );
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        #[derive(Debug, Deserialize)]
        struct Outer {
            #[serde(rename = "inner")]
            _inner: Vec<One>,
        }
        for (text, problem) in [
            ("{}", "missing field `inner`"),
            (r#"{"inner":[],"inner":[]}"#, "field `inner` is given twice"),
            (r#"{"inner":[{"a":1},{}]}"#, "`inner[1]`: missing field `a`"),
            (
                r#"{"inner":[{"a":"x"}]}"#,
                "`inner[0].a`: expected i64, found \"x\"",
            ),
            (
                r#"{"inner":[[1]]}"#,
                "`inner[0]`: expected struct One, found an array",
            ),
        ] {
            assert_eq!(decode::<Outer>(text.as_bytes()).unwrap_err(), problem);
        }
        assert_eq!(one("{\"A\":1}"), Err("missing field `a`".to_owned()));
        assert_eq!(
            one("{\"a\":1,\"\\u0061\":2}"),
            Err("field `a` is given twice".to_owned())
        );
        let long = one(&format!("{{\"a\":\"{}\"}}", "é".repeat(10_000))).unwrap_err();
        assert_eq!(long.chars().count(), 201);
    }

    #[test]
    fn depth_is_limited_far_from_the_end_of_the_stack() {
        #[derive(Debug, Deserialize)]
        struct Nested {
            #[serde(rename = "in")]
            _inner: Option<Box<Nested>>,
        }
        let nested = |depth: usize| "{\"in\":".repeat(depth - 1) + "{}" + &"}".repeat(depth - 1);
        let arrays = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let limit = usize::from(DEPTH_MAX);
        for depth in [2, 128, 129, limit] {
            assert!(
                decode::<Nested>(nested(depth).as_bytes()).is_ok(),
                "{depth}"
            );
            assert_eq!(skipped(&arrays(depth - 1)), Ok(1), "{depth}");
        }
        for depth in [limit + 1, 100_000] {
            assert!(
                decode::<Nested>(nested(depth).as_bytes()).is_err(),
                "{depth}"
            );
            assert!(skipped(&arrays(depth)).is_err(), "{depth}");
            assert!(skipped(&"[".repeat(depth)).is_err(), "{depth}");
        }
        assert_eq!(
            skipped(&format!("[{}]", "[[]],".repeat(999) + "{}")),
            Ok(1),
            "siblings"
        );
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Id(i64);
    #[derive(Debug, PartialEq, Deserialize)]
    enum Shape {
        Dot,
        Circle(f64),
        Line(i8, i8),
        Box { w: u8 },
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct All<'a> {
        #[serde(borrow)]
        text: &'a str,
        owned: String,
        letter: char,
        id: Id,
        big: i128,
        float: f64,
        zero: f64,
        half: f32,
        maybe: Option<i64>,
        absent: Option<i64>,
        pair: (i64, bool),
        shapes: Vec<Shape>,
        by_id: BTreeMap<i64, bool>,
    }

    #[test]
    fn decodes_what_serde_can_describe() {
        let text = r#"{"text":"plain","owned":"a\n\ud83d\ude00b","letter":"é","id":7,
            "big":-170141183460469231731687303715884105728,"float":12,"zero":-0,"half":0.1,
            "maybe":null,"pair":[1,true],"by_id":{"-3":true,"5":false},
            "shapes":["Dot",{"Circle":1.5},{"Line":[1,-1]},{"Box":{"w":255}}]}"#;
        let all: All<'_> = decode(text.as_bytes()).unwrap();
        assert_eq!(
            (all.text, all.owned.as_str(), all.letter),
            ("plain", "a\n😀b", 'é')
        );
        assert_eq!(
            (all.id, all.big, all.maybe, all.absent),
            (Id(7), i128::MIN, None, None)
        );
        assert_eq!(
            [all.float.to_bits(), all.zero.to_bits()],
            [12.0_f64, -0.0].map(f64::to_bits)
        );
        assert_eq!(
            (all.half.to_bits(), all.pair),
            (0.1_f32.to_bits(), (1, true))
        );
        let shapes = [
            Shape::Dot,
            Shape::Circle(1.5),
            Shape::Line(1, -1),
            Shape::Box { w: 255 },
        ];
        assert_eq!(all.shapes, shapes);
        assert_eq!(all.by_id, BTreeMap::from([(-3, true), (5, false)]));
    }

    #[test]
    fn a_variant_is_one_field_of_the_right_shape() {
        for wrong in [
            r#"{"s":{"Circle":1,"Dot":null}}"#,
            r#"{"s":{"Line":[1,2,3]}}"#,
            r#"{"s":{"Line":[1]}}"#,
            r#"{"s":{"Box":[1]}}"#,
            r#"{"s":{"Box":{"w":256}}}"#,
            r#"{"s":"Circle"}"#,
            r#"{"s":{}}"#,
        ] {
            assert!(
                decode::<BTreeMap<String, Shape>>(wrong.as_bytes()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn writes_compact_json() {
        #[derive(Serialize)]
        struct Out<'a> {
            text: &'a str,
            sum: i128,
            mean: f64,
            nan: f64,
            infinite: f32,
            by_type: BTreeMap<&'a str, u64>,
        }
        let out = Out {
            text: "\"\\\u{1}\né",
            sum: i128::MIN,
            mean: 0.1,
            nan: f64::NAN,
            infinite: f32::NEG_INFINITY,
            by_type: BTreeMap::from([("b", u64::MAX), ("a", 1)]),
        };
        let mut bytes = b"kept ".to_vec();
        encode(&out, &mut bytes).unwrap();
        let expected = concat!(
            r#"kept {"text":"\"\\\u0001\né","sum":-170141183460469231731687303715884105728,"#,
            r#""mean":0.1,"nan":null,"infinite":null,"by_type":{"a":1,"b":18446744073709551615}}"#
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn appends_nothing_where_it_fails() {
        let mut bytes = b"kept".to_vec();
        assert!(encode(&BTreeMap::from([(vec![1], 1)]), &mut bytes).is_err());
        assert_eq!(bytes, b"kept");
    }

    /// Any JSON value, as text with odd but valid spacing.
    fn any_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "null|true|false",
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let field = (any::<String>(), inner.clone())
                .prop_map(|(name, value)| serde_json::to_string(&name).unwrap() + " :" + &value);
            prop_oneof![
                prop::collection::vec(inner, 0..5)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(field, 0..5)
                    .prop_map(|fields| format!("{{ {} }}", fields.join("\n, "))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn skips_any_valid_value(value in any_json()) {
            prop_assert_eq!(skipped(&value), Ok(1));
        }

        /// The other decoder checks skipped text for less, so it is asked for the whole value.
        #[test]
        fn agrees_with_another_decoder_on_damaged_records(
            value in any_json(),
            at: prop::sample::Index,
            byte in prop::sample::select(&b"\"\\{}[],:0-e. \0\xc8"[..]),
            remove: bool,
        ) {
            let mut bytes = format!("{{\"x\":{value}}}").into_bytes();
            let at = at.index(bytes.len());
            if remove { bytes.remove(at); } else { bytes[at] = byte; }
            let own = decode::<IgnoredAny>(&bytes).is_ok();
            let whole = decode::<serde_json::Value>(&bytes).is_ok();
            match serde_json::from_slice::<serde_json::Value>(&bytes) {
                Ok(other) => prop_assert_eq!((own, whole), (other.is_object(), other.is_object())),
                // A value that is skipped has no range.
                Err(error) if error.to_string().starts_with("number out of range") => {}
                Err(_) => prop_assert!(!own && !whole),
            }
        }

        #[test]
        fn reads_back_what_it_writes(
            text: String,
            number: i64,
            float: f64,
            map: BTreeMap<i64, String>,
        ) {
            let mut bytes = Vec::new();
            encode(&BTreeMap::from([("v", (&text, number, float, &map))]), &mut bytes).unwrap();
            let back: BTreeMap<String, (String, i64, f64, BTreeMap<i64, String>)> =
                decode(&bytes).unwrap();
            prop_assert_eq!(&back["v"], &(text, number, float, map));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = decode::<One>(&bytes);
            let _ = decode::<IgnoredAny>(&[b"{", &bytes[..]].concat());
        }
    }
}
