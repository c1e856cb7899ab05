//! Every bound of push consumers that is not a setting, by name.

use std::time::Duration;

/// Requests of a webhook at a time, if its definition says nothing.
pub const CONCURRENCY: usize = 8;
/// Time for one request, from the first look at its name to the head of the answer, if its definition says nothing.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest part of that for reaching the endpoint: name, TCP and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer than a request may take its message is leased for: time to end the delivery on a busy disk.
pub const SETTLE_MARGIN: Duration = Duration::from_secs(30);
/// Longest wait that an endpoint can ask for by `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// Bytes of an answer's body that are read, and thrown away, so that its connection can be used again.
pub const MAX_ANSWER_BODY_BYTES: usize = 64 * 1024;
/// Longest time for that.
pub const ANSWER_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// One request header made of a message, in bytes. A longer one is left out.
pub const MAX_MADE_HEADER_BYTES: usize = 4 * 1024;
/// All request headers made of a message together, in bytes: many servers take 8 KiB at most, with all others. What is beyond is
/// left out.
pub const MAX_MADE_HEADERS_BYTES: usize = 6 * 1024;
/// Longest `webhook-id` that is the message's own id; a hash stands for a longer one.
pub const MAX_WEBHOOK_ID_BYTES: usize = 256;
/// Longest error text that goes into a message's history, in bytes.
pub const MAX_ERROR_BYTES: usize = 512;
/// Most bytes of messages that a worker takes at a time; one message is taken even if it weighs more.
pub const MAX_TAKEN_BYTES: u64 = 32 * 1024 * 1024;
/// Idle connections that are kept to one endpoint.
pub const IDLE_CONNECTIONS: usize = 8;
/// How long an idle connection is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before a worker that could not read its queue tries again.
pub const WORKER_RETRY: Duration = Duration::from_secs(1);
/// After a change of definitions, how long further ones are waited for before all are looked at: a script that makes a thousand
/// queues should not have them looked through a thousand times.
pub const CHANGES_SETTLE: Duration = Duration::from_millis(10);
