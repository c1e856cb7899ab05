//! What a namespace holds, as its users define it.
//!
//! A field that is missing is not decided by the definition: an operator's policy may decide it, and the default does if none does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::filter::Filter;

/// Defines a struct whose fields may all be missing, in a request as in an answer.
macro_rules! open {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(skip_serializing_if = "is_open")] pub $field: $kind,)*
        }
    };
}

/// Whether a field says nothing that its absence would not say.
fn is_open<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

open! {
    /// A namespace: isolation of names, users and quotas.
    pub struct NamespaceConfig {
        /// For people.
        pub description: Option<String>,
        /// Bounds on what the namespace may hold.
        pub quota: Quota,
        /// Durability of its topics and queues unless they say otherwise.
        pub durability: Option<Durability>,
    }
}

open! {
    /// Bounds on a namespace. A missing one is no bound.
    pub struct Quota {
        /// Topics.
        pub max_topics: Option<u64>,
        /// Queues.
        pub max_queues: Option<u64>,
        /// Bindings.
        pub max_bindings: Option<u64>,
        /// Bytes of messages in all queues and topic logs together.
        pub max_stored_bytes: Option<u64>,
        /// Messages published a second, averaged over a second.
        pub max_publish_rate: Option<u64>,
        /// Largest message body, in bytes.
        pub max_body_bytes: Option<u64>,
        /// Long-lived connections: WebSockets, and those of protocols that have no others.
        pub max_connections: Option<u64>,
    }
}

/// When a publish is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After fdatasync. The default.
    Fsync,
    /// After the write; synced within 10 ms.
    Interval,
    /// After the write; synced when the system likes.
    Os,
    /// At once; gone with the process.
    Memory,
}

open! {
    /// A topic.
    pub struct TopicConfig {
        /// For people.
        pub description: Option<String>,
        /// What its bindings may filter on.
        pub router: Router,
        /// Whether the topic keeps a log of its own, and what of it goes away by itself.
        pub retention: Option<Retention>,
        /// Partitions of the log.
        #[schema(minimum = 1, maximum = 1024)]
        pub partitions: Option<u32>,
        /// The topic that gets what no binding of this one took.
        pub alternate: Option<String>,
        /// Subject filters that this topic captures; by default its own name and everything below it.
        pub captures: Option<Vec<String>>,
        /// Durability of its log and of the queues' share of a publish through it.
        pub durability: Option<Durability>,
        /// Keep an index of keys: read by key, last value, expected versions.
        pub key_index: bool,
        /// Publishers may not use it directly; only other topics feed it.
        pub internal: bool,
        /// Publishes also go to live subscriptions that match the message's subject. On unless said otherwise.
        pub live: Option<bool>,
        /// Window in which a message of the same dedup id is taken once, in milliseconds.
        pub dedup_window_ms: Option<u64>,
        /// Largest message body, in bytes.
        pub max_body_bytes: Option<u64>,
        /// The topic goes when the last binding from it is removed. One that never had a binding stays.
        pub auto_delete: bool,
        /// The definition, and that of bindings from it and to it, is in memory only and gone with the process.
        pub volatile: bool,
        /// What a protocol keeps with the entity and shows again; the broker does not read it.
        pub arguments: BTreeMap<String, serde_json::Value>,
    }
}

/// What a topic's bindings may filter on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Router {
    /// Anything.
    #[default]
    Any,
    /// Exact subjects.
    Exact,
    /// Nothing: every binding gets everything.
    Fanout,
    /// Subject patterns.
    Subject,
    /// Header matches.
    Headers,
    /// Attribute tests.
    Attribute,
    /// Each message goes to one binding, chosen by a hash; a binding's weight is its share.
    ConsistentHash {
        /// The header that is hashed; the key, or the subject of a message without one, if neither this nor `property` is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        header: Option<String>,
        /// The property that is hashed. Not together with `header`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        property: Option<HashProperty>,
    },
}

/// A property of messages that a hash is taken of. A message without it goes where all such go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HashProperty {
    /// Its id.
    MessageId,
    /// Its correlation id.
    CorrelationId,
    /// When its producer says that it was made.
    Timestamp,
}

open! {
    /// What of a topic's log goes away by itself. All bounds that are given hold; without any it is kept for ever.
    pub struct Retention {
        /// Age, in milliseconds.
        pub max_age_ms: Option<u64>,
        /// Bytes of the whole topic.
        pub max_bytes: Option<u64>,
        /// Records of the whole topic.
        pub max_records: Option<u64>,
        /// Of records with the same key only the last is kept.
        pub compact: bool,
        /// How long a compacted topic keeps a removal (a tombstone) so that readers see it, in milliseconds; a day by default.
        pub tombstone_ms: Option<u64>,
    }
}

