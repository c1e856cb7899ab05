//! Puts a service together.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::running::Running;
use super::subscription::{Binding, Replay, Responder, Subscription};
use crate::client::Client;
use crate::contract::{Contract, Message};
use crate::event_sourcing::{Aggregate, TopicLog};
use crate::handler::Handler;
use crate::health::Check;
use crate::saga::{Orchestrator, Saga, SagaStore, queue_of};
use crate::telemetry::Providers;
use crate::transport::{QueueSpec, RetentionSpec, RetrySpec, TopicSpec, Transport, TransportError};

/// The waits of a saga whose store or broker is away.
const SAGA_RETRY: Duration = Duration::from_millis(200);
const SAGA_RETRY_CAP: Duration = Duration::from_secs(30);
/// Time for all steps that follow one another at once; each has its own.
const SAGA_TIMEOUT: Duration = Duration::from_secs(3600);

/// A task that runs beside the handlers.
pub(crate) type Background<S> = Box<dyn FnOnce(S, Client, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// A service: its name, its state and its handlers.
///
/// ```
/// use schemars::JsonSchema;
/// use sdk::{Error, Event, Message, Service, State};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, JsonSchema, Message)]
/// #[message(name = "order.created", topic = "orders", key = "order_id")]
/// struct OrderCreated {
///     order_id: String,
/// }
///
/// #[derive(Serialize, Deserialize, JsonSchema, Message)]
/// #[message(name = "stock.reserved", topic = "stock", key = "order_id")]
/// struct StockReserved {
///     order_id: String,
/// }
///
/// #[derive(Clone)]
/// struct Stock;
///
/// async fn reserve(State(_stock): State<Stock>, Event(order): Event<OrderCreated>) -> Result<StockReserved, Error> {
///     Ok(StockReserved { order_id: order.order_id })
/// }
///
/// let service = Service::new("inventory").state(Stock).on(reserve).publishes::<StockReserved>();
/// # drop(service);
/// ```
pub struct Service<S = ()> {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    pub(crate) state: S,
    pub(crate) subscriptions: Vec<Subscription<S>>,
    pub(crate) responders: Vec<Responder<S>>,
    pub(crate) replays: Vec<Replay<S>>,
    pub(crate) topics: Vec<TopicSpec>,
    pub(crate) published: Vec<Contract>,
    pub(crate) sagas: Vec<(String, SagaStore)>,
    pub(crate) tasks: Vec<(String, Background<S>)>,
    pub(crate) endpoints: BTreeMap<String, String>,
    pub(crate) checks: Vec<(String, Check)>,
    pub(crate) announced: bool,
    pub(crate) providers: Option<Providers>,
    pub(crate) grace: Duration,
}

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It makes no sense, or needs what the transport does not have. Nothing was declared or begun.
    #[error("the service {service:?} cannot start:\n  - {}", problems.join("\n  - "))]
    Invalid {
        /// The service.
        service: String,
        /// All that is wrong.
        problems: Vec<String>,
    },
    /// The broker cannot be reached, or refuses.
    #[error("the service {service:?} cannot start: {error}")]
    Transport {
        /// The service.
        service: String,
        /// Why.
        #[source]
        error: TransportError,
    },
}

impl Service<()> {
    /// How long a service that stops waits for the handlers at work.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);

    /// A service of this name: what its queues' names begin with, and what others know it by.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_state(name, ())
    }
}

