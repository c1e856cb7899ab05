//! What a namespace holds, as its users define it. These are the records of the `_meta` log too.
//!
//! A field that is `None` is not decided by the definition: an operator's policy may decide it, and the default does if none
//! does. What holds in the end is in `rules`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::filter::FilterRecord;

/// Milliseconds, as definitions carry time spans.
pub type Millis = u64;

/// A namespace: isolation of names, users and quotas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceConfig {
    /// For people.
    pub description: Option<String>,
    /// Bounds on what the namespace may hold.
    pub quota: Quota,
    /// Durability of its topics and queues unless they say otherwise.
    pub durability: Option<DurabilityConfig>,
}

/// Bounds on a namespace. `None` is no bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Long-lived connections: those of protocols that hold a [`ConnectionGuard`](crate::ConnectionGuard).
    pub max_connections: Option<u64>,
}

/// When a publish is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityConfig {
    /// After fdatasync. The default.
    Fsync,
    /// After the write; synced within 10 ms.
    Interval,
    /// After the write; synced when the system likes.
    Os,
    /// At once; gone with the process.
    Memory,
}

impl From<DurabilityConfig> for log::Durability {
    fn from(config: DurabilityConfig) -> Self {
        match config {
            DurabilityConfig::Fsync => Self::Fsync,
            DurabilityConfig::Interval => Self::Interval,
            DurabilityConfig::Os => Self::Os,
            DurabilityConfig::Memory => Self::Memory,
        }
    }
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicConfig {
    /// For people.
    pub description: Option<String>,
    /// What its bindings may filter on.
    pub router: RouterConfig,
    /// Whether the topic keeps a log of its own; what of it goes away by itself.
    pub retention: Option<RetentionConfig>,
    /// Partitions of the log.
    pub partitions: Option<u32>,
    /// The topic that gets what no binding of this one took.
    pub alternate: Option<String>,
    /// Subject filters that this topic captures; by default its own name and everything below it. An empty list captures nothing.
    pub captures: Option<Vec<String>>,
    /// Durability of its log and of the queues' share of a publish through it.
    pub durability: Option<DurabilityConfig>,
    /// Keep an index of keys: read-by-key, last value, expected versions.
    pub key_index: bool,
    /// Publishers may not use it directly; only other topics feed it. (AMQP's internal exchange.)
    pub internal: bool,
    /// Publishes are also fanned out to live subscriptions that match the message's subject. On unless said otherwise.
    pub live: Option<bool>,
    /// Window in which a message of the same dedup id is taken once.
    pub dedup_window_ms: Option<Millis>,
    /// Largest message body, in bytes.
    pub max_body_bytes: Option<u64>,
    /// The topic goes when the last binding from it is removed, for whatever reason. One that never had a binding stays.
    pub auto_delete: bool,
    /// The definition, and that of bindings from it and to it, is in memory only and gone with the process.
    pub volatile: bool,
    /// What a protocol keeps with the entity and shows again; the broker does not read it.
    pub arguments: BTreeMap<String, serde_json::Value>,
}

/// What a topic's bindings may filter on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RouterConfig {
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
        /// The header that is hashed; the key, or the subject of a message without one, if neither this nor `property` is set.
        header: Option<String>,
        /// The property that is hashed. Not together with `header`.
        #[serde(default)]
        property: Option<HashProperty>,
    },
}

/// A property of messages that a hash is taken of. A message without it goes where all such go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashProperty {
    /// Its id.
    MessageId,
    /// Its correlation id.
    CorrelationId,
    /// When its producer says that it was made.
    Timestamp,
}

