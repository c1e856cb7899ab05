//! Server-Sent Events: following a topic's log, and live subscriptions.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use api::{LiveQuery, StartAt, TailQuery};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use broker::views::{ReadFrom, Record};
use broker::{LiveSubscription, Read, ReplayError, Session};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use types::{Offset, SubjectPattern};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Draining};
use crate::caller::Caller;
use crate::input::{Path, Query};
use crate::limits::{KEEP_ALIVE, MAX_ANSWER_MESSAGES};
use crate::problem::Failure;
use crate::views;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(tail)).routes(routes!(live))
}

/// Bytes of records that one partition of a tail reads at a time.
const TAIL_BYTES: usize = 1024 * 1024;
/// How long one read of a tail waits; then it reads again.
const TAIL_WAIT: Duration = Duration::from_secs(30);

/// Follows a topic's log as Server-Sent Events.
///
/// Each event `record` has a record as its data, and an id that says where all partitions stand: a client that comes back with it as
/// `Last-Event-ID` misses nothing. An event `problem` says why the stream ends.
#[utoipa::path(
    get, path = "/v1/{ns}/topics/{topic}/tail", tag = "replay",
    params(TailQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event seen: partition:offset, comma-separated")),
    responses(
        (status = 200, description = "Events without an end", body = String, content_type = "text/event-stream"),
        (status = 416, description = "The offset is not there", body = api::Problem, content_type = "application/problem+json"),
    ),
)]
async fn tail(
    State(app): State<App>,
    Caller(session): Caller,
    Path((_, topic)): Path<(String, String)>,
    Query(query): Query<TailQuery>,
    drain: Draining,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let permit = app.stream()?;
    let count = u32::try_from(session.topic(&topic)?.partitions.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Err(ReplayError::NoLog(topic).into());
    }
    let seen = headers.get("last-event-id").map(last_event).transpose()?.unwrap_or_default();
    let partitions = match query.partition {
        Some(partition) => vec![partition],
        None => (0..count).collect(),
    };
    let from = views::read_from(query.from.unwrap_or(StartAt::Latest));
    let mut positions = BTreeMap::new();
    for partition in partitions {
        let from = seen.get(&partition).map_or(from, |offset| ReadFrom::Offset(*offset));
        positions.insert(partition, begin(&session, &topic, partition, from).await?);
    }
    let batches = positions
        .iter()
        .map(|(partition, offset)| Box::pin(follow(session.clone(), topic.clone(), *partition, *offset)));
    let batches = stream::select_all(batches.collect::<Vec<_>>());
    let events = batches.flat_map(move |batch| {
        let events: Vec<Event> = match batch {
            Ok(records) => records.iter().map(|record| record_event(record, &mut positions)).collect(),
            Err(error) => vec![problem_event(error.into())],
        };
        stream::iter(events)
    });
    Ok(answer(events, drain, permit))
}

/// Where a partition's reading begins, as an offset: only that makes an event's id complete.
async fn begin(session: &Session, topic: &str, partition: u32, from: ReadFrom) -> Result<Offset, ReplayError> {
    let read = Read { partition, from, max: 1, max_bytes: 1, wait: Duration::ZERO };
    let answer = session.read(topic, read).await?;
    Ok(answer.records.first().map_or(answer.next, |record| record.position.offset))
}

/// The records of a partition from an offset on, for ever; an error is the last item.
fn follow(
    session: Session,
    topic: String,
    partition: u32,
    from: Offset,
) -> impl Stream<Item = Result<Vec<Record>, ReplayError>> {
    stream::unfold(Some(from), move |at| {
        let (session, topic) = (session.clone(), topic.clone());
        async move {
            let mut at = at?;
            loop {
                let read = Read {
                    partition,
                    from: ReadFrom::Offset(at),
                    max: MAX_ANSWER_MESSAGES,
                    max_bytes: TAIL_BYTES,
                    wait: TAIL_WAIT,
                };
                match session.read(&topic, read).await {
                    Err(error) => return Some((Err(error), None)),
                    Ok(answer) if answer.records.is_empty() => at = answer.next,
                    Ok(answer) => return Some((Ok(answer.records), Some(answer.next))),
                }
            }
        }
    })
}

fn record_event(record: &Record, positions: &mut BTreeMap<u32, Offset>) -> Event {
    positions.insert(record.position.partition, record.position.offset.next());
    let id: Vec<String> = positions.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
    Event::default().event("record").id(id.join(",")).data(json(&views::record(record)))
}

fn problem_event(failure: Failure) -> Event {
    Event::default().event("problem").data(json(&failure.0))
}

/// In one line: a message's JSON body may be written over several, which an event's data cannot tell from its own line ends when
/// these are not plain line feeds.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default().replace(['\r', '\n'], " ")
}

fn last_event(value: &HeaderValue) -> Result<BTreeMap<u32, Offset>, Failure> {
    let position = |text: &str| {
        let (partition, offset) = text.split_once(':')?;
        Some((partition.trim().parse().ok()?, Offset(offset.trim().parse().ok()?)))
    };
    let read = value.to_str().ok().and_then(|text| text.split(',').map(position).collect::<Option<_>>());
    read.ok_or_else(|| Failure::invalid("Last-Event-ID", "Last-Event-ID is not one that a tail of this broker gave"))
}

/// Subscribes to what is published from now on, as Server-Sent Events.
///
/// Each event `message` has a message as its data. A client that is too slow loses messages, and is told how many so far by an event
/// `lost`.
#[utoipa::path(
    get, path = "/v1/{ns}/live", tag = "replay", params(LiveQuery),
    responses((status = 200, description = "Events without an end", body = String, content_type = "text/event-stream")),
)]
async fn live(
    State(app): State<App>,
    Caller(session): Caller,
    Query(query): Query<LiveQuery>,
    drain: Draining,
) -> Result<Response, Failure> {
    let permit = app.stream()?;
    let pattern =
        SubjectPattern::parse(&query.subject).map_err(|error| Failure::invalid("subject", error.to_string()))?;
    let subscription = session.subscribe(pattern, query.group)?;
    let events = stream::unfold((subscription, 0), |(mut subscription, told): (LiveSubscription, u64)| async move {
        let message = subscription.next().await?;
        let event = Event::default().event("message").data(json(&api::Message::from(&*message)));
        let lost = subscription.lost();
        let events = if lost > told { vec![lost_event(lost), event] } else { vec![event] };
        Some((stream::iter(events), (subscription, lost)))
    });
    Ok(answer(events.flatten(), drain, permit))
}

fn lost_event(messages: u64) -> Event {
    Event::default().event("lost").data(json(&serde_json::json!({ "messages": messages })))
}

/// The stream as an answer that ends with the drain and holds its place until then.
fn answer(
    events: impl Stream<Item = Event> + Send + 'static,
    drain: Draining,
    permit: OwnedSemaphorePermit,
) -> Response {
    let until = async move { drain.0.begun().await };
    let events = events.take_until(Box::pin(until)).map(move |event| {
        let _held = &permit;
        Ok::<_, Infallible>(event)
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies that collect answers before passing them on would hold a stream back for ever.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_says_where_all_partitions_stood() {
        let read = last_event(&HeaderValue::from_static("0:5,3:0")).unwrap();
        assert_eq!(read, BTreeMap::from([(0, Offset(5)), (3, Offset(0))]));
        for bad in ["", "5", "0:x", "0:1,"] {
            assert!(last_event(&HeaderValue::from_static(bad)).is_err(), "{bad}");
        }
    }
}
