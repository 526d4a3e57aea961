//! `anabranch`: the demonstration, and the tools that work on any job's leavings.

use std::process::ExitCode;

use anabranch::cli::{self, checkpoint, digest};
use clap::{CommandFactory, Parser, Subcommand};

#[cfg(feature = "dev-broker")]
#[path = "anabranch/broker.rs"]
mod broker;
#[cfg(feature = "demo")]
#[path = "../../dataflows/demo/mod.rs"]
mod demo;

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stream processing on timely dataflow: the same log gives the same answer.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, term_width = 100)]
#[command(after_help = "Example:\n  anabranch demo --for 20s")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a job at work: a Kafka inside, made-up behaviour of 1,000 users, nothing to install
    ///
    /// The job `user_activity` runs in a process of its own; its results are read back from their
    /// topic. At the end the whole log is read and counted again in plain code, and compared with
    /// what the job wrote: a difference is exit 1. Without a terminal it writes a line a second. It
    /// ends by itself after 3,000,000 records, because the log is kept in memory for that check.
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    /// The demo's job, in a process of its own
    #[cfg(feature = "demo")]
    #[command(hide = true, name = demo::COMMAND)]
    DemoJob(demo::ChildArguments),
    /// Say one number for the records of a file, a folder or a topic, whatever their order
    ///
    /// The SHA-256 of the records, each as canonical JSON (members sorted by name, no white space,
    /// numbers by value with every digit, integers whole) and a newline, sorted by their bytes; and
    /// how many there are. So it is the same for the same results, from one file, packed, in parts,
    /// or in a topic, of which only what is committed is read. What is no JSON counts as its bytes.
    #[command(after_help = "Examples:\n  anabranch digest out/stats.jsonl\n  \
                      anabranch digest kafka:bid-stats --bootstrap 127.0.0.1:9092 -o json")]
    Digest(digest::Arguments),
    /// Look into a state directory: what it holds, and whether it is whole
    ///
    /// Nothing is changed, and a job may run there meanwhile. Exit 3: something is damaged or
    /// missing, and the message names it.
    #[command(arg_required_else_help = true)]
    #[command(after_help = "Examples:\n  anabranch checkpoint list state/bids\n  \
                      anabranch checkpoint show state/bids -o json\n  \
                      anabranch checkpoint verify state/bids")]
    Checkpoint(checkpoint::Arguments),
    /// A Kafka for development: in memory, on the loopback, nothing to install
    ///
    /// The address stands on stdout, for scripts. Topics can also be created by any Kafka client.
    #[cfg(feature = "dev-broker")]
    Broker(broker::Arguments),
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Err(error) => cli::refuse(&error, &Arguments::command()),
        Ok(Arguments { command }) => match command {
            #[cfg(feature = "demo")]
            Command::Demo(arguments) => demo::run(&arguments),
            #[cfg(feature = "demo")]
            Command::DemoJob(arguments) => demo::run_child(&arguments),
            Command::Digest(arguments) => digest::run(&arguments),
            Command::Checkpoint(arguments) => checkpoint::run(&arguments),
            #[cfg(feature = "dev-broker")]
            Command::Broker(arguments) => broker::run(&arguments),
        },
    }
}
