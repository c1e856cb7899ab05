//! Consumes a queue, over as many connections as it takes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt, poll_fn};
use futures_util::{Stream, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::time::{Instant, sleep, timeout_at};

use super::envelope;
use super::faults;
use super::link::Link;
use super::options::MAX_BATCH;
use super::settler::{Acker, Shared};
use crate::backoff::Pace;
use crate::transport::{Consume, Consumer, Delivery, Settler, TransportError};

/// A standing consumer.
pub(super) struct Standing {
    link: Arc<Link>,
    spec: Spec,
    acker: Arc<Acker>,
    shared: Arc<Shared>,
    /// The stream and its channel while there is one.
    stream: Option<(lapin::Consumer, lapin::Channel)>,
    waits: Pace,
    stopped: bool,
}

struct Spec {
    queue: ShortString,
    tag: ShortString,
    prefetch: u16,
}

impl Standing {
    /// Starts it.
    ///
    /// # Errors
    /// There is no such queue, it is not allowed, or there is no connection.
    pub(super) async fn start(link: &Arc<Link>, consume: Consume) -> Result<Self, TransportError> {
        let short = |what: &str, text: &str| {
            ShortString::try_new(text)
                .map_err(|_| TransportError::Invalid(format!("the {what} {text:?} is longer than AMQP's 255 bytes")))
        };
        let spec = Spec {
            queue: short("queue", &consume.queue)?,
            tag: short("consumer name", &consume.name)?,
            // 0 would be no bound at all.
            prefetch: u16::try_from(consume.credit.max(1)).unwrap_or(u16::MAX),
        };
        let (acker, shared) = Acker::start();
        let waits = link.options.pace();
        let mut standing = Self { link: Arc::clone(link), spec, acker, shared, stream: None, waits, stopped: false };
        let deadline = link.deadline();
        timeout_at(deadline, standing.attach(Some(deadline))).await.map_err(|_| link.unavailable())??;
        Ok(standing)
    }

    /// What the transport flushes when it is closed.
    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Consumes on a new channel. Waits for a connection, until the deadline if there is one.
    async fn attach(&mut self, deadline: Option<Instant>) -> Result<(), TransportError> {
        loop {
            let channel = match deadline {
                Some(deadline) => self.link.channel_by(deadline).await?,
                None => self.link.channel().await?,
            };
            match self.consume(&channel).await {
                Ok(stream) => {
                    self.shared.begin(channel.clone(), self.spec.prefetch);
                    self.stream = Some((stream, channel));
                    return Ok(());
                }
                Err(error) if faults::is_of_channel(&error) => {
                    let what = format!("queue {:?}", self.spec.queue.as_str());
                    return Err(faults::transport_error(&error, &what, &self.link.address));
                }
                Err(error) => {
                    tracing::debug!(%error, queue = %self.spec.queue, "cannot consume; trying again");
                    sleep(self.waits.next()).await;
                }
            }
        }
    }

    async fn consume(&self, channel: &lapin::Channel) -> lapin::Result<lapin::Consumer> {
        channel.basic_qos(self.spec.prefetch, BasicQosOptions::default()).await?;
        let (queue, tag) = (self.spec.queue.clone(), self.spec.tag.clone());
        channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default()).await
    }

    /// All that is there, up to a batch; waits for the first. `None` if the stream has ended.
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<Delivery>>> {
        let mut batch = Vec::new();
        while batch.len() < MAX_BATCH {
            let Some((stream, _)) = &mut self.stream else { break };
            match Pin::new(stream).poll_next(context) {
                Poll::Ready(Some(Ok(delivery))) => batch.extend(self.take(delivery)),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, queue = %self.spec.queue, "the consumer's channel has ended");
                    self.stream = None;
                    // None of these can be settled any more, and all come again.
                    batch.clear();
                }
                Poll::Ready(None) => self.stream = None,
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Some(batch).filter(|batch| !batch.is_empty()))
    }

    /// A delivery, unless it has expired.
    fn take(&self, delivery: lapin::message::Delivery) -> Option<Delivery> {
        let tag = self.shared.delivered(delivery.delivery_tag);
        let redelivered = delivery.redelivered;
        let incoming = envelope::message(delivery);
        if incoming.lives_longer_than_the_broker_knows
            && incoming.message.expires_at.is_some_and(|end| end <= super::now())
        {
            self.shared.drop_quietly([tag]);
            return None;
        }
        Some(envelope::delivery(tag, incoming.message, redelivered))
    }
}

impl Consumer for Standing {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Delivery>>, TransportError>> {
        async move {
            // What came before the transport was closed cannot be settled any more.
            while !self.stopped && !self.link.closed.is_cancelled() {
                if self.stream.is_none() {
                    match self.attach(None).await {
                        Ok(()) => {}
                        Err(TransportError::Closed) => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
                match poll_fn(|context| self.poll_batch(context)).await {
                    Some(batch) => {
                        self.waits.reset();
                        return Ok(Some(batch));
                    }
                    None if self.stream.is_some() => {}
                    // The link hears of a lost connection a moment later.
                    None => sleep(self.waits.next()).await,
                }
            }
            Ok(None)
        }
        .boxed()
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::clone(&self.acker) as _
    }

    fn stop(&mut self) {
        self.stopped = true;
        let Some((mut stream, channel)) = self.stream.take() else { return };
        let (shared, acker) = (Arc::clone(&self.shared), Arc::clone(&self.acker));
        let tag = self.spec.tag.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if channel.basic_cancel(tag, BasicCancelOptions::default()).await.is_ok() {
                while let Some(Ok(delivery)) = stream.next().await {
                    shared.release([shared.delivered(delivery.delivery_tag)]);
                }
            }
            drop(acker);
        });
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.stop();
    }
}
