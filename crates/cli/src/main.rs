//! The `posthouse` binary: the server, and the command line that operates one.
//!
//! Exit codes are in [`failure::Exit`].

mod args;
mod bench;
mod client;
mod commands;
mod failure;
mod output;
mod values;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::run(args::Cli::parse())
}
