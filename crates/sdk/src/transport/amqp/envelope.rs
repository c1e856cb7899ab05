//! A message as AMQP carries it.
//!
//! What AMQP has a property for is that property. The rest are headers, whose names the constants below give; they are taken out again on the
//! way in. The ordering key is Posthouse's own `ph-key`, so that its other protocols see it; to RabbitMQ that is a header as any other.

use std::str;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use types::{MessageId, Text, Timestamp, Value};

use super::values;
use crate::Envelope;
use crate::headers;
use crate::transport::{Delivery, PublishError};

/// The ordering key: text, or bytes.
const KEY: &str = "ph-key";
/// The same of producers that know no Posthouse; it is only read.
const PLAIN_KEY: &str = "svc-key";
/// The subject of a message that went straight into a queue, whose routing key is the queue's name.
const SUBJECT: &str = "svc-subject";
/// The topic that such a message was published to before: it is a retry, or a dead letter.
const TOPIC: &str = "svc-topic";
/// The further subjects of such a message.
const ALSO: &str = "svc-also";
/// The dedup id, which no AMQP broker looks at.
const DEDUP_ID: &str = "svc-dedup-id";
/// When it expires, in milliseconds since 1970: the property only says for how long it lives from when it came in.
const EXPIRES: &str = "svc-expires-ms";
/// When it was made, in milliseconds since 1970, if that is no whole second, which the property has.
const TIME: &str = "svc-time-ms";
/// There is no body; AMQP has only empty ones.
const NO_BODY: &str = "svc-no-body";
/// Headers whose name stands more than once, from the second on: a list of lists of name and value.
const MORE: &str = "svc-more-headers";
/// Further routing keys.
const CC: &str = "CC";
/// The history that a broker keeps of dead letters: a message that waited was one.
const DEATHS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];

/// Longest lifetime that a broker takes, in milliseconds. What lives longer is passed over by the consumer once it has expired.
const MAX_LIFETIME_MS: i64 = u32::MAX as i64;
const TRANSIENT: u8 = 1;
const DURABLE: u8 = 2;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// Through an exchange, its subject as routing key.
    Exchange,
    /// Straight into this queue.
    Queue(&'a str),
}

/// The subject as a routing key.
///
/// # Errors
/// If it is no text, or too long.
pub(super) fn routing_key(subject: &Bytes) -> Result<ShortString, PublishError> {
    let text = str::from_utf8(subject)
        .map_err(|_| PublishError::Refused("its subject is not UTF-8, which the amqp transport needs".into()))?;
    values::short("its subject", text)
}

/// The message's properties. A message that `waits` first gets no lifetime: it would end in the waiting queue, and lead to an early delivery.
///
/// # Errors
/// If something is too long for AMQP, or nested too deep.
pub(super) fn properties(
    message: &Envelope,
    way: Way<'_>,
    waits: bool,
    now: Timestamp,
) -> Result<BasicProperties, PublishError> {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(if message.durable { DURABLE } else { TRANSIENT })
        .with_headers(table(message, way)?);
    if let Some(id) = &message.id {
        properties = properties.with_message_id(values::short("its id", &id.to_string())?);
    }
    if let Some(text) = &message.content_type {
        properties = properties.with_content_type(values::short("its content type", text)?);
    }
    if let Some(text) = &message.correlation_id {
        properties = properties.with_correlation_id(values::short("its correlation id", text)?);
    }
    if let Some(text) = &message.reply_to {
        properties = properties.with_reply_to(values::short("its reply-to", text)?);
    }
    if let Some(Ok(seconds)) = message.timestamp.map(|time| u64::try_from(time.0.div_euclid(1000))) {
        properties = properties.with_timestamp(seconds);
    }
    if let Some(priority) = message.priority {
        properties = properties.with_priority(priority);
    }
    if let Some(end) = message.expires_at.filter(|_| !waits) {
        let lives_ms = end.0.saturating_sub(now.0).max(0);
        if lives_ms <= MAX_LIFETIME_MS {
            properties = properties.with_expiration(values::short("its lifetime", &lives_ms.to_string())?);
        }
    }
    Ok(properties)
}

