//! A standing consumer: one stream for deliveries, credit and settlements, made again when it was lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::grpc as g;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use types::Timestamp;

use super::core::{Core, target};
use super::fault::Fault;
use super::settling::{Do, Table, frame};
use crate::transport::{
    Consume, Consumer, Delivery, Destination, Outgoing, PublishError, Settle, Settler, TransportError,
};

/// Requests that wait for the connection to take them.
const OUTBOUND_FRAMES: usize = 4;
/// Extensions of leases that may wait, besides twice the credit.
const WAITING_EXTENSIONS: usize = 1024;
/// How long a lost consumer may be kept waiting at its end for the results of what it settled.
const END_TIMEOUT: Duration = Duration::from_secs(5);

type Batch = Result<Vec<Delivery>, TransportError>;

/// What the consumer, its settlers and its task share.
struct Shared {
    core: Arc<Core>,
    table: Mutex<State>,
    /// Something is to be told to the broker.
    news: Notify,
    /// Of so many ends that were given, the broker has told what became of them, or never will.
    done: watch::Sender<u64>,
    /// Nobody has the consumer or a settler any more.
    gone: CancellationToken,
    most_waiting: usize,
}

struct State {
    table: Table,
    is_stopped: bool,
    /// Most of it was told already.
    told: u64,
}

/// Starts a standing consumer. Ready when the broker knows it.
pub(super) async fn consume(core: &Arc<Core>, consume: Consume) -> Result<Box<dyn Consumer>, TransportError> {
    if consume.credit == 0 {
        return Err(TransportError::Invalid(
            "a consumer without credit gets nothing; `credit` is at least 1".to_owned(),
        ));
    }
    let shared = Arc::new(Shared {
        core: Arc::clone(core),
        table: Mutex::new(State { table: Table::new(), is_stopped: false, told: 0 }),
        news: Notify::new(),
        done: watch::Sender::new(0),
        gone: CancellationToken::new(),
        most_waiting: consume.credit as usize * 2 + WAITING_EXTENSIONS,
    });
    // Each batch has a delivery at least, so that there is always room for what the credit allows, and for an error at the end.
    let (deliveries, batches) = mpsc::channel(consume.credit as usize + 1);
    let (first, begun) = oneshot::channel();
    let handle = Arc::new(Handle { shared: Arc::clone(&shared) });
    let task = Task { shared, consume, deliveries, first: Some(first) };
    core.tasks.spawn(task.run());
    begun.await.unwrap_or(Err(TransportError::Closed))?;
    Ok(Box::new(Standing { batches, handle, is_stopped: false }))
}

struct Standing {
    batches: mpsc::Receiver<Batch>,
    handle: Arc<Handle>,
    is_stopped: bool,
}

impl Consumer for Standing {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Delivery>>, TransportError>> {
        Box::pin(async {
            while !self.is_stopped {
                let Some(batch) = self.batches.recv().await else { return Err(TransportError::Closed) };
                let batch = batch?;
                let first = batch.first().map_or(0, |delivery| delivery.tag);
                // Those of a lost connection come again on the next one.
                if self.handle.shared.table.lock().table.is_present(first) {
                    return Ok(Some(batch));
                }
            }
            Ok(None)
        })
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::clone(&self.handle) as Arc<dyn Settler>
    }

    fn stop(&mut self) {
        self.is_stopped = true;
        let shared = &self.handle.shared;
        let mut state = shared.table.lock();
        state.is_stopped = true;
        self.batches.close();
        while let Ok(batch) = self.batches.try_recv() {
            for delivery in batch.unwrap_or_default() {
                state.table.settle(delivery.tag, Settle::Release);
            }
        }
        drop(state);
        shared.news.notify_one();
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if !self.is_stopped {
            self.stop();
        }
    }
}

/// Held by the consumer and each settler; the last one that goes ends the stream.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.gone.cancel();
    }
}

impl Settler for Handle {
    fn settle(&self, settlements: Vec<(u64, Settle)>) {
        let mut state = self.shared.table.lock();
        for (tag, settle) in settlements {
            state.table.settle(tag, settle);
        }
        drop(state);
        self.shared.news.notify_one();
    }

    fn ack_and_publish(&self, tag: u64, messages: Vec<Outgoing>) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(self.shared.ack_and_publish(tag, messages))
    }

    fn extend(&self, tag: u64, by: Duration) {
        self.shared.table.lock().table.extend(tag, by, self.shared.most_waiting);
        self.shared.news.notify_one();
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let given = self.shared.table.lock().table.given;
            let mut done = self.shared.done.subscribe();
            tokio::select! {
                _ = done.wait_for(|done| *done >= given) => {}
                () = self.shared.gone.cancelled() => {}
            }
        })
    }
}

impl Shared {
    async fn ack_and_publish(&self, tag: u64, messages: Vec<Outgoing>) -> Result<(), PublishError> {
        if self.core.closing.is_cancelled() {
            return Err(PublishError::Closed);
        }
        let receipt = self.table.lock().table.receipt(tag).map(str::to_owned).ok_or(PublishError::LeaseLost)?;
        let namespace = self.core.namespace.clone();
        let request = g::AckAndPublishRequest { namespace, receipt, publishes: grouped(messages) };
        let since = Instant::now();
        let mut client = self.core.publisher();
        let limit = self.core.options.confirm_timeout;
        let fault = match tokio::time::timeout(limit, client.ack_and_publish(request)).await {
            Ok(Ok(_)) => {
                self.free(tag, Settle::Ack);
                return Ok(());
            }
            Ok(Err(status)) => Fault::of_status(&status),
            Err(_) => Fault::lost("no answer came in time"),
        };
        let error = fault.into_publish(since.elapsed());
        if error == PublishError::LeaseLost {
            self.free(tag, Settle::Release);
        }
        Err(error)
    }

