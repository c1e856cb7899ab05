//! How a message is kept in a column of text: JSON of a version, drawn in docs/formats/service-tables.md. The body is a column of its own.
//!
//! Text, so that whoever looks into the table with the database's own shell can read what is on its way.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::limits::MAX_VALUE_DEPTH;
use types::{MessageId, Text, Timestamp, Value};

use crate::Envelope;
use crate::transport::{Destination, Outgoing};

/// The version that is written. One that is higher is not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    to: StoredDestination,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<StoredId>,
    subject: Octets,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    also: Vec<Octets>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Octets>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, StoredValue)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dedup_id: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    transient: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredDestination {
    Topic(String),
    Queue(String),
    Live,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredId {
    Text(String),
    Uuid(String),
}

/// Bytes: as text where they are UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Octets {
    Text(String),
    Base64 { base64: String },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredValue {
    Null,
    Bool(bool),
    /// The number and its width in bytes.
    Int(i64, u8),
    Uint(u64, u8),
    /// As text: JSON has no infinities and not all digits.
    Float(String),
    Double(String),
    /// Digits after the point, and the number without its point.
    Decimal(u8, i64),
    Text(String),
    Bytes(String),
    TimestampMs(i64),
    List(Vec<StoredValue>),
    Map(Vec<(String, StoredValue)>),
}

/// Why a message cannot be kept, or not be read back.
pub(super) type Why = String;

/// The text to keep of a message, without its body.
pub(super) fn write(outgoing: &Outgoing) -> Result<String, Why> {
    let message = &outgoing.message;
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.to_string());
    let stored = Stored {
        v: VERSION,
        to: match &outgoing.to {
            Destination::Topic(name) => StoredDestination::Topic(name.clone()),
            Destination::Queue(name) => StoredDestination::Queue(name.clone()),
            Destination::Live => StoredDestination::Live,
        },
        id: message.id.as_ref().map(|id| match id {
            MessageId::Text(text) => StoredId::Text(text.to_string()),
            MessageId::Uuid(bytes) => StoredId::Uuid(uuid::Uuid::from_bytes(*bytes).to_string()),
        }),
        subject: octets(&message.subject),
        also: message.also.iter().map(|subject| octets(subject)).collect(),
        topic: text(&message.topic),
        key: message.key.as_deref().map(octets),
        headers: write_headers(&message.headers)?,
        content_type: text(&message.content_type),
        timestamp_ms: message.timestamp.map(|time| time.0),
        correlation_id: text(&message.correlation_id),
        reply_to: text(&message.reply_to),
        not_before_ms: message.not_before.map(|time| time.0),
        expires_at_ms: message.expires_at.map(|time| time.0),
        priority: message.priority,
        dedup_id: text(&message.dedup_id),
        transient: !message.durable,
    };
    serde_json::to_string(&stored).map_err(|error| error.to_string())
}

/// The message that was kept so.
pub(super) fn read(stored: &str, body: Option<Vec<u8>>) -> Result<Outgoing, Why> {
    /// The version alone: a later one may look otherwise.
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let Version { v } = serde_json::from_str(stored).map_err(|error| error.to_string())?;
    if v > VERSION {
        return Err(format!(
            "it is kept in version {v}, and this service reads up to {VERSION}; retry it once a later one runs"
        ));
    }
    let stored: Stored = serde_json::from_str(stored).map_err(|error| error.to_string())?;
    let text = |text: Option<String>| text.map(Text::from);
    let message = Envelope {
        id: stored.id.map(StoredId::into_id).transpose()?,
        subject: stored.subject.into_bytes()?,
        also: stored.also.into_iter().map(Octets::into_bytes).collect::<Result<_, _>>()?,
        topic: text(stored.topic),
        key: stored.key.map(Octets::into_bytes).transpose()?,
        headers: read_map(stored.headers)?,
        body: body.map(Bytes::from),
        content_type: text(stored.content_type),
        timestamp: stored.timestamp_ms.map(Timestamp),
        correlation_id: text(stored.correlation_id),
        reply_to: text(stored.reply_to),
        not_before: stored.not_before_ms.map(Timestamp),
        expires_at: stored.expires_at_ms.map(Timestamp),
        priority: stored.priority,
        dedup_id: text(stored.dedup_id),
        durable: !stored.transient,
    };
    let to = match stored.to {
        StoredDestination::Topic(name) => Destination::Topic(name),
        StoredDestination::Queue(name) => Destination::Queue(name),
        StoredDestination::Live => Destination::Live,
    };
    Ok(Outgoing { to, message })
}

