//! The transport of Posthouse, over the broker in this process and over a socket to it.

#![allow(
    clippy::disallowed_methods,
    reason = "tests hear of what handlers do over channels that never fill, and wait for real sockets"
)]

mod asking;
mod conformance;
mod documents;
mod killed;
mod kit;
mod lost_answers;
mod more;
mod once;
mod queues;
mod reconnects;
mod requests;
mod sagas;
mod services;
mod shop;
mod topics;
