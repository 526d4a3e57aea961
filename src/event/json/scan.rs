//! The grammar of JSON (RFC 8259), over text that is known to be UTF-8.

use std::borrow::Cow;

use super::DEPTH_MAX;
use super::digits::integer;
use super::problem::Problem;

type Result<T> = std::result::Result<T, Problem>;

/// Reads a text from front to back.
#[derive(Debug)]
pub(super) struct Scanner<'de> {
    text: &'de str,
    at: usize,
    depth: u16,
}

/// A number by its form.
#[derive(Debug, PartialEq)]
pub(super) enum Number<'de> {
    /// An integer from 0 up.
    Positive(u64),
    /// An integer below 0.
    Negative(i64),
    /// An integer beyond these, or what has a fraction or an exponent.
    Other(&'de str),
}

/// What ends a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Container {
    /// `[..]`
    Array,
    /// `{..}`
    Object,
}

impl Container {
    fn end(self) -> (u8, &'static str) {
        match self {
            Container::Array => (b']', "expected `,` or `]`"),
            Container::Object => (b'}', "expected `,` or `}`"),
        }
    }
}

impl<'de> Scanner<'de> {
    pub(super) fn new(text: &'de str) -> Self {
        Scanner {
            text,
            at: 0,
            depth: 0,
        }
    }

    /// The problem that what stands here is not `what`.
    #[cold]
    pub(super) fn syntax(&self, what: &'static str) -> Problem {
        if self.at >= self.text.len() {
            return Problem::syntax(self.at, "the text ends too early");
        }
        Problem::syntax(self.at, what)
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Where the scanner stands.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The text again from `at` on, for an error's words.
    pub(super) fn again(&self, at: usize) -> Self {
        Scanner {
            at,
            ..Scanner::new(self.text)
        }
    }

    /// Skips white space and shows the byte behind it.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        match self.byte() {
            Some(byte) if byte > b' ' => Some(byte),
            _ => self.peek_behind_space(),
        }
    }

    #[cold]
    fn peek_behind_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Takes white space and `byte`, or has the problem `what`.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.syntax(what))
    }

    /// Checks that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.syntax("expected the end of the record")),
        }
    }

    /// Takes the bracket that [`Self::peek`] has shown.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(self.syntax("nested too deep"));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Goes to the next item of a container, or takes its end and returns `false`.
    #[inline]
    pub(super) fn next_item(&mut self, container: Container, first: bool) -> Result<bool> {
        let (end, what) = container.end();
        match self.peek() {
            Some(byte) if byte == end => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            _ if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.syntax(what)),
        }
    }

    /// Takes a field's name, without what stands behind it.
    #[inline]
    pub(super) fn name(&mut self) -> Result<Cow<'de, str>> {
        if self.peek() == Some(b'"') {
            return self.string();
        }
        Err(self.syntax("expected a field's name"))
    }

    /// Takes the colon between a name and its value.
    #[inline]
    pub(super) fn colon(&mut self) -> Result<()> {
        self.expect(b':', "expected `:`")
    }

    /// Takes `true`, `false` or `null`, of which the first byte is known.
    pub(super) fn literal(&mut self, literal: &'static str) -> Result<()> {
        if self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            self.at += literal.len();
            return Ok(());
        }
        Err(self.syntax("expected a value"))
    }

    /// Takes a string, of which the quote is known.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Cow<'de, str>> {
        let start = self.at + 1;
        let end = start + plain(&self.text.as_bytes()[start..]);
        self.at = end;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        self.string_with_escapes(start).map(Cow::Owned)
    }

    #[cold]
    fn string_with_escapes(&mut self, start: usize) -> Result<String> {
        let mut string = self.text[start..self.at].to_owned();
        while self.byte() != Some(b'"') {
            string.push(self.escape()?);
            let start = self.at;
            self.at += plain(&self.text.as_bytes()[start..]);
            string.push_str(&self.text[start..self.at]);
        }
        self.at += 1;
        Ok(string)
    }

    #[inline]
    fn skip_string(&mut self) -> Result<()> {
        self.at += 1;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            if self.byte() == Some(b'"') {
                self.at += 1;
                return Ok(());
            }
            self.escape()?;
        }
    }

    /// Takes an escape; what stands here is one, or wrong in a string.
    #[cold]
    fn escape(&mut self) -> Result<char> {
        if self.byte() != Some(b'\\') {
            return Err(self.syntax("a control character in a string"));
        }
        self.at += 1;
        let char = match self.byte() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.escaped_utf16(),
            _ => return Err(self.syntax("no such escape")),
        };
        self.at += 1;
        Ok(char)
    }

    fn escaped_utf16(&mut self) -> Result<char> {
        let unit = self.four_hex_digits()?;
        let mut units = [unit, 0];
        let paired =
            matches!(unit, 0xd800..0xdc00) && self.text.as_bytes()[self.at..].starts_with(b"\\u");
        if paired {
            self.at += 1;
            units[1] = self.four_hex_digits()?;
        }
        match char::decode_utf16(units).next() {
            Some(Ok(char)) => Ok(char),
            _ => Err(self.syntax("half a surrogate pair")),
        }
    }

    /// Takes a `u` and the four digits behind it.
    fn four_hex_digits(&mut self) -> Result<u16> {
        let mut unit = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            let digit = digit.ok_or_else(|| self.syntax("expected four hexadecimal digits"))?;
            unit = unit << 4 | digit;
        }
        self.at += 1;
        Ok(u16::try_from(unit).expect("four digits have sixteen bits"))
    }

    /// Takes a number; what stands here is one, or no value at all.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'de>> {
        let (start, rest) = (self.at, &self.text.as_bytes()[self.at..]);
        let negative = rest.first() == Some(&b'-');
        let rest = if negative { &rest[1..] } else { rest };
        let (digits, magnitude) = integer(rest);
        self.at += usize::from(negative) + digits;
        if digits == 0 {
            return Err(self.syntax("expected a value"));
        }
        if digits > 1 && rest[0] == b'0' {
            return Err(Problem::syntax(start, "a number with a leading zero"));
        }
        if matches!(self.byte(), Some(b'.' | b'e' | b'E')) {
            self.fraction_and_exponent()?;
        } else if digits <= 19 {
            if !negative {
                return Ok(Number::Positive(magnitude));
            }
            if let Some(value) = 0_i64.checked_sub_unsigned(magnitude) {
                return Ok(Number::Negative(value));
            }
        }
        Ok(Number::Other(&self.text[start..self.at]))
    }

    /// Takes a number and returns its text.
    pub(super) fn number_text(&mut self) -> Result<&'de str> {
        let start = self.at;
        self.number()?;
        Ok(&self.text[start..self.at])
    }

    #[cold]
    fn fraction_and_exponent(&mut self) -> Result<()> {
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.syntax("expected a digit"))
        } else {
            Ok(())
        }
    }

    /// Takes a value of any kind.
    pub(super) fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{') => self.skip_items(Container::Object),
            Some(b'[') => self.skip_items(Container::Array),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => self.number().map(drop),
        }
    }

    /// Takes a container. The depth is limited, so the recursion is.
    fn skip_items(&mut self, container: Container) -> Result<()> {
        self.enter()?;
        let mut first = true;
        while self.next_item(container, first)? {
            first = false;
            if container == Container::Object {
                if self.peek() != Some(b'"') {
                    return Err(self.syntax("expected a field's name"));
                }
                self.skip_string()?;
                self.colon()?;
            }
            self.skip()?;
        }
        Ok(())
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = ONES << 7;

/// Counts the bytes before the first quote, backslash or control character.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let marks = specials(u64::from_le_bytes(*word));
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let in_tail = tail
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    words.len() * 8 + in_tail.unwrap_or(tail.len())
}