/// What of a topic's log goes away by itself. All bounds that are set hold; without any it is kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionConfig {
    /// Age.
    pub max_age_ms: Option<Millis>,
    /// Bytes of the whole topic (shared evenly by its partitions).
    pub max_bytes: Option<u64>,
    /// Records of the whole topic.
    pub max_records: Option<u64>,
    /// Of records with the same key only the last is kept.
    pub compact: bool,
    /// How long a compacted topic keeps a removal (null body) so that readers see it; a day by default.
    pub tombstone_ms: Option<Millis>,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueConfig {
    /// For people.
    pub description: Option<String>,
    /// How long a delivery may stay unsettled. Zero: until its consumer goes.
    pub lease_ms: Option<Millis>,
    /// What follows a failed attempt.
    pub retry: Option<RetryConfig>,
    /// Where messages go that are given up.
    pub dead_letter: Option<DeadLetterConfig>,
    /// Messages of one key one at a time, in order.
    pub keyed: Option<bool>,
    /// Priority levels, 2 to 256.
    pub priority_levels: Option<u16>,
    /// Messages live at most so long.
    pub ttl_ms: Option<Millis>,
    /// Every message waits so long first.
    pub delay_ms: Option<Millis>,
    /// One consumer at a time is served.
    pub single_active: Option<bool>,
    /// Most waiting messages.
    pub max_messages: Option<u64>,
    /// Most waiting bytes.
    pub max_bytes: Option<u64>,
    /// What happens when a bound is passed: `reject` (default), `drop-oldest` or `reject-dead-letter`.
    pub overflow: Option<OverflowConfig>,
    /// Window in which a message of the same dedup id is taken once.
    pub dedup_window_ms: Option<Millis>,
    /// Pause a consumer that fails too often.
    pub breaker: Option<BreakerConfig>,
    /// The queue goes by itself when unused (no consumers, no receive, not declared again) for so long.
    pub expires_ms: Option<Millis>,
    /// The queue goes when its last standing consumer leaves. One that has had none since the process started stays; receives without a
    /// standing consumer do not count.
    pub auto_delete: bool,
    /// In memory only, and gone with the process.
    pub volatile: bool,
    /// Durability of messages and acknowledgements.
    pub durability: Option<DurabilityConfig>,
    /// Push to an HTTP endpoint.
    pub webhook: Option<WebhookConfig>,
    /// What a protocol keeps with the entity and shows again; the broker does not read it.
    pub arguments: BTreeMap<String, serde_json::Value>,
}

/// What follows a failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryConfig {
    /// Deliveries in all; 0 tries for ever. 5 by default.
    pub max_attempts: Option<u32>,
    /// Wait before the second attempt. 1 s by default.
    pub initial_ms: Option<Millis>,
    /// Each further wait is so many times longer. 2 by default.
    pub factor: Option<f64>,
    /// No wait is longer. 5 minutes by default.
    pub cap_ms: Option<Millis>,
    /// Full jitter. On by default.
    pub jitter: Option<bool>,
    /// Error names that are not retried.
    pub non_retryable: Vec<String>,
}

/// Where messages go that are given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadLetterConfig {
    /// Nowhere: they are dropped. Only ever by explicit wish.
    None,
    /// This queue; made if it is missing.
    Queue(String),
    /// Published through this topic.
    Topic {
        /// The topic.
        topic: String,
        /// The subject to publish under; the message's own, and those that it is routed by besides, if not set.
        subject: Option<String>,
        /// Drops what it leads nowhere, also for want of the topic, instead of keeping it. Only ever by explicit wish.
        #[serde(default)]
        or_drop: bool,
    },
    /// Straight into the queues that its subjects name.
    Named {
        /// This queue; those that the message's own subject, and those that it is routed by besides, name if not set.
        subject: Option<String>,
        /// Drops what names no queue instead of keeping it. Only ever by explicit wish.
        #[serde(default)]
        or_drop: bool,
    },
}

impl DeadLetterConfig {
    /// Whether what it leads nowhere, or round in a circle, is dropped instead of kept.
    #[must_use]
    pub const fn drops(&self) -> bool {
        match self {
            Self::None => true,
            Self::Queue(_) => false,
            Self::Topic { or_drop, .. } | Self::Named { or_drop, .. } => *or_drop,
        }
    }
}

/// What happens to a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverflowConfig {
    /// New messages are refused.
    Reject,
    /// The oldest leave.
    DropOldest,
    /// New messages are refused, and what was refused goes where given-up messages go: in the commit of the publish if other queues take it,
    /// or in one of its own. If its place is missing or full it goes nowhere, since its publisher is told of the refusal.
    RejectDeadLetter,
}

/// When a failing consumer is paused.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerConfig {
    /// Share of failures that opens it, above 0 to 1.
    pub failure_ratio: f64,
    /// Settlements looked at.
    pub window: u32,
    /// Pause before a probe.
    pub pause_ms: Millis,
}

/// A push consumer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct WebhookConfig {
    /// Where to POST.
    pub url: String,
    /// Key of the HMAC-SHA256 signature; unsigned if not set. Never shown again.
    #[serde(default)]
    pub secret: Option<String>,
    /// Requests at a time. 8 by default.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// Time for one request. 30 s by default.
    #[serde(default)]
    pub timeout_ms: Option<Millis>,
    /// Headers sent along.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Send CloudEvents (`binary` or `structured`) instead of the native form.
    #[serde(default)]
    pub format: Option<WebhookFormat>,
}

