// The README's programs need a broker, which this crate must not know: `embedded` runs them as its doc tests.
#![cfg_attr(not(doctest), doc = include_str!("../README.md"))]
#![deny(missing_docs)]

// The paths that `#[derive(Message)]` writes begin with `::sdk`, in here as in any other crate.
#[allow(unused_extern_crates, reason = "the SDK itself derives contracts in some of its configurations and tests only")]
extern crate self as sdk;

pub mod asyncapi;
mod backoff;
#[cfg(feature = "claim-check")]
pub mod claim_check;
mod client;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
pub mod contract;
pub mod discovery;
mod error;
pub mod event_sourcing;
mod extract;
mod handler;
pub mod headers;
mod health;
mod reaction;
mod runtime;
pub mod saga;
mod service;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod sql;
pub mod telemetry;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod transport;

pub use client::{Asking, Client, Gathering, Publishing, RequestError, SendError};
pub use context::{Context, ContextBuilder, Place};
#[cfg(feature = "avro")]
pub use contract::Avro;
#[cfg(feature = "protobuf")]
pub use contract::Protobuf;
pub use contract::{Call, Codec, Json, Message};
pub use error::{Error, Kind, ResultExt};
pub use extract::{Event, FromContext, FromRef, Request, State, Undecodable};
pub use handler::Handler;
pub use health::Health;
pub use reaction::{Answer, IntoOutcome, IntoReaction, Reaction};
pub use runtime::{Breaker, HandlerService};
/// Implements the trait [`Message`](trait@Message), and [`Call`] where a reply is named.
///
/// What a contract says of its older versions is held while the service compiles. This does not, since `V1` is not version 1:
///
/// ```compile_fail,E0080
/// # use schemars::JsonSchema;
/// # use sdk::Message;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, JsonSchema, Message)]
/// #[message(name = "order.created", version = 2)]
/// struct V1 {}
///
/// #[derive(Serialize, Deserialize, JsonSchema, Message)]
/// #[message(name = "order.created", version = 3, upcast(1 = V1))]
/// struct OrderCreated {}
///
/// impl From<V1> for OrderCreated {
///     fn from(_: V1) -> Self {
///         Self {}
///     }
/// }
/// ```
#[cfg(feature = "derive")]
pub use sdk_derive::Message;
pub use service::{Replay, Responder, Running, Service, ServiceError, Stopped, Subscription};
/// A message as it travels: id, subject, key, headers, body.
pub use types::Message as Envelope;
