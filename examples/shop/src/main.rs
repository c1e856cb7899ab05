//! Starts the shop, sends it orders, and breaks it to see whether its books still balance.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shop::commands::run(clap::Parser::parse()).await
}