    /// Gives back the place of a delivery whose end the broker knows already.
    fn free(&self, tag: u64, how: Settle) {
        self.table.lock().table.settle(tag, how);
        self.news.notify_one();
    }
}

/// Messages by where they go, in order.
fn grouped(messages: Vec<Outgoing>) -> Vec<g::PublishTo> {
    let mut groups: Vec<g::PublishTo> = Vec::new();
    let mut before: Option<Destination> = None;
    for Outgoing { to, message } in messages {
        match groups.last_mut() {
            Some(group) if before.as_ref() == Some(&to) => group.messages.push(message.into()),
            _ => groups.push(g::PublishTo { to: Some(target(&to)), messages: vec![message.into()] }),
        }
        before = Some(to);
    }
    groups
}

/// How a stream ended.
enum Over {
    Lost(Fault),
    /// Nobody needs it any more.
    Done,
}

struct Task {
    shared: Arc<Shared>,
    consume: Consume,
    deliveries: mpsc::Sender<Batch>,
    first: Option<oneshot::Sender<Result<(), TransportError>>>,
}

impl Task {
    async fn run(mut self) {
        let mut pace = self.shared.core.pace();
        let give_up_at = Instant::now() + self.shared.core.options.connect_timeout;
        loop {
            let over = match self.open().await {
                Ok((requests, answers, limits)) => {
                    pace.reset();
                    if let Some(first) = self.first.take() {
                        first.send(Ok(())).ok();
                    }
                    let stream = Stream::new(&self.shared, &self.consume, &self.deliveries, requests, answers, limits);
                    stream.run().await
                }
                Err(error) => error,
            };
            self.reset();
            let Over::Lost(fault) = over else { break };
            tracing::debug!(queue = %self.consume.queue, why = fault.detail(), "the consumer's stream is lost");
            let is_late = self.first.is_some() && Instant::now() >= give_up_at;
            if !fault.heals() || is_late {
                self.fail(fault.into_transport(&format!("queue {:?}", self.consume.queue), &self.shared.core.address));
                return;
            }
            let is_idle = self.shared.gone.is_cancelled() || self.shared.table.lock().is_stopped;
            if is_idle || !self.shared.core.pause(&mut pace).await {
                break;
            }
        }
        if self.shared.core.closing.is_cancelled() {
            self.fail(TransportError::Closed);
        }
    }

    fn fail(&mut self, error: TransportError) {
        match self.first.take() {
            Some(first) => drop(first.send(Err(error))),
            None => drop(self.deliveries.try_send(Err(error))),
        }
    }

    /// Nothing of the stream before can be settled any more.
    fn reset(&self) {
        let mut state = self.shared.table.lock();
        state.table.reset();
        let (passed_over, given) = (state.table.passed_over, state.table.given);
        if passed_over > state.told {
            let count = passed_over - state.told;
            tracing::info!(queue = %self.consume.queue, count, "deliveries of a lost connection could not be settled; they come again");
            state.told = passed_over;
        }
        drop(state);
        self.shared.done.send_replace(given);
    }

    async fn open(
        &self,
    ) -> Result<(mpsc::Sender<g::ConsumeRequest>, Streaming<g::ConsumeResponse>, g::StreamLimits), Over> {
        let core = &self.shared.core;
        let (requests, waiting) = mpsc::channel(OUTBOUND_FRAMES);
        let open = g::ConsumeOpen {
            namespace: core.namespace.clone(),
            queue: self.consume.queue.clone(),
            name: self.consume.name.clone(),
            lease_ms: self.consume.lease.map(|lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).max(1)),
            receipts: true,
            ..g::ConsumeOpen::default()
        };
        let credit_messages = self.consume.credit;
        let first = g::ConsumeRequest { open: Some(open), credit_messages, ..g::ConsumeRequest::default() };
        requests.try_send(first).ok();
        let mut client = core.consumer();
        let opening = async move {
            let mut answers = client.consume(ReceiverStream::new(waiting)).await?.into_inner();
            let opened = answers.message().await?;
            Ok::<_, tonic::Status>((answers, opened))
        };
        let opened = tokio::select! {
            opened = opening => opened,
            () = core.closing.cancelled() => return Err(Over::Done),
            () = self.shared.gone.cancelled(), if self.first.is_none() => return Err(Over::Done),
        };
        match opened {
            Ok((answers, Some(g::ConsumeResponse { opened: Some(limits), .. }))) => Ok((requests, answers, limits)),
            Ok(_) => Err(Over::Lost(Fault::lost("the broker ended the stream before it began"))),
            Err(status) => Err(Over::Lost(Fault::of_status(&status))),
        }
    }
}

/// A consumer's stream while it lasts.
struct Stream<'a> {
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
    fn new(
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

    async fn run(mut self) -> Over {
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
