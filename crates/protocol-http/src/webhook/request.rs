//! How a message is written into a request.

use api::rfc3339;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use broker::definitions::WebhookFormat;
use broker::views::Delivered;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use types::{Message, Timestamp, Value};

use super::endpoint::Endpoint;
use super::limits::{MAX_MADE_HEADER_BYTES, MAX_MADE_HEADERS_BYTES};
use super::sign::webhook_id;
use crate::cloudevents::{Event, STRUCTURED_TYPE, source};

/// What a header's value may not hold as it is: the same as in CloudEvents' headers, so that a receiver decodes both alike.
const IN_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// What a header's name may not hold: all that is no token character (RFC 9110, section 5.6.2), and `%`.
const IN_NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');
/// Of a CloudEvent's headers those that it is nothing without.
const EVENT_HEADERS: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
/// Longest trace header that is sent on, in bytes. (W3C Trace Context, section 3.3.1.5, asks for 512 at least.)
const MAX_TRACE_BYTES: usize = 512;

/// Where a message is pushed from.
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) queue: String,
}

/// Headers and body of the request for one delivery.
pub(super) fn make(endpoint: &Endpoint, place: &Place, delivered: &Delivered, now: Timestamp) -> (HeaderMap, Bytes) {
    let mut headers = endpoint.headers.clone();
    let mut made = Made { headers: &mut headers, left_bytes: MAX_MADE_HEADERS_BYTES, omitted: 0 };
    made.trace(&delivered.message);
    let body = match endpoint.format {
        WebhookFormat::Native => native(&mut made, place, delivered),
        WebhookFormat::CloudeventsBinary => {
            let (mut event, body) = event(place, delivered).into_binary();
            for name in EVENT_HEADERS {
                event.remove(name).into_iter().for_each(|value| made.put(HeaderName::from_static(name), value));
            }
            event.iter().for_each(|(name, value)| made.put(name.clone(), value.clone()));
            body
        }
        WebhookFormat::CloudeventsStructured => {
            made.put(header::CONTENT_TYPE, HeaderValue::from_static(STRUCTURED_TYPE));
            // Texts, numbers and base64: nothing in it can fail to be written.
            Bytes::from(serde_json::to_vec(&event(place, delivered)).unwrap_or_default())
        }
    };
    if made.omitted > 0 {
        let omitted = made.omitted;
        headers.insert("posthouse-headers-omitted", HeaderValue::from(omitted));
    }
    identify(&mut headers, endpoint, delivered, &body, now);
    (headers, body)
}

