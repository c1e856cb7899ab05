//! Definitions: from the API's words to the broker's and back.

use broker::definitions as b;
use broker::filter::FilterRecord;

use crate::problem::Failure;

/// Writes both directions of a pair of structs whose fields have the same names: those before the bar go over as they are, those after
/// it through the functions of this page.
macro_rules! both_ways {
    ($to:ident, $from:ident: $api:ident <=> $broker:ident { $($same:ident),* | $($field:ident via $field_to:expr, $field_from:expr;)* }) => {
        pub(crate) fn $to(from: api::$api) -> b::$broker {
            b::$broker { $($same: from.$same,)* $($field: $field_to(from.$field),)* }
        }
        pub(crate) fn $from(from: b::$broker) -> api::$api {
            api::$api { $($same: from.$same,)* $($field: $field_from(from.$field),)* }
        }
    };
}

/// Writes both directions of a pair of enums without fields.
macro_rules! same_words {
    ($to:ident, $from:ident: $api:ident <=> $broker:ident { $($word:ident),* }) => {
        pub(crate) fn $to(from: api::$api) -> b::$broker {
            match from { $(api::$api::$word => b::$broker::$word,)* }
        }
        pub(crate) fn $from(from: b::$broker) -> api::$api {
            match from { $(b::$broker::$word => api::$api::$word,)* }
        }
    };
}

fn maybe<A, B>(map: impl Fn(A) -> B) -> impl Fn(Option<A>) -> Option<B> {
    move |value| value.map(&map)
}

same_words!(durability_to, durability_from: Durability <=> DurabilityConfig { Fsync, Interval, Os, Memory });
same_words!(property_to, property_from: HashProperty <=> HashProperty { MessageId, CorrelationId, Timestamp });
same_words!(overflow_to, overflow_from: Overflow <=> OverflowConfig { Reject, DropOldest, RejectDeadLetter });
same_words!(format_to, format_from: WebhookFormat <=> WebhookFormat { Native, CloudeventsBinary, CloudeventsStructured });
same_words!(start_to, start_from: GroupStart <=> GroupStart { Earliest, Latest });
same_words!(layer_to, layer_from: PolicyLayer <=> PolicyLayer { User, Operator });
same_words!(scope_to, scope_from: PolicyScope <=> PolicyScope { Queues, Topics, All });

both_ways!(quota_to, quota_from: Quota <=> Quota {
    max_topics, max_queues, max_bindings, max_stored_bytes, max_publish_rate, max_body_bytes,
    max_connections |
});
both_ways!(namespace_to, namespace_from: NamespaceConfig <=> NamespaceConfig {
    description |
    quota via quota_to, quota_from;
    durability via maybe(durability_to), maybe(durability_from);
});
both_ways!(retention_to, retention_from: Retention <=> RetentionConfig {
    max_age_ms, max_bytes, max_records, compact, tombstone_ms |
});
both_ways!(topic_to, topic_from: TopicConfig <=> TopicConfig {
    description, partitions, alternate, captures, key_index, internal, live, dedup_window_ms, max_body_bytes, auto_delete,
    volatile, arguments |
    router via router_to, router_from;
    retention via maybe(retention_to), maybe(retention_from);
    durability via maybe(durability_to), maybe(durability_from);
});
both_ways!(retry_to, retry_from: Retry <=> RetryConfig { max_attempts, initial_ms, factor, cap_ms, jitter, non_retryable | });
both_ways!(breaker_to, breaker_from: Breaker <=> BreakerConfig { failure_ratio, window, pause_ms | });
both_ways!(webhook_to, webhook_from: Webhook <=> WebhookConfig {
    url, concurrency, timeout_ms, headers |
    secret via std::convert::identity, maybe(|_| HIDDEN_SECRET.to_owned());
    format via maybe(format_to), maybe(format_from);
});
both_ways!(queue_to, queue_from: QueueConfig <=> QueueConfig {
    description, lease_ms, keyed, priority_levels, ttl_ms, delay_ms, single_active, max_messages, max_bytes, dedup_window_ms,
    expires_ms, auto_delete, volatile, arguments |
    retry via maybe(retry_to), maybe(retry_from);
    dead_letter via maybe(dead_letter_to), maybe(dead_letter_from);
    overflow via maybe(overflow_to), maybe(overflow_from);
    breaker via maybe(breaker_to), maybe(breaker_from);
    durability via maybe(durability_to), maybe(durability_from);
    webhook via maybe(webhook_to), maybe(webhook_from);
});
both_ways!(group_to, group_from: GroupConfig <=> GroupConfig { topic, session_ms | start via start_to, start_from; });
both_ways!(values_to, values_from: PolicyValues <=> PolicyValues {
    lease_ms, ttl_ms, delay_ms, single_active, max_messages, max_bytes, dedup_window_ms, expires_ms, alternate, max_body_bytes |
    retry via maybe(retry_to), maybe(retry_from);
    dead_letter via maybe(dead_letter_to), maybe(dead_letter_from);
    overflow via maybe(overflow_to), maybe(overflow_from);
    breaker via maybe(breaker_to), maybe(breaker_from);
    durability via maybe(durability_to), maybe(durability_from);
    retention via maybe(retention_to), maybe(retention_from);
});
both_ways!(bounds_to, bounds_from: PolicyBounds <=> PolicyBounds { ttl_ms, max_messages, max_bytes, expires_ms, max_attempts | });
both_ways!(policy_to, policy_from: PolicyConfig <=> PolicyConfig {
    pattern, only_arguments, priority, arguments |
    layer via layer_to, layer_from;
    bounds via bounds_to, bounds_from;
    applies_to via scope_to, scope_from;
    defaults via values_to, values_from;
    overrides via values_to, values_from;
});