open! {
    /// A queue.
    pub struct QueueConfig {
        /// For people.
        pub description: Option<String>,
        /// How long a delivery may stay unsettled, in milliseconds. Zero: until its consumer goes.
        pub lease_ms: Option<u64>,
        /// What follows a failed attempt.
        pub retry: Option<Retry>,
        /// Where messages go that are given up.
        pub dead_letter: Option<DeadLetter>,
        /// Messages of one key one at a time, in order.
        pub keyed: Option<bool>,
        /// Priority levels.
        #[schema(minimum = 2, maximum = 256)]
        pub priority_levels: Option<u16>,
        /// Messages live at most so many milliseconds.
        pub ttl_ms: Option<u64>,
        /// Every message waits so many milliseconds first.
        pub delay_ms: Option<u64>,
        /// One consumer at a time is served.
        pub single_active: Option<bool>,
        /// Most waiting messages.
        pub max_messages: Option<u64>,
        /// Most waiting bytes.
        pub max_bytes: Option<u64>,
        /// What happens when a bound is passed.
        pub overflow: Option<Overflow>,
        /// Window in which a message of the same dedup id is taken once, in milliseconds.
        pub dedup_window_ms: Option<u64>,
        /// Pause a consumer that fails too often.
        pub breaker: Option<Breaker>,
        /// The queue goes by itself when unused for so many milliseconds.
        pub expires_ms: Option<u64>,
        /// The queue goes when its last standing consumer leaves. One that has had none since the process started stays; receives
        /// without a standing consumer do not count.
        pub auto_delete: bool,
        /// In memory only, and gone with the process.
        pub volatile: bool,
        /// Durability of messages and acknowledgements.
        pub durability: Option<Durability>,
        /// Push to an HTTP endpoint.
        pub webhook: Option<Webhook>,
        /// What a protocol keeps with the entity and shows again; the broker does not read it.
        pub arguments: BTreeMap<String, serde_json::Value>,
    }
}

open! {
    /// What follows a failed attempt.
    pub struct Retry {
        /// Deliveries in all; 0 tries for ever. 5 by default.
        pub max_attempts: Option<u32>,
        /// Milliseconds before the second attempt. 1000 by default.
        pub initial_ms: Option<u64>,
        /// Each further wait is so many times longer. 2 by default.
        pub factor: Option<f64>,
        /// No wait is longer, in milliseconds. 5 minutes by default.
        pub cap_ms: Option<u64>,
        /// Full jitter. On by default.
        pub jitter: Option<bool>,
        /// Errors that are not retried.
        pub non_retryable: Vec<String>,
    }
}

/// Where messages go that are given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeadLetter {
    /// Nowhere: they are dropped.
    None,
    /// This queue; made if it is missing.
    Queue(String),
    /// Published through this topic.
    Topic {
        /// The topic.
        topic: String,
        /// The subject to publish under; the message's own if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// Drops what it leads nowhere, also for want of the topic, instead of keeping it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        or_drop: bool,
    },
    /// Straight into the queue that its subject names.
    Named {
        /// This queue; the one that the message's own subject names if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// Drops what names no queue instead of keeping it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        or_drop: bool,
    },
}

/// What happens to a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// New messages are refused.
    Reject,
    /// The oldest leave.
    DropOldest,
    /// New messages are refused, and go where given-up messages go.
    RejectDeadLetter,
}

/// When a failing consumer is paused.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Share of failures that opens it, above 0 to 1.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub failure_ratio: f64,
    /// Settlements looked at.
    #[schema(minimum = 1)]
    pub window: u32,
    /// Pause before a probe, in milliseconds.
    #[schema(minimum = 1)]
    pub pause_ms: u64,
}

/// A push consumer.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where to POST.
    pub url: String,
    /// Key of the HMAC-SHA256 signature; unsigned if not given. It is shown again as `***`, which in an update keeps the one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Requests at a time. 8 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Time for one request, in milliseconds. 30 s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Headers sent along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How a message is written into the request; `native` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<WebhookFormat>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers may hold a credential too, so that only their names are shown.
        f.debug_struct("Webhook")
            .field("url", &self.url)
            .field("secret", &self.secret.as_ref().map(|_| ".."))
            .field("concurrency", &self.concurrency)
            .field("timeout_ms", &self.timeout_ms)
            .field("headers", &self.headers.keys())
            .field("format", &self.format)
            .finish()
    }
}

/// How a message is written into a webhook's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookFormat {
    /// The body as it is, the rest in `Posthouse-*` headers.
    Native,
    /// CloudEvents, binary mode.
    CloudeventsBinary,
    /// CloudEvents, structured mode.
    CloudeventsStructured,
}

/// A binding: topic → queue or topic → topic, with a filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BindingConfig {
    /// The topic that feeds it.
    pub topic: String,
    /// Where it leads.
    pub target: BindingTarget,
    /// What it lets through; everything if not given.
    #[serde(default)]
    pub filter: Filter,
    /// Its share on a consistent-hash topic; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// What a protocol keeps with the binding and shows again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, serde_json::Value>,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BindingTarget {
    /// A queue, by name.
    Queue(String),
    /// A topic, by name.
    Topic(String),
}

