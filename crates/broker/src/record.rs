//! Messages as records, and back. docs/formats/record-batch.md lists the reserved headers.
//!
//! The record's key and value are the message's key and body, its headers the message's headers: a Kafka client reads what an
//! AMQP client wrote. What has no place there travels under the reserved prefix. The record's timestamp is the broker's time of
//! arrival, so that retention and seeking by time do not depend on producers' clocks.

use std::sync::Arc;

use bytes::Bytes;
use log::batch::{
    BatchBuilder, BatchError, BatchOptions, BuildError, HeaderRef, RecordBatch, RecordBlock, RecordPosition, RecordRef,
};
use types::limits::{MAX_ALSO_SUBJECTS, RESERVED_HEADER_PREFIX};
use types::{Message, MessageId, Offset, Text, Timestamp, Value};

use crate::value_codec;

const UUID: &str = "ph-uuid";
const ID: &str = "ph-id";
const SUBJECT: &str = "ph-subject";
const ALSO: &str = "ph-also";
const TOPIC: &str = "ph-topic";
const CONTENT_TYPE: &str = "ph-content-type";
const TIMESTAMP: &str = "ph-timestamp";
const CORRELATION_ID: &str = "ph-correlation-id";
const REPLY_TO: &str = "ph-reply-to";
const NOT_BEFORE: &str = "ph-not-before";
const EXPIRES_AT: &str = "ph-expires-at";
const PRIORITY: &str = "ph-priority";
const DEDUP_ID: &str = "ph-dedup-id";
const TRANSIENT: &str = "ph-transient";
const KEYLESS: &str = "ph-keyless";
const TYPES: &str = "ph-types";

/// The headers that are fields of [`Message`].
const OWN: [&str; 16] = [
    UUID,
    ID,
    SUBJECT,
    ALSO,
    TOPIC,
    CONTENT_TYPE,
    TIMESTAMP,
    CORRELATION_ID,
    REPLY_TO,
    NOT_BEFORE,
    EXPIRES_AT,
    PRIORITY,
    DEDUP_ID,
    TRANSIENT,
    KEYLESS,
    TYPES,
];

/// Whether a header of this name would be taken for a field of the message.
pub(crate) fn is_own_header(name: &str) -> bool {
    OWN.contains(&name)
}

/// One record of a batch, as queues carry it: shares the batch's bytes.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) block: Arc<RecordBlock>,
    pub(crate) position: RecordPosition,
}

impl Payload {
    /// Decodes the message, and when the broker took it.
    pub(crate) fn message(&self) -> Result<(Message, Timestamp), BatchError> {
        let record = self.block.record_ref(self.position)?;
        Ok((decode(&record, self.block.bytes()), Timestamp(record.timestamp_ms)))
    }
}

/// How many times its own size a record may keep in memory by sharing its batch; beyond, it is copied. Queues count a waiting message by
/// its own size, and hold few of a batch when they sort by priority or time: sharing, each of them would keep its whole batch.
const MAX_SHARED_FACTOR: usize = 2;

/// Bytes that a record of a message without headers may take beyond its own, and each header. Too few cost a copy, too many memory.
const ROOM_BYTES: usize = 96;
const HEADER_ROOM_BYTES: usize = 8;

/// What routing and queues look at, without the message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meta {
    pub(crate) delta: u32,
    pub(crate) position: RecordPosition,
    pub(crate) key: Option<u64>,
    pub(crate) priority: u8,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) weight: u32,
    pub(crate) arrived: Timestamp,
}

/// Encodes messages into one batch, and says of each what [`metas`] would read from it. `index_subject`: a message without a key is
/// indexed under its subject. `topic`: the topic that all of them are published to, if not what each of them says.
pub(crate) fn encode(
    messages: &[Message],
    arrived: Timestamp,
    index_subject: bool,
    topic: Option<&str>,
) -> Result<(RecordBatch, Vec<Meta>), BuildError> {
    let more = ROOM_BYTES + topic.map_or(0, str::len);
    let room = |message: &Message| message.weight_bytes() + more + message.headers.len() * HEADER_ROOM_BYTES;
    let bytes: usize = messages.iter().map(room).sum();
    let options = BatchOptions { base_timestamp_ms: Some(arrived.0), ..BatchOptions::default() };
    let mut builder = BatchBuilder::with_capacity(options, bytes);
    let start = builder.len_bytes();
    let mut metas = Vec::with_capacity(messages.len());
    let mut scratch = Scratch::default();
    let mut headers = Vec::with_capacity(OWN.len());
    for (delta, message) in (0..).zip(messages) {
        let position = RecordPosition(u32::try_from(builder.len_bytes() - start).unwrap_or(u32::MAX));
        let weight = push(&mut builder, &mut scratch, &mut headers, message, (arrived, index_subject, topic))?;
        metas.push(Meta {
            delta,
            position,
            key: message.key.as_deref().map(hash_key),
            priority: message.priority.unwrap_or(0),
            not_before: message.not_before,
            expires_at: message.expires_at,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            arrived,
        });
    }
    Ok((builder.finish()?, metas))
}

