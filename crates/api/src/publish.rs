//! Publishing.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::entities::Durability;
use crate::message::Message;

/// Several messages, taken all or none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The messages, in order.
    pub messages: Vec<Message>,
}

/// Where a publish goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Through this topic, by its bindings.
    Topic(String),
    /// Straight into this queue.
    Queue(String),
    /// To whatever the message's subject reaches: the topic that captures it, and live subscriptions.
    Subject,
}

/// The query of a publish. What belongs to the message fills in what the message itself leaves open; the rest is about the publish.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PublishQuery {
    /// The message's id; made by the broker if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the message is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Ordering and partitioning key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A queue or topic with a dedup window takes a message of the same dedup id once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_id: Option<String>,
    /// Queues do not deliver it before so many milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Queues do not deliver it after so many milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// 0 (lowest) to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// When it was made, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
    /// What request this answers, or what conversation it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where an answer goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// `true`: may be lost with the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transient: Option<bool>,
    /// Stored only if the last record of the messages' key, which all of them share, has this offset before them; `none` expects that there is
    /// no record.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^(none|[0-9]{1,18})$")]
    pub expect_key_version: Option<String>,
    /// Stored only if the last record of the messages' subject, which all of them share, has this offset before them; `none` expects that there
    /// is no record.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^(none|[0-9]{1,18})$")]
    pub expect_subject_version: Option<String>,
    /// An idempotent producer's id; together with `producer_epoch` and `producer_sequence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<String>,
    /// Grows with each instance of the producer; an older one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_epoch: Option<u32>,
    /// Sequence of the first message; those of one call are numbered on from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer_sequence: Option<u64>,
    /// This partition of the topic's log rather than the key's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Overrides the durability of the topic or queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub durability: Option<Durability>,
}

/// What became of a publish, message by message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PublishAnswer {
    /// One a message, in order.
    pub published: Vec<Published>,
}

/// What became of one published message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    /// Its id.
    pub id: String,
    /// Whether anything has it: a queue, a log or a live subscription.
    pub routed: bool,
    /// Queues that have it.
    pub queues: u32,
    /// Live subscriptions that got it.
    pub live: u32,
    /// It was published before (dedup id or sequence), and not stored again.
    pub duplicate: bool,
    /// Where it is in the topic's log, if the topic keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// A place in a topic's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Position {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
}

/// An acknowledgement together with what the work led to: all of it happens, or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckAndPublish {
    /// The delivery to acknowledge.
    pub receipt: String,
    /// What to publish.
    pub publishes: Vec<PublishTo>,
}

/// Messages and where they go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishTo {
    /// Where.
    pub to: Target,
    /// What.
    pub messages: Vec<Message>,
}

/// The query of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RequestQuery {
    /// How long to wait for the answer, in milliseconds; 5000 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 60_000)]
    pub timeout_ms: Option<u64>,
}

/// The query of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReplyQuery {
    /// The request's correlation id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}
