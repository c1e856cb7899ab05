//! Definitions: all of them as one JSON object, out and in. The object is RabbitMQ's, so that a file that it has written can be read here, and
//! the other way round.

mod import;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use broker::Session;
use serde_json::{Map, Value as Json, json};

use super::App;
use super::bindings::bound;
use super::caller::Caller;
use super::input::{Body, Params};
use super::list::Reply;
use super::overview::{CLUSTER_NAME, COMPATIBLE_VERSION};
use super::refusal::Refusal;
use super::{permissions, policies, topic_permissions, users, vhost_limits};
use crate::entities::names::is_reserved;
use crate::entities::queue::Found;
use crate::entities::{arguments, exchange, queue, vhost::vhost};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/definitions", get(export).post(import))
        .route("/definitions/{vhost}", get(export_vhost).post(import_vhost))
        .route("/all-configuration", get(export).post(import))
}

async fn export(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    let users = users::users(&app, &caller)?;
    let mut parts = head("cluster");
    parts.insert("original_cluster_name".to_owned(), json!(CLUSTER_NAME));
    let secrets = app.broker.user_definitions(&caller.principal)?;
    let exported = secrets.iter().map(|(name, user)| users::exported(name, user));
    parts.insert("users".to_owned(), exported.collect());
    let spaces = app.broker.all_namespaces();
    let vhosts = spaces.iter().map(|space| {
        let description = space.config.description.clone().unwrap_or_default();
        let metadata = json!({"description": description, "tags": []});
        json!({"name": vhost(&space.name), "description": description, "tags": [], "metadata": metadata})
    });
    parts.insert("vhosts".to_owned(), vhosts.collect());
    parts.insert("permissions".to_owned(), json!(permissions::listed(&app, &users)));
    parts.insert("topic_permissions".to_owned(), json!(topic_permissions::listed(&users)));
    parts.insert("global_parameters".to_owned(), json!([]));
    let mut parts_of_vhosts = Map::new();
    for view in caller.views(&app)? {
        for (name, items) in of_vhost(&app, &view, true)? {
            let all = parts_of_vhosts.entry(name).or_insert_with(|| json!([]));
            if let (Json::Array(all), Json::Array(items)) = (all, items) {
                all.extend(items);
            }
        }
    }
    parts.extend(parts_of_vhosts);
    answer(parts, &query)
}

async fn export_vhost(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    caller.administrator()?;
    let view = caller.view(&app, &name)?;
    let mut parts = head("single_virtual_host");
    parts.insert("original_vhost_name".to_owned(), json!(name));
    parts.insert("metadata".to_owned(), json!({}));
    parts.extend(of_vhost(&app, &view, false)?);
    answer(parts, &query)
}

fn head(format: &str) -> Map<String, Json> {
    let fields = [
        ("rabbit_version", COMPATIBLE_VERSION),
        ("rabbitmq_version", COMPATIBLE_VERSION),
        ("product_name", "Posthouse"),
        ("product_version", env!("CARGO_PKG_VERSION")),
        ("rabbitmq_definition_format", format),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

fn answer(parts: Map<String, Json>, query: &Params) -> Reply {
    let mut response = axum::Json(parts).into_response();
    let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if let Some(name) = query.get("download").filter(|name| is_plain(name)) {
        let value = HeaderValue::from_str(&format!("attachment; filename={name}"));
        let value = value.map_err(|_| Refusal::bad_request("download: a file's name is expected"))?;
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// What a vhost holds. What goes with a connection or the process is left out, as it is by RabbitMQ.
fn of_vhost(app: &App, view: &Session, with_vhost: bool) -> Result<Map<String, Json>, Refusal> {
    let name = vhost(view.namespace());
    let named = |mut item: Json| {
        if let Json::Object(fields) = &mut item
            && with_vhost
        {
            fields.insert("vhost".to_owned(), json!(name));
        }
        item
    };
    let mut kept_queues = Vec::new();
    let queues = queue::all(view)?.into_iter().filter_map(|found| {
        let (durable, auto_delete, kept) = match &found {
            Found::Queue(queue) => (!queue.config.volatile, queue.config.auto_delete, &queue.config.arguments),
            Found::Stream(topic) => (true, false, &topic.config.arguments),
        };
        kept_queues.push((found.name().to_owned(), durable));
        durable.then(|| {
            let kind = found.queue_type().name();
            let arguments = arguments::plain(kept);
            named(json!({
                "name": found.name(), "durable": true, "auto_delete": auto_delete, "type": kind, "arguments": arguments,
            }))
        })
    });
    let queues: Vec<Json> = queues.collect();
    let mut transient = Vec::new();
    let exchanges = exchange::all(view)?.into_iter().filter_map(|topic| {
        if topic.config.volatile {
            transient.push(topic.name.clone());
            return None;
        }
        (!is_reserved(&topic.name)).then(|| {
            named(json!({
                "name": topic.name, "type": exchange::kind_of(&topic.config), "durable": true,
                "auto_delete": topic.config.auto_delete, "internal": topic.config.internal,
                "arguments": arguments::plain(&topic.config.arguments),
            }))
        })
    });
    let exchanges: Vec<Json> = exchanges.collect();
    let outlives = |one: &super::bindings::Bound| {
        !transient.contains(&one.source)
            && (one.to_queue || !transient.contains(&one.destination))
            && (!one.to_queue || kept_queues.iter().any(|(name, durable)| *durable && *name == one.destination))
    };
    let bindings = bound(view, false)?;
    let bindings = bindings.iter().filter(|one| outlives(one)).map(|one| {
        named(json!({
            "source": one.source, "destination": one.destination,
            "destination_type": if one.to_queue { "queue" } else { "exchange" },
            "routing_key": one.key, "arguments": one.arguments,
        }))
    });
    let mut parts = Map::new();
    parts.insert("bindings".to_owned(), bindings.collect());
    parts.insert("queues".to_owned(), Json::Array(queues));
    parts.insert("exchanges".to_owned(), Json::Array(exchanges));
    let policies = policies::exported(view)?;
    parts.insert("policies".to_owned(), policies.into_iter().map(named).collect());
    let mut parameters = policies::exported_operator(view)?;
    parameters.extend(vhost_limits::exported(app, view));
    parts.insert("parameters".to_owned(), parameters.into_iter().map(named).collect());
    Ok(parts)
}

async fn import(State(app): State<App>, caller: Caller, body: Body) -> Reply {
    import::run(&app, &caller.to_the_end(&app)?, None, body).await
}

async fn import_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, body: Body) -> Reply {
    super::caller::exists(&app, &vhost)?;
    import::run(&app, &caller.to_the_end(&app)?, Some(&vhost), body).await
}
