//! The wire types of the native HTTP/JSON API, version 1: what the server reads and writes, and what a client does.
//!
//! Every type goes both ways. Requests refuse unknown fields. Times are milliseconds since 1970 and time spans milliseconds, as
//! the names of the fields say.
//!
//! Architecture invariant: this crate knows no broker, no socket and no runtime; of ours it imports `types` only.

#[cfg(test)]
mod both_apis;
mod consume;
mod entities;
mod filter;
#[cfg(feature = "grpc")]
pub mod grpc;
mod info;
mod message;
mod problem;
mod publish;
mod replay;
pub mod rfc3339;
mod users;
mod value;
pub mod ws;

pub use consume::*;
pub use entities::*;
pub use filter::{AttributeTest, Bound, Field, Filter, FilterError, MatchKind, WantedHeader, Word};
pub use info::*;
pub use message::{Message, MessageError, RawJson, id_from_text, is_json};
pub use problem::{PROBLEM_PREFIX, Problem};
pub use publish::*;
pub use replay::*;
pub use users::*;
pub use value::{HeaderValue, Headers};

/// Content type of one [`Message`] as a request's body.
pub const MESSAGE_TYPE: &str = "application/vnd.posthouse.message+json";
/// Content type of a [`Batch`] as a request's body.
pub const BATCH_TYPE: &str = "application/vnd.posthouse.batch+json";
/// Content type of one [`Message`] a line as a request's body.
pub const NDJSON_TYPE: &str = "application/x-ndjson";
/// Content type of a [`Problem`].
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// Begins the name of an HTTP header that carries a header of a message whose body is the request's own body.
pub const HEADER_PREFIX: &str = "posthouse-header-";
