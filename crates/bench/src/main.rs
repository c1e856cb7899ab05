//! Drives what Posthouse is compared with, in the shape in which `posthouse bench` drives Posthouse: the peers' own Rust clients, an
//! AMQP load generator, a bare gRPC echo, and the log without a broker above it. `cargo xtask bench` runs it; the shipped binary carries none of it.
//!
//! Each command prints one object in JSON.
#![allow(clippy::print_stdout, reason = "its output is its result")]

mod amqp;
mod appenders;
mod echo;
mod jetstream;
mod measure;
mod redis_streams;
mod sdk;

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
    /// Publish persistent messages to a durable queue of an AMQP 0-9-1 server, or through a fanout exchange, with a window of confirms.
    AmqpPublish(amqp::Publish),
    /// Take and acknowledge messages of a durable queue of an AMQP 0-9-1 server.
    AmqpConsume(amqp::Consume),
    /// Send transient messages from one AMQP 0-9-1 connection to another, without acknowledgements.
    AmqpThrough(amqp::Through),
    /// Ask over AMQP 0-9-1, with the direct reply-to.
    AmqpRequest(amqp::Request),
    /// Leave messages in a durable queue of an AMQP 0-9-1 server, for its memory to be looked at.
    AmqpFill(amqp::Fill),
    /// Send the same bytes as those through a relay that looks at none.
    AmqpRelay(amqp::Relay),
    /// Take and acknowledge messages by the SDK, or by a loop written by hand on the transport's client.
    SdkConsume(sdk::Consume),
    /// Append to the log without a broker above it, from many appenders that each wait for the disk.
    Appenders(appenders::Appenders),
}

fn main() -> anyhow::Result<()> {
    let report = match Cli::parse().command {
        Command::JetstreamPublish(publish) => jetstream::publish(publish)?,
        Command::JetstreamConsume(consume) => jetstream::consume(consume)?,
        Command::RedisPublish(publish) => redis_streams::publish(publish)?,
        Command::GrpcEcho(echo) => echo::run(echo)?,
        Command::AmqpPublish(publish) => amqp::publish(publish)?,
        Command::AmqpConsume(consume) => amqp::consume(consume)?,
        Command::AmqpThrough(through) => amqp::through(through)?,
        Command::AmqpRequest(request) => amqp::request(request)?,
        Command::AmqpFill(fill) => amqp::fill(fill)?,
        Command::AmqpRelay(relay) => amqp::relay(relay)?,
        Command::SdkConsume(consume) => sdk::consume(consume)?,
        Command::Appenders(appenders) => appenders::run(appenders)?,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
