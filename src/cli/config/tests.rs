use std::fs;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use super::*;

/// A command with one flag of each kind, and one that another file adds.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Program {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    Run(Run),
    Describe,
}

#[derive(Clone, Debug, Args)]
#[command(group(clap::ArgGroup::new(TOGETHER).multiple(true).args(["verbose", "quiet"])))]
struct Run {
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(short, long, visible_alias = "threads")]
    workers: Option<usize>,
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[arg(long, value_name = "NAME=URI")]
    source: Vec<String>,
    #[arg(long, value_name = "[NAME:]KEY=VALUE")]
    property: Vec<String>,
    #[arg(long)]
    host: Vec<String>,
    #[arg(long)]
    bounded: bool,
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    others: Others,
}

#[derive(Clone, Debug, Args)]
struct Others {
    #[arg(long, default_value = "10s")]
    some_time: String,
}

type Variables = &'static [(&'static str, &'static str)];

/// As [`read`], with an environment of its own.
fn layered(
    variables: Variables,
    file: &str,
    arguments: &[&str],
) -> Result<(Run, Vec<String>), Stop> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, file).unwrap();
    let config = format!("--config={}", path.display());
    let (own, at) = match arguments.first() {
        Some(&"run") => (&arguments[1..], vec!["program", "run"]),
        _ => (arguments, vec!["program"]),
    };
    let with = if file.is_empty() {
        vec![]
    } else {
        vec![config.as_str()]
    };
    let arguments = at.into_iter().chain(with).chain(own.iter().copied());
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    let found = read_with(
        &Program::command(),
        &|| vec!["in-put".to_owned()],
        arguments.map(OsString::from).collect(),
        &mut variables.collect::<Vec<_>>().into_iter(),
    )?;
    let program = Program::from_arg_matches(&found.matches)?;
    let run = match program.command {
        Some(Sub::Run(run)) => run,
        _ => program.run,
    };
    Ok((run, found.warnings))
}

fn run(variables: Variables, file: &str, arguments: &[&str]) -> Run {
    match layered(variables, file, arguments) {
        Ok((run, _)) => run,
        Err(Stop::Clap(error)) => panic!("{error}"),
        Err(Stop::Wrong(error)) => panic!("{error}"),
    }
}

#[track_caller]
fn refused(variables: Variables, file: &str, says: &[&str]) {
    match layered(variables, file, &[]) {
        Err(Stop::Wrong(error)) => {
            let text = error.to_string();
            assert!(
                says.iter().all(|part| text.contains(part)),
                "{says:?} in: {text}"
            );
        }
        Err(Stop::Clap(error)) => panic!("{error}"),
        Ok((run, _)) => panic!("{run:?}"),
    }
}

#[test]
fn flags_are_before_the_environment_and_that_before_the_file() {
    const VARIABLES: Variables = &[("ANABRANCH_WORKERS", "2"), ("ANABRANCH_SOME_TIME", "2s")];
    let file = "workers = 3\nsome-time = \"3s\"\nbounded = true\nhost = [\"a\", \"b\"]\n";
    for command in [&["run"][..], &[]] {
        let flags = [command, &["-w", "1"]].concat();
        let all = run(VARIABLES, file, &flags);
        assert_eq!(
            (all.workers, all.others.some_time.as_str()),
            (Some(1), "2s")
        );
        assert!(all.bounded);
        assert_eq!(all.host, ["a", "b"]);
    }
    let file_alone = run(&[], file, &[]);
    assert_eq!(file_alone.workers, Some(3));
    assert_eq!(file_alone.others.some_time, "3s");
    let none = run(&[], "", &[]);
    assert_eq!(
        (none.workers, none.others.some_time.as_str()),
        (None, "10s")
    );
    assert_eq!(run(&[], "threads = 5", &[]).workers, Some(5));
    assert_eq!(run(&[("ANABRANCH_THREADS", "6")], "", &[]).workers, Some(6));
    assert_eq!(run(&[], "some_time = \"-1s\"", &[]).others.some_time, "-1s");
    assert_eq!(run(&[], file, &["--host", "c"]).host, ["c"]);
}

#[test]
fn a_switch_can_be_taken_back() {
    let file = "bounded = true";
    assert!(!run(&[("ANABRANCH_BOUNDED", "false")], file, &[]).bounded);
    assert!(!run(&[("ANABRANCH_BOUNDED", "true")], file, &["--bounded=false"]).bounded);
    assert!(run(&[("ANABRANCH_BOUNDED", "0")], "", &["--bounded=true"]).bounded);
}

#[test]
fn tables_are_merged_by_key() {
    const VARIABLES: Variables = &[
        ("ANABRANCH_SET_LAG", "2s"),
        ("ANABRANCH_SET_ALLOWED_LATENESS", "2s"),
        ("ANABRANCH_SOURCE_IN_PUT", "-"),
        ("ANABRANCH_PROPERTY_SASL_USERNAME", "me"),
    ];
    let file = "[set]\nallowed_lateness = 3\nlag = '3s'\nsize = '3s'\nexact = true\nshare = 0.5\n\
                [property]\nsasl.mechanism = 'PLAIN'\nsasl.username = 'you'\n\"in:linger.ms\" = 5\n\
                fetch.wait.max.ms = 7\n";
    let mut all = run(VARIABLES, file, &["--set", "lag=1s"]);
    all.set.sort_unstable();
    let set = [
        "allowed-lateness=2s",
        "exact=true",
        "lag=1s",
        "share=0.5",
        "size=3s",
    ];
    assert_eq!(all.set, set);
    assert_eq!(all.source, ["in-put=-"]);
    all.property.sort_unstable();
    let properties = [
        "fetch.wait.max.ms=7",
        "in:linger.ms=5",
        "sasl.mechanism=PLAIN",
        "sasl.username=me",
    ];
    assert_eq!(all.property, properties);
}

