//! What all connections share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use broker::Broker;
use types::Clock;

use crate::limits::{CONSUMER_TIMEOUT, HANDSHAKE_TIMEOUT, HEARTBEAT_S};
use crate::registry::Registry;

/// How the AMQP listeners behave.
#[derive(Clone)]
pub struct AmqpOptions {
    /// For delays and times to live, which messages give from now on.
    pub clock: Arc<dyn Clock>,
    /// Where the connections enter themselves, for those who look after them.
    pub registry: Registry,
    /// The heartbeat that is offered to clients, in seconds; 0 offers none.
    pub heartbeat_s: u16,
    /// How long a client may take from its connect to its `connection.open`.
    pub handshake_timeout: Duration,
    /// How long a delivery may stay without an acknowledgement, unless its queue says otherwise.
    pub consumer_timeout: Duration,
}

impl AmqpOptions {
    /// The defaults, with this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            registry: Registry::default(),
            heartbeat_s: HEARTBEAT_S,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            consumer_timeout: CONSUMER_TIMEOUT,
        }
    }
}

/// What the connections share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) broker: Broker,
    pub(crate) options: AmqpOptions,
    /// Number of the next connection.
    pub(crate) next: Arc<AtomicU64>,
}
