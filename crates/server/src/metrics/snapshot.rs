//! One look at everything, and how it is written.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use broker::views::{QueueInfo, TopicInfo};
use broker::{BackupHistory, BrokerMetrics};
use log::EngineState;
use net::ConnectionCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use types::Timestamp;

use super::write::{Labels, Writer, number};

/// What a scrape sees.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) now: Timestamp,
    pub(super) uptime: Duration,
    pub(super) ready: bool,
    pub(super) broker: BrokerMetrics,
    pub(super) engine: EngineState,
    pub(super) backups: BackupHistory,
    pub(super) queues: Vec<(String, QueueInfo)>,
    pub(super) topics: Vec<(String, TopicInfo)>,
    pub(super) listeners: Vec<(&'static str, Arc<ConnectionCounts>)>,
    pub(super) max_entities: usize,
}

/// The labels of the sum of what is not shown one by one. No queue, topic or namespace has an empty name.
const REST: &str = "";

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.process(&mut writer)?;
        self.messages(&mut writer)?;
        self.engine(&mut writer)?;
        self.backups(&mut writer)?;
        self.listeners(&mut writer)?;
        self.queues(&mut writer)?;
        self.topics(&mut writer)
    }
}

/// One value without labels.
fn one<V>(value: V) -> [(Labels<'static>, V); 1] {
    [(Vec::new(), value)]
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

impl Snapshot {
    fn process(&self, w: &mut Writer<'_>) -> fmt::Result {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        w.gauge("posthouse_build_info", "The version that runs.", [(version, 1.0)])?;
        w.gauge("posthouse_uptime_seconds", "Time since the start.", one(self.uptime.as_secs_f64()))?;
        w.gauge("posthouse_ready", "Whether publishes are taken.", one(truth(self.ready)))?;
        w.gauge(
            "posthouse_memory_bytes",
            "Messages on their way through the broker.",
            one(number(self.broker.memory_bytes)),
        )?;
        w.gauge("posthouse_memory_high", "Whether publishers are held back.", one(truth(self.broker.memory_high)))?;
        w.gauge(
            "posthouse_windows_bytes",
            "Waiting messages that queues hold in memory.",
            one(number(self.broker.windows_bytes)),
        )
    }

    fn messages(&self, w: &mut Writer<'_>) -> fmt::Result {
        let b = &self.broker;
        let system = |value| [(vec![("messaging_system", "posthouse")], value)];
        w.counter("messaging_client_sent_messages", "Messages published and confirmed.", system(b.published))?;
        w.counter(
            "messaging_client_consumed_messages",
            "Messages handed to consumers of queues.",
            system(b.delivered),
        )?;
        for (name, help, value) in [
            ("posthouse_published_bytes", "Bytes of messages published and confirmed.", b.published_bytes),
            ("posthouse_publish_errors", "Publishes refused.", b.publish_errors),
            ("posthouse_acked_messages", "Messages acknowledged.", b.acked),
            ("posthouse_nacked_messages", "Failed attempts, leases that ran out included.", b.failed),
            ("posthouse_dead_lettered_messages", "Messages moved to a dead-letter target.", b.dead_lettered),
            ("posthouse_dropped_messages", "Messages given up without a dead-letter target.", b.dropped),
            ("posthouse_live_delivered_messages", "Messages handed to live subscriptions.", b.live_delivered),
            ("posthouse_live_lost_messages", "Messages that live subscriptions were too slow for.", b.live_lost),
            ("posthouse_requests_without_responder", "Requests that nobody was there to answer.", b.no_responders),
        ] {
            w.counter(name, help, one(value))?;
        }
        w.gauge("posthouse_live_subscriptions", "Live subscriptions.", one(number(b.live_subscriptions)))
    }

    fn engine(&self, w: &mut Writer<'_>) -> fmt::Result {
        let e = &self.engine;
        w.counter("posthouse_log_commits", "Commits that ended.", one(e.commits))?;
        w.counter("posthouse_log_rounds", "Rounds written: one write and one sync each.", one(e.rounds))?;
        w.counter("posthouse_log_written_bytes", "Bytes written to the write-ahead log.", one(e.written_bytes))?;
        w.gauge("posthouse_log_waiting_bytes", "Bytes of commits that wait.", one(number(e.waiting_bytes)))?;
        w.gauge("posthouse_log_wal_files", "Write-ahead files in use.", one(number(e.wal_files)))?;
        w.gauge("posthouse_log_segments", "Segment files.", one(number(e.segments)))?;
        w.gauge("posthouse_log_faults", "Damages found in files.", one(number(e.faults.len() as u64)))?;
        w.gauge("posthouse_damaged_logs", "Logs that are damaged and read-only.", one(number(e.damaged_logs)))?;
        w.gauge(
            "posthouse_log_failed",
            "Whether a write failed, so that none is taken.",
            one(truth(e.poisoned.is_some())),
        )?;
        w.gauge("posthouse_log_disk_full", "Whether the disk is full down to the reserve.", one(truth(e.disk_full)))?;
        w.gauge(
            "posthouse_log_free_bytes",
            "Free space of the file system.",
            e.free_bytes.map(|free| (Vec::new(), number(free))),
        )?;
        let bounds = &EngineState::LATENCY_BOUNDS_US;
        w.latency("posthouse_log_fsync_duration_seconds", "Time of one sync.", bounds, &e.sync_us, e.sync_us_sum)?;
        let help = "Time from a commit's queueing to its end.";
        w.latency("posthouse_log_commit_duration_seconds", help, bounds, &e.commit_us, e.commit_us_sum)
    }

    fn backups(&self, w: &mut Writer<'_>) -> fmt::Result {
        let backup = self.engine.backup.unwrap_or_default();
        w.gauge(
            "posthouse_backup_running",
            "Whether a backup is being read.",
            one(truth(self.engine.backup.is_some())),
        )?;
        for (name, help, value) in [
            ("posthouse_backup_read_bytes", "Bytes read of the backup that is under way.", backup.read_bytes),
            ("posthouse_backup_total_bytes", "Bytes of the backup that is under way.", backup.total_bytes),
            ("posthouse_backup_held_bytes", "Bytes of the disk that are kept only for a backup.", backup.held_bytes),
        ] {
            w.gauge(name, help, one(number(value)))?;
        }
        let failed = truth(self.backups.last_error.is_some());
        w.gauge(
            "posthouse_backup_failed",
            "Whether the last backup since the start did not come to its end.",
            one(failed),
        )?;
        let last = self.backups.last_success.map(|time| Duration::from_millis(u64::try_from(time.0).unwrap_or(0)));
        w.gauge(
            "posthouse_backup_last_success_timestamp_seconds",
            "When the last backup since the start was begun that was read to its end.",
            last.map(|last| (Vec::new(), last.as_secs_f64())),
        )
    }

    fn listeners(&self, w: &mut Writer<'_>) -> fmt::Result {
        type Read = fn(&ConnectionCounts) -> u64;
        let open = self.listeners.iter().map(|(name, counts)| (vec![("listener", *name)], number(counts.open())));
        w.gauge("posthouse_connections", "Open connections.", open)?;
        for (name, help, read) in [
            ("posthouse_connections_accepted", "Connections accepted.", ConnectionCounts::accepted as Read),
            (
                "posthouse_connections_refused",
                "Connections closed because of max_connections.",
                ConnectionCounts::refused,
            ),
            ("posthouse_tls_handshakes_failed", "TLS handshakes that failed.", ConnectionCounts::handshake_failed),
            ("posthouse_received_bytes", "Bytes read from clients.", ConnectionCounts::read_bytes),
            ("posthouse_sent_bytes", "Bytes written to clients.", ConnectionCounts::written_bytes),
        ] {
            let values = self.listeners.iter().map(|(listener, counts)| (vec![("listener", *listener)], read(counts)));
            w.counter(name, help, values)?;
        }
        Ok(())
    }

    fn queues(&self, w: &mut Writer<'_>) -> fmt::Result {
        let mut order: Vec<&(String, QueueInfo)> = self.queues.iter().collect();
        order.sort_by_key(|(namespace, queue)| (Reverse(messages(queue)), namespace, &queue.name));
        let (shown, rest) = order.split_at(self.max_entities.min(order.len()));
        let labels = |namespace: &'_ String, queue: &'_ QueueInfo| (namespace.clone(), queue.name.clone());
        let rows: Vec<Row<'_, QueueInfo>> = rows(shown, rest, labels);

        w.gauge("posthouse_queues", "Queues.", one(number(self.queues.len() as u64)))?;
        type Count = fn(&QueueInfo) -> u64;
        let states: [(&str, Count); 4] = [
            ("ready", |queue| queue.depth.ready),
            ("delayed", |queue| queue.depth.delayed),
            ("parked", |queue| queue.depth.parked),
            ("in_flight", |queue| queue.depth.in_flight),
        ];
        let depth = rows.iter().flat_map(|row| {
            states.iter().map(|(state, read)| {
                let mut labels = row.labels("queue");
                labels.push(("state", state));
                (labels, number(row.sum(*read)))
            })
        });
        w.gauge("posthouse_queue_messages", "Messages of a queue, by what they wait for.", depth)?;
        for (name, help, read) in QUEUE_GAUGES {
            w.gauge(name, help, rows.iter().map(|row| (row.labels("queue"), number(row.sum(*read)))))?;
        }
        let age = |queue: &QueueInfo| {
            queue
                .oldest_age
                .unwrap_or_else(|| queue.depth.oldest.map_or(Duration::ZERO, |oldest| self.now.since(oldest)))
        };
        let ages = rows
            .iter()
            .map(|row| (row.labels("queue"), row.of.iter().map(|queue| age(queue).as_secs_f64()).fold(0.0, f64::max)));
        w.gauge("posthouse_queue_oldest_age_seconds", "How long a queue's oldest message has been there.", ages)?;
        for (name, help, read) in QUEUE_COUNTERS {
            w.counter(name, help, rows.iter().map(|row| (row.labels("queue"), row.sum(*read))))?;
        }
        Ok(())
    }

    fn topics(&self, w: &mut Writer<'_>) -> fmt::Result {
        let mut order: Vec<&(String, TopicInfo)> = self.topics.iter().collect();
        order.sort_by_key(|(namespace, topic)| (Reverse((records(topic), topic.published)), namespace, &topic.name));
        let (shown, rest) = order.split_at(self.max_entities.min(order.len()));
        let rows: Vec<Row<'_, TopicInfo>> =
            rows(shown, rest, |namespace, topic| (namespace.clone(), topic.name.clone()));

        w.gauge("posthouse_topics", "Topics.", one(number(self.topics.len() as u64)))?;
        for (name, help, read) in TOPIC_GAUGES {
            w.gauge(name, help, rows.iter().map(|row| (row.labels("topic"), number(row.sum(*read)))))?;
        }
        for (name, help, read) in TOPIC_COUNTERS {
            w.counter(name, help, rows.iter().map(|row| (row.labels("topic"), row.sum(*read))))?;
        }
        Ok(())
    }
}

/// A metric of one entity: name, text, and where to read it.
type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);

const QUEUE_GAUGES: &[Metric<QueueInfo>] = &[
    ("posthouse_queue_waiting_bytes", "Bytes of messages that wait.", |queue| queue.depth.waiting_bytes),
    ("posthouse_queue_in_flight_bytes", "Bytes of messages with consumers.", |queue| queue.depth.in_flight_bytes),
    ("posthouse_queue_disk_bytes", "Bytes on the disk.", |queue| queue.disk_bytes),
    ("posthouse_queue_consumers", "Consumers.", |queue| queue.consumers),
    ("posthouse_queue_paused_consumers", "Consumers whose breaker is open.", |queue| queue.paused_consumers),
];

const QUEUE_COUNTERS: &[Metric<QueueInfo>] = &[
    ("posthouse_queue_enqueued_messages", "Messages that came in.", |queue| queue.counters.enqueued),
    ("posthouse_queue_delivered_messages", "Messages handed out, again ones included.", |queue| {
        queue.counters.delivered
    }),
    ("posthouse_queue_acked_messages", "Messages acknowledged.", |queue| queue.counters.acked),
    ("posthouse_queue_nacked_messages", "Failed attempts.", |queue| queue.counters.failed),
    ("posthouse_queue_dead_lettered_messages", "Messages moved away as given up.", |queue| {
        queue.counters.dead_lettered
    }),
    ("posthouse_queue_dropped_messages", "Messages given up and dropped.", |queue| queue.counters.dropped),
    ("posthouse_queue_expired_messages", "Messages whose time to live ended.", |queue| queue.counters.expired),
];

const TOPIC_GAUGES: &[Metric<TopicInfo>] = &[
    ("posthouse_topic_records", "Records in a topic's log.", records),
    ("posthouse_topic_bytes", "Bytes of messages in a topic's log.", |topic| {
        topic.partitions.iter().map(|p| p.bytes).sum()
    }),
    ("posthouse_topic_disk_bytes", "Bytes of a topic's log on the disk.", |topic| {
        topic.partitions.iter().map(|partition| partition.disk_bytes).sum()
    }),
    ("posthouse_topic_bindings", "Bindings from a topic.", |topic| topic.bindings),
];

const TOPIC_COUNTERS: &[Metric<TopicInfo>] = &[
    ("posthouse_topic_published_messages", "Messages published through a topic.", |topic| topic.published),
    ("posthouse_topic_unrouted_messages", "Of those, how many nothing took.", |topic| topic.unrouted),
];

fn messages(queue: &QueueInfo) -> u64 {
    let depth = &queue.depth;
    depth.ready + depth.delayed + depth.parked + depth.in_flight
}

fn records(topic: &TopicInfo) -> u64 {
    topic.partitions.iter().map(|partition| partition.records).sum()
}

/// One line of every metric of a kind: one entity, or all that are not shown one by one.
struct Row<'a, T> {
    namespace: String,
    name: String,
    of: Vec<&'a T>,
}

impl<T> Row<'_, T> {
    fn labels(&self, kind: &'static str) -> Labels<'_> {
        vec![("namespace", &self.namespace), (kind, &self.name)]
    }

    fn sum(&self, read: fn(&T) -> u64) -> u64 {
        self.of.iter().map(|entity| read(entity)).sum()
    }
}

fn rows<'a, T>(
    shown: &[&'a (String, T)],
    rest: &[&'a (String, T)],
    labels: impl Fn(&String, &T) -> (String, String),
) -> Vec<Row<'a, T>> {
    let one = |entry: &&'a (String, T)| {
        let (namespace, name) = labels(&entry.0, &entry.1);
        Row { namespace, name, of: vec![&entry.1] }
    };
    let sum =
        Row { namespace: REST.to_owned(), name: REST.to_owned(), of: rest.iter().map(|entry| &entry.1).collect() };
    shown.iter().map(one).chain((!rest.is_empty()).then_some(sum)).collect()
}
