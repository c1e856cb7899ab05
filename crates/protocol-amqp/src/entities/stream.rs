//! Streams: queues of type `stream`, each a topic with a log.
//!
//! `stream.<queue>` is the topic's name. Whatever is published to it, by a binding or under the queue's name, is kept as long as `x-max-age` and
//! `x-max-length-bytes` say, and every consumer reads it from where it likes. Segments are the engine's own, so that
//! `x-stream-max-segment-size-bytes` is kept and shown, and no more.

use broker::definitions::{DurabilityConfig, RetentionConfig, RouterConfig, TopicConfig};
use types::limits::{MAX_NAME_BYTES, MAX_SPAN_MS};
use types::{Headers, Value};

use super::arguments;
use super::queue_arguments::{QUEUE_TYPE, QueueType, integer, max_age_ms};
use crate::fault::Fault;

const PREFIX: &str = "stream.";

/// The topic of a stream's log.
pub(crate) fn topic_of(queue: &str) -> String {
    format!("{PREFIX}{queue}")
}

/// The stream whose log a topic is, if it is one's.
pub(crate) fn queue_of<'a>(topic: &'a str, config: &TopicConfig) -> Option<&'a str> {
    topic.strip_prefix(PREFIX).filter(|_| is_stream(config))
}

/// Whether a topic is a stream's log.
pub(crate) fn is_stream(config: &TopicConfig) -> bool {
    config.arguments.get(QUEUE_TYPE).and_then(serde_json::Value::as_str) == Some(QueueType::Stream.name())
}

/// The topic for a stream of checked arguments.
///
/// # Errors
/// 406 if it would be too short-lived or its name too long.
pub(super) fn config(entity: &str, name: &str, arguments: &Headers) -> Result<TopicConfig, Fault> {
    if name.len() + PREFIX.len() > MAX_NAME_BYTES {
        let most = MAX_NAME_BYTES - PREFIX.len();
        let text = format!("the name of a stream has at most {most} bytes; that of {entity} has {}", name.len());
        return Err(Fault::precondition_failed(text));
    }
    let max_age = arguments::get(arguments, "x-max-age").and_then(Value::as_text).and_then(max_age_ms);
    let max_bytes = arguments::get(arguments, "x-max-length-bytes").and_then(integer);
    let retention = RetentionConfig {
        max_age_ms: max_age.map(|age| age.min(MAX_SPAN_MS)),
        // To RabbitMQ, too, a stream without room keeps what is in its last segment.
        max_bytes: max_bytes.map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX).max(1)),
        ..RetentionConfig::default()
    };
    Ok(TopicConfig {
        router: RouterConfig::Fanout,
        retention: Some(retention),
        captures: Some(Vec::new()),
        live: Some(false),
        durability: Some(DurabilityConfig::Fsync),
        arguments: arguments::keep(arguments)?,
        ..TopicConfig::default()
    })
}
