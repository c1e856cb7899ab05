//! Publishing: one standing stream. What waits goes out in frames of many, each message has its own end, and what was not confirmed when a
//! stream is lost goes out again on the next one, in order and with the same ids.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use api::grpc as g;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::core::{CALL_TIMEOUT, Core};
use super::fault::Fault;
use super::ledger::{Call, End, Ledger, Load};
use crate::backoff::Pace;
use crate::transport::{Connection, Outgoing, PublishError, TransportError};

/// Frames that wait for the connection to take them.
const OUTBOUND_FRAMES: usize = 8;
/// What a message may weigh in its frame besides what it counts.
const FRAMING_BYTES: usize = 64 * 1024;
/// The bound on a frame until the broker has told its own.
const FRAME_BYTES: usize = 24 * 1024 * 1024;

/// What callers share with the task that publishes.
pub(super) struct Publishing {
    inbox: Mutex<Inbox>,
    news: Notify,
    max: Load,
}

struct Inbox {
    calls: Vec<Call>,
    /// Everything that waits for its confirmation, sent or not.
    load: Load,
    is_closed: bool,
    max_message_bytes: usize,
}

impl Publishing {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let max_message_bytes = FRAME_BYTES - FRAMING_BYTES;
        let inbox = Inbox { calls: Vec::new(), load: Load::default(), is_closed: false, max_message_bytes };
        Self { inbox: Mutex::new(inbox), news: Notify::new(), max: Load { messages: max_messages, bytes: max_bytes } }
    }

    /// Publishes messages; one end for each, in order.
    pub(super) async fn publish(&self, core: &Core, messages: Vec<Outgoing>) -> Vec<End> {
        let count = messages.len();
        if count == 0 {
            return Vec::new();
        }
        let all = |error: PublishError| vec![Err(error); count];
        let (ends, refused) = match self.begin(core, messages) {
            Ok(begun) => begun,
            Err(error) => return all(error),
        };
        let Some(ends) = ends else { return refused.into_iter().map(|(_, error)| Err(error)).collect() };
        // Dropped without an answer only when the runtime ends.
        let mut ends = ends.await.unwrap_or_else(|_| all(PublishError::Closed));
        for (at, error) in refused {
            ends.insert(at.min(ends.len()), Err(error));
        }
        ends
    }

    /// Puts messages on their way. What no frame can hold is refused here, by its place.
    #[allow(clippy::type_complexity, reason = "used once, one line above")]
    fn begin(
        &self,
        core: &Core,
        mut messages: Vec<Outgoing>,
    ) -> Result<(Option<oneshot::Receiver<Vec<End>>>, Vec<(usize, PublishError)>), PublishError> {
        let mut refused = Vec::new();
        let mut bytes: usize = messages.iter().map(|outgoing| outgoing.message.weight_bytes()).sum();
        let mut inbox = self.inbox.lock();
        if inbox.is_closed {
            return Err(PublishError::Closed);
        }
        if bytes > inbox.max_message_bytes {
            let (max, mut at) = (inbox.max_message_bytes, 0);
            messages.retain(|outgoing| {
                let weight = outgoing.message.weight_bytes();
                if weight > max {
                    let why =
                        format!("it has {weight} bytes, and a frame takes {max} (max_frame_bytes); use a claim check");
                    refused.push((at, PublishError::Refused(why)));
                    bytes -= weight;
                }
                at += 1;
                weight <= max
            });
        }
        if messages.is_empty() {
            return Ok((None, refused));
        }
        let waiting = inbox.load;
        let is_full = |have: usize, more: usize, max: usize| have > 0 && have + more > max;
        let limit = match () {
            () if is_full(waiting.messages, messages.len(), self.max.messages) => Some("max_pending_messages"),
            () if is_full(waiting.bytes, bytes, self.max.bytes) => Some("max_pending_bytes"),
            () => None,
        };
        if let Some(limit) = limit {
            return Err(PublishError::TooManyPending { waiting: waiting.messages, limit });
        }
        let now = Instant::now();
        let (call, ends) = Call::new(messages, bytes, now, now + core.options.confirm_timeout);
        inbox.load.add(call.load());
        inbox.calls.push(call);
        drop(inbox);
        self.news.notify_one();
        Ok((Some(ends), refused))
    }
}

/// How a stream ended.
enum Over {
    Lost(Fault),
    Closed,
}

