//! A message and how it goes out.

use std::time::Duration;

use bytes::Bytes;
use types::{MessageId, Text, Timestamp, Value};

use crate::Envelope;
use crate::contract::{self, EncodeError, Message};
use crate::transport::{Destination, Outgoing};

/// A message and how it goes out: to its topic unless said otherwise, now, without further headers.
///
/// ```
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// # use std::borrow::Cow;
/// use sdk::Publishing;
/// use std::time::Duration;
/// # #[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
/// # #[message(name = "reminder.due")]
/// # struct Reminder { order_id: String }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let reminder = Reminder { order_id: "o-1".to_owned() };
/// let publishing = Publishing::of(&reminder)?.key("o-1").delay(Duration::from_secs(24 * 3600));
/// # drop(publishing);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "it is not published before it is sent, emitted or returned"]
pub struct Publishing {
    to: Destination,
    message: Envelope,
    delay: Option<Duration>,
    expires_in: Option<Duration>,
}

impl Publishing {
    /// A message to its topic.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn of<M: Message>(message: &M) -> Result<Self, EncodeError> {
        Ok(Self::envelope(Destination::Topic(M::TOPIC.to_owned()), contract::encode(message)?))
    }

    /// Any envelope to anywhere. One without an id gets one.
    pub fn envelope(to: Destination, mut message: Envelope) -> Self {
        if message.id.is_none() {
            message.id = Some(MessageId::Text(uuid::Uuid::now_v7().to_string().into()));
        }
        Self { to, message, delay: None, expires_in: None }
    }

    /// Straight into this queue instead: a task for its workers.
    pub fn to_queue(mut self, queue: impl Into<String>) -> Self {
        self.to = Destination::Queue(queue.into());
        self
    }

    /// To this topic instead.
    pub fn to_topic(mut self, topic: impl Into<String>) -> Self {
        self.to = Destination::Topic(topic.into());
        self
    }

    /// To whoever listens now; nothing keeps it.
    pub(crate) fn live(mut self) -> Self {
        self.to = Destination::Live;
        self.message.durable = false;
        self
    }

    /// Under this subject instead of the contract's name.
    pub fn subject(mut self, subject: impl Into<Bytes>) -> Self {
        self.message.subject = subject.into();
        self
    }

    /// The ordering and partitioning key.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.message.key = Some(key.into());
        self
    }

    /// Delivered so much later, and not before. Needs [`delay`](crate::transport::Capabilities::delay).
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Delivered at this time, and not before. Needs [`delay`](crate::transport::Capabilities::delay).
    pub fn at(mut self, time: Timestamp) -> Self {
        self.message.not_before = Some(time);
        self
    }

    /// Not delivered any more after this time.
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }

    /// The id, by which those who receive it twice know it. Made up unless given.
    pub fn id(mut self, id: impl Into<Text>) -> Self {
        self.message.id = Some(MessageId::Text(id.into()));
        self
    }

    /// A queue with a dedup window takes a message of the same dedup id once.
    pub fn dedup_id(mut self, id: impl Into<Text>) -> Self {
        self.message.dedup_id = Some(id.into());
        self
    }

    /// The conversation that it belongs to; that of the message whose handling leads to it unless given.
    pub fn correlation_id(mut self, id: impl Into<Text>) -> Self {
        self.message.correlation_id = Some(id.into());
        self
    }

    /// Where an answer goes.
    pub fn reply_to(mut self, address: impl Into<Text>) -> Self {
        self.message.reply_to = Some(address.into());
        self
    }

    /// 0 is lowest. Needs [`priority`](crate::transport::Capabilities::priority).
    pub fn priority(mut self, priority: u8) -> Self {
        self.message.priority = Some(priority);
        self
    }

    /// A further header.
    pub fn header(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.message.headers.push((name.into(), Value::Text(value.into())));
        self
    }

    /// Where it goes.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.to
    }

    /// The envelope as it is so far.
    #[must_use]
    pub fn as_envelope(&self) -> &Envelope {
        &self.message
    }

    /// As it goes out, with spans of time counted from now.
    #[must_use]
    pub fn into_outgoing(mut self, now: Timestamp) -> Outgoing {
        if let Some(delay) = self.delay {
            self.message.not_before = Some(now.after(delay));
        }
        if let Some(time) = self.expires_in {
            self.message.expires_at = Some(now.after(time));
        }
        // A queue with a dedup window takes it once, also if it is sent again after a lost connection.
        if self.message.dedup_id.is_none() {
            self.message.dedup_id = self.message.id.as_ref().map(|id| Text::from(id.to_string()));
        }
        Outgoing { to: self.to, message: self.message }
    }
}
