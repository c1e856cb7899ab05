//! What operators' tools ask: is it alive, is it ready, what does it count.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::time::Duration;

use crate::app::{App, Draining};
use crate::caller::Known;
use crate::problem::Failure;

pub(crate) fn router() -> Router<App> {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// Answers as long as the process serves at all.
async fn livez() -> &'static str {
    "ok\n"
}

/// Whether publishes are taken. No while draining, so that a load balancer looks elsewhere.
async fn readyz(State(app): State<App>, drain: Draining) -> Response {
    let why = if drain.0.is_begun() { Some("the broker is stopping".to_owned()) } else { app.broker.not_ready() };
    match why {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(why) => Failure::new(503, "not-ready", why).retry_after(Duration::from_secs(1)).into_response(),
    }
}

/// The metrics page. It names queues and topics, so that it wants credentials once there are users.
async fn metrics(State(app): State<App>, Known(_): Known) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let page = (app.options.metrics)();
    // Only OpenMetrics ends so; anything else is Prometheus' older format.
    let kind = if page.trim_end().ends_with("# EOF") { kind } else { "text/plain; version=0.0.4; charset=utf-8" };
    ([(header::CONTENT_TYPE, kind)], page).into_response()
}
