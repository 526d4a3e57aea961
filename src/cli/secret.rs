//! What stands for a secret, and what nobody gets to see.
//!
//! `${env:X}` and `${file:/path}` stand for what is there. Such a value, and that of a property
//! like `sasl.password`, is kept here, and every line to stderr goes through [`redacted`]: whoever
//! says it, also librdkafka, also at level `trace`.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::sync::{PoisonError, RwLock};

use crate::error::{Error, Result};

/// Nothing that is a setting is longer.
const FILE_MAX: u64 = 1 << 20;
/// A secret of so many bytes is found inside of words too.
const DISTINCT: usize = 8;
/// A shorter one is not looked for: every other line would have it by accident.
const SHORTEST: usize = 4;

static KEPT: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on, no line shows `secret`.
pub(super) fn keep(secret: &str) {
    let mut kept = KEPT.write().unwrap_or_else(PoisonError::into_inner);
    let json = sonic_rs::to_string(secret).unwrap_or_default();
    let debug = format!("{secret:?}");
    let escaped = [&json, &debug].map(|text| text.trim_matches('"').to_owned());
    // A key in PEM's form is shown line by line, if at all.
    let lines = secret.lines().map(str::to_owned);
    for form in escaped.into_iter().chain(lines).chain([secret.to_owned()]) {
        if form.len() >= SHORTEST && !kept.contains(&form) {
            kept.push(form);
        }
    }
    // The longest first: it may hold another.
    kept.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
}

/// `text` with `***` for each secret.
pub(super) fn redacted(text: &str) -> Cow<'_, str> {
    let kept = KEPT.read().unwrap_or_else(PoisonError::into_inner);
    let mut text = Cow::Borrowed(text);
    for secret in kept.iter() {
        if text.contains(secret) {
            text = Cow::Owned(without(&text, secret));
        }
    }
    text
}

fn without(text: &str, secret: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, found) in text.match_indices(secret) {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        let in_word = [before, after]
            .into_iter()
            .flatten()
            .any(char::is_alphanumeric);
        if secret.len() >= DISTINCT || !in_word {
            out.push_str(&text[done..at]);
            out.push_str("***");
            done = at + found.len();
        }
    }
    out + &text[done..]
}

/// Whether the value of a Kafka property of this name is a secret, however it was given.
pub(super) fn is_secret(property: &str) -> bool {
    let parts = [
        "password",
        "secret",
        "jaas",
        ".pem",
        "oauthbearer.config",
        "token.value",
    ];
    parts.iter().any(|part| property.contains(part))
}

/// `text` with what its `${env:X}` and `${file:/path}` stand for, and whether there were any;
/// `$${` is `${`. What they stand for is kept from now on.
///
/// # Errors
/// Usage errors that begin with `about` and name the variable or the file, never a value.
pub(super) fn substitute(about: &str, text: &str) -> Result<(String, bool)> {
    let broken = |why: String| Error::usage(format!("{about}: {why}"));
    let (mut out, mut rest, mut any) = (String::new(), text, false);
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let (name, after) = from[2..]
            .split_once('}')
            .ok_or_else(|| broken("`${` is not closed (`$${` stands for itself)".to_owned()))?;
        let value = value_of(name).map_err(broken)?;
        keep(&value);
        out.push_str(&value);
        (rest, any) = (after, true);
    }
    out.push_str(rest);
    Ok((out, any))
}

fn value_of(name: &str) -> Result<String, String> {
    match name.split_once(':') {
        Some(("env", variable)) => std::env::var(variable).map_err(|why| match why {
            std::env::VarError::NotPresent => {
                format!("environment variable `{variable}` is not set")
            }
            std::env::VarError::NotUnicode(_) => {
                format!("environment variable `{variable}` is not UTF-8")
            }
        }),
        Some(("file", path)) => content(path).map_err(|why| format!("file `{path}`: {why}")),
        _ => Err("expected `${env:NAME}` or `${file:PATH}` (`$${` stands for itself)".to_owned()),
    }
}

/// The file without the end of its last line.
fn content(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|why| why.to_string())?;
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|why| why.to_string())?;
    if text.len() as u64 > FILE_MAX {
        return Err("more than 1 MiB".to_owned());
    }
    let end = text.strip_suffix('\n').unwrap_or(&text);
    Ok(end.strip_suffix('\r').unwrap_or(end).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_shown() {
        keep("correct \"horse\" battery");
        keep("tea1");
        keep("abc");
        for (text, shown) in [
            ("xcorrect \"horse\" batteryx", "x***x"),
            (r#"{"m":"correct \"horse\" battery"}"#, r#"{"m":"***"}"#),
            (
                "user:tea1@host, tea12, steam",
                "user:***@host, tea12, steam",
            ),
            ("abc", "abc"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }

    #[test]
    fn names_stand_for_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "from the file\r\n").unwrap();
        let text = format!("a${{file:{}}}b$${{env:X}}", path.display());
        let found = substitute("`key`", &text).unwrap();
        assert_eq!(found, ("afrom the fileb${env:X}".to_owned(), true));
        assert_eq!(
            substitute("`key`", "a$b").unwrap(),
            ("a$b".to_owned(), false)
        );
        for (text, says) in [
            ("${env:ANABRANCH_NO_SUCH}", "`ANABRANCH_NO_SUCH` is not set"),
            ("${file:/no/such}", "file `/no/such`: No such file"),
            ("${file:/}", "file `/`"),
            ("${file:/dev/zero}", "more than 1 MiB"),
            ("x${env:HOME", "is not closed"),
            ("${vault:x}", "expected `${env:NAME}`"),
        ] {
            let error = substitute("`key`", text).unwrap_err().to_string();
            assert!(
                error.starts_with("`key`: ") && error.contains(says),
                "{error}"
            );
        }
    }
}
