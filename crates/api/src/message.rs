//! A message in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use types::{MessageId, Text, Timestamp};
use utoipa::ToSchema;

use crate::value::Headers;

/// A message. Its body is exactly one of `body` (any JSON value; its text is kept as written), `text`, `base64` and `tombstone` (a
/// null body). What the broker gives out can be published again as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(examples(json!({"subject": "orders.created", "key": "customer-7", "headers": {"region": "eu"}, "body": {"order": 1}})))]
pub struct Message {
    /// What tells this message from all others; made by the broker if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the message is about: dot-separated words, on which bindings filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The subject, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_base64: Option<String>,
    /// Ordering and partitioning key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The application's headers.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// The body as a JSON value.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = serde_json::Value, required = false)]
    pub body: Option<RawJson>,
    /// The body as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The body as base64 of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// `true`: there is no body (Kafka's tombstone).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tombstone: bool,
    /// MIME type of the body; `application/json` for `body` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// When it was made, in milliseconds since 1970; stamped by the broker if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
    /// What request this answers, or what conversation it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where an answer goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Queues do not deliver it before this time, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<i64>,
    /// The same from now on. Only when publishing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Queues do not deliver it after this time, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// The same from now on. Only when publishing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// 0 (lowest, the default) to 255; a queue clamps to the levels it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// A queue or topic with a dedup window takes a message of the same dedup id once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_id: Option<String>,
    /// `true`: may be lost with the process, unless the queue or topic, or a policy, states a durability.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
}

/// A JSON value whose text is kept as it was written: a body is not changed by passing through.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(pub Box<RawValue>);

impl RawJson {
    /// Checks that `text` is one JSON value.
    ///
    /// # Errors
    /// The parser's.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl utoipa::PartialSchema for RawJson {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::Object::with_type(utoipa::openapi::schema::SchemaType::AnyValue).into()
    }
}
impl ToSchema for RawJson {}

/// `null` is a JSON body too: it must not read as a field that is missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

/// Why a JSON message is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// None of the body's forms, or more than one.
    #[error("a message has exactly one of `body`, `text`, `base64` and `tombstone`; this one has {0}")]
    OneBody(usize),
    /// Both forms of the same field.
    #[error("`{0}` and `{1}` say the same thing twice; give one")]
    Both(&'static str, &'static str),
    /// Not base64.
    #[error("`{0}` is not base64")]
    Base64(&'static str),
}

impl MessageError {
    /// The field at fault.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::OneBody(_) => "body",
            Self::Both(field, _) | Self::Base64(field) => field,
        }
    }
}

impl Message {
    /// The message that this says, with the spans `delay_ms` and `ttl_ms` counted from `now`.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn into_message(self, now: Timestamp) -> Result<types::Message, MessageError> {
        let forms = [self.body.is_some(), self.text.is_some(), self.base64.is_some(), self.tombstone];
        match forms.iter().filter(|given| **given).count() {
            1 => {}
            count => return Err(MessageError::OneBody(count)),
        }
        let mut content_type = self.content_type;
        let body = if let Some(json) = self.body {
            content_type.get_or_insert_with(|| "application/json".to_owned());
            Some(Bytes::from(Box::<str>::from(json.0).into_string()))
        } else if let Some(text) = self.text {
            Some(Bytes::from(text))
        } else if let Some(base64) = self.base64 {
            Some(decode("base64", &base64)?)
        } else {
            None
        };
        let after = |ms: u64| Timestamp(now.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
        let text = |text: Option<String>| text.map(Text::from);
        Ok(types::Message {
            id: self.id.map(id_from_text),
            subject: either("subject", self.subject, "subject_base64", self.subject_base64)?.unwrap_or_default(),
            key: either("key", self.key, "key_base64", self.key_base64)?,
            headers: self.headers.0,
            body,
            content_type: text(content_type),
            timestamp: self.timestamp_ms.map(Timestamp),
            correlation_id: text(self.correlation_id),
            reply_to: text(self.reply_to),
            not_before: one_time("not_before_ms", self.not_before_ms, "delay_ms", self.delay_ms.map(after))?,
            expires_at: one_time("expires_at_ms", self.expires_at_ms, "ttl_ms", self.ttl_ms.map(after))?,
            priority: self.priority,
            dedup_id: text(self.dedup_id),
            durable: !self.transient,
            ..types::Message::default()
        })
    }
}

fn one_time(
    name: &'static str,
    at: Option<i64>,
    span_name: &'static str,
    span: Option<Timestamp>,
) -> Result<Option<Timestamp>, MessageError> {
    match (at, span) {
        (Some(_), Some(_)) => Err(MessageError::Both(name, span_name)),
        (at, span) => Ok(at.map(Timestamp).or(span)),
    }
}

fn either(
    name: &'static str,
    text: Option<String>,
    base64_name: &'static str,
    base64: Option<String>,
) -> Result<Option<Bytes>, MessageError> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(MessageError::Both(name, base64_name)),
        (Some(text), None) => Ok(Some(Bytes::from(text))),
        (None, Some(base64)) => decode(base64_name, &base64).map(Some),
        (None, None) => Ok(None),
    }
}

