//! Consuming from queues.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::message::Message;
use crate::problem::Problem;

/// A receive without a standing consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiveRequest {
    /// At most so many messages; 1 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub max: Option<u32>,
    /// At most so many bytes, though one message is given even if it weighs more; 8 MiB if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// How long to wait for the first message, in milliseconds; not at all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 60_000)]
    pub wait_ms: Option<u64>,
    /// Overrides the queue's lease, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub lease_ms: Option<u64>,
    /// Acknowledged as it is handed out.
    pub auto_ack: bool,
}

/// What a receive gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReceiveAnswer {
    /// The messages; none if none came in time.
    pub deliveries: Vec<Delivery>,
}

/// A message handed to a consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// To settle it with. Opaque.
    pub receipt: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// It may have been seen before.
    pub redelivered: bool,
    /// How long the lease lasts from now, in milliseconds; missing if it lasts until the consumer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// When it came into the queue, in milliseconds since 1970.
    pub enqueued_ms: i64,
    /// The message.
    pub message: Message,
}

/// What to do with a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Done.
    #[default]
    Ack,
    /// Failed: tried again as the queue's retry policy says, or after `after_ms`.
    Nack,
    /// Failed for good: goes to the dead-letter queue now.
    Reject,
    /// Not tried: back to its place at once, no attempt counted.
    Release,
    /// Still at it: the lease lasts `by_ms` from now.
    Extend,
}

/// The end of one delivery (or the extension of its lease).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// Which delivery.
    pub receipt: String,
    /// What to do with it.
    pub action: Action,
    /// Of a nack: tried again after so many milliseconds, whatever the retry policy says; 0 is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Of a nack or reject: what went wrong, for the history and for the reasons that are not retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of an extend: milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub by_ms: Option<u64>,
}

/// Several settlements; each stands for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleRequest {
    /// The settlements.
    #[schema(max_items = 10_000)]
    pub settlements: Vec<Settlement>,
}

/// What became of settlements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettleAnswer {
    /// One a settlement, in order.
    pub results: Vec<SettleResult>,
}

/// What became of one settlement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettleResult {
    /// Which delivery.
    pub receipt: String,
    /// Whether it is done, and durable.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Acknowledges or releases one delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRequest {
    /// Which delivery.
    pub receipt: String,
}

/// Fails one delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NackRequest {
    /// Which delivery.
    pub receipt: String,
    /// Tried again after so many milliseconds, whatever the retry policy says; 0 is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Fails one delivery for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectRequest {
    /// Which delivery.
    pub receipt: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Extends one lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// Which delivery.
    pub receipt: String,
    /// Milliseconds from now.
    #[schema(minimum = 1)]
    pub by_ms: u64,
}

/// The query of a browse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BrowseQuery {
    /// Offset to begin at; 0 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// At most so many messages; 20 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub max: Option<u32>,
}

/// A look at a queue's messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BrowseAnswer {
    /// The messages, in order.
    pub messages: Vec<Browsed>,
    /// Where to go on.
    pub next: u64,
}

/// A message of a queue, looked at without taking it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Browsed {
    /// Where it is in the queue's log.
    pub offset: u64,
    /// What it waits for.
    pub state: BrowsedState,
    /// Of a delayed one: when it is due, in milliseconds since 1970, if that is known without looking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<i64>,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When it came into the queue, in milliseconds since 1970.
    pub enqueued_ms: i64,
    /// The message. Of a dead letter, the headers say why and where from.
    pub message: Message,
}

/// What a message of a queue waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BrowsedState {
    /// A consumer.
    #[default]
    Ready,
    /// A time.
    Delayed,
    /// An earlier message of its key.
    Parked,
    /// Its consumer.
    InFlight,
}

/// What a purge or the deletion of a queue removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// Messages that went.
    pub messages: u64,
}

/// Moves a queue's messages (dead letters, as a rule) back to where they came from, or elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedriveRequest {
    /// To this queue; each message's own source queue if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Messages a second; as fast as it goes if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// At most so many; all that are there now if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// A running or ended redrive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Redrive {
    /// Where to; each message's own source queue if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Messages moved so far.
    pub moved: u64,
    /// Messages that it set out to move.
    pub total: u64,
    /// Messages a second; as fast as it goes if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Whether it still runs.
    pub running: bool,
    /// Why it stopped early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
