//! `ANABRANCH_*`: a flag's name, or a table's and a key.

use std::ffi::OsString;

use super::flag::{Flag, Kind};
use super::{Given, Result};
use crate::error::Error;
use crate::runtime::nearest;

const PREFIX: &str = "ANABRANCH_";

/// What `variables` give, and warnings about those that give nothing.
///
/// # Errors
/// Names a variable that is no text.
pub(super) fn read(
    flags: &[Flag<'_>],
    ports: &dyn Fn() -> Vec<String>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Vec<Given>, Vec<String>)> {
    let (mut given, mut warnings) = (Vec::new(), Vec::new());
    let mut all: Vec<_> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    all.sort_unstable();
    for (name, value) in all {
        let at = format!("environment variable `{name}`");
        let Some((flag, key)) = setting(flags, ports, &name[PREFIX.len()..]) else {
            let single = flags.iter().filter(|flag| flag.kind != Kind::Table);
            let known: Vec<_> = single.map(variable).collect();
            let hint = nearest(&name, known.iter().map(String::as_str));
            warnings.push(format!("{at} is no setting{hint}"));
            continue;
        };
        let value = value
            .into_string()
            .map_err(|_| Error::usage(format!("{at} is not UTF-8")))?;
        given.push(Given {
            flag,
            key,
            value,
            at,
            secret: false,
        });
    }
    Ok((given, warnings))
}

fn variable(flag: &Flag<'_>) -> String {
    PREFIX.to_owned() + &flag.name().to_ascii_uppercase().replace('-', "_")
}

/// The flag, and the key if it is a table, that `name` (without the prefix) means.
fn setting(
    flags: &[Flag<'_>],
    ports: &dyn Fn() -> Vec<String>,
    name: &str,
) -> Option<(String, Option<String>)> {
    let name = folded(name);
    let whole = |flag: &&Flag<'_>| {
        flag.kind != Kind::Table && flag.names().iter().any(|known| folded(known) == name)
    };
    if let Some(flag) = flags.iter().find(whole) {
        return Some((flag.name().to_owned(), None));
    }
    let tables = flags.iter().filter(|flag| flag.kind == Kind::Table);
    let found = tables.filter_map(|flag| {
        let key = name.strip_prefix(&folded(flag.name()))?.strip_prefix('_')?;
        (!key.is_empty()).then(|| (flag.name().to_owned(), Some(key_of(flag, ports, key))))
    });
    found.into_iter().next()
}

/// Environments have capitals and underscores; what they stand for depends on the table.
fn key_of(flag: &Flag<'_>, ports: &dyn Fn() -> Vec<String>, key: &str) -> String {
    match flag.name() {
        "property" => key.replace('_', "."),
        "set" => key.replace('_', "-"),
        _ => {
            let port = ports().into_iter().find(|port| folded(port) == key);
            port.unwrap_or_else(|| key.to_owned())
        }
    }
}

fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}
