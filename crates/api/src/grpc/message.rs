//! A message in protobuf, read and written by hand: subject, key, body and texts are slices of the frame that they came in, and what
//! goes out is written from the broker's message without another form in between.

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType, skip_field};
use types::{MessageId, Text, Timestamp};

use super::value::{Header, bytes_len, header_len, read_bytes, read_text, write_bytes, write_header};

/// A message as `posthouse.v1.Message` writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The message. Its body is there, though perhaps empty, also of a tombstone.
    message: types::Message,
    tombstone: bool,
    /// Not delivered by a queue before so many milliseconds from the publish on.
    pub delay_ms: Option<u64>,
    /// Not delivered by a queue after so many milliseconds from the publish on.
    pub ttl_ms: Option<u64>,
    /// What makes no sense in it. It is the message's own fault and not the frame's.
    fault: Option<MessageFault>,
}

/// Why a message makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageFault {
    /// Two fields that say the same.
    #[error("`{0}` and `{1}` do not go together; give one")]
    Both(&'static str, &'static str),
    /// A priority is one byte.
    #[error("`priority` is 0 to 255, not {0}")]
    Priority(u32),
}

impl MessageFault {
    /// The field at fault.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Both(field, _) => field,
            Self::Priority(_) => "priority",
        }
    }
}

impl Default for Message {
    /// What no bytes at all say: an empty body.
    fn default() -> Self {
        let message = types::Message { body: Some(Bytes::new()), ..types::Message::default() };
        Self { message, tombstone: false, delay_ms: None, ttl_ms: None, fault: None }
    }
}

impl From<types::Message> for Message {
    fn from(message: types::Message) -> Self {
        let tombstone = message.body.is_none();
        Self { message, tombstone, delay_ms: None, ttl_ms: None, fault: None }
    }
}

impl Message {
    /// The message that this says, with the spans `delay_ms` and `ttl_ms` counted from `now`.
    ///
    /// # Errors
    /// See [`MessageFault`].
    pub fn into_message(self, now: Timestamp) -> Result<types::Message, MessageFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut message = self.message;
        if self.tombstone && message.body.take().is_some_and(|body| !body.is_empty()) {
            return Err(MessageFault::Both("body", "tombstone"));
        }
        let after = |ms: u64| Timestamp(now.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
        if let Some(delay_ms) = self.delay_ms
            && message.not_before.replace(after(delay_ms)).is_some()
        {
            return Err(MessageFault::Both("not_before_ms", "delay_ms"));
        }
        if let Some(ttl_ms) = self.ttl_ms
            && message.expires_at.replace(after(ttl_ms)).is_some()
        {
            return Err(MessageFault::Both("expires_at_ms", "ttl_ms"));
        }
        Ok(message)
    }

    /// The body; empty of a tombstone.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.message.body.clone().unwrap_or_default()
    }

    /// What the message weighs, in bytes; see [`types::Message::weight_bytes`].
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.message.weight_bytes()
    }

    /// Gives a message that has no subject this one.
    pub fn default_subject(&mut self, subject: &Bytes) {
        if self.message.subject.is_empty() {
            self.message.subject = subject.clone();
        }
    }

    fn subject(&mut self, subject: Bytes) {
        // An empty one says nothing: the other of the two fields keeps its word.
        if subject.is_empty() {
            return;
        }
        if !self.message.subject.is_empty() {
            self.fault = Some(MessageFault::Both("subject", "subject_bytes"));
        }
        self.message.subject = subject;
    }
}