#[test]
fn what_says_how_much_to_say_is_replaced_together() {
    assert_eq!(run(&[], "verbose = 2", &[]).verbose, 2);
    let loud = run(&[], "quiet = true", &["-v"]);
    assert_eq!((loud.quiet, loud.verbose), (false, 1));
    let quiet = run(&[("ANABRANCH_QUIET", "true")], "verbose = 1", &[]);
    assert_eq!((quiet.quiet, quiet.verbose), (true, 0));
}

#[test]
fn what_is_no_setting_is_named_with_its_place() {
    refused(
        &[],
        "\nworker = 2",
        &["a.toml`, line 2", "unknown key `worker`", "`workers`?"],
    );
    refused(
        &[],
        "workers = 'many'",
        &["line 1", "`workers`", "invalid digit"],
    );
    refused(&[], "workers = [1]", &["line 1", "`workers`", "a value"]);
    refused(&[], "workers = 0x10", &["line 1", "`workers`", "decimal"]);
    refused(
        &[],
        "bounded = 1",
        &["line 1", "`bounded`", "true or false"],
    );
    refused(&[], "verbose = 'much'", &["line 1", "`verbose`", "0 to 9"]);
    refused(&[], "set = 1", &["line 1", "`set`", "table"]);
    refused(
        &[],
        "[set]\na = [1]",
        &["line 2", "`a`", "a text, a number"],
    );
    refused(&[], "a = 1\na = 2", &["line 2", "duplicate key"]);
    refused(&[], "x = 'y", &["line 1"]);
    refused(&[], "config = 'b.toml'", &["line 1", "`config`"]);
    refused(&[], "help = true", &["unknown key `help`"]);
    refused(
        &[("ANABRANCH_WORKERS", "two")],
        "",
        &["`ANABRANCH_WORKERS`", "`workers`"],
    );
    refused(
        &[("ANABRANCH_BOUNDED", "yes")],
        "",
        &["`ANABRANCH_BOUNDED`", "true or false"],
    );
    refused(
        &[("ANABRANCH_CONFIG", "/no/such")],
        "",
        &["`/no/such`", "No such file"],
    );
}

#[test]
fn other_variables_are_warned_about() {
    const VARIABLES: Variables = &[
        ("ANABRANCH_WORKRES", "2"),
        ("ANABRANCH_SET", "a=1"),
        ("ANABRANCH_SET_", "1"),
        ("PATH", "2"),
    ];
    let Ok((_, warnings)) = layered(VARIABLES, "", &[]) else {
        panic!("refused")
    };
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[2].contains("`ANABRANCH_WORKERS`?"), "{warnings:?}");
}

#[test]
fn what_was_substituted_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n");
    fs::write(&path, "hidden value\n").unwrap();
    let file = format!("workers = '${{file:{}}}'", path.display());
    let Err(Stop::Wrong(error)) = layered(&[], &file, &[]) else {
        panic!("taken")
    };
    assert!(!error.to_string().contains("hidden"), "{error}");
    assert!(error.to_string().contains("line 1: `workers`"), "{error}");
    fs::write(&path, "7\n").unwrap();
    assert_eq!(run(&[], &file, &[]).workers, Some(7));
    refused(
        &[],
        "workers = '${env:NO_SUCH_ONE}'",
        &["line 1", "`workers`", "`NO_SUCH_ONE`"],
    );
    // Properties are looked up where they are used.
    assert_eq!(
        run(&[], "property = { a = '${env:X}' }", &[]).property,
        ["a=${env:X}"]
    );
}

/// Also flags that are added later: each is in the environment and in the file, by its name.
#[test]
fn every_flag_of_a_run_is_a_setting() {
    let command = crate::cli::args::Arguments::command();
    let flags = flags(&command);
    assert!(flags.iter().any(|flag| flag.is("workers")) && flags.len() > 15);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    for flag in &flags {
        let name = flag.name();
        let (key, text) = match flag.kind {
            Kind::Table => ("_K", format!("[{name}]\nk = \"v\"")),
            Kind::Switch => ("", format!("{name} = true")),
            Kind::List => ("", format!("{name} = [\"v\"]")),
            Kind::Value | Kind::Count => ("", format!("{name} = \"v\"")),
        };
        let variable = name.to_ascii_uppercase().replace('-', "_");
        let variable = format!("ANABRANCH_{variable}{key}");
        let variables = [(OsString::from(&variable), OsString::from("v"))];
        let read = environment::read(&flags, &|| Vec::new(), variables.into_iter());
        let (given, warnings) = read.unwrap();
        assert_eq!(
            (given[0].flag.as_str(), warnings.len()),
            (name, 0),
            "{variable}"
        );
        fs::write(&path, &text).unwrap();
        match file::read(&flags, &path) {
            Ok(given) => assert_eq!(given[0].flag, name, "{text}"),
            Err(error) => assert!(name == "config", "{text}: {error}"),
        }
    }
}