/// Encodes one message; gives the bytes that it took.
fn push<'a>(
    builder: &mut BatchBuilder,
    scratch: &mut Scratch,
    headers: &mut Vec<(&'a str, Option<Part<'a>>)>,
    message: &'a Message,
    (arrived, index_subject, topic): (Timestamp, bool, Option<&'a str>),
) -> Result<usize, BuildError> {
    headers.clear();
    scratch.arena.clear();
    match &message.id {
        Some(MessageId::Uuid(uuid)) => headers.push((UUID, Some(Part::Bytes(uuid)))),
        Some(MessageId::Text(text)) => headers.push((ID, Some(Part::Bytes(text.bytes())))),
        None => {}
    }
    if !message.subject.is_empty() {
        headers.push((SUBJECT, Some(Part::Bytes(&message.subject))));
    }
    if !message.also.is_empty() {
        headers.push((ALSO, Some(scratch.subjects(&message.also))));
    }
    if let Some(topic) = topic.or(message.topic.as_deref()) {
        headers.push((TOPIC, Some(Part::Bytes(topic.as_bytes()))));
    }
    for (name, text) in [
        (CONTENT_TYPE, &message.content_type),
        (CORRELATION_ID, &message.correlation_id),
        (REPLY_TO, &message.reply_to),
        (DEDUP_ID, &message.dedup_id),
    ] {
        if let Some(text) = text {
            headers.push((name, Some(Part::Bytes(text.bytes()))));
        }
    }
    for (name, time) in
        [(TIMESTAMP, message.timestamp), (NOT_BEFORE, message.not_before), (EXPIRES_AT, message.expires_at)]
    {
        if let Some(time) = time {
            headers.push((name, Some(scratch.number(time.0))));
        }
    }
    if let Some(priority) = message.priority {
        headers.push((PRIORITY, Some(scratch.number(i64::from(priority)))));
    }
    if !message.durable {
        headers.push((TRANSIENT, None));
    }
    let key = match &message.key {
        None if index_subject => {
            headers.push((KEYLESS, None));
            Some(&message.subject)
        }
        key => key.as_ref(),
    };
    if message.headers.iter().any(|(_, value)| !matches!(value, Value::Text(_))) {
        headers.push((TYPES, Some(scratch.types(message))));
    }
    for (name, value) in &message.headers {
        headers.push((name.as_str(), scratch.value(value)));
    }
    let arena = scratch.arena.as_slice();
    let headers = headers.iter().map(|(name, part)| (name.as_bytes(), part.as_ref().map(|part| part.get(arena))));
    builder.push(None, arrived.0, key.map(|key| &key[..]), message.body.as_deref(), headers)
}

/// Room for header values that are made while encoding.
#[derive(Default)]
struct Scratch {
    arena: Vec<u8>,
}

/// A header's value: the message's own bytes, or a stretch of the arena.
enum Part<'a> {
    Bytes(&'a [u8]),
    Arena(usize, usize),
}

impl<'a> Part<'a> {
    fn get(&self, arena: &'a [u8]) -> &'a [u8] {
        match *self {
            Self::Bytes(bytes) => bytes,
            Self::Arena(start, end) => arena.get(start..end).unwrap_or_default(),
        }
    }
}

impl Scratch {
    fn made<'a>(&mut self, make: impl FnOnce(&mut Vec<u8>)) -> Part<'a> {
        let start = self.arena.len();
        make(&mut self.arena);
        Part::Arena(start, self.arena.len())
    }

