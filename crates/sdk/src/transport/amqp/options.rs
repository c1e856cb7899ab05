//! Settings and limits of the transport.

use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::backoff::{Backoff, Pace};
use crate::transport::TransportError;

/// Largest body: what Posthouse and RabbitMQ from version 4 on take unless their operators say otherwise.
pub(super) const MAX_BODY_BYTES: usize = 16 << 20;
/// How long a connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the goodbye to a broker may take.
pub(super) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest [`AmqpOptions::confirm_timeout`]: waiting queues outlive their messages by more than this, see the module `waits`.
pub(super) const MAX_CONFIRM_TIMEOUT: Duration = Duration::from_secs(240);
/// Most deliveries handed out at once.
pub(super) const MAX_BATCH: usize = 512;
/// Most messages that wait for a listener or an inbox that is slow; then the oldest are dropped.
pub(super) const MAX_HEARD: usize = 4096;
/// Most dead letters moved back by one call.
pub(super) const MAX_REDRIVE: u64 = 100_000;

/// Settings of [`Amqp`](super::Amqp).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpOptions {
    /// What the broker shows as this connection's name.
    pub connection_name: String,
    /// How long `connect`, and what else needs an answer, waits for a connection before it gives up.
    pub patience: Duration,
    /// How long a publish is tried before it is [`Unconfirmed`](crate::transport::PublishError::Unconfirmed); at most 4 minutes.
    pub confirm_timeout: Duration,
    /// Most publishes that wait for their confirmation at a time; further ones wait for room.
    pub max_pending: usize,
    /// Most bytes of publishes that wait for their confirmation at a time. A message that is larger goes alone.
    pub max_pending_bytes: usize,
    /// The wait before the second attempt to connect; it doubles from one to the next. Each wait is a random part of it (full jitter).
    pub reconnect_initial: Duration,
    /// No such wait is longer.
    pub reconnect_cap: Duration,
    /// A broker that is silent for longer than twice this is given up, whole seconds; the broker's own setting if that is shorter.
    pub heartbeat: Duration,
}

impl Default for AmqpOptions {
    /// 15 s of patience, confirms within 30 s, 4,096 pending publishes of 64 MiB, reconnects after 200 ms to 10 s, a heartbeat of 15 s.
    fn default() -> Self {
        Self {
            connection_name: "service".into(),
            patience: Duration::from_secs(15),
            confirm_timeout: Duration::from_secs(30),
            max_pending: 4096,
            max_pending_bytes: 64 << 20,
            reconnect_initial: Duration::from_millis(200),
            reconnect_cap: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
        }
    }
}

impl AmqpOptions {
    /// The waits between attempts to connect.
    pub(super) const fn pace(&self) -> Pace {
        Pace::new(Backoff { initial: self.reconnect_initial, cap: self.reconnect_cap })
    }

    /// # Errors
    /// [`TransportError::Invalid`], by name of the setting.
    pub(super) fn check(&self) -> Result<(), TransportError> {
        let invalid = |why: &str| Err(TransportError::Invalid(why.to_owned()));
        if self.confirm_timeout.is_zero() || self.confirm_timeout > MAX_CONFIRM_TIMEOUT {
            return invalid("confirm_timeout must be above zero and at most 4 minutes");
        }
        if self.max_pending == 0 || self.max_pending > tokio::sync::Semaphore::MAX_PERMITS {
            return invalid("max_pending must be at least 1");
        }
        if self.max_pending_bytes == 0 || u32::try_from(self.max_pending_bytes).is_err() {
            return invalid("max_pending_bytes must be at least 1 and below 4 GiB");
        }
        if self.heartbeat.as_secs() == 0 || u16::try_from(self.heartbeat.as_secs()).is_err() {
            return invalid("heartbeat must be at least 1 s and at most 65,535 s");
        }
        if self.reconnect_initial.is_zero() || self.reconnect_cap < self.reconnect_initial {
            return invalid("reconnect_initial must be above zero, and reconnect_cap not below it");
        }
        Ok(())
    }

    /// Reads the address, and adds what these settings say.
    ///
    /// # Errors
    /// [`TransportError::Invalid`] or [`TransportError::Unsupported`], without the credentials that it may hold.
    pub(super) fn uri(&self, address: &str) -> Result<AMQPUri, TransportError> {
        let mut uri: AMQPUri = address.parse().map_err(|why| {
            TransportError::Invalid(format!(
                "the address is none of the form amqp://user:password@host:port/vhost: {why}"
            ))
        })?;
        if uri.scheme == AMQPScheme::AMQPS {
            return Err(TransportError::Unsupported {
                transport: super::NAME,
                what: "TLS",
                instead: "use amqp:// within a trusted network, or through a TLS tunnel on this machine".into(),
            });
        }
        uri.query.heartbeat = Some(u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX));
        Ok(uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_their_cap_and_are_random_below() {
        let options = AmqpOptions {
            reconnect_initial: Duration::from_millis(100),
            reconnect_cap: Duration::from_millis(350),
            ..AmqpOptions::default()
        };
        let mut waits = options.pace();
        for most_ms in [100, 200, 350, 350] {
            assert!(waits.next() <= Duration::from_millis(most_ms));
        }
        waits.reset();
        assert!(waits.next() <= Duration::from_millis(100));
    }

    #[test]
    fn senseless_settings_are_refused_by_name() {
        assert_eq!(AmqpOptions::default().check(), Ok(()));
        let refused = |options: AmqpOptions| options.check().unwrap_err().to_string();
        let long = AmqpOptions { confirm_timeout: Duration::from_secs(241), ..AmqpOptions::default() };
        assert!(refused(long).contains("confirm_timeout"));
        assert!(refused(AmqpOptions { max_pending: 0, ..AmqpOptions::default() }).contains("max_pending"));
        assert!(refused(AmqpOptions { heartbeat: Duration::ZERO, ..AmqpOptions::default() }).contains("heartbeat"));
    }

    #[test]
    fn an_address_is_read_and_tls_is_refused() {
        let uri = AmqpOptions::default().uri("amqp://shop:secret@broker:5673/eu").unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("broker", 5673, "eu"));
        assert!(matches!(
            AmqpOptions::default().uri("amqps://broker"),
            Err(TransportError::Unsupported { what: "TLS", .. })
        ));
        let error = AmqpOptions::default().uri("http://shop:secret@broker").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
