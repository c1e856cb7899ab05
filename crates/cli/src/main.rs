//! The `posthouse` binary: the server, and the command line that operates one.
//!
//! Exit codes are in [`failure::Exit`].

mod args;
mod client;
mod commands;
mod failure;
mod output;
mod values;

use std::process::ExitCode;

use clap::Parser;

/// Gives memory back that a burst needed, and does not make threads wait for each other as the C library's does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run(args::Cli::parse())
}
