//! The values of message headers.

use bytes::Bytes;

use crate::{Text, Timestamp};

/// A typed header value. The kinds are the union of what the protocols carry, so that a header comes out as it came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer of up to 8 bytes. `width_bytes` is 1, 2, 4 or 8.
    Int {
        /// The number.
        value: i64,
        /// How wide the protocol that it came from wrote it.
        width_bytes: u8,
    },
    /// An unsigned integer of up to 8 bytes. `width_bytes` is 1, 2, 4 or 8.
    Uint {
        /// The number.
        value: u64,
        /// How wide the protocol that it came from wrote it.
        width_bytes: u8,
    },
    /// A 4-byte floating-point number.
    Float(f32),
    /// An 8-byte floating-point number.
    Double(f64),
    /// `unscaled` × 10^-`scale`.
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// The number without its point.
        unscaled: i64,
    },
    /// Text.
    Text(Text),
    /// Bytes that are not text, or not known to be.
    Bytes(Bytes),
    /// A point in time.
    Timestamp(Timestamp),
    /// An ordered list.
    List(Vec<Value>),
    /// Named values, in their order, duplicates kept.
    Map(Vec<(Text, Value)>),
}

impl Value {
    /// An 8-byte signed integer.
    #[must_use]
    pub const fn int(value: i64) -> Self {
        Self::Int { value, width_bytes: 8 }
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a number, if it is one.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "filters compare as 64-bit floats, as SNS and EventBridge do")]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int { value, .. } => Some(*value as f64),
            Self::Uint { value, .. } => Some(*value as f64),
            Self::Float(value) => Some(f64::from(*value)),
            Self::Double(value) => Some(*value),
            Self::Decimal { scale, unscaled } => Some(*unscaled as f64 / 10f64.powi(i32::from(*scale))),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl Value {
    /// The same value with bytes of its own.
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.detached()),
            Self::Bytes(bytes) => Self::Bytes(Bytes::copy_from_slice(bytes)),
            Self::List(values) => Self::List(values.iter().map(Self::detached).collect()),
            Self::Map(entries) => {
                Self::Map(entries.iter().map(|(name, value)| (name.detached(), value.detached())).collect())
            }
            other => other.clone(),
        }
    }

    /// Roughly what the value weighs on the wire, in bytes.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 1,
            Self::Int { width_bytes, .. } | Self::Uint { width_bytes, .. } => usize::from(*width_bytes),
            Self::Float(_) => 4,
            Self::Double(_) | Self::Timestamp(_) => 8,
            Self::Decimal { .. } => 9,
            Self::Text(text) => text.bytes().len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(values) => values.iter().map(|value| 1 + value.weight_bytes()).sum(),
            Self::Map(entries) => {
                entries.iter().map(|(name, value)| 1 + name.bytes().len() + value.weight_bytes()).sum()
            }
        }
    }
}
