//! A record as an object: what the contract asks of the fields that it names.
//!
//! Numbers stay text: whether `5e0` is an integer is a question of spelling here, not of value.

use super::json::{Kind, tokens};

/// The value of a member; nested ones as their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(String),
    Object(&'a str),
    Array(&'a str),
}

/// An object's members in the order in which they stand, repeated names included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    pub members: Vec<(String, Field<'a>)>,
}

impl<'a> Object<'a> {
    /// Takes `bytes` as one valid JSON object.
    ///
    /// # Errors
    /// When it is no JSON, or no object.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let tokens = tokens(bytes)?;
        if tokens[0].kind != Kind::Open(b'{') {
            return Err("not an object".to_owned());
        }
        let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut members: Vec<(String, Field<'a>)> = Vec::new();
        let mut name = String::new();
        let (mut depth, mut opened) = (0, 0);
        for token in tokens {
            let here = &text[token.start..token.end];
            let value = match token.kind {
                Kind::Open(_) => {
                    depth += 1;
                    if depth == 2 {
                        opened = token.start;
                    }
                    continue;
                }
                Kind::Close(byte) => {
                    depth -= 1;
                    let nested = &text[opened..token.end];
                    if byte == b'}' {
                        Field::Object(nested)
                    } else {
                        Field::Array(nested)
                    }
                }
                Kind::Key(key) if depth == 1 => {
                    name = key;
                    continue;
                }
                Kind::Key(_) => continue,
                Kind::Text(text) => Field::Text(text),
                Kind::Number => Field::Number(here),
                Kind::Literal if here == "null" => Field::Null,
                Kind::Literal => Field::Bool(here == "true"),
            };
            if depth == 1 {
                members.push((std::mem::take(&mut name), value));
            }
        }
        Ok(Self { members })
    }

    /// The names in order.
    pub fn names(&self) -> Vec<&str> {
        self.members.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The value of a name that must stand there exactly once.
    ///
    /// # Errors
    /// When it is missing or repeated.
    pub fn one(&self, name: &str) -> Result<&Field<'a>, String> {
        let mut found = self.members.iter().filter(|(key, _)| key == name);
        match (found.next(), found.next()) {
            (Some((_, field)), None) => Ok(field),
            (None, _) => Err(format!("`{name}` is missing")),
            (Some(_), Some(_)) => Err(format!("`{name}` is given twice")),
        }
    }

    /// A member that is an integer by its spelling, and fits.
    ///
    /// # Errors
    /// When it is missing, repeated, or anything else.
    pub fn integer(&self, name: &str) -> Result<i64, String> {
        match self.one(name)? {
            Field::Number(text) => integer(text).ok_or_else(|| format!("`{name}` is {text}")),
            other => Err(format!("`{name}` is {other:?}")),
        }
    }

    /// A member that is a string.
    ///
    /// # Errors
    /// When it is missing, repeated, or anything else.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        match self.one(name)? {
            Field::Text(text) => Ok(text),
            other => Err(format!("`{name}` is {other:?}")),
        }
    }
}

/// The value of a JSON number without fraction and exponent that fits 64 bits; `-0` is 0.
pub fn integer(number: &str) -> Option<i64> {
    number.parse().ok()
}
