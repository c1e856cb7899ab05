//! Replay: reading a topic's log, by offset, time and key.

use api::{KeyQuery, ReadAnswer, ReadQuery, Records, StartAt};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker::Read;
use broker::views::Record;
use types::{Offset, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Draining};
use crate::caller::Caller;
use crate::cloudevents::{self, Event};
use crate::consume::{Form, accepted, bytes, messages, typed, wait};
use crate::input::{Path, Query};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(last_value)).routes(routes!(read_key))
}

/// Reads a topic's log from an offset or a time on, waiting for the first record if asked to.
///
/// `Accept: application/cloudevents-batch+json` gives CloudEvents, and where to go on in the headers `Posthouse-Next` and
/// `Posthouse-End`.
#[utoipa::path(
    get, path = "/v1/{ns}/topics/{topic}/messages", tag = "replay", params(ReadQuery),
    responses(
        (status = 200, description = "The records", content(
            (ReadAnswer = "application/json"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
        )),
        (status = 416, description = "The offset is not there", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn read(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, topic)): Path<(String, String)>,
    Query(query): Query<ReadQuery>,
    drain: Draining,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let wait = wait(query.wait_ms)?;
    let mut read = Read {
        partition: query.partition.unwrap_or(0),
        from: views::read_from(query.from.unwrap_or(StartAt::Earliest)),
        max: messages(query.max, 100)?,
        max_bytes: usize::try_from(bytes(query.max_bytes)).unwrap_or(usize::MAX),
        wait,
    };
    let answer = match app.waiting(&drain, wait, session.read(&topic, read)).await? {
        Some(answer) => answer?,
        // The listener drains: what is there now is the answer.
        None => {
            read.wait = std::time::Duration::ZERO;
            session.read(&topic, read).await?
        }
    };
    if accepted(&headers) == Form::Native {
        let records = answer.records.iter().map(views::record).collect();
        return Ok(axum::Json(ReadAnswer { records, next: answer.next.0, end: answer.end.0 }).into_response());
    }
    let source = cloudevents::source(session.namespace(), "topics", &topic);
    let events: Vec<Event> = answer.records.iter().map(|record| event(record, &source)).collect();
    let mut response = typed(cloudevents::BATCH_TYPE, &events);
    let head = response.headers_mut();
    head.insert(HeaderName::from_static("posthouse-next"), HeaderValue::from(answer.next.0));
    head.insert(HeaderName::from_static("posthouse-end"), HeaderValue::from(answer.end.0));
    Ok(response)
}

fn event(record: &Record, source: &str) -> Event {
    let extras = vec![
        ("phpartition", Value::int(record.position.partition.into())),
        // An offset may be larger than the integers of CloudEvents.
        ("phoffset", Value::from(record.position.offset.to_string().as_str())),
    ];
    Event::of(&record.message, source, extras)
}

/// Shows the last record of a key. The topic needs a key index.
#[utoipa::path(
    get, path = "/v1/{ns}/topics/{topic}/keys/{key}", tag = "replay", params(KeyQuery),
    responses((status = 200, description = "The record", body = api::Record)),
)]
async fn last_value(
    Caller(session): Caller,
    Path((_, topic, key)): Path<(String, String, String)>,
    Query(query): Query<KeyQuery>,
) -> Result<axum::Json<api::Record>, Failure> {
    if query.from.is_some() {
        return Err(Failure::invalid("from", "the last record is wherever it is; `from` is for all records of a key"));
    }
    let found = session.last_value(&topic, &key_bytes(&key, query.base64)?)?;
    let record = found.ok_or_else(|| Failure::not_found(format!("topic {topic:?} has no record of key {key:?}")))?;
    Ok(axum::Json(views::record(&record)))
}

/// Reads the records of a key, oldest first. The topic needs a key index.
#[utoipa::path(
    get, path = "/v1/{ns}/topics/{topic}/keys/{key}/messages", tag = "replay", params(KeyQuery),
    responses((status = 200, description = "The records", body = Records)),
)]
async fn read_key(
    Caller(session): Caller,
    Path((_, topic, key)): Path<(String, String, String)>,
    Query(query): Query<KeyQuery>,
) -> Result<axum::Json<Records>, Failure> {
    let (from, max) = (Offset(query.from.unwrap_or(0)), messages(query.max, 100)?);
    let records = session.read_key(&topic, &key_bytes(&key, query.base64)?, from, max)?;
    Ok(axum::Json(Records { records: records.iter().map(views::record).collect() }))
}

fn key_bytes(key: &str, base64: Option<bool>) -> Result<Vec<u8>, Failure> {
    if !base64.unwrap_or(false) {
        return Ok(key.as_bytes().to_vec());
    }
    URL_SAFE_NO_PAD
        .decode(key)
        .map_err(|_| Failure::invalid("key", "the key is not base64 in the URL-safe alphabet without padding"))
}
