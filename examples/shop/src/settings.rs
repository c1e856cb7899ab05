//! What every service is told when it is started.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sdk::transport::amqp::{Amqp, AmqpOptions};
use sdk::transport::posthouse::{Posthouse, PosthouseOptions};
use sdk::transport::{Transport, TransportError};

/// The pause between attempts to connect for the first time.
const CONNECT_AGAIN: Duration = Duration::from_millis(500);
/// The longest pause between attempts to connect again.
const RECONNECT_CAP: Duration = Duration::from_secs(2);

/// What carries the services' messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// Posthouse, over gRPC.
    #[default]
    Posthouse,
    /// AMQP 0-9-1: Posthouse or RabbitMQ.
    Amqp,
}

impl Carrier {
    /// As it is written on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Posthouse => "posthouse",
            Self::Amqp => "amqp",
        }
    }
}

/// What every service is told.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// What carries its messages.
    #[arg(long, value_enum, default_value_t)]
    pub transport: Carrier,
    /// The broker: posthouse://HOST:PORT of its gRPC API, or amqp://USER:PASSWORD@HOST:PORT/VHOST.
    #[arg(long, value_name = "URL")]
    pub broker: String,
    /// Its own database: sqlite:FILE?mode=rwc, or postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL")]
    pub database: String,
    /// Where its HTTP side listens: /livez, /readyz, and what the service offers.
    #[arg(long, value_name = "HOST:PORT")]
    pub http: SocketAddr,
    /// Where traces go: http://HOST:PORT of an OTLP collector that speaks gRPC. None are sent without it.
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Stop when standard input ends, so that a service does not outlive whoever started it.
    #[arg(long, hide = true)]
    pub leashed: bool,
}

/// Connects to the broker, and waits for it if it is away.
///
/// # Errors
/// If the address makes no sense or the broker refuses: what waiting does not heal.
pub async fn connect(carrier: Carrier, url: &str) -> anyhow::Result<Arc<dyn Transport>> {
    loop {
        let connected: Result<Arc<dyn Transport>, TransportError> = match carrier {
            Carrier::Posthouse => {
                Posthouse::connect(url, PosthouseOptions::default()).await.map(|transport| Arc::new(transport) as _)
            }
            Carrier::Amqp => {
                let options = AmqpOptions { reconnect_cap: RECONNECT_CAP, ..AmqpOptions::default() };
                Amqp::connect(url, options).await.map(|transport| Arc::new(transport) as _)
            }
        };
        match connected {
            Err(error @ TransportError::Unavailable { .. }) => {
                tracing::warn!(%error, "no broker yet");
                tokio::time::sleep(CONNECT_AGAIN).await;
            }
            connected => return Ok(connected?),
        }
    }
}

/// The URL of a SQLite file, which is made if it is missing.
#[must_use]
pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite:{}?mode=rwc", file.display())
}

/// Reads a time span such as `90s` or `5m`.
///
/// # Errors
/// A text for people.
pub fn read_span(given: &str) -> Result<Duration, String> {
    let wrong = || format!("{given:?} is not a time span, such as 30s, 5m or 1h30m");
    let span: jiff::Span = given.parse().map_err(|_| wrong())?;
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(read_span("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(read_span("1m30s"), Ok(Duration::from_secs(90)));
        assert!(read_span("soon").is_err());
        assert!(read_span("-5s").is_err());
    }
}
