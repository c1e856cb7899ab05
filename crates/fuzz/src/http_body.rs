//! Bodies of HTTP requests, through the whole router over a broker in memory.
//!
//! The first byte of the input chooses the request, see [`REQUESTS`]; the rest is its body. `@RECEIPT` in it stands for the receipt of a
//! delivery that is out, since none could be guessed.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use broker::{Broker, BrokerOptions};
use log::MemoryLog;
use protocol_http::HttpOptions;
use tower::ServiceExt;
use types::clock::{Clock, Now};
use types::{Monotonic, Timestamp};

use crate::memory::bounded;

/// Method, path and content type.
pub(crate) const REQUESTS: &[(&str, &str, &str)] = &[
    ("POST", "/v1/default/queues/q/messages", api::MESSAGE_TYPE),
    ("POST", "/v1/default/queues/q/messages", api::BATCH_TYPE),
    ("POST", "/v1/default/queues/q/messages", api::NDJSON_TYPE),
    ("POST", "/v1/default/queues/q/messages", EVENT_TYPE),
    ("POST", "/v1/default/queues/q/messages", "application/cloudevents-batch+json"),
    ("POST", "/v1/default/topics/t/messages?subject=a.b", api::BATCH_TYPE),
    ("POST", "/v1/default/bindings", JSON),
    ("POST", "/v1/default/queues/q/settle", JSON),
    ("POST", "/v1/default/queues/q/ack-and-publish", JSON),
    ("POST", "/v1/default/queues/q/receive", JSON),
    ("PUT", "/v1/default/queues/new", JSON),
    ("PUT", "/v1/default/topics/new", JSON),
    ("PUT", "/v1/default/policies/p", JSON),
    ("POST", "/v1/default/queues/q/redrive", JSON),
    ("PUT", "/v1/default/groups/g", JSON),
];

const JSON: &str = "application/json";
const EVENT_TYPE: &str = "application/cloudevents+json";

/// What a parser of messages may hold whatever it reads, and for each byte of it.
const BASE_BYTES: usize = 64 * 1024;
const TIMES: usize = 512;

/// Every request is answered in the protocol's own words and never with a fault of the server; a message comes out as it went in, and what
/// comes out can go in again.
///
/// # Panics
/// If one of that does not hold.
pub fn check(input: &[u8]) {
    let Some((at, body)) = input.split_first() else { return };
    let Some(request) = REQUESTS.get(usize::from(*at) % REQUESTS.len()) else { return };
    match request.2 {
        api::MESSAGE_TYPE => message(body),
        EVENT_TYPE => return run(event(body)),
        _ => {}
    }
    run(async {
        let server = Server::start().await;
        let body = server.fill_in(body).await;
        server.send(request.0, request.1, request.2, body).await;
        // Its neighbours notice nothing.
        let (status, _) = server.send("GET", "/v1/default/queues/q", "", Vec::new()).await;
        assert_eq!(status, StatusCode::OK);
    });
}

/// Whether the request is one that is taken: a seed should get as far as it can.
#[cfg(test)]
pub(crate) fn is_taken(input: &[u8]) -> bool {
    let mut is_taken = false;
    run(async {
        let (at, body) = input.split_first().expect("a seed");
        let (method, path, kind) = REQUESTS[usize::from(*at)];
        let server = Server::start().await;
        let body = server.fill_in(body).await;
        is_taken = server.send(method, path, kind, body).await.0.is_success();
    });
    is_taken
}

/// Runs it in a runtime whose clock jumps over every wait.
pub(crate) fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads").block_on(work);
}

/// The JSON of a message that is taken says the same after it was read, written and read again.
fn message(json: &[u8]) {
    let read = bounded(json.len(), BASE_BYTES, TIMES, || serde_json::from_slice::<api::Message>(json));
    let Ok(message) = read.map_err(drop).and_then(|message| message.into_message(NOW).map_err(drop)) else { return };
    let written = serde_json::to_vec(&api::Message::from(&message)).expect("a message can be written");
    let again: api::Message = serde_json::from_slice(&written).expect("our own JSON");
    let again = again.into_message(NOW).expect("our own message makes sense");
    assert_eq!(format!("{again:?}"), format!("{message:?}"), "written as {}", String::from_utf8_lossy(&written));
}

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A CloudEvent that is taken comes out, and goes in again as it came out: from then on it is the same each time.
async fn event(json: &[u8]) {
    let server = Server::start().await;
    let Some(first) = server.pass(json.to_vec()).await else { return };
    let second = server.pass(first.clone()).await.expect("an event of ours is refused");
    assert_eq!(read_event(&second), read_event(&first), "of {}", String::from_utf8_lossy(&first));
}

