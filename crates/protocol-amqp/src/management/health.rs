//! Health checks: 200 if all is well, 503 with the reason if not.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json as JsonAnswer, Router};
use serde_json::{Value as Json, json};

use super::App;
use super::caller::Caller;
use super::list::Reply;
use super::nodes::NODE;
use super::refusal::Refusal;

/// Other names of protocols, and what the listener is called.
const PROTOCOLS: &[(&str, &str)] = &[
    ("amqp091", "amqp"),
    ("amqp0.9.1", "amqp"),
    ("amqp0-9-1", "amqp"),
    ("amqp0_9_1", "amqp"),
    ("amqps", "amqp/ssl"),
    ("http1", "http"),
    ("http1.1", "http"),
    ("http_api", "http"),
    ("management", "http"),
    ("management_ui", "http"),
    ("ui", "http"),
];

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/aliveness-test/{vhost}", get(aliveness))
        .route("/healthchecks/node", get(alarms))
        .route("/healthchecks/node/{node}", get(alarms_of))
        .route("/health/checks/alarms", get(alarms))
        .route("/health/checks/local-alarms", get(alarms))
        .route("/health/checks/virtual-hosts", get(storage))
        .route("/health/checks/is-in-service", get(storage))
        .route("/health/checks/ready-to-serve-clients", get(storage))
        .route("/health/checks/metadata-store/initialized", get(storage))
        .route("/health/checks/metadata-store/initialized/with-data", get(storage))
        .route("/health/checks/port-listener/{port}", get(port_listener))
        .route("/health/checks/protocol-listener/{protocols}", get(protocol_listener))
        .route("/health/checks/node-is-quorum-critical", get(single_node))
        .route("/health/checks/node-is-mirror-sync-critical", get(single_node))
        .route("/health/checks/below-node-connection-limit", get(connection_limit))
        .route("/health/checks/reached-target-cluster-size", get(single_node))
}

fn well(body: Json) -> Reply {
    Ok(JsonAnswer(body).into_response())
}

fn failed(body: Json) -> Reply {
    Ok((StatusCode::SERVICE_UNAVAILABLE, JsonAnswer(body)).into_response())
}

fn ok() -> Reply {
    well(json!({"status": "ok"}))
}

/// Whether the vhost can be used. RabbitMQ's newest does no more either: publishing and consuming is for the other checks.
async fn aliveness(State(app): State<App>, caller: Caller, Path(vhost): Path<String>) -> Reply {
    caller.session(&app, &vhost)?;
    ok()
}

async fn alarms(State(app): State<App>, _: Caller) -> Reply {
    check_alarms(&app)
}

async fn alarms_of(State(app): State<App>, _: Caller, Path(node): Path<String>) -> Reply {
    if node == NODE { check_alarms(&app) } else { Err(Refusal::no_such_object()) }
}

fn check_alarms(app: &App) -> Reply {
    let (engine, metrics) = (app.broker.engine_state(), app.broker.metrics());
    let in_effect = [(metrics.memory_high, "memory"), (engine.disk_full, "disk")];
    let alarms =
        in_effect.iter().filter(|(is, _)| *is).map(|(_, resource)| json!({"node": NODE, "resource": resource}));
    let alarms: Vec<Json> = alarms.collect();
    if alarms.is_empty() {
        return ok();
    }
    failed(json!({"status": "failed", "reason": "There are alarms in effect in the cluster", "alarms": alarms}))
}

/// Whether what is stored can be read and written: for all vhosts alike.
async fn storage(State(app): State<App>, _: Caller) -> Reply {
    match app.broker.not_ready() {
        None => ok(),
        Some(reason) => failed(json!({"status": "failed", "reason": reason})),
    }
}

async fn port_listener(State(app): State<App>, _: Caller, Path(port): Path<String>) -> Reply {
    let port: u16 = port.parse().map_err(|_| Refusal::bad_request("Invalid port"))?;
    let ports: Vec<u16> = app.options.listeners.iter().map(|(_, address)| address.port()).collect();
    if ports.contains(&port) {
        return well(json!({"status": "ok", "port": port}));
    }
    failed(json!({"status": "failed", "reason": "No active listener", "missing": port, "ports": ports}))
}

async fn protocol_listener(State(app): State<App>, _: Caller, Path(protocols): Path<String>) -> Reply {
    let active: Vec<&str> = app.options.listeners.iter().map(|(protocol, _)| *protocol).collect();
    let wanted = protocols.split(',').map(str::to_lowercase);
    let wanted = wanted
        .map(|name| PROTOCOLS.iter().find(|(other, _)| *other == name).map_or(name, |(_, known)| (*known).to_owned()));
    let missing: Vec<String> = wanted.filter(|name| !active.contains(&name.as_str())).collect();
    if missing.is_empty() {
        return well(json!({"status": "ok", "protocols": active}));
    }
    failed(json!({"status": "failed", "reason": "No active listener", "missing": missing, "protocols": active}))
}

/// No queue has copies that would lose their majority, and one node is as many as there are to be.
async fn single_node(_: Caller) -> Reply {
    ok()
}

/// There is no bound on connections that is known here: beyond the listener's own, none are let in at all.
async fn connection_limit(State(app): State<App>, _: Caller) -> Reply {
    well(json!({"status": "ok", "connections": app.options.registry.connections().len(), "limit": "infinity"}))
}
