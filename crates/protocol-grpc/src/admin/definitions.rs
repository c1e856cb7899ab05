//! Definitions: from the API's words to the broker's and back.

use std::collections::BTreeMap;

use api::grpc as g;
use broker::definitions as b;

use super::filter::{filter_from, filter_to};
use crate::failure::Failure;
use crate::input::known;

/// What a webhook's secret is shown as.
pub(super) const HIDDEN_SECRET: &str = "***";

/// Writes both directions of a pair of structs whose fields have the same names: those before the bar go over as they are, those after
/// it through the functions of this page, of which the first is told the field's name for its errors.
macro_rules! both_ways {
    ($to:ident, $from:ident: $api:ident <=> $broker:ident { $($same:ident),* | $($field:ident via $field_to:expr, $field_from:expr;)* }) => {
        pub(super) fn $to(from: g::$api) -> Result<b::$broker, Failure> {
            Ok(b::$broker { $($same: from.$same,)* $($field: $field_to(stringify!($field), from.$field)?,)* })
        }
        pub(super) fn $from(from: b::$broker) -> g::$api {
            g::$api { $($same: from.$same,)* $($field: $field_from(from.$field),)* }
        }
    };
}

/// Writes both directions of a pair of enums, of which the API's has one value more for what is not said.
macro_rules! same_words {
    ($to:ident, $from:ident: $api:ident <=> $broker:ident { $($word:ident),* }) => {
        fn $to(field: &str, number: i32) -> Result<Option<b::$broker>, Failure> {
            Ok(match known(field, number)? {
                g::$api::Unspecified => None,
                $(g::$api::$word => Some(b::$broker::$word),)*
            })
        }
        fn $from(from: Option<b::$broker>) -> i32 {
            i32::from(match from {
                None => g::$api::Unspecified,
                $(Some(b::$broker::$word) => g::$api::$word,)*
            })
        }
    };
}

fn maybe<A, B>(map: impl Fn(A) -> Result<B, Failure>) -> impl Fn(&str, Option<A>) -> Result<Option<B>, Failure> {
    move |_, value| value.map(&map).transpose()
}

fn some<A, B>(map: impl Fn(A) -> B) -> impl Fn(Option<A>) -> Option<B> {
    move |value| value.map(&map)
}

/// A part that says nothing if it is missing.
fn or_empty<A: Default, B>(map: impl Fn(A) -> Result<B, Failure>) -> impl Fn(&str, Option<A>) -> Result<B, Failure> {
    move |_, value| map(value.unwrap_or_default())
}

fn present<A, B>(map: impl Fn(A) -> B) -> impl Fn(A) -> Option<B> {
    move |value| Some(map(value))
}

same_words!(durability_to, durability_from: Durability <=> DurabilityConfig { Fsync, Interval, Os, Memory });
same_words!(property_to, property_from: HashProperty <=> HashProperty { MessageId, CorrelationId, Timestamp });
same_words!(overflow_to, overflow_from: Overflow <=> OverflowConfig { Reject, DropOldest, RejectDeadLetter });
same_words!(format_to, format_from: WebhookFormat <=> WebhookFormat { Native, CloudeventsBinary, CloudeventsStructured });
same_words!(group_start_to, group_start_from: GroupStart <=> GroupStart { Earliest, Latest });
same_words!(policy_layer_to, policy_layer_from: PolicyLayer <=> PolicyLayer { User, Operator });
same_words!(policy_scope_to, policy_scope_from: PolicyScope <=> PolicyScope { Queues, Topics, All });

fn start_to(field: &str, number: i32) -> Result<b::GroupStart, Failure> {
    Ok(group_start_to(field, number)?.unwrap_or_default())
}

fn start_from(from: b::GroupStart) -> i32 {
    group_start_from(Some(from))
}

pub(super) fn layer_to(field: &str, number: i32) -> Result<b::PolicyLayer, Failure> {
    Ok(policy_layer_to(field, number)?.unwrap_or_default())
}

fn layer_from(from: b::PolicyLayer) -> i32 {
    policy_layer_from(Some(from))
}

