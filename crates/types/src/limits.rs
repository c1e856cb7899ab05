//! Every bound on foreign input and on our own buffers, by name. An error that refuses something names the limit.

use std::time::Duration;

/// Longest name of a topic, queue, group, namespace, policy or user, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest subject or subject pattern, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 4096;
/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 32 * 1024;
/// Longest message id, correlation id, reply-to, dedup id or content type, in bytes.
pub const MAX_PROPERTY_BYTES: usize = 4096;
/// Most headers of one message.
pub const MAX_HEADERS: usize = 1024;
/// All header names and values of one message together, in bytes.
pub const MAX_HEADERS_BYTES: usize = 256 * 1024;
/// Deepest nesting of a header value's lists and maps.
pub const MAX_VALUE_DEPTH: usize = 16;
/// Default bound on a message's body, in bytes; a namespace or topic may set a lower one.
pub const DEFAULT_MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Highest bound on a message's body that can be configured, in bytes.
pub const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;
/// Most messages of one publish call.
pub const MAX_PUBLISH_MESSAGES: usize = 10_000;
/// All messages of one publish call together, in bytes.
pub const MAX_PUBLISH_BYTES: usize = 160 * 1024 * 1024;
/// Most partitions of a topic.
pub const MAX_PARTITIONS: u32 = 1024;
/// Highest priority of a message in a queue that declares priorities.
pub const MAX_PRIORITY: u8 = 255;
/// Most conditions (leaves and combinators) of one filter.
pub const MAX_FILTER_NODES: usize = 256;
/// Deepest nesting of a filter: combinators, and `anything-but` within `anything-but`.
pub const MAX_FILTER_DEPTH: usize = 16;
/// Longest text or bytes within a filter (header name, wanted value, prefix, ...), in bytes.
pub const MAX_FILTER_VALUE_BYTES: usize = 4096;
/// Most names of a path into a JSON body.
pub const MAX_FILTER_PATH: usize = 32;
/// Largest body that filters look into, in bytes; a larger one has no fields for them.
pub const MAX_FILTER_BODY_BYTES: usize = 1024 * 1024;
/// Most words of a subject pattern.
pub const MAX_PATTERN_WORDS: usize = 256;
/// Most topics that one publish may pass through by topic → topic bindings.
pub const MAX_ROUTE_TOPICS: usize = 256;
/// Most members of one group.
pub const MAX_GROUP_MEMBERS: usize = 4096;
/// Longest text beside a committed offset, in bytes.
pub const MAX_COMMIT_METADATA_BYTES: usize = 4096;
/// Durable batches of a producer that are remembered: as many as a Kafka producer has in flight at most.
pub const PRODUCER_BATCHES: usize = 5;
/// Most batches of a producer that are being written at once.
pub const MAX_PRODUCER_PENDING: usize = 256;
/// Most producers that are remembered for one log; beyond it the one heard from least lately is forgotten.
pub const MAX_PRODUCERS: usize = 10_000;
/// A producer that was not heard from for so long is forgotten.
pub const PRODUCER_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
/// Most ids of one dedup window, unless its definition says otherwise.
pub const DEFAULT_DEDUP_CAPACITY: usize = 1_000_000;
/// Longest dedup window.
pub const MAX_DEDUP_WINDOW: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Heaviest binding of a topic that spreads by consistent hash.
pub const MAX_BINDING_WEIGHT: u32 = 256;
/// Most subject patterns that one topic captures.
pub const MAX_TOPIC_CAPTURES: usize = 64;
/// Header names that begin so are Posthouse's own.
pub const RESERVED_HEADER_PREFIX: &str = "ph-";