/// Headers alone, as the event store keeps them: a list of names and values.
pub(super) fn headers_text(headers: &[(Text, Value)]) -> Result<String, Why> {
    serde_json::to_string(&write_headers(headers)?).map_err(|error| error.to_string())
}

/// The headers that were kept so.
pub(super) fn headers_from(text: &str) -> Result<Vec<(Text, Value)>, Why> {
    read_map(serde_json::from_str(text).map_err(|error| error.to_string())?)
}

fn write_headers(headers: &[(Text, Value)]) -> Result<Vec<(String, StoredValue)>, Why> {
    headers.iter().map(|(name, value)| Ok((name.to_string(), write_value(value, MAX_VALUE_DEPTH)?))).collect()
}

fn write_value(value: &Value, depth: usize) -> Result<StoredValue, Why> {
    let Some(within) = depth.checked_sub(1) else {
        return Err(format!("a header's lists and maps are nested deeper than {MAX_VALUE_DEPTH}"));
    };
    Ok(match value {
        Value::Null => StoredValue::Null,
        Value::Bool(value) => StoredValue::Bool(*value),
        Value::Int { value, width_bytes } => StoredValue::Int(*value, *width_bytes),
        Value::Uint { value, width_bytes } => StoredValue::Uint(*value, *width_bytes),
        Value::Float(value) => StoredValue::Float(value.to_string()),
        Value::Double(value) => StoredValue::Double(value.to_string()),
        Value::Decimal { scale, unscaled } => StoredValue::Decimal(*scale, *unscaled),
        Value::Text(text) => StoredValue::Text(text.to_string()),
        Value::Bytes(bytes) => StoredValue::Bytes(BASE64_STANDARD.encode(bytes)),
        Value::Timestamp(time) => StoredValue::TimestampMs(time.0),
        Value::List(values) => {
            StoredValue::List(values.iter().map(|value| write_value(value, within)).collect::<Result<_, _>>()?)
        }
        Value::Map(entries) => StoredValue::Map(
            entries
                .iter()
                .map(|(name, value)| Ok((name.to_string(), write_value(value, within)?)))
                .collect::<Result<_, Why>>()?,
        ),
    })
}

fn read_map(entries: Vec<(String, StoredValue)>) -> Result<Vec<(Text, Value)>, Why> {
    entries.into_iter().map(|(name, value)| Ok((Text::from(name), read_value(value)?))).collect()
}

fn read_value(value: StoredValue) -> Result<Value, Why> {
    Ok(match value {
        StoredValue::Null => Value::Null,
        StoredValue::Bool(value) => Value::Bool(value),
        StoredValue::Int(value, width_bytes) => Value::Int { value, width_bytes },
        StoredValue::Uint(value, width_bytes) => Value::Uint { value, width_bytes },
        StoredValue::Float(text) => Value::Float(text.parse().map_err(|_| format!("{text:?} is no number"))?),
        StoredValue::Double(text) => Value::Double(text.parse().map_err(|_| format!("{text:?} is no number"))?),
        StoredValue::Decimal(scale, unscaled) => Value::Decimal { scale, unscaled },
        StoredValue::Text(text) => Value::Text(text.into()),
        StoredValue::Bytes(base64) => Value::Bytes(from_base64(&base64)?),
        StoredValue::TimestampMs(time) => Value::Timestamp(Timestamp(time)),
        StoredValue::List(values) => Value::List(values.into_iter().map(read_value).collect::<Result<_, _>>()?),
        StoredValue::Map(entries) => Value::Map(read_map(entries)?),
    })
}

impl StoredId {
    fn into_id(self) -> Result<MessageId, Why> {
        Ok(match self {
            Self::Text(text) => MessageId::Text(text.into()),
            Self::Uuid(uuid) => {
                MessageId::Uuid(uuid::Uuid::parse_str(&uuid).map_err(|error| error.to_string())?.into_bytes())
            }
        })
    }
}

