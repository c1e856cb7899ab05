//! Tests of the queue's state machine.

mod examples;
mod memory;
mod model;
mod random;
mod runs;

use std::time::Duration;

use types::{Monotonic, Now, Offset, Timestamp};

use super::*;

/// Rules that do nothing special.
pub(super) fn plain() -> QueueRules {
    QueueRules {
        lease: Some(Duration::from_secs(30)),
        retry: RetryRules {
            max_attempts: Some(3),
            initial: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(60),
            jitter: false,
            non_retryable: Vec::new(),
        },
        has_dead_letter: true,
        keyed: false,
        priority_levels: 1,
        ttl: None,
        delay: None,
        single_active: false,
        max_messages: None,
        max_bytes: None,
        overflow: Overflow::Reject,
        breaker: None,
        max_in_flight: usize::MAX,
        window: 1000,
        window_bytes: 1 << 20,
    }
}

pub(super) const CONSUMER: ConsumerRules =
    ConsumerRules { exclusive: false, priority: 0, lease: None, auto_ack: false };

pub(super) fn at(ms: i64) -> Now {
    Now { wall: Timestamp(1_000_000 + ms), mono: Monotonic(u64::try_from(ms).unwrap_or(0) * 1_000_000) }
}

pub(super) fn message(offset: u64, now: Now) -> Arrival<u64> {
    Arrival {
        offset: Offset(offset),
        key: None,
        priority: 0,
        arrived: now.wall,
        not_before: None,
        expires_at: None,
        weight: 10,
        payload: Some(offset),
    }
}

/// Answers a page request from the live records.
pub(super) fn read(
    log: &std::collections::BTreeMap<u64, Arrival<u64>>,
    request: &PageRequest,
    most: usize,
) -> (Vec<Arrival<u64>>, Offset) {
    match request {
        PageRequest::From { from, before, records } => {
            let most = most.min(*records).max(1);
            let found: Vec<_> = log.range(from.0..before.0).take(most).map(|(_, record)| record.clone()).collect();
            let end =
                if found.len() < most { *before } else { found.last().map_or(*before, |last| last.offset.next()) };
            (found, end)
        }
        PageRequest::Exactly(offsets) => {
            let looked = &offsets[..most.max(1).min(offsets.len())];
            let found = looked.iter().filter_map(|offset| log.get(&offset.0).cloned()).collect();
            (found, looked.last().map_or(Offset::ZERO, |last| last.next()))
        }
    }
}
