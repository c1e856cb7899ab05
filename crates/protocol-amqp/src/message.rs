//! A message as AMQP carries it, and as the broker does.
//!
//! What the broker's message has fields for goes there, so that every protocol sees it. The other properties travel as headers of their
//! own names under `ph-amqp-`, and one header says which properties there were at all: a message comes out with those that it came in with.

use broker::live::INBOX_PREFIX;
use broker::{DEATHS_HEADER, Deaths};
use bytes::Bytes;
use types::{Headers, Message, MessageId, Text, Timestamp, Value};

use crate::codec::method::Publish;
use crate::codec::properties::{self, Properties, flag};
use crate::codec::table::{seconds, to_seconds, write_short};
use crate::deaths;
use crate::fault::Fault;

/// What the headers of this crate begin with.
const OWN: &str = "ph-amqp";
/// Which properties a message had, as four hexadecimal digits of the flags.
const FLAGS: &str = "ph-amqp";
const CONTENT_ENCODING: &str = "ph-amqp-content-encoding";
const EXPIRATION: &str = "ph-amqp-expiration";
const TYPE: &str = "ph-amqp-type";
const USER_ID: &str = "ph-amqp-user-id";
const APP_ID: &str = "ph-amqp-app-id";
const CLUSTER_ID: &str = "ph-amqp-cluster-id";
const TIMESTAMP: &str = "ph-amqp-timestamp";
/// Properties that are not UTF-8, which the broker's fields are.
const CONTENT_TYPE_BYTES: &str = "ph-amqp-content-type";
const CORRELATION_ID_BYTES: &str = "ph-amqp-correlation-id";
const REPLY_TO_BYTES: &str = "ph-amqp-reply-to";
const MESSAGE_ID_BYTES: &str = "ph-amqp-message-id";
/// The ordering key, in both directions.
const KEY: &str = "ph-key";
/// Headers under the broker's prefix that clients are not shown.
const HIDDEN: [&str; 3] = ["ph-amqp", "ph-dead-letter-", DEATHS_HEADER];
/// What AMQP puts before the subject of an inbox, where answers come in: what RabbitMQ's replies are addressed to begins so.
const REPLY_PREFIX: &[u8] = b"amq.rabbitmq.reply-to.";

/// Further routing keys (RabbitMQ, "Sender-selected Distribution").
const CC: &str = "CC";
/// The same, not shown to who receives the message.
const BCC: &str = "BCC";
/// For how many milliseconds a delayed-message exchange holds a message back.
const DELAY: &str = "x-delay";

/// Longest delay, in milliseconds: what fits the 32 bits that RabbitMQ's plug-in takes.
const MAX_DELAY_MS: i64 = u32::MAX as i64;

/// The inbox that an address of AMQP's names; another address as it is.
pub(crate) fn address(address: Bytes) -> Bytes {
    match address.strip_prefix(REPLY_PREFIX) {
        Some(inbox) if inbox.starts_with(INBOX_PREFIX.as_bytes()) => address.slice(REPLY_PREFIX.len()..),
        _ => address,
    }
}

/// The address that AMQP has for an inbox; another address as it is.
fn shown_address(address: Bytes) -> Bytes {
    if address.starts_with(INBOX_PREFIX.as_bytes()) { Bytes::from([REPLY_PREFIX, &address].concat()) } else { address }
}

/// From one time to another, as milliseconds in digits.
fn lived(from: Timestamp, to: Timestamp) -> Bytes {
    Bytes::from(to.0.saturating_sub(from.0).max(0).to_string())
}

