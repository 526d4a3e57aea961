//! `anabranch`: the demonstration, and later the tools that work on any job's leavings.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(feature = "dev-broker")]
#[path = "anabranch/broker.rs"]
mod broker;
#[path = "../../dataflows/demo/mod.rs"]
mod demo;

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
    Demo(demo::Arguments),
    /// A Kafka for development: in memory, on the loopback, nothing to install
    #[cfg(feature = "dev-broker")]
    Broker(broker::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        #[cfg(feature = "dev-broker")]
        Command::Broker(arguments) => broker::run(&arguments),
    }
}
