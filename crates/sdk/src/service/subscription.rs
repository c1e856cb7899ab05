//! What a service consumes, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::util::BoxService;
use tower::{BoxError, Layer};

use crate::Context;
use crate::contract::Contract;
use crate::handler::Handler;
use crate::reaction::Reaction;
use crate::runtime::{Breaker, HandlerFn, HandlerService, Positions};
use crate::transport::{QueueSpec, RetentionSpec, RetrySpec, StartAt};

/// A handler before the service's state is known.
pub(crate) type Bind<S> = Box<dyn FnOnce(S) -> HandlerFn + Send>;
/// Wraps a handler in layers.
pub(crate) type Wrap = Box<dyn FnOnce(HandlerService) -> BoxService<Context, Reaction, BoxError> + Send>;

/// Binds a handler to the state that it will be called with.
pub(crate) fn bind<H, T, S>(handler: H) -> Bind<S>
where
    H: Handler<T, S>,
    S: Clone + Send + Sync + 'static,
    T: 'static,
{
    Box::new(move |state: S| {
        Arc::new(move |context: Context| {
            let (handler, state) = (handler.clone(), state.clone());
            Box::pin(async move { handler.call(context, state).await })
        })
    })
}

/// A handler and the queue that it consumes. [`Service::on`](crate::Service::on) makes one with the defaults; this says more:
///
/// ```
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// use sdk::{Event, Service, Subscription};
/// # #[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
/// # #[message(name = "order.created", topic = "orders")]
/// # struct OrderCreated { order_id: String }
/// # async fn reserve(Event(_): Event<OrderCreated>) {}
///
/// let service = Service::new("inventory").with(Subscription::new(reserve).named("reserve").concurrency(8).max_attempts(10));
/// # drop(service);
/// ```
pub struct Subscription<S> {
    pub(crate) name: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) binding: Binding,
    pub(crate) contracts: Vec<Contract>,
    pub(crate) spec: QueueSpec,
    pub(crate) concurrency: usize,
    pub(crate) timeout: Duration,
    pub(crate) breaker: Option<Breaker>,
    /// One message of a key at a time where the transport can.
    pub(crate) prefers_keyed: bool,
    /// What it returns has to be published with the acknowledgement.
    pub(crate) atomic: bool,
    /// How long a message is known again, if it is.
    pub(crate) window: Option<Duration>,
    pub(crate) bind: Bind<S>,
    pub(crate) wrap: Option<Wrap>,
}

/// Where a queue's messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// From the topic of the handler's contract, under its name.
    OfContract,
    /// From this topic, of subjects that fit this pattern.
    Of { topic: String, subject: String },
    /// They are sent to the queue itself.
    None,
}

impl<S: Clone + Send + Sync + 'static> Subscription<S> {
    /// Messages that a handler works on at a time, unless said otherwise.
    pub const DEFAULT_CONCURRENCY: usize = 64;
    /// Time for one message, unless said otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

    /// The handler's contract by its topic into a queue of the service's own, `<service>.<message>`: each service gets each message, and one of its
    /// instances works on it.
    pub fn new<H, T>(handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self {
            name: None,
            queue: None,
            binding: Binding::OfContract,
            contracts: H::contracts(),
            spec: QueueSpec::new(""),
            concurrency: Self::DEFAULT_CONCURRENCY,
            timeout: Self::DEFAULT_TIMEOUT,
            breaker: None,
            prefers_keyed: false,
            atomic: false,
            window: None,
            bind: bind(handler),
            wrap: None,
        }
    }

    /// Tasks that are sent to this queue, whoever sends them: a work queue.
    pub fn worker<H, T>(queue: impl Into<String>, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self { queue: Some(queue.into()), binding: Binding::None, ..Self::new(handler) }
    }

    /// The handler's name in its service, and the end of its queue's name; the message's name unless given. Two handlers of one message need it.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The queue's whole name.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Messages of this topic whose subject fits this pattern (`*` is one word, `#` any number), instead of those of the contract.
    #[must_use]
    pub fn from_topic(mut self, topic: impl Into<String>, subject: impl Into<String>) -> Self {
        self.binding = Binding::Of { topic: topic.into(), subject: subject.into() };
        self
    }

    /// Messages that are worked on at a time in this instance.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// What follows a failed attempt.
    #[must_use]
    pub fn retry(mut self, retry: RetrySpec) -> Self {
        self.spec.retry = retry;
        self
    }

    /// Attempts in all.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.spec.retry.max_attempts = Some(attempts.max(1));
        self
    }

    /// Time for one message, of the machine's clock; one that takes longer has failed, and is tried again.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long the broker waits for a sign of life of an instance that works on a message. Handlers may take longer: the SDK extends it for them.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.spec.lease = lease;
        self
    }

    /// Messages of one key one at a time, in order: a failing one holds back its key, and nothing else. Needs
    /// [`keyed`](crate::transport::Capabilities::keyed).
    #[must_use]
    pub fn keyed(mut self) -> Self {
        self.spec.keyed = true;
        self
    }

    /// Handles each message once within this time, in the broker alone, for a service without a database: the queue takes a message of the same id once, and what
    /// the handler returns or emits is published together with the acknowledgement, all or none. What the handler does elsewhere is not part of
    /// it; that is what the inbox in the service's own database is for ([`Subscription::idempotent`](#method.idempotent)). Needs
    /// [`dedup`](crate::transport::Capabilities::dedup) and [`ack_and_publish`](crate::transport::Capabilities::ack_and_publish).
    #[must_use]
    pub fn once(mut self, window: Duration) -> Self {
        self.spec.dedup_window = Some(window);
        self.window = Some(window);
        self.atomic = true;
        self
    }

    /// Takes a message of the same dedup id once within this time. Needs [`dedup`](crate::transport::Capabilities::dedup).
    #[must_use]
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.spec.dedup_window = Some(window);
        self
    }

    /// Messages of higher priority first, in so many levels. Needs [`priority`](crate::transport::Capabilities::priority).
    #[must_use]
    pub fn priority_levels(mut self, levels: u32) -> Self {
        self.spec.priority_levels = Some(levels);
        self
    }

    /// Pauses while the handler fails too often.
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Wraps the handler in a tower layer (or a `ServiceBuilder` of several): timeouts, rate and concurrency limits, load shedding, retries in place. One
    /// instance of it sees all messages of the handler, in one task. What a layer's own error means is *transient*.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService> + Send + 'static,
        L::Service: tower::Service<Context, Response = Reaction> + Send + 'static,
        <L::Service as tower::Service<Context>>::Error: Into<BoxError>,
        <L::Service as tower::Service<Context>>::Future: Send + 'static,
    {
        self.wrap = Some(Box::new(move |handler| {
            BoxService::new(tower::util::MapErr::new(layer.layer(handler), Into::into as fn(_) -> BoxError))
        }));
        self
    }
}

