//! RabbitMQ's management HTTP API: the part that client libraries, `rabbitmqadmin` and autoscalers use. docs/protocols/rabbitmq-management.md
//! lists the endpoints, and says what differs.
//!
//! What it declares and deletes goes the way that connections' declarations go, by [`entities`](crate::entities), and is refused in the same words.

mod bindings;
mod caller;
mod channels;
mod connections;
mod definitions;
mod exchanges;
mod health;
mod input;
mod limits;
mod list;
mod messages;
mod nodes;
mod overview;
mod permissions;
mod policies;
mod properties_key;
mod queues;
mod refusal;
mod stats;
mod topic_permissions;
mod users;
mod vhost_limits;
mod vhosts;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use broker::Broker;
use types::Clock;

use self::refusal::Refusal;
use crate::registry::Registry;

/// What the management API knows besides the broker.
#[derive(Clone)]
pub struct ManagementOptions {
    /// For how long the broker has been there, and for lifetimes that messages are given.
    pub clock: Arc<dyn Clock>,
    /// The listeners of the process: a protocol's name as RabbitMQ calls it (`amqp`, `amqp/ssl`, `http`, `https`), or our own for those that
    /// it does not have, and the address.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// The AMQP connections that are there.
    pub registry: Registry,
}

/// The state of the router.
#[derive(Clone)]
struct App {
    broker: Broker,
    options: Arc<ManagementOptions>,
    started: types::Timestamp,
}

/// The API's router, for whoever serves HTTP.
pub fn router(broker: Broker, options: ManagementOptions) -> Router {
    let started = options.clock.now().wall;
    let app = App { broker, options: Arc::new(options), started };
    let api = Router::new()
        .merge(overview::router())
        .merge(nodes::router())
        .merge(vhosts::router())
        .merge(vhost_limits::router())
        .merge(users::router())
        .merge(permissions::router())
        .merge(topic_permissions::router())
        .merge(exchanges::router())
        .merge(queues::router())
        .merge(messages::router())
        .merge(bindings::router())
        .merge(connections::router())
        .merge(channels::router())
        .merge(health::router())
        .merge(policies::router())
        .merge(definitions::router())
        .fallback(async || Refusal::no_such_object())
        .method_not_allowed_fallback(async || Refusal::method());
    Router::new().nest("/api", api).layer(DefaultBodyLimit::max(limits::MAX_BODY_BYTES)).with_state(app)
}
