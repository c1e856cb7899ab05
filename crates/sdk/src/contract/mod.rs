//! Contracts: what a message is called, which version it has, and how its body is written.
//!
//! A type that implements [`Message`], usually by `#[derive(Message)]`, is a contract between those who publish it and those who consume it. Its
//! name is the message's subject; name, version and schema id travel in headers ([`crate::headers`]), the codec's content type in the message.
//! Fields that a reader does not know are passed over; a *version* that it does not know is not guessed at: the message is dead-lettered and says so.

mod codec;
mod json;

use std::borrow::Cow;

use bytes::Bytes;
use types::{Text, Value};

pub use self::codec::{Codec, DecodeError, EncodeError};
pub use self::json::Json;
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

    /// A message of this name that was written in an older version. `#[message(upcast(1 = "OrderCreatedV1"))]` derives it from `From<OrderCreatedV1>`.
    ///
    /// # Errors
    /// [`DecodeError::UnknownVersion`] if there is no way from that version, and what decoding it gives.
    fn upcast(version: u32, _body: &[u8]) -> Result<Self, DecodeError> {
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
    let body = envelope.body.as_deref().unwrap_or_default();
    if let Some(content_type) = &envelope.content_type
        && !M::Codec::reads(content_type)
    {
        let (name, wanted) = (M::NAME, M::Codec::CONTENT_TYPE);
        return Err(DecodeError::ContentType { name, wanted, found: content_type.to_string() });
    }
    match headers::number(envelope, headers::VERSION) {
        None => M::Codec::decode(body),
        Some(version) if version == i64::from(M::VERSION) => M::Codec::decode(body),
        Some(version) => match u32::try_from(version) {
            Ok(older) if older < M::VERSION => M::upcast(older, body),
            _ => Err(DecodeError::UnknownVersion { name: M::NAME, found: version, known: M::VERSION }),
        },
    }
}
