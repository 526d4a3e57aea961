//! `anabranch`: the demonstration, and the tools that work on any job's leavings.

use std::process::ExitCode;

use anabranch::cli::{self, digest};
use clap::{CommandFactory, Parser, Subcommand};

#[cfg(feature = "dev-broker")]
#[path = "anabranch/broker.rs"]
mod broker;
#[path = "../../dataflows/demo/mod.rs"]
mod demo;

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stream processing on timely dataflow: the same log gives the same answer.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, term_width = 100)]
#[command(after_help = "Example:\n  anabranch demo --workers 2 --rate 30000")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the job `user_activity` on made-up behaviour of 1,000 users, and show what comes out
    #[command(after_help = "Example:\n  anabranch demo --workers 2 --rate 30000")]
    Demo(demo::Arguments),
    /// Say one number for the records of a file, a folder or a topic, whatever their order
    ///
    /// The SHA-256 of the records, each as canonical JSON (members sorted by name, no white space,
    /// numbers by value with every digit, integers whole) and a newline, sorted by their bytes; and
    /// how many there are. So it is the same for the same results, from one file, packed, in parts,
    /// or in a topic, of which only what is committed is read. What is no JSON counts as its bytes.
    #[command(after_help = "Examples:\n  anabranch digest out/stats.jsonl\n  \
                      anabranch digest kafka:bid-stats --bootstrap 127.0.0.1:9092 -o json")]
    Digest(digest::Arguments),
    /// A Kafka for development: in memory, on the loopback, nothing to install
    #[cfg(feature = "dev-broker")]
    Broker(broker::Arguments),
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Err(error) => cli::refuse(&error, &Arguments::command()),
        Ok(Arguments { command }) => match command {
            Command::Demo(arguments) => demo::run(&arguments),
            Command::Digest(arguments) => digest::run(&arguments),
            #[cfg(feature = "dev-broker")]
            Command::Broker(arguments) => broker::run(&arguments),
        },
    }
}
