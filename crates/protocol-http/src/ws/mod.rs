//! The WebSocket protocol: publish and consume on one connection, with credit. docs/protocols/websocket.md says what each frame does.
//!
//! [`session`] reads frames and answers them; [`streams`] are the consumers, subscriptions and tails, a task each; [`outbound`] is the
//! one writer, behind a bounded channel.

mod outbound;
mod session;
mod streams;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use axum::routing::any;

use crate::app::{App, Draining};
use crate::caller::Caller;
use crate::limits::MAX_FRAME_BYTES;
use crate::problem::Failure;

pub(crate) fn router() -> Router<App> {
    Router::new().route("/v1/{ns}/ws", any(upgrade))
}

async fn upgrade(
    State(app): State<App>,
    Caller(session): Caller,
    drain: Draining,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|error| {
        Failure::new(426, "upgrade-required", format!("this is a WebSocket endpoint: {}", error.body_text()))
    })?;
    let permit = (app.stream()?, session.connection_guard()?);
    // The library cuts a connection that passes its bound; ours is lower, so that the client is told first.
    let upgrade = upgrade.max_message_size(MAX_FRAME_BYTES * 2).max_frame_size(MAX_FRAME_BYTES * 2);
    Ok(upgrade.on_upgrade(move |socket| async move {
        session::run(app, session, drain, socket).await;
        drop(permit);
    }))
}