impl<S: Clone + Send + Sync + 'static> Service<S> {
    /// A service of this name and state.
    #[must_use]
    pub fn with_state(name: impl Into<String>, state: S) -> Self {
        Self {
            name: name.into(),
            version: "0.0.0".to_owned(),
            description: None,
            state,
            subscriptions: Vec::new(),
            responders: Vec::new(),
            replays: Vec::new(),
            topics: Vec::new(),
            published: Vec::new(),
            sagas: Vec::new(),
            tasks: Vec::new(),
            endpoints: BTreeMap::new(),
            checks: Vec::new(),
            announced: true,
            providers: None,
            grace: Service::DEFAULT_GRACE,
        }
    }

    /// Its version, as others see it: `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// What it is for, for documents.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Handles the message of the handler's argument: `async fn reserve(Event(order): Event<OrderCreated>)`.
    #[must_use]
    pub fn on<H, T>(self, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.with(Subscription::new(handler))
    }

    /// Handles messages as the subscription says.
    #[must_use]
    pub fn with(mut self, subscription: Subscription<S>) -> Self {
        self.subscriptions.push(subscription);
        self
    }

    /// Works on the tasks that are sent to this queue.
    #[must_use]
    pub fn worker<H, T>(self, queue: impl Into<String>, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.with(Subscription::worker(queue, handler))
    }

    /// Answers the question of the handler's argument: `async fn quote(Request(order): Request<GetQuote>) -> Result<Answer<GetQuote>, Error>`.
    #[must_use]
    pub fn reply<H, T>(self, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.responder(Responder::new(handler))
    }

    /// Answers questions as the responder says.
    #[must_use]
    pub fn responder(mut self, responder: Responder<S>) -> Self {
        self.responders.push(responder);
        self
    }

    /// Reads a topic's log.
    #[must_use]
    pub fn replay(mut self, replay: Replay<S>) -> Self {
        self.replays.push(replay);
        self
    }

    /// Says that it publishes this message: the topic is made if it is missing, and documents show it.
    #[must_use]
    pub fn publishes<M: Message>(mut self) -> Self {
        self.published.push(Contract::of::<M>());
        self
    }

    /// Makes the topics that a [`Repository`](crate::event_sourcing::Repository) of these aggregates needs, with their events for ever. Needs
    /// [`expected_version`](crate::transport::Capabilities::expected_version).
    #[must_use]
    pub fn event_sourced<A: Aggregate>(mut self) -> Self {
        self.topics.extend(TopicLog::topics(A::Event::TOPIC));
        self.published.push(Contract::of::<A::Event>());
        self
    }

    /// Keeps a log of this topic, which can be replayed. Needs [`replay`](crate::transport::Capabilities::replay).
    #[must_use]
    pub fn keeps(self, topic: impl Into<String>, retention: RetentionSpec) -> Self {
        self.topic(TopicSpec { retention: Some(retention), ..TopicSpec::new(topic) })
    }

    /// Makes a topic as it is said here, unless it is there already.
    #[must_use]
    pub fn topic(mut self, topic: TopicSpec) -> Self {
        self.topics.push(topic);
        self
    }

    /// Orchestrates a saga, and keeps what it has done in the store.
    #[must_use]
    pub fn saga<T>(mut self, saga: Saga<T, S>, store: SagaStore) -> Self
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let name = saga.name.clone();
        self.sagas.push((name.clone(), store.clone()));
        let (service, concurrency) = (self.name.clone(), saga.concurrency);
        let mut spec = QueueSpec::new("");
        // What fails here is the store or the broker, and not a step: it is tried until it is there again.
        spec.retry = RetrySpec { max_attempts: None, initial: SAGA_RETRY, cap: SAGA_RETRY_CAP, ..RetrySpec::default() };
        self.with(Subscription {
            name: Some(format!("saga.{name}")),
            queue: Some(queue_of(&service, &name)),
            binding: Binding::None,
            contracts: Vec::new(),
            spec,
            concurrency,
            timeout: SAGA_TIMEOUT,
            breaker: None,
            prefers_keyed: true,
            atomic: false,
            window: None,
            bind: Box::new(move |state: S| {
                let orchestrator = Arc::new(Orchestrator::new(saga.bind(&state), service, store));
                Arc::new(move |context| {
                    let orchestrator = Arc::clone(&orchestrator);
                    Box::pin(async move { orchestrator.handle(context).await })
                })
            }),
            wrap: None,
        })
    }

    /// Runs a task beside the handlers, from the start to the stop. It ends when its token is cancelled; one that ends before is
    /// begun no more.
    #[must_use]
    pub fn task<F, P>(mut self, name: impl Into<String>, task: F) -> Self
    where
        F: FnOnce(S, Client, CancellationToken) -> P + Send + 'static,
        P: Future<Output = ()> + Send + 'static,
    {
        let task: Background<S> = Box::new(move |state, client, stop| Box::pin(task(state, client, stop)));
        self.tasks.push((name.into(), task));
        self
    }

    /// Where it can be reached otherwise, for those who [look it up](crate::discovery): `endpoint("http", "http://10.0.0.7:8080")`.
    #[must_use]
    pub fn endpoint(mut self, protocol: impl Into<String>, address: impl Into<String>) -> Self {
        self.endpoints.insert(protocol.into(), address.into());
        self
    }

    /// Does not announce itself ([`discovery`](crate::discovery)).
    #[must_use]
    pub fn unannounced(mut self) -> Self {
        self.announced = false;
        self
    }

    /// Something that it needs to be [ready](crate::Health): its database, another service. The error says why not.
    #[must_use]
    pub fn check<F, P>(mut self, name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> P + Send + Sync + 'static,
        P: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push((name.into(), Arc::new(move || Box::pin(check()))));
        self
    }

    /// Where its spans and metrics go; to the providers that are installed for the process when it starts unless given. For several services in one
    /// process, each of which is a service of its own to those who look at traces.
    #[must_use]
    pub fn telemetry(mut self, providers: Providers) -> Self {
        self.providers = Some(providers);
        self
    }

    /// How long it waits for handlers at work when it stops. What is not finished then goes back to its queue.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts: looks whether all makes sense, declares what is needed, and begins. Ready when every consumer is known to the broker.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn start(self, transport: Arc<dyn Transport>) -> Result<Running, ServiceError> {
        Running::start(self, transport).await
    }

    /// Starts, runs until SIGTERM or SIGINT, and stops: takes nothing new, finishes what it is at, disconnects.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn run(self, transport: Arc<dyn Transport>) -> Result<(), ServiceError> {
        let running = self.start(Arc::clone(&transport)).await?;
        running.until_signal().await;
        transport.close().await;
        Ok(())
    }
}

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}
