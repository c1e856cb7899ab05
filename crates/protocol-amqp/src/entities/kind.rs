//! Exchange types and what the router calls them.

use broker::definitions::{HashProperty, RouterConfig, TopicConfig};
use serde_json::json;
use types::{Headers, Value};

use super::arguments::get;
use crate::fault::Fault;

/// Where the type of an exchange is kept that the router has no word for.
const KIND: &str = "ph-amqp-type";
/// The type of exchanges that hold messages back.
pub(super) const DELAYED: &str = "x-delayed-message";
/// The type of exchanges that give each message to one binding.
pub(super) const CONSISTENT_HASH: &str = "x-consistent-hash";
const DELAYED_TYPE: &str = "x-delayed-type";
const HASH_HEADER: &str = "hash-header";
const HASH_PROPERTY: &str = "hash-property";

/// How an exchange of this type and these arguments routes.
///
/// # Errors
/// 406 with RabbitMQ's text, or that of the type's plugin.
pub(super) fn router(kind: &str, arguments: &Headers) -> Result<RouterConfig, Fault> {
    Ok(match kind {
        "direct" => RouterConfig::Exact,
        "fanout" => RouterConfig::Fanout,
        "topic" => RouterConfig::Subject,
        "headers" => RouterConfig::Headers,
        CONSISTENT_HASH => consistent_hash(arguments)?,
        DELAYED => match get(arguments, DELAYED_TYPE) {
            Some(Value::Text(inner)) if *inner == DELAYED => {
                let text = format!("Invalid argument, '{DELAYED}' can't be used for '{DELAYED_TYPE}'");
                return Err(Fault::precondition_failed(text));
            }
            Some(Value::Text(inner)) => router(inner, arguments)?,
            _ => {
                let text = format!("Invalid argument, '{DELAYED_TYPE}' must be an existing exchange type");
                return Err(Fault::precondition_failed(text));
            }
        },
        other => return Err(Fault::precondition_failed(format!("unknown exchange type '{other}'"))),
    })
}

fn consistent_hash(arguments: &Headers) -> Result<RouterConfig, Fault> {
    match (get(arguments, HASH_HEADER), get(arguments, HASH_PROPERTY)) {
        (Some(_), Some(_)) => {
            Err(Fault::precondition_failed(format!("{HASH_HEADER} and {HASH_PROPERTY} are mutually exclusive")))
        }
        (Some(Value::Text(header)), None) => {
            Ok(RouterConfig::ConsistentHash { header: Some(header.to_string()), property: None })
        }
        (None, None) => Ok(RouterConfig::ConsistentHash { header: None, property: None }),
        (Some(_), None) => Err(Fault::precondition_failed(format!("{HASH_HEADER} is the name of a header, a string"))),
        (None, Some(property)) => {
            let property = match property.as_text().unwrap_or("(not a string)") {
                "message_id" => HashProperty::MessageId,
                "correlation_id" => HashProperty::CorrelationId,
                "timestamp" => HashProperty::Timestamp,
                other => return Err(Fault::precondition_failed(format!("Unsupported property: {other}"))),
            };
            Ok(RouterConfig::ConsistentHash { header: None, property: Some(property) })
        }
    }
}

/// Notes the type of an exchange where its router alone does not tell.
pub(super) fn note(kind: &str, config: &mut TopicConfig) {
    if kind == DELAYED {
        config.arguments.insert(KIND.to_owned(), json!(kind));
    }
}

/// The type of the exchange that a topic is. A topic that was made elsewhere, whose bindings may filter on anything, is one of type `topic`.
pub(crate) fn of(config: &TopicConfig) -> &str {
    if let Some(kind) = config.arguments.get(KIND).and_then(serde_json::Value::as_str) {
        return kind;
    }
    match &config.router {
        RouterConfig::Exact => "direct",
        RouterConfig::Fanout => "fanout",
        RouterConfig::Headers => "headers",
        RouterConfig::ConsistentHash { .. } => CONSISTENT_HASH,
        RouterConfig::Any | RouterConfig::Subject | RouterConfig::Attribute => "topic",
    }
}