fn table(message: &Envelope, way: Way<'_>) -> Result<FieldTable, PublishError> {
    let mut table = FieldTable::default();
    let mut more = Vec::new();
    for (name, value) in &message.headers {
        let value = values::encode(value)?;
        if table.contains_key(name) {
            more.push(AMQPValue::FieldArray(FieldArray::from(vec![bytes_value(name.bytes()), value])));
        } else {
            table.insert(values::name(name)?, value);
        }
    }
    let mut set = |name: &str, value: AMQPValue| {
        table.insert(ShortString::from(name), value);
    };
    if !more.is_empty() {
        set(MORE, AMQPValue::FieldArray(FieldArray::from(more)));
    }
    if let Some(key) = &message.key {
        set(KEY, bytes_value(key));
    }
    if let Some(id) = &message.dedup_id {
        set(DEDUP_ID, bytes_value(id.bytes()));
    }
    if let Some(end) = message.expires_at {
        set(EXPIRES, AMQPValue::LongLongInt(end.0));
    }
    if let Some(time) = message.timestamp.filter(|time| time.0 < 0 || time.0 % 1000 != 0) {
        set(TIME, AMQPValue::LongLongInt(time.0));
    }
    if message.body.is_none() {
        set(NO_BODY, AMQPValue::Boolean(true));
    }
    let also = || AMQPValue::FieldArray(FieldArray::from(message.also.iter().map(bytes_value).collect::<Vec<_>>()));
    match way {
        Way::Exchange if !message.also.is_empty() => set(CC, also()),
        Way::Exchange => {}
        Way::Queue(queue) => {
            if message.subject != queue.as_bytes() {
                set(SUBJECT, bytes_value(&message.subject));
            }
            if let Some(topic) = &message.topic {
                set(TOPIC, bytes_value(topic.bytes()));
            }
            if !message.also.is_empty() {
                set(ALSO, also());
            }
        }
    }
    Ok(table)
}

/// Text as text, and what is none as bytes.
fn bytes_value(bytes: &Bytes) -> AMQPValue {
    if str::from_utf8(bytes).is_ok() {
        AMQPValue::LongString(LongString::from(bytes.to_vec()))
    } else {
        AMQPValue::ByteArray(bytes.to_vec().into())
    }
}

/// A message that came in, and whether it ought to have expired where it waited.
pub(super) struct Incoming {
    pub(super) message: Envelope,
    pub(super) lives_longer_than_the_broker_knows: bool,
}

/// The message of a delivery.
pub(super) fn message(delivery: lapin::message::Delivery) -> Incoming {
    let lapin::message::Delivery { exchange, routing_key, properties, data, .. } = delivery;
    let short = |text: &Option<ShortString>| text.clone().map(values::text_of);
    let mut message = Envelope {
        id: properties.message_id().as_ref().filter(|id| !id.as_str().is_empty()).map(|id| id_of(id.as_str())),
        subject: Bytes::from(String::from(routing_key)),
        topic: Some(exchange).filter(|name| !name.as_str().is_empty()).map(values::text_of),
        body: Some(Bytes::from(data)),
        content_type: short(properties.content_type()),
        correlation_id: short(properties.correlation_id()),
        reply_to: short(properties.reply_to()),
        priority: *properties.priority(),
        durable: *properties.delivery_mode() == Some(DURABLE),
        timestamp: properties
            .timestamp()
            .map(|seconds| Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000))),
        ..Envelope::default()
    };
    let expiration = properties.expiration().is_some();
    if let Some(table) = properties.headers() {
        message.headers.reserve(table.inner().len());
        let mut more = Vec::new();
        for (name, value) in table {
            let value = values::decode(value.clone());
            take(&mut message, name.as_str(), value, &mut more);
        }
        message.headers.append(&mut more);
    }
    Incoming { lives_longer_than_the_broker_knows: message.expires_at.is_some() && !expiration, message }
}

/// One header: a field of the message, one of its own headers, or none of its receiver's business.
fn take(message: &mut Envelope, name: &str, value: Value, more: &mut types::Headers) {
    match (name, value) {
        (KEY | PLAIN_KEY, value) => message.key = as_bytes(value).or(message.key.take()),
        (SUBJECT, value) => message.subject = as_bytes(value).unwrap_or_default(),
        (TOPIC, Value::Text(topic)) => message.topic = Some(topic),
        (CC | ALSO, Value::List(values)) => message.also = values.into_iter().filter_map(as_bytes).collect(),
        (DEDUP_ID, Value::Text(id)) => message.dedup_id = Some(id),
        (EXPIRES, Value::Int { value, .. }) => message.expires_at = Some(Timestamp(value)),
        (TIME, Value::Int { value, .. }) => message.timestamp = Some(Timestamp(value)),
        (NO_BODY, Value::Bool(true)) => message.body = None,
        (MORE, Value::List(values)) => {
            for value in values {
                if let Value::List(pair) = value
                    && let Ok([Value::Text(name), value]) = <[Value; 2]>::try_from(pair)
                {
                    more.push((name, value));
                }
            }
        }
        (name, _) if DEATHS.iter().any(|deaths| name.starts_with(deaths)) => {}
        (name, value) => message.headers.push((Text::from(name), value)),
    }
}

