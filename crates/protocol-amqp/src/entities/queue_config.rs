//! What the checked arguments of a queue come to.

use broker::definitions::{DeadLetterConfig, DurabilityConfig, OverflowConfig, QueueConfig, RetryConfig};
use types::{Headers, Value};

use super::arguments::{get, keep};
use super::queue_arguments::{QueueType, integer};
use crate::fault::Fault;

/// How often a quorum queue delivers a message again, unless it says otherwise. RabbitMQ's default.
const DELIVERY_LIMIT: i128 = 20;

/// A classic or quorum queue of these arguments, which were checked.
///
/// # Errors
/// 406 for what cannot be done here.
pub(super) fn config(of: QueueType, arguments: &Headers) -> Result<QueueConfig, Fault> {
    let number = |name: &str| get(arguments, name).and_then(integer).map(clamp);
    let (max_messages, max_bytes) = (number("x-max-length"), number("x-max-length-bytes"));
    Ok(QueueConfig {
        // Until the consumer goes: how long it may take is the session's to watch.
        lease_ms: Some(0),
        retry: Some(retry(of, arguments)),
        dead_letter: Some(dead_letter(arguments)),
        priority_levels: number("x-max-priority").map(|most| u16::try_from(most).unwrap_or(255) + 1).filter(|n| *n > 1),
        ttl_ms: number("x-message-ttl"),
        expires_ms: number("x-expires"),
        single_active: get(arguments, "x-single-active-consumer").map(|value| *value == Value::Bool(true)),
        // RabbitMQ's are as durable for what a publisher calls transient.
        durability: (of == QueueType::Quorum).then_some(DurabilityConfig::Fsync),
        overflow: overflow(arguments)?,
        max_messages,
        max_bytes,
        arguments: keep(arguments)?,
        ..QueueConfig::default()
    })
}

fn clamp(number: i128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A failed delivery is tried again at once. A quorum queue gives a message up that was delivered again too often.
fn retry(of: QueueType, arguments: &Headers) -> RetryConfig {
    let limit = match of {
        QueueType::Quorum => get(arguments, "x-delivery-limit").and_then(integer).unwrap_or(DELIVERY_LIMIT),
        QueueType::Classic | QueueType::Stream => -1,
    };
    let max_attempts = if limit < 0 { 0 } else { u32::try_from(limit + 1).unwrap_or(u32::MAX) };
    RetryConfig { max_attempts: Some(max_attempts), initial_ms: Some(0), jitter: Some(false), ..RetryConfig::default() }
}

/// What an exchange leads nowhere, or is not there for, is dropped.
fn dead_letter(arguments: &Headers) -> DeadLetterConfig {
    let text = |name| get(arguments, name).and_then(Value::as_text).map(str::to_owned);
    let subject = text("x-dead-letter-routing-key");
    match (text("x-dead-letter-exchange"), subject) {
        (None, _) => DeadLetterConfig::None,
        (Some(exchange), subject) if exchange.is_empty() => DeadLetterConfig::Named { subject, or_drop: true },
        (Some(topic), subject) => DeadLetterConfig::Topic { topic, subject, or_drop: true },
    }
}

/// What a full queue does. RabbitMQ's drops the oldest message unless told otherwise, whether the bound is its own or a policy's.
fn overflow(arguments: &Headers) -> Result<Option<OverflowConfig>, Fault> {
    match get(arguments, "x-overflow").and_then(Value::as_text) {
        None => Ok(Some(OverflowConfig::DropOldest)),
        Some("drop-head") => Ok(Some(OverflowConfig::DropOldest)),
        Some("reject-publish") => Ok(Some(OverflowConfig::Reject)),
        Some("reject-publish-dlx") => Ok(Some(OverflowConfig::RejectDeadLetter)),
        Some(other) => Err(Fault::precondition_failed(format!("x-overflow '{other}' is not supported"))),
    }
}
