//! One stream of a consumer, for as long as it lasts.

use std::collections::VecDeque;
use std::time::Duration;

use api::grpc as g;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;
use types::Timestamp;

use super::super::fault::Fault;
use super::super::settling::{Do, frame};
use super::task::Over;
use super::{Batch, Shared};
use crate::transport::{Consume, Delivery, Settle};

/// How long the end of a stream may take, once everything was settled that will be.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A consumer's stream while it lasts.
pub(super) struct Stream<'a> {
    shared: &'a Shared,
    deliveries: &'a mpsc::Sender<Batch>,
    requests: Option<mpsc::Sender<g::ConsumeRequest>>,
    answers: Streaming<g::ConsumeResponse>,
    most: usize,
    queue: &'a str,
    /// What waits to go out, and how many ends were given when it was taken.
    waiting: Vec<(u64, Do)>,
    given: u64,
    /// Settlements that went out, and what the count of ends was then.
    sent: u64,
    out: VecDeque<(u64, u64)>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        consume: &'a Consume,
        deliveries: &'a mpsc::Sender<Batch>,
        requests: mpsc::Sender<g::ConsumeRequest>,
        answers: Streaming<g::ConsumeResponse>,
        limits: g::StreamLimits,
    ) -> Self {
        let most = (limits.max_frame_messages as usize).max(1);
        let (queue, requests) = (consume.queue.as_str(), Some(requests));
        let (waiting, out) = (Vec::new(), VecDeque::new());
        Self { shared, deliveries, requests, answers, most, queue, waiting, given: 0, sent: 0, out }
    }

    pub(super) async fn run(mut self) -> Over {
        let mut end_by = None;
        loop {
            let is_done = self.pull();
            let is_ending = self.shared.gone.is_cancelled() || self.shared.core.closing.is_cancelled() || is_done;
            if is_ending && self.waiting.is_empty() && self.requests.take().is_some() {
                // The broker tells what became of the settlements, and ends its half then.
                end_by = Some(Instant::now() + END_TIMEOUT);
            }
            let requests = self.requests.clone();
            tokio::select! {
                biased;
                answer = self.answers.message() => match answer {
                    Ok(Some(answer)) => self.take(answer),
                    Ok(None) if self.requests.is_none() => return Over::Done,
                    Ok(None) => return Over::Lost(Fault::lost("the broker ended the consumer's stream")),
                    Err(_) if self.requests.is_none() => return Over::Done,
                    Err(status) => return Over::Lost(Fault::of_status(&status)),
                },
                room = reserve(requests.as_ref()), if !self.waiting.is_empty() => match room {
                    Some(room) => room.send(self.frame()),
                    // The stream itself says why.
                    None => self.waiting.clear(),
                },
                () = self.shared.news.notified() => {}
                () = self.shared.gone.cancelled(), if !is_ending => {}
                () = self.shared.core.closing.cancelled(), if !is_ending => {}
                () = until(end_by) => return Over::Done,
            }
        }
    }

    /// Takes what was settled; whether nothing more can come and nothing is out.
    fn pull(&mut self) -> bool {
        let mut state = self.shared.table.lock();
        let more = state.table.take_waiting();
        self.given = state.table.given;
        let is_done = state.is_stopped && state.table.out() == 0;
        let has_out = !self.waiting.is_empty() || !self.out.is_empty();
        drop(state);
        if self.waiting.is_empty() {
            self.waiting = more;
        } else {
            self.waiting.extend(more);
        }
        if self.waiting.is_empty() && !has_out {
            // Everything that was given was passed over.
            self.done(self.given);
        }
        is_done
    }

    fn done(&self, given: u64) {
        self.shared.done.send_if_modified(|done| std::mem::replace(done, given) != given);
    }

    /// What waits, as one frame.
    fn frame(&mut self) -> g::ConsumeRequest {
        let (settlements, ended) = frame(&mut self.waiting, self.most);
        self.sent += settlements.len() as u64;
        if self.waiting.is_empty() {
            self.out.push_back((self.sent, self.given));
        }
        // A stopped consumer wants no more than it was promised.
        let credit_messages = if self.shared.table.lock().is_stopped { 0 } else { ended };
        g::ConsumeRequest { credit_messages, settlements, ..g::ConsumeRequest::default() }
    }

    fn take(&mut self, answer: g::ConsumeResponse) {
        if let Some(failure) = answer.failures.first() {
            let why = failure.problem.as_ref().map_or("", |problem| problem.detail.as_str());
            tracing::debug!(
                queue = self.queue,
                count = answer.failures.len(),
                why,
                "deliveries could not be settled; they come again"
            );
        }
        while let Some((settlements, given)) = self.out.front().copied().filter(|(count, _)| *count <= answer.settled) {
            self.out.pop_front();
            tracing::trace!(settlements, given, "settled");
            self.done(given);
        }
        if !answer.deliveries.is_empty() {
            self.deliver(answer.deliveries);
        }
    }

    fn deliver(&mut self, deliveries: Vec<g::Delivery>) {
        let mut batch = Vec::with_capacity(deliveries.len());
        let mut state = self.shared.table.lock();
        for delivery in deliveries {
            let tag = state.table.push(delivery.receipt);
            // The broker gives out nothing that does not make sense; what did would be released, not lost.
            match delivery.message.unwrap_or_default().into_message(Timestamp(0)) {
                Ok(message) => {
                    batch.push(Delivery { tag, message, attempt: delivery.attempt, redelivered: delivery.redelivered })
                }
                Err(_) => state.table.settle(tag, Settle::Release),
            }
        }
        if state.is_stopped {
            batch.into_iter().for_each(|delivery| state.table.settle(delivery.tag, Settle::Release));
            return;
        }
        // Under the lock, so that a stop sees it. There is room for all that the credit allows.
        if let Err(mpsc::error::TrySendError::Full(Ok(batch)) | mpsc::error::TrySendError::Closed(Ok(batch))) =
            self.deliveries.try_send(Ok(batch))
        {
            batch.into_iter().for_each(|delivery| state.table.settle(delivery.tag, Settle::Release));
        }
    }
}

async fn reserve(requests: Option<&mpsc::Sender<g::ConsumeRequest>>) -> Option<mpsc::Permit<'_, g::ConsumeRequest>> {
    requests?.reserve().await.ok()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