/// The broker's message of one that was published.
///
/// # Errors
/// 406 if a property makes no sense.
pub(crate) fn incoming(
    publish: &Publish,
    properties: Properties,
    body: Bytes,
    now: Timestamp,
    delayed: bool,
) -> Result<Message, Fault> {
    let Properties { flags, mut headers, .. } = properties;
    let mut message = Message {
        subject: address(publish.routing_key.clone()),
        body: Some(body),
        priority: properties.priority,
        durable: properties.delivery_mode == Some(2),
        ..Message::default()
    };
    take_keys(&mut headers, &mut message)?;
    if delayed {
        message.not_before = delay(&headers)?.map(|by| Timestamp(now.0.saturating_add(by)));
    }
    if let Some(name) = headers.iter().find(|(name, _)| name.starts_with(OWN)) {
        let why = format!("header '{}' is under the reserved prefix '{OWN}'; use another name", name.0.as_str());
        return Err(Fault::precondition_failed(why));
    }
    message.content_type = text(properties.content_type, CONTENT_TYPE_BYTES, &mut headers);
    message.correlation_id = text(properties.correlation_id, CORRELATION_ID_BYTES, &mut headers);
    message.reply_to = text(properties.reply_to.map(address), REPLY_TO_BYTES, &mut headers);
    // An empty id is none to the broker.
    message.id =
        text(properties.message_id, MESSAGE_ID_BYTES, &mut headers).filter(|id| !id.is_empty()).map(MessageId::Text);
    if let Some(given) = properties.timestamp {
        let time = seconds(given);
        if to_seconds(time) == given {
            message.timestamp = Some(time);
        } else {
            headers.push((Text::from_static(TIMESTAMP), Value::from(given.to_string().as_str())));
        }
    }
    if let Some(expiration) = properties.expiration {
        message.expires_at = Some(Timestamp(now.0.saturating_add(lifetime(&expiration)?)));
        headers.push((Text::from_static(EXPIRATION), value(expiration)));
    }
    for (name, property) in [
        (CONTENT_ENCODING, properties.content_encoding),
        (TYPE, properties.kind),
        (USER_ID, properties.user_id),
        (APP_ID, properties.app_id),
        (CLUSTER_ID, properties.cluster_id),
    ] {
        if let Some(property) = property {
            headers.push((Text::from_static(name), value(property)));
        }
    }
    headers.push((Text::from_static(FLAGS), Value::Text(hex(flags))));
    message.headers = headers;
    Ok(message)
}

fn value(bytes: Bytes) -> Value {
    match Text::from_utf8(bytes.clone()) {
        Ok(text) => Value::Text(text),
        Err(_) => Value::Bytes(bytes),
    }
}

/// A property as text; one that is none becomes a header.
fn text(property: Option<Bytes>, name: &'static str, headers: &mut Headers) -> Option<Text> {
    match value(property?) {
        Value::Text(text) => Some(text),
        bytes => {
            headers.push((Text::from_static(name), bytes));
            None
        }
    }
}

/// The flags in four digits.
fn hex(flags: u16) -> Text {
    // What most messages have: no properties; a delivery mode; a content type and a delivery mode; those and headers.
    match flags {
        0 => Text::from_static("0000"),
        0x1000 => Text::from_static("1000"),
        0x9000 => Text::from_static("9000"),
        0xb000 => Text::from_static("b000"),
        flags => Text::from(format!("{flags:04x}")),
    }
}

/// `expiration`: milliseconds, in digits.
fn lifetime(expiration: &Bytes) -> Result<i64, Fault> {
    let read = std::str::from_utf8(expiration).ok().and_then(|text| text.parse::<u64>().ok());
    read.and_then(|ms| i64::try_from(ms).ok()).filter(|ms| *ms <= MAX_DELAY_MS).ok_or_else(|| {
        let given = String::from_utf8_lossy(expiration);
        Fault::precondition_failed(format!(
            "invalid expiration '{given}': a number of ms up to {MAX_DELAY_MS} in digits"
        ))
    })
}

/// Takes the further routing keys and the ordering key out of the headers. What all may see stays there.
fn take_keys(headers: &mut Headers, message: &mut Message) -> Result<(), Fault> {
    if !headers.iter().any(|(name, _)| matches!(name.as_str(), CC | BCC | KEY)) {
        return Ok(());
    }
    for (name, value) in &*headers {
        match name.as_str() {
            CC | BCC => {
                let Value::List(keys) = value else {
                    return Err(Fault::precondition_failed(format!(
                        "invalid '{}' header: it is no array",
                        name.as_str()
                    )));
                };
                for key in keys {
                    match key {
                        Value::Text(key) => message.also.push(key.bytes().clone()),
                        Value::Bytes(key) => message.also.push(key.clone()),
                        _ => {
                            let why = format!("invalid '{}' header: a routing key is no long string", name.as_str());
                            return Err(Fault::precondition_failed(why));
                        }
                    }
                }
            }
            KEY => match value {
                Value::Text(key) => message.key = Some(key.bytes().clone()),
                Value::Bytes(key) => message.key = Some(key.clone()),
                _ => return Err(Fault::precondition_failed(format!("invalid '{KEY}' header: it is no long string"))),
            },
            _ => {}
        }
    }
    headers.retain(|(name, _)| !matches!(name.as_str(), BCC | KEY));
    Ok(())
}