fn decode(name: &'static str, text: &str) -> Result<Bytes, MessageError> {
    BASE64.decode(text).map(Bytes::from).map_err(|_| MessageError::Base64(name))
}

/// A text of a UUID's canonical form is kept as the 16 bytes that it stands for; its text comes out the same.
#[must_use]
pub fn id_from_text(text: String) -> MessageId {
    uuid_bytes(text.as_bytes()).map_or_else(|| MessageId::Text(text.into()), MessageId::Uuid)
}

/// The bytes of a UUID in its canonical form. Every delivery carries one, so that this makes no text on its way.
pub(crate) fn uuid_bytes(text: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.try_into().ok()?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut uuid = [0; 16];
    let mut at = 0;
    for (number, byte) in uuid.iter_mut().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(uuid)
}

impl From<&types::Message> for Message {
    fn from(message: &types::Message) -> Self {
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.as_str().to_owned());
        let (subject, subject_base64) = text_or_base64(&message.subject);
        let (key, key_base64) = message.key.as_ref().map(text_or_base64).unwrap_or_default();
        let mut out = Self {
            id: message.id.as_ref().map(ToString::to_string),
            subject: subject.filter(|subject| !subject.is_empty()),
            subject_base64,
            key,
            key_base64,
            headers: Headers(message.headers.clone()),
            content_type: text(&message.content_type),
            timestamp_ms: message.timestamp.map(|at| at.0),
            correlation_id: text(&message.correlation_id),
            reply_to: text(&message.reply_to),
            not_before_ms: message.not_before.map(|at| at.0),
            expires_at_ms: message.expires_at.map(|at| at.0),
            priority: message.priority,
            dedup_id: text(&message.dedup_id),
            transient: !message.durable,
            ..Self::default()
        };
        match &message.body {
            None => out.tombstone = true,
            Some(body) => match std::str::from_utf8(body) {
                Err(_) => out.base64 = Some(BASE64.encode(body)),
                Ok(body) => {
                    // Whitespace around the value would be lost in `body`, so that such a body goes out as text.
                    let json = out.content_type.as_deref().is_some_and(is_json).then(|| RawJson::parse(body).ok());
                    match json.flatten().filter(|json| json.get().len() == body.len()) {
                        Some(json) => out.body = Some(json),
                        None => out.text = Some(body.to_owned()),
                    }
                }
            },
        }
        out
    }
}

fn text_or_base64(bytes: &Bytes) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

/// Whether a MIME type says that the content is JSON: `application/json`, `text/json` or any `…+json`, whatever the parameters.
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<types::Message, String> {
        let message: Message = serde_json::from_str(json).map_err(|error| error.to_string())?;
        message.into_message(Timestamp(1000)).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn round_trip(json: &str) {
        let message = read(json).unwrap();
        assert_eq!(serde_json::to_string(&Message::from(&message)).unwrap(), json);
    }

    #[test]
    fn bodies_come_back_in_the_form_that_fits() {
        round_trip(
            r#"{"subject":"a.b","body":{"b":1,"a": 12345678901234567890123},"content_type":"application/json"}"#,
        );
        round_trip(r#"{"body":null,"content_type":"application/json"}"#);
        round_trip(r#"{"text":"not json","content_type":"application/json"}"#);
        round_trip(r#"{"text":"ü"}"#);
        round_trip(r#"{"base64":"/w=="}"#);
        round_trip(r#"{"subject_base64":"/w==","key_base64":"/w==","tombstone":true}"#);
        round_trip(r#"{"id":"0190a6f0-0000-7000-8000-000000000001","text":"","transient":true}"#);
        assert_eq!(read(r#"{"body":1}"#).unwrap().content_type, Some("application/json".into()));
    }

    #[test]
    fn a_message_has_exactly_one_body() {
        assert!(read("{}").unwrap_err().contains("has 0"));
        assert!(read(r#"{"body":null,"text":"x"}"#).unwrap_err().contains("has 2"));
        assert!(read(r#"{"base64":"!"}"#).unwrap_err().contains("not base64"));
        assert!(read(r#"{"text":"","subject":"a","subject_base64":""}"#).unwrap_err().contains("twice"));
        assert!(read(r#"{"text":"","boddy":1}"#).unwrap_err().contains("unknown field `boddy`"));
    }

    #[test]
    fn spans_count_from_now() {
        let message = read(r#"{"text":"","delay_ms":5,"ttl_ms":18446744073709551615}"#).unwrap();
        assert_eq!(message.not_before, Some(Timestamp(1005)));
        assert_eq!(message.expires_at, Some(Timestamp(i64::MAX)));
        assert!(read(r#"{"text":"","delay_ms":5,"not_before_ms":5}"#).unwrap_err().contains("twice"));
    }
}
