//! A broker in memory and its router, asked without a socket.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use broker::{Broker, BrokerOptions};
use log::{Log, MemoryLog};
use net::Drain;
use protocol_http::HttpOptions;
use serde_json::Value;
use tower::ServiceExt;
use types::clock::SystemClock;

pub(crate) struct App {
    pub(crate) router: Router,
    pub(crate) drain: Drain,
    ticker: tokio::task::JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The problem's slug, and its field.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String, Option<String>) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text());
        let problem: api::Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        (problem.status, problem.slug().to_owned(), problem.field)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        self
    }
}

impl App {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Over an engine of the test's own.
    pub(crate) fn over(log: Arc<dyn Log>) -> Self {
        Self::with_log(log, |_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut HttpOptions)) -> Self {
        Self::with_log(Arc::new(MemoryLog::new()), change)
    }

    fn with_log(log: Arc<dyn Log>, change: impl FnOnce(&mut HttpOptions)) -> Self {
        let clock = Arc::new(SystemClock::new());
        let broker = Broker::open(log, clock.clone(), BrokerOptions::default()).unwrap();
        let mut options = HttpOptions::new(Arc::new(|| "metrics\n".to_owned()), clock);
        change(&mut options);
        let ticking = broker.clone();
        let ticker = tokio::spawn(async move {
            loop {
                let due = ticking.tick().await;
                tokio::time::sleep(due).await;
            }
        });
        Self { router: protocol_http::router(broker, options), drain: Drain::new(), ticker }
    }

    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(self.drain.clone());
        let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Sends a body of a content type (none if empty).
    pub(crate) async fn call(&self, method: &str, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, json: Value) -> Answer {
        self.call("POST", path, "application/json", json.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, json: Value) -> Answer {
        self.call("PUT", path, "application/json", json.to_string()).await
    }

    /// Receives one message from a queue.
    pub(crate) async fn receive(&self, queue: &str) -> api::Delivery {
        let answer =
            self.post(&format!("/v1/default/queues/{queue}/receive"), serde_json::json!({"wait_ms": 5000})).await.ok();
        let answer: api::ReceiveAnswer = serde_json::from_slice(&answer.body).unwrap();
        answer.deliveries.into_iter().next().unwrap()
    }
}
