//! The service framework: message-driven services in Rust that get right by default what is easy to get wrong by hand.

#![deny(missing_docs)]

mod client;
mod context;
pub mod contract;
mod error;
mod extract;
mod handler;
pub mod headers;
mod reaction;
mod runtime;
pub mod saga;
mod service;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod sql;
pub mod transport;

pub use client::{Asking, Client, Gathering, Publishing, RequestError, SendError};
pub use context::{Context, ContextBuilder, Place};
pub use contract::{Call, Codec, Json, Message};
pub use error::{Error, Kind, ResultExt};
pub use extract::{Event, FromContext, FromRef, Request, State, Undecodable};
pub use handler::Handler;
pub use reaction::{Answer, IntoOutcome, IntoReaction, Reaction};
pub use runtime::{Breaker, HandlerService};
pub use service::{Replay, Responder, Running, Service, ServiceError, Stopped, Subscription};
/// A message as it travels: id, subject, key, headers, body.
pub use types::Message as Envelope;
