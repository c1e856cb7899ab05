//! Keeps a consumer's stream going.

use std::sync::Arc;

use api::grpc as g;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::super::core::CALL_TIMEOUT;
use super::super::fault::Fault;
use super::stream::Stream;
use super::{Batch, Shared};
use crate::transport::{Consume, TransportError};

/// Requests that wait for the connection to take them.
const OUTBOUND_FRAMES: usize = 4;

/// How a stream ended.
pub(super) enum Over {
    Lost(Fault),
    /// Nobody needs it any more.
    Done,
}

pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) consume: Consume,
    pub(super) deliveries: mpsc::Sender<Batch>,
    pub(super) first: Option<oneshot::Sender<Result<(), TransportError>>>,
}

impl Task {
    pub(super) async fn run(mut self) {
        self.keep_going().await;
        let given = {
            let mut state = self.shared.table.lock();
            state.is_gone = true;
            state.table.given
        };
        self.shared.done.send_replace(given);
    }

    async fn keep_going(&mut self) {
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
            opened = tokio::time::timeout(CALL_TIMEOUT, opening) => opened,
            () = core.closing.cancelled() => return Err(Over::Done),
            () = self.shared.gone.cancelled(), if self.first.is_none() => return Err(Over::Done),
        };
        match opened {
            Ok(Ok((answers, Some(g::ConsumeResponse { opened: Some(limits), .. })))) => Ok((requests, answers, limits)),
            Ok(Ok(_)) => Err(Over::Lost(Fault::lost("the broker ended the stream before it began"))),
            Ok(Err(status)) => Err(Over::Lost(Fault::of_status(&status))),
            Err(_) => Err(Over::Lost(Fault::lost("the broker did not answer in time (CALL_TIMEOUT)"))),
        }
    }
}