fn as_bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::Text(text) => Some(text.bytes().clone()),
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// An id as the other transports have it: what reads as a UUID is one.
fn id_of(text: &str) -> MessageId {
    let as_written = |uuid: &uuid::Uuid| uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()) == text;
    match uuid::Uuid::try_parse(text).ok().filter(as_written) {
        Some(uuid) => MessageId::Uuid(uuid.into_bytes()),
        None => MessageId::Text(Text::from(text)),
    }
}

/// A delivery for a consumer.
pub(super) fn delivery(tag: u64, message: Envelope, redelivered: bool) -> Delivery {
    let made = headers::number(&message, headers::ATTEMPT).and_then(|made| u32::try_from(made).ok()).unwrap_or(0);
    Delivery { tag, message, attempt: made.saturating_add(1), redelivered }
}

#[cfg(test)]
mod tests {
    use lapin::message::Delivery as Raw;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn through(message: &Envelope, way: Way<'_>) -> Incoming {
        let (exchange, key) = match way {
            Way::Exchange => ("orders", routing_key(&message.subject).unwrap()),
            Way::Queue(queue) => ("", ShortString::from(queue)),
        };
        let body = message.body.clone().unwrap_or_default().to_vec();
        let mut raw = Raw::mock(1, exchange.into(), key, false, body);
        raw.properties = properties(message, way, false, NOW).unwrap();
        super::message(raw)
    }

    fn full() -> Envelope {
        Envelope {
            id: Some(MessageId::Text("o-1".into())),
            also: vec![Bytes::from_static(b"audit.order")],
            topic: Some("orders".into()),
            key: Some(Bytes::from_static(&[0xfe, 1])),
            headers: vec![("a".into(), Value::int(1)), ("b".into(), Value::from("x")), ("a".into(), Value::int(2))],
            content_type: Some("application/json".into()),
            timestamp: Some(Timestamp(1_699_999_999_123)),
            correlation_id: Some("c".into()),
            reply_to: Some("r".into()),
            expires_at: Some(Timestamp(NOW.0 + 5_000)),
            priority: Some(3),
            dedup_id: Some("d".into()),
            ..Envelope::new("order.created", "body")
        }
    }

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        for way in [Way::Exchange, Way::Queue("billing")] {
            assert_eq!(through(&full(), way).message, full());
        }
        let tombstone = Envelope { body: None, durable: false, ..Envelope::default() };
        assert_eq!(through(&tombstone, Way::Queue("q")).message, tombstone);
        let uuid = Envelope { id: Some(MessageId::Uuid([7; 16])), ..Envelope::new("a.b", "") };
        assert_eq!(through(&uuid, Way::Queue("q")).message, uuid);
    }

    #[test]
    fn a_message_that_waits_has_no_lifetime_with_the_broker() {
        let message = full();
        let waiting = properties(&message, Way::Exchange, true, NOW).unwrap();
        assert!(waiting.expiration().is_none());
        let plain = properties(&message, Way::Exchange, false, NOW).unwrap();
        assert_eq!(plain.expiration().as_ref().unwrap().as_str(), "5000");
        assert!(!through(&message, Way::Exchange).lives_longer_than_the_broker_knows);
        let long = Envelope { expires_at: Some(Timestamp(NOW.0 + MAX_LIFETIME_MS + 1)), ..message };
        assert!(through(&long, Way::Exchange).lives_longer_than_the_broker_knows);
    }

    #[test]
    fn attempts_are_those_made_before_and_this_one() {
        let mut message = full();
        assert_eq!(delivery(1, message.clone(), false).attempt, 1);
        headers::set_value(&mut message, headers::ATTEMPT, Value::int(3));
        assert_eq!(delivery(1, message, false).attempt, 4);
    }

    #[test]
    fn what_amqp_has_no_room_for_is_refused() {
        let long = Envelope { id: Some(MessageId::Text("i".repeat(256).into())), ..Envelope::default() };
        assert!(matches!(properties(&long, Way::Exchange, false, NOW), Err(PublishError::Refused(_))));
        assert!(routing_key(&Bytes::from("s".repeat(256))).is_err());
        assert!(routing_key(&Bytes::from_static(&[0xff])).is_err());
    }
}
