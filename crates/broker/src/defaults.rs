//! What holds where neither a definition nor a policy nor the namespace says anything. The one place for it.
//!
//! | setting | default |
//! |---|---|
//! | lease | [`LEASE`] |
//! | attempts, then the dead letter | [`MAX_ATTEMPTS`] |
//! | backoff | [`RETRY_INITIAL`], times [`RETRY_FACTOR`] each time, at most [`RETRY_CAP`] (or the first wait, if that is longer), full jitter |
//! | dead letters go to | the queue `<name>.dlq`; see [`dead_letter`] |
//! | per-key order, single active consumer | off |
//! | priority levels | 1, which is none |
//! | time to live, delay, bounds, dedup window, expiry of the queue | none |
//! | breaker | none; [`PUSH_BREAKER`] for a queue that is pushed to an endpoint |
//! | a full queue | refuses |
//! | durability | fsync; memory for a volatile queue |
//! | entries and bytes of a queue in memory | [`WINDOW`], [`WINDOW_BYTES`]; of all queues [`WINDOWS_BYTES`] |
//! | largest body | [`MAX_BODY_BYTES`] |
//!
//! In milliseconds, 0 says "none" where that makes sense, so that a definition can refuse a policy's default and an override can
//! switch off: of a lease, a delay, a dedup window and a queue's expiry. So does 0 of attempts: no end.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use types::limits::{DEFAULT_MAX_BODY_BYTES, MAX_NAME_BYTES};

use crate::definitions::{BreakerConfig, DeadLetterConfig};

/// How long a delivery may stay unsettled.
pub const LEASE: Duration = Duration::from_secs(30);
/// Deliveries in all.
pub const MAX_ATTEMPTS: u32 = 5;
/// Wait before the second attempt.
pub const RETRY_INITIAL: Duration = Duration::from_secs(1);
/// Each further wait is so many times longer.
pub const RETRY_FACTOR: f64 = 2.0;
/// No wait is longer.
pub const RETRY_CAP: Duration = Duration::from_secs(5 * 60);
/// Whether waits are random parts of themselves.
pub const RETRY_JITTER: bool = true;
/// Priority levels: none.
pub const PRIORITY_LEVELS: u16 = 1;
/// Pauses the push consumer of a queue: an endpoint that is down would otherwise use up the attempts of every message. It looks for an
/// endpoint that fails nearly always, as one that is down does; single bad messages do not open it.
pub const PUSH_BREAKER: BreakerConfig = BreakerConfig { failure_ratio: 0.8, window: 10, pause_ms: 5_000 };
/// Entries of a queue that are held in memory.
pub const WINDOW: usize = 32 * 1024;
/// Bytes of messages of a queue that are held in memory.
pub const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of messages that all queues together hold in memory. Beyond, each takes in a small part of its own bound, and reads the rest from
/// the log as it is delivered.
pub const WINDOWS_BYTES: u64 = 128 * 1024 * 1024;
/// Largest message body, in bytes.
pub const MAX_BODY_BYTES: u64 = DEFAULT_MAX_BODY_BYTES as u64;
/// How long a successful password check is remembered.
pub const AUTH_CACHE: Duration = Duration::from_secs(60);
/// What the name of a dead-letter queue ends in.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";

/// Where a queue's given-up messages go: to `<name>.dlq`. A queue whose own name ends so is where they end up: it has no further
/// place, and tries for ever rather than drop.
///
/// A name too long for the suffix is cut, and a hash of the whole keeps the cut ones of different queues apart.
#[must_use]
pub fn dead_letter(queue: &str) -> DeadLetterConfig {
    if queue.ends_with(DEAD_LETTER_SUFFIX) {
        return DeadLetterConfig::None;
    }
    let whole = format!("{queue}{DEAD_LETTER_SUFFIX}");
    if whole.len() <= MAX_NAME_BYTES {
        return DeadLetterConfig::Queue(whole);
    }
    let mark: String = Sha256::digest(queue).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let room = MAX_NAME_BYTES - DEAD_LETTER_SUFFIX.len() - 1 - mark.len();
    let cut = queue.get(..queue.floor_char_boundary(room)).unwrap_or_default();
    DeadLetterConfig::Queue(format!("{cut}~{mark}{DEAD_LETTER_SUFFIX}"))
}
