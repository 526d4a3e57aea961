//! The arguments of `run` and `describe`, as they are written.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};

use super::config::{Given, TOGETHER};
use super::console::Format;
use super::secret;
use crate::connectors::{DeadLimit, Start};
use crate::error::{Error, Result};
use crate::runtime::{Guarantee, Instance, Settings};
use crate::time::{EventTime, rfc3339};

/// Runs a dataflow on files or on Kafka.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunArguments,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the job (the default)
    Run(Box<RunArguments>),
    /// Show ports, parameters, the rule for lateness and the dataflow
    Describe(DescribeArguments),
}

#[derive(Debug, Args)]
pub(super) struct DescribeArguments {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    // Without help texts: with them, clap stretches every help.
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new(TOGETHER).multiple(true).args(["verbose", "quiet", "log_level"])))]
#[expect(clippy::doc_markdown, reason = "these are help texts")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct RunArguments {
    /// Bind a source port: file:PATH, kafka:TOPIC, or - for standard input
    #[arg(long, value_name = "NAME=URI", value_parser = pair)]
    source: Vec<(String, String)>,
    /// Bind a sink port: file:PATH, kafka:TOPIC, stderr:, null:, or - for standard output
    #[arg(long, value_name = "NAME=URI", value_parser = pair)]
    sink: Vec<(String, String)>,
    /// Every sink that is not bound otherwise is file:DIR/NAME.jsonl
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Every port that is not bound otherwise is its default topic on this Kafka
    #[arg(
        short,
        long,
        visible_alias = "bootstrap-server",
        value_name = "HOST:PORT,.."
    )]
    bootstrap: Option<String>,
    /// Who this job is in Kafka [default: the job's name]
    #[arg(long, value_name = "ID")]
    job_id: Option<String>,
    /// Kafka sources end at the end offsets seen at start; then all windows fire
    #[arg(long)]
    bounded: bool,
    /// Where a source without a checkpoint starts: earliest, latest or timestamp:T
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = start)]
    start: Start,
    /// Worker threads [default: the cores that this process may use]
    #[arg(short, long, value_name = "N")]
    workers: Option<usize>,
    /// Set a parameter of the job, as `describe` lists them
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Set a librdkafka property, for all ports or for one; ${env:X} and ${file:PATH} are secrets
    #[arg(short = 'X', long, value_name = "[NAME:]KEY=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
    /// Read librdkafka properties from a .properties file; --property wins
    #[arg(long, value_name = "FILE")]
    pub(super) kafka_config: Option<PathBuf>,
    /// What was read there
    #[arg(skip)]
    pub(super) kafka_properties: Vec<Given>,
    /// A live partition that is silent for this long stops holding the watermark; or off
    #[arg(long, value_name = "D", default_value = "10s", value_parser = optional_duration)]
    idle_timeout: Optional,
    /// How far an event time may lie past the Kafka timestamp of its own record; or off
    #[arg(long, value_name = "D", default_value = "10m", value_parser = optional_duration)]
    max_ahead: Optional,
    /// End with 5 at more dead letters than N or P%; or off [default: the first 1,000 all dead]
    #[arg(long, value_name = "N|P%", value_parser = dead_limit)]
    max_dead: Option<DeadLimit>,
    /// A directory sink may replace what is in the directory
    #[arg(long)]
    overwrite: bool,
    /// Bytes for buffers and state [default: half of what the control group or machine has]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Answer /metrics, /livez and /readyz at this address
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(super) http: Option<String>,
    /// Check everything that a run needs, and run nothing
    #[arg(long)]
    pub(super) check: bool,
    /// Create the topics that are missing
    #[arg(long)]
    create_topics: bool,
    /// End with 1 when no broker has answered for this long; a start waits 30 s at most
    #[arg(long, value_name = "D", default_value = "5m", value_parser = duration)]
    broker_timeout: Duration,
    /// Checkpoints live here: a restart goes on where the last run stopped or was killed
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// exactly-once or at-least-once [default: exactly-once with a state dir]
    #[arg(long, value_name = "G", value_parser = guarantee)]
    guarantee: Option<Guarantee>,
    /// How long after one checkpoint the next is begun
    #[arg(long, value_name = "D", default_value = "1s", value_parser = duration)]
    checkpoint_interval: Duration,
    /// Shut out a living instance of the same job, which then ends with 4
    #[arg(long, conflicts_with = "standby")]
    take_over: bool,
    /// Wait while another instance of the same job lives, and go on when it is gone
    #[arg(long)]
    standby: bool,
    /// As --bounded, but what is open stays open, and the next run goes on
    #[arg(long)]
    catch_up: bool,
    /// The state dir is lost or of another plan: read the log again, write nothing twice, go on
    #[arg(long)]
    rebuild: bool,
    /// A job without state begins with that of this folder, which `anabranch checkpoint save` made
    #[arg(long, value_name = "DIR")]
    from_savepoint: Option<PathBuf>,
    /// An operator that is new, changed or gone: what is in the state dir of it is dropped
    #[arg(long, value_name = "NAME")]
    allow_empty: Vec<String>,
    /// Read flags from a TOML file; flags and environment (ANABRANCH_WORKERS=2) win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say more; twice: much more
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// What to log: error, warn, info, debug, trace, or a filter of tracing
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    log_level: Option<String>,
    /// How stderr looks
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Pretty)]
    pub(super) log_format: Format,
}

