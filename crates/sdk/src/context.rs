//! What a handler is called with.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use types::{MessageId, Text, Timestamp, Value};

use crate::client::{Client, Publishing};
use crate::contract::{self, EncodeError, Message};
use crate::transport::{Destination, Outgoing};
use crate::{Envelope, headers};

/// A message on its way through a handler, and all that surrounds it. Cheap to clone; what tower layers get as their request.
///
/// A unit test makes one by hand:
///
/// ```
/// # use sdk::{Context, Envelope};
/// let context = Context::of(Envelope::new("order.created", r#"{"order_id":"o-1"}"#)).attempt(3).build();
/// assert_eq!(context.attempt(), 3);
/// ```
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    envelope: Envelope,
    client: Client,
    place: Arc<Place>,
    attempt: u32,
    redelivered: bool,
    cancelled: CancellationToken,
    held: Mutex<Held>,
}

/// What layers and extractors keep with a message, and what the handler wants published.
#[derive(Default)]
struct Held {
    emitted: Vec<Outgoing>,
    values: HashMap<TypeId, Box<dyn Any + Send>>,
}

/// Where a handler stands: the same for all of its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The service.
    pub service: Arc<str>,
    /// The handler's name in it.
    pub handler: Arc<str>,
    /// The queue, topic or subject that its messages come from.
    pub source: Arc<str>,
}

impl Context {
    /// Begins a context by hand, for a unit test of a handler. It has no broker: what the handler returns or [emits](Self::emit) can be looked at, and
    /// what it asks of [`Context::client`] is refused, unless [`ContextBuilder::client`] gives one.
    pub fn of(envelope: Envelope) -> ContextBuilder {
        ContextBuilder {
            envelope,
            client: None,
            place: Place::default(),
            attempt: 1,
            redelivered: false,
            cancelled: CancellationToken::new(),
        }
    }