/// How long a delayed message waits, in milliseconds; `None` if it does not.
fn delay(headers: &Headers) -> Result<Option<i64>, Fault> {
    let Some((_, value)) = headers.iter().find(|(name, _)| name.as_str() == DELAY) else { return Ok(None) };
    let ms = match value {
        Value::Int { value, .. } => Some(*value),
        Value::Uint { value, .. } => i64::try_from(*value).ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    match ms {
        Some(ms) if ms <= 0 => Ok(None),
        Some(ms) if ms <= MAX_DELAY_MS => Ok(Some(ms)),
        _ => Err(Fault::precondition_failed(format!("invalid '{DELAY}' header: a number of ms up to {MAX_DELAY_MS}"))),
    }
}

/// A message as a client gets it.
#[derive(Debug, PartialEq)]
pub(crate) struct Outgoing {
    pub(crate) exchange: Bytes,
    pub(crate) routing_key: Bytes,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
}

/// What a message may have for [`write_plain`].
const PLAIN: u16 = flag::CONTENT_TYPE
    | flag::DELIVERY_MODE
    | flag::PRIORITY
    | flag::CORRELATION_ID
    | flag::REPLY_TO
    | flag::MESSAGE_ID;

/// Writes the content header of a message that came in by AMQP and has no more than the commonest properties; `false` if it has, and
/// nothing was written. It says what [`outgoing`] and [`properties::write`] say, without making anything of it first.
pub(crate) fn write_plain(message: &Message, out: &mut Vec<u8>) -> bool {
    let [(name, Value::Text(digits))] = message.headers.as_slice() else { return false };
    if name.bytes() != FLAGS.as_bytes() || message.key.is_some() || message.not_before.is_some() {
        return false;
    }
    let Ok(flags) = u16::from_str_radix(digits, 16) else { return false };
    let id = match &message.id {
        Some(MessageId::Text(id)) if flags & flag::MESSAGE_ID != 0 => Some(id.bytes()),
        _ => None,
    };
    let texts = [
        (flag::CORRELATION_ID, message.correlation_id.as_ref().map(Text::bytes)),
        (flag::REPLY_TO, message.reply_to.as_ref().map(Text::bytes)),
        (flag::MESSAGE_ID, id),
    ];
    let agree = |(bit, text): &(u16, Option<&Bytes>)| (flags & bit != 0) == text.is_some();
    let is_plain = flags & !PLAIN == 0
        && texts.iter().all(agree)
        && agree(&(flag::CONTENT_TYPE, message.content_type.as_ref().map(Text::bytes)))
        && (flags & flag::PRIORITY != 0) == message.priority.is_some()
        && !message.reply_to.as_ref().is_some_and(|to| to.bytes().starts_with(INBOX_PREFIX.as_bytes()));
    if !is_plain {
        return false;
    }
    properties::write_head(message.body.as_ref().map_or(0, Bytes::len) as u64, flags, out);
    if let Some(content_type) = &message.content_type {
        write_short(content_type.bytes(), out);
    }
    if flags & flag::DELIVERY_MODE != 0 {
        out.push(if message.durable { 2 } else { 1 });
    }
    out.extend(message.priority);
    texts.into_iter().filter_map(|(_, text)| text).for_each(|text| write_short(text, out));
    true
}

/// A message of the broker's as a client gets it.
pub(crate) fn outgoing(message: Message) -> Outgoing {
    let died = message.headers.iter().any(|(name, _)| name.as_str() == DEATHS_HEADER);
    let deaths = if died { Deaths::of(&message) } else { None };
    let mut known = None;
    let mut expiration = None;
    let mut found = Properties::default();
    let mut headers = Headers::with_capacity(message.headers.len());
    for (name, value) in message.headers {
        if !name.bytes().starts_with(b"ph-") {
            headers.push((name, value));
            continue;
        }
        let bytes = match &value {
            Value::Text(text) => Some(text.bytes().clone()),
            Value::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        };
        match name.as_str() {
            FLAGS => known = value.as_text().and_then(|digits| u16::from_str_radix(digits, 16).ok()),
            CONTENT_ENCODING => found.content_encoding = bytes,
            // What is a dead letter lives on: its own lifetime has ended.
            EXPIRATION => expiration = bytes,
            TYPE => found.kind = bytes,
            USER_ID => found.user_id = bytes,
            APP_ID => found.app_id = bytes,
            CLUSTER_ID => found.cluster_id = bytes,
            TIMESTAMP => found.timestamp = value.as_text().and_then(|digits| digits.parse().ok()),
            CONTENT_TYPE_BYTES => found.content_type = bytes,
            CORRELATION_ID_BYTES => found.correlation_id = bytes,
            REPLY_TO_BYTES => found.reply_to = bytes,
            MESSAGE_ID_BYTES => found.message_id = bytes,
            other if HIDDEN.iter().any(|hidden| other.starts_with(hidden)) => {}
            _ => headers.push((name, value)),
        }
    }
    if let Some(deaths) = deaths {
        deaths::show(&deaths, expiration.as_ref(), &mut headers);
        if message.also.is_empty() {
            // Its way as a dead letter was chosen by another routing key than its own.
            headers.retain(|(name, _)| name.as_str() != CC);
        }
    }
    found.expiration = match message.expires_at {
        // Published over another protocol: it has a time at which it expires, and AMQP says for how long it lives from its publish on.
        Some(end) if known.is_none() => message.timestamp.map(|time| lived(time, end)),
        Some(_) => expiration,
        None => None,
    };
    if let Some(key) = message.key {
        headers.push((Text::from_static(KEY), value(key)));
    }
    if message.not_before.is_some()
        && let Some((_, Value::Int { value, .. })) = headers.iter_mut().find(|(name, _)| name.as_str() == DELAY)
    {
        // As RabbitMQ's plug-in shows that the delay is over.
        *value = -*value;
    }
    let has = |bit: u16| known.is_none_or(|flags| flags & bit != 0);
    let shown = |text: Option<Text>| text.map(|text| text.bytes().clone());
    found.flags = known.unwrap_or_default() & flag::HEADERS;
    found.headers = headers;
    found.content_type = found.content_type.or_else(|| shown(message.content_type));
    found.correlation_id = found.correlation_id.or_else(|| shown(message.correlation_id));
    found.reply_to = found.reply_to.or_else(|| shown(message.reply_to)).map(shown_address);
    found.delivery_mode = has(flag::DELIVERY_MODE).then_some(if message.durable { 2 } else { 1 });
    found.priority = message.priority;
    if has(flag::MESSAGE_ID) {
        found.message_id = found.message_id.or_else(|| match message.id {
            Some(MessageId::Text(id)) => Some(id.bytes().clone()),
            // The broker gave it one where there was an empty one.
            Some(MessageId::Uuid(_)) if known.is_some() => Some(Bytes::new()),
            Some(id) => Some(Bytes::from(id.to_string())),
            None => None,
        });
    }
    if has(flag::TIMESTAMP) {
        found.timestamp = found.timestamp.or_else(|| message.timestamp.map(to_seconds));
    }
    Outgoing {
        exchange: message.topic.map(|topic| topic.bytes().clone()).unwrap_or_default(),
        routing_key: message.subject,
        properties: found,
        body: message.body.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn publish() -> Publish {
        Publish { exchange: "e".into(), routing_key: "a.b".into(), mandatory: false, immediate: false }
    }

    fn back(properties: Properties) -> Properties {
        outgoing(incoming(&publish(), properties, "body".into(), NOW, false).unwrap()).properties
    }

    #[test]
    fn a_message_comes_out_with_just_the_properties_that_it_came_in_with() {
        let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let bytes = Some(Bytes::from_static(&[0xff, 1]));
        let full = Properties {
            flags: flag::HEADERS | flag::DELIVERY_MODE | flag::MESSAGE_ID | flag::TIMESTAMP,
            content_type: text("text/plain"),
            content_encoding: text("gzip"),
            headers: vec![("a".into(), Value::int(1)), ("a".into(), Value::Null)],
            delivery_mode: Some(1),
            priority: Some(9),
            correlation_id: bytes.clone(),
            reply_to: text("r"),
            expiration: text("60000"),
            message_id: text("m"),
            timestamp: Some(u64::MAX),
            kind: text("order.created"),
            user_id: text("guest"),
            app_id: bytes,
            cluster_id: text(""),
        };
        let shown = back(full.clone());
        assert_eq!(Properties { flags: full.flags, ..shown }, full);
        assert_eq!(back(Properties::default()), Properties::default());
        let empty_id = Properties { flags: flag::MESSAGE_ID, message_id: text(""), ..Properties::default() };
        let mut message = incoming(&publish(), empty_id, Bytes::new(), NOW, false).unwrap();
        message.id = Some(MessageId::Uuid([1; 16]));
        assert_eq!(outgoing(message).properties.message_id, text(""));
    }

    #[test]
    fn what_is_written_at_once_is_what_is_written_by_way_of_its_properties() {
        let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let few = Properties {
            flags: flag::CONTENT_TYPE | flag::DELIVERY_MODE,
            content_type: text("text/plain"),
            delivery_mode: Some(2),
            ..Properties::default()
        };
        let most = Properties {
            flags: PLAIN,
            priority: Some(3),
            correlation_id: text("c"),
            reply_to: text("r"),
            message_id: text("m"),
            ..few.clone()
        };
        let plain = [Properties::default(), few.clone(), most.clone()];
        let others = [
            Properties { flags: most.flags | flag::TYPE, kind: text("k"), ..most.clone() },
            Properties { flags: few.flags | flag::HEADERS, ..few.clone() },
            Properties { flags: PLAIN, reply_to: text("amq.rabbitmq.reply-to._inbox.1"), ..most.clone() },
            Properties { flags: PLAIN, message_id: text(""), ..most },
        ];
        for (is_plain, properties) in
            plain.into_iter().map(|plain| (true, plain)).chain(others.into_iter().map(|other| (false, other)))
        {
            let message = incoming(&publish(), properties.clone(), "body".into(), NOW, false).unwrap();
            let (mut at_once, mut by_way) = (Vec::new(), Vec::new());
            assert_eq!(write_plain(&message, &mut at_once), is_plain, "{properties:?}");
            properties::write(4, &outgoing(message).properties, &mut by_way);
            assert!(if is_plain { at_once == by_way } else { at_once.is_empty() }, "{properties:?}");
        }
    }

    #[test]
    fn every_protocol_sees_what_the_brokers_message_has_a_field_for() {
        let properties = Properties {
            headers: vec![
                ("CC".into(), Value::List(vec![Value::from("x"), Value::from("y")])),
                ("BCC".into(), Value::List(vec![Value::from("z")])),
                ("ph-key".into(), Value::from("k")),
                ("x-delay".into(), Value::Int { value: 5_000, width_bytes: 4 }),
            ],
            delivery_mode: Some(2),
            expiration: Some("250".into()),
            timestamp: Some(12),
            ..Properties::default()
        };
        let message = incoming(&publish(), properties, "b".into(), NOW, true).unwrap();
        assert_eq!(message.also, ["x", "y", "z"].map(Bytes::from));
        assert_eq!((message.key.clone(), message.durable), (Some("k".into()), true));
        assert_eq!(
            (message.not_before, message.expires_at),
            (Some(Timestamp(NOW.0 + 5_000)), Some(Timestamp(NOW.0 + 250)))
        );
        assert_eq!(message.timestamp, Some(Timestamp(12_000)));
        let names: Vec<String> =
            outgoing(message).properties.headers.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["CC", "x-delay", "ph-key"]);
        let other = Message { id: Some(MessageId::Uuid([0; 16])), timestamp: Some(NOW), ..Message::new("s", "b") };
        let shown = outgoing(other).properties;
        assert_eq!(shown.message_id.as_deref(), Some(&b"00000000-0000-0000-0000-000000000000"[..]));
        assert_eq!((shown.delivery_mode, shown.timestamp), (Some(2), Some(1_700_000_000)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let with =
            |name: &'static str, value| Properties { headers: vec![(name.into(), value)], ..Properties::default() };
        let expiring = |text: &'static str| Properties { expiration: Some(text.into()), ..Properties::default() };
        for properties in [
            expiring("-1"),
            expiring("soon"),
            expiring("99999999999"),
            with("CC", Value::from("x")),
            with("BCC", Value::List(vec![Value::Null])),
            with("x-delay", Value::Bool(true)),
            with("ph-amqp-type", Value::from("x")),
        ] {
            let fault = incoming(&publish(), properties.clone(), Bytes::new(), NOW, true).unwrap_err();
            assert_eq!(fault.code, 406, "{properties:?}");
        }
    }
}
