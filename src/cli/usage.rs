//! Wrong arguments in one line: what, where, and the nearest name that there is.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::runtime::nearest;

/// The line for an error of clap's, without `error:`.
pub(super) fn line(error: &clap::Error, command: &clap::Command) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let flag = text(ContextKind::InvalidArg);
    // `--workers <N>`: the flag alone.
    let name = flag.split(' ').next().unwrap_or(flag);
    let value = text(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let flags = flags(command);
            let hint = nearest(name, flags.iter().map(String::as_str));
            format!("unknown flag `{name}`{hint}")
        }
        ErrorKind::UnknownArgument => unknown_command(name, command),
        ErrorKind::InvalidSubcommand => {
            unknown_command(text(ContextKind::InvalidSubcommand), command)
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{name}: a value is missing"),
        ErrorKind::InvalidValue => {
            let known = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(known)) => known.as_slice(),
                _ => &[],
            };
            let hint = nearest(value, known.iter().map(String::as_str));
            format!(
                "{name}: expected {}, found `{value}`{hint}",
                known.join(" or ")
            )
        }
        ErrorKind::ValueValidation => {
            let why =
                std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
            // What is wrong with a property may be that it is nothing but the secret.
            if name == "--property" {
                return format!("{name}: {why}");
            }
            format!("{name}: {why}, found `{value}`")
        }
        _ => first_lines(error),
    }
}

fn unknown_command(name: &str, command: &clap::Command) -> String {
    let hint = nearest(name, commands(command).into_iter());
    format!("unknown command `{name}`{hint}")
}

/// The name of every command below a command.
fn commands(command: &clap::Command) -> Vec<&str> {
    let below = command.get_subcommands();
    let names = |one| {
        [clap::Command::get_name(one)]
            .into_iter()
            .chain(commands(one))
    };
    below.flat_map(names).collect()
}

/// Every long flag of a command and of those below it.
fn flags(command: &clap::Command) -> Vec<String> {
    let own = command
        .get_arguments()
        .filter_map(clap::Arg::get_long_and_visible_aliases);
    let mut all: Vec<_> = own.flatten().map(|name| format!("--{name}")).collect();
    all.extend(["--help", "--version"].map(str::to_owned));
    all.extend(command.get_subcommands().flat_map(flags));
    all
}

/// clap's own words up to the first empty line, as one line.
fn first_lines(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().take_while(|line| !line.is_empty());
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}
