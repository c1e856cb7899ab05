//! What all calls share: the broker, the options, and the bounds on waiting.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use net::Drain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Code;
use types::{Clock, Timestamp};

use crate::failure::Failure;

/// How the gRPC listener behaves.
#[derive(Clone)]
pub struct GrpcOptions {
    /// For delays and times to live, which requests give from now on.
    pub clock: Arc<dyn Clock>,
    /// Most calls that wait for messages or answers at a time.
    pub max_waits: usize,
    /// Most streams at a time.
    pub max_streams: usize,
}

impl GrpcOptions {
    /// The defaults, with this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, max_waits: 10_000, max_streams: 10_000 }
    }
}

/// What the services share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) broker: Broker,
    clock: Arc<dyn Clock>,
    waits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(broker: Broker, options: GrpcOptions) -> Self {
        let (waits, streams) = (Semaphore::new(options.max_waits), Semaphore::new(options.max_streams));
        Self { broker, clock: options.clock, waits: Arc::new(waits), streams: Arc::new(streams) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Runs what may wait up to `wait`, within the bound on waiting calls; `None` if the drain begins first.
    pub(crate) async fn waiting<T>(
        &self,
        drain: &Drain,
        wait: Duration,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        if wait.is_zero() {
            return Ok(Some(work.await));
        }
        let _permit = self.waits.try_acquire().map_err(|_| busy("calls that wait", "max_waits"))?;
        tokio::select! {
            // What is done already is not thrown away for a drain.
            biased;
            done = work => Ok(Some(done)),
            () = drain.begun() => Ok(None),
        }
    }

    /// Room for one more stream.
    pub(crate) fn stream(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| busy("streams", "max_streams"))
    }
}

fn busy(what: &str, limit: &str) -> Failure {
    let why = format!("there are too many {what} ({limit}); try again shortly");
    Failure::new(Code::ResourceExhausted, "too-many-waiting", why).limit(limit).retry_after(Duration::from_secs(1))
}

/// The listener drains.
pub(crate) fn stopping() -> Failure {
    Failure::new(Code::Unavailable, "unavailable", "the broker is stopping").retry_after(Duration::from_secs(1))
}
