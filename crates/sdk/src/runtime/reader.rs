//! Reads a topic's log with handlers, in order, and remembers how far it came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use opentelemetry::context::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::HandlerFn;
use super::consumer::{log_failure, outcome};
use super::outcome::{MAX_ATTEMPTS, TERMINAL, give_up};
use crate::backoff::{Backoff, Pace};
use crate::client::Client;
use crate::context::Place;
use crate::error::Kind;
use crate::telemetry::Source;
use crate::transport::{Destination, Outgoing, Position, Reader, Record, RetrySpec, StartAt, TransportError};
use crate::{Context, Error, headers};

/// Records after which the position is committed even if more follow at once.
const COMMIT_EVERY: usize = 256;
/// The pauses between attempts to read again.
const REREAD: Backoff = Backoff { initial: Duration::from_millis(200), cap: Duration::from_secs(30) };

/// What handles the messages of one name; of all names if there is none.
pub(crate) struct Route {
    pub(crate) name: Option<&'static str>,
    pub(crate) handler: HandlerFn,
}

/// Looks up the position of a reading that is not kept by the broker.
pub(crate) type Positions = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<Position>, String>> + Send + Sync>;

/// Reads one topic for one purpose.
pub(crate) struct ReaderTask {
    pub(crate) client: Client,
    pub(crate) place: Arc<Place>,
    pub(crate) topic: String,
    /// Under which its position is kept by the broker; without one each start begins at `from`.
    pub(crate) checkpoint: Option<String>,
    pub(crate) from: StartAt,
    pub(crate) routes: Vec<Route>,
    pub(crate) retry: RetrySpec,
    pub(crate) timeout: Duration,
    /// Where its position is kept instead, by the handlers.
    pub(crate) kept: Option<Positions>,
    /// Where records go that are given up.
    pub(crate) dead_letter_queue: String,
    pub(crate) stop: CancellationToken,
    pub(crate) cancel: CancellationToken,
}

impl ReaderTask {
    /// Opens the log where the reading goes on.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub(crate) async fn open(&self) -> Result<Box<dyn Reader>, TransportError> {
        let transport = self.client.transport();
        let mut from = self.from.clone();
        if let Some(positions) = &self.kept {
            let unavailable =
                |why| TransportError::Unavailable { address: "the checkpoint's database".to_owned(), why };
            let kept = positions().await.map_err(unavailable)?;
            if !kept.is_empty() {
                from = StartAt::Positions(kept);
            }
        }
        if let Some(name) = &self.checkpoint {
            let committed = transport.committed(&self.topic, name).await?;
            if !committed.is_empty() {
                from = StartAt::Positions(committed);
            }
        }
        transport.read(&self.topic, from, true).await
    }

    /// Reads until it is stopped.
    pub(crate) async fn run(self, mut reader: Box<dyn Reader>) {
        let mut pace = Pace::new(REREAD);
        loop {
            match self.read(&mut *reader).await {
                Ok(()) => return,
                Err(TransportError::Closed) => return,
                Err(error) => {
                    tracing::warn!(topic = %self.topic, handler = %self.place.handler, %error, "cannot read on; trying again");
                }
            }
            loop {
                tokio::select! {
                    () = self.client.transport().sleep(pace.next()) => {}
                    () = self.stop.cancelled() => return,
                }
                if let Ok(again) = self.open().await {
                    pace.reset();
                    reader = again;
                    break;
                }
            }
        }
    }

    async fn read(&self, reader: &mut dyn Reader) -> Result<(), TransportError> {
        loop {
            let records = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                records = reader.next() => records?,
            };
            let Some(records) = records else { return Ok(()) };
            for records in records.chunks(COMMIT_EVERY) {
                let mut next = BTreeMap::new();
                let mut stopped = false;
                for record in records {
                    if !self.handle(record).await {
                        stopped = true;
                        break;
                    }
                    next.insert(record.position.partition, record.position.offset + 1);
                }
                self.commit(next).await?;
                if stopped {
                    return Ok(());
                }
            }
        }
    }

    async fn commit(&self, next: BTreeMap<u32, u64>) -> Result<(), TransportError> {
        let Some(name) = self.checkpoint.as_ref().filter(|_| !next.is_empty()) else { return Ok(()) };
        let next = next.into_iter().map(|(partition, offset)| Position { partition, offset }).collect();
        self.client.transport().commit(&self.topic, name, next).await
    }

    /// Handles a record, however often that takes; false if the service stops first. A log has an order: what comes after a record waits for it.
    async fn handle(&self, record: &Record) -> bool {
        let name = headers::text(&record.message, headers::MESSAGE)
            .or_else(|| std::str::from_utf8(&record.message.subject).ok())
            .unwrap_or_default();
        for route in self.routes.iter().filter(|route| route.name.is_none_or(|wanted| wanted == name)) {
            if !self.handle_with(route, record).await {
                return false;
            }
        }
        true
    }

    async fn handle_with(&self, route: &Route, record: &Record) -> bool {
        let transport = self.client.transport();
        let mut attempt = 0u32;
        loop {
            attempt = attempt.saturating_add(1);
            let place = Arc::clone(&self.place);
            let cancelled = self.cancel.child_token();
            let times = (attempt, attempt > 1);
            let context = Context::new(record.message.clone(), self.client.clone(), place, times, cancelled);
            let _ = context.insert(record.position);
            let source = Source::Log {
                topic: &self.topic,
                partition: record.position.partition,
                group: self.checkpoint.as_deref(),
            };
            let watch = self.client.telemetry().processing(&record.message, &source);
            let (trace, span) = (watch.context().clone(), watch.log_span(&self.topic, &record.message));
            let handling = async {
                match outcome((route.handler)(context.clone()), self.timeout).await {
                    Ok(reaction) => Ok(super::publish_all(&self.client, reaction.publishes).await?),
                    Err(error) => Err(error),
                }
            };
            let handled = tokio::select! {
                handled = handling.instrument(span).with_context(trace) => handled,
                () = self.cancel.cancelled() => return false,
            };
            watch.finish(&handled);
            let Err(error) = handled else { return true };
            log_failure(&context, &error, self.retry.max_attempts);
            let wait = match error.kind() {
                Kind::Terminal => None,
                Kind::Transient { after } => self.retry.draw_wait(attempt, after),
            };
            let Some(wait) = wait else {
                if self.give_up(&context, &error).await {
                    return true;
                }
                continue;
            };
            tokio::select! {
                () = transport.sleep(wait) => {}
                () = self.stop.cancelled() => return false,
            }
        }
    }

    /// Keeps a record that is given up in the dead-letter queue; false if that failed.
    async fn give_up(&self, context: &Context, error: &Error) -> bool {
        let mut message = context.envelope().clone();
        message.not_before = None;
        let reason = if error.is_terminal() { TERMINAL } else { MAX_ATTEMPTS };
        give_up(&mut message, context, reason, &error.to_string());
        let outgoing = Outgoing { to: Destination::Queue(self.dead_letter_queue.clone()), message };
        match super::publish_all(&self.client, vec![outgoing]).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(queue = %self.dead_letter_queue, %error, "a dead letter was not kept; the record is tried again");
                self.client.transport().sleep(Duration::from_secs(1)).await;
                false
            }
        }
    }
}