/// What a webhook's secret is shown as.
pub(crate) const HIDDEN_SECRET: &str = "***";

fn router_to(from: api::Router) -> b::RouterConfig {
    match from {
        api::Router::Any => b::RouterConfig::Any,
        api::Router::Exact => b::RouterConfig::Exact,
        api::Router::Fanout => b::RouterConfig::Fanout,
        api::Router::Subject => b::RouterConfig::Subject,
        api::Router::Headers => b::RouterConfig::Headers,
        api::Router::Attribute => b::RouterConfig::Attribute,
        api::Router::ConsistentHash { header, property } => {
            b::RouterConfig::ConsistentHash { header, property: property.map(property_to) }
        }
    }
}

fn router_from(from: b::RouterConfig) -> api::Router {
    match from {
        b::RouterConfig::Any => api::Router::Any,
        b::RouterConfig::Exact => api::Router::Exact,
        b::RouterConfig::Fanout => api::Router::Fanout,
        b::RouterConfig::Subject => api::Router::Subject,
        b::RouterConfig::Headers => api::Router::Headers,
        b::RouterConfig::Attribute => api::Router::Attribute,
        b::RouterConfig::ConsistentHash { header, property } => {
            api::Router::ConsistentHash { header, property: property.map(property_from) }
        }
    }
}

fn dead_letter_to(from: api::DeadLetter) -> b::DeadLetterConfig {
    match from {
        api::DeadLetter::None => b::DeadLetterConfig::None,
        api::DeadLetter::Queue(queue) => b::DeadLetterConfig::Queue(queue),
        api::DeadLetter::Topic { topic, subject, or_drop } => b::DeadLetterConfig::Topic { topic, subject, or_drop },
        api::DeadLetter::Named { subject, or_drop } => b::DeadLetterConfig::Named { subject, or_drop },
    }
}

pub(crate) fn dead_letter_from(from: b::DeadLetterConfig) -> api::DeadLetter {
    match from {
        b::DeadLetterConfig::None => api::DeadLetter::None,
        b::DeadLetterConfig::Queue(queue) => api::DeadLetter::Queue(queue),
        b::DeadLetterConfig::Topic { topic, subject, or_drop } => api::DeadLetter::Topic { topic, subject, or_drop },
        b::DeadLetterConfig::Named { subject, or_drop } => api::DeadLetter::Named { subject, or_drop },
    }
}

pub(crate) fn target_to(from: api::BindingTarget) -> b::BindingTarget {
    match from {
        api::BindingTarget::Queue(name) => b::BindingTarget::Queue(name),
        api::BindingTarget::Topic(name) => b::BindingTarget::Topic(name),
    }
}

/// # Errors
/// If the filter makes no sense.
pub(crate) fn binding_to(from: api::BindingConfig) -> Result<b::BindingConfig, Failure> {
    Ok(b::BindingConfig {
        topic: from.topic,
        target: target_to(from.target),
        filter: FilterRecord::from(from.filter.into_filter()?),
        weight: from.weight,
        arguments: from.arguments,
    })
}

