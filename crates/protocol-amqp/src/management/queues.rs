//! Queues.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use broker::Session;
use serde_json::{Value as Json, json};

use super::App;
use super::caller::Caller;
use super::connections::Usage;
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::nodes::NODE;
use super::refusal::Refusal;
use super::stats::Totals;
use crate::entities::queue::{self, Declare, Found};
use crate::entities::{arguments, vhost::vhost};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/queues", get(all))
        .route("/queues/detailed", get(all))
        .route("/queues/{vhost}", get(of_vhost))
        .route("/queues/{vhost}/{queue}", get(show).put(put).delete(remove))
        .route("/queues/{vhost}/{queue}/contents", delete(purge))
        .route("/queues/{vhost}/{queue}/actions", post(act))
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&app, &caller, None)?, &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, query: Params) -> Reply {
    list::reply(listed(&app, &caller, Some(&vhost))?, &query)
}

fn listed(app: &App, caller: &Caller, vhost: Option<&str>) -> Result<Vec<Json>, Refusal> {
    let usage = Usage::of(app);
    let mut all = Vec::new();
    for view in caller.views_of(app, vhost)? {
        all.extend(queue::all(&view)?.iter().map(|found| shown(&view, found, &usage)));
    }
    Ok(all)
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    query: Params,
) -> Reply {
    let view = caller.view(&app, &vhost)?;
    let found = queue::find(&view, &name).map_err(|_| Refusal::no_such_object())?;
    let usage = Usage::of(&app);
    let mut queue = shown(&view, &found, &usage);
    if let Json::Object(fields) = &mut queue {
        fields.insert("consumer_details".to_owned(), Json::Array(usage.consumers(&vhost, &name)));
        fields.insert("incoming".to_owned(), json!([]));
        fields.insert("deliveries".to_owned(), json!([]));
    }
    list::one(queue, &query)
}

/// A queue, as the API shows it.
fn shown(view: &Session, found: &Found, usage: &Usage) -> Json {
    let totals = Totals::of(found);
    let (name, config) = match found {
        Found::Queue(queue) => (queue.name.as_str(), Some(&queue.config)),
        Found::Stream(topic) => (queue::stream_of(topic).unwrap_or_default(), None),
    };
    let (kept, owned, is_damaged) = match found {
        Found::Queue(queue) => (&queue.config.arguments, queue.owned, queue.damage.is_some()),
        Found::Stream(topic) => (&topic.config.arguments, false, topic.damage.is_some()),
    };
    let (policy, operator_policy) = match found {
        Found::Queue(queue) => (&queue.policy, &queue.operator_policy),
        Found::Stream(topic) => (&topic.policy, &topic.operator_policy),
    };
    let vhost = vhost(view.namespace());
    let consumers = match found {
        Found::Queue(queue) => queue.consumers,
        Found::Stream(_) => usage.consumers(vhost, name).len() as u64,
    };
    let memory = match found {
        Found::Queue(queue) => memory(queue.depth.waiting_bytes + queue.depth.in_flight_bytes),
        Found::Stream(_) => 0,
    };
    let mut fields = totals.depth();
    let rest = json!({
        "name": name,
        "vhost": vhost,
        "type": found.queue_type().name(),
        "durable": config.is_none_or(|config| !config.volatile),
        "auto_delete": config.is_some_and(|config| config.auto_delete),
        "exclusive": owned,
        "arguments": arguments::plain(kept),
        "node": NODE,
        // RabbitMQ has no word for a queue that can be read but not written; `crashed` has people look.
        "state": if is_damaged { "crashed" } else { "running" },
        "policy": policy,
        "operator_policy": operator_policy,
        "consumers": consumers,
        "memory": memory,
        "message_bytes": totals.ready_bytes + totals.unacknowledged_bytes,
        "message_bytes_ready": totals.ready_bytes,
        "message_bytes_unacknowledged": totals.unacknowledged_bytes,
        "message_stats": totals.message_stats(),
    });
    if let Json::Object(rest) = rest {
        fields.extend(rest);
    }
    Json::Object(fields)
}

/// What a queue holds in memory, about: its messages, up to the window that is kept of them.
fn memory(bytes: u64) -> u64 {
    bytes.min(broker::defaults::WINDOW_BYTES)
}

async fn put(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>, body: Body) -> Reply {
    let session = caller.session(&app, &vhost)?;
    if name.is_empty() {
        return Err(Refusal::bad_request("the name of a queue is empty"));
    }
    let existed = queue::find(&session, &name).is_ok();
    let declare = Declare {
        name: &name,
        durable: body.bool("durable")?,
        exclusive: false,
        auto_delete: body.bool("auto_delete")?,
        arguments: body.table("arguments")?,
    };
    if body.bool("exclusive")? {
        return Err(Refusal::bad_request("an exclusive queue belongs to a connection, and a request is none"));
    }
    queue::declare(&session, declare).await?;
    Ok(made(existed).into_response())
}

/// The status for something that is there now.
pub(super) fn made(existed: bool) -> StatusCode {
    if existed { StatusCode::NO_CONTENT } else { StatusCode::CREATED }
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    query: Params,
) -> Reply {
    let session = caller.session(&app, &vhost)?;
    queue::find(&session, &name).map_err(|_| Refusal::no_such_object())?;
    queue::delete(&session, &name, query.is_true("if-unused"), query.is_true("if-empty")).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn purge(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>) -> Reply {
    let session = caller.session(&app, &vhost)?;
    queue::purge(&session, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn act(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>, body: Body) -> Reply {
    let session = caller.session(&app, &vhost)?;
    queue::find(&session, &name).map_err(|_| Refusal::no_such_object())?;
    match body.required("action")? {
        // There are no mirrors to be brought up to date: they are.
        "sync" | "cancel_sync" => Ok(StatusCode::NO_CONTENT.into_response()),
        other => Err(Refusal::bad_request(format!("unknown action {other}"))),
    }
}