    fn number<'a>(&mut self, number: i64) -> Part<'a> {
        use std::io::Write as _;
        self.made(|arena| drop(write!(arena, "{number}")))
    }

    /// Each as its length, 2 bytes big-endian, and its bytes. Limits keep them shorter than that can say.
    fn subjects<'a>(&mut self, subjects: &[Bytes]) -> Part<'a> {
        self.made(|arena| {
            for subject in subjects {
                let Ok(len_bytes) = u16::try_from(subject.len()) else { continue };
                arena.extend_from_slice(&len_bytes.to_be_bytes());
                arena.extend_from_slice(subject);
            }
        })
    }

    fn types<'a>(&mut self, message: &Message) -> Part<'a> {
        self.made(|arena| arena.extend(message.headers.iter().map(|(_, value)| value_codec::tag(value))))
    }

    fn value<'a>(&mut self, value: &'a Value) -> Option<Part<'a>> {
        match value {
            Value::Null => None,
            Value::Text(text) => Some(Part::Bytes(text.bytes())),
            Value::Bytes(bytes) => Some(Part::Bytes(bytes)),
            other => Some(self.made(|arena| value_codec::encode_plain(other, arena))),
        }
    }
}

/// Decodes a record of `block` into a message, which shares the block's bytes. What a foreign producer wrote under the reserved prefix
/// and cannot be read is left out.
fn decode(record: &RecordRef<'_>, block: &Bytes) -> Message {
    let share = |part: &[u8]| block.slice_ref(part);
    let (key, body) = (record.key.map(share), record.value.map(share));
    let mut message = Message { key, body, ..Message::default() };
    // Looked for when the first header of the application's needs it.
    let mut types: Option<&[u8]> = None;
    for HeaderRef { name, value } in record.headers.iter() {
        let may_be_ours = name.starts_with(RESERVED_HEADER_PREFIX.as_bytes());
        if may_be_ours && reserved(&mut message, name, value, share) {
            continue;
        }
        if let Ok(name) = Text::from_utf8(share(name)) {
            let find = || record.headers.get(TYPES.as_bytes()).and_then(|header| header.value).unwrap_or_default();
            let tag = types.get_or_insert_with(find).get(message.headers.len()).copied();
            message.headers.push((name, value_codec::decode_plain(tag, value.map(share))));
        }
    }
    message.timestamp.get_or_insert(Timestamp(record.timestamp_ms));
    message
}

/// Takes a reserved header into the message; `false` if it is not one of ours.
fn reserved(message: &mut Message, name: &[u8], value: Option<&[u8]>, share: impl Fn(&[u8]) -> Bytes) -> bool {
    let text = || value.and_then(|value| Text::from_utf8(share(value)).ok());
    let number = || value.and_then(|value| std::str::from_utf8(value).ok()).and_then(|text| text.parse::<i64>().ok());
    let Ok(name) = std::str::from_utf8(name) else { return false };
    match name {
        UUID => message.id = value.and_then(|value| value.try_into().ok()).map(MessageId::Uuid),
        ID => message.id = text().map(MessageId::Text),
        SUBJECT => message.subject = value.map(share).unwrap_or_default(),
        ALSO => message.also = value.map(share).map(subjects).unwrap_or_default(),
        TOPIC => message.topic = text(),
        CONTENT_TYPE => message.content_type = text(),
        CORRELATION_ID => message.correlation_id = text(),
        REPLY_TO => message.reply_to = text(),
        DEDUP_ID => message.dedup_id = text(),
        TIMESTAMP => message.timestamp = number().map(Timestamp),
        NOT_BEFORE => message.not_before = number().map(Timestamp),
        EXPIRES_AT => message.expires_at = number().map(Timestamp),
        PRIORITY => message.priority = number().and_then(|number| u8::try_from(number).ok()),
        TRANSIENT => message.durable = false,
        KEYLESS => message.key = None,
        TYPES => {}
        _ => return false,
    }
    true
}

/// Reads what [`Scratch::subjects`] wrote. What a foreign producer cut short is left out.
fn subjects(mut encoded: Bytes) -> Vec<Bytes> {
    let mut subjects = Vec::new();
    while subjects.len() < MAX_ALSO_SUBJECTS
        && let Some((len_bytes, _)) = encoded.split_first_chunk()
    {
        let end = 2 + usize::from(u16::from_be_bytes(*len_bytes));
        if end > encoded.len() {
            break;
        }
        subjects.push(encoded.split_to(end).split_off(2));
    }
    subjects
}

