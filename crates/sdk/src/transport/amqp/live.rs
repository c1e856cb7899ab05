//! What is heard live: listeners and inboxes.
//!
//! Live messages go through the topic exchange `svc.live`. A listener has a queue of its own there, or shares one with its group; an inbox is a
//! queue that is nobody else's, and answers go straight into it. All of these go away with those who hear.
//!
//! An inbox has the same name after a lost connection, so that requests which are not answered yet still can be. Only if the broker
//! takes long to see that the old connection is lost, and keeps the name for it, the inbox gets another.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::envelope;
use super::faults;
use super::link::Link;
use super::options::MAX_HEARD;
use crate::Envelope;
use crate::transport::{Inbox, Listener, TransportError};

/// The exchange.
pub(super) const EXCHANGE: &str = "svc.live";
/// A group's queue goes after so long without listeners, in milliseconds, should it not have gone with the last of them.
const GROUP_EXPIRES_MS: i64 = 60_000;

/// How long an inbox waits for its old name.
const NAME_PATIENCE: Duration = Duration::from_secs(2);

/// A name that nobody guesses, and nobody has.
fn inbox_name() -> String {
    format!("svc.inbox.{}", uuid::Uuid::new_v4().simple())
}

/// Makes sure that the exchange is there.
pub(super) async fn declare_exchange(channel: &Channel) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default()).await
}

/// What is to be heard.
pub(super) enum Ear {
    /// What is published to a pattern.
    Pattern {
        pattern: ShortString,
        /// The name of the queue that a group shares.
        shared: Option<ShortString>,
    },
    /// Answers.
    Inbox,
}

impl Ear {
    /// # Errors
    /// A name is too long.
    pub(super) fn of(pattern: &str, group: Option<&str>) -> Result<Self, TransportError> {
        let short = |text: &str| {
            ShortString::try_new(text)
                .map_err(|_| TransportError::Invalid(format!("the name {text:?} is longer than AMQP's 255 bytes")))
        };
        let shared = group.map(|group| short(&format!("{EXCHANGE}.{group}.{pattern}"))).transpose()?;
        Ok(Self::Pattern { pattern: short(pattern)?, shared })
    }

    /// Begins to hear; the name of the queue, and what comes into it.
    async fn open(&self, channel: &Channel, inbox: &str) -> lapin::Result<(ShortString, lapin::Consumer)> {
        let (name, options, arguments) = match self {
            Self::Pattern { shared: Some(name), .. } => {
                // Durable, since queues that are neither that nor exclusive go out of use with RabbitMQ 4.
                let options =
                    QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
                let mut arguments = FieldTable::default();
                arguments.insert("x-expires".into(), AMQPValue::LongLongInt(GROUP_EXPIRES_MS));
                (name.clone(), options, arguments)
            }
            Self::Pattern { shared: None, .. } | Self::Inbox => {
                let name = if matches!(self, Self::Inbox) { ShortString::from(inbox) } else { ShortString::default() };
                let options =
                    QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
                (name, options, FieldTable::default())
            }
        };
        let queue = channel.queue_declare(name, options, arguments).await?.name().clone();
        if let Self::Pattern { pattern, .. } = self {
            declare_exchange(channel).await?;
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(queue.clone(), EXCHANGE.into(), pattern.clone(), options, none).await?;
        }
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let stream =
            channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default()).await?;
        Ok((queue, stream))
    }
}

/// Hears, until it is dropped.
pub(super) struct Heard {
    messages: broadcast::Receiver<Envelope>,
    queue: Arc<Mutex<String>>,
}

impl Heard {
    /// Begins to hear. Ready when the broker knows it.
    ///
    /// # Errors
    /// It is not allowed, or there is no connection.
    pub(super) async fn start(link: &Arc<Link>, ear: Ear) -> Result<Self, TransportError> {
        let (sender, messages) = broadcast::channel(MAX_HEARD);
        let (ready, started) = oneshot::channel();
        let queue = Arc::new(Mutex::new(inbox_name()));
        let deadline = link.deadline();
        if link.closing.is_cancelled() {
            return Err(TransportError::Closed);
        }
        let task = Task { link: Arc::clone(link), ear, sender, queue: Arc::clone(&queue) };
        tokio::spawn(task.run(ready));
        match timeout_at(deadline, started).await {
            Ok(Ok(result)) => result.map(|()| Self { messages, queue }),
            Ok(Err(_)) => Err(TransportError::Closed),
            Err(_) => Err(link.unavailable()),
        }
    }

    async fn heard(&mut self) -> Option<Envelope> {
        loop {
            match self.messages.recv().await {
                Ok(message) => return Some(message),
                Err(RecvError::Lagged(count)) => {
                    tracing::warn!(
                        count,
                        limit = MAX_HEARD,
                        "live messages were dropped: they are not taken fast enough"
                    );
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Listener for Heard {
    fn next(&mut self) -> BoxFuture<'_, Option<Envelope>> {
        self.heard().boxed()
    }
}

impl Inbox for Heard {
    fn address(&self) -> String {
        self.queue.lock().clone()
    }

    fn next(&mut self) -> BoxFuture<'_, Option<Envelope>> {
        self.heard().boxed()
    }
}

struct Task {
    link: Arc<Link>,
    ear: Ear,
    sender: broadcast::Sender<Envelope>,
    queue: Arc<Mutex<String>>,
}

impl Task {
    /// Hears until nobody listens, or the transport is closed.
    async fn run(self, ready: oneshot::Sender<Result<(), TransportError>>) {
        tokio::select! {
            () = self.sender.closed() => {}
            () = self.link.closed.cancelled() => {}
            () = self.hear(Some(ready)) => {}
        }
    }

    async fn hear(&self, mut ready: Option<oneshot::Sender<Result<(), TransportError>>>) {
        let mut waits = self.link.options.pace();
        let mut lost = Instant::now();
        loop {
            let Ok(channel) = self.link.channel().await else { return };
            let name = self.queue.lock().clone();
            match self.ear.open(&channel, &name).await {
                Ok((queue, mut stream)) => {
                    queue.as_str().clone_into(&mut self.queue.lock());
                    if let Some(ready) = ready.take() {
                        let _ = ready.send(Ok(()));
                    }
                    waits.reset();
                    while let Some(Ok(delivery)) = stream.next().await {
                        // Nobody hears it if this fails, and then this ends.
                        let _ = self.sender.send(envelope::message(delivery).message);
                    }
                    lost = Instant::now();
                }
                Err(error) if faults::is_locked(&error) && matches!(self.ear, Ear::Inbox) => {
                    if lost.elapsed() >= NAME_PATIENCE {
                        *self.queue.lock() = inbox_name();
                    }
                }
                Err(error) if faults::is_of_channel(&error) && ready.is_some() => {
                    let error = faults::transport_error(&error, "live queue", &self.link.address);
                    if let Some(ready) = ready.take() {
                        let _ = ready.send(Err(error));
                    }
                    return;
                }
                Err(error) => tracing::debug!(%error, "cannot listen; trying again"),
            }
            sleep(waits.next()).await;
        }
    }
}
