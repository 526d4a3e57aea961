//! JSON, strictly as RFC 8259 writes it.
//!
//! The scanner has a stack of its own and never recurses, so that no nesting, closed or not, can
//! hurt it.

/// One lexical item and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// What an item is; strings are unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{` or `[`.
    Open(u8),
    /// `}` or `]`.
    Close(u8),
    Key(String),
    Text(String),
    Number,
    /// `true`, `false` or `null`.
    Literal,
}

/// What the grammar allows next.
enum Next {
    Value,
    FirstItem,
    Key,
    AfterValue,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    stack: Vec<u8>,
    tokens: Vec<Token>,
}

/// The items of one JSON value that fills `bytes` but for white space.
///
/// # Errors
/// What is wrong, and at which byte.
pub fn tokens(bytes: &[u8]) -> Result<Vec<Token>, String> {
    // `from_utf8` refuses overlong forms, encoded surrogates and what lies above U+10FFFF.
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let scanner = Scanner {
        text,
        at: 0,
        stack: Vec::new(),
        tokens: Vec::new(),
    };
    scanner.run()
}

impl Scanner<'_> {
    fn run(mut self) -> Result<Vec<Token>, String> {
        let mut next = Next::Value;
        loop {
            self.space();
            next = match next {
                Next::Value => self.value()?,
                Next::Key => self.key()?,
                Next::FirstItem => match (self.stack.last(), self.peek()) {
                    (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => self.close(),
                    (Some(b'{'), _) => self.key()?,
                    _ => self.value()?,
                },
                Next::AfterValue => match (self.stack.last(), self.peek()) {
                    (None, None) => return Ok(self.tokens),
                    (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => self.close(),
                    (Some(open), Some(b',')) => {
                        self.at += 1;
                        if *open == b'{' {
                            Next::Key
                        } else {
                            Next::Value
                        }
                    }
                    _ => return self.wrong("an end or a comma"),
                },
            };
        }
    }

    fn wrong<T>(&self, wanted: &str) -> Result<T, String> {
        Err(format!("byte {}: {wanted} is missing", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn push(&mut self, kind: Kind, start: usize) {
        let end = self.at;
        self.tokens.push(Token { kind, start, end });
    }

    fn close(&mut self) -> Next {
        let byte = self.text.as_bytes()[self.at];
        self.stack.pop();
        self.at += 1;
        self.push(Kind::Close(byte), self.at - 1);
        Next::AfterValue
    }

    fn key(&mut self) -> Result<Next, String> {
        let start = self.at;
        let name = self.string()?;
        self.push(Kind::Key(name), start);
        self.space();
        if self.peek() != Some(b':') {
            return self.wrong("a colon");
        }
        self.at += 1;
        Ok(Next::Value)
    }

    fn value(&mut self) -> Result<Next, String> {
        let start = self.at;
        match self.peek() {
            Some(open @ (b'{' | b'[')) => {
                self.stack.push(open);
                self.at += 1;
                self.push(Kind::Open(open), start);
                return Ok(Next::FirstItem);
            }
            Some(b'"') => {
                let text = self.string()?;
                self.push(Kind::Text(text), start);
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                self.push(Kind::Number, start);
            }
            _ => {
                let rest = &self.text[self.at..];
                let literals = ["true", "false", "null"];
                let Some(word) = literals.iter().find(|word| rest.starts_with(**word)) else {
                    return self.wrong("a value");
                };
                self.at += word.len();
                self.push(Kind::Literal, start);
            }
        }
        Ok(Next::AfterValue)
    }

    fn digits(&mut self) -> Result<(), String> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            return self.wrong("a digit");
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // A digit after a leading zero is no part of the number, and nothing else can follow there.
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String, String> {
        if self.peek() != Some(b'"') {
            return self.wrong("a string");
        }
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(next) = self.text[self.at..].chars().next() else {
                return self.wrong("the end of a string");
            };
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(out),
                '\\' => out.push(self.escape()?),
                '\0'..='\x1f' => return self.wrong("an escape for a control character"),
                other => out.push(other),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let byte = self.peek();
        self.at += 1;
        Ok(match byte {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 1;
                return self.wrong("a known escape");
            }
        })
    }

    /// A surrogate counts only as the first of a pair; alone it stands for no character, so the
    /// text is no text.
    fn unicode(&mut self) -> Result<char, String> {
        let first = self.hex()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first).map_or_else(|| self.wrong("a first half"), Ok);
        }
        if !self.text[self.at..].starts_with("\\u") {
            return self.wrong("a second half");
        }
        self.at += 2;
        let second = self.hex()?;
        if !(0xDC00..0xE000).contains(&second) {
            return self.wrong("a second half");
        }
        let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        char::from_u32(code).map_or_else(|| self.wrong("a character"), Ok)
    }

    fn hex(&mut self) -> Result<u32, String> {
        let Some(digits) = self.text.as_bytes().get(self.at..self.at + 4) else {
            return self.wrong("four hexadecimal digits");
        };
        let mut code = 0;
        for digit in digits {
            let Some(value) = char::from(*digit).to_digit(16) else {
                return self.wrong("four hexadecimal digits");
            };
            code = code * 16 + value;
        }
        self.at += 4;
        Ok(code)
    }
}

/// A string as JSON, with the fewest escapes.
pub fn quote(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' => write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes all"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The same JSON without white space and with the fewest escapes; order and spelling of numbers are
/// kept.
///
/// # Errors
/// When `bytes` is no JSON.
pub fn canonical(bytes: &[u8]) -> Result<String, String> {
    let mut out = String::new();
    let mut value_ended = false;
    for token in tokens(bytes)? {
        if value_ended && !matches!(token.kind, Kind::Close(_)) {
            out.push(',');
        }
        value_ended = !matches!(token.kind, Kind::Open(_) | Kind::Key(_));
        match token.kind {
            Kind::Open(byte) | Kind::Close(byte) => out.push(char::from(byte)),
            Kind::Key(name) => out.push_str(&(quote(&name) + ":")),
            Kind::Text(text) => out.push_str(&quote(&text)),
            Kind::Number | Kind::Literal => {
                out.push_str(&String::from_utf8_lossy(&bytes[token.start..token.end]));
            }
        }
    }
    Ok(out)
}
