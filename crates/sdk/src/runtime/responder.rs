//! Answers questions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::context::FutureExt as _;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use types::Text;

use super::HandlerFn;
use super::consumer::{log_failure, outcome};
use crate::client::Client;
use crate::context::Place;
use crate::reaction::Reaction;
use crate::telemetry::{Processing, Source};
use crate::transport::{Listener, TransportError};
use crate::{Context, Envelope, Error, headers};

/// Questions that are worked on, by correlation id: what a cancellation looks for.
pub(crate) type Cancels = Arc<Mutex<HashMap<String, CancellationToken>>>;

/// Answers the questions of one subject.
pub(crate) struct ResponderTask {
    pub(crate) client: Client,
    pub(crate) place: Arc<Place>,
    pub(crate) handler: HandlerFn,
    /// Questions at a time.
    pub(crate) concurrency: usize,
    /// Time for one question that names no deadline.
    pub(crate) timeout: Duration,
    pub(crate) cancels: Cancels,
    pub(crate) stop: CancellationToken,
    pub(crate) cancel: CancellationToken,
}

impl ResponderTask {
    /// Begins to listen.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub(crate) async fn listen(&self) -> Result<Box<dyn Listener>, TransportError> {
        self.client.transport().listen(&self.place.source, Some(&self.place.service)).await
    }

    /// Answers until it is stopped, and finishes what it is at then.
    pub(crate) async fn run(self, mut listener: Box<dyn Listener>) {
        let room = Arc::new(tokio::sync::Semaphore::new(self.concurrency));
        let tracker = TaskTracker::new();
        let this = Arc::new(self);
        loop {
            let question = tokio::select! {
                biased;
                () = this.stop.cancelled() => break,
                question = listener.next() => question,
            };
            let Some(question) = question else { break };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
            let this = Arc::clone(&this);
            tracker.spawn(async move {
                this.answer(question).await;
                drop(permit);
            });
        }
        drop(listener);
        tracker.close();
        tracker.wait().await;
    }

    async fn answer(&self, question: Envelope) {
        let transport = self.client.transport();
        let now = transport.now();
        let limit = question.expires_at.map_or(self.timeout, |at| at.since(now));
        if limit.is_zero() {
            return;
        }
        let (reply_to, correlation_id) = (question.reply_to.clone(), question.correlation_id.clone());
        let cancelled = self.cancel.child_token();
        let key = correlation_id.as_ref().map(ToString::to_string);
        if let Some(key) = &key {
            self.cancels.lock().insert(key.clone(), cancelled.clone());
        }
        let context =
            Context::new(question, self.client.clone(), Arc::clone(&self.place), (1, false), cancelled.clone());
        let source = Source::Live { pattern: &self.place.source, group: Some(&self.place.service) };
        let watch = self.client.telemetry().processing(context.envelope(), &source);
        let (trace, span) = (watch.context().clone(), watch.log_span(&self.place.source, context.envelope()));
        let answering = async {
            let outcome = tokio::select! {
                outcome = outcome((self.handler)(context.clone()), limit) => outcome,
                // Nobody waits for it; dropped, the span says so.
                () = cancelled.cancelled() => return,
            };
            if let Some(key) = &key {
                self.cancels.lock().remove(key);
            }
            self.send(&context, reply_to, correlation_id, outcome, watch).await;
        };
        answering.instrument(span).with_context(trace).await;
        if let Some(key) = &key {
            self.cancels.lock().remove(key);
        }
    }

    async fn send(
        &self,
        context: &Context,
        reply_to: Option<Text>,
        correlation_id: Option<Text>,
        outcome: Result<Reaction, Error>,
        watch: Processing,
    ) {
        let transport = self.client.transport();
        watch.finish(&outcome);
        let answer = match outcome {
            Ok(reaction) => match super::publish_all(&self.client, reaction.publishes).await {
                Ok(()) => reaction.answer.unwrap_or_default(),
                Err(error) => failure(&format!("what followed was not published: {error}"), false),
            },
            Err(error) => {
                log_failure(context, &error, Some(1));
                failure(&error.to_string(), error.is_terminal())
            }
        };
        let Some(reply_to) = reply_to else { return };
        let mut answer =
            context.following(crate::transport::Outgoing { to: crate::transport::Destination::Live, message: answer });
        answer.message.correlation_id = correlation_id;
        answer.message.durable = false;
        let watch = self.client.telemetry().answering(&mut answer.message);
        let answered = transport.answer(&reply_to, answer.message).await;
        watch.finish(&answered);
        if let Err(error) = answered {
            tracing::warn!(handler = %self.place.handler, %error, "an answer was not sent");
        }
    }
}

fn failure(error: &str, terminal: bool) -> Envelope {
    let mut answer = Envelope::new("", "");
    headers::set(&mut answer, headers::REPLY_ERROR, Text::from(error));
    let kind = if terminal { "terminal" } else { "transient" };
    headers::set(&mut answer, headers::REPLY_ERROR_KIND, Text::from_static(kind));
    answer
}

/// Ends work on questions that nobody waits for any more.
pub(crate) struct CancelTask {
    pub(crate) client: Client,
    pub(crate) cancels: Cancels,
    pub(crate) stop: CancellationToken,
}

impl CancelTask {
    /// Begins to listen.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub(crate) async fn listen(&self) -> Result<Box<dyn Listener>, TransportError> {
        self.client.transport().listen(crate::client::CANCEL_SUBJECT, None).await
    }

    /// Hears cancellations until it is stopped.
    pub(crate) async fn run(self, mut listener: Box<dyn Listener>) {
        loop {
            let message = tokio::select! {
                message = listener.next() => message,
                () = self.stop.cancelled() => return,
            };
            let Some(message) = message else { return };
            let Some(id) = message.correlation_id.as_deref() else { continue };
            if let Some(work) = self.cancels.lock().get(id) {
                work.cancel();
            }
        }
    }
}