/// # Errors
/// If the stored filter cannot be read.
pub(crate) fn binding_from(from: b::BindingConfig) -> Result<api::BindingConfig, Failure> {
    let filter = types::Filter::try_from(from.filter);
    let filter = filter.map_err(|error| Failure::new(500, "storage-damaged", error.to_string()))?;
    Ok(api::BindingConfig {
        topic: from.topic,
        target: match from.target {
            b::BindingTarget::Queue(name) => api::BindingTarget::Queue(name),
            b::BindingTarget::Topic(name) => api::BindingTarget::Topic(name),
        },
        filter: api::Filter::from(&filter),
        weight: from.weight,
        arguments: from.arguments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets every field, so that one that is mapped to the wrong place shows.
    #[test]
    fn definitions_come_back_as_they_were() {
        let queue = r#"{"description":"d","lease_ms":1,"retry":{"max_attempts":2,"initial_ms":3,"factor":4.0,"cap_ms":5,"jitter":false,"non_retryable":["x"]},"dead_letter":{"topic":{"topic":"t","subject":"s","or_drop":true}},"keyed":true,"priority_levels":6,"ttl_ms":7,"delay_ms":8,"single_active":true,"max_messages":9,"max_bytes":10,"overflow":"drop-oldest","dedup_window_ms":11,"breaker":{"failure_ratio":0.5,"window":12,"pause_ms":13},"expires_ms":14,"auto_delete":true,"volatile":true,"durability":"os","webhook":{"url":"http://x","secret":"***","concurrency":15,"timeout_ms":16,"headers":{"a":"b"},"format":"cloudevents-binary"},"arguments":{"x":1}}"#;
        let read: api::QueueConfig = serde_json::from_str(queue).unwrap();
        assert_eq!(serde_json::to_string(&queue_from(queue_to(read))).unwrap(), queue);
        let topic = r#"{"description":"d","router":{"consistent-hash":{"header":"h"}},"retention":{"max_age_ms":1,"max_bytes":2,"max_records":3,"compact":true,"tombstone_ms":4},"partitions":5,"alternate":"a","captures":["c"],"durability":"memory","key_index":true,"internal":true,"live":false,"dedup_window_ms":6,"max_body_bytes":7,"auto_delete":true,"volatile":true,"arguments":{"x":1}}"#;
        let read: api::TopicConfig = serde_json::from_str(topic).unwrap();
        assert_eq!(serde_json::to_string(&topic_from(topic_to(read))).unwrap(), topic);
        for target in [r#"{"dead_letter":{"named":{"subject":"s"}}}"#, r#"{"dead_letter":{"named":{"or_drop":true}}}"#]
        {
            let read: api::QueueConfig = serde_json::from_str(target).unwrap();
            assert_eq!(serde_json::to_string(&queue_from(queue_to(read))).unwrap(), target);
        }
        let hashed = r#"{"router":{"consistent-hash":{"property":"correlation-id"}}}"#;
        let read: api::TopicConfig = serde_json::from_str(hashed).unwrap();
        assert_eq!(serde_json::to_string(&topic_from(topic_to(read))).unwrap(), hashed);
        let policy = r#"{"pattern":"p*","applies_to":"all","only_arguments":{"x":[null,1]},"layer":"operator","priority":1,"defaults":{"lease_ms":1,"retention":{"max_bytes":2}},"overrides":{"alternate":"x","max_body_bytes":3},"bounds":{"ttl_ms":4,"max_messages":5,"max_bytes":6,"expires_ms":7,"max_attempts":8},"arguments":{"y":{"z":1}}}"#;
        let read: api::PolicyConfig = serde_json::from_str(policy).unwrap();
        assert_eq!(serde_json::to_string(&policy_from(policy_to(read))).unwrap(), policy);
        let namespace = r#"{"description":"d","quota":{"max_topics":1,"max_queues":2,"max_bindings":3,"max_stored_bytes":4,"max_publish_rate":5,"max_body_bytes":6,"max_connections":7},"durability":"interval"}"#;
        let read: api::NamespaceConfig = serde_json::from_str(namespace).unwrap();
        assert_eq!(serde_json::to_string(&namespace_from(namespace_to(read))).unwrap(), namespace);
    }

    #[test]
    fn a_webhooks_secret_is_not_shown() {
        let read: api::Webhook = serde_json::from_str(r#"{"url":"http://x","secret":"s3cret"}"#).unwrap();
        let shown = webhook_from(webhook_to(read));
        assert_eq!(shown.secret.as_deref(), Some(HIDDEN_SECRET));
    }
}
