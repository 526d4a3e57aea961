//! The one way to stderr: lines for people or JSON for programs, and secrets in neither.
//!
//! Standard output carries data only; whatever a run has to say comes through here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::secret::redacted;

/// How a line on stderr looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    // Without help texts: with them, clap stretches every help.
    Pretty,
    Json,
}

/// The process has one stderr, so it has one format.
static JSON: AtomicBool = AtomicBool::new(false);

pub(super) fn set_format(format: Format) {
    JSON.store(format == Format::Json, Ordering::Relaxed);
}

/// The format that the arguments ask for, as far as that can be told before they are read: what is
/// wrong with them is said in it.
pub(super) fn format_of(arguments: &[OsString]) -> Format {
    let asked = arguments
        .windows(2)
        .any(|two| two == ["--log-format", "json"])
        || arguments.iter().any(|one| one == "--log-format=json");
    let variable = std::env::var_os("ANABRANCH_LOG_FORMAT");
    if asked || variable.is_some_and(|format| format == "json") {
        Format::Json
    } else {
        Format::Pretty
    }
}

pub(super) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Whether a line can be rewritten, and is read by somebody who sees colours.
pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal() && !is_json()
}

/// One line to stderr.
pub fn say(line: &str) {
    write_line(&Line::new("info", line));
}

/// What ended the run, or kept it from beginning.
pub(super) fn fail(why: &str, exit: u8) {
    let line = Line::new("error", why);
    write_line(&Line {
        exit: Some(exit),
        ..line
    });
}

/// Puts `text` in the place of the line that is there; only on a terminal.
pub(super) fn rewrite(text: &str) {
    let _ = write!(io::stderr().lock(), "\r\x1b[K{}", redacted(text));
}

/// A line as JSON has it.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<u8>,
    #[serde(flatten)]
    fields: BTreeMap<&'static str, String>,
}

impl<'a> Line<'a> {
    fn new(level: &'a str, message: &'a str) -> Self {
        let mut timestamp = String::new();
        // A clock that cannot be read gives an empty time.
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        Line {
            timestamp,
            level,
            target: None,
            message,
            exit: None,
            fields: BTreeMap::new(),
        }
    }

    fn json(&self) -> String {
        sonic_rs::to_string(self).expect("texts and numbers can be written")
    }
}

fn write_line(line: &Line<'_>) {
    let text = match (is_json(), line.exit) {
        (true, _) => line.json(),
        (false, None) => line.message.to_owned(),
        (false, Some(_)) => format!("error: {}", line.message),
    };
    // Whoever closed stderr does not want to hear it.
    let _ = writeln!(io::stderr().lock(), "{}", redacted(&text));
}

/// Sends the log to stderr, as far as `filter` lets it.
pub(super) fn init_log(filter: EnvFilter) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Redacting)
        .with_ansi(is_terminal() && wants_colours())
        .with_target(false);
    // A program that embeds this may have its own.
    let _ = if is_json() {
        subscriber.event_format(JsonLines).try_init()
    } else {
        subscriber.try_init()
    };
}

/// <https://no-color.org>: set, and not empty.
fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}

/// Stderr, for the log: it is given whole events.
struct Redacting;

impl Write for Redacting {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        io::stderr().lock().write_all(redacted(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let line = Line {
            target: Some(event.metadata().target()),
            fields: fields.others,
            ..Line::new(&level, &fields.message)
        };
        writeln!(writer, "{}", line.json())
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<&'static str, String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => drop(self.others.insert(name, text)),
        }
    }
}