fn scope_to(field: &str, number: i32) -> Result<b::PolicyScope, Failure> {
    policy_scope_to(field, number)?
        .ok_or_else(|| Failure::invalid(field, "a policy says what it applies to: queues, topics or all"))
}

fn scope_from(from: b::PolicyScope) -> i32 {
    policy_scope_from(Some(from))
}

fn arguments_to(
    field: &str,
    from: std::collections::HashMap<String, String>,
) -> Result<BTreeMap<String, serde_json::Value>, Failure> {
    let read = |(name, text): (String, String)| {
        let value = argument_to(field, &name, &text)?;
        Ok((name, value))
    };
    from.into_iter().map(read).collect()
}

fn argument_to(field: &str, name: &str, text: &str) -> Result<serde_json::Value, Failure> {
    let value = serde_json::from_str(text);
    value.map_err(|error| Failure::invalid(&format!("{field}.{name}"), format!("not JSON: {error}")))
}

fn only_arguments_to(
    field: &str,
    from: std::collections::HashMap<String, g::ArgumentValues>,
) -> Result<BTreeMap<String, Vec<serde_json::Value>>, Failure> {
    let read = |(name, given): (String, g::ArgumentValues)| {
        let values: Result<_, Failure> = given.values.iter().map(|text| argument_to(field, &name, text)).collect();
        Ok((name, values?))
    };
    from.into_iter().map(read).collect()
}

fn only_arguments_from(
    from: BTreeMap<String, Vec<serde_json::Value>>,
) -> std::collections::HashMap<String, g::ArgumentValues> {
    let shown = |values: Vec<serde_json::Value>| g::ArgumentValues {
        values: values.iter().map(serde_json::Value::to_string).collect(),
    };
    from.into_iter().map(|(name, values)| (name, shown(values))).collect()
}

fn arguments_from(from: BTreeMap<String, serde_json::Value>) -> std::collections::HashMap<String, String> {
    from.into_iter().map(|(name, value)| (name, value.to_string())).collect()
}

fn same_map_to(_: &str, from: std::collections::HashMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    Ok(from.into_iter().collect())
}

fn same_map_from(from: BTreeMap<String, String>) -> std::collections::HashMap<String, String> {
    from.into_iter().collect()
}

fn levels_to(field: &str, from: Option<u32>) -> Result<Option<u16>, Failure> {
    let narrow = |levels| u16::try_from(levels).map_err(|_| Failure::invalid(field, "there are 2 to 256 levels"));
    from.map(narrow).transpose()
}

fn same_to<T>(_: &str, from: T) -> Result<T, Failure> {
    Ok(from)
}

