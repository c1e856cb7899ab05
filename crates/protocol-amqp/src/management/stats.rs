//! Figures of queues, and sums of them.

use broker::views::{QueueCounters, QueueRates};
use serde_json::{Map, Value as Json, json};

use crate::entities::queue::{Found, records};

/// What a queue holds and has done, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) ready: u64,
    pub(super) unacknowledged: u64,
    pub(super) ready_bytes: u64,
    pub(super) unacknowledged_bytes: u64,
    pub(super) counters: QueueCounters,
    pub(super) rates: QueueRates,
}

impl Totals {
    /// Those of one queue. What waits for a time is not ready to RabbitMQ's tools either, but they know no other place for it.
    pub(super) fn of(found: &Found) -> Self {
        match found {
            Found::Queue(queue) => Self {
                ready: queue.depth.ready + queue.depth.delayed + queue.depth.parked,
                unacknowledged: queue.depth.in_flight,
                ready_bytes: queue.depth.waiting_bytes,
                unacknowledged_bytes: queue.depth.in_flight_bytes,
                counters: queue.counters,
                rates: queue.rates,
            },
            Found::Stream(topic) => Self {
                ready: records(topic),
                ready_bytes: topic.partitions.iter().map(|partition| partition.bytes).sum(),
                counters: QueueCounters { enqueued: topic.published, ..QueueCounters::default() },
                ..Self::default()
            },
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.ready += other.ready;
        self.unacknowledged += other.unacknowledged;
        self.ready_bytes += other.ready_bytes;
        self.unacknowledged_bytes += other.unacknowledged_bytes;
        self.counters.enqueued += other.counters.enqueued;
        self.counters.delivered += other.counters.delivered;
        self.counters.acked += other.counters.acked;
        self.counters.failed += other.counters.failed;
        self.rates.enqueued += other.rates.enqueued;
        self.rates.delivered += other.rates.delivered;
        self.rates.acked += other.rates.acked;
        self.rates.failed += other.rates.failed;
    }

    /// How many messages there are. How that changes is what comes in less what is acknowledged.
    pub(super) fn depth(&self) -> Map<String, Json> {
        let change = json!({"rate": self.rates.enqueued - self.rates.acked});
        let fields = [
            ("messages", json!(self.ready + self.unacknowledged)),
            ("messages_details", change.clone()),
            ("messages_ready", json!(self.ready)),
            ("messages_ready_details", change),
            ("messages_unacknowledged", json!(self.unacknowledged)),
            ("messages_unacknowledged_details", json!({"rate": self.rates.delivered - self.rates.acked})),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What has been done since the start, and a second over the last few.
    pub(super) fn message_stats(&self) -> Json {
        let (counters, rates) = (&self.counters, &self.rates);
        json!({
            "publish": counters.enqueued,
            "publish_details": {"rate": rates.enqueued},
            "deliver_get": counters.delivered,
            "deliver_get_details": {"rate": rates.delivered},
            "deliver": counters.delivered,
            "deliver_details": {"rate": rates.delivered},
            "ack": counters.acked,
            "ack_details": {"rate": rates.acked},
            "redeliver": counters.failed,
            "redeliver_details": {"rate": rates.failed},
        })
    }
}