impl fmt::Debug for WebhookConfig {
    /// Leaves out what may be secret: the key, the headers' values, and all of the URL but its origin (many services hand out URLs
    /// whose path is the password).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = url::Url::parse(&self.url).map(|url| url.origin().ascii_serialization());
        f.debug_struct("WebhookConfig")
            .field("origin", &origin.as_deref().unwrap_or(".."))
            .field("signed", &self.secret.is_some())
            .field("concurrency", &self.concurrency)
            .field("timeout_ms", &self.timeout_ms)
            .field("headers", &self.headers.keys())
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// How a message is written into a webhook's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingConfig {
    /// The topic that feeds it.
    pub topic: String,
    /// Where it leads.
    pub target: BindingTarget,
    /// What it lets through.
    pub filter: FilterRecord,
    /// Its share on a consistent-hash topic; 1 by default.
    #[serde(default)]
    pub weight: Option<u32>,
    /// What a protocol keeps with the binding and shows again.
    #[serde(default)]
    pub arguments: BTreeMap<String, serde_json::Value>,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BindingTarget {
    /// A queue, by name.
    Queue(String),
    /// A topic, by name.
    Topic(String),
}

/// A consumer group on a topic's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// The topic whose log it reads.
    pub topic: String,
    /// Where a partition without a committed offset begins.
    #[serde(default)]
    pub start: GroupStart,
    /// How long a member lives without a sign of life. 15 s by default.
    #[serde(default)]
    pub session_ms: Option<Millis>,
}

/// Where a partition without a committed offset begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupStart {
    /// At the oldest record.
    #[default]
    Earliest,
    /// Behind the newest.
    Latest,
}

/// A policy: for all names that fit, defaults (for what a definition leaves open), overrides (whatever it says) and bounds (the lowest
/// of all that is said holds).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyConfig {
    /// [Name pattern](crate::access::NamePattern).
    pub pattern: String,
    /// What it applies to.
    pub applies_to: PolicyScope,
    /// Only to those whose `arguments` have, of each name here, one of these values; `null` stands for an argument that is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only_arguments: BTreeMap<String, Vec<serde_json::Value>>,
    /// Whose policy it is. One of each layer applies to an entity.
    #[serde(default, skip_serializing_if = "PolicyLayer::is_user")]
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
    #[serde(default, skip_serializing_if = "PolicyBounds::is_empty")]
    pub bounds: PolicyBounds,
    /// What a protocol keeps with the policy and shows again; the broker does not read it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, serde_json::Value>,
}

/// What a policy applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyScope {
    /// Queues.
    Queues,
    /// Topics.
    Topics,
    /// Both.
    #[default]
    All,
}

/// Whose policy it is. Each layer has its own names, and one policy of each applies to an entity; where both say something that cannot
/// be merged, the operator's holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyLayer {
    /// Of those who use the namespace.
    #[default]
    User,
    /// Of those who run the broker.
    Operator,
}

impl PolicyLayer {
    /// Whether it is the layer that is meant when none is named.
    #[must_use]
    pub fn is_user(&self) -> bool {
        *self == Self::User
    }
}

/// The most that a policy allows of a queue. Where several bounds, or a bound and a setting, speak of the same, the lowest holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyBounds {
    /// See [`QueueConfig::ttl_ms`].
    pub ttl_ms: Option<Millis>,
    /// See [`QueueConfig::max_messages`].
    pub max_messages: Option<u64>,
    /// See [`QueueConfig::max_bytes`].
    pub max_bytes: Option<u64>,
    /// See [`QueueConfig::expires_ms`].
    pub expires_ms: Option<Millis>,
    /// See [`RetryConfig::max_attempts`].
    pub max_attempts: Option<u32>,
}

