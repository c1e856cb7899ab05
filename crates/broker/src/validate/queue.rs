//! Queues.

use types::limits::{
    MAX_BREAKER_PAUSE_MS, MAX_BREAKER_WINDOW, MAX_LEASE_MS, MAX_NAME_BYTES, MAX_NON_RETRYABLE, MAX_PRIORITY_LEVELS,
    MAX_RETRY_FACTOR, MAX_SPAN_MS, MAX_SUBJECT_BYTES,
};

use super::validate_webhook;
use super::{
    Checked, arguments, at_most_bytes, at_most_items, dedup_window, description, in_range, invalid, name, within,
};
use crate::definitions::{BreakerConfig, DeadLetterConfig, DurabilityConfig, Millis, QueueConfig, RetryConfig};

/// Checks a queue's definition.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_queue(config: &QueueConfig) -> Checked {
    description(&config.description)?;
    spans(config.lease_ms, config.ttl_ms, config.delay_ms, config.expires_ms)?;
    dedup_window(config.dedup_window_ms)?;
    in_range("priority_levels", config.priority_levels, 2..=MAX_PRIORITY_LEVELS, ", or leave it out for none")?;
    if let Some(retry) = &config.retry {
        within("retry", validate_retry(retry))?;
    }
    if let Some(dead_letter) = &config.dead_letter {
        within("dead_letter", validate_dead_letter(dead_letter))?;
    }
    if let Some(breaker) = &config.breaker {
        within("breaker", validate_breaker(breaker))?;
    }
    if let Some(webhook) = &config.webhook {
        within("webhook", validate_webhook(webhook))?;
    }
    if config.auto_delete && config.webhook.is_some() {
        let why =
            "the broker is the consumer of a queue that is pushed, and leaves whenever it stops; leave one of both out";
        return Err(invalid("auto_delete", why));
    }
    if config.volatile && config.durability.is_some_and(|durability| durability != DurabilityConfig::Memory) {
        return Err(invalid("durability", "a volatile queue is in memory only; use \"memory\", or leave it out"));
    }
    arguments(&config.arguments)
}

/// The time spans that definitions and policies share.
pub(super) fn spans(
    lease_ms: Option<Millis>,
    ttl_ms: Option<Millis>,
    delay_ms: Option<Millis>,
    expires_ms: Option<Millis>,
) -> Checked {
    in_range("lease_ms", lease_ms, 0..=MAX_LEASE_MS, "; 0 is until the consumer goes")?;
    in_range("ttl_ms", ttl_ms, 0..=MAX_SPAN_MS, ", or leave it out for no end")?;
    in_range("delay_ms", delay_ms, 0..=MAX_SPAN_MS, "; 0 is none")?;
    in_range("expires_ms", expires_ms, 0..=MAX_SPAN_MS, "; 0 is never")
}

/// Checks what follows a failed attempt.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_retry(config: &RetryConfig) -> Checked {
    in_range("initial_ms", config.initial_ms, 0..=MAX_SPAN_MS, "; 0 retries at once")?;
    in_range("cap_ms", config.cap_ms, 0..=MAX_SPAN_MS, "")?;
    if let (Some(initial), Some(cap)) = (config.initial_ms, config.cap_ms)
        && initial > cap
    {
        let why = format!("it is below initial_ms, which is {initial}; use at least that");
        return Err(invalid("cap_ms", why));
    }
    in_range("factor", config.factor, 1.0..=MAX_RETRY_FACTOR, "; 1 keeps all waits alike")?;
    at_most_items("non_retryable", config.non_retryable.len(), MAX_NON_RETRYABLE)?;
    for error in &config.non_retryable {
        if error.is_empty() {
            return Err(invalid("non_retryable", "an error's name is empty; leave it out, or name the error"));
        }
        at_most_bytes("non_retryable", error, MAX_NAME_BYTES)?;
    }
    Ok(())
}

/// Checks where messages go that are given up.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_dead_letter(config: &DeadLetterConfig) -> Checked {
    match config {
        DeadLetterConfig::None => Ok(()),
        DeadLetterConfig::Queue(queue) => name("queue", queue),
        DeadLetterConfig::Topic { topic, subject, .. } => {
            name("topic", topic)?;
            subject.as_deref().map_or(Ok(()), |subject| at_most_bytes("subject", subject, MAX_SUBJECT_BYTES))
        }
        DeadLetterConfig::Named { subject, .. } => {
            subject.as_deref().map_or(Ok(()), |subject| name("subject", subject))
        }
    }
}

/// Checks when a failing consumer is paused.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_breaker(config: &BreakerConfig) -> Checked {
    // Written so that NaN, which compares with nothing, is refused.
    if !(config.failure_ratio > 0.0 && config.failure_ratio <= 1.0) {
        let why = format!("{} is no share of failures; use a number above 0, up to 1", config.failure_ratio);
        return Err(invalid("failure_ratio", why));
    }
    in_range("window", Some(config.window), 1..=MAX_BREAKER_WINDOW, "")?;
    in_range("pause_ms", Some(config.pause_ms), 1..=MAX_BREAKER_PAUSE_MS, "")
}
