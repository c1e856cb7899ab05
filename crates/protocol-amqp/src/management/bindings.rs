//! Bindings.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use broker::Session;
use broker::definitions::BindingConfig;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json, json};

use super::App;
use super::caller::Caller;
use super::input::{Body, Params};
use super::list::{self, Reply};
use super::properties_key::properties_key;
use super::refusal::Refusal;
use crate::entities::binding::{self, Binding, Destination};
use crate::entities::{arguments, exchange, queue, vhost::vhost};

/// Two ends of bindings, and with a properties key one binding.
type Ends = (String, String, String, String);

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/bindings", get(all))
        .route("/bindings/{vhost}", get(of_vhost))
        .route("/bindings/{vhost}/e/{source}/{kind}/{destination}", get(between).post(bind))
        .route("/bindings/{vhost}/e/{source}/{kind}/{destination}/{key}", get(show).delete(unbind))
        .route("/exchanges/{vhost}/{exchange}/bindings/source", get(from_exchange))
        .route("/exchanges/{vhost}/{exchange}/bindings/destination", get(to_exchange))
        .route("/queues/{vhost}/{queue}/bindings", get(to_queue))
}

/// A binding as AMQP sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    pub(super) source: String,
    pub(super) destination: String,
    /// To a queue; to an exchange otherwise.
    pub(super) to_queue: bool,
    pub(super) key: String,
    pub(super) arguments: Map<String, Json>,
}

impl Bound {
    fn of(config: &BindingConfig, streams: &BTreeMap<String, String>) -> Self {
        let (to_queue, destination) = queue::destination_of(&config.target, streams);
        Self {
            source: config.topic.clone(),
            destination: destination.to_owned(),
            to_queue,
            key: binding::key_of(config),
            arguments: arguments::plain(&config.arguments),
        }
    }

    /// That of the default exchange to a queue, which is nowhere written.
    fn implicit(queue: &str) -> Self {
        let (destination, key) = (queue.to_owned(), queue.to_owned());
        Self { source: String::new(), destination, to_queue: true, key, arguments: Map::new() }
    }

    pub(super) fn properties_key(&self) -> String {
        properties_key(&self.key, &self.arguments)
    }

    fn shown(&self, vhost: &str) -> Json {
        json!({
            "source": self.source,
            "vhost": vhost,
            "destination": self.destination,
            "destination_type": if self.to_queue { "queue" } else { "exchange" },
            "routing_key": self.key,
            "arguments": self.arguments,
            "properties_key": self.properties_key(),
        })
    }
}

/// All bindings of a vhost; those of the default exchange too if asked for.
pub(super) fn bound(view: &Session, implicit: bool) -> Result<Vec<Bound>, Refusal> {
    let mut all = Vec::new();
    if implicit {
        all.extend(queue::all(view)?.iter().map(|found| Bound::implicit(found.name())));
    }
    let streams = queue::stream_topics(view)?;
    let made = view.bindings(None, None)?;
    let mut made: Vec<Bound> = made.iter().map(|binding| Bound::of(&binding.config, &streams)).collect();
    made.sort_by(|a, b| (&a.source, &a.destination, &a.key).cmp(&(&b.source, &b.destination, &b.key)));
    all.extend(made);
    Ok(all)
}

fn listed(
    app: &App,
    caller: &Caller,
    vhost_name: Option<&str>,
    wanted: impl Fn(&Bound) -> bool,
) -> Result<Vec<Json>, Refusal> {
    let mut all = Vec::new();
    for view in caller.views_of(app, vhost_name)? {
        let found = bound(&view, true)?;
        all.extend(found.iter().filter(|one| wanted(one)).map(|one| one.shown(vhost(view.namespace()))));
    }
    Ok(all)
}

async fn all(State(app): State<App>, caller: Caller, query: Params) -> Reply {
    list::reply(listed(&app, &caller, None, |_| true)?, &query)
}

async fn of_vhost(State(app): State<App>, caller: Caller, Path(vhost): Path<String>, query: Params) -> Reply {
    list::reply(listed(&app, &caller, Some(&vhost), |_| true)?, &query)
}

async fn from_exchange(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    query: Params,
) -> Reply {
    let name = there(&app, &caller, &vhost, &name)?;
    list::reply(listed(&app, &caller, Some(&vhost), |one| one.source == name)?, &query)
}

