//! Consuming: receive with a long poll, settle, browse, purge, redrive.

use std::sync::Arc;
use std::time::Duration;

use api::{Action, ReceiveAnswer, ReceiveRequest, SettleAnswer, SettleRequest, SettleResult, Settlement};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use broker::bounds;
use broker::queue::Settle;
use broker::views::Delivered;
use broker::{Receipt, Receive, Session};
use types::{EntityId, Offset, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Draining};
use crate::caller::Caller;
use crate::cloudevents::{self, Event};
use crate::input::{Json, OptionalJson, Path, Query};
use crate::limits::{ANSWER_BYTES, MAX_SETTLEMENTS};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(receive))
        .routes(routes!(receive_event))
        .routes(routes!(settle))
        .routes(routes!(ack))
        .routes(routes!(nack))
        .routes(routes!(reject))
        .routes(routes!(release))
        .routes(routes!(extend))
        .routes(routes!(browse, purge))
        .routes(routes!(redrive, show_redrive, stop_redrive))
}

/// How an answer writes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The API's own JSON.
    Native,
    /// One CloudEvent in the structured mode.
    Structured,
    /// CloudEvents in the batched mode.
    Batched,
}

/// What `Accept` asks for: CloudEvents if they are named, the API's own JSON otherwise.
pub(crate) fn accepted(headers: &HeaderMap) -> Form {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for kind in accepts.flat_map(|value| value.split(',')) {
        match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            cloudevents::STRUCTURED_TYPE => return Form::Structured,
            cloudevents::BATCH_TYPE => return Form::Batched,
            "application/json" => return Form::Native,
            _ => {}
        }
    }
    Form::Native
}