impl PolicyBounds {
    /// Whether it bounds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The settings that a policy can give. Those of queues are ignored for topics and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyValues {
    /// See [`QueueConfig::lease_ms`].
    pub lease_ms: Option<Millis>,
    /// See [`QueueConfig::retry`].
    pub retry: Option<RetryConfig>,
    /// See [`QueueConfig::dead_letter`].
    pub dead_letter: Option<DeadLetterConfig>,
    /// See [`QueueConfig::ttl_ms`].
    pub ttl_ms: Option<Millis>,
    /// See [`QueueConfig::delay_ms`].
    pub delay_ms: Option<Millis>,
    /// See [`QueueConfig::single_active`].
    pub single_active: Option<bool>,
    /// See [`QueueConfig::max_messages`].
    pub max_messages: Option<u64>,
    /// See [`QueueConfig::max_bytes`].
    pub max_bytes: Option<u64>,
    /// See [`QueueConfig::overflow`].
    pub overflow: Option<OverflowConfig>,
    /// See [`QueueConfig::dedup_window_ms`]; topics too.
    pub dedup_window_ms: Option<Millis>,
    /// See [`QueueConfig::breaker`].
    pub breaker: Option<BreakerConfig>,
    /// See [`QueueConfig::expires_ms`].
    pub expires_ms: Option<Millis>,
    /// See [`QueueConfig::durability`]; topics too.
    pub durability: Option<DurabilityConfig>,
    /// See [`TopicConfig::retention`].
    pub retention: Option<RetentionConfig>,
    /// See [`TopicConfig::alternate`].
    pub alternate: Option<String>,
    /// See [`TopicConfig::max_body_bytes`].
    pub max_body_bytes: Option<u64>,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserConfig {
    /// What the user proves to be itself with.
    pub credentials: Vec<CredentialRecord>,
    /// May do everything everywhere, users and namespaces included.
    pub admin: bool,
    /// What the user may do, by namespace.
    pub permissions: BTreeMap<String, Permissions>,
    /// For protocols: RabbitMQ's tags and the like.
    pub tags: Vec<String>,
    /// May log in from a loopback address only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub loopback_only: bool,
    /// Bounds on what the user may hold at a time.
    #[serde(skip_serializing_if = "UserLimits::is_empty")]
    pub limits: UserLimits,
}

/// Bounds on what a user may hold at a time, in all namespaces together. `None` is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserLimits {
    /// Long-lived connections.
    pub max_connections: Option<u64>,
    /// Channels: what several users of one connection share it as, where a protocol has that.
    pub max_channels: Option<u64>,
}

impl UserLimits {
    /// Whether there is no bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A verifier of a secret; the secret itself is never kept.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CredentialRecord {
    /// A password, as an argon2id PHC string.
    Argon2 {
        /// The PHC string.
        phc: String,
    },
    /// A password, as other systems hash it: once, with the salt before it. It is taken over with a user who comes from there, and
    /// replaced by the first password that is set here.
    SaltedHash {
        /// Which hash.
        algorithm: HashAlgorithm,
        /// The salt, base64.
        salt: String,
        /// The hash of salt and password, base64.
        hash: String,
    },
    /// An API token: `ph_<id>_<secret>`.
    Token {
        /// The public part, by which it is found.
        id: String,
        /// For people.
        description: String,
        /// SHA-256 of the secret part (32 random bytes need no slow hash), base64.
        sha256: String,
        /// Milliseconds since 1970; no end if not set.
        expires_at: Option<i64>,
    },
}

/// A hash that other systems keep passwords by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl CredentialRecord {
    /// Whether it is a password's. A user has one at most.
    #[must_use]
    pub fn is_password(&self) -> bool {
        matches!(self, Self::Argon2 { .. } | Self::SaltedHash { .. })
    }
}

impl fmt::Debug for CredentialRecord {
    /// Leaves out the hashes: whoever has one can try passwords at their leisure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argon2 { .. } => f.debug_struct("Argon2").finish_non_exhaustive(),
            Self::SaltedHash { algorithm, .. } => {
                f.debug_struct("SaltedHash").field("algorithm", algorithm).finish_non_exhaustive()
            }
            Self::Token { id, description, expires_at, .. } => f
                .debug_struct("Token")
                .field("id", id)
                .field("description", description)
                .field("expires_at", expires_at)
                .finish_non_exhaustive(),
        }
    }
}

/// [Name patterns](crate::access::NamePattern) of what may be configured, written and read. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Create, change, delete.
    pub configure: Vec<String>,
    /// Publish.
    pub write: Vec<String>,
    /// Consume, read, bind from.
    pub read: Vec<String>,
    /// By topic: which of its subjects, where not all. For topics whose bindings filter by subject patterns
    /// ([`RouterConfig::Subject`]); it restricts what `write` and `read` permit, and permits nothing itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<String, SubjectPermissions>,
}

/// Which subjects of a topic a user may publish to and bind with: [name patterns](crate::access::NamePattern), in which `{username}`,
/// `{namespace}` and `{client_id}` stand for those of the session. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectPermissions {
    /// Subjects to publish to.
    pub write: Vec<String>,
    /// Subject patterns to bind with, as they are written.
    pub read: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_before_are_read() {
        let read: DeadLetterConfig = serde_json::from_str(r#"{"topic":{"topic":"t","subject":null}}"#).unwrap();
        assert_eq!(read, DeadLetterConfig::Topic { topic: "t".to_owned(), subject: None, or_drop: false });
        let read: RouterConfig = serde_json::from_str(r#"{"kind":"consistent-hash","header":"h"}"#).unwrap();
        assert_eq!(read, RouterConfig::ConsistentHash { header: Some("h".to_owned()), property: None });
    }
}