/// A duration, or off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Optional(Option<Duration>);

pub(super) fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn optional_duration(text: &str) -> std::result::Result<Optional, String> {
    if text == "off" {
        return Ok(Optional(None));
    }
    let duration = humantime::parse_duration(text);
    duration
        .map(|duration| Optional(Some(duration)))
        .map_err(|why| format!("expected a duration such as 250ms, 10s, 1h30m, or off: {why}"))
}

fn log_level(text: &str) -> std::result::Result<String, String> {
    let filter = tracing_subscriber::EnvFilter::try_new(text);
    filter.map(|_| text.to_owned()).map_err(|_| {
        "expected error, warn, info, debug, trace, off, or a filter such as warn,kafka=debug"
            .to_owned()
    })
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|why| format!("expected a duration such as 250ms, 10s, 1h30m: {why}"))
}

fn guarantee(text: &str) -> std::result::Result<Guarantee, String> {
    match text {
        "exactly-once" => Ok(Guarantee::ExactlyOnce),
        "at-least-once" => Ok(Guarantee::AtLeastOnce),
        _ => Err("expected exactly-once or at-least-once".to_owned()),
    }
}

fn size(text: &str) -> std::result::Result<u64, String> {
    let size = text.parse::<bytesize::ByteSize>();
    size.map(|size| size.as_u64())
        .map_err(|_| "expected a size such as 512MiB or 4GiB".to_owned())
}

fn address(text: &str) -> std::result::Result<String, String> {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("expected HOST:PORT, such as 127.0.0.1:9100".to_owned()),
    }
}

fn start(text: &str) -> std::result::Result<Start, String> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    let time = text.strip_prefix("timestamp:").and_then(|time| {
        let millis = time.parse::<i64>().ok();
        millis
            .or_else(|| rfc3339::parse(time))
            .map(EventTime::from_millis)
    });
    time.map(Start::Timestamp).ok_or_else(|| {
        "expected earliest, latest, or timestamp:T with milliseconds or an RFC 3339 time".to_owned()
    })
}

fn dead_limit(text: &str) -> std::result::Result<DeadLimit, String> {
    let broken = || "expected a number, a percentage such as 5%, or off".to_owned();
    if text == "off" {
        return Ok(DeadLimit::Off);
    }
    match text.strip_suffix('%') {
        None => text.parse().map(DeadLimit::Count).map_err(|_| broken()),
        Some(percent) => match percent.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(DeadLimit::Percent(percent)),
            _ => Err(broken()),
        },
    }
}

impl RunArguments {
    /// What the run guarantees, in words.
    pub(super) fn guarantee_line(&self) -> String {
        if self.state_dir.is_some() {
            let interval = humantime::format_duration(self.checkpoint_interval);
            let guarantee = match self.guarantee {
                Some(Guarantee::AtLeastOnce) => "at-least-once",
                _ => "exactly-once",
            };
            return format!("guarantee: {guarantee} (checkpoint every {interval})");
        }
        match self.start {
            Start::Latest => "guarantee: none: a restart begins at the latest records".to_owned(),
            Start::Earliest => {
                "guarantee: at-least-once: a restart reads again from earliest and repeats results"
                    .to_owned()
            }
            Start::Timestamp(time) => format!(
                "guarantee: at-least-once: a restart reads again from {time} and repeats results"
            ),
        }
    }

