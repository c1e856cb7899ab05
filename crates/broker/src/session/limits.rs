//! The limits of a message that hold for all protocols.

use bytes::Bytes;
use types::limits::{
    MAX_ALSO_SUBJECTS, MAX_HEADERS, MAX_HEADERS_BYTES, MAX_KEY_BYTES, MAX_PROPERTY_BYTES, MAX_SUBJECT_BYTES,
    MAX_VALUE_DEPTH,
};
use types::{Message, MessageId, Text, Value};

use crate::errors::PublishError;
use crate::record::is_own_header;

pub(super) fn within(
    what: &'static str,
    size: usize,
    limit: usize,
    limit_name: &'static str,
) -> Result<(), PublishError> {
    if size <= limit {
        return Ok(());
    }
    Err(PublishError::TooLarge { what, size: size as u64, limit: limit as u64, limit_name })
}

pub(super) fn check_body(message: &Message, limit: u64, limit_name: &'static str) -> Result<(), PublishError> {
    let size = message.body.as_ref().map_or(0, |body| body.len() as u64);
    if size <= limit {
        return Ok(());
    }
    Err(PublishError::TooLarge { what: "body", size, limit, limit_name })
}

/// Checks a message against the limits that hold for all protocols.
pub(super) fn check(message: &Message, max_body: u64) -> Result<(), PublishError> {
    check_body(message, max_body, "max_body_bytes")?;
    within("subject", message.subject.len(), MAX_SUBJECT_BYTES, "MAX_SUBJECT_BYTES")?;
    within("number of further subjects", message.also.len(), MAX_ALSO_SUBJECTS, "MAX_ALSO_SUBJECTS")?;
    for subject in &message.also {
        within("subject", subject.len(), MAX_SUBJECT_BYTES, "MAX_SUBJECT_BYTES")?;
    }
    within("key", message.key.as_ref().map_or(0, Bytes::len), MAX_KEY_BYTES, "MAX_KEY_BYTES")?;
    let property = |what, text: Option<&Text>| {
        within(what, text.map_or(0, |text| text.bytes().len()), MAX_PROPERTY_BYTES, "MAX_PROPERTY_BYTES")
    };
    property("content type", message.content_type.as_ref())?;
    property("correlation id", message.correlation_id.as_ref())?;
    property("reply-to", message.reply_to.as_ref())?;
    property("dedup id", message.dedup_id.as_ref())?;
    if let Some(MessageId::Text(id)) = &message.id {
        property("message id", Some(id))?;
    }
    within("number of headers", message.headers.len(), MAX_HEADERS, "MAX_HEADERS")?;
    let mut bytes = 0;
    for (name, value) in &message.headers {
        if is_own_header(name) {
            let why = "this name is reserved; set the message's field of that name instead".to_owned();
            return Err(PublishError::Invalid { field: format!("headers.{name}"), why });
        }
        if depth(value) > MAX_VALUE_DEPTH {
            let why = format!("values nest at most {MAX_VALUE_DEPTH} deep (MAX_VALUE_DEPTH)");
            return Err(PublishError::Invalid { field: format!("headers.{name}"), why });
        }
        bytes += name.bytes().len() + value.weight_bytes();
    }
    within("headers", bytes, MAX_HEADERS_BYTES, "MAX_HEADERS_BYTES")
}

fn depth(value: &Value) -> usize {
    match value {
        Value::List(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        _ => 0,
    }
}
