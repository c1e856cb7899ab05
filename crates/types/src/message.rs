//! The message.

use std::fmt;

use bytes::Bytes;

use crate::{Text, Timestamp, Value};

/// Ordered headers; a name may stand more than once.
pub type Headers = Vec<(Text, Value)>;

/// What tells one message from another for as long as it lives, in every queue it reaches.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum MessageId {
    /// Made by the broker: a UUID of version 7, as bytes.
    Uuid([u8; 16]),
    /// Given by the producer.
    Text(Text),
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Uuid(uuid) => fmt::Display::fmt(uuid::Uuid::from_bytes_ref(uuid), f),
        }
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A message, as every protocol's session hands it to the broker and gets it back.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `None` lets the broker make one.
    pub id: Option<MessageId>,
    /// What the message is about: dot-separated words; bindings filter on it.
    pub subject: Bytes,
    /// Further subjects that it is routed by, besides `subject`. A queue, log or live subscription gets it once, however many of them lead
    /// there. Kept with the message, so that it takes the same ways as a dead letter.
    pub also: Vec<Bytes>,
    /// The topic that it was published to. The broker sets it, whatever the producer says; `None` of a message that came straight into a
    /// queue or reached live subscriptions alone.
    pub topic: Option<Text>,
    /// Ordering and partitioning key.
    pub key: Option<Bytes>,
    /// The application's headers, trace context (`traceparent`, `tracestate`) included. Names under
    /// [`crate::limits::RESERVED_HEADER_PREFIX`] carry what a protocol has beyond the fields of this struct.
    pub headers: Headers,
    /// `None` is Kafka's tombstone: a null body.
    pub body: Option<Bytes>,
    /// MIME type of the body.
    pub content_type: Option<Text>,
    /// When it was made; the broker stamps it at publish when `None`.
    pub timestamp: Option<Timestamp>,
    /// What request this answers, or what conversation it belongs to.
    pub correlation_id: Option<Text>,
    /// Where an answer goes.
    pub reply_to: Option<Text>,
    /// Not delivered by a queue before this time.
    pub not_before: Option<Timestamp>,
    /// Not delivered after this time.
    pub expires_at: Option<Timestamp>,
    /// 0 (lowest, the default) to 9, or to 255 where a protocol has more levels; a queue clamps to what it declares.
    pub priority: Option<u8>,
    /// A queue or topic with a dedup window takes a message of the same dedup id once.
    pub dedup_id: Option<Text>,
    /// Whether the producer wants it to survive a restart. A transient message may be lost with the process, but for where more is stated.
    pub durable: bool,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            id: None,
            subject: Bytes::new(),
            also: Vec::new(),
            topic: None,
            key: None,
            headers: Vec::new(),
            body: None,
            content_type: None,
            timestamp: None,
            correlation_id: None,
            reply_to: None,
            not_before: None,
            expires_at: None,
            priority: None,
            dedup_id: None,
            durable: true,
        }
    }
}

impl Message {
    /// A durable message with this subject and body.
    #[must_use]
    pub fn new(subject: impl Into<Bytes>, body: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), body: Some(body.into()), ..Self::default() }
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Value> {
        self.headers.iter().find(|(have, _)| *have == *name).map(|(_, value)| value)
    }

    /// What the message weighs against limits and quotas, in bytes: key, headers, body and texts, without framing.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let text = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.bytes().len());
        self.subject.len()
            + self.also.iter().map(Bytes::len).sum::<usize>()
            + self.key.as_ref().map_or(0, Bytes::len)
            + self.body.as_ref().map_or(0, Bytes::len)
            + text(&self.content_type)
            + text(&self.correlation_id)
            + text(&self.reply_to)
            + text(&self.dedup_id)
            + self.headers.iter().map(|(name, value)| name.bytes().len() + value.weight_bytes()).sum::<usize>()
    }

    /// The same message with bytes of its own. A message's fields may be slices of a whole received frame, which lives as long as any of
    /// them: whoever keeps one message for long keeps this instead.
    #[must_use]
    pub fn detached(&self) -> Self {
        let text = |text: &Option<Text>| text.as_ref().map(Text::detached);
        Self {
            id: self.id.as_ref().map(|id| match id {
                MessageId::Uuid(uuid) => MessageId::Uuid(*uuid),
                MessageId::Text(id) => MessageId::Text(id.detached()),
            }),
            subject: Bytes::copy_from_slice(&self.subject),
            also: self.also.iter().map(|subject| Bytes::copy_from_slice(subject)).collect(),
            topic: text(&self.topic),
            key: self.key.as_deref().map(Bytes::copy_from_slice),
            headers: self.headers.iter().map(|(name, value)| (name.detached(), value.detached())).collect(),
            body: self.body.as_deref().map(Bytes::copy_from_slice),
            content_type: text(&self.content_type),
            correlation_id: text(&self.correlation_id),
            reply_to: text(&self.reply_to),
            dedup_id: text(&self.dedup_id),
            timestamp: self.timestamp,
            not_before: self.not_before,
            expires_at: self.expires_at,
            priority: self.priority,
            durable: self.durable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_message_is_equal_and_shares_nothing() {
        let frame = Bytes::from_static(b"subjectkeybodyidnametext");
        let text = |range| Text::from_utf8(frame.slice(range)).unwrap();
        let value = Value::List(vec![Value::Text(text(20..24)), Value::Bytes(frame.slice(0..3)), Value::Bool(true)]);
        let message = Message {
            id: Some(MessageId::Text(text(14..16))),
            subject: frame.slice(0..7),
            also: vec![frame.slice(3..7)],
            topic: Some(text(14..16)),
            key: Some(frame.slice(7..10)),
            body: Some(frame.slice(10..14)),
            dedup_id: Some(text(14..16)),
            headers: vec![(text(16..20), Value::Map(vec![(text(16..20), value)]))],
            ..Message::default()
        };
        let detached = message.detached();
        assert_eq!(detached, message);
        let within = |bytes: &Bytes| frame.as_ptr_range().contains(&bytes.as_ptr());
        assert!(within(&message.subject) && !within(&detached.subject));
        assert!(!within(&detached.also[0]) && !within(detached.topic.as_ref().unwrap().bytes()));
        assert!(!within(detached.headers[0].0.bytes()) && !within(detached.body.as_ref().unwrap()));
    }
}
