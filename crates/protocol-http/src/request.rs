//! Request and reply: asking over HTTP, and answering what came with a `reply_to`.

use std::time::Duration;

use api::{PublishQuery, ReplyQuery, RequestQuery};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use types::{Message, Text};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Draining};
use crate::caller::Caller;
use crate::input::{Path, Query};
use crate::limits::{MAX_WAIT, REQUEST_WAIT};
use crate::problem::Failure;
use crate::publish::read_messages;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(request)).routes(routes!(reply))
}

/// Asks whoever answers on a subject, and waits for one answer.
///
/// If nobody could answer, that is said at once.
#[utoipa::path(
    post, path = "/v1/{ns}/request/{subject}", tag = "request", params(RequestQuery),
    request_body(content(
        (Vec<u8> = "application/octet-stream"),
        (String = "text/plain"),
        (serde_json::Value = "application/json"),
        (api::Message = "application/vnd.posthouse.message+json"),
    )),
    responses(
        (status = 200, description = "The answer", body = api::Message),
        (status = 504, description = "No answer came in time", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn request(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, subject)): Path<(String, String)>,
    Query(query): Query<RequestQuery>,
    drain: Draining,
    body: Request,
) -> Result<axum::Json<api::Message>, Failure> {
    let deadline = deadline(query.timeout_ms)?;
    let publish = PublishQuery { subject: Some(subject), ..PublishQuery::default() };
    let message = only(read_messages(&app, &publish, body, true).await?)?;
    let stopping = || Failure::new(503, "unavailable", "the broker is stopping").retry_after(Duration::from_secs(1));
    let answer = app.waiting(&drain, deadline, session.request(message, deadline)).await?.ok_or_else(stopping)??;
    Ok(axum::Json(api::Message::from(&*answer)))
}

pub(crate) fn deadline(timeout_ms: Option<u64>) -> Result<Duration, Failure> {
    let deadline = timeout_ms.map_or(REQUEST_WAIT, Duration::from_millis);
    if !deadline.is_zero() && deadline <= MAX_WAIT {
        return Ok(deadline);
    }
    let why = format!("`timeout_ms` is 1 to {} (MAX_WAIT)", MAX_WAIT.as_millis());
    Err(Failure::invalid("timeout_ms", why).limit("MAX_WAIT"))
}

fn only(messages: Vec<Message>) -> Result<Message, Failure> {
    <[Message; 1]>::try_from(messages).map(|[message]| message).map_err(|messages| {
        Failure::invalid("messages", format!("this takes one message; the request has {}", messages.len()))
    })
}

/// Answers a request: `reply_to` is the request's.
#[utoipa::path(
    post, path = "/v1/{ns}/reply/{reply_to}", tag = "request", params(ReplyQuery),
    request_body(content(
        (Vec<u8> = "application/octet-stream"),
        (String = "text/plain"),
        (serde_json::Value = "application/json"),
        (api::Message = "application/vnd.posthouse.message+json"),
    )),
    responses((status = 204, description = "The answer is on its way")),
)]
async fn reply(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, reply_to)): Path<(String, String)>,
    Query(query): Query<ReplyQuery>,
    body: Request,
) -> Result<StatusCode, Failure> {
    let answer = only(read_messages(&app, &PublishQuery::default(), body, false).await?)?;
    waited(session.reply(&asked(reply_to, query.correlation_id), answer).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether somebody still waits for an answer.
pub(crate) fn waited(waits: bool) -> Result<(), Failure> {
    if waits { Ok(()) } else { Err(Failure::new(404, "nobody-waits", "nobody waits for this answer any more")) }
}

/// What of a request an answer to it needs.
pub(crate) fn asked(reply_to: String, correlation_id: Option<String>) -> Message {
    Message {
        reply_to: Some(Text::from(reply_to)),
        correlation_id: correlation_id.map(Text::from),
        ..Message::default()
    }
}