impl<S> fmt::Debug for Subscription<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("queue", &self.queue)
            .field("contracts", &self.contracts)
            .finish_non_exhaustive()
    }
}

/// A handler that answers a question: its argument is a [`Request`](crate::Request), its result an [`Answer`](crate::Answer).
pub struct Responder<S> {
    pub(crate) contracts: Vec<Contract>,
    pub(crate) replies: Vec<Contract>,
    pub(crate) concurrency: usize,
    pub(crate) timeout: Duration,
    pub(crate) bind: Bind<S>,
}

impl<S: Clone + Send + Sync + 'static> Responder<S> {
    /// Answers the question of the handler's argument. Of the instances of a service one answers.
    pub fn new<H, T>(handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let (concurrency, timeout) = (Subscription::<S>::DEFAULT_CONCURRENCY, Subscription::<S>::DEFAULT_TIMEOUT);
        Self { contracts: H::contracts(), replies: H::replies(), concurrency, timeout, bind: bind(handler) }
    }

    /// Questions that are worked on at a time in this instance.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Time for a question that names no deadline.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<S> fmt::Debug for Responder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("contracts", &self.contracts).finish_non_exhaustive()
    }
}

/// Has a handler move the position that is kept under a name.
type Moving = dyn Fn(HandlerFn, &str) -> HandlerFn + Send;

/// Keeps the position of a replay together with what its handlers do. Both functions get the name that the position is kept under.
pub(crate) struct KeptIn {
    /// Looks it up.
    pub(crate) positions: Box<dyn Fn(&str) -> Positions + Send>,
    /// Has a handler move it.
    pub(crate) wrap: Box<Moving>,
}

/// Reads a topic's log from the beginning (or from a time, or the end) and goes on with what comes, in order: projections, reports, caches. Needs
/// [`replay`](crate::transport::Capabilities::replay).
pub struct Replay<S> {
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) from: StartAt,
    pub(crate) kept: bool,
    pub(crate) version: u32,
    /// What keeps its position, if the broker does not.
    pub(crate) kept_in: Option<KeptIn>,
    pub(crate) retention: Option<RetentionSpec>,
    pub(crate) retry: RetrySpec,
    pub(crate) timeout: Duration,
    pub(crate) contracts: Vec<Contract>,
    pub(crate) routes: Vec<(Option<&'static str>, Bind<S>)>,
}

impl<S: Clone + Send + Sync + 'static> Replay<S> {
    /// Reads this topic. The broker remembers under `<service>.<name>` how far it came.
    #[must_use]
    pub fn new(name: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            topic: topic.into(),
            from: StartAt::Earliest,
            kept: true,
            version: 1,
            kept_in: None,
            retention: None,
            retry: RetrySpec { max_attempts: None, ..RetrySpec::default() },
            timeout: Subscription::<S>::DEFAULT_TIMEOUT,
            contracts: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// Messages of the handler's contract go to it; all messages if it has none. Others are passed over.
    #[must_use]
    pub fn on<H, T>(mut self, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let contracts = H::contracts();
        self.routes.push((contracts.first().map(|contract| contract.name), bind(handler)));
        self.contracts.extend(contracts);
        self
    }

    /// Where to begin while no position is known.
    #[must_use]
    pub fn from(mut self, from: StartAt) -> Self {
        self.from = from;
        self
    }

    /// Begins anew under a new position: what an earlier version read is read again. Who raises it empties what the projection has written before.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Keeps no position: each start reads again from the beginning. For what lives in memory.
    #[must_use]
    pub fn without_checkpoint(mut self) -> Self {
        self.kept = false;
        self
    }

    /// What follows a failed attempt. A log has an order, so the records behind it wait; without end unless said otherwise, and with an end the
    /// record is kept in `<service>.<name>.dlq` and passed over.
    #[must_use]
    pub fn retry(mut self, retry: RetrySpec) -> Self {
        self.retry = retry;
        self
    }

    /// Time for one record.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long the topic keeps its log, should it have to be made here.
    #[must_use]
    pub fn retention(mut self, retention: RetentionSpec) -> Self {
        self.retention = Some(retention);
        self
    }
}

impl<S> fmt::Debug for Replay<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("name", &self.name).field("topic", &self.topic).finish_non_exhaustive()
    }
}