/// An event without what every delivery has of its own.
fn read_event(json: &[u8]) -> serde_json::Value {
    let mut event: serde_json::Value = serde_json::from_slice(json).expect("our own JSON");
    for name in ["phreceipt", "phattempt"] {
        event.as_object_mut().expect("an object").remove(name);
    }
    event
}

/// The broker's clock goes with the runtime's, or what waits would wait for ever.
struct PausedClock(tokio::time::Instant);

impl Clock for PausedClock {
    fn now(&self) -> Now {
        let passed = self.0.elapsed();
        Now { wall: NOW.after(passed), mono: Monotonic(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)) }
    }
}

/// A broker with a topic, a queue and a message in flight, behind a router.
pub(crate) struct Server {
    pub(crate) router: Router,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let clock = Arc::new(PausedClock(tokio::time::Instant::now()));
        let broker = Broker::open(Arc::new(MemoryLog::new()), clock.clone(), BrokerOptions::default());
        let broker = broker.expect("nothing can go wrong in memory");
        let options = HttpOptions::new(Arc::new(String::new), clock);
        let server = Self { router: protocol_http::router(broker, options) };
        for (method, path, body) in [
            ("PUT", "/v1/default/queues/q", r#"{}"#),
            ("PUT", "/v1/default/topics/t", r#"{"retention": {}}"#),
            (
                "POST",
                "/v1/default/bindings",
                r##"{"topic": "t", "target": {"queue": "q"}, "filter": {"subject": "a.#"}}"##,
            ),
        ] {
            let (status, answer) = server.send(method, path, JSON, body.into()).await;
            assert!(status.is_success(), "{method} {path}: {}", String::from_utf8_lossy(&answer));
        }
        server
    }

    /// Puts the receipt of a message that is out where the body names it.
    async fn fill_in(&self, body: &[u8]) -> Vec<u8> {
        const PLACE: &str = "@RECEIPT";
        let Ok(text) = std::str::from_utf8(body) else { return body.to_vec() };
        if !text.contains(PLACE) {
            return body.to_vec();
        }
        let (status, _) = self.send("POST", "/v1/default/queues/q/messages", "text/plain", b"m".to_vec()).await;
        assert!(status.is_success());
        let (_, answer) = self.send("POST", "/v1/default/queues/q/receive", JSON, b"{}".to_vec()).await;
        let answer: api::ReceiveAnswer = serde_json::from_slice(&answer).expect("our own JSON");
        text.replace(PLACE, &answer.deliveries.first().expect("it is there").receipt).into_bytes()
    }

    /// Publishes an event and receives it; `None` if it is refused, or is not to be received now.
    async fn pass(&self, event: Vec<u8>) -> Option<Vec<u8>> {
        let (status, _) = self.send("POST", "/v1/default/queues/q/messages", EVENT_TYPE, event).await;
        if !status.is_success() {
            return None;
        }
        let request = Request::post("/v1/default/queues/q/receive-event")
            .header(header::CONTENT_TYPE, JSON)
            .header(header::ACCEPT, EVENT_TYPE)
            .body(Body::from(r#"{"auto_ack": true}"#))
            .expect("a good request");
        let (status, answer) = self.answer(request, "receive-event").await;
        (status == StatusCode::OK).then_some(answer)
    }

    pub(crate) async fn send(&self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path);
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        self.answer(request.body(Body::from(body)).expect("a good request"), path).await
    }

    /// The answer, which is one of the protocol's.
    async fn answer(&self, request: Request<Body>, path: &str) -> (StatusCode, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory").to_vec();
        let text = String::from_utf8_lossy(&body);
        assert!(!parts.status.is_server_error(), "{path}: {} {text}", parts.status);
        if !parts.status.is_success() {
            assert_eq!(parts.headers[header::CONTENT_TYPE], "application/problem+json", "{path}: {text}");
            let problem: api::Problem = serde_json::from_slice(&body).expect("a problem");
            assert_eq!(problem.status, parts.status.as_u16(), "{path}: {text}");
        } else if !body.is_empty() {
            serde_json::from_slice::<serde_json::Value>(&body)
                .unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        }
        (parts.status, body)
    }
}
