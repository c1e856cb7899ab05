//! Whether a definition makes sense, before it is stored. Every message says what would be right.

mod access;
mod queue;
#[cfg(test)]
mod tests;
mod topic;
mod webhook;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use types::check_name;
use types::limits::{
    MAX_ARGUMENTS, MAX_ARGUMENTS_BYTES, MAX_BODY_BYTES, MAX_DEDUP_WINDOW_MS, MAX_DESCRIPTION_BYTES,
    MAX_GROUP_SESSION_MS, MAX_SPAN_MS, MIN_GROUP_SESSION_MS,
};

use crate::access::NamePattern;
use crate::definitions::{GroupConfig, NamespaceConfig, PolicyBounds, PolicyConfig, PolicyValues, Quota};
use crate::errors::DeclareError;

pub use access::{validate_permissions, validate_user};
pub use queue::{validate_breaker, validate_dead_letter, validate_queue, validate_retry};
pub use topic::{validate_binding, validate_retention, validate_topic};
pub use webhook::validate_webhook;

type Checked = Result<(), DeclareError>;

pub(crate) fn invalid(field: impl Into<String>, why: impl Into<String>) -> DeclareError {
    DeclareError::Invalid { field: field.into(), why: why.into() }
}

/// Puts the field's path in front of what a part found.
fn within(path: &str, checked: Checked) -> Checked {
    checked.map_err(|error| match error {
        DeclareError::Invalid { field, why } if field.is_empty() => invalid(path, why),
        DeclareError::Invalid { field, why } => invalid(format!("{path}.{field}"), why),
        other => other,
    })
}

/// Checks that a number, if there is one, lies in a range. `hint` ends the message and may be empty.
fn in_range<T: PartialOrd + Display>(field: &str, value: Option<T>, range: RangeInclusive<T>, hint: &str) -> Checked {
    match value {
        Some(value) if !range.contains(&value) => {
            Err(invalid(field, format!("{value} is not possible; use {} to {}{hint}", range.start(), range.end())))
        }
        _ => Ok(()),
    }
}

fn at_most_bytes(field: &str, text: &str, max: usize) -> Checked {
    if text.len() > max {
        return Err(invalid(field, format!("it has {} bytes; at most {max} are allowed", text.len())));
    }
    Ok(())
}

fn at_most_items(field: &str, count: usize, max: usize) -> Checked {
    if count > max {
        return Err(invalid(field, format!("there are {count}; at most {max} are allowed")));
    }
    Ok(())
}

fn name(field: &str, value: &str) -> Checked {
    check_name(value).map_err(|error| invalid(field, error.to_string()))
}

fn description(value: &Option<String>) -> Checked {
    value.as_deref().map_or(Ok(()), |text| at_most_bytes("description", text, MAX_DESCRIPTION_BYTES))
}

fn arguments(value: &BTreeMap<String, serde_json::Value>) -> Checked {
    at_most_items("arguments", value.len(), MAX_ARGUMENTS)?;
    // A map of JSON values can always be written as JSON.
    let len_bytes = serde_json::to_string(value).map_or(usize::MAX, |text| text.len());
    if len_bytes > MAX_ARGUMENTS_BYTES {
        let why = format!("they take {len_bytes} bytes of JSON; at most {MAX_ARGUMENTS_BYTES} are allowed");
        return Err(invalid("arguments", why));
    }
    Ok(())
}

fn dedup_window(value: Option<u64>) -> Checked {
    in_range("dedup_window_ms", value, 0..=MAX_DEDUP_WINDOW_MS, "; 0 is none")
}

fn body_bound(value: Option<u64>) -> Checked {
    in_range("max_body_bytes", value, 1..=MAX_BODY_BYTES as u64, "")
}

/// Checks a namespace's definition.
///
/// # Errors
/// [`DeclareError::Invalid`].
pub fn validate_namespace(config: &NamespaceConfig) -> Checked {
    description(&config.description)?;
    within("quota", validate_quota(&config.quota))
}

/// Checks the bounds on a namespace. Zero is a bound too: it allows none.
///
/// # Errors
/// [`DeclareError::Invalid`].
pub fn validate_quota(quota: &Quota) -> Checked {
    body_bound(quota.max_body_bytes)
}

/// Checks a group's definition.
///
/// # Errors
/// [`DeclareError::Invalid`].
pub fn validate_group(config: &GroupConfig) -> Checked {
    name("topic", &config.topic)?;
    in_range("session_ms", config.session_ms, MIN_GROUP_SESSION_MS..=MAX_GROUP_SESSION_MS, "")
}

/// Checks a policy.
///
/// # Errors
/// [`DeclareError::Invalid`].
pub fn validate_policy(config: &PolicyConfig) -> Checked {
    NamePattern::new(&config.pattern).map_err(|error| invalid("pattern", error.to_string()))?;
    arguments(&config.arguments)?;
    within("only_arguments", only_arguments(&config.only_arguments))?;
    within("bounds", policy_bounds(&config.bounds))?;
    within("defaults", policy_values(&config.defaults))?;
    within("overrides", policy_values(&config.overrides))
}

fn only_arguments(wanted: &BTreeMap<String, Vec<serde_json::Value>>) -> Checked {
    at_most_items("", wanted.len(), MAX_ARGUMENTS)?;
    wanted.iter().try_for_each(|(name, values)| match values.len() {
        0 => Err(invalid(name, "it lists no value, so nothing would fit; name one, or `null` for none")),
        count => at_most_items(name, count, MAX_ARGUMENTS),
    })
}

fn policy_bounds(bounds: &PolicyBounds) -> Checked {
    in_range("ttl_ms", bounds.ttl_ms, 0..=MAX_SPAN_MS, "")?;
    in_range("expires_ms", bounds.expires_ms, 1..=MAX_SPAN_MS, "")?;
    in_range("max_attempts", bounds.max_attempts, 1..=u32::MAX, "")
}

fn policy_values(values: &PolicyValues) -> Checked {
    queue::spans(values.lease_ms, values.ttl_ms, values.delay_ms, values.expires_ms)?;
    if let Some(retry) = &values.retry {
        within("retry", validate_retry(retry))?;
    }
    if let Some(dead_letter) = &values.dead_letter {
        within("dead_letter", validate_dead_letter(dead_letter))?;
    }
    if let Some(breaker) = &values.breaker {
        within("breaker", validate_breaker(breaker))?;
    }
    if let Some(retention) = &values.retention {
        within("retention", validate_retention(retention))?;
    }
    if let Some(alternate) = &values.alternate {
        name("alternate", alternate)?;
    }
    dedup_window(values.dedup_window_ms)?;
    body_bound(values.max_body_bytes)
}
