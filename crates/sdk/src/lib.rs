//! The service framework: message-driven services in Rust that get right by default what is easy to get wrong by hand.

#![deny(missing_docs)]

pub mod contract;
mod error;
pub mod headers;
pub mod transport;

pub use contract::{Call, Codec, Json, Message};
pub use error::{Error, Kind, ResultExt};
/// A message as it travels: id, subject, key, headers, body.
pub use types::Message as Envelope;
