//! The broker as a whole, and who asks.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use axum::{Json as JsonAnswer, Router};
use serde_json::{Value as Json, json};

use super::App;
use super::caller::Caller;
use super::connections::{Usage, seen};
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::nodes::{NODE, contexts, exchange_types};
use super::refusal::Refusal;
use super::stats::Totals;
use crate::entities::{exchange, queue};

/// The version of RabbitMQ whose API this is, which clients look at to know what they may ask for.
pub(super) const COMPATIBLE_VERSION: &str = "4.1.0";
const PRODUCT: &str = "Posthouse";
pub(super) const CLUSTER_NAME: &str = "posthouse";

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/overview", get(overview))
        .route("/whoami", get(whoami))
        .route("/version", get(version))
        .route("/cluster-name", get(cluster_name).put(rename))
        .route("/extensions", get(extensions))
        .route("/feature-flags", get(feature_flags))
        .route("/deprecated-features", get(feature_flags))
        .route("/deprecated-features/used", get(feature_flags))
        .route("/rebalance/queues", post(nothing_to_do))
        .route("/reset", delete(no_reset))
        .route("/reset/{node}", delete(no_reset))
}

async fn overview(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    let (mut totals, mut queues, mut exchanges) = (Totals::default(), 0, 0);
    for view in caller.views(&app)? {
        for found in queue::all(&view)? {
            totals.add(&Totals::of(&found));
            queues += 1;
        }
        // The default exchange is one too.
        exchanges += exchange::all(&view)?.len() + 1;
    }
    let connections = seen(&app, &caller);
    let channels: usize = connections.iter().map(|connection| connection.channels().len()).sum();
    let objects = json!({
        "queues": queues, "exchanges": exchanges, "connections": connections.len(), "channels": channels,
        "consumers": Usage::of(&app).count(),
    });
    let listeners = app.options.listeners.iter().map(|(protocol, address)| {
        json!({"node": NODE, "protocol": protocol, "ip_address": address.ip().to_string(), "port": address.port()})
    });
    let listeners: Vec<Json> = listeners.collect();
    let answer = json!({
        "management_version": COMPATIBLE_VERSION,
        "rabbitmq_version": COMPATIBLE_VERSION,
        "product_name": PRODUCT,
        "product_version": env!("CARGO_PKG_VERSION"),
        "erlang_version": "",
        "erlang_full_version": "",
        "cluster_name": CLUSTER_NAME,
        "node": NODE,
        "rates_mode": "basic",
        "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
        "release_series_support_status": "supported",
        "disable_stats": false,
        "enable_queue_totals": true,
        "is_op_policy_updating_enabled": true,
        "exchange_types": exchange_types(),
        "message_stats": totals.message_stats(),
        "queue_totals": totals.depth(),
        "object_totals": objects,
        "statistics_db_event_queue": 0,
        "listeners": if caller.is_monitor() { json!(listeners) } else { json!([]) },
        "contexts": contexts(&app),
    });
    list::one(answer, &query)
}

async fn whoami(caller: Caller, query: Params) -> Reply {
    list::one(json!({"name": caller.name, "tags": caller.tags, "is_internal_user": true}), &query)
}

async fn version(_: Caller) -> &'static str {
    COMPATIBLE_VERSION
}

async fn cluster_name(_: Caller, query: Params) -> Reply {
    list::one(json!({"name": CLUSTER_NAME}), &query)
}

async fn rename(caller: Caller, body: Body) -> Reply {
    caller.administrator()?;
    match body.required("name")? {
        CLUSTER_NAME => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(Refusal::not_done(format!("there is no cluster to be named: it is always {CLUSTER_NAME:?}"))),
    }
}

/// Parts of the web pages that plugins bring: there are no pages here.
async fn extensions(_: Caller) -> JsonAnswer<Json> {
    JsonAnswer(json!([]))
}

/// Steps between versions of a cluster: there is none.
async fn feature_flags(caller: Caller) -> Result<JsonAnswer<Json>, Refusal> {
    caller.monitor()?;
    Ok(JsonAnswer(json!([])))
}

/// The leaders of all queues are on the one node that there is.
async fn nothing_to_do(caller: Caller) -> Reply {
    caller.administrator()?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn no_reset(caller: Caller) -> Reply {
    caller.administrator()?;
    Err(Refusal::not_done("counters count from the start of the process, and cannot be set back"))
}