/// The task that publishes. `first` is told how the first try to connect ended, unless waiting may heal it.
pub(super) struct Worker {
    core: Arc<Core>,
    shared: Arc<Publishing>,
    ledger: Ledger,
    first: Option<oneshot::Sender<Result<(), TransportError>>>,
    /// Until then what is under way may end, once the transport is closed.
    close_by: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        core: Arc<Core>,
        shared: Arc<Publishing>,
        first: oneshot::Sender<Result<(), TransportError>>,
    ) -> Self {
        Self { core, shared, ledger: Ledger::default(), first: Some(first), close_by: None }
    }

    pub(super) async fn run(mut self) {
        let mut pace = self.core.pace();
        while let Over::Lost(fault) = self.stream(&mut pace).await {
            self.core.connection.send_if_modified(|now| std::mem::replace(now, Connection::Down) != Connection::Down);
            tracing::debug!(address = %self.core.address, why = fault.detail(), "the publish stream is lost");
            self.ledger.rewind();
            self.release();
            if !fault.heals() {
                self.pull();
                self.ledger.fail(|| fault.clone().into_publish(std::time::Duration::ZERO));
                self.release();
                self.tell_first(Err(fault.clone().into_transport("the namespace", &self.core.address)));
            }
            *self.core.fault.lock() = Some(fault);
            if self.meanwhile(tokio::time::sleep(pace.next())).await.is_none() {
                break;
            }
        }
        self.shared.inbox.lock().is_closed = true;
        self.pull();
        self.ledger.fail(|| PublishError::Closed);
        self.release();
        self.core.connection.send_replace(Connection::Closed);
    }

    /// Publishes on one stream until it is lost.
    async fn stream(&mut self, pace: &mut Pace) -> Over {
        let (frames, waiting) = mpsc::channel(OUTBOUND_FRAMES);
        let open =
            g::PublishOpen { namespace: self.core.namespace.clone(), details: true, ..g::PublishOpen::default() };
        frames.try_send(g::PublishFrame { open: Some(open), ..g::PublishFrame::default() }).ok();
        let mut client = self.core.publisher();
        let opening = async move {
            let mut answers = client.publish_stream(ReceiverStream::new(waiting)).await?.into_inner();
            let opened = answers.message().await?;
            Ok::<_, tonic::Status>((answers, opened))
        };
        let (answers, opened) = match self.meanwhile(tokio::time::timeout(CALL_TIMEOUT, opening)).await {
            None => return Over::Closed,
            Some(Ok(Ok(opened))) => opened,
            Some(Ok(Err(status))) => return Over::Lost(Fault::of_status(&status)),
            Some(Err(_)) => return Over::Lost(Fault::lost("the broker did not answer in time (CALL_TIMEOUT)")),
        };
        let Some(limits) = opened.and_then(|opened| opened.opened) else {
            return Over::Lost(Fault::lost("the broker ended the publish stream before it began"));
        };
        pace.reset();
        self.shared.inbox.lock().max_message_bytes =
            usize::try_from(limits.max_frame_bytes).unwrap_or(usize::MAX).saturating_sub(FRAMING_BYTES);
        self.core.connection.send_replace(Connection::Up);
        self.tell_first(Ok(()));
        self.exchange(frames, answers, limits).await
    }

    async fn exchange(
        &mut self,
        frames: mpsc::Sender<g::PublishFrame>,
        mut answers: Streaming<g::PublishConfirm>,
        limits: g::StreamLimits,
    ) -> Over {
        loop {
            self.pull();
            self.expire();
            let closing = self.core.closing.is_cancelled();
            if closing && (self.ledger.is_empty() || self.close_by.is_some_and(|by| by <= Instant::now())) {
                return Over::Closed;
            }
            let due = [self.ledger.deadline(), self.close_by].into_iter().flatten().min();
            tokio::select! {
                biased;
                answer = answers.message() => {
                    let taken = match answer {
                        Ok(Some(confirm)) => self.ledger.confirm(confirm),
                        Ok(None) => Err(Fault::lost("the broker ended the publish stream")),
                        Err(status) => Err(Fault::of_status(&status)),
                    };
                    self.release();
                    if let Err(fault) = taken {
                        return Over::Lost(fault);
                    }
                }
                room = frames.reserve(), if self.ledger.has_frame(&limits) && !frames.is_closed() => {
                    if let Ok(room) = room && let Some(frame) = self.ledger.frame(&limits) {
                        room.send(frame);
                    }
                }
                () = self.shared.news.notified() => {}
                () = until(due) => {}
                () = self.core.closing.cancelled(), if !closing => self.begin_close(),
            }
        }
    }

    /// Waits for something while there is no stream. `None` once the transport is closed.
    async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = pin!(what);
        loop {
            self.pull();
            self.expire();
            let due = self.ledger.deadline();
            tokio::select! {
                biased;
                () = self.core.closing.cancelled() => return None,
                done = what.as_mut() => return Some(done),
                () = self.shared.news.notified() => {}
                () = until(due) => {}
            }
        }
    }

    fn begin_close(&mut self) {
        self.shared.inbox.lock().is_closed = true;
        self.close_by = Some(Instant::now() + self.core.options.close_timeout);
    }

    /// Takes what callers have left.
    fn pull(&mut self) {
        let calls = std::mem::take(&mut self.shared.inbox.lock().calls);
        for call in calls {
            self.ledger.push(call);
        }
    }

    fn expire(&mut self) {
        if self.ledger.deadline().is_some_and(|due| due <= Instant::now()) {
            self.ledger.expire(Instant::now());
            self.release();
        }
    }

    /// Gives back the room of what has its end.
    fn release(&mut self) {
        let freed = self.ledger.take_freed();
        if freed.messages > 0 {
            self.shared.inbox.lock().load.sub(freed);
        }
    }

    fn tell_first(&mut self, how: Result<(), TransportError>) {
        if let Some(first) = self.first.take() {
            first.send(how).ok();
        }
    }
}

/// Ready at this time; never without one.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
