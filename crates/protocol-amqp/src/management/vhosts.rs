//! Vhosts.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use broker::views::NamespaceInfo;
use serde_json::{Value as Json, json};

use super::App;
use super::caller::{Caller, exists};
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::nodes::NODE;
use super::queues::made;
use super::refusal::Refusal;
use super::stats::Totals;
use crate::entities::queue;
use crate::entities::vhost::{namespace, vhost};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/vhosts", get(all))
        .route("/vhosts/{vhost}", get(show).put(put).delete(remove))
        .route("/vhosts/{vhost}/start/{node}", post(start))
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    let mut all = caller.vhosts(&app)?;
    all.sort_by(|a, b| vhost(&a.name).cmp(vhost(&b.name)));
    list::reply(all.iter().map(|info| shown(&app, info)).collect::<Result<_, _>>()?, &query)
}

fn shown(app: &App, info: &NamespaceInfo) -> Result<Json, Refusal> {
    let mut totals = Totals::default();
    if let Some(view) = app.broker.internal_session(&info.name) {
        queue::all(&view)?.iter().for_each(|found| totals.add(&Totals::of(found)));
    }
    let description = info.config.description.clone().unwrap_or_default();
    let mut fields = totals.depth();
    let rest = json!({
        "name": vhost(&info.name),
        "description": description,
        "tags": [],
        "metadata": {"description": description, "tags": []},
        "default_queue_type": "classic",
        "tracing": false,
        "protected_from_deletion": vhost(&info.name) == "/",
        "cluster_state": {NODE: "running"},
        "message_stats": totals.message_stats(),
    });
    if let Json::Object(rest) = rest {
        fields.extend(rest);
    }
    Ok(Json::Object(fields))
}

async fn show(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    caller.view(&app, &name)?;
    let all = app.broker.all_namespaces();
    let info = all.iter().find(|info| info.name == namespace(&name)).ok_or_else(Refusal::no_such_object)?;
    list::one(shown(&app, info)?, &query)
}

/// Makes or changes a vhost. Gives whether it was there.
pub(super) async fn make(app: &App, caller: &Caller, name: &str, body: &Body) -> Result<bool, Refusal> {
    if vhost(name) != name {
        return Err(Refusal::bad_request("the vhost 'default' is '/' here; use that, or another name"));
    }
    if body.bool("tracing")? {
        return Err(Refusal::not_done("tracing: the firehose is not there; leave it out"));
    }
    match body.text("default_queue_type")? {
        None | Some("" | "classic" | "undefined") => {}
        Some(other) => {
            let why = format!("default_queue_type {other:?}: a queue without x-queue-type is a classic one here");
            return Err(Refusal::not_done(why));
        }
    }
    let all = app.broker.all_namespaces();
    let before = all.iter().find(|info| info.name == namespace(name)).map(|info| info.config.clone());
    let existed = before.is_some();
    let mut config = before.unwrap_or_default();
    if let Some(description) = body.text("description")? {
        config.description = Some(description.to_owned()).filter(|text| !text.is_empty());
    }
    app.broker.put_namespace(&caller.principal, namespace(name), config).await?;
    Ok(existed)
}

async fn put(State(app): State<App>, caller: Caller, Path(name): Path<String>, body: Body) -> Reply {
    caller.administrator()?;
    if body.get("tags").is_some_and(has_tags) {
        return Err(Refusal::not_done("tags: a vhost has none here; leave them out"));
    }
    Ok(made(make(&app, &caller, &name, &body).await?).into_response())
}

/// Whether there are tags in what may hold some.
pub(super) fn has_tags(tags: &Json) -> bool {
    match tags {
        Json::Array(tags) => !tags.is_empty(),
        Json::String(tags) => !tags.is_empty(),
        _ => false,
    }
}

async fn remove(State(app): State<App>, caller: Caller, Path(name): Path<String>) -> Reply {
    caller.administrator()?;
    exists(&app, &name)?;
    app.broker.delete_namespace(&caller.principal, namespace(&name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Starts a vhost that is down, which none ever is.
async fn start(State(app): State<App>, caller: Caller, Path((name, node)): Path<(String, String)>) -> Reply {
    caller.administrator()?;
    exists(&app, &name)?;
    match node.as_str() {
        NODE => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(Refusal::no_such_object()),
    }
}