both_ways!(quota_to, quota_from: Quota <=> Quota {
    max_topics, max_queues, max_bindings, max_stored_bytes, max_publish_rate, max_body_bytes,
    max_connections |
});
both_ways!(namespace_to, namespace_from: NamespaceConfig <=> NamespaceConfig {
    description |
    quota via or_empty(quota_to), present(quota_from);
    durability via durability_to, durability_from;
});
both_ways!(retention_to, retention_from: Retention <=> RetentionConfig {
    max_age_ms, max_bytes, max_records, compact, tombstone_ms |
});
both_ways!(retry_to, retry_from: Retry <=> RetryConfig { max_attempts, initial_ms, factor, cap_ms, jitter, non_retryable | });
both_ways!(breaker_to, breaker_from: Breaker <=> BreakerConfig { failure_ratio, window, pause_ms | });
both_ways!(webhook_to, webhook_from: Webhook <=> WebhookConfig {
    url, concurrency, timeout_ms |
    secret via same_to, some(|_| HIDDEN_SECRET.to_owned());
    headers via same_map_to, same_map_from;
    format via format_to, format_from;
});
both_ways!(queue_to, queue_from: QueueConfig <=> QueueConfig {
    description, lease_ms, keyed, ttl_ms, delay_ms, single_active, max_messages, max_bytes, dedup_window_ms, expires_ms,
    auto_delete, volatile |
    priority_levels via levels_to, some(u32::from);
    retry via maybe(retry_to), some(retry_from);
    dead_letter via maybe(dead_letter_to), some(dead_letter_from);
    overflow via overflow_to, overflow_from;
    breaker via maybe(breaker_to), some(breaker_from);
    durability via durability_to, durability_from;
    webhook via maybe(webhook_to), some(webhook_from);
    arguments via arguments_to, arguments_from;
});
both_ways!(group_to, group_from: GroupConfig <=> GroupConfig { topic, session_ms | start via start_to, start_from; });
both_ways!(values_to, values_from: PolicyValues <=> PolicyValues {
    lease_ms, ttl_ms, delay_ms, single_active, max_messages, max_bytes, dedup_window_ms, expires_ms, alternate, max_body_bytes |
    retry via maybe(retry_to), some(retry_from);
    dead_letter via maybe(dead_letter_to), some(dead_letter_from);
    overflow via overflow_to, overflow_from;
    breaker via maybe(breaker_to), some(breaker_from);
    durability via durability_to, durability_from;
    retention via maybe(retention_to), some(retention_from);
});
both_ways!(bounds_to, bounds_from: PolicyBounds <=> PolicyBounds { ttl_ms, max_messages, max_bytes, expires_ms, max_attempts | });
both_ways!(policy_to, policy_from: PolicyConfig <=> PolicyConfig {
    pattern, priority |
    only_arguments via only_arguments_to, only_arguments_from;
    layer via layer_to, layer_from;
    bounds via or_empty(bounds_to), present(bounds_from);
    arguments via arguments_to, arguments_from;
    applies_to via scope_to, scope_from;
    defaults via or_empty(values_to), present(values_from);
    overrides via or_empty(values_to), present(values_from);
});

pub(super) fn topic_to(from: g::TopicConfig) -> Result<b::TopicConfig, Failure> {
    let header = from.hash_header;
    let property = property_to("hash_property", from.hash_property)?;
    let router = match known("router", from.router)? {
        g::RouterKind::Unspecified | g::RouterKind::Any => b::RouterConfig::Any,
        g::RouterKind::Exact => b::RouterConfig::Exact,
        g::RouterKind::Fanout => b::RouterConfig::Fanout,
        g::RouterKind::Subject => b::RouterConfig::Subject,
        g::RouterKind::Headers => b::RouterConfig::Headers,
        g::RouterKind::Attribute => b::RouterConfig::Attribute,
        g::RouterKind::ConsistentHash => b::RouterConfig::ConsistentHash { header: header.clone(), property },
    };
    if header.is_some() && !matches!(router, b::RouterConfig::ConsistentHash { .. }) {
        return Err(Failure::invalid("hash_header", "`hash_header` goes with a consistent-hash router"));
    }
    if property.is_some() && !matches!(router, b::RouterConfig::ConsistentHash { .. }) {
        return Err(Failure::invalid("hash_property", "`hash_property` goes with a consistent-hash router"));
    }
    Ok(b::TopicConfig {
        description: from.description,
        router,
        retention: from.retention.map(retention_to).transpose()?,
        partitions: from.partitions,
        alternate: from.alternate,
        captures: from.captures.map(|captures| captures.filters),
        durability: durability_to("durability", from.durability)?,
        key_index: from.key_index,
        internal: from.internal,
        live: from.live,
        dedup_window_ms: from.dedup_window_ms,
        max_body_bytes: from.max_body_bytes,
        auto_delete: from.auto_delete,
        volatile: from.volatile,
        arguments: arguments_to("arguments", from.arguments)?,
    })
}

