//! The flags that the benchmarks share.

use std::path::PathBuf;
use std::time::Duration;

use api::Durability;
use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::values::{size, span, word};

/// Smallest body: it begins with the time at which it was sent, as 16 hexadecimal digits.
pub(super) const MIN_SIZE_BYTES: u64 = 16;
/// Largest body.
const MAX_SIZE_BYTES: u64 = 64 * 1024 * 1024;
/// Requests in flight while queues are filled.
const FILL_REQUESTS: u32 = 4;
/// Measured for so long if neither a duration nor a count is given.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Not counted before the measurement, if a duration is measured.
const DEFAULT_WARMUP: Duration = Duration::from_secs(1);

/// What the clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Requests to the HTTP API. A message that is alone in its request is the request's body, several are a JSON batch.
    Http,
    /// Frames of the WebSocket protocol.
    Ws,
    /// Streams of the gRPC API; --grpc says where it is. Topics and queues are made over HTTP.
    Grpc,
}

impl Protocol {
    /// As it is written on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Ws => "ws",
            Self::Grpc => "grpc",
        }
    }

    /// Messages in flight on a connection, if nothing is said. Over HTTP/1.1 each request in flight has a TCP connection of its own.
    const fn default_window(self) -> u32 {
        match self {
            Self::Http => 16,
            Self::Ws => 100,
            Self::Grpc => 1000,
        }
    }
}

/// What the clients do.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// What the clients speak.
    #[arg(long, value_name = "PROTOCOL", default_value = "http")]
    pub(super) protocol: Protocol,
    /// Where the server's gRPC API listens.
    #[arg(long, value_name = "HOST:PORT", value_parser = grpc_address, default_value = "127.0.0.1:7071")]
    pub(super) grpc: String,
    /// Over gRPC, each publish is a call of its own instead of a frame of a stream.
    #[arg(long)]
    pub(super) unary: bool,
    /// Size of a message's body.
    #[arg(long, value_name = "SIZE", value_parser = body_size, default_value = "1KiB")]
    pub(super) size: u64,
    /// Connections, each with a window of its own.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) concurrency: u32,
    /// Messages in flight on a connection: sent, and neither confirmed nor refused. 16 over HTTP, 100 over WebSocket and 1000 over gRPC
    /// unless given.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) window: Option<u32>,
    /// Messages of a request or frame.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) batch: u32,
    /// A request or frame holds what waits, from 1 message up to --batch, instead of always so many.
    #[arg(long)]
    pub(super) coalesce: bool,
    /// Measure for so long; 10s if there is no --count either.
    #[arg(long, value_name = "TIME", value_parser = span, conflicts_with = "count")]
    duration: Option<Duration>,
    /// Measure so many messages.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Run for so long before measuring; 1s, or not at all with --count, unless given.
    #[arg(long, value_name = "TIME", value_parser = span)]
    warmup: Option<Duration>,
    /// Open loop: so many messages a second in all fall due by the clock, whether or not the broker keeps up, and latency counts
    /// from when a message was due. Without it each message is sent when the window has room, and latency counts from its sending.
    #[arg(long, value_name = "MESSAGES", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Durability of the topics and queues that are made: fsync, interval, os or memory.
    #[arg(long, value_name = "DURABILITY", value_parser = word::<Durability>, default_value = "fsync")]
    pub(super) durability: Durability,
    /// Measure the disk of this directory too, as `bench disk` does, half before and half after, and print the ratio.
    #[arg(long, value_name = "DIR")]
    pub(super) with_disk: Option<PathBuf>,
    /// Process id of the broker, if it is on this machine: its processor time a million messages is printed.
    #[arg(long, value_name = "PID")]
    pub(super) broker_pid: Option<u32>,
}

impl Load {
    /// Messages in flight on a connection. At least one whole request or frame, which could not be sent otherwise.
    pub(super) fn window(&self) -> u32 {
        self.window.unwrap_or_else(|| self.protocol.default_window().max(self.batch))
    }

    /// # Errors
    /// If flags contradict each other.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.window() < self.batch && !self.coalesce {
            let what = format!("a request of {} messages does not fit a window of {}", self.batch, self.window());
            return Err(Failure::usage(what).hint("raise --window, lower --batch, or give --coalesce"));
        }
        if self.unary && self.protocol != Protocol::Grpc {
            return Err(Failure::usage("--unary is about --protocol grpc"));
        }
        Ok(())
    }

    /// How long is measured; `None` if a count is.
    pub(super) fn duration(&self) -> Option<Duration> {
        match (self.duration, self.count) {
            (Some(duration), _) => Some(duration),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_DURATION),
        }
    }

    pub(super) fn warmup(&self) -> Duration {
        let default = if self.count.is_some() { Duration::ZERO } else { DEFAULT_WARMUP };
        self.warmup.unwrap_or(default)
    }

    /// A load that only publishes so many of the same messages, in requests of so many.
    pub(super) fn filling(&self, count: u64, batch: u32) -> Self {
        Self {
            concurrency: 1,
            window: Some(batch.saturating_mul(FILL_REQUESTS)),
            batch,
            coalesce: false,
            duration: None,
            count: Some(count),
            warmup: None,
            rate: None,
            ..self.clone()
        }
    }

    pub(super) fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }
}

/// `HOST:PORT`, also as the server's ready line shows it: `grpc://HOST:PORT`.
fn grpc_address(given: &str) -> Result<String, String> {
    let address = given.strip_prefix("grpc://").unwrap_or(given).trim_end_matches('/');
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(address.to_owned()),
        _ => Err("give HOST:PORT, such as 127.0.0.1:7071; the benchmark's gRPC client speaks no TLS".to_owned()),
    }
}

fn body_size(given: &str) -> Result<u64, String> {
    let bytes = size(given)?;
    match bytes {
        MIN_SIZE_BYTES..=MAX_SIZE_BYTES => Ok(bytes),
        _ => Err(format!("a body has {MIN_SIZE_BYTES} B (its time of sending) to {} MiB", MAX_SIZE_BYTES >> 20)),
    }
}

fn rate(given: &str) -> Result<f64, String> {
    match given.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a rate is a number of messages a second, above 0".to_owned()),
    }
}
