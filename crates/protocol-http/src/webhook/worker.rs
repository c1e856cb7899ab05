//! One queue's push consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::queue::{ConsumerRules, Credit};
use broker::views::Delivered;
use broker::{ConsumeError, Consumer, ConsumerOptions, Session};
use reqwest::{Client, Response};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::Clock;

use super::endpoint::Endpoint;
use super::limits::{ANSWER_BODY_TIMEOUT, MAX_ANSWER_BODY_BYTES, MAX_TAKEN_BYTES, SETTLE_MARGIN, WORKER_RETRY};
use super::metrics::PushMetrics;
use super::request::{Place, make};
use super::verdict::Verdict;

/// What every request of a worker needs.
pub(super) struct Worker {
    pub(super) session: Session,
    pub(super) place: Place,
    pub(super) endpoint: Endpoint,
    pub(super) client: Client,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<PushMetrics>,
    /// Whether the last request failed: the log tells of changes, not of every failure.
    pub(super) failing: AtomicBool,
}

/// What a worker does next.
enum Step {
    Stop,
    /// A request has ended, and the endpoint may have asked for a pause.
    Ended(Option<Duration>),
    Resume,
    Taken(Result<Vec<Delivered>, ConsumeError>),
}

impl Worker {
    /// Sends what the queue has, until it is stopped or the queue is gone. What is under way then is finished; dropping the future puts
    /// it back into the queue instead.
    pub(super) async fn run(self, stop: CancellationToken) {
        let worker = Arc::new(self);
        loop {
            let Some(consumer) = worker.attach(&stop).await else { return };
            match worker.consume(consumer, &stop).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(queue = %worker.place.queue, %error, "a webhook's queue cannot be read; trying again");
                    if stop.run_until_cancelled(tokio::time::sleep(WORKER_RETRY)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// `None` once the queue is gone or the worker is stopped.
    async fn attach(&self, stop: &CancellationToken) -> Option<Consumer> {
        let rules = ConsumerRules {
            exclusive: false,
            priority: 0,
            // Longer than any request, so that no lease runs out under one.
            lease: Some(self.endpoint.timeout.saturating_add(SETTLE_MARGIN)),
            auto_ack: false,
        };
        let options = ConsumerOptions { name: format!("webhook to {}", self.endpoint.origin), rules };
        let mut told = false;
        loop {
            match self.session.consume(&self.place.queue, options.clone()) {
                Ok(consumer) => return Some(consumer),
                Err(ConsumeError::NotFound { .. } | ConsumeError::Deleted(_)) => return None,
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(queue = %self.place.queue, %error, "a webhook's queue cannot be consumed; trying again");
                }
                Err(_) => {}
            }
            stop.run_until_cancelled(tokio::time::sleep(WORKER_RETRY)).await?;
        }
    }

    /// # Errors
    /// If the queue could not be read.
    async fn consume(self: &Arc<Self>, mut consumer: Consumer, stop: &CancellationToken) -> Result<(), ConsumeError> {
        // Declared after the consumer, and so dropped before it: requests end before their messages go back.
        let mut requests: JoinSet<Option<Duration>> = JoinSet::new();
        let mut paused_until: Option<Instant> = None;
        let end = loop {
            let free = self.endpoint.concurrency.saturating_sub(requests.len());
            let takes = free > 0 && paused_until.is_none();
            if !takes {
                consumer.pause();
            }
            let credit = Credit { messages: free, bytes: MAX_TAKEN_BYTES };
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => Step::Stop,
                Some(ended) = requests.join_next(), if !requests.is_empty() => Step::Ended(self.ended(ended)),
                () = resume(paused_until), if paused_until.is_some() => Step::Resume,
                taken = consumer.next(credit), if takes => Step::Taken(taken),
            };
            match step {
                Step::Stop => break Ok(()),
                Step::Ended(None) => {}
                Step::Ended(Some(pause)) => {
                    let until = Instant::now() + pause;
                    paused_until = Some(paused_until.map_or(until, |before| before.max(until)));
                }
                Step::Resume => paused_until = None,
                Step::Taken(Ok(taken)) => {
                    for delivered in taken {
                        requests.spawn(Arc::clone(self).push(delivered));
                    }
                }
                Step::Taken(Err(ConsumeError::Deleted(_))) => break Ok(()),
                Step::Taken(Err(error)) => break Err(error),
            }
        };
        consumer.pause();
        while let Some(ended) = requests.join_next().await {
            self.ended(ended);
        }
        end
    }

    fn ended(&self, ended: Result<Option<Duration>, tokio::task::JoinError>) -> Option<Duration> {
        match ended {
            Ok(Some(pause)) => {
                self.metrics.count_pause();
                tracing::info!(queue = %self.place.queue, endpoint = %self.endpoint.origin, pause_ms = pause.as_millis(), "an endpoint asks for a pause");
                Some(pause)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::error!(queue = %self.place.queue, %error, "a webhook's request ended unexpectedly; its message comes again when its lease ends");
                None
            }
        }
    }

    /// Sends one message and ends its delivery; gives how long the endpoint wants nothing more.
    async fn push(self: Arc<Self>, delivered: Delivered) -> Option<Duration> {
        let _counted = self.metrics.begin();
        let (verdict, answer) = self.send(&delivered).await;
        self.tell(&verdict, delivered.attempt);
        let settled = self.session.settle(vec![(delivered.receipt, verdict.settle())]).await;
        if let Some(Err(error)) = settled.into_iter().next() {
            tracing::warn!(queue = %self.place.queue, %error, "a webhook's delivery could not be ended; its message comes again");
        }
        if let Some(answer) = answer {
            discard(answer).await;
        }
        verdict.pause()
    }

    async fn send(&self, delivered: &Delivered) -> (Verdict, Option<Response>) {
        let url = match &self.endpoint.target {
            Ok(url) => url.clone(),
            Err(refused) => return (Verdict::failed(refused), None),
        };
        let (headers, body) = make(&self.endpoint, &self.place, delivered, self.clock.now().wall);
        let request = self.client.post(url).headers(headers).body(body).timeout(self.endpoint.timeout);
        match request.send().await {
            Ok(answer) => {
                let now = self.clock.now().wall;
                (Verdict::of_answer(answer.status(), answer.headers(), now), Some(answer))
            }
            Err(error) => (Verdict::of_error(&error, self.endpoint.timeout), None),
        }
    }

    fn tell(&self, verdict: &Verdict, attempt: u32) {
        let (queue, endpoint) = (&self.place.queue, &self.endpoint.origin);
        match verdict.error() {
            None => {
                self.metrics.count_ok();
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(%queue, %endpoint, "a webhook's endpoint takes messages again");
                }
            }
            Some(error) => {
                self.metrics.count_failed();
                if self.failing.swap(true, Ordering::Relaxed) {
                    tracing::debug!(%queue, %endpoint, attempt, error, "a webhook's request failed");
                } else {
                    tracing::warn!(%queue, %endpoint, attempt, error, "a webhook's request failed; further failures in a row are logged at debug level");
                }
            }
        }
    }
}

async fn resume(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Reads an answer's body to its end, within bounds, so that its connection can be used again. Nobody sees it: what an endpoint says
/// must not become a way to read what only the broker can reach.
async fn discard(mut answer: Response) {
    let read = async {
        let mut left = MAX_ANSWER_BODY_BYTES;
        while let Ok(Some(chunk)) = answer.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // A slow body costs its connection, no more.
    let _ = tokio::time::timeout(ANSWER_BODY_TIMEOUT, read).await;
}
