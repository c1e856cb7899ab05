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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use broker::{Broker, BrokerOptions};
    use log::MemoryLog;
    use net::PeerInfo;
    use testkit::ManualClock;
    use tower::ServiceExt;
    use types::Headers;

    use super::*;
    use crate::management::{ManagementOptions, router};
    use crate::registry::tests::identity;
    use crate::registry::{Consumer, Registry};

    async fn ask(router: &Router, method: &str, path: &str) -> (u16, Json) {
        let request = Request::builder().method(method).uri(format!("/api{path}"));
        // guest:guest
        let request = request.header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=").header("x-reason", "enough");
        let mut request = request.body(Body::empty()).unwrap();
        let addr = ([127, 0, 0, 1], 1).into();
        request.extensions_mut().insert(PeerInfo { addr, tls: false, client_cn: None });
        let answer = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn connections_channels_and_consumers_are_listed_and_a_connection_is_closed_with_a_reason() {
        let clock = Arc::new(ManualClock::new());
        let broker = Broker::open(Arc::new(MemoryLog::new()), clock.clone(), BrokerOptions::default()).unwrap();
        let registry = Registry::default();
        let options = ManagementOptions { clock, listeners: Vec::new(), registry: registry.clone() };
        let router = router(broker, options);
        let entry = registry.enter(identity(1));
        let channel = entry.open_channel(1);
        channel.put_consumer(Consumer {
            tag: "c".into(),
            queue: "q".into(),
            ack_required: true,
            exclusive: false,
            prefetch: 10,
            arguments: Headers::new(),
            active: true,
        });
        let name = "127.0.0.1%3A40000%20-%3E%20127.0.0.1%3A5672";
        let (_, all) = ask(&router, "GET", "/connections").await;
        assert_eq!((&all[0]["name"], &all[0]["channels"]), (&json!("127.0.0.1:40000 -> 127.0.0.1:5672"), &json!(1)));
        let (_, channels) = ask(&router, "GET", &format!("/connections/{name}/channels")).await;
        assert_eq!((&channels[0]["number"], &channels[0]["consumer_count"]), (&json!(1), &json!(1)));
        let (_, consumers) = ask(&router, "GET", "/consumers/%2F").await;
        assert_eq!((&consumers[0]["consumer_tag"], &consumers[0]["queue"]["name"]), (&json!("c"), &json!("q")));
        assert_eq!(ask(&router, "DELETE", &format!("/connections/{name}")).await.0, 204);
        assert_eq!(entry.closing().await, "enough");
        drop((channel, entry));
        assert_eq!(ask(&router, "GET", &format!("/connections/{name}")).await.0, 404);
    }
}
