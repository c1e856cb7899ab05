//! The headers that the SDK writes, by name, and short ways to read and write headers.

use types::{Text, Value};

use crate::Envelope;

/// Name of the message's contract: `order.created`.
pub const MESSAGE: &str = "svc-message";
/// Version of the contract, a number.
pub const VERSION: &str = "svc-version";
/// Identifies the schema that the body was written with.
pub const SCHEMA: &str = "svc-schema";
/// The service that published it.
pub const SOURCE: &str = "svc-source";
/// Id of the message whose handling led to it.
pub const CAUSATION: &str = "svc-causation";
/// How many attempts were made, where the SDK does the retries.
pub const ATTEMPT: &str = "svc-attempt";
/// When the first attempt was made, in milliseconds since 1970, where the SDK does the retries.
pub const FIRST_ATTEMPT: &str = "svc-first-attempt-ms";
/// Why it was dead-lettered, where the SDK does that.
pub const DEAD_LETTER_REASON: &str = "svc-dead-letter-reason";
/// The error of its last attempt, where the SDK dead-letters.
pub const DEAD_LETTER_ERROR: &str = "svc-dead-letter-error";
/// The queue that it was dead-lettered from, where the SDK does that.
pub const DEAD_LETTER_QUEUE: &str = "svc-dead-letter-queue";
/// When it was dead-lettered, in milliseconds since 1970, where the SDK does that.
pub const DEAD_LETTER_TIME: &str = "svc-dead-letter-ms";
/// In an answer: what went wrong, instead of the reply.
pub const REPLY_ERROR: &str = "svc-reply-error";
/// In an answer with [`REPLY_ERROR`]: `terminal` or `transient`.
pub const REPLY_ERROR_KIND: &str = "svc-reply-error-kind";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace context.
pub const TRACESTATE: &str = "tracestate";

/// The first header of this name that is text.
#[must_use]
pub fn text<'a>(envelope: &'a Envelope, name: &str) -> Option<&'a str> {
    match envelope.header(name)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The first header of this name that is a whole number, or text that says one.
#[must_use]
pub fn number(envelope: &Envelope, name: &str) -> Option<i64> {
    match envelope.header(name)? {
        Value::Int { value, .. } | Value::Timestamp(types::Timestamp(value)) => Some(*value),
        Value::Uint { value, .. } => i64::try_from(*value).ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// Writes a header of text, in place of those of the same name.
pub fn set(envelope: &mut Envelope, name: &'static str, text: impl Into<Text>) {
    set_value(envelope, name, Value::Text(text.into()));
}

/// Writes a header, in place of those of the same name.
pub fn set_value(envelope: &mut Envelope, name: &'static str, value: Value) {
    remove(envelope, name);
    envelope.headers.push((Text::from_static(name), value));
}

/// Removes the headers of this name.
pub fn remove(envelope: &mut Envelope, name: &str) {
    envelope.headers.retain(|(have, _)| *have != *name);
}
