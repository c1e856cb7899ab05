//! Contracts: what a message is called, which version it has, and how its body is written.
//!
//! A type that implements [`Message`], usually by `#[derive(Message)]`, is a contract between those who publish it and those who consume it. Its
//! name is the message's subject; name, version and schema id travel in headers ([`crate::headers`]), the codec's content type in the message.
//! Fields that a reader does not know are passed over; a *version* that it does not know is not guessed at: the message is dead-lettered and says so.

#[cfg(feature = "avro")]
mod avro;
mod codec;
mod json;
#[cfg(feature = "protobuf")]
mod protobuf;
#[cfg(all(test, feature = "derive"))]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;

use bytes::Bytes;
use types::{Text, Value};

#[cfg(feature = "avro")]
pub use self::avro::{Avro, NoOtherSchemas, WriterSchemas};
pub use self::codec::{Codec, DecodeError, EncodeError};
pub use self::json::Json;
#[cfg(feature = "protobuf")]
pub use self::protobuf::{NoProtoText, ProtoText, Protobuf};
use crate::{Envelope, headers};

/// A message's contract.
///
/// ```
/// use schemars::JsonSchema;
/// use sdk::Message;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, JsonSchema, Message)]
/// #[message(name = "order.created", version = 1, topic = "orders", key = "order_id")]
/// struct OrderCreated {
///     order_id: String,
///     total_cents: i64,
/// }
///
/// assert_eq!(OrderCreated::NAME, "order.created");
/// ```
pub trait Message: Sized + Send + Sync + 'static {
    /// Dot-separated words; the subject that it is published under.
    const NAME: &'static str;
    /// Grows with each change that readers of the one before cannot read.
    const VERSION: u32;
    /// The topic that it is published to.
    const TOPIC: &'static str;
    /// How the body is written.
    type Codec: Codec<Self>;

    /// The ordering and partitioning key of this message, if it has one.
    fn key(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// A message of this name that was written in an older version, with the content type that it came with.
    ///
    /// `#[message(upcast(1 = OrderCreatedV1))]` derives it: the older contract reads the body ([`decode_body`]), and `From<OrderCreatedV1>` does the
    /// rest. What is older still goes through the older contract's own upcasts, so a chain needs a step from each version to the next and no more.
    ///
    /// # Errors
    /// [`DecodeError::UnknownVersion`] if there is no way from that version, and what decoding it gives.
    fn upcast(version: u32, _content_type: Option<&str>, _body: &[u8]) -> Result<Self, DecodeError> {
        Err(DecodeError::UnknownVersion { name: Self::NAME, found: i64::from(version), known: Self::VERSION })
    }
}

/// A question with an answer: a message whose consumer replies.
pub trait Call: Message {
    /// The answer.
    type Reply: Message;
}

/// What is known of a contract while the service runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// Its topic.
    pub topic: &'static str,
    /// Content type of its body.
    pub content_type: &'static str,
    /// Its schema, where the codec has one.
    pub schema: Option<Schema>,
}

impl Contract {
    /// The contract of a type.
    #[must_use]
    pub fn of<M: Message>() -> Self {
        Self {
            name: M::NAME,
            version: M::VERSION,
            topic: M::TOPIC,
            content_type: M::Codec::CONTENT_TYPE,
            schema: M::Codec::schema(),
        }
    }

    /// What the header [`headers::SCHEMA`] says: `order.created/1`.
    #[must_use]
    pub fn schema_id(&self) -> String {
        schema_id(self.name, self.version)
    }
}

/// A schema and the format it is in, as AsyncAPI 3 names formats.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Such as `application/schema+json;version=draft-2020-12`.
    pub format: &'static str,
    /// The schema: an object of JSON Schema or Avro, or the text of a `.proto` file.
    pub schema: serde_json::Value,
}

fn schema_id(name: &str, version: u32) -> String {
    format!("{name}/{version}")
}

/// A message as it goes out: with a new id, its subject, key, headers and body.
///
/// # Errors
/// [`EncodeError`].
pub fn encode<M: Message>(message: &M) -> Result<Envelope, EncodeError> {
    let body = M::Codec::encode(message)?;
    let mut envelope = Envelope::new(Bytes::from_static(M::NAME.as_bytes()), body);
    envelope.id = Some(types::MessageId::Text(uuid::Uuid::now_v7().to_string().into()));
    envelope.key = message.key().map(|key| Bytes::copy_from_slice(key.as_bytes()));
    envelope.content_type = Some(Text::from_static(M::Codec::CONTENT_TYPE));
    envelope.headers = vec![
        (Text::from_static(headers::MESSAGE), Value::Text(Text::from_static(M::NAME))),
        (Text::from_static(headers::VERSION), Value::int(i64::from(M::VERSION))),
        (Text::from_static(headers::SCHEMA), Value::Text(schema_id(M::NAME, M::VERSION).into())),
    ];
    Ok(envelope)
}

/// The message in an envelope. One without the SDK's headers, from a producer without it, is taken for the current version of what is asked for.
///
/// # Errors
/// [`DecodeError`]. The same envelope will fail again.
pub fn decode<M: Message>(envelope: &Envelope) -> Result<M, DecodeError> {
    if let Some(found) = headers::text(envelope, headers::MESSAGE)
        && found != M::NAME
    {
        return Err(DecodeError::OtherMessage { wanted: M::NAME, found: found.to_owned() });
    }
    let version = headers::number(envelope, headers::VERSION).unwrap_or(i64::from(M::VERSION));
    let unknown = |found| DecodeError::UnknownVersion { name: M::NAME, found, known: M::VERSION };
    let body = envelope.body.as_deref().unwrap_or_default();
    let content_type = envelope.content_type.as_ref().map(Text::as_str);
    let decoded = decode_body(u32::try_from(version).map_err(|_| unknown(version))?, content_type, body);
    decoded.map_err(|error| match error {
        // A step of a chain of upcasts names its own version, which is not what this service knows.
        DecodeError::UnknownVersion { found, .. } => unknown(found),
        other => other,
    })
}

/// The message in a body of this version: by the codec if it is the contract's own version, by [`Message::upcast`] if it is an older one. What has no
/// content type is taken to be what the codec reads.
///
/// # Errors
/// [`DecodeError`]. The same body will fail again.
pub fn decode_body<M: Message>(version: u32, content_type: Option<&str>, body: &[u8]) -> Result<M, DecodeError> {
    let (name, known) = (M::NAME, M::VERSION);
    match version.cmp(&known) {
        Ordering::Less => M::upcast(version, content_type, body),
        Ordering::Greater => Err(DecodeError::UnknownVersion { name, found: i64::from(version), known }),
        // An older version may have had another codec: its own contract checks its content type.
        Ordering::Equal => match content_type {
            Some(found) if !M::Codec::reads(found) => {
                Err(DecodeError::ContentType { name, wanted: M::Codec::CONTENT_TYPE, found: found.to_owned() })
            }
            _ => M::Codec::decode(body),
        },
    }
}

/// Whether two names are the same, for what `#[derive(Message)]` asserts while the service compiles.
#[doc(hidden)]
#[must_use]
pub const fn same_name(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}
