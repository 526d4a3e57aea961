//! `anabranch broker`: a Kafka for development, until a signal ends it.

use std::io::{self, Write};
use std::process::ExitCode;

use anabranch::broker::DevBroker;
use anabranch::{Error, Result, cli};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What `broker` can be told.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    anabranch broker --listen 127.0.0.1:9092 --topic events:4 --topic user-activity:4")]
pub(crate) struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: String,
    /// A topic that is there from the start; may be given again
    #[arg(long, value_name = "NAME:PARTITIONS", value_parser = topic)]
    topic: Vec<(String, usize)>,
    /// Memory for records, as 512MiB: the oldest go first when it is full
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = size)]
    memory: usize,
    /// Create a topic that a client asks for
    #[arg(long)]
    auto_create: bool,
    /// Listen beyond the loopback; there is no security: whoever reaches it may do all
    #[arg(long)]
    allow_remote: bool,
}

fn topic(text: &str) -> Result<(String, usize), String> {
    let (name, partitions) = text.rsplit_once(':').ok_or("expected NAME:PARTITIONS")?;
    match partitions.parse() {
        Ok(partitions) if partitions > 0 => Ok((name.to_owned(), partitions)),
        _ => Err(format!("`{partitions}` is no number of partitions")),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let unit = match &text[end..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("`{other}` is none of B, KiB, MiB, GiB")),
    };
    let number = text[..end].parse::<usize>().ok();
    let bytes = number.and_then(|number| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("`{text}` is no size, as 512MiB"))
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::say(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(arguments: &Arguments) -> Result {
    // Before the broker is there: a signal must not find it without.
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals =
        signals.map_err(|error| Error::operating("signals cannot be caught").because(error))?;
    let broker = DevBroker::builder()
        .listen(&arguments.listen)
        .allow_remote(arguments.allow_remote)
        .memory(arguments.memory)
        .auto_create(arguments.auto_create);
    let topics = arguments.topic.iter();
    let broker = topics
        .fold(broker, |broker, (name, partitions)| {
            broker.topic(name, *partitions)
        })
        .start()?;
    // Whoever closed stdout has no use for the address.
    let _ = writeln!(io::stdout(), "{}", broker.bootstrap());
    cli::say(&format!(
        "Kafka for development on {}: everything is kept in memory (records: at most {} bytes) and \
         is gone at the end; Ctrl-C ends it",
        broker.bootstrap(),
        arguments.memory
    ));
    signals.forever().next();
    broker.stop();
    Ok(())
}
