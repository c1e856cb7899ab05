//! Publishing and getting single messages: for a look or a try, not for work.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json as JsonAnswer, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::queue::Settle;
use broker::views::Delivered;
use broker::{PublishError, PublishOptions, PublishTo, Receive, Session};
use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use super::App;
use super::caller::Caller;
use super::input::Body;
use super::limits::{MAX_GET, MAX_GET_BYTES};
use super::list::Reply;
use super::refusal::Refusal;
use crate::codec::method::Publish;
use crate::codec::properties::{Properties, flag};
use crate::entities::arguments::plain_table;
use crate::entities::exchange::{self, RouteTo};
use crate::entities::names::internal;
use crate::entities::queue::{self, Found, QueueType};
use crate::message::{incoming, outgoing};

/// How long messages that were got may be held before they go back by themselves, should the request end halfway.
const LEASE: Duration = Duration::from_secs(30);

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/exchanges/{vhost}/{exchange}/publish", post(publish))
        .route("/queues/{vhost}/{queue}/get", post(get))
}

async fn publish(
    State(app): State<App>,
    caller: Caller,
    Path((vhost, name)): Path<(String, String)>,
    body: Body,
) -> Reply {
    let session = caller.session(&app, &vhost)?;
    exchange::ensure_predeclared(&session).await?;
    let name = if name == "amq.default" { "" } else { &name };
    let key = body.required("routing_key")?;
    let payload = body.required("payload").map_err(|_| Refusal::bad_request("payload_not_string"))?;
    let payload = match body.required("payload_encoding")? {
        "string" => Bytes::copy_from_slice(payload.as_bytes()),
        "base64" => STANDARD.decode(payload).map(Bytes::from).map_err(|_| Refusal::bad_request("not_base64"))?,
        other => return Err(Refusal::bad_request(format!("unsupported_encoding: {other}"))),
    };
    let properties = match body.get("properties") {
        None => Properties::default(),
        Some(Json::Object(properties)) => read_properties(Body(properties.clone()))?,
        Some(Json::Array(none)) if none.is_empty() => Properties::default(),
        Some(_) => return Err(Refusal::bad_request("properties: an object is expected")),
    };
    if let Some(claimed) = &properties.user_id
        && claimed != caller.name.as_bytes()
    {
        let claimed = String::from_utf8_lossy(claimed);
        let name = &caller.name;
        let reason = format!("user_id property set to '{claimed}' but authenticated user was '{name}'");
        return Err(Refusal::bad_request(reason));
    }
    let routed = send(&app, &session, name, key, properties, payload).await?;
    Ok(JsonAnswer(json!({"routed": routed})).into_response())
}

/// Publishes one message; gives whether a queue has it.
async fn send(
    app: &App,
    session: &Session,
    exchange: &str,
    key: &str,
    properties: Properties,
    payload: Bytes,
) -> Result<bool, Refusal> {
    let route = exchange::route(session, exchange)?;
    let publish = Publish {
        exchange: Bytes::copy_from_slice(exchange.as_bytes()),
        routing_key: Bytes::copy_from_slice(key.as_bytes()),
        mandatory: true,
        immediate: false,
    };
    let message = incoming(&publish, properties, payload, app.options.clock.now().wall, route.delayed)?;
    let (sender, to): (Session, Arc<PublishTo>) = match route.to {
        RouteTo::Exchange(to) => (session.clone(), to),
        // Whoever may write to the default exchange may write to all queues: the broker does it in their place.
        RouteTo::Default => match queue::target(session, key)? {
            Some(to) => (internal(session)?, Arc::new(to)),
            None => return Ok(false),
        },
    };
    match sender.publish(&to, vec![message], PublishOptions::default()).await {
        Ok(published) => Ok(published.iter().any(broker::views::Published::routed)),
        Err(PublishError::QueueFull { .. }) => {
            Err(Refusal::bad_request("rejected Unable to publish message. Check queue limits."))
        }
        Err(error) => Err(error.into()),
    }
}

/// A message's properties, as the API's JSON.
fn read_properties(given: Body) -> Result<Properties, Refusal> {
    let text = |name: &str| -> Result<Option<Bytes>, Refusal> {
        Ok(given.text(name)?.map(|text| Bytes::copy_from_slice(text.as_bytes())))
    };
    let byte = |name: &str| -> Result<Option<u8>, Refusal> {
        let number = given.int(name)?;
        number
            .map(|number| u8::try_from(number).map_err(|_| Refusal::bad_request(format!("not_int: {name}"))))
            .transpose()
    };
    let timestamp = given.int("timestamp")?.map(|seconds| {
        u64::try_from(seconds).map_err(|_| Refusal::bad_request("timestamp: seconds since 1970 are expected"))
    });
    let mut properties = Properties {
        flags: 0,
        content_type: text("content_type")?,
        content_encoding: text("content_encoding")?,
        headers: given.table("headers")?,
        delivery_mode: byte("delivery_mode")?,
        priority: byte("priority")?,
        correlation_id: text("correlation_id")?,
        reply_to: text("reply_to")?,
        expiration: text("expiration")?,
        message_id: text("message_id")?,
        timestamp: timestamp.transpose()?,
        kind: text("type")?,
        user_id: text("user_id")?,
        app_id: text("app_id")?,
        cluster_id: text("cluster_id")?,
    };
    let present = [
        (given.get("headers").is_some(), flag::HEADERS),
        (properties.delivery_mode.is_some(), flag::DELIVERY_MODE),
        (properties.message_id.is_some(), flag::MESSAGE_ID),
        (properties.timestamp.is_some(), flag::TIMESTAMP),
    ];
    properties.flags = present.iter().filter(|(is, _)| *is).fold(0, |flags, (_, bit)| flags | bit);
    Ok(properties)
}

