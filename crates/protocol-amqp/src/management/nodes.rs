//! The node. There is one, which always runs: a request to one that does not is not answered.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::{Value as Json, json};

use super::App;
use super::caller::Caller;
use super::input::Params;
use super::list::{self, Reply};
use super::refusal::Refusal;

/// The node's name, in the form that tools expect.
pub(super) const NODE: &str = "posthouse@localhost";

pub(super) fn router() -> Router<App> {
    Router::new().route("/nodes", get(all)).route("/nodes/{node}", get(show)).route("/nodes/{node}/memory", get(memory))
}

fn shown(app: &App) -> Json {
    let (engine, metrics) = (app.broker.engine_state(), app.broker.metrics());
    let uptime = app.options.clock.now().wall.since(app.started).as_millis();
    json!({
        "name": NODE,
        "type": "disc",
        "running": true,
        "being_drained": false,
        "uptime": u64::try_from(uptime).unwrap_or(u64::MAX),
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "rates_mode": "basic",
        "os_pid": std::process::id().to_string(),
        "mem_used": metrics.memory_bytes + metrics.windows_bytes,
        "mem_alarm": metrics.memory_high,
        "disk_free": engine.free_bytes,
        "disk_free_alarm": engine.disk_full,
        "sockets_used": app.options.registry.connections().len(),
        "partitions": [],
        "cluster_links": [],
        "applications": [{"name": "posthouse", "description": "Posthouse", "version": env!("CARGO_PKG_VERSION")}],
        "exchange_types": exchange_types(),
        "auth_mechanisms": [
            {"name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": true},
            {"name": "AMQPLAIN", "description": "QPid AMQPLAIN mechanism", "enabled": true},
            {"name": "EXTERNAL", "description": "TLS client certificate", "enabled": true},
        ],
        "contexts": contexts(app),
        "enabled_plugins": [],
    })
}

/// The types that an exchange may be of.
pub(super) fn exchange_types() -> Json {
    let types = ["direct", "fanout", "topic", "headers", "x-consistent-hash", "x-delayed-message"];
    types.iter().map(|name| json!({"name": name, "description": "", "enabled": true})).collect()
}

/// Where this API is served.
pub(super) fn contexts(app: &App) -> Json {
    let here = app.options.listeners.iter().filter(|(protocol, _)| matches!(*protocol, "http" | "https"));
    here.map(|(protocol, address)| {
        json!({
            "node": NODE, "description": "RabbitMQ Management", "path": "/",
            "ip": address.ip().to_string(), "port": address.port().to_string(), "ssl": *protocol == "https",
        })
    })
    .collect()
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    caller.monitor()?;
    list::reply(vec![shown(&app)], &query)
}

fn named(node: &str) -> Result<(), Refusal> {
    if node == NODE { Ok(()) } else { Err(Refusal::no_such_object()) }
}

async fn show(State(app): State<App>, caller: Caller, Path(node): Path<String>, query: Params) -> Reply {
    caller.monitor()?;
    named(&node)?;
    list::one(shown(&app), &query)
}

async fn memory(State(app): State<App>, caller: Caller, Path(node): Path<String>, query: Params) -> Reply {
    caller.monitor()?;
    named(&node)?;
    let metrics = app.broker.metrics();
    let total = metrics.memory_bytes + metrics.windows_bytes;
    let memory = json!({
        "msgs_in_flight": metrics.memory_bytes,
        "queue_procs": metrics.windows_bytes,
        "total": {"allocated": total, "rss": total, "erlang": total},
        "strategy": "allocated",
    });
    list::one(json!({"memory": memory}), &query)
}
