//! What a policy's definition says, as the broker's settings.

use broker::definitions::{DeadLetterConfig, OverflowConfig, PolicyConfig, RetentionConfig};
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

/// Puts a definition into the broker's settings. RabbitMQ takes the lowest of what a policy, an operator's policy and the queue's arguments say of
/// lifetimes and lengths: these are bounds. Of the rest a policy's word goes over a queue's, since every queue that AMQP declares says what becomes
/// of dead letters and of what is too much.
///
/// # Errors
/// 400 for what is not known, ill-typed, or not done here.
pub(super) fn read(definition: &Map<String, Json>, operator: bool, config: &mut PolicyConfig) -> Result<(), Refusal> {
    let given = Body(definition.clone());
    for name in definition.keys().map(String::as_str) {
        if operator && !OPERATORS.contains(&name) {
            let why = format!("Validation failed\n\n{name:?} cannot be set by an operator policy");
            return Err(Refusal::bad_request(why));
        }
        if !NOTHING_FOLLOWS.contains(&name) {
            one(&given, name, config)?;
        }
    }
    Ok(())
}

fn count(given: &Body, name: &str) -> Result<Option<u64>, Refusal> {
    let number = given.int(name)?.map(u64::try_from).transpose();
    number.map_err(|_| Refusal::bad_request(format!("Validation failed\n\n{name} is negative")))
}

fn one(given: &Body, name: &str, config: &mut PolicyConfig) -> Result<(), Refusal> {
    let is_for_quorum_queues = config.only_arguments.values().flatten().any(|kind| *kind == "quorum");
    let (bounds, overrides) = (&mut config.bounds, &mut config.overrides);
    match name {
        "message-ttl" => bounds.ttl_ms = count(given, name)?,
        "expires" => bounds.expires_ms = count(given, name)?,
        "max-length" => bounds.max_messages = count(given, name)?,
        "max-length-bytes" => {
            bounds.max_bytes = count(given, name)?;
            retention(config).max_bytes = count(given, name)?;
        }
        "max-age" => {
            let age = given.text(name)?.and_then(max_age_ms);
            let age = age.ok_or_else(|| Refusal::bad_request("Validation failed\n\nmax-age: invalid_max_age"))?;
            retention(config).max_age_ms = Some(age);
        }
        "delivery-limit" if is_for_quorum_queues => bounds.max_attempts = attempts(given, name)?,
        "delivery-limit" => {
            let why = "delivery-limit: here it would bind classic queues too; give it in a policy that applies to quorum_queues";
            return Err(Refusal::not_done(why));
        }
        "single-active-consumer" => overrides.single_active = Some(given.bool(name)?),
        "alternate-exchange" => config.defaults.alternate = given.text(name)?.map(str::to_owned),
        "overflow" => overrides.overflow = Some(overflow(given.text(name)?.unwrap_or_default())?),
        "dead-letter-exchange" => overrides.dead_letter = Some(dead_letter(given)?),
        "dead-letter-routing-key" if given.get("dead-letter-exchange").is_some() => {}
        "dead-letter-routing-key" => {
            return Err(Refusal::bad_request(
                "dead-letter-routing-key needs a dead-letter-exchange in the same policy",
            ));
        }
        "federation-upstream" | "federation-upstream-set" | "federation-upstream-pattern" => {
            return Err(Refusal::not_done(format!("{name}: there is no federation here")));
        }
        other => {
            let why = format!("Validation failed\n\n[{other:?}] are not recognised policy settings");
            return Err(Refusal::bad_request(why));
        }
    }
    Ok(())
}

/// Deliveries in all: once, and again so often. Negative is without end, which is no bound.
fn attempts(given: &Body, name: &str) -> Result<Option<u32>, Refusal> {
    let limit = u32::try_from(given.int(name)?.unwrap_or_default()).ok();
    Ok(limit.map(|limit| limit.saturating_add(1)))
}

fn retention(config: &mut PolicyConfig) -> &mut RetentionConfig {
    config.defaults.retention.get_or_insert_default()
}

fn overflow(word: &str) -> Result<OverflowConfig, Refusal> {
    match word {
        "drop-head" => Ok(OverflowConfig::DropOldest),
        "reject-publish" => Ok(OverflowConfig::Reject),
        "reject-publish-dlx" => Ok(OverflowConfig::RejectDeadLetter),
        other => Err(Refusal::bad_request(format!("Validation failed\n\n{other:?} is not a valid overflow value"))),
    }
}

fn dead_letter(given: &Body) -> Result<DeadLetterConfig, Refusal> {
    let subject = given.text("dead-letter-routing-key")?.map(str::to_owned);
    let topic = given.required("dead-letter-exchange")?.to_owned();
    Ok(match topic.as_str() {
        "" => DeadLetterConfig::Named { subject, or_drop: true },
        _ => DeadLetterConfig::Topic { topic, subject, or_drop: true },
    })
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
