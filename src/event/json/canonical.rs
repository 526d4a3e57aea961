//! One form for all spellings of a JSON value.
//!
//! RFC 8785 (members sorted, no white space, the shortest escapes), with three differences, because
//! a digest may take no two values for one: members are sorted by the bytes of their names and
//! repeated ones stay, in their order; numbers keep every digit; integers are written whole, up to
//! [`WHOLE_MAX`] digits.

use super::problem::Problem;
use super::scan::{Container, Scanner};

type Result<T = ()> = std::result::Result<T, Problem>;

/// Integers with more digits have an exponent, or `1e999999999` would fill the memory.
const WHOLE_MAX: i64 = 1_000;

/// A member of an object: its name, and where it was written.
struct Member {
    name: String,
    from: usize,
    to: usize,
}

/// Takes the whole text as one value and appends it to `out`.
pub(super) fn write(text: &str, out: &mut Vec<u8>) -> Result {
    let mut scanner = Scanner::new(text);
    value(&mut scanner, out)?;
    scanner.end()
}

fn value(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result {
    let literal = match scanner.peek() {
        Some(b'{') => return object(scanner, out),
        Some(b'[') => return array(scanner, out),
        Some(b'"') => {
            string(&scanner.string()?, out);
            return Ok(());
        }
        Some(b't') => "true",
        Some(b'f') => "false",
        Some(b'n') => "null",
        _ => {
            number(scanner.number_text()?, out);
            return Ok(());
        }
    };
    scanner.literal(literal)?;
    out.extend_from_slice(literal.as_bytes());
    Ok(())
}

fn array(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result {
    scanner.enter()?;
    out.push(b'[');
    let mut first = true;
    while scanner.next_item(Container::Array, first)? {
        if !first {
            out.push(b',');
        }
        first = false;
        value(scanner, out)?;
    }
    out.push(b']');
    Ok(())
}

fn object(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result {
    scanner.enter()?;
    out.push(b'{');
    let start = out.len();
    let mut members: Vec<Member> = Vec::new();
    while scanner.next_item(Container::Object, members.is_empty())? {
        let name = scanner.name()?.into_owned();
        let from = out.len();
        string(&name, out);
        scanner.colon()?;
        out.push(b':');
        value(scanner, out)?;
        let to = out.len();
        out.push(b',');
        members.push(Member { name, from, to });
    }
    if !members.is_sorted_by(|a, b| a.name <= b.name) {
        sort(members, start, out);
    }
    if out.len() > start {
        out.pop(); // the last comma
    }
    out.push(b'}');
    Ok(())
}

fn sort(mut members: Vec<Member>, start: usize, out: &mut Vec<u8>) {
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sorted = Vec::with_capacity(out.len() - start);
    for member in members {
        sorted.extend_from_slice(&out[member.from..member.to]);
        sorted.push(b',');
    }
    out.truncate(start);
    out.append(&mut sorted);
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x8 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0xc => b'f',
            b'\r' => b'r',
            0..0x20 => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.push(b'"');
}

/// Writes a number of JSON's form by its value, `±0.d₁d₂… × 10^point`.
fn number(text: &str, out: &mut Vec<u8>) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa
        .strip_prefix('-')
        .map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let leading = all.len() - all.trim_start_matches('0').len();
    let digits = all.trim_matches('0');
    if digits.is_empty() {
        return out.push(b'0');
    }
    let Some(point) = point(whole.len(), leading, exponent) else {
        // An exponent beyond 18 digits: kept as it is, it is in nobody's range.
        return out.extend_from_slice(text.as_bytes());
    };
    out.extend_from_slice(sign.as_bytes());
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    let written = if count <= point && point <= WHOLE_MAX {
        digits.to_owned() + &zeros(point - count)
    } else if 0 < point && point < count {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{fraction}")
    } else if -6 < point && point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{first}{dot}{rest}e{:+}", point - 1)
    };
    out.extend_from_slice(written.as_bytes());
}

/// Where the point stands before the first digit that is not 0.
fn point(whole: usize, leading: usize, exponent: &str) -> Option<i64> {
    let exponent: i64 = exponent.parse().ok()?;
    let moved = i64::try_from(whole).ok()? - i64::try_from(leading).ok()?;
    exponent.checked_add(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let mut out = Vec::new();
        write(text, &mut out).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_by_their_value_and_keep_every_digit() {
        for (text, same) in [
            ("0", "0"),
            ("-0", "0"),
            ("0e5", "0"),
            ("0.000", "0"),
            ("12.0", "12"),
            ("1.2e1", "12"),
            ("1200e-2", "12"),
            ("-5e0", "-5"),
            ("100", "100"),
            ("1.50", "1.5"),
            ("15e-1", "1.5"),
            ("0.000001", "0.000001"),
            ("1e-6", "0.000001"),
            ("0.0000001", "1e-7"),
            ("12.5e-9", "1.25e-8"),
            ("9007199254740993", "9007199254740993"),
            (
                "170141183460469231731687303715884105728",
                "170141183460469231731687303715884105728",
            ),
            (
                "0.1000000000000000055511151231257827",
                "0.1000000000000000055511151231257827",
            ),
            ("1e21", "1000000000000000000000"),
            ("1e2000", "1e+2000"),
            ("10e1999", "1e+2000"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert_eq!(canonical(text), same, "{text}");
        }
    }

    #[test]
    fn members_are_sorted_by_bytes_and_white_space_goes() {
        let text =
            " { \"b\" : [ 1 , { } , [ ] ] , \"\u{e9}\" : null , \"a\" : { \"z\":1, \"y\":2 } } ";
        assert_eq!(
            canonical(text),
            "{\"a\":{\"y\":2,\"z\":1},\"b\":[1,{},[]],\"\u{e9}\":null}"
        );
        assert_eq!(
            canonical(r#"{"b":1,"a":2,"b":0}"#),
            r#"{"a":2,"b":1,"b":0}"#
        );
        // By the name, not by its spelling: a quote is before a letter, its escape behind.
        assert_eq!(canonical(r#"{"A":1,"\"":2}"#), r#"{"\"":2,"A":1}"#);
    }

    #[test]
    fn strings_have_their_shortest_form() {
        let text = r#""\u0041\/\u00e9\ud83d\ude00\u0000\u001F\b\f\n\r\t\"\\""#;
        let same = "\"A/\u{e9}\u{1f600}\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\\"";
        assert_eq!(canonical(text), same);
    }

    #[test]
    fn what_is_no_json_is_no_value() {
        for text in [
            "", "{", "{}x", "01", "1.", "\"", "nul", "[1,]", "{\"a\"}", "?",
        ] {
            assert!(write(text, &mut Vec::new()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_form_is_its_own_form() {
        for text in ["1e-7", "1e+2000", "1.25e-8", r#"{"a":[1,"\u0000"],"b":{}}"#] {
            assert_eq!(canonical(&canonical(text)), canonical(text));
        }
    }
}