    /// As [`Context::of`], with this message.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn of_message<M: Message>(message: &M) -> Result<ContextBuilder, EncodeError> {
        contract::encode(message).map(Self::of)
    }

    pub(crate) fn new(
        envelope: Envelope,
        client: Client,
        place: Arc<Place>,
        (attempt, redelivered): (u32, bool),
        cancelled: CancellationToken,
    ) -> Self {
        let held = Mutex::default();
        Self { inner: Arc::new(Inner { envelope, client, place, attempt, redelivered, cancelled, held }) }
    }

    /// The message as it came.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.inner.envelope
    }

    /// The message's id: what tells it from all others, through every retry.
    #[must_use]
    pub fn message_id(&self) -> String {
        self.inner.envelope.id.as_ref().map(MessageId::to_string).unwrap_or_default()
    }

    /// What conversation the message belongs to: its correlation id, or its own id if it began one.
    #[must_use]
    pub fn correlation_id(&self) -> String {
        match &self.inner.envelope.correlation_id {
            Some(id) => id.to_string(),
            None => self.message_id(),
        }
    }

    /// 1 for the first attempt.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// Whether it may have been seen before.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.inner.redelivered
    }

    /// Where the handler stands.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.inner.place
    }

    /// Publishes and asks at once, whatever becomes of this handler. What should happen with its success, and only then, is
    /// [emitted](Self::emit) or returned instead.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The time, of the transport's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.client.transport().now()
    }

    /// How long whoever asked still waits, if they said so.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.inner.envelope.expires_at.map(|at| at.since(self.now()))
    }

    /// Cancelled when the outcome is no longer wanted: whoever asked went away, or the service's time to stop is over. Handlers are dropped then;
    /// what they spawned may watch this.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    /// Publishes a message when the handler succeeds: together with the acknowledgement where the transport can do both at once, and before it
    /// otherwise. As a returned message.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn emit<M: Message>(&self, message: &M) -> Result<(), EncodeError> {
        self.emit_with(Publishing::of(message)?);
        Ok(())
    }

    /// As [`emit`](Self::emit), with a delay, headers, or to a queue.
    pub fn emit_with(&self, publishing: Publishing) {
        let outgoing = publishing.into_outgoing(self.now());
        let outgoing = self.following(outgoing);
        self.inner.held.lock().emitted.push(outgoing);
    }

    /// What was emitted so far, which leaves it empty. For unit tests, and for layers that keep it elsewhere (an outbox).
    #[must_use]
    pub fn take_emitted(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.inner.held.lock().emitted)
    }

    /// Puts a value with the message, for an extractor further in; gives back one of the same type that was there.
    pub fn insert<T: Send + 'static>(&self, value: T) -> Option<T> {
        let before = self.inner.held.lock().values.insert(TypeId::of::<T>(), Box::new(value))?;
        before.downcast().ok().map(|before| *before)
    }

    /// Takes the value of this type away from the message.
    #[must_use]
    pub fn take<T: Send + 'static>(&self) -> Option<T> {
        let value = self.inner.held.lock().values.remove(&TypeId::of::<T>())?;
        value.downcast().ok().map(|value| *value)
    }

    /// A copy of the value of this type.
    #[must_use]
    pub fn get<T: Clone + Send + 'static>(&self) -> Option<T> {
        self.inner.held.lock().values.get(&TypeId::of::<T>())?.downcast_ref().cloned()
    }

    /// The same with another envelope. What was kept with the message so far moves along.
    #[cfg(feature = "claim-check")]
    #[must_use]
    pub(crate) fn with_envelope(&self, envelope: Envelope) -> Self {
        let inner = &self.inner;
        let times = (inner.attempt, inner.redelivered);
        let new = Self::new(envelope, inner.client.clone(), Arc::clone(&inner.place), times, inner.cancelled.clone());
        *new.inner.held.lock() = std::mem::take(&mut *inner.held.lock());
        new
    }

    /// The same message and place, with nothing kept or emitted yet.
    #[must_use]
    pub(crate) fn fresh(&self) -> Self {
        let inner = &self.inner;
        Self::new(
            inner.envelope.clone(),
            inner.client.clone(),
            Arc::clone(&inner.place),
            (inner.attempt, inner.redelivered),
            inner.cancelled.clone(),
        )
    }

    /// Marks a message as following from this one: the same conversation, caused by it.
    #[must_use]
    pub(crate) fn following(&self, mut outgoing: Outgoing) -> Outgoing {
        let message = &mut outgoing.message;
        if message.correlation_id.is_none() {
            message.correlation_id = Some(self.correlation_id().into());
        }
        if let Some(id) = &self.inner.envelope.id {
            headers::set(message, headers::CAUSATION, Text::from(id.to_string()));
        }
        if message.header(headers::SOURCE).is_none() && !self.inner.place.service.is_empty() {
            headers::set_value(message, headers::SOURCE, Value::Text(Text::from(&*self.inner.place.service)));
        }
        outgoing
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("place", &self.inner.place)
            .field("message_id", &self.message_id())
            .field("attempt", &self.inner.attempt)
            .finish_non_exhaustive()
    }
}

/// Makes a [`Context`] by hand.
#[derive(Debug)]
#[must_use]
pub struct ContextBuilder {
    envelope: Envelope,
    client: Option<Client>,
    place: Place,
    attempt: u32,
    redelivered: bool,
    cancelled: CancellationToken,
}

impl ContextBuilder {
    /// Which attempt it is; the first unless said otherwise.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self.redelivered = attempt > 1;
        self
    }

    /// The client that the handler gets.
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The service and handler that it is for.
    pub fn place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// The context.
    #[must_use]
    pub fn build(self) -> Context {
        let client = self.client.unwrap_or_else(Client::detached);
        let times = (self.attempt, self.redelivered);
        Context::new(self.envelope, client, Arc::new(self.place), times, self.cancelled)
    }
}

/// Destinations as text, for logs and spans.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic {topic:?}"),
            Self::Queue(queue) => write!(f, "queue {queue:?}"),
            Self::Live => f.write_str("whoever listens"),
        }
    }
}
