//! What the broker says about its entities.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::consume::Redrive;
use crate::entities::{
    BindingConfig, Breaker, DeadLetter, GroupConfig, NamespaceConfig, Overflow, PolicyConfig, QueueConfig, Retention,
    Retry, TopicConfig,
};
use crate::replay::GroupPartition;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, by name.
    pub items: Vec<T>,
    /// What to give as `after` for the next page; missing on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What became of a declaration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was made.
    #[default]
    Created,
    /// It was there already, with the same definition.
    Unchanged,
    /// It was there, and was changed.
    Updated,
}

/// The answer to a declaration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Declared<T> {
    /// What became of it.
    pub outcome: Outcome,
    /// It, as it is now.
    pub item: T,
}

/// The answer to the declaration of what has nothing to show but its definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeclaredOutcome {
    /// What became of it.
    pub outcome: Outcome,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Namespace {
    /// Never reused.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Definition.
    pub config: NamespaceConfig,
    /// Topics it holds.
    pub topics: u64,
    /// Queues it holds.
    pub queues: u64,
    /// Bytes of waiting and retained messages.
    pub stored_bytes: u64,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Topic {
    /// Never reused.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Definition.
    pub config: TopicConfig,
    /// Retention with policies applied; missing if the topic keeps no log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Its policy, if one fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its partitions' logs; none without a log.
    pub partitions: Vec<Partition>,
    /// Bindings from it.
    pub bindings: u64,
    /// Messages published through it since the start.
    pub published: u64,
    /// Of those, how many no binding took and no log kept.
    pub unrouted: u64,
    /// Set if data of it is damaged, and what is damaged can only be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// A partition's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Partition {
    /// Which.
    pub partition: u32,
    /// Oldest offset.
    pub start: u64,
    /// Next offset.
    pub end: u64,
    /// Records.
    pub records: u64,
    /// Bytes of messages.
    pub bytes: u64,
    /// Bytes on the disk.
    pub disk_bytes: u64,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Never reused.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Definition.
    pub config: QueueConfig,
    /// What holds, with policies and defaults applied.
    pub effective: QueueEffective,
    /// Its policy, if one fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What it holds.
    pub depth: QueueDepth,
    /// Counters since the start.
    pub counters: QueueCounters,
    /// Rates over the last seconds.
    pub rates: QueueRates,
    /// Consumers.
    pub consumers: u64,
    /// Consumers whose breaker is open.
    pub paused_consumers: u64,
    /// How long the oldest message has been there, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_age_ms: Option<u64>,
    /// Bytes on the disk.
    pub disk_bytes: u64,
    /// A redrive out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive: Option<Redrive>,
    /// A connection holds it: it alone may use it, and it goes when that ends. Others may only publish to it.
    #[serde(default)]
    pub owned: bool,
    /// Set if its data is damaged and it can only be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// What holds for a queue, with policies and defaults applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueEffective {
    /// How long a delivery may stay unsettled, in milliseconds; missing: until its consumer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// What follows a failed attempt.
    pub retry: Retry,
    /// Where messages go that are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// Messages of one key one at a time, in order.
    pub keyed: bool,
    /// Priority levels; 1 is none.
    pub priority_levels: u16,
    /// Messages live at most so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Every message waits so many milliseconds first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// One consumer at a time is served.
    pub single_active: bool,
    /// Most waiting messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_messages: Option<u64>,
    /// Most waiting bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// What happens when a bound is passed; missing without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
    /// Window in which a message of the same dedup id is taken once, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup_window_ms: Option<u64>,
    /// When a failing consumer is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// The queue goes by itself when unused for so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueDepth {
    /// Ready to be delivered.
    pub ready: u64,
    /// How many of the ready ones were not looked at since the server started: some may turn out to be delayed or parked.
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub unread: u64,
    /// Waiting for a time: delays and retries.
    pub delayed: u64,
    /// Held back by an earlier message of their key.
    pub parked: u64,
    /// With consumers.
    pub in_flight: u64,
    /// Bytes of all but those in flight.
    pub waiting_bytes: u64,
    /// Bytes with consumers.
    pub in_flight_bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none_of_them(count: &u64) -> bool {
    *count == 0
}

/// Counters of a queue since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueCounters {
    /// Came in.
    pub enqueued: u64,
    /// Handed out, again ones included.
    pub delivered: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Failed attempts, expired leases included.
    pub failed: u64,
    /// Given up and moved to the dead-letter target.
    pub dead_lettered: u64,
    /// Given up and dropped, for want of a target.
    pub dropped: u64,
    /// Of both, those whose time to live had ended.
    pub expired: u64,
}

/// A second, averaged over the last few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueRates {
    /// Came in.
    pub enqueued: f64,
    /// Handed out.
    pub delivered: f64,
    /// Acknowledged.
    pub acked: f64,
    /// Failed.
    pub failed: f64,
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Binding {
    /// By which it is shown and deleted.
    pub id: u64,
    /// Definition.
    pub config: BindingConfig,
}

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Never reused.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Definition.
    pub config: GroupConfig,
    /// Grows with each change of membership.
    pub generation: u64,
    /// Members and what each reads.
    pub members: Vec<GroupMember>,
    /// Where it stands.
    pub partitions: Vec<GroupPartition>,
    /// Set if its offsets are damaged and can only be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupMember {
    /// Its id.
    pub member: String,
    /// The partitions that it reads.
    pub partitions: Vec<u32>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Name.
    pub name: String,
    /// Definition.
    pub config: PolicyConfig,
}

/// How the broker as a whole is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The broker's version.
    pub version: String,
    /// Whether it takes publishes.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// Messages published and confirmed since the start.
    pub published: u64,
    /// Bytes of them.
    pub published_bytes: u64,
    /// Publishes refused.
    pub publish_errors: u64,
    /// Handed to consumers of queues.
    pub delivered: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Moved to dead-letter targets.
    pub dead_lettered: u64,
    /// Live subscriptions.
    pub live_subscriptions: u64,
    /// Bytes of messages in flight through the broker.
    pub memory_bytes: u64,
    /// Whether publishers are held back for want of memory.
    pub memory_high: bool,
    /// Whether the disk is full down to the reserve.
    pub disk_full: bool,
    /// Logs that are damaged and can only be read: of queues, topics, groups and their state.
    #[serde(default)]
    pub damaged_logs: u64,
    /// Bytes free on the disk, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
    /// The backup that is being read, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupProgress>,
    /// When the last backup since the start was begun that was read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_ms: Option<i64>,
    /// Why the last backup since the start was not, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_error: Option<String>,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupProgress {
    /// Bytes of its files that were read.
    pub read_bytes: u64,
    /// Bytes of all its files.
    pub total_bytes: u64,
    /// Bytes of the disk that are kept only for it.
    pub held_bytes: u64,
}