pub(super) fn topic_from(from: b::TopicConfig) -> g::TopicConfig {
    let (router, hash_header, hash_property) = match from.router {
        b::RouterConfig::Any => (g::RouterKind::Any, None, None),
        b::RouterConfig::Exact => (g::RouterKind::Exact, None, None),
        b::RouterConfig::Fanout => (g::RouterKind::Fanout, None, None),
        b::RouterConfig::Subject => (g::RouterKind::Subject, None, None),
        b::RouterConfig::Headers => (g::RouterKind::Headers, None, None),
        b::RouterConfig::Attribute => (g::RouterKind::Attribute, None, None),
        b::RouterConfig::ConsistentHash { header, property } => (g::RouterKind::ConsistentHash, header, property),
    };
    g::TopicConfig {
        description: from.description,
        router: i32::from(router),
        hash_header,
        hash_property: property_from(hash_property),
        retention: from.retention.map(retention_from),
        partitions: from.partitions,
        alternate: from.alternate,
        captures: from.captures.map(|filters| g::Captures { filters }),
        durability: durability_from(from.durability),
        key_index: from.key_index,
        internal: from.internal,
        live: from.live,
        dedup_window_ms: from.dedup_window_ms,
        max_body_bytes: from.max_body_bytes,
        auto_delete: from.auto_delete,
        volatile: from.volatile,
        arguments: arguments_from(from.arguments),
    }
}

fn dead_letter_to(from: g::DeadLetter) -> Result<b::DeadLetterConfig, Failure> {
    use g::dead_letter::To;
    match from.to {
        Some(To::Dropped(g::Dropped {})) => Ok(b::DeadLetterConfig::None),
        Some(To::Queue(queue)) => Ok(b::DeadLetterConfig::Queue(queue)),
        Some(To::Topic(g::DeadLetterTopic { topic, subject, or_drop })) => {
            Ok(b::DeadLetterConfig::Topic { topic, subject, or_drop })
        }
        Some(To::Named(g::DeadLetterNamed { subject, or_drop })) => Ok(b::DeadLetterConfig::Named { subject, or_drop }),
        None => Err(Failure::invalid("dead_letter", "dead letters go to a queue, through a topic, or are dropped")),
    }
}

pub(super) fn dead_letter_from(from: b::DeadLetterConfig) -> g::DeadLetter {
    use g::dead_letter::To;
    let to = match from {
        b::DeadLetterConfig::None => To::Dropped(g::Dropped {}),
        b::DeadLetterConfig::Queue(queue) => To::Queue(queue),
        b::DeadLetterConfig::Topic { topic, subject, or_drop } => {
            To::Topic(g::DeadLetterTopic { topic, subject, or_drop })
        }
        b::DeadLetterConfig::Named { subject, or_drop } => To::Named(g::DeadLetterNamed { subject, or_drop }),
    };
    g::DeadLetter { to: Some(to) }
}

pub(super) fn binding_to(from: g::BindingConfig) -> Result<b::BindingConfig, Failure> {
    use g::binding_config::Target;
    let target = match from.target {
        Some(Target::ToQueue(name)) => b::BindingTarget::Queue(name),
        Some(Target::ToTopic(name)) => b::BindingTarget::Topic(name),
        None => return Err(Failure::invalid("target", "a binding leads to a queue or to a topic")),
    };
    let filter = from.filter.map_or(Ok(types::Filter::All), filter_to)?;
    Ok(b::BindingConfig {
        topic: from.topic,
        target,
        filter: broker::filter::FilterRecord::from(filter),
        weight: from.weight,
        arguments: arguments_to("arguments", from.arguments)?,
    })
}

