//! The native HTTP API: REST with JSON bodies, Server-Sent Events, WebSocket and CloudEvents. docs/protocols/http.md and
//! docs/protocols/websocket.md say what each does; the OpenAPI document is made from the handlers.
//!
//! A publish goes `publish` → `broker::Session::publish`; a delivery `consume` → `broker::Session::receive`, or `ws::streams` →
//! `broker::Consumer::next`. Every error becomes HTTP in `problem`.
//!
//! Architecture invariant: this crate maps HTTP to the broker's words and decides nothing. It never names another protocol's crate.

mod admin;
mod app;
mod backup;
mod bindings;
mod caller;
mod cloudevents;
mod consume;
mod definitions;
mod groups;
mod input;
pub mod limits;
mod openapi;
mod page;
mod policies;
mod probes;
mod problem;
mod publish;
mod queues;
mod replay;
mod request;
mod serve;
mod tail;
mod topics;
mod views;
pub mod webhook;
mod ws;

pub use app::{HttpOptions, WebSocketTimes};
pub use openapi::{document, router};
pub use serve::{ALPN, serve};