    pub(super) fn log_level(&self) -> &str {
        match (&self.log_level, self.quiet, self.verbose) {
            (Some(level), ..) => level,
            (None, true, _) => "error",
            (None, false, 0) => "warn",
            (None, false, 1) => "info",
            (None, false, _) => "debug",
        }
    }

    fn limits(&self, settings: Settings) -> Settings {
        let settings = settings
            .broker_timeout(self.broker_timeout)
            .create_topics(self.create_topics);
        match self.memory {
            Some(memory) => settings.memory(memory),
            None => settings,
        }
    }

    fn checkpoints(&self, mut settings: Settings) -> Settings {
        settings = settings.checkpoint_interval(self.checkpoint_interval);
        if let Some(id) = &self.job_id {
            settings = settings.job_id(id);
        }
        if let Some(dir) = &self.state_dir {
            settings = settings.state_dir(dir);
        }
        settings = settings.rebuild(self.rebuild);
        if let Some(dir) = &self.from_savepoint {
            settings = settings.from_savepoint(dir);
        }
        for name in &self.allow_empty {
            settings = settings.allow_empty(name);
        }
        settings = settings.catch_up(self.catch_up).instance(match () {
            () if self.take_over => Instance::TakesOver,
            () if self.standby => Instance::StandsBy,
            () => Instance::Yields,
        });
        match self.guarantee {
            Some(guarantee) => settings.guarantee(guarantee),
            None => settings,
        }
    }

    /// # Errors
    /// Names the flag that cannot be had, or that is given twice.
    pub(super) fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::new()
            .bounded(self.bounded)
            .start(self.start)
            .idle_timeout(self.idle_timeout.0)
            .max_ahead(self.max_ahead.0)
            .max_dead(self.max_dead.unwrap_or_default())
            .overwrite(self.overwrite);
        once("--source", &self.source)?;
        once("--sink", &self.sink)?;
        for (port, uri) in &self.source {
            settings = settings.source_uri(port, uri);
        }
        for (port, uri) in &self.sink {
            settings = settings.sink_uri(port, uri);
        }
        for (key, value) in &self.set {
            settings = settings.set(key, value);
        }
        for one in &self.kafka_properties {
            let name = one.key.as_deref().unwrap_or_default();
            let about = format!("{}: property `{name}`", one.at);
            settings = property(settings, &about, None, name, &one.value)?;
        }
        for (key, value) in &self.property {
            let (port, name) = key
                .split_once(':')
                .map_or((None, &**key), |(p, k)| (Some(p), k));
            let about = format!("property `{key}`");
            settings = property(settings, &about, port, name, value)?;
        }
        settings = self.checkpoints(self.limits(settings));
        if let Some(workers) = self.workers {
            settings = settings.workers(workers);
        }
        if let Some(dir) = &self.output_dir {
            settings = settings.output_dir(dir);
        }
        if let Some(servers) = &self.bootstrap {
            settings = settings.bootstrap(servers);
        }
        Ok(settings)
    }
}

/// Adds a property, and keeps its value from every eye if it is a secret.
fn property(
    settings: Settings,
    about: &str,
    port: Option<&str>,
    name: &str,
    value: &str,
) -> Result<Settings> {
    let (value, substituted) = secret::substitute(about, value)?;
    if substituted || secret::is_secret(name) {
        secret::keep(&value);
        return Ok(settings.secret_property(port, name, &value));
    }
    Ok(settings.property(port, name, &value))
}

fn once(flag: &str, pairs: &[(String, String)]) -> Result {
    for (nth, (name, _)) in pairs.iter().enumerate() {
        if pairs[..nth].iter().any(|(before, _)| before == name) {
            return Err(Error::usage(format!(
                "{flag}: port `{name}` is bound twice"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn limits_starts_and_durations_are_read() {
        assert_eq!(dead_limit("5%"), Ok(DeadLimit::Percent(5.0)));
        assert_eq!(dead_limit("17"), Ok(DeadLimit::Count(17)));
        assert!(dead_limit("101%").is_err() && dead_limit("some").is_err());
        let time = Start::Timestamp(EventTime::from_millis(1_000));
        assert_eq!(start("timestamp:1970-01-01T00:00:01Z"), Ok(time));
        assert_eq!(start("timestamp:1000"), Ok(time));
        assert!(start("tomorrow").is_err());
        assert!(optional_duration("off").is_ok_and(|off| off.0.is_none()));
    }
}
