//! Exchanges.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use broker::Session;
use broker::views::TopicInfo;
use serde_json::{Value as Json, json};

use super::App;
use super::caller::Caller;
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::queues::made;
use super::refusal::Refusal;
use crate::entities::exchange::{self, Declare};
use crate::entities::{arguments, vhost::vhost};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/exchanges", get(all))
        .route("/exchanges/{vhost}", get(of_vhost))
        .route("/exchanges/{vhost}/{exchange}", get(show).put(put).delete(remove))
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&app, &caller, None).await?, &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, query: Params) -> Reply {
    list::reply(listed(&app, &caller, Some(&vhost)).await?, &query)
}

async fn listed(app: &App, caller: &Caller, vhost: Option<&str>) -> Result<Vec<Json>, Refusal> {
    let mut all = Vec::new();
    for view in caller.views_of(app, vhost)? {
        // Those that every vhost has are seen before anybody used them.
        exchange::ensure_predeclared(&view).await?;
        all.push(default_exchange(&view));
        all.extend(exchange::all(&view)?.iter().map(|topic| shown(&view, topic)));
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
    exchange::ensure_predeclared(&view).await?;
    let mut exchange = match name.as_str() {
        "amq.default" => default_exchange(&view),
        name => shown(&view, &exchange::find(&view, name).map_err(|_| Refusal::no_such_object())?),
    };
    if let Json::Object(fields) = &mut exchange {
        fields.insert("incoming".to_owned(), json!([]));
        fields.insert("outgoing".to_owned(), json!([]));
    }
    list::one(exchange, &query)
}

/// The exchange that leads to every queue by its name.
fn default_exchange(view: &Session) -> Json {
    json!({
        "name": "", "vhost": vhost(view.namespace()), "type": "direct", "durable": true, "auto_delete": false,
        "internal": false, "arguments": {}, "user_who_performed_action": "rmq-internal",
    })
}

/// An exchange, as the API shows it.
fn shown(view: &Session, topic: &TopicInfo) -> Json {
    json!({
        "name": topic.name,
        "vhost": vhost(view.namespace()),
        "type": exchange::kind_of(&topic.config),
        "durable": !topic.config.volatile,
        "auto_delete": topic.config.auto_delete,
        "internal": topic.config.internal,
        "arguments": arguments::plain(&topic.config.arguments),
        "policy": topic.policy,
        "message_stats": {"publish_in": topic.published, "publish_out": topic.published.saturating_sub(topic.unrouted)},
    })
}

async fn put(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>, body: Body) -> Reply {
    let session = caller.session(&app, &vhost)?;
    exchange::ensure_predeclared(&session).await?;
    let existed = exchange::find(&session, &name).is_ok();
    let declare = Declare {
        name: &name,
        kind: body.text("type")?.unwrap_or("direct"),
        durable: body.bool("durable")?,
        auto_delete: body.bool("auto_delete")?,
        internal: body.bool("internal")?,
        arguments: body.table("arguments")?,
    };
    exchange::declare(&session, declare).await?;
    Ok(made(existed).into_response())
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    query: Params,
) -> Reply {
    let session = caller.session(&app, &vhost)?;
    exchange::find(&session, &name).map_err(|_| Refusal::no_such_object())?;
    exchange::delete(&session, &name, query.is_true("if-unused")).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
