//! Drives what Posthouse is compared with, in the shape in which `posthouse bench` drives Posthouse: the peers' own Rust clients, a bare
//! gRPC echo, and the log without a broker above it. `cargo xtask bench` runs it; the shipped binary carries none of it.
//!
//! Each command prints one object in JSON.
#![allow(clippy::print_stdout, reason = "its output is its result")]

mod appenders;
mod echo;
mod jetstream;
mod measure;
mod redis_streams;

use clap::{Parser, Subcommand};

#[derive(Parser, Debug)]
#[command(name = "bench", about = "Measures peers in the shape of `posthouse bench`")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Publish to a JetStream stream by the asynchronous publish of its client, with a window of acknowledgements.
    JetstreamPublish(jetstream::Publish),
    /// Take and acknowledge messages of a JetStream stream by a pull consumer.
    JetstreamConsume(jetstream::Consume),
    /// Add to a Redis stream, pipelined.
    RedisPublish(redis_streams::Publish),
    /// Ask a bare gRPC server on loopback, one request after the other.
    GrpcEcho(echo::Echo),
    /// Append to the log without a broker above it, from many appenders that each wait for the disk.
    Appenders(appenders::Appenders),
}

fn main() -> anyhow::Result<()> {
    let report = match Cli::parse().command {
        Command::JetstreamPublish(publish) => jetstream::publish(publish)?,
        Command::JetstreamConsume(consume) => jetstream::consume(consume)?,
        Command::RedisPublish(publish) => redis_streams::publish(publish)?,
        Command::GrpcEcho(echo) => echo::run(echo)?,
        Command::Appenders(appenders) => appenders::run(appenders)?,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