/// Takes messages from a queue, waiting for the first one if asked to.
///
/// Each delivery has a lease: settle it before the lease runs out. `Accept: application/cloudevents-batch+json` gives CloudEvents, with
/// the receipt in the attribute `phreceipt`.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/receive", tag = "consume",
    request_body(content = Option<ReceiveRequest>, content_type = "application/json"),
    responses(
        (status = 200, description = "Messages; none if none came in time", content(
            (ReceiveAnswer = "application/json"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
        )),
        (status = 410, description = "The queue was deleted", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn receive(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    drain: Draining,
    headers: HeaderMap,
    OptionalJson(request): OptionalJson<ReceiveRequest>,
) -> Result<Response, Failure> {
    let deliveries = take(&app, &session, &queue, &drain, &request).await?;
    if accepted(&headers) == Form::Native {
        let deliveries = deliveries.iter().map(views::delivery).collect();
        return Ok(axum::Json(ReceiveAnswer { deliveries }).into_response());
    }
    let source = cloudevents::source(session.namespace(), "queues", &queue);
    let events: Vec<Event> = deliveries.iter().map(|delivery| event(delivery, &source)).collect();
    Ok(typed(cloudevents::BATCH_TYPE, &events))
}

/// Takes one message from a queue, as a CloudEvent.
///
/// In the binary mode: attributes in `ce-` headers, the data as the body. With `Accept: application/cloudevents+json` in the structured
/// mode. The receipt is the attribute `phreceipt`.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/receive-event", tag = "consume",
    request_body(content = Option<ReceiveRequest>, content_type = "application/json"),
    responses(
        (status = 200, description = "The event", body = serde_json::Value, content_type = "*/*"),
        (status = 204, description = "No message came in time"),
        (status = 410, description = "The queue was deleted", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn receive_event(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    drain: Draining,
    headers: HeaderMap,
    OptionalJson(request): OptionalJson<ReceiveRequest>,
) -> Result<Response, Failure> {
    if request.max.is_some_and(|max| max != 1) {
        return Err(Failure::invalid("max", "this gives one message; `receive` gives many"));
    }
    let deliveries = take(&app, &session, &queue, &drain, &request).await?;
    let Some(delivery) = deliveries.first() else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let event = event(delivery, &cloudevents::source(session.namespace(), "queues", &queue));
    Ok(match accepted(&headers) {
        Form::Structured => typed(cloudevents::STRUCTURED_TYPE, &event),
        _ => event.into_binary().into_response(),
    })
}

async fn take(
    app: &App,
    session: &Session,
    queue: &str,
    drain: &Draining,
    request: &ReceiveRequest,
) -> Result<Vec<Delivered>, Failure> {
    let wait = wait(request.wait_ms)?;
    let receive = Receive {
        max: messages(request.max, 1)?,
        max_bytes: bytes(request.max_bytes),
        wait,
        lease: request.lease_ms.map(|ms| positive("lease_ms", ms)).transpose()?,
        auto_ack: request.auto_ack,
    };
    Ok(app.waiting(drain, wait, session.receive(queue, receive)).await?.transpose()?.unwrap_or_default())
}

fn event(delivery: &Delivered, source: &str) -> Event {
    let extras = vec![
        ("phreceipt", Value::from(delivery.receipt.to_string().as_str())),
        ("phattempt", Value::int(delivery.attempt.into())),
    ];
    Event::of(&delivery.message, source, extras)
}

/// An answer of this content type.
pub(crate) fn typed<T: serde::Serialize>(kind: &'static str, value: &T) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

pub(crate) fn wait(ms: Option<u64>) -> Result<Duration, Failure> {
    Ok(bounds::wait(ms.unwrap_or(0))?)
}

pub(crate) fn messages(max: Option<u32>, default: usize) -> Result<usize, Failure> {
    Ok(bounds::max_messages(max, default)?)
}

pub(crate) fn bytes(max: Option<u64>) -> u64 {
    bounds::max_bytes(max, ANSWER_BYTES)
}

pub(crate) fn positive(field: &str, ms: u64) -> Result<Duration, Failure> {
    Ok(bounds::positive(field, ms)?)
}

/// The queue's id, by which receipts name it.
pub(crate) fn queue_id(session: &Session, queue: &str) -> Result<EntityId, Failure> {
    Ok(session.queue(queue)?.id)
}

/// A receipt of this queue.
pub(crate) fn receipt(queue: EntityId, text: &str) -> Result<Receipt, Failure> {
    text.parse::<Receipt>().ok().filter(|receipt| receipt.queue == queue).ok_or_else(Failure::bad_receipt)
}

/// Does settlements, each for itself; one answer each, in order. `queue` is the one that all receipts must be of, if there is one.
pub(crate) async fn settle_all(
    session: &Session,
    queue: Option<EntityId>,
    settlements: Vec<Settlement>,
) -> Vec<SettleResult> {
    let mut results: Vec<SettleResult> = Vec::with_capacity(settlements.len());
    let (mut batch, mut places) = (Vec::new(), Vec::new());
    for (at, settlement) in settlements.into_iter().enumerate() {
        let found = match queue {
            Some(queue) => receipt(queue, &settlement.receipt),
            None => settlement.receipt.parse::<Receipt>().map_err(|_| Failure::bad_receipt()),
        };
        let done = found.and_then(|receipt| match how(&settlement)? {
            How::Settle(settle) => {
                batch.push((receipt, settle));
                places.push(at);
                Ok(())
            }
            How::Extend(by) => session.extend(receipt, by).map_err(Failure::from),
        });
        results.push(result(settlement.receipt, done));
    }
    let settled = if batch.is_empty() { Vec::new() } else { session.settle(batch).await };
    for (at, settled) in places.into_iter().zip(settled) {
        if let (Some(slot), Err(error)) = (results.get_mut(at), settled) {
            slot.ok = false;
            slot.problem = Some(*Failure::from(error).0);
        }
    }
    results
}

fn result(receipt: String, done: Result<(), Failure>) -> SettleResult {
    SettleResult { receipt, ok: done.is_ok(), problem: done.err().map(|failure| *failure.0) }
}

enum How {
    Settle(Settle),
    Extend(Duration),
}

fn how(settlement: &Settlement) -> Result<How, Failure> {
    let error = || settlement.error.as_deref().map(Arc::from);
    let stray = |field: &str| Failure::invalid(field, format!("`{field}` does not go with this action"));
    if settlement.after_ms.is_some() && settlement.action != Action::Nack {
        return Err(stray("after_ms"));
    }
    if settlement.error.is_some() && !matches!(settlement.action, Action::Nack | Action::Reject) {
        return Err(stray("error"));
    }
    if settlement.by_ms.is_some() && settlement.action != Action::Extend {
        return Err(stray("by_ms"));
    }
    Ok(match settlement.action {
        Action::Ack => How::Settle(Settle::Ack),
        Action::Nack => How::Settle(Settle::Nack {
            after: settlement.after_ms.map(Duration::from_millis),
            error: error(),
            counts: true,
        }),
        Action::Reject => How::Settle(Settle::Reject { error: error() }),
        Action::Release => How::Settle(Settle::Release),
        Action::Extend => {
            let by_ms = settlement.by_ms.ok_or_else(|| Failure::invalid("by_ms", "an extension says `by_ms`"))?;
            How::Extend(positive("by_ms", by_ms)?)
        }
    })
}

/// Ends many deliveries, or extends their leases. Each settlement stands for itself; ready when all are durable.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/settle", tag = "consume", request_body = SettleRequest,
    responses((status = 200, description = "What became of each", body = SettleAnswer)),
)]
async fn settle(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Json(request): Json<SettleRequest>,
) -> Result<axum::Json<SettleAnswer>, Failure> {
    check_count(request.settlements.len())?;
    let queue = queue_id(&session, &queue)?;
    Ok(axum::Json(SettleAnswer { results: settle_all(&session, Some(queue), request.settlements).await }))
}

pub(crate) fn check_count(settlements: usize) -> Result<(), Failure> {
    if settlements <= MAX_SETTLEMENTS {
        return Ok(());
    }
    Err(Failure::too_large(format!("at most {MAX_SETTLEMENTS} settlements (MAX_SETTLEMENTS)"), "MAX_SETTLEMENTS"))
}

async fn one(session: &Session, queue: &str, settlement: Settlement) -> Result<StatusCode, Failure> {
    let queue = queue_id(session, queue)?;
    let mut results = settle_all(session, Some(queue), vec![settlement]).await;
    match results.pop().and_then(|result| result.problem) {
        Some(problem) => Err(Failure(Box::new(problem))),
        None => Ok(StatusCode::NO_CONTENT),
    }
}

/// Acknowledges a delivery: the message is done.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/ack", tag = "consume", request_body = api::ReceiptRequest,
    responses(
        (status = 204, description = "Done, and durable"),
        (status = 410, description = "The lease has run out, or there is no such delivery", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn ack(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Json(request): Json<api::ReceiptRequest>,
) -> Result<StatusCode, Failure> {
    one(&session, &queue, Settlement { receipt: request.receipt, ..Settlement::default() }).await
}

/// Fails a delivery: the message is tried again as the queue's retry policy says, or goes to the dead-letter queue.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/nack", tag = "consume", request_body = api::NackRequest,
    responses(
        (status = 204, description = "Done, and durable"),
        (status = 410, description = "The lease has run out, or there is no such delivery", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn nack(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Json(request): Json<api::NackRequest>,
) -> Result<StatusCode, Failure> {
    let api::NackRequest { receipt, after_ms, error } = request;
    one(&session, &queue, Settlement { receipt, action: Action::Nack, after_ms, error, by_ms: None }).await
}

/// Fails a delivery for good: the message goes to the dead-letter queue now.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/reject", tag = "consume", request_body = api::RejectRequest,
    responses(
        (status = 204, description = "Done, and durable"),
        (status = 410, description = "The lease has run out, or there is no such delivery", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn reject(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Json(request): Json<api::RejectRequest>,
) -> Result<StatusCode, Failure> {
    let settlement =
        Settlement { receipt: request.receipt, action: Action::Reject, error: request.error, ..Settlement::default() };
    one(&session, &queue, settlement).await
}

/// Gives a delivery back untried: the message is ready again at once, and no attempt is counted.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/release", tag = "consume", request_body = api::ReceiptRequest,
    responses(
        (status = 204, description = "Done"),
        (status = 410, description = "The lease has run out, or there is no such delivery", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn release(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Json(request): Json<api::ReceiptRequest>,
) -> Result<StatusCode, Failure> {
    one(&session, &queue, Settlement { receipt: request.receipt, action: Action::Release, ..Settlement::default() })
        .await
}

/// Extends a lease: it lasts `by_ms` from now.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/extend", tag = "consume", request_body = api::ExtendRequest,
    responses(
        (status = 204, description = "Done"),
        (status = 410, description = "The lease has run out, or there is no such delivery", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn extend(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Json(request): Json<api::ExtendRequest>,
) -> Result<StatusCode, Failure> {
    let (receipt, by_ms) = (request.receipt, Some(request.by_ms));
    one(&session, &queue, Settlement { receipt, action: Action::Extend, by_ms, ..Settlement::default() }).await
}

/// Looks at a queue's messages without taking them.
#[utoipa::path(
    get, path = "/v1/{ns}/queues/{queue}/messages", tag = "consume", params(api::BrowseQuery),
    responses(
        (status = 200, description = "The messages", body = api::BrowseAnswer),
        (status = 410, description = "The queue was deleted", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn browse(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    Query(query): Query<api::BrowseQuery>,
) -> Result<axum::Json<api::BrowseAnswer>, Failure> {
    let (found, next) = session.browse(&queue, Offset(query.from.unwrap_or(0)), messages(query.max, 20)?)?;
    Ok(axum::Json(api::BrowseAnswer { messages: found.iter().map(views::browsed).collect(), next: next.0 }))
}

/// Removes all messages that wait in a queue. Those with consumers stay.
#[utoipa::path(
    delete, path = "/v1/{ns}/queues/{queue}/messages", tag = "consume",
    responses((status = 200, description = "They are gone", body = api::Removed)),
)]
async fn purge(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
) -> Result<axum::Json<api::Removed>, Failure> {
    Ok(axum::Json(api::Removed { messages: session.purge(&queue).await? }))
}

/// Starts moving a queue's messages back to where they came from, or elsewhere. One redrive a queue at a time.
#[utoipa::path(
    post, path = "/v1/{ns}/queues/{queue}/redrive", tag = "consume",
    request_body(content = Option<api::RedriveRequest>, content_type = "application/json"),
    responses((status = 200, description = "It runs", body = api::Redrive)),
)]
async fn redrive(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
    OptionalJson(request): OptionalJson<api::RedriveRequest>,
) -> Result<axum::Json<api::Redrive>, Failure> {
    if request.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return Err(Failure::invalid("rate", "`rate` is above 0"));
    }
    let redrive = broker::Redrive { to: request.to, rate: request.rate, max: request.max };
    Ok(axum::Json(views::redrive(session.redrive(&queue, redrive)?)))
}

/// Shows a queue's redrive, running or ended.
#[utoipa::path(
    get, path = "/v1/{ns}/queues/{queue}/redrive", tag = "consume",
    responses((status = 200, description = "The redrive", body = api::Redrive)),
)]
async fn show_redrive(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
) -> Result<axum::Json<api::Redrive>, Failure> {
    let found = session.queue(&queue)?.redrive;
    found
        .map(|info| axum::Json(views::redrive(info)))
        .ok_or_else(|| Failure::not_found(format!("queue {queue:?} has no redrive")))
}

/// Stops a queue's redrive.
#[utoipa::path(
    delete, path = "/v1/{ns}/queues/{queue}/redrive", tag = "consume",
    responses((status = 200, description = "It has stopped", body = api::Redrive)),
)]
async fn stop_redrive(
    Caller(session): Caller,
    Path((_, queue)): Path<(String, String)>,
) -> Result<axum::Json<api::Redrive>, Failure> {
    Ok(axum::Json(views::redrive(session.stop_redrive(&queue)?)))
}
