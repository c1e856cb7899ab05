//! What all handlers share: the broker, the options, and the bounds on waiting.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use broker::Broker;
use net::Drain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::{Clock, Timestamp};

use crate::limits::{PING_INTERVAL, SILENCE, WRITE_TIMEOUT};
use crate::problem::Failure;

/// How the HTTP listener behaves.
#[derive(Clone)]
pub struct HttpOptions {
    /// Renders the metrics page, in Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// For delays and times to live, which requests give from now on.
    pub clock: Arc<dyn Clock>,
    /// Largest body that is one message's body as it is, in bytes. The namespace and the topic may allow less.
    pub max_body_bytes: usize,
    /// Largest body that holds messages in an envelope or a batch, in bytes.
    pub max_batch_bytes: usize,
    /// Most requests that wait for messages or answers at a time.
    pub max_waits: usize,
    /// Most event streams and WebSockets at a time.
    pub max_streams: usize,
    /// When a WebSocket is given up.
    pub websocket: WebSocketTimes,
}

/// When a WebSocket is given up: see [`limits`](crate::limits) for the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketTimes {
    /// How long a client may take to read one frame.
    pub write: Duration,
    /// How often it is pinged.
    pub ping: Duration,
    /// How long it may send nothing, not even a pong.
    pub silence: Duration,
}

impl Default for WebSocketTimes {
    fn default() -> Self {
        Self { write: WRITE_TIMEOUT, ping: PING_INTERVAL, silence: SILENCE }
    }
}

impl HttpOptions {
    /// The defaults, with these metrics and this clock.
    #[must_use]
    pub fn new(metrics: Arc<dyn Fn() -> String + Send + Sync>, clock: Arc<dyn Clock>) -> Self {
        Self {
            metrics,
            clock,
            max_body_bytes: types::limits::DEFAULT_MAX_BODY_BYTES,
            max_batch_bytes: 48 * 1024 * 1024,
            max_waits: 10_000,
            max_streams: 10_000,
            websocket: WebSocketTimes::default(),
        }
    }
}

/// The state of the router.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) broker: Broker,
    pub(crate) options: Arc<HttpOptions>,
    waits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(broker: Broker, options: HttpOptions) -> Self {
        let (waits, streams) = (Semaphore::new(options.max_waits), Semaphore::new(options.max_streams));
        Self { broker, options: Arc::new(options), waits: Arc::new(waits), streams: Arc::new(streams) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now().wall
    }

    /// Runs what may wait up to `wait`, within the bound on waiting requests; `None` if the drain begins first.
    pub(crate) async fn waiting<T>(
        &self,
        drain: &Draining,
        wait: Duration,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        if wait.is_zero() {
            return Ok(Some(work.await));
        }
        let _permit = self.waits.try_acquire().map_err(|_| busy("requests that wait", "max_waits"))?;
        tokio::select! {
            // What is done already is not thrown away for a drain.
            biased;
            done = work => Ok(Some(done)),
            () = drain.0.begun() => Ok(None),
        }
    }

    /// Room for one more event stream or WebSocket.
    pub(crate) fn stream(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| busy("event streams and WebSockets", "max_streams"))
    }
}

fn busy(what: &str, limit: &str) -> Failure {
    Failure::new(503, "too-many-waiting", format!("there are too many {what} ({limit}); try again shortly"))
        .limit(limit)
        .retry_after(Duration::from_secs(1))
}

/// The drain of the listener that the request came in by; one that never begins if there is none, as in tests.
#[derive(Clone)]
pub(crate) struct Draining(pub(crate) Drain);

impl<S: Sync> FromRequestParts<S> for Draining {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Drain>().cloned().unwrap_or_default()))
    }
}