impl prost::Message for Message {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        let message = &self.message;
        match &message.id {
            Some(MessageId::Uuid(uuid)) => write_bytes(1, &uuid_text(uuid), buffer),
            Some(MessageId::Text(text)) => write_bytes(1, text.bytes(), buffer),
            None => {}
        }
        if !message.subject.is_empty() {
            write_bytes(subject_tag(&message.subject), &message.subject, buffer);
        }
        if let Some(key) = &message.key {
            write_bytes(3, key, buffer);
        }
        for (name, value) in &message.headers {
            write_header(4, name, value, buffer);
        }
        if let Some(body) = message.body.as_ref().filter(|body| !body.is_empty()) {
            write_bytes(5, body, buffer);
        }
        if self.tombstone {
            encoding::bool::encode(6, &true, buffer);
        }
        for (tag, text) in texts(message) {
            if let Some(text) = text {
                write_bytes(tag, text.bytes(), buffer);
            }
        }
        for (tag, time) in times(message) {
            if let Some(time) = time {
                encoding::int64::encode(tag, &time.0, buffer);
            }
        }
        for (tag, span_ms) in [(12, self.delay_ms), (14, self.ttl_ms)] {
            if let Some(span_ms) = span_ms {
                encoding::uint64::encode(tag, &span_ms, buffer);
            }
        }
        if let Some(priority) = message.priority {
            encoding::uint32::encode(15, &u32::from(priority), buffer);
        }
        if !message.durable {
            encoding::bool::encode(17, &true, buffer);
        }
    }

    fn encoded_len(&self) -> usize {
        let message = &self.message;
        let mut len = match &message.id {
            Some(MessageId::Uuid(uuid)) => bytes_len(1, &uuid_text(uuid)),
            Some(MessageId::Text(text)) => bytes_len(1, text.bytes()),
            None => 0,
        };
        if !message.subject.is_empty() {
            len += bytes_len(subject_tag(&message.subject), &message.subject);
        }
        len += message.key.as_ref().map_or(0, |key| bytes_len(3, key));
        len += message.headers.iter().map(|(name, value)| header_len(4, name, value)).sum::<usize>();
        len += message.body.as_ref().filter(|body| !body.is_empty()).map_or(0, |body| bytes_len(5, body));
        if self.tombstone {
            len += encoding::bool::encoded_len(6, &true);
        }
        for (tag, text) in texts(message) {
            len += text.map_or(0, |text| bytes_len(tag, text.bytes()));
        }
        for (tag, time) in times(message) {
            len += time.map_or(0, |time| encoding::int64::encoded_len(tag, &time.0));
        }
        for (tag, span_ms) in [(12, self.delay_ms), (14, self.ttl_ms)] {
            len += span_ms.map_or(0, |span_ms| encoding::uint64::encoded_len(tag, &span_ms));
        }
        len += message.priority.map_or(0, |priority| encoding::uint32::encoded_len(15, &u32::from(priority)));
        if !message.durable {
            len += encoding::bool::encoded_len(17, &true);
        }
        len
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        macro_rules! scalar {
            ($kind:ident, $type:ty) => {{
                let mut value = <$type>::default();
                encoding::$kind::merge(wire_type, &mut value, buffer, context)?;
                value
            }};
        }
        let message = &mut self.message;
        match tag {
            1 => {
                message.id =
                    Some(read_text(wire_type, buffer)?).filter(|text| !text.bytes().is_empty()).map(|text| id(&text))
            }
            2 => self.subject(read_text(wire_type, buffer)?.bytes().clone()),
            3 => message.key = Some(read_bytes(wire_type, buffer)?),
            4 => {
                let mut header = Header::default();
                encoding::message::merge(wire_type, &mut header, buffer, context)?;
                message.headers.push((header.name, header.value.0));
            }
            5 => message.body = Some(read_bytes(wire_type, buffer)?),
            6 => self.tombstone = scalar!(bool, bool),
            7 => message.content_type = Some(read_text(wire_type, buffer)?),
            8 => message.timestamp = Some(Timestamp(scalar!(int64, i64))),
            9 => message.correlation_id = Some(read_text(wire_type, buffer)?),
            10 => message.reply_to = Some(read_text(wire_type, buffer)?),
            11 => message.not_before = Some(Timestamp(scalar!(int64, i64))),
            12 => self.delay_ms = Some(scalar!(uint64, u64)),
            13 => message.expires_at = Some(Timestamp(scalar!(int64, i64))),
            14 => self.ttl_ms = Some(scalar!(uint64, u64)),
            15 => {
                let priority = scalar!(uint32, u32);
                message.priority = u8::try_from(priority).ok();
                if message.priority.is_none() {
                    self.fault = Some(MessageFault::Priority(priority));
                }
            }
            // Windows of dedup ids and producers keep these for long, and must not keep the whole frame.
            16 => message.dedup_id = Some(read_text(wire_type, buffer)?.detached()),
            17 => message.durable = !scalar!(bool, bool),
            18 => self.subject(read_bytes(wire_type, buffer)?),
            _ => skip_field(wire_type, tag, buffer, context)?,
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn texts(message: &types::Message) -> [(u32, Option<&Text>); 4] {
    [
        (7, message.content_type.as_ref()),
        (9, message.correlation_id.as_ref()),
        (10, message.reply_to.as_ref()),
        (16, message.dedup_id.as_ref()),
    ]
}

fn times(message: &types::Message) -> [(u32, Option<Timestamp>); 3] {
    [(8, message.timestamp), (11, message.not_before), (13, message.expires_at)]
}

/// `subject`, or `subject_bytes` of one that is not UTF-8.
fn subject_tag(subject: &[u8]) -> u32 {
    if std::str::from_utf8(subject).is_ok() { 2 } else { 18 }
}

/// A UUID's canonical text. A message's id is written with every delivery, so that this is no `write!`.
fn uuid_text(uuid: &[u8; 16]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (number, byte) in uuid.iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

/// As [`crate::id_from_text`], with bytes of its own.
fn id(text: &Text) -> MessageId {
    crate::message::uuid_bytes(text.bytes()).map_or_else(|| MessageId::Text(text.detached()), MessageId::Uuid)
}
