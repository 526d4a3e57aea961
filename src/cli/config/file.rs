//! The configuration file: TOML, with the flags' long names at the top level and a table for each
//! flag that takes `KEY=VALUE`.

use std::fs;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::flag::{Flag, Kind};
use super::{Given, Result, place};
use crate::cli::secret::substitute;
use crate::error::Error;
use crate::runtime::nearest;

/// What the file at `path` gives.
///
/// # Errors
/// Usage errors that name file, line and key.
pub(super) fn read(flags: &[Flag<'_>], path: &Path) -> Result<Vec<Given>> {
    let text = fs::read_to_string(path)
        .map_err(|why| Error::usage(format!("--config: file `{}`", path.display())).because(why))?;
    let reader = Reader {
        flags,
        path,
        text: &text,
        given: Vec::new(),
    };
    reader.read()
}

struct Reader<'a> {
    flags: &'a [Flag<'a>],
    path: &'a Path,
    text: &'a str,
    given: Vec<Given>,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<Vec<Given>> {
        let parsed = DeTable::parse(self.text).map_err(|error| {
            // Its words alone: the whole error quotes the line, which may hold a secret.
            let at = error.span().map_or(0, |span| span.start);
            Error::usage(format!("{}: {}", self.at(at), error.message()))
        })?;
        for (name, value) in parsed.into_inner() {
            let at = self.at(name.span().start);
            let name = name.into_inner().replace('_', "-");
            let flag = self.flags.iter().find(|flag| flag.is(&name));
            match flag {
                Some(flag) if flag.name() == "config" => {
                    let why = "a configuration file names no other";
                    return Err(Error::usage(format!("{at}: `config`: {why}")));
                }
                Some(flag) => self.setting(flag, &name, &at, value)?,
                None => {
                    let hint = nearest(&name, self.flags.iter().map(Flag::name));
                    return Err(Error::usage(format!("{at}: unknown key `{name}`{hint}")));
                }
            }
        }
        Ok(self.given)
    }

    fn at(&self, offset: usize) -> String {
        let before = self.text.as_bytes().iter().take(offset);
        let lines = before.filter(|byte| **byte == b'\n').count();
        place(self.path, lines + 1)
    }

    fn setting(&mut self, flag: &Flag<'_>, name: &str, at: &str, value: Value<'a>) -> Result {
        let wrong = |what| Err(Error::usage(format!("{at}: `{name}`: expected {what}")));
        match (flag.kind, value.into_inner()) {
            (Kind::Table, DeValue::Table(table)) => self.table(flag, "", table),
            (Kind::Table, _) => wrong("a table of KEY = VALUE"),
            (Kind::List, DeValue::Array(items)) => {
                for item in items {
                    self.leaf(flag, None, at, item.get_ref())?;
                }
                Ok(())
            }
            (Kind::Switch, value @ DeValue::Boolean(_)) => self.leaf(flag, None, at, &value),
            (Kind::Switch, _) => wrong("true or false"),
            (_, DeValue::Table(_)) => wrong("a value, found a table"),
            (_, DeValue::Array(_)) => wrong("a value, found an array"),
            (_, value) => self.leaf(flag, None, at, &value),
        }
    }

    /// Keys with dots are names with dots: `sasl.username = ".."` is one property.
    fn table(&mut self, flag: &Flag<'_>, prefix: &str, table: DeTable<'a>) -> Result {
        for (key, value) in table {
            let at = self.at(key.span().start);
            let key = format!("{prefix}{}", key.into_inner());
            match value.into_inner() {
                DeValue::Table(inner) if flag.name() == "property" => {
                    self.table(flag, &format!("{key}."), inner)?;
                }
                DeValue::Table(_) | DeValue::Array(_) => {
                    let why = "expected a text, a number or a boolean";
                    return Err(Error::usage(format!("{at}: `{key}`: {why}")));
                }
                value => self.leaf(flag, Some(key), &at, &value)?,
            }
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        flag: &Flag<'_>,
        key: Option<String>,
        at: &str,
        value: &DeValue<'_>,
    ) -> Result {
        let about = format!("{at}: `{}`", key.as_deref().unwrap_or(flag.name()));
        let (value, secret) = match value {
            // Of properties, what stands for a secret is looked up later, however they are given.
            DeValue::String(text) if flag.name() != "property" => substitute(&about, text)?,
            DeValue::String(text) => (text.clone().into_owned(), false),
            DeValue::Integer(number) if number.radix() == 10 => (number.as_str().to_owned(), false),
            DeValue::Float(number) => (number.as_str().to_owned(), false),
            DeValue::Boolean(value) => (value.to_string(), false),
            DeValue::Datetime(time) => (time.to_string(), false),
            _ => return Err(Error::usage(format!("{about}: expected a decimal number"))),
        };
        self.given.push(Given {
            flag: flag.name().to_owned(),
            key,
            value,
            at: at.to_owned(),
            secret,
        });
        Ok(())
    }
}