fn octets(bytes: &[u8]) -> Octets {
    match std::str::from_utf8(bytes) {
        Ok(text) => Octets::Text(text.to_owned()),
        Err(_) => Octets::Base64 { base64: BASE64_STANDARD.encode(bytes) },
    }
}

impl Octets {
    fn into_bytes(self) -> Result<Bytes, Why> {
        match self {
            Self::Text(text) => Ok(Bytes::from(text)),
            Self::Base64 { base64 } => from_base64(&base64),
        }
    }
}

fn from_base64(base64: &str) -> Result<Bytes, Why> {
    BASE64_STANDARD.decode(base64).map(Bytes::from).map_err(|error| format!("base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Outgoing {
        let deep = (1..MAX_VALUE_DEPTH).fold(Value::Null, |within, _| Value::List(vec![within]));
        let header = |name: &str, value| (Text::from(name), value);
        Outgoing {
            to: Destination::Queue("orders".to_owned()),
            message: Envelope {
                id: Some(MessageId::Uuid([7; 16])),
                subject: Bytes::from_static(&[0xff, b'a']),
                also: vec![Bytes::from_static(b"order.*")],
                topic: Some("orders".into()),
                key: Some(Bytes::from_static(b"\0o-1")),
                headers: vec![
                    header("n", Value::Null),
                    header("n", Value::Bool(true)),
                    header("i", Value::Int { value: i64::MIN, width_bytes: 4 }),
                    header("u", Value::Uint { value: u64::MAX, width_bytes: 8 }),
                    header("f", Value::Float(f32::INFINITY)),
                    header("d", Value::Double(0.1 + 0.2)),
                    header("m", Value::Decimal { scale: 2, unscaled: -1999 }),
                    header("t", Value::Text("\u{0}ü".into())),
                    header("b", Value::Bytes(Bytes::from_static(&[0, 255]))),
                    header("s", Value::Timestamp(Timestamp(-5))),
                    header("deep", deep),
                    header("map", Value::Map(vec![header("x", Value::int(1)), header("x", Value::int(2))])),
                ],
                body: Some(Bytes::from_static(b"\0\xffbody")),
                content_type: Some("application/json".into()),
                timestamp: Some(Timestamp(1)),
                correlation_id: Some("c".into()),
                reply_to: Some("r".into()),
                not_before: Some(Timestamp(2)),
                expires_at: Some(Timestamp(3)),
                priority: Some(9),
                dedup_id: Some("d".into()),
                durable: false,
            },
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was_kept() {
        let outgoing = full();
        let text = write(&outgoing).unwrap();
        assert_eq!(read(&text, Some(outgoing.message.body.clone().unwrap().to_vec())).unwrap(), outgoing);
        let least = Outgoing { to: Destination::Live, message: Envelope { body: None, ..Envelope::default() } };
        assert_eq!(read(&write(&least).unwrap(), None).unwrap(), least);
    }

    #[test]
    fn version_1_is_read_for_ever() {
        let text = r#"{"v":1,"to":{"topic":"orders"},"id":{"text":"m-1"},"subject":"order.created","key":"o-1","headers":[["svc-version",{"int":[1,8]}],["note",{"text":"x"}],["none","null"]],"timestamp_ms":5,"dedup_id":"m-1","later":true}"#;
        let read = read(text, Some(b"{}".to_vec())).unwrap();
        let mut message = Envelope::new("order.created", "{}");
        message.id = Some(MessageId::Text("m-1".into()));
        message.key = Some(Bytes::from_static(b"o-1"));
        message.headers = vec![
            ("svc-version".into(), Value::int(1)),
            ("note".into(), Value::from("x")),
            ("none".into(), Value::Null),
        ];
        message.timestamp = Some(Timestamp(5));
        message.dedup_id = Some("m-1".into());
        assert_eq!(read, Outgoing { to: Destination::Topic("orders".to_owned()), message });
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert!(read(r#"{"v":2,"to":"elsewhere"}"#, None).unwrap_err().contains("version 2"));
        assert!(read("{", None).is_err());
        let deep = (0..MAX_VALUE_DEPTH).fold(Value::Null, |within, _| Value::List(vec![within]));
        let message = Envelope { headers: vec![("deep".into(), deep)], ..Envelope::default() };
        assert!(write(&Outgoing { to: Destination::Live, message }).unwrap_err().contains("nested"));
    }
}
