//! Topics and bindings.

use types::SubjectPattern;
use types::limits::{MAX_BINDING_WEIGHT, MAX_CAPTURES, MAX_PARTITIONS, MAX_SPAN_MS};

use super::{
    Checked, arguments, at_most_items, body_bound, dedup_window, description, in_range, invalid, name, within,
};
use crate::definitions::{BindingConfig, BindingTarget, DurabilityConfig, RetentionConfig, RouterConfig, TopicConfig};

/// Checks a topic's definition.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_topic(config: &TopicConfig) -> Checked {
    description(&config.description)?;
    if let RouterConfig::ConsistentHash { header: Some(header), property } = &config.router {
        name("router.header", header)?;
        if property.is_some() {
            return Err(invalid("router.property", "a hash is taken of a header or of a property; leave one out"));
        }
    }
    if let Some(retention) = &config.retention {
        within("retention", validate_retention(retention))?;
    }
    in_range("partitions", config.partitions, 1..=MAX_PARTITIONS, "")?;
    if let Some(alternate) = &config.alternate {
        name("alternate", alternate)?;
    }
    let captures = config.captures.as_deref().unwrap_or_default();
    at_most_items("captures", captures.len(), MAX_CAPTURES)?;
    for capture in captures {
        let fix = |error| invalid("captures", format!("{capture:?}: {error}"));
        SubjectPattern::parse(capture).map_err(fix)?;
    }
    if config.volatile && config.retention.is_some() && config.durability != Some(DurabilityConfig::Memory) {
        let why = "a volatile topic is gone with the process, and its log with it; set durability to \"memory\", or leave retention out";
        return Err(invalid("retention", why));
    }
    dedup_window(config.dedup_window_ms)?;
    body_bound(config.max_body_bytes)?;
    arguments(&config.arguments)
}

/// Checks what of a topic's log goes away by itself.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_retention(config: &RetentionConfig) -> Checked {
    in_range("max_age_ms", config.max_age_ms, 1..=MAX_SPAN_MS, ", or leave it out to keep for ever")?;
    in_range("max_bytes", config.max_bytes, 1..=u64::MAX, ", or leave it out for no bound")?;
    in_range("max_records", config.max_records, 1..=u64::MAX, ", or leave it out for no bound")?;
    in_range("tombstone_ms", config.tombstone_ms, 0..=MAX_SPAN_MS, "")?;
    if config.tombstone_ms.is_some() && !config.compact {
        return Err(invalid("tombstone_ms", "only a compacted topic has removals; set compact too, or leave it out"));
    }
    Ok(())
}

/// Checks a binding, but for its filter, which is checked where it is read.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_binding(config: &BindingConfig) -> Checked {
    ends(&config.topic, &config.target)?;
    weight(config.weight)?;
    arguments(&config.arguments)
}

pub(super) fn ends(topic: &str, target: &BindingTarget) -> Checked {
    name("topic", topic)?;
    match target {
        BindingTarget::Queue(queue) => name("target.queue", queue),
        BindingTarget::Topic(topic) => name("target.topic", topic),
    }
}

pub(super) fn weight(weight: Option<u32>) -> Checked {
    in_range("weight", weight, 1..=MAX_BINDING_WEIGHT, "")
}