/// Marks the quotes, backslashes and control characters of eight bytes in their highest bits.
///
/// A borrow may mark a byte behind a marked one as well, so only the lowest mark is to be trusted.
#[inline]
fn specials(word: u64) -> u64 {
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let quotes = zeros(word ^ (ONES * u64::from(b'"')));
    let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | backslashes | controls) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_first_special_byte(bytes: Vec<u8>, at: prop::sample::Index, special in 0..6) {
            let mut bytes = bytes;
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = [b'"', b'\\', 0, 0x1f, 0x20, 0xa2][usize::try_from(special).unwrap()];
            }
            let naive = bytes.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
            prop_assert_eq!(plain(&bytes), naive.unwrap_or(bytes.len()));
        }

        #[test]
        fn reads_integers_of_any_length(text in "-?(0|[1-9][0-9]{0,24})") {
            let number = Scanner::new(&text).number().unwrap();
            let value: i128 = text.parse().unwrap();
            match number {
                Number::Positive(number) => prop_assert_eq!(value, i128::from(number)),
                Number::Negative(number) => prop_assert_eq!(value, i128::from(number)),
                Number::Other(number) => {
                    prop_assert_eq!(number, &text);
                    prop_assert!(value < i64::MIN.into() || value > 9_999_999_999_999_999_999);
                }
            }
        }
    }
}
