//! An AMQP 0-9-1 load generator: frames made beforehand, on one thread, for any server by its address, so that the client is not what is
//! measured.

mod confirms;
mod consume;
mod publish;
mod relay;
mod request;
mod through;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::wire::Wire;
use crate::measure::seconds;

pub(crate) use self::consume::{Consume, run as consume};
pub(crate) use self::publish::{Fill, Publish, fill, run as publish};
pub(crate) use self::relay::{Relay, run as relay};
pub(crate) use self::request::{Request, run as request};
pub(crate) use self::through::{Through, run as through};

/// The durable queue of a measurement.
const QUEUE: &str = "bench";
/// What one write carries at most, so that the server's answers are read in between.
const WRITE_MESSAGES: usize = 100;

/// Kind of queue, as the argument `x-queue-type` says it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum QueueType {
    Classic,
    Quorum,
}

/// What every measurement takes.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Server {
    /// The server.
    #[arg(long)]
    address: SocketAddr,
    /// The server's process.
    #[arg(long)]
    pid: Option<u32>,
    /// Kind of the durable queues.
    #[arg(long, value_enum, default_value = "classic")]
    queue_type: QueueType,
}

/// How long, and how much at a time.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Size of a message, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages in flight.
    #[arg(long, default_value_t = 1000)]
    window: usize,
    /// Measure for so many seconds.
    #[arg(long, value_parser = seconds, default_value = "5")]
    duration: Duration,
}

impl Server {
    /// A fresh durable queue.
    async fn declare(&self, wire: &mut Wire, queue: &str) -> anyhow::Result<()> {
        delete(wire, queue).await?;
        let kind = match self.queue_type {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
        };
        let declare = |to: &mut Vec<u8>| {
            to.extend_from_slice(&[0, 0]);
            wire::short(to, queue.as_bytes());
            to.push(0b10);
            wire::long(to, &wire::field("x-queue-type", kind));
        };
        wire.call(wire::QUEUE_DECLARE, declare).await
    }
}

/// Deletes a queue, if it is there.
async fn delete(wire: &mut Wire, queue: &str) -> anyhow::Result<()> {
    let arguments = |to: &mut Vec<u8>| {
        to.extend_from_slice(&[0, 0]);
        wire::short(to, queue.as_bytes());
        to.push(0);
    };
    wire.call(wire::QUEUE_DELETE, arguments).await
}

/// Consumes from a queue.
async fn start_consumer(wire: &mut Wire, queue: &str, no_ack: bool) -> anyhow::Result<()> {
    let arguments = |to: &mut Vec<u8>| {
        to.extend_from_slice(&[0, 0]);
        wire::short(to, queue.as_bytes());
        wire::short(to, b"");
        to.push(u8::from(no_ack) << 1);
        wire::long(to, &[]);
    };
    wire.call(wire::CONSUME, arguments).await
}

/// A queue of its connection, in memory, with a name of the client's.
async fn declare_exclusive(wire: &mut Wire, queue: &str) -> anyhow::Result<()> {
    let arguments = |to: &mut Vec<u8>| {
        to.extend_from_slice(&[0, 0]);
        wire::short(to, queue.as_bytes());
        to.push(0b0100);
        wire::long(to, &[]);
    };
    wire.call(wire::QUEUE_DECLARE, arguments).await
}

/// The same message many times, of which the first so many are written at once.
fn copies(message: &[u8]) -> Vec<u8> {
    message.repeat(WRITE_MESSAGES)
}
