//! How bodies are written.

use bytes::Bytes;

use super::Schema;

/// Writes and reads the bodies of one type.
pub trait Codec<M> {
    /// MIME type of the body.
    const CONTENT_TYPE: &'static str;

    /// The body.
    ///
    /// # Errors
    /// [`EncodeError`] if the value cannot be written.
    fn encode(message: &M) -> Result<Bytes, EncodeError>;

    /// The value. What it does not know of the body it passes over.
    ///
    /// # Errors
    /// [`DecodeError::Body`].
    fn decode(body: &[u8]) -> Result<M, DecodeError>;

    /// Whether it reads bodies of this MIME type.
    #[must_use]
    fn reads(content_type: &str) -> bool {
        essence(content_type).eq_ignore_ascii_case(Self::CONTENT_TYPE)
    }

    /// The schema of the type, for documents.
    fn schema() -> Option<Schema>;
}

/// A MIME type without its parameters.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Why a message could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be written as {content_type}: {why}")]
pub struct EncodeError {
    /// The type or message.
    pub name: &'static str,
    /// The codec.
    pub content_type: &'static str,
    /// What the codec said.
    pub why: String,
}

/// Why a message could not be read. The same message will not be readable the next time, unless by another version of the service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is another message than the handler takes.
    #[error("this is {found:?}, and the handler takes {wanted:?}")]
    OtherMessage {
        /// What the handler takes.
        wanted: &'static str,
        /// What came.
        found: String,
    },
    /// It is of a version that this service does not know.
    #[error("{name} has version {found}, and this service knows {known}; deploy one that knows it, then redrive")]
    UnknownVersion {
        /// The message.
        name: &'static str,
        /// The version that came.
        found: i64,
        /// The version of this service.
        known: u32,
    },
    /// Its body is written otherwise.
    #[error("{name} comes as {found:?}, and this service reads {wanted:?}")]
    ContentType {
        /// The message.
        name: &'static str,
        /// What the codec reads.
        wanted: &'static str,
        /// What came.
        found: String,
    },
    /// Its body is not what its type asks for.
    #[error("the body is no {name}: {why}")]
    Body {
        /// The type.
        name: &'static str,
        /// What the codec said, with the place.
        why: String,
    },
}
