//! What the broker says about its entities and messages.

use std::sync::Arc;
use std::time::Duration;

use types::{EntityId, Message, MessageId, Offset, Timestamp};

use crate::definitions::{
    BindingConfig, GroupConfig, NamespaceConfig, PolicyConfig, PolicyLayer, QueueConfig, RetentionConfig, TopicConfig,
    WebhookConfig,
};
use crate::queue::{QueueDepth, QueueRules};
use crate::receipt::Receipt;

/// Whether a declaration made something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It was made.
    Created,
    /// It was there already, with the same definition.
    Unchanged,
    /// It was there, and was changed.
    Updated,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceInfo {
    /// Id.
    pub id: EntityId,
    /// Name.
    pub name: String,
    /// Definition.
    pub config: NamespaceConfig,
    /// How many topics, queues, bindings and groups it holds.
    pub topics: u64,
    /// See `topics`.
    pub queues: u64,
    /// Bytes of waiting and retained messages.
    pub stored_bytes: u64,
    /// Long-lived connections that hold a [`ConnectionGuard`](crate::ConnectionGuard).
    pub connections: u64,
}

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicInfo {
    /// Id.
    pub id: EntityId,
    /// Name.
    pub name: String,
    /// Definition.
    pub config: TopicConfig,
    /// Retention with policies applied; `None` if the topic keeps no log.
    pub retention: Option<RetentionConfig>,
    /// Its policy, if one fits.
    pub policy: Option<String>,
    /// Its operator's policy, if one fits.
    pub operator_policy: Option<String>,
    /// Its partitions' logs; empty without a log.
    pub partitions: Vec<PartitionInfo>,
    /// Bindings from it.
    pub bindings: u64,
    /// Messages published through it since the start.
    pub published: u64,
    /// Of those, how many no binding took and no log kept.
    pub unrouted: u64,
    /// Set if data of it is damaged, and what is damaged read-only.
    pub damage: Option<String>,
}

/// A partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Oldest offset.
    pub start: Offset,
    /// Next offset.
    pub end: Offset,
    /// Records.
    pub records: u64,
    /// Bytes of messages.
    pub bytes: u64,
    /// Bytes on the disk.
    pub disk_bytes: u64,
}

/// A queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueInfo {
    /// Id.
    pub id: EntityId,
    /// Name.
    pub name: String,
    /// Definition.
    pub config: QueueConfig,
    /// What holds, with policies applied.
    pub rules: QueueRules,
    /// Where given-up messages go, with policies applied.
    pub dead_letter: crate::definitions::DeadLetterConfig,
    /// Window in which a message of the same dedup id is taken once, with policies applied.
    pub dedup_window: Option<Duration>,
    /// The queue goes by itself when unused for so long, with policies applied.
    pub expires: Option<Duration>,
    /// Its policy, if one fits.
    pub policy: Option<String>,
    /// Its operator's policy, if one fits.
    pub operator_policy: Option<String>,
    /// Depth.
    pub depth: QueueDepth,
    /// Counters since the start.
    pub counters: QueueCounters,
    /// Rates over the last seconds.
    pub rates: QueueRates,
    /// Consumers.
    pub consumers: u64,
    /// Consumers whose breaker is open.
    pub paused_consumers: u64,
    /// How long the oldest message has been there.
    pub oldest_age: Option<Duration>,
    /// Bytes on the disk.
    pub disk_bytes: u64,
    /// A running redrive out of it.
    pub redrive: Option<RedriveInfo>,
    /// A connection holds it: see [`Session::declare_owned_queue`](crate::Session::declare_owned_queue).
    pub owned: bool,
    /// Set if its data is damaged and it is read-only.
    pub damage: Option<String>,
}

/// A queue that is pushed to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct PushQueue {
    /// The queue's id.
    pub id: EntityId,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where to and how, secret included.
    pub webhook: WebhookConfig,
}

/// Counters of a queue since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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

