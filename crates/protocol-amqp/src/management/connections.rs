//! Connections and consumers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value as Json, json};

use super::App;
use super::caller::Caller;
use super::channels::{channel, channel_name};
use super::input::Params;
use super::list::{self, Reply};
use super::nodes::NODE;
use super::refusal::Refusal;
use crate::entities::arguments;
use crate::registry::{self, Connection};

/// What a client is told whose connection is closed without a reason.
const CLOSED: &str = "Closed via management plugin";

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/connections", get(all))
        .route("/connections/{connection}", get(show).delete(close))
        .route("/connections/{connection}/channels", get(channels_of))
        .route("/connections/username/{user}", get(of_user).delete(close_of_user))
        .route("/vhosts/{vhost}/connections", get(of_vhost))
        .route("/consumers", get(consumers))
        .route("/consumers/{vhost}", get(consumers_of_vhost))
}

/// The connections that the caller sees: its own, or all.
pub(super) fn seen(app: &App, caller: &Caller) -> Vec<Arc<Connection>> {
    let mut all = app.options.registry.connections();
    all.retain(|connection| caller.is_monitor() || connection.identity.user == caller.name);
    all
}

/// A connection, as the API shows it.
fn shown(connection: &Connection) -> Json {
    let identity = &connection.identity;
    let properties = arguments::plain_table(&identity.client_properties);
    let name = identity.name();
    let given = properties.get("connection_name").cloned();
    json!({
        "name": name,
        "user_provided_name": given,
        "user": identity.user,
        "user_who_performed_action": identity.user,
        "vhost": identity.vhost,
        "node": NODE,
        "type": "network",
        "protocol": "AMQP 0-9-1",
        "state": if connection.blocked.load(Ordering::Relaxed) { "blocked" } else { "running" },
        "channels": connection.channels().len(),
        "client_properties": properties,
        "peer_host": identity.peer.ip().to_string(),
        "peer_port": identity.peer.port(),
        "host": identity.local.ip().to_string(),
        "port": identity.local.port(),
        "ssl": identity.tls,
        "auth_mechanism": identity.mechanism,
        "channel_max": identity.channel_max,
        "frame_max": identity.frame_max,
        "timeout": identity.heartbeat_s,
        "connected_at": identity.connected_at.0,
        "recv_oct": registry::read(&connection.received_bytes),
        "send_oct": registry::read(&connection.sent_bytes),
    })
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(seen(&app, &caller).iter().map(|connection| shown(connection)).collect(), &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, query: Params) -> Reply {
    caller.view(&app, &vhost)?;
    let all = seen(&app, &caller);
    let those = all.iter().filter(|connection| connection.identity.vhost == vhost);
    list::reply(those.map(|connection| shown(connection)).collect(), &query)
}

async fn of_user(State(app): State<App>, caller: Caller, Path(user): Path<String>, query: Params) -> Reply {
    let all = seen(&app, &caller);
    let those = all.iter().filter(|connection| connection.identity.user == user);
    list::reply(those.map(|connection| shown(connection)).collect(), &query)
}

fn named(app: &App, caller: &Caller, name: &str) -> Result<Arc<Connection>, Refusal> {
    let mut all = seen(app, caller).into_iter();
    all.find(|connection| connection.identity.name() == name).ok_or_else(Refusal::no_such_object)
}

async fn show(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    list::one(shown(&*named(&app, &caller, &name)?), &query)
}

async fn channels_of(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    let connection = named(&app, &caller, &name)?;
    list::reply(connection.channels().iter().map(|one| channel(&connection, one)).collect(), &query)
}

fn reason(headers: &HeaderMap) -> String {
    let given = headers.get("x-reason").and_then(|reason| reason.to_str().ok());
    given.unwrap_or(CLOSED).to_owned()
}

async fn close(State(app): State<App>, caller: Caller, Path(name): Path<String>, headers: HeaderMap) -> Reply {
    let connection = named(&app, &caller, &name)?;
    // Who only looks may end nobody's connection but their own.
    if connection.identity.user != caller.name {
        caller.administrator()?;
    }
    connection.close(reason(&headers));
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn close_of_user(State(app): State<App>, caller: Caller, Path(user): Path<String>, headers: HeaderMap) -> Reply {
    if user != caller.name {
        caller.administrator()?;
    }
    for connection in seen(&app, &caller).iter().filter(|connection| connection.identity.user == user) {
        connection.close(reason(&headers));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Who consumes, by vhost and queue.
pub(super) struct Usage(HashMap<(String, String), Vec<Json>>);

impl Usage {
    pub(super) fn of(app: &App) -> Self {
        let mut found: HashMap<(String, String), Vec<Json>> = HashMap::new();
        for connection in app.options.registry.connections() {
            for channel in connection.channels() {
                for consumer in channel.consumers() {
                    let at = (connection.identity.vhost.clone(), consumer.queue.clone());
                    let name = channel_name(&connection, &channel);
                    let shown = json!({
                        "consumer_tag": consumer.tag,
                        "queue": {"name": consumer.queue, "vhost": connection.identity.vhost},
                        "channel_details": {
                            "name": name,
                            "number": channel.number,
                            "user": connection.identity.user,
                            "node": NODE,
                            "connection_name": connection.identity.name(),
                            "peer_host": connection.identity.peer.ip().to_string(),
                            "peer_port": connection.identity.peer.port(),
                        },
                        "ack_required": consumer.ack_required,
                        "exclusive": consumer.exclusive,
                        "prefetch_count": consumer.prefetch,
                        "active": consumer.active,
                        "activity_status": if consumer.active { "up" } else { "waiting" },
                        "arguments": arguments::plain_table(&consumer.arguments),
                    });
                    found.entry(at).or_default().push(shown);
                }
            }
        }
        Self(found)
    }

    /// Those of one queue.
    pub(super) fn consumers(&self, vhost: &str, queue: &str) -> Vec<Json> {
        self.0.get(&(vhost.to_owned(), queue.to_owned())).cloned().unwrap_or_default()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn in_vhosts(self, wanted: impl Fn(&str) -> bool) -> Vec<Json> {
        let mut all: Vec<_> = self.0.into_iter().filter(|((vhost, _), _)| wanted(vhost)).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.into_iter().flat_map(|(_, consumers)| consumers).collect()
    }
}

async fn consumers(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(Usage::of(&app).in_vhosts(|vhost| caller.sees(&app, vhost)), &query)
}

async fn consumers_of_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, query: Params) -> Reply {
    caller.view(&app, &vhost)?;
    list::reply(Usage::of(&app).in_vhosts(|one| one == vhost), &query)
}
