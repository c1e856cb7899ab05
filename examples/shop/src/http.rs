//! The HTTP side that all services have, and how they answer in it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use sdk::Health;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::traces::traced;

/// What `/readyz` says: why a service does not work yet, and what its [`Health`] says from when it has started.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<OnceLock<Health>>);

impl Readiness {
    /// The service has started.
    pub fn begin(&self, health: Health) {
        let _ = self.0.set(health);
    }

    async fn answer(&self) -> (StatusCode, String) {
        let problems = match self.0.get() {
            Some(health) => health.problems().await,
            None => vec!["it has not started yet: there is no broker".to_owned()],
        };
        match problems.as_slice() {
            [] => (StatusCode::OK, "ready\n".to_owned()),
            problems => (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n"),
        }
    }
}

/// A client with this limit for a whole request. All that the shop asks is on this machine, without TLS; the client wants to know all the same
/// who would do it.
///
/// # Errors
/// If it cannot be made.
pub fn client(limit: Duration) -> anyhow::Result<reqwest::Client> {
    // That there is one already is no fault.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(limit).no_proxy().build().context("making an HTTP client")
}

/// Serves a router, and `/livez` and `/readyz`, until it is stopped.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    ready: Readiness,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let readyz = get(move || async move { ready.answer().await });
    let router = if router.has_routes() { router.route_layer(from_fn(traced)) } else { router };
    let router = router.route("/livez", get(|| async { "alive" })).route("/readyz", readyz);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// A request that comes to nothing, and why.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    /// With this status and these words.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    /// Worth asking again.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.why }));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            return (self.status, [("retry-after", "1")], body).into_response();
        }
        (self.status, body).into_response()
    }
}

impl<E: std::error::Error> From<E> for Refusal {
    /// The database and the like: the next attempt may do better.
    fn from(error: E) -> Self {
        tracing::warn!(%error, "a request failed");
        Self::unavailable(error.to_string())
    }
}