/// What a queue must know of each record of a batch.
///
/// # Errors
/// If a record is malformed.
pub(crate) fn metas(block: &RecordBlock) -> Result<Vec<Meta>, BatchError> {
    let mut metas = Vec::with_capacity(block.record_count() as usize);
    for record in block.refs() {
        let record = record?;
        let mut meta = Meta {
            delta: record.offset_delta,
            position: record.position,
            key: record.key.map(hash_key),
            priority: 0,
            not_before: None,
            expires_at: None,
            weight: record.encoded_bytes,
            arrived: Timestamp(record.timestamp_ms),
        };
        for header in record.headers.iter() {
            if !header.name.starts_with(RESERVED_HEADER_PREFIX.as_bytes()) {
                continue;
            }
            let number = || header.value.and_then(|value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
            match header.name_str() {
                Some(NOT_BEFORE) => meta.not_before = number().map(Timestamp),
                Some(EXPIRES_AT) => meta.expires_at = number().map(Timestamp),
                Some(PRIORITY) => meta.priority = number().and_then(|number| u8::try_from(number).ok()).unwrap_or(0),
                Some(KEYLESS) => meta.key = None,
                _ => {}
            }
        }
        metas.push(meta);
    }
    Ok(metas)
}

/// The hash by which queues keep a key's order. Stable, since retry records carry it over restarts.
pub(crate) fn hash_key(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

impl Meta {
    /// The arrival of this record in a queue's log.
    /// `sorts`: the queue may hold few messages of a batch for long.
    pub(crate) fn arrival(
        &self,
        base: Offset,
        block: &Arc<RecordBlock>,
        sorts: bool,
    ) -> crate::queue::Arrival<Payload> {
        crate::queue::Arrival {
            offset: base.plus(u64::from(self.delta)),
            key: self.key,
            priority: self.priority,
            arrived: self.arrived,
            not_before: self.not_before,
            expires_at: self.expires_at,
            weight: self.weight,
            payload: Some(if sorts || self.not_before.is_some() { self.alone(block) } else { self.shared(block) }),
        }
    }

    /// The record within its batch: nothing is copied. Neighbours of a batch come and go together where nothing sorts them.
    fn shared(&self, block: &Arc<RecordBlock>) -> Payload {
        Payload { block: Arc::clone(block), position: self.position }
    }

    /// The record without its batch, unless that is hardly larger.
    fn alone(&self, block: &Arc<RecordBlock>) -> Payload {
        if block.bytes().len() <= (self.weight as usize).saturating_mul(MAX_SHARED_FACTOR) {
            return self.shared(block);
        }
        let alone = |block| Payload { block: Arc::new(block), position: RecordPosition(0) };
        block.alone(self.position).map_or_else(|_| self.shared(block), alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_record_as_it_is_written_is_what_is_read_from_it() {
        let text = |text: &str| Some(Text::from(text));
        let messages = [
            Message::new("", ""),
            Message { id: Some(MessageId::Uuid([7; 16])), ..Message::new("orders.created", "body") },
            Message {
                key: Some("key".into()),
                priority: Some(9),
                expires_at: Some(Timestamp(-5)),
                ..Message::default()
            },
            Message {
                not_before: Some(Timestamp(i64::MAX)),
                headers: vec![(Text::from("a"), Value::int(3)), (Text::from("b"), Value::Null)],
                content_type: text("text/plain"),
                dedup_id: text("once"),
                also: vec!["s.1".into(), Bytes::new(), vec![0xff; 300].into()],
                topic: text("through"),
                durable: false,
                ..Message::new("s", vec![1; 5000])
            },
        ];
        for index_subject in [false, true] {
            let (batch, said) = encode(&messages, Timestamp(1_700_000_000_123), index_subject, None).unwrap();
            let block = batch.block().unwrap();
            assert_eq!(said, metas(&block).unwrap());
            for (message, meta) in messages.iter().zip(&said) {
                let mut read = decode(&block.record_ref(meta.position).unwrap(), block.bytes());
                assert_eq!(read.timestamp.take(), Some(Timestamp(1_700_000_000_123)));
                assert_eq!(read, *message);
            }
        }
    }
}