/// The headers of Standard Webhooks.
fn identify(headers: &mut HeaderMap, endpoint: &Endpoint, delivered: &Delivered, body: &Bytes, now: Timestamp) {
    let lease = delivered.receipt.lease;
    let unnamed = || format!("q{:x}-{:x}", delivered.receipt.queue.0, lease.offset.0);
    let id = delivered.message.id.as_ref().map_or_else(unnamed, webhook_id);
    let timestamp_s = now.0.div_euclid(1000);
    let signature = endpoint.key.as_ref().map(|key| key.sign(&id, timestamp_s, body));
    let texts = [
        ("webhook-id", Some(id)),
        ("webhook-timestamp", Some(timestamp_s.to_string())),
        ("webhook-signature", signature),
    ];
    for (name, text) in texts {
        if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
}

fn event(place: &Place, delivered: &Delivered) -> Event {
    let source = source(&place.namespace, "queues", &place.queue);
    Event::of(&delivered.message, &source, vec![("phattempt", Value::int(delivered.attempt.into()))])
}

/// The native form: the body as it is.
fn native(made: &mut Made<'_>, place: &Place, delivered: &Delivered) -> Bytes {
    let message = &*delivered.message;
    let kind = message.content_type.as_deref().and_then(|kind| HeaderValue::try_from(kind).ok());
    made.put(header::CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    made.text("posthouse-namespace", place.namespace.as_bytes());
    made.text("posthouse-queue", place.queue.as_bytes());
    made.text("posthouse-attempt", delivered.attempt.to_string().as_bytes());
    if let Some(id) = &message.id {
        made.text("posthouse-id", id.to_string().as_bytes());
    }
    made.text("posthouse-subject", &message.subject);
    if let Some(timestamp) = message.timestamp {
        made.text("posthouse-timestamp", rfc3339::format(timestamp.0).as_bytes());
    }
    if delivered.redelivered {
        made.text("posthouse-redelivered", b"true");
    }
    if message.body.is_none() {
        made.text("posthouse-null-body", b"true");
    }
    if let Some(priority) = message.priority {
        made.text("posthouse-priority", priority.to_string().as_bytes());
    }
    let texts = [
        ("posthouse-key", message.key.as_ref()),
        ("posthouse-correlation-id", message.correlation_id.as_ref().map(types::Text::bytes)),
        ("posthouse-reply-to", message.reply_to.as_ref().map(types::Text::bytes)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            made.text(name, text);
        }
    }
    for (name, value) in message.headers.iter().filter(|(name, _)| *name != *"traceparent" && *name != *"tracestate") {
        let name = format!("{}{}", api::HEADER_PREFIX, percent_encode(name.bytes(), IN_NAME));
        match HeaderName::try_from(name) {
            Ok(name) => made.put(name, encoded(value_text(value).as_bytes())),
            Err(_) => made.omitted += 1,
        }
    }
    message.body.clone().unwrap_or_default()
}

/// A header's value as text. Lists and maps are written as the JSON of the HTTP API writes them.
fn value_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Int { value, .. } => value.to_string(),
        Value::Uint { value, .. } => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Text(text) => text.to_string(),
        Value::Bytes(bytes) => BASE64.encode(bytes),
        Value::Timestamp(at) => rfc3339::format(at.0),
        Value::Decimal { .. } | Value::List(_) | Value::Map(_) => {
            serde_json::to_string(&api::HeaderValue(value.clone())).unwrap_or_default()
        }
    }
}

/// Percent-encoded, so that it is plain visible ASCII whatever it was.
fn encoded(bytes: &[u8]) -> HeaderValue {
    let text = percent_encode(bytes, IN_VALUE).to_string();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// The headers that a message is made into, within their bounds.
struct Made<'a> {
    headers: &'a mut HeaderMap,
    left_bytes: usize,
    omitted: u32,
}

impl Made<'_> {
    fn text(&mut self, name: &'static str, bytes: &[u8]) {
        self.put(HeaderName::from_static(name), encoded(bytes));
    }

    fn put(&mut self, name: HeaderName, value: HeaderValue) {
        let bytes = name.as_str().len() + value.len();
        if value.len() > MAX_MADE_HEADER_BYTES || bytes > self.left_bytes {
            self.omitted += 1;
            return;
        }
        self.left_bytes -= bytes;
        self.headers.append(name, value);
    }

    /// Sends the trace context on. A state without its parent means nothing. (W3C Trace Context, section 3.3.)
    fn trace(&mut self, message: &Message) {
        let of =
            |name: &str| message.header(name).and_then(Value::as_text).filter(|text| text.len() <= MAX_TRACE_BYTES);
        let Some(parent) = of("traceparent").filter(|text| is_traceparent(text)) else { return };
        for (name, text) in [("traceparent", Some(parent)), ("tracestate", of("tracestate"))] {
            if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
                // A webhook's definition may not put its own in the way.
                self.headers.remove(name);
                self.put(HeaderName::from_static(name), value);
            }
        }
    }
}

/// Four fields of lower-case hexadecimal digits, of which later versions may add more. (W3C Trace Context, section 3.2.)
fn is_traceparent(text: &str) -> bool {
    let mut fields = text.split('-');
    let hex = |field: &str| field.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    [2, 32, 16, 2].into_iter().all(|len| fields.next().is_some_and(|field| field.len() == len && hex(field)))
}