/// A message's properties, as JSON: those that are there.
fn shown_properties(properties: &Properties) -> Json {
    let mut shown = Map::new();
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("message_id", &properties.message_id),
        ("type", &properties.kind),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
        ("cluster_id", &properties.cluster_id),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            shown.insert(name.to_owned(), json!(String::from_utf8_lossy(value)));
        }
    }
    if properties.flags & flag::HEADERS != 0 || !properties.headers.is_empty() {
        shown.insert("headers".to_owned(), Json::Object(plain_table(&properties.headers)));
    }
    for (name, value) in [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ] {
        if let Some(value) = value {
            shown.insert(name.to_owned(), json!(value));
        }
    }
    Json::Object(shown)
}

/// What becomes of messages that were got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckMode {
    Keep,
    Take,
    DeadLetter,
}

impl AckMode {
    fn read(word: &str) -> Result<Self, Refusal> {
        match word {
            "ack_requeue_true" | "reject_requeue_true" => Ok(Self::Keep),
            "ack_requeue_false" => Ok(Self::Take),
            "reject_requeue_false" => Ok(Self::DeadLetter),
            other => Err(Refusal::bad_request(format!(
                "Invalid ackmode value: {other}. Valid values are: ack_requeue_true, ack_requeue_false, \
                 reject_requeue_true, reject_requeue_false"
            ))),
        }
    }
}

async fn get(State(app): State<App>, caller: Caller, Path((vhost, name)): Path<(String, String)>, body: Body) -> Reply {
    let session = caller.session(&app, &vhost)?;
    let mode = AckMode::read(body.required("ackmode")?)?;
    let count = body.int("count")?.ok_or_else(|| super::input::missing("count"))?;
    let base64 = match body.required("encoding")? {
        "auto" => false,
        "base64" => true,
        _ => return Err(Refusal::bad_request("Unsupported encoding. Please use auto or base64.")),
    };
    let truncate = body.int("truncate")?.map(|bytes| usize::try_from(bytes).unwrap_or_default());
    let counts = match queue::find(&session, &name).map_err(|_| Refusal::no_such_object())? {
        Found::Stream(_) => {
            let why = "basic.get not supported by stream queues: consume the stream, from where you like";
            return Err(Refusal::bad_request(why));
        }
        Found::Queue(queue) => queue::queue_type(&queue.config) == QueueType::Quorum,
    };
    let max = usize::try_from(count).unwrap_or_default();
    if max == 0 {
        return Ok(JsonAnswer(json!([])).into_response());
    }
    if max > MAX_GET {
        return Err(Refusal::bad_request(format!("at most {MAX_GET} messages are given at a time (MAX_GET)")));
    }
    let auto_ack = mode == AckMode::Take;
    let receive =
        Receive { max, max_bytes: MAX_GET_BYTES, wait: Duration::ZERO, lease: (!auto_ack).then_some(LEASE), auto_ack };
    let delivered = session.receive(&name, receive).await?;
    let left = queue::passive(&session, &name).map_or(0, |queue| u64::from(queue.messages));
    let behind = (0..delivered.len() as u64).rev();
    let shown: Vec<Json> =
        delivered.iter().zip(behind).map(|(one, behind)| shown_message(one, left + behind, base64, truncate)).collect();
    let settle = match mode {
        AckMode::Take => None,
        AckMode::Keep => Some(Settle::Nack { after: Some(Duration::ZERO), error: None, counts }),
        AckMode::DeadLetter => Some(Settle::Reject { error: None }),
    };
    if let Some(settle) = settle {
        let settlements = delivered.iter().map(|one| (one.receipt, settle.clone())).collect();
        for result in session.settle(settlements).await {
            result.map_err(|error| Refusal::from(crate::fault::Fault::from(error)))?;
        }
    }
    Ok(JsonAnswer(shown).into_response())
}

fn shown_message(delivered: &Delivered, left: u64, base64: bool, truncate: Option<usize>) -> Json {
    let message = outgoing((*delivered.message).clone());
    let whole = &message.body;
    let payload = truncate.and_then(|most| whole.get(..most)).unwrap_or(whole);
    let (payload, encoding) = match std::str::from_utf8(payload) {
        Ok(text) if !base64 => (text.to_owned(), "string"),
        _ => (STANDARD.encode(payload), "base64"),
    };
    json!({
        "payload_bytes": whole.len(),
        "redelivered": delivered.redelivered,
        "exchange": String::from_utf8_lossy(&message.exchange),
        "routing_key": String::from_utf8_lossy(&message.routing_key),
        "message_count": left,
        "properties": shown_properties(&message.properties),
        "payload": payload,
        "payload_encoding": encoding,
    })
}
