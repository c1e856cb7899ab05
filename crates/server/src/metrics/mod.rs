//! `/metrics`: what the broker's own counters say, read at each scrape. Nothing is counted twice for it.
//!
//! Names are OpenTelemetry's where its messaging conventions have one (`messaging.client.sent.messages` is written
//! `messaging_client_sent_messages_total`), and begin with `posthouse_` otherwise.

mod snapshot;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use broker::Broker;
use net::ConnectionCounts;
use prometheus_client::registry::Registry;
use types::Clock;

use snapshot::Snapshot;

/// What the page is made from. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    broker: Broker,
    clock: Arc<dyn Clock>,
    started: types::Monotonic,
    listeners: Arc<Vec<(&'static str, Arc<ConnectionCounts>)>>,
    max_entities: usize,
}

impl Metrics {
    /// Metrics of this broker and these listeners. Queues and topics beyond `max_entities` are shown as one sum each.
    #[must_use]
    pub fn new(
        broker: Broker,
        clock: Arc<dyn Clock>,
        listeners: Vec<(&'static str, Arc<ConnectionCounts>)>,
        max_entities: usize,
    ) -> Self {
        let started = clock.now().mono;
        Self { broker, clock, started, listeners: Arc::new(listeners), max_entities }
    }

    /// The page in OpenMetrics text, which Prometheus reads.
    #[must_use]
    pub fn page(&self) -> String {
        let now = self.clock.now();
        let snapshot = Snapshot {
            now: now.wall,
            uptime: now.mono.since(self.started),
            ready: self.broker.not_ready().is_none(),
            broker: self.broker.metrics(),
            engine: self.broker.engine_state(),
            backups: self.broker.backup_history(),
            queues: self.broker.all_queues(),
            topics: self.broker.all_topics(),
            listeners: self.listeners.iter().map(|(name, counts)| (*name, Arc::clone(counts))).collect(),
            max_entities: self.max_entities,
        };
        render(snapshot)
    }
}

fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut page = String::new();
    match prometheus_client::encoding::text::encode(&mut page, &registry) {
        Ok(()) => page,
        // A string takes whatever is written to it, so this says that the encoder itself refused a value.
        Err(error) => format!("# the metrics could not be written: {error}\n"),
    }
}
