//! Publishing: raw bodies, envelopes, batches and CloudEvents, to a topic, a queue or a subject.

use api::{Batch, PublishAnswer, PublishQuery};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use broker::{Expect, ExpectOf, ProducerStamp, PublishOptions, PublishTo};
use bytes::Bytes;
use types::{Message, Offset, Text, Timestamp, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::Caller;
use crate::cloudevents::{self, Event, Members};
use crate::definitions::durability_to;
use crate::input::{LargeJson, Path, Query, from_json, media_type, read_body, unsupported};
use crate::problem::Failure;
use crate::{consume, views};

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(to_topic))
        .routes(routes!(to_queue))
        .routes(routes!(to_subject))
        .routes(routes!(ack_and_publish))
}

/// Publishes through a topic.
///
/// The body is the message's body as it is, unless its content type says that it is an envelope, a batch or a CloudEvent. Ready when
/// the messages are durable.
#[utoipa::path(
    post, path = "/v1/{ns}/topics/{topic}/messages", tag = "publish", params(PublishQuery),
    request_body(content(
        (Vec<u8> = "application/octet-stream"),
        (String = "text/plain"),
        (serde_json::Value = "application/json"),
        (api::Message = "application/vnd.posthouse.message+json"),
        (Batch = "application/vnd.posthouse.batch+json"),
    )),
    responses(
        (status = 200, description = "The messages are durable", body = PublishAnswer),
        (status = 412, description = "Another version than the expected one is in force", body = api::Problem, content_type = "application/problem+json"),
        (status = 429, description = "A queue is full, or a quota is reached", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn to_topic(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, topic)): Path<(String, String)>,
    Query(query): Query<PublishQuery>,
    request: Request,
) -> Result<axum::Json<PublishAnswer>, Failure> {
    publish(&app, &session, PublishTo::Topic(topic), query, request).await
}

