//! Java's `.properties` files, as every Kafka client takes them.

use std::fs;
use std::path::Path;

use super::{Given, Result, place};
use crate::error::Error;

/// The Kafka properties in the file at `path`, in its order.
///
/// # Errors
/// Usage errors that name the file and the line.
pub(in crate::cli) fn read(path: &Path) -> Result<Vec<Given>> {
    let text = fs::read_to_string(path).map_err(|why| {
        Error::usage(format!("--kafka-config: file `{}`", path.display())).because(why)
    })?;
    let pairs = parse(&text)
        .map_err(|(line, why)| Error::usage(format!("{}: {why}", place(path, line))))?;
    let given = pairs.into_iter().map(|pair| Given {
        flag: "property".to_owned(),
        key: Some(pair.key),
        value: pair.value,
        at: place(path, pair.line),
        secret: false,
    });
    Ok(given.collect())
}

#[derive(Debug, PartialEq)]
struct Pair {
    line: usize,
    key: String,
    value: String,
}

/// Line and reason of what is no property.
type Broken = (usize, String);

/// `KEY=VALUE`, `KEY: VALUE` or `KEY VALUE` on each line; `#` and `!` begin comments; a backslash
/// at the end goes on in the next line, and elsewhere begins an escape.
fn parse(text: &str) -> Result<Vec<Pair>, Broken> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches(is_blank);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while goes_on(&whole) {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim_start_matches(is_blank));
        }
        let (key, value) = split(&whole);
        let unescaped = |text| unescape(text).map_err(|why| (number, why));
        let key = unescaped(key)?;
        if key.is_empty() {
            return Err((number, "a property without a name".to_owned()));
        }
        pairs.push(Pair {
            line: number,
            value: unescaped(value)?,
            key,
        });
    }
    Ok(pairs)
}

fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\u{c}')
}

/// Whether the line ends in a backslash that is no escaped one.
fn goes_on(line: &str) -> bool {
    let backslashes = line.chars().rev().take_while(|char| *char == '\\').count();
    backslashes % 2 == 1
}

/// Key and value, both with their escapes.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let separates = |char: char| {
        let separates = !escaped && (is_blank(char) || matches!(char, '=' | ':'));
        escaped = char == '\\' && !escaped;
        separates
    };
    let Some(at) = line.find(separates) else {
        return (line, "");
    };
    let (key, rest) = line.split_at(at);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        match chars.next() {
            None => {}
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                let char = code.filter(|_| digits.len() == 4).and_then(char::from_u32);
                out.push(char.ok_or("`\\u` without the four digits of a character")?);
            }
            Some(other) => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        let pairs = parse(text).unwrap();
        pairs
            .into_iter()
            .map(|pair| (pair.line, pair.key, pair.value))
            .collect()
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "# a comment \\\n! another\n\na=1\nb: 2\nc 3\n  d\t=\t4 \ne\n\
                    long=one, \\\n     two, \\\n  three\nwith\\ space\\:=\\ x\\u0041\\t\\\\\n\
                    url=http://h:1/?a=b#c\nend=a\\\\\nf==\r\n";
        let expected = [
            (4, "a", "1"),
            (5, "b", "2"),
            (6, "c", "3"),
            (7, "d", "4 "),
            (8, "e", ""),
            (9, "long", "one, two, three"),
            (12, "with space:", " xA\t\\"),
            (13, "url", "http://h:1/?a=b#c"),
            (14, "end", "a\\"),
            (15, "f", "="),
        ];
        let expected = expected.map(|(line, key, value)| (line, key.to_owned(), value.to_owned()));
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn what_is_no_property_is_named_by_its_line() {
        assert_eq!(parse("a=1\n=2\n").unwrap_err().0, 2);
        assert_eq!(parse("a=1\n\nb=\\u12\n").unwrap_err().0, 3);
        assert_eq!(parse("b=\\ud800").unwrap_err().0, 1);
    }
}
