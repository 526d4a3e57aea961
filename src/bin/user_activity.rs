//! The job `user_activity` as a program.

use std::process::ExitCode;

#[path = "../../dataflows/user_activity.rs"]
mod user_activity;

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    anabranch::cli::run(user_activity::job())
}
