//! Every bound on foreign input and on our own buffers, by name. An error that refuses something names the limit.

use std::time::Duration;

/// Longest name of a topic, queue, group, namespace, policy or user, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest subject or subject pattern, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 4096;
/// Most subjects that one message is routed by besides its own.
pub const MAX_ALSO_SUBJECTS: usize = 256;
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
/// Longest name pattern of a permission or policy, in bytes.
pub const MAX_NAME_PATTERN_BYTES: usize = 1024;
/// Longest name pattern that is a regular expression, in bytes: those of other systems list names.
pub const MAX_REGEX_BYTES: usize = 16 * 1024;
/// Most memory that a regular expression may take once it is compiled, in bytes.
pub const MAX_REGEX_COMPILED_BYTES: usize = 1024 * 1024;
/// Memory that a search with a regular expression keeps to be fast, in bytes; a search that needs more goes on slower.
pub const REGEX_CACHE_BYTES: usize = 256 * 1024;
/// Most topics of a namespace whose subjects are restricted for one user.
pub const MAX_SUBJECT_PERMISSIONS: usize = 256;
/// Longest client id of a session, in bytes.
pub const MAX_CLIENT_ID_BYTES: usize = 4096;
/// Longest salt of a password hash that comes from elsewhere, in bytes.
pub const MAX_SALT_BYTES: usize = 64;
/// Longest description, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 4096;
/// Longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Longest API token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 256;
/// Most credentials of one user; of passwords a user has one at most.
pub const MAX_CREDENTIALS: usize = 256;
/// Most name patterns of one permission.
pub const MAX_PERMISSION_PATTERNS: usize = 256;
/// Most namespaces that one user has permissions in.
pub const MAX_PERMISSION_NAMESPACES: usize = 1024;
/// Most tags of one user.
pub const MAX_TAGS: usize = 64;
/// Most memory that a stored password hash may ask for to be checked, in KiB.
pub const MAX_HASH_MEMORY_KIB: u32 = 128 * 1024;
/// Most passes that a stored password hash may ask for to be checked.
pub const MAX_HASH_PASSES: u32 = 16;
/// Most lanes that a stored password hash may ask for to be checked.
pub const MAX_HASH_LANES: u32 = 16;
/// Password hashes computed at a time. Two leave cores to the messages, and one slow login does not stop all others.
pub const MAX_HASHES_AT_ONCE: usize = 2;
/// Logins that wait for a hash at a time: a few seconds' work.
pub const MAX_HASHES_WAITING: usize = 128;
/// Most successful password checks remembered.
pub const MAX_AUTH_CACHE_ENTRIES: usize = 4096;
/// Longest time span of a definition that is no lease or window (time to live, delay, age, backoff), in milliseconds: ten years.
pub const MAX_SPAN_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
/// Longest lease of a delivery, in milliseconds: a week. No lease at all is allowed too.
pub const MAX_LEASE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Longest dedup window, in milliseconds: a week.
pub const MAX_DEDUP_WINDOW_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Highest factor between one retry's wait and the next.
pub const MAX_RETRY_FACTOR: f64 = 100.0;
/// Most error names that a queue does not retry.
pub const MAX_NON_RETRYABLE: usize = 64;
/// Most priority levels of a queue: one for each priority of a message.
pub const MAX_PRIORITY_LEVELS: u16 = MAX_PRIORITY as u16 + 1;
/// Most settlements that a circuit breaker looks at.
pub const MAX_BREAKER_WINDOW: u32 = 10_000;
/// Longest pause of a circuit breaker before its first probe, in milliseconds: a day.
pub const MAX_BREAKER_PAUSE_MS: u64 = 24 * 60 * 60 * 1000;
/// Most subject filters that one topic captures.
pub const MAX_CAPTURES: usize = 256;
/// Most arguments that a protocol keeps with an entity.
pub const MAX_ARGUMENTS: usize = 256;
/// All arguments of an entity together, in bytes of JSON.
pub const MAX_ARGUMENTS_BYTES: usize = 64 * 1024;
/// Highest weight of a binding.
pub const MAX_BINDING_WEIGHT: u32 = 256;
/// Shortest time that a group's member may be given to live without a sign of life, in milliseconds.
pub const MIN_GROUP_SESSION_MS: u64 = 100;
/// Longest time that a group's member may be given to live without a sign of life, in milliseconds: an hour.
pub const MAX_GROUP_SESSION_MS: u64 = 60 * 60 * 1000;
/// Longest URL of a webhook, in bytes.
pub const MAX_URL_BYTES: usize = 4096;
/// Most requests of a webhook at a time.
pub const MAX_WEBHOOK_CONCURRENCY: u32 = 256;
/// Longest time for one request of a webhook, in milliseconds: ten minutes.
pub const MAX_WEBHOOK_TIMEOUT_MS: u64 = 10 * 60 * 1000;
/// Most headers that a webhook sends along.
pub const MAX_WEBHOOK_HEADERS: usize = 64;
/// Longest value of a header that a webhook sends along, in bytes.
pub const MAX_WEBHOOK_HEADER_BYTES: usize = 8 * 1024;
/// Longest key of a webhook's signature, in bytes.
pub const MAX_WEBHOOK_SECRET_BYTES: usize = 1024;
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
/// Most subject patterns that one topic captures.
pub const MAX_TOPIC_CAPTURES: usize = 64;
/// Header names that begin so are Posthouse's own.
pub const RESERVED_HEADER_PREFIX: &str = "ph-";
/// Most deliveries of one queue that are out at a time; no more are handed out until some are settled or their leases run out.
pub const MAX_IN_FLIGHT: usize = 1_000_000;
/// Most messages of one receive or browse.
pub const MAX_RECEIVE_MESSAGES: usize = 1_000;
/// Longest wait of one receive, read or fetch.
pub const MAX_RECEIVE_WAIT: std::time::Duration = std::time::Duration::from_secs(60);
/// Longest lease of a delivery.
pub const MAX_LEASE: std::time::Duration = std::time::Duration::from_secs(12 * 60 * 60);