/// Publishes straight into a queue.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/messages", tag = "publish", params(PublishQuery),
    request_body(content(
        (Vec<u8> = "application/octet-stream"),
        (String = "text/plain"),
        (serde_json::Value = "application/json"),
        (api::Message = "application/vnd.posthouse.message+json"),
        (Batch = "application/vnd.posthouse.batch+json"),
    )),
    responses(
        (status = 200, description = "The messages are durable", body = PublishAnswer),
        (status = 412, description = "Another version than the expected one is in force", body = api::Problem, content_type = "application/problem+json"),
        (status = 429, description = "The queue is full, or a quota is reached", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn to_queue(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Query(query): Query<PublishQuery>,
    request: Request,
) -> Result<axum::Json<PublishAnswer>, Failure> {
    publish(&app, &session, PublishTo::Queue(queue), query, request).await
}

/// Publishes to a subject: to the topic that captures it, and to live subscriptions.
#[utoipa::path(
    post, path = "/v1/{ns}/subjects/{subject}/messages", tag = "publish", params(PublishQuery),
    request_body(content(
        (Vec<u8> = "application/octet-stream"),
        (String = "text/plain"),
        (serde_json::Value = "application/json"),
        (api::Message = "application/vnd.posthouse.message+json"),
        (Batch = "application/vnd.posthouse.batch+json"),
    )),
    responses(
        (status = 200, description = "The messages are durable where anything keeps them", body = PublishAnswer),
        (status = 412, description = "Another version than the expected one is in force", body = api::Problem, content_type = "application/problem+json"),
        (status = 429, description = "A queue is full, or a quota is reached", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn to_subject(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, subject)): Path<(String, String)>,
    Query(mut query): Query<PublishQuery>,
    request: Request,
) -> Result<axum::Json<PublishAnswer>, Failure> {
    match query.subject.replace(subject) {
        Some(_) => Err(Failure::invalid("subject", "the subject is in the path")),
        None => publish(&app, &session, PublishTo::Subject, query, request).await,
    }
}

async fn publish(
    app: &App,
    session: &broker::Session,
    to: PublishTo,
    query: PublishQuery,
    request: Request,
) -> Result<axum::Json<PublishAnswer>, Failure> {
    let messages = read_messages(app, &query, request, to == PublishTo::Subject).await?;
    let published = session.publish(&to, messages, options(&query)?).await?;
    Ok(axum::Json(PublishAnswer { published: published.iter().map(views::published).collect() }))
}

/// Acknowledges a delivery and publishes what it led to, all or none.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/ack-and-publish", tag = "consume", request_body = api::AckAndPublish,
    responses(
        (status = 200, description = "The acknowledgement and the messages are durable", body = PublishAnswer),
        (status = 410, description = "The lease has run out, or there is no such delivery", body = api::Problem, content_type = "application/problem+json"),
        (status = 429, description = "A queue is full, or a quota is reached; the delivery is still out", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn ack_and_publish(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    LargeJson(request): LargeJson<api::AckAndPublish>,
) -> Result<axum::Json<PublishAnswer>, Failure> {
    let receipt = consume::receipt(consume::queue_id(&session, &queue)?, &request.receipt)?;
    let mut publishes = Vec::with_capacity(request.publishes.len());
    for publish in request.publishes {
        publishes.push((target(publish.to), from_envelopes(publish.messages, app.now())?));
    }
    let published = session.ack_and_publish(receipt, publishes).await?;
    Ok(axum::Json(PublishAnswer { published: published.iter().map(views::published).collect() }))
}

pub(crate) fn target(to: api::Target) -> PublishTo {
    match to {
        api::Target::Topic(name) => PublishTo::Topic(name),
        api::Target::Queue(name) => PublishTo::Queue(name),
        api::Target::Subject => PublishTo::Subject,
    }
}

pub(crate) fn from_envelopes(messages: Vec<api::Message>, now: Timestamp) -> Result<Vec<Message>, Failure> {
    let read = |(at, message): (usize, api::Message)| {
        message.into_message(now).map_err(|error| {
            let field = format!("messages[{at}].{}", error.field());
            Failure::from(error).field(&field)
        })
    };
    messages.into_iter().enumerate().map(read).collect()
}

/// What a publish asks for besides its messages.
pub(crate) fn options(query: &PublishQuery) -> Result<PublishOptions, Failure> {
    let version = |name: &str, text: &str| match text {
        "none" => Ok(None),
        _ => text
            .parse()
            .map(|offset| Some(Offset(offset)))
            .map_err(|_| Failure::invalid(name, format!("{name} is an offset or `none`"))),
    };
    let expect = match (&query.expect_key_version, &query.expect_subject_version) {
        (None, None) => None,
        (Some(text), None) => Some(Expect { of: ExpectOf::Key, version: version("expect_key_version", text)? }),
        (None, Some(text)) => Some(Expect { of: ExpectOf::Subject, version: version("expect_subject_version", text)? }),
        _ => {
            return Err(Failure::invalid(
                "expect_key_version",
                "a publish expects a version of its key or of its subject, not both",
            ));
        }
    };
    let producer = match (&query.producer_id, query.producer_epoch, query.producer_sequence) {
        (None, None, None) => None,
        (Some(id), epoch, Some(sequence)) => {
            Some(ProducerStamp { id: id.clone(), epoch: epoch.unwrap_or(0), sequence })
        }
        _ => return Err(Failure::invalid("producer_id", "producer_id and producer_sequence go together")),
    };
    Ok(PublishOptions {
        expect,
        producer,
        partition: query.partition,
        durability: query.durability.map(durability_to),
        partial: false,
    })
}

/// Reads the messages of a request, in whichever of the forms its content type and headers say.
pub(crate) async fn read_messages(
    app: &App,
    query: &PublishQuery,
    request: Request,
    subject_first: bool,
) -> Result<Vec<Message>, Failure> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let kind = media_type(&headers)?;
    let is_batch = matches!(
        kind.as_str(),
        api::MESSAGE_TYPE | api::BATCH_TYPE | api::NDJSON_TYPE | cloudevents::STRUCTURED_TYPE | cloudevents::BATCH_TYPE
    );
    let (limit, limit_name) = match is_batch {
        true => (app.options.max_batch_bytes, "max_batch_bytes"),
        false => (app.options.max_body_bytes, "max_body_bytes"),
    };
    if kind.starts_with("application/cloudevents") && !is_batch {
        return Err(unsupported(format!(
            "CloudEvents are read in the JSON format, {} and {}",
            cloudevents::STRUCTURED_TYPE,
            cloudevents::BATCH_TYPE
        )));
    }
    let body = read_body(&headers, body, limit, limit_name).await?;
    let now = app.now();
    let mut messages = match kind.as_str() {
        api::MESSAGE_TYPE => vec![from_json::<api::Message>(&body)?.into_message(now)?],
        api::BATCH_TYPE => from_envelopes(from_json::<Batch>(&body)?.messages, now)?,
        api::NDJSON_TYPE => from_lines(&body, now)?,
        cloudevents::STRUCTURED_TYPE => vec![Event::from_json(from_json::<Members>(&body)?.0)?.into_message()?],
        cloudevents::BATCH_TYPE => {
            let events = from_json::<Vec<Members>>(&body)?;
            events.into_iter().map(|event| Event::from_json(event.0)?.into_message()).collect::<Result<_, _>>()?
        }
        _ if headers.contains_key("ce-specversion") => vec![Event::from_binary(&headers, body)?.into_message()?],
        _ => vec![raw(&headers, body)?],
    };
    for message in &mut messages {
        if subject_first {
            // The path names the subject; what a message says of it cannot change where it goes.
            message.subject = Bytes::new();
        }
        fill(message, query, now);
        trace(message, &headers);
    }
    Ok(messages)
}

fn from_lines(body: &Bytes, now: Timestamp) -> Result<Vec<Message>, Failure> {
    let mut messages = Vec::new();
    for (number, line) in (1usize..).zip(body.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let read = from_json::<api::Message>(line).and_then(|message| Ok(message.into_message(now)?));
        messages.push(read.map_err(|mut failure| {
            failure.0.detail = format!("line {number}: {}", failure.0.detail);
            failure
        })?);
    }
    Ok(messages)
}

/// A message whose body is the request's.
fn raw(headers: &HeaderMap, body: Bytes) -> Result<Message, Failure> {
    let mut message = Message { body: Some(body), ..Message::default() };
    let text = |name: &str, value: &axum::http::HeaderValue| {
        Text::from_utf8(Bytes::copy_from_slice(value.as_bytes()))
            .map_err(|_| Failure::new(400, "bad-header", format!("header {name} is not UTF-8")).field(name))
    };
    if let Some(value) = headers.get(axum::http::header::CONTENT_TYPE) {
        message.content_type = Some(text("content-type", value)?);
    }
    for (name, value) in headers {
        if let Some(short) = name.as_str().strip_prefix(api::HEADER_PREFIX).filter(|short| !short.is_empty()) {
            message.headers.push((short.into(), Value::Text(text(name.as_str(), value)?)));
        }
    }
    Ok(message)
}

/// Fills in from the query what the message leaves open.
pub(crate) fn fill(message: &mut Message, query: &PublishQuery, now: Timestamp) {
    let text = |text: &Option<String>| text.clone().map(Text::from);
    let after = |ms: u64| now.after(std::time::Duration::from_millis(ms));
    if let Some(subject) = query.subject.as_ref().filter(|_| message.subject.is_empty()) {
        message.subject = Bytes::from(subject.clone());
    }
    message.id = message.id.take().or_else(|| query.id.clone().map(api::id_from_text));
    message.key = message.key.take().or_else(|| query.key.clone().map(Bytes::from));
    message.dedup_id = message.dedup_id.take().or_else(|| text(&query.dedup_id));
    message.correlation_id = message.correlation_id.take().or_else(|| text(&query.correlation_id));
    message.reply_to = message.reply_to.take().or_else(|| text(&query.reply_to));
    message.not_before = message.not_before.or_else(|| query.delay_ms.map(after));
    message.expires_at = message.expires_at.or_else(|| query.ttl_ms.map(after));
    message.timestamp = message.timestamp.or_else(|| query.timestamp_ms.map(Timestamp));
    message.priority = message.priority.or(query.priority);
    message.durable = message.durable && !query.transient.unwrap_or(false);
}

/// Gives a message without a trace context that of the request.
fn trace(message: &mut Message, headers: &HeaderMap) {
    let found = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(parent) = found("traceparent").filter(|_| message.header("traceparent").is_none()) else { return };
    // The two belong together: a state without its parent means nothing. (W3C Trace Context, section 3.3.)
    message.headers.retain(|(name, _)| *name != *"tracestate");
    message.headers.push(("traceparent".into(), Value::from(parent)));
    if let Some(state) = found("tracestate") {
        message.headers.push(("tracestate".into(), Value::from(state)));
    }
}
