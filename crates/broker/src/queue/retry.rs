//! What follows a failed attempt, and what is remembered of failures.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use types::{Offset, Timestamp};

use super::{History, LeaveReason, RetryRecord, RetryRules};

/// What a failure leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Try again after this wait.
    Again(Duration),
    /// Give the message up.
    GiveUp(LeaveReason),
}

/// The failures of a message that is still here. Kept until it leaves, so that attempts go on counting.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    pub(super) history: History,
    pub(super) key: Option<u64>,
    /// When it was, or is, due again.
    pub(super) due: Timestamp,
}

/// Different reasons remembered, so that many messages that fail for the same one share its text.
const REASONS: usize = 16;

/// The last reasons that were given for failures, the latest last.
#[derive(Debug, Default)]
pub(super) struct Reasons(VecDeque<Arc<str>>);

impl Reasons {
    /// The same text, shared with those before.
    pub(super) fn share(&mut self, reason: Arc<str>) -> Arc<str> {
        if let Some(known) = self.0.iter().rev().find(|known| **known == reason) {
            return Arc::clone(known);
        }
        if self.0.len() >= REASONS {
            self.0.pop_front();
        }
        self.0.push_back(Arc::clone(&reason));
        reason
    }
}

impl Failure {
    pub(super) fn record(&self, offset: u64) -> RetryRecord {
        RetryRecord { offset: Offset(offset), key: self.key, due: self.due, history: self.history.clone() }
    }
}

impl RetryRules {
    /// What follows, when `failed` attempts have failed (this one included if it counts).
    pub(super) fn verdict(&self, failed: u32, counts: bool, error: Option<&str>, rng: &mut fastrand::Rng) -> Verdict {
        if error.is_some_and(|error| self.is_final(error)) {
            return Verdict::GiveUp(LeaveReason::NonRetryable);
        }
        if counts && self.max_attempts.is_some_and(|max| failed >= max) {
            return Verdict::GiveUp(LeaveReason::MaxAttempts);
        }
        let longest = self.backoff(failed.max(1));
        Verdict::Again(if self.jitter { Duration::from_millis(rng.u64(0..=whole_ms(longest))) } else { longest })
    }

    /// The longest wait after so many failed attempts: `initial * factor ^ (failed - 1)`, at most the cap.
    pub(super) fn backoff(&self, failed: u32) -> Duration {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.factor.powi(exponent);
        // Infinite, or not a number: as long as allowed.
        Duration::try_from_secs_f64(seconds).unwrap_or(self.cap).min(self.cap)
    }

    /// Whether the reason is one that is not retried: the whole of it, or its name in "name: detail".
    fn is_final(&self, error: &str) -> bool {
        let name = error.split_once(':').map_or(error, |(name, _)| name.trim());
        self.non_retryable.iter().any(|reason| &**reason == error || &**reason == name)
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

impl History {
    /// Adds a failed attempt.
    pub(super) fn fail(&mut self, at: Timestamp, error: Option<Arc<str>>) {
        self.attempts = self.attempts.saturating_add(1);
        self.first_failed.get_or_insert(at);
        self.last_failed = Some(at);
        if error.is_some() {
            self.last_error = error;
        }
    }
}
