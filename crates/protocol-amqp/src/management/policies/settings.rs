//! What a policy's definition says, as the broker's settings.

use broker::definitions::{DeadLetterConfig, OverflowConfig, PolicyConfig, RetentionConfig, RetryConfig};
use serde_json::{Map, Value as Json, json};

use crate::entities::queue_arguments::max_age_ms;
use crate::management::input::Body;
use crate::management::refusal::Refusal;

/// Settings of clusters, and of how files are laid out: there is one node, and one way. They are kept and shown, as the arguments are.
const NOTHING_FOLLOWS: &[&str] = &[
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-sync-batch-size",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
    "queue-mode",
    "queue-version",
    "queue-master-locator",
    "queue-leader-locator",
    "stream-max-segment-size-bytes",
    "initial-cluster-size",
    "target-group-size",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "dead-letter-strategy",
];

/// What an operator's policy may say, to RabbitMQ.
const OPERATORS: &[&str] = &[
    "expires",
    "message-ttl",
    "max-length",
    "max-length-bytes",
    "delivery-limit",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "target-group-size",
];

/// Puts a definition into the broker's settings: what a policy says into defaults, which a queue's own arguments go over; what an operator's says into
/// bounds, of which the lowest holds.
///
/// # Errors
/// 400 for what is not known, ill-typed, or not done here.
pub(super) fn read(definition: &Map<String, Json>, operator: bool, config: &mut PolicyConfig) -> Result<(), Refusal> {
    let given = Body(definition.clone());
    for name in definition.keys() {
        let name = name.as_str();
        if operator && !OPERATORS.contains(&name) {
            return Err(Refusal::bad_request(format!(
                "Validation failed\n\n{name:?} cannot be set by an operator policy"
            )));
        }
        if NOTHING_FOLLOWS.contains(&name) {
            continue;
        }
        one(&given, name, operator, config)?;
    }
    let defaults = &mut config.defaults;
    // RabbitMQ's full queue drops the oldest message unless told otherwise.
    if defaults.overflow.is_none() && (defaults.max_messages.is_some() || defaults.max_bytes.is_some()) {
        defaults.overflow = Some(OverflowConfig::DropOldest);
    }
    Ok(())
}

fn count(given: &Body, name: &str) -> Result<Option<u64>, Refusal> {
    let number = given.int(name)?.map(u64::try_from).transpose();
    number.map_err(|_| Refusal::bad_request(format!("Validation failed\n\n{name} is negative")))
}

fn one(given: &Body, name: &str, operator: bool, config: &mut PolicyConfig) -> Result<(), Refusal> {
    let (defaults, bounds) = (&mut config.defaults, &mut config.bounds);
    match (name, operator) {
        ("message-ttl", true) => bounds.ttl_ms = count(given, name)?,
        ("expires", true) => bounds.expires_ms = count(given, name)?,
        ("max-length", true) => bounds.max_messages = count(given, name)?,
        ("max-length-bytes", true) => bounds.max_bytes = count(given, name)?,
        ("delivery-limit", true) => bounds.max_attempts = attempts(given, name)?,
        ("message-ttl", false) => defaults.ttl_ms = count(given, name)?,
        ("expires", false) => defaults.expires_ms = count(given, name)?,
        ("max-length", false) => defaults.max_messages = count(given, name)?,
        ("max-length-bytes", false) => {
            defaults.max_bytes = count(given, name)?;
            retention(config).max_bytes = count(given, name)?;
        }
        ("max-age", false) => {
            let age = given.text(name)?.and_then(max_age_ms);
            let age = age.ok_or_else(|| Refusal::bad_request("Validation failed\n\nmax-age: invalid_max_age"))?;
            retention(config).max_age_ms = Some(age);
        }
        ("delivery-limit", false) => {
            let max_attempts = attempts(given, name)?;
            defaults.retry =
                Some(RetryConfig { max_attempts, initial_ms: Some(0), jitter: Some(false), ..RetryConfig::default() });
        }
        ("single-active-consumer", false) => defaults.single_active = Some(given.bool(name)?),
        ("alternate-exchange", false) => defaults.alternate = given.text(name)?.map(str::to_owned),
        ("overflow", false) => defaults.overflow = Some(overflow(given.text(name)?.unwrap_or_default())?),
        ("dead-letter-exchange", false) => defaults.dead_letter = Some(dead_letter(given)?),
        ("dead-letter-routing-key", false) if given.get("dead-letter-exchange").is_some() => {}
        ("dead-letter-routing-key", false) => {
            return Err(Refusal::bad_request(
                "dead-letter-routing-key needs a dead-letter-exchange in the same policy",
            ));
        }
        ("federation-upstream" | "federation-upstream-set" | "federation-upstream-pattern", false) => {
            return Err(Refusal::not_done(format!("{name}: there is no federation here")));
        }
        (other, _) => {
            return Err(Refusal::bad_request(format!(
                "Validation failed\n\n[{other:?}] are not recognised policy settings"
            )));
        }
    }
    Ok(())
}

fn attempts(given: &Body, name: &str) -> Result<Option<u32>, Refusal> {
    let limit = given.int(name)?.unwrap_or_default();
    // Once, and again so often; negative is without end.
    Ok(Some(u32::try_from(limit.saturating_add(1).max(0)).unwrap_or(u32::MAX)))
}

fn retention(config: &mut PolicyConfig) -> &mut RetentionConfig {
    config.defaults.retention.get_or_insert_default()
}

fn overflow(word: &str) -> Result<OverflowConfig, Refusal> {
    match word {
        "drop-head" => Ok(OverflowConfig::DropOldest),
        "reject-publish" => Ok(OverflowConfig::Reject),
        other => Err(Refusal::bad_request(format!("Validation failed\n\n{other:?} is not a valid overflow value"))),
    }
}

fn dead_letter(given: &Body) -> Result<DeadLetterConfig, Refusal> {
    let subject = given.text("dead-letter-routing-key")?.map(str::to_owned);
    let topic = given.required("dead-letter-exchange")?.to_owned();
    Ok(DeadLetterConfig::Topic { topic, subject, or_drop: true })
}

/// The definition of a policy that was made elsewhere, as far as there are words for it.
pub(super) fn definition(config: &PolicyConfig) -> Json {
    let mut out = Map::new();
    let numbers = [
        ("message-ttl", config.defaults.ttl_ms.or(config.overrides.ttl_ms).or(config.bounds.ttl_ms)),
        ("expires", config.defaults.expires_ms.or(config.overrides.expires_ms).or(config.bounds.expires_ms)),
        ("max-length", config.defaults.max_messages.or(config.overrides.max_messages).or(config.bounds.max_messages)),
        ("max-length-bytes", config.defaults.max_bytes.or(config.overrides.max_bytes).or(config.bounds.max_bytes)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            out.insert(name.to_owned(), json!(number));
        }
    }
    Json::Object(out)
}
