//! The job `bid_stats` as a program.

use std::process::ExitCode;

#[path = "../../dataflows/bid_stats.rs"]
mod bid_stats;

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    anabranch::cli::run(bid_stats::job())
}