/// A running or ended redrive.
#[derive(Clone, Debug, PartialEq)]
pub struct RedriveInfo {
    /// Where to: a queue's name, or `None` for each message's own source.
    pub to: Option<String>,
    /// Messages moved so far.
    pub moved: u64,
    /// Messages that it set out to move.
    pub total: u64,
    /// Messages a second; `None` is as fast as it goes.
    pub rate: Option<f64>,
    /// Whether it still runs.
    pub running: bool,
    /// Why it stopped early.
    pub error: Option<String>,
}

/// A binding.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingInfo {
    /// Id, by which it is deleted.
    pub id: EntityId,
    /// Definition.
    pub config: BindingConfig,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupInfo {
    /// Id.
    pub id: EntityId,
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
    /// Set if its offsets are damaged and it is read-only.
    pub damage: Option<String>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member: String,
    /// The partitions that it reads.
    pub partitions: Vec<u32>,
}

/// Where a group stands on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPartition {
    /// Which.
    pub partition: u32,
    /// The next offset to read, if one was committed.
    pub committed: Option<Offset>,
    /// The log's next offset.
    pub end: Offset,
    /// Records not read yet.
    pub lag: u64,
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyInfo {
    /// Name.
    pub name: String,
    /// Definition.
    pub config: PolicyConfig,
}

impl PolicyInfo {
    /// Whether it is the one of this name in this layer.
    #[must_use]
    pub fn is(&self, layer: PolicyLayer, name: &str) -> bool {
        self.config.layer == layer && self.name == name
    }
}

/// What became of one published message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: MessageId,
    /// Queues that have it.
    pub queues: u32,
    /// Queues that it was led to and that were full: they do not have it. Only of a publish that passes them over.
    pub refused: u32,
    /// Logs of other topics that have it, which the topic passed it on to.
    pub logs: u32,
    /// Where it is in the topic's log, if the topic keeps one.
    pub position: Option<Position>,
    /// It was published before (dedup id or sequence), and not stored again.
    pub duplicate: bool,
    /// Live subscriptions that got it.
    pub live: u32,
}

impl Published {
    /// Whether there was a queue for it that was not full, or none at all.
    pub(crate) fn is_taken(&self) -> bool {
        self.queues > 0 || self.refused == 0
    }

    /// Whether anything has it: a queue, a log or a live subscription.
    #[must_use]
    pub fn routed(&self) -> bool {
        self.queues > 0 || self.logs > 0 || self.position.is_some() || self.live > 0 || self.duplicate
    }
}

/// A place in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: Offset,
}

/// A message handed to a consumer of a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// To settle it with.
    pub receipt: Receipt,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// It may have been seen before.
    pub redelivered: bool,
    /// How long the lease lasts from now; `None` until the consumer goes.
    pub lease: Option<Duration>,
    /// When it came into the queue.
    pub enqueued: Timestamp,
    /// The message.
    pub message: Arc<Message>,
}

/// A message of a queue, looked at without taking it.
#[derive(Clone, Debug, PartialEq)]
pub struct Browsed {
    /// Where it is in the queue's log.
    pub offset: Offset,
    /// What it waits for.
    pub state: BrowsedState,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When it came into the queue.
    pub enqueued: Timestamp,
    /// The message.
    pub message: Arc<Message>,
}

/// What a message of a queue waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrowsedState {
    /// A consumer.
    Ready,
    /// A time.
    Delayed {
        /// When it is due, if known without looking.
        due: Option<Timestamp>,
    },
    /// An earlier message of its key.
    Parked,
    /// Its consumer.
    InFlight,
}

/// A record of a topic's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where.
    pub position: Position,
    /// When the broker took it.
    pub appended: Timestamp,
    /// The message.
    pub message: Arc<Message>,
}

/// Where to begin reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record.
    Earliest,
    /// Behind the newest.
    Latest,
    /// This offset.
    Offset(Offset),
    /// The first record at or after this time.
    Time(Timestamp),
}
