//! Where a setting comes from: flag > environment > file > default.
//!
//! There is one table of settings, the flags of clap's command. What the environment and the file
//! say is turned into arguments and put before the user's own, so that each flag can be given in
//! all three ways without a line about it here:
//!
//! ```text
//! --workers 2     ANABRANCH_WORKERS=2     workers = 2
//! --set lag=5s    ANABRANCH_SET_LAG=5s    [set]
//!                                         lag = "5s"
//! ```
//!
//! A flag that takes `KEY=VALUE` is a table, and the three are merged by key; of every other flag
//! the first one wins. Flags of the group [`TOGETHER`] are given up together.

mod environment;
mod file;
mod flag;
mod properties;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind as ClapError;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::usage;
use crate::error::{Error, ErrorKind, Result};
use flag::{Flag, Kind, flags};
pub(super) use properties::read as read_properties;

/// The group of flags of which a nearer layer replaces all: `-v` on the command line ends `quiet`
/// in the file.
pub(super) const TOGETHER: &str = "together";

/// A setting that a layer gives.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The long name of its flag.
    pub(super) flag: String,
    /// The key in a table.
    pub(super) key: Option<String>,
    pub(super) value: String,
    /// Where: ``file `a.toml`, line 3`` or ``environment variable `ANABRANCH_WORKERS` ``.
    pub(super) at: String,
    /// Whether the value came by substitution, so that nobody may see it.
    pub(super) secret: bool,
}

impl Given {
    fn argument(&self) -> OsString {
        match &self.key {
            Some(key) => format!("--{}={key}={}", self.flag, self.value).into(),
            None => format!("--{}={}", self.flag, self.value).into(),
        }
    }
}

/// What stopped the arguments.
pub(super) enum Stop {
    /// Help, version, or a wrong argument.
    Clap(clap::Error),
    Wrong(Error),
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        Stop::Clap(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Wrong(error)
    }
}

/// The arguments with all that lies below them.
pub(super) struct Layered {
    pub(super) matches: ArgMatches,
    /// What environment and file gave, for errors.
    pub(super) given: Vec<Given>,
    /// What is in the environment and is no setting.
    pub(super) warnings: Vec<String>,
}

/// Reads `arguments` (the first is the program) and whatever they leave open from the environment
/// and the configuration file. `ports` are the job's ports.
///
/// # Errors
/// Names the file, the line and the key, or the variable.
pub(super) fn read(
    command: &Command,
    ports: &dyn Fn() -> Vec<String>,
    arguments: Vec<OsString>,
) -> Result<Layered, Stop> {
    read_with(command, ports, arguments, &mut std::env::vars_os())
}

fn read_with(
    command: &Command,
    ports: &dyn Fn() -> Vec<String>,
    arguments: Vec<OsString>,
    variables: &mut dyn Iterator<Item = (OsString, OsString)>,
) -> Result<Layered, Stop> {
    let (mut arguments, off) = switched_off(command, arguments);
    let whole = command.clone().try_get_matches_from(&arguments)?;
    let (own, at) = match whole.subcommand() {
        None => (&whole, 1),
        Some(("run", run)) => (run, 2),
        Some(_) => {
            return Ok(Layered {
                matches: whole,
                given: Vec::new(),
                warnings: Vec::new(),
            });
        }
    };
    let flags = flags(command);
    let (environment, warnings) = environment::read(&flags, ports, variables)?;
    let file = match config_path(own, &environment) {
        Some(path) => file::read(&flags, &path)?,
        None => Vec::new(),
    };
    let mut given = Vec::new();
    for layer in [environment, file] {
        let taken = |one: &Given| is_taken(own, &off, &flags, &given, one);
        let open: Vec<_> = layer.into_iter().filter(|one| !taken(one)).collect();
        given.extend(open);
    }
    let mut added = Vec::new();
    for one in &given {
        added.extend(arguments_of(command, &flags, one)?);
    }
    arguments.splice(at.min(arguments.len())..at.min(arguments.len()), added);
    let matches = command.clone().try_get_matches_from(arguments)?;
    Ok(Layered {
        matches,
        given,
        warnings,
    })
}