/// A consumer group on a topic's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// The topic whose log it reads.
    pub topic: String,
    /// Where a partition without a committed offset begins.
    #[serde(default)]
    pub start: GroupStart,
    /// How long a member lives without a sign of life, in milliseconds. 15 s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ms: Option<u64>,
}

/// Where a partition without a committed offset begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupStart {
    /// At the oldest record.
    #[default]
    Earliest,
    /// Behind the newest.
    Latest,
}

/// A policy: for all names that fit, defaults (for what a definition leaves open), overrides (whatever it says) and bounds (the lowest of
/// all that is said holds).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Name pattern: `*` stands for any run of characters; `regex:` begins a regular expression, which fits any part of a name.
    pub pattern: String,
    /// What it applies to.
    pub applies_to: PolicyScope,
    /// Only to those whose `arguments` have, of each name here, one of these values; `null` stands for an argument that is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only_arguments: BTreeMap<String, Vec<serde_json::Value>>,
    /// Whose policy it is. One of each layer applies to an entity.
    #[serde(default, skip_serializing_if = "is_open")]
    pub layer: PolicyLayer,
    /// Of several of a layer that fit, the highest wins, as a whole; the oldest among equals.
    #[serde(default)]
    pub priority: i32,
    /// For what definitions leave open.
    #[serde(default)]
    pub defaults: PolicyValues,
    /// Whatever definitions say.
    #[serde(default)]
    pub overrides: PolicyValues,
    /// No more than this, whatever definitions and other policies say.
    #[serde(default, skip_serializing_if = "is_open")]
    pub bounds: PolicyBounds,
    /// What a protocol keeps with the policy and shows again; the broker does not read it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, serde_json::Value>,
}

/// Whose policy it is. Each layer has its own names; where both say something that cannot be merged, the operator's holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyLayer {
    /// Of those who use the namespace.
    #[default]
    User,
    /// Of those who run the broker.
    Operator,
}

open! {
    /// The most that a policy allows of a queue. Where several bounds, or a bound and a setting, speak of the same, the lowest holds.
    pub struct PolicyBounds {
        /// See [`QueueConfig`].
        pub ttl_ms: Option<u64>,
        /// See [`QueueConfig`].
        pub max_messages: Option<u64>,
        /// See [`QueueConfig`].
        pub max_bytes: Option<u64>,
        /// See [`QueueConfig`].
        #[schema(minimum = 1)]
        pub expires_ms: Option<u64>,
        /// See [`Retry`].
        #[schema(minimum = 1)]
        pub max_attempts: Option<u32>,
    }
}

/// What a policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyScope {
    /// Queues.
    Queues,
    /// Topics.
    Topics,
    /// Both.
    All,
}

open! {
    /// The settings that a policy can give. Those of queues are ignored for topics and the other way round.
    pub struct PolicyValues {
        /// See [`QueueConfig`].
        pub lease_ms: Option<u64>,
        /// See [`QueueConfig`].
        pub retry: Option<Retry>,
        /// See [`QueueConfig`].
        pub dead_letter: Option<DeadLetter>,
        /// See [`QueueConfig`].
        pub ttl_ms: Option<u64>,
        /// See [`QueueConfig`].
        pub delay_ms: Option<u64>,
        /// See [`QueueConfig`].
        pub single_active: Option<bool>,
        /// See [`QueueConfig`].
        pub max_messages: Option<u64>,
        /// See [`QueueConfig`].
        pub max_bytes: Option<u64>,
        /// See [`QueueConfig`].
        pub overflow: Option<Overflow>,
        /// See [`QueueConfig`]; topics too.
        pub dedup_window_ms: Option<u64>,
        /// See [`QueueConfig`].
        pub breaker: Option<Breaker>,
        /// See [`QueueConfig`].
        pub expires_ms: Option<u64>,
        /// See [`QueueConfig`]; topics too.
        pub durability: Option<Durability>,
        /// See [`TopicConfig`].
        pub retention: Option<Retention>,
        /// See [`TopicConfig`].
        pub alternate: Option<String>,
        /// See [`TopicConfig`].
        pub max_body_bytes: Option<u64>,
    }
}

/// The query of a declaration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeclareQuery {
    /// `false`: one that exists with another definition is an error rather than changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<bool>,
}

/// The query of a deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// Refused while it is used: a topic by bindings from it, a queue by consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_unused: Option<bool>,
    /// Of a queue: refused while it holds messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_empty: Option<bool>,
}

/// The query of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Names that start so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Names after this one: the `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many; 1000 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 10_000)]
    pub limit: Option<u32>,
}

/// The query of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PolicyQuery {
    /// Of which layer it is; `user` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<PolicyLayer>,
}

/// The query of the list of policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PoliciesQuery {
    /// Those of this layer; of `user` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<PolicyLayer>,
    /// Names that start so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Names after this one: the `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many; 1000 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 10_000)]
    pub limit: Option<u32>,
}

/// The query of the list of bindings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BindingsQuery {
    /// Those of this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Those that lead to this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_queue: Option<String>,
    /// Those that lead to this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_topic: Option<String>,
}
