//! Channels.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::{Value as Json, json};

use super::App;
use super::caller::Caller;
use super::connections::seen;
use super::input::Params;
use super::list::{self, Reply};
use super::nodes::NODE;
use super::refusal::Refusal;
use crate::registry::{self, Channel, Connection};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/channels", get(all))
        .route("/channels/{channel}", get(show))
        .route("/vhosts/{vhost}/channels", get(of_vhost))
}

/// A channel's name, as RabbitMQ makes it.
pub(super) fn channel_name(connection: &Connection, channel: &Channel) -> String {
    format!("{} ({})", connection.identity.name(), channel.number)
}

/// A channel, as the API shows it.
pub(super) fn channel(connection: &Connection, channel: &Channel) -> Json {
    let identity = &connection.identity;
    json!({
        "name": channel_name(connection, channel),
        "number": channel.number,
        "user": identity.user,
        "user_who_performed_action": identity.user,
        "vhost": identity.vhost,
        "node": NODE,
        "state": "running",
        "connection_details": {
            "name": identity.name(),
            "peer_host": identity.peer.ip().to_string(),
            "peer_port": identity.peer.port(),
        },
        "prefetch_count": channel.prefetch.load(Ordering::Relaxed),
        "global_prefetch_count": channel.global_prefetch.load(Ordering::Relaxed),
        "confirm": channel.confirm.load(Ordering::Relaxed),
        "transactional": channel.transactional.load(Ordering::Relaxed),
        "consumer_count": channel.consumer_count(),
        "messages_unacknowledged": registry::read(&channel.unacknowledged),
        "messages_unconfirmed": registry::read(&channel.unconfirmed),
        "messages_uncommitted": registry::read(&channel.uncommitted),
        "acks_uncommitted": 0,
    })
}

fn listed(app: &App, caller: &Caller, wanted: impl Fn(&Connection) -> bool) -> Vec<Json> {
    let connections = seen(app, caller).into_iter().filter(|connection| wanted(connection));
    connections
        .flat_map(|connection| connection.channels().iter().map(|one| channel(&connection, one)).collect::<Vec<_>>())
        .collect()
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&app, &caller, |_| true), &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, query: Params) -> Reply {
    caller.view(&app, &vhost)?;
    list::reply(listed(&app, &caller, |connection| connection.identity.vhost == vhost), &query)
}

async fn show(State(app): State<App>, caller: Caller, Path(name): Path<String>, query: Params) -> Reply {
    for connection in seen(&app, &caller) {
        let mut channels = connection.channels().into_iter();
        if let Some(found) = channels.find(|one| channel_name(&connection, one) == name) {
            let mut shown = channel(&connection, &found);
            let consumers: Vec<Json> = found
                .consumers()
                .iter()
                .map(|one| json!({"consumer_tag": one.tag, "queue": {"name": one.queue, "vhost": connection.identity.vhost}}))
                .collect();
            if let Json::Object(fields) = &mut shown {
                fields.insert("consumer_details".to_owned(), Json::Array(consumers));
            }
            return list::one(shown, &query);
        }
    }
    Err(Refusal::no_such_object())
}