/// Takes `--switch=false` and `--switch=true` out of the arguments, so that a flag can take back
/// what a file says. Returns the names that are off.
fn switched_off(command: &Command, arguments: Vec<OsString>) -> (Vec<OsString>, Vec<String>) {
    let flags = flags(command);
    let (mut kept, mut off) = (Vec::new(), Vec::new());
    for argument in arguments {
        let text = argument.to_str().unwrap_or_default();
        let switch = text
            .strip_prefix("--")
            .and_then(|text| text.split_once('='));
        let is_switch = |name| {
            flags
                .iter()
                .any(|flag| flag.is(name) && flag.kind == Kind::Switch)
        };
        match switch {
            Some((name, "true")) if is_switch(name) => kept.push(format!("--{name}").into()),
            Some((name, "false")) if is_switch(name) => off.push(name.to_owned()),
            _ => kept.push(argument),
        }
    }
    (kept, off)
}

fn config_path(own: &ArgMatches, environment: &[Given]) -> Option<PathBuf> {
    let named = environment.iter().find(|given| given.flag == "config");
    let flag = own.get_one::<PathBuf>("config").cloned();
    flag.or_else(|| named.map(|given| PathBuf::from(&given.value)))
}

/// Whether the arguments, or a nearer layer, say what `one` says.
fn is_taken(
    own: &ArgMatches,
    off: &[String],
    flags: &[Flag<'_>],
    nearer: &[Given],
    one: &Given,
) -> bool {
    let Some(flag) = flags.iter().find(|flag| flag.is(&one.flag)) else {
        return false;
    };
    if flag.kind == Kind::Table {
        let key = one.key.as_deref().unwrap_or_default();
        let same = |other: &str| flag.folded(other) == flag.folded(key);
        return flag.keys(own).iter().any(|other| same(other))
            || nearer
                .iter()
                .any(|given| flag.is(&given.flag) && given.key.as_deref().is_some_and(&same));
    }
    let is_given = |flag: &Flag<'_>| {
        own.value_source(flag.id()) == Some(ValueSource::CommandLine)
            || off.iter().any(|name| flag.is(name))
            || nearer.iter().any(|given| flag.is(&given.flag))
    };
    let together = flags.iter().filter(|other| other.together && flag.together);
    is_given(flag) || together.into_iter().any(is_given)
}

/// The arguments that say what `one` says, if its flag takes them.
fn arguments_of(command: &Command, flags: &[Flag<'_>], one: &Given) -> Result<Vec<OsString>> {
    let flag = flags.iter().find(|flag| flag.is(&one.flag));
    let flag_alone = || OsString::from(format!("--{}", one.flag));
    let refused = |why: &str| Error::usage(format!("{}: `{}`: {why}", one.at, one.flag));
    match flag.map(|flag| flag.kind) {
        Some(Kind::Switch) => match one.value.as_str() {
            "true" | "1" => Ok(vec![flag_alone()]),
            "false" | "0" => Ok(Vec::new()),
            _ => Err(refused("expected true or false")),
        },
        Some(Kind::Count) => match one.value.parse() {
            Ok(count @ 0..=9) => Ok(vec![flag_alone(); count]),
            _ => Err(refused("expected a number from 0 to 9")),
        },
        _ => {
            let argument = one.argument();
            let alone = [OsString::from("run"), argument.clone()];
            match command.clone().try_get_matches_from(alone) {
                Err(error) if is_about_value(&error) => Err(refused(&if one.secret {
                    "its value, which was substituted, is refused".to_owned()
                } else {
                    usage::line(&error, command)
                })),
                _ => Ok(vec![argument]),
            }
        }
    }
}

fn is_about_value(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ClapError::InvalidValue | ClapError::ValueValidation
    )
}

/// `error` with the place of the setting that it is about, if it names one of those.
pub(super) fn blame(error: Error, given: &[Given]) -> Error {
    if error.kind() != ErrorKind::Usage {
        return error;
    }
    let text = error.to_string();
    let named = given.iter().find(|one| {
        let key = one.key.as_deref().unwrap_or(&one.flag);
        let keys = [key.replace('_', "-"), key.to_owned()];
        keys.iter().any(|key| text.contains(&format!("`{key}`"))) && !text.starts_with(&one.at)
    });
    match named {
        Some(one) => Error::usage(format!("{}: {text}", one.at)),
        None => error,
    }
}

/// `` file `a.toml`, line 3 ``
fn place(path: &Path, line: usize) -> String {
    format!("file `{}`, line {line}", path.display())
}

#[cfg(test)]
mod tests;