/// # Errors
/// If the stored filter cannot be read.
pub(super) fn binding_from(from: b::BindingConfig) -> Result<g::BindingConfig, Failure> {
    use g::binding_config::Target;
    let filter = types::Filter::try_from(from.filter);
    let filter = filter.map_err(|error| Failure::new(tonic::Code::DataLoss, "storage-damaged", error.to_string()))?;
    Ok(g::BindingConfig {
        topic: from.topic,
        target: Some(match from.target {
            b::BindingTarget::Queue(name) => Target::ToQueue(name),
            b::BindingTarget::Topic(name) => Target::ToTopic(name),
        }),
        filter: Some(filter_from(filter)),
        weight: from.weight,
        arguments: arguments_from(from.arguments),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets every field, so that one that is mapped to the wrong place shows.
    #[test]
    fn definitions_come_back_as_they_were() {
        let queue: b::QueueConfig = serde_json::from_str(
            r#"{"description":"d","lease_ms":1,"retry":{"max_attempts":2,"initial_ms":3,"factor":4.0,"cap_ms":5,"jitter":false,"non_retryable":["x"]},"dead_letter":{"topic":{"topic":"t","subject":"s","or_drop":true}},"keyed":true,"priority_levels":6,"ttl_ms":7,"delay_ms":8,"single_active":true,"max_messages":9,"max_bytes":10,"overflow":"drop-oldest","dedup_window_ms":11,"breaker":{"failure_ratio":0.5,"window":12,"pause_ms":13},"expires_ms":14,"auto_delete":true,"volatile":true,"durability":"os","webhook":{"url":"http://x","secret":"***","concurrency":15,"timeout_ms":16,"headers":{"a":"b"},"format":"cloudevents-binary"},"arguments":{"x":{"y":[1]}}}"#,
        )
        .unwrap();
        assert_eq!(queue_to(queue_from(queue.clone())).unwrap(), queue);
        let topic: b::TopicConfig = serde_json::from_str(
            r#"{"description":"d","router":{"kind":"consistent-hash","header":"h","property":"timestamp"},"retention":{"max_age_ms":1,"max_bytes":2,"max_records":3,"compact":true,"tombstone_ms":4},"partitions":5,"alternate":"a","captures":["c"],"durability":"memory","key_index":true,"internal":true,"live":false,"dedup_window_ms":6,"max_body_bytes":7,"auto_delete":true,"volatile":true,"arguments":{"x":1}}"#,
        )
        .unwrap();
        assert_eq!(topic_to(topic_from(topic.clone())).unwrap(), topic);
        let policy: b::PolicyConfig = serde_json::from_str(
            r#"{"pattern":"p*","applies_to":"all","only_arguments":{"x":[null,1]},"layer":"operator","priority":1,"defaults":{"lease_ms":1,"retention":{"max_bytes":2}},"overrides":{"alternate":"x","max_body_bytes":3},"bounds":{"ttl_ms":4,"max_messages":5,"max_bytes":6,"expires_ms":7,"max_attempts":8},"arguments":{"y":{"z":1}}}"#,
        )
        .unwrap();
        assert_eq!(policy_to(policy_from(policy.clone())).unwrap(), policy);
        let namespace: b::NamespaceConfig = serde_json::from_str(
            r#"{"description":"d","quota":{"max_topics":1,"max_queues":2,"max_bindings":3,"max_stored_bytes":4,"max_publish_rate":5,"max_body_bytes":6,"max_connections":7},"durability":"interval"}"#,
        )
        .unwrap();
        assert_eq!(namespace_to(namespace_from(namespace.clone())).unwrap(), namespace);
    }

    #[test]
    fn unknown_values_name_their_field() {
        let field = |failure: Failure| failure.problem().field;
        assert_eq!(field(queue_to(g::QueueConfig { overflow: 9, ..Default::default() }).unwrap_err()), "overflow");
        assert_eq!(field(topic_to(g::TopicConfig { router: -1, ..Default::default() }).unwrap_err()), "router");
        let stray = g::TopicConfig { hash_header: Some("h".into()), ..Default::default() };
        assert_eq!(field(topic_to(stray).unwrap_err()), "hash_header");
        let levels = g::QueueConfig { priority_levels: Some(70_000), ..Default::default() };
        assert_eq!(field(queue_to(levels).unwrap_err()), "priority_levels");
        let arguments = [("x".to_owned(), "{".to_owned())].into();
        assert_eq!(field(queue_to(g::QueueConfig { arguments, ..Default::default() }).unwrap_err()), "arguments.x");
        assert_eq!(field(policy_to(g::PolicyConfig::default()).unwrap_err()), "applies_to");
        let only = g::PolicyConfig {
            applies_to: g::PolicyScope::All.into(),
            only_arguments: [("x".to_owned(), g::ArgumentValues { values: vec!["{".to_owned()] })].into(),
            ..Default::default()
        };
        assert_eq!(field(policy_to(only).unwrap_err()), "only_arguments.x");
        assert_eq!(field(binding_to(g::BindingConfig::default()).unwrap_err()), "target");
    }
}