async fn to_exchange(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    query: Params,
) -> Reply {
    let name = there(&app, &caller, &vhost, &name)?;
    list::reply(listed(&app, &caller, Some(&vhost), |one| !one.to_queue && one.destination == name)?, &query)
}

/// The name of an exchange that is there.
fn there(app: &App, caller: &Caller, vhost: &str, name: &str) -> Result<String, Refusal> {
    let name = source_name(name);
    let view = caller.view(app, vhost)?;
    if !name.is_empty() {
        exchange::find(&view, name).map_err(|_| Refusal::no_such_object())?;
    }
    Ok(name.to_owned())
}

async fn to_queue(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    query: Params,
) -> Reply {
    queue::find(&caller.view(&app, &vhost)?, &name).map_err(|_| Refusal::no_such_object())?;
    list::reply(listed(&app, &caller, Some(&vhost), |one| one.to_queue && one.destination == name)?, &query)
}

/// The default exchange has no name that fits a path; RabbitMQ's API calls it so.
fn source_name(name: &str) -> &str {
    if name == "amq.default" { "" } else { name }
}

fn is_queue(kind: &str) -> Result<bool, Refusal> {
    match kind {
        "q" => Ok(true),
        "e" => Ok(false),
        _ => Err(Refusal::no_such_object()),
    }
}

async fn between(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, source, kind, destination)): Path<Ends>,
    query: Params,
) -> Reply {
    let (source, to_queue) = (source_name(&source), is_queue(&kind)?);
    let wanted = |one: &Bound| one.source == source && one.to_queue == to_queue && one.destination == destination;
    list::reply(listed(&app, &caller, Some(&vhost), wanted)?, &query)
}

async fn bind(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, source, kind, destination)): Path<Ends>,
    body: Body,
) -> Reply {
    let session = caller.session(&app, &vhost)?;
    exchange::ensure_predeclared(&session).await?;
    let key = body.text("routing_key")?.unwrap_or_default();
    let arguments = body.table("arguments")?;
    let plain = arguments::plain(&arguments::keep(&arguments)?);
    let to = if is_queue(&kind)? { Destination::Queue(&destination) } else { Destination::Exchange(&destination) };
    binding::bind(&session, Binding { destination: to, source: source_name(&source), key, arguments }).await?;
    let part = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    // Relative to the path that was posted to, as RabbitMQ's is.
    let location = format!("{}/{}", part(&destination), part(&properties_key(key, &plain)));
    let headers: [(HeaderName, String); 1] = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers).into_response())
}

fn found(view: &Session, source: &str, kind: &str, destination: &str, key: &str) -> Result<Bound, Refusal> {
    let (source, to_queue) = (source_name(source), is_queue(kind)?);
    let mut all = bound(view, true)?.into_iter();
    let is = |one: &Bound| {
        one.source == source && one.to_queue == to_queue && one.destination == destination && same_key(one, key)
    };
    all.find(is).ok_or_else(Refusal::no_such_object)
}

/// Whether this is the binding's properties key. The path was unescaped once; clients that escape the key as it stands are met, and those that
/// take it to be the routing key.
fn same_key(one: &Bound, key: &str) -> bool {
    one.properties_key() == key || (one.arguments.is_empty() && !one.key.is_empty() && one.key == key)
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, source, kind, destination, key)): Path<(String, String, String, String, String)>,
    query: Params,
) -> Reply {
    let view = caller.view(&app, &vhost)?;
    list::one(found(&view, &source, &kind, &destination, &key)?.shown(&vhost), &query)
}

async fn unbind(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, source, kind, destination, key)): Path<(String, String, String, String, String)>,
) -> Reply {
    let view = caller.view(&app, &vhost)?;
    let wanted = found(&view, &source, &kind, &destination, &key)?;
    let session = caller.session(&app, &vhost)?;
    // Its own arguments rather than those shown: these are not all that is kept.
    let streams = queue::stream_topics(&view)?;
    let kept = view.bindings(Some(&wanted.source), None)?;
    let kept = kept.into_iter().find(|one| Bound::of(&one.config, &streams) == wanted);
    let arguments = kept.map(|one| arguments::shown(&one.config.arguments)).unwrap_or_default();
    let name = &wanted.destination;
    let destination = if wanted.to_queue { Destination::Queue(name) } else { Destination::Exchange(name) };
    binding::unbind(&session, Binding { destination, source: &wanted.source, key: &wanted.key, arguments }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
