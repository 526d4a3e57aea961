//! The flags of a command, by how they are given elsewhere.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::TOGETHER;

/// How often a flag is given, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// With a value, once.
    Value,
    /// With a value, each time one more.
    List,
    /// With `KEY=VALUE`.
    Table,
    /// Without a value.
    Switch,
    /// Without a value, each time more so.
    Count,
}

/// A flag that is a setting.
#[derive(Clone, Debug)]
pub(super) struct Flag<'a> {
    arg: &'a Arg,
    names: Vec<&'a str>,
    pub(super) kind: Kind,
    pub(super) together: bool,
}

/// The settings of `command`: all its flags but help and version.
pub(super) fn flags(command: &Command) -> Vec<Flag<'_>> {
    let together: Vec<_> = command
        .get_groups()
        .filter(|group| group.get_id() == TOGETHER)
        .flat_map(clap::ArgGroup::get_args)
        .collect();
    let flag = |arg| {
        let mut flag = Flag::new(arg)?;
        flag.together = together.contains(&arg.get_id());
        Some(flag)
    };
    command.get_arguments().filter_map(flag).collect()
}

impl<'a> Flag<'a> {
    fn new(arg: &'a Arg) -> Option<Self> {
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Count => Kind::Count,
            ArgAction::Append if is_pair(arg) => Kind::Table,
            ArgAction::Append => Kind::List,
            ArgAction::Set => Kind::Value,
            _ => return None,
        };
        let mut names = vec![arg.get_long()?];
        names.extend(arg.get_visible_aliases().unwrap_or_default());
        Some(Self {
            arg,
            names,
            kind,
            together: false,
        })
    }

    pub(super) fn id(&self) -> &str {
        self.arg.get_id().as_str()
    }

    /// The long name.
    pub(super) fn name(&self) -> &'a str {
        self.names[0]
    }

    /// The long name and its aliases.
    pub(super) fn names(&self) -> &[&'a str] {
        &self.names
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// A key of this table, so that two spellings of one are equal.
    pub(super) fn folded(&self, key: &str) -> String {
        match self.name() {
            "set" => key.replace('_', "-"),
            _ => key.to_owned(),
        }
    }

    /// The keys of this table that the arguments give.
    pub(super) fn keys(&self, arguments: &ArgMatches) -> Vec<String> {
        let raw = arguments.get_raw(self.id()).into_iter().flatten();
        let texts = raw.filter_map(|raw| raw.to_str()?.split_once('='));
        texts.map(|(key, _)| key.to_owned()).collect()
    }
}

fn is_pair(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().any(|name| name.contains('='))
}
