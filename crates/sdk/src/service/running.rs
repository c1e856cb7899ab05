//! A service that runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::BoxService;

use super::builder::{Service, ServiceError};
use super::prepare::replay_queue;
use super::subscription::{Replay, Responder, Subscription};
use crate::client::{Client, question_subject};
use crate::context::Place;
use crate::contract::Contract;
use crate::discovery::{Announcer, Instance};
use crate::health::Health;
use crate::runtime::{CancelTask, Cancels, ConsumerTask, HandlerService, Lane, ReaderTask, ResponderTask, Route, Work};
use crate::telemetry::Providers;
use crate::transport::{Topology, Transport, TransportError, dead_letter_queue};

/// Deliveries that a consumer has beyond those that its handlers work on, so that they never wait for the broker.
const CREDIT_AHEAD: usize = 2;
/// Most deliveries that one lane may have.
const MAX_CREDIT: usize = 4096;

/// A service that runs. Dropped, it stops at once; [`stop`](Self::stop) lets it finish what it is at.
#[derive(Debug)]
pub struct Running {
    name: String,
    client: Client,
    stop: CancellationToken,
    cancel: CancellationToken,
    tracker: TaskTracker,
    grace: Duration,
    queues: Vec<String>,
    health: Health,
}

/// How a service stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that it was at is finished.
    Finished,
    /// The time was over: what was not finished went back to its queue.
    AtTheLimit,
}

/// What the parts of a service that starts have in common.
struct Start {
    name: Arc<str>,
    client: Client,
    topology: Arc<Topology>,
    stop: CancellationToken,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

impl Running {
    pub(super) async fn start<S>(mut service: Service<S>, transport: Arc<dyn Transport>) -> Result<Self, ServiceError>
    where
        S: Clone + Send + Sync + 'static,
    {
        let name = service.name.clone();
        let topology = service
            .prepare(&*transport)
            .map_err(|problems| ServiceError::Invalid { service: name.clone(), problems })?;
        let failed = |error| ServiceError::Transport { service: name.clone(), error };
        transport.declare(&topology).await.map_err(failed)?;
        let cancel = CancellationToken::new();
        let providers = service.providers.take().unwrap_or_else(Providers::global);
        let start = Start {
            name: name.as_str().into(),
            client: Client::of_service(transport, Some(&name), &providers),
            topology: Arc::new(topology),
            stop: cancel.child_token(),
            cancel,
            tracker: TaskTracker::new(),
        };
        let running = Self {
            name: name.clone(),
            client: start.client.clone(),
            stop: start.stop.clone(),
            cancel: start.cancel.clone(),
            tracker: start.tracker.clone(),
            grace: service.grace,
            queues: start.topology.queues.iter().map(|queue| queue.name.clone()).collect(),
            health: Health {
                client: start.client.clone(),
                stop: start.stop.clone(),
                checks: std::mem::take(&mut service.checks).into(),
            },
        };
        let announced = service.announced && start.client.transport().capabilities().live.is_there();
        let instance = announced.then(|| start.instance(&service));
        // Dropping `running` on an error ends what has begun.
        let mut attached = Vec::new();
        for subscription in service.subscriptions {
            attached.extend(start.consume(subscription, service.state.clone()));
        }
        start.respond(service.responders, &service.state).await.map_err(failed)?;
        for replay in service.replays {
            start.replay(replay, &service.state).await.map_err(failed)?;
        }
        for begun in attached {
            begun.await.unwrap_or(Err(TransportError::Closed)).map_err(failed)?;
        }
        if let Some(instance) = instance {
            let announcer = Announcer { client: start.client.clone(), instance, stop: start.stop.clone() };
            let listener = announcer.listen().await.map_err(failed)?;
            start.tracker.spawn(announcer.run(listener));
        }
        for (_, task) in service.tasks {
            start.tracker.spawn(task(service.state.clone(), start.client.clone(), start.stop.clone()));
        }
        start.tracker.close();
        Ok(running)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client that its handlers have.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The queues that it consumes.
    #[must_use]
    pub fn queues(&self) -> &[String] {
        &self.queues
    }

    /// Whether it can work, for endpoints and tests.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Runs until SIGTERM or SIGINT, then stops.
    pub async fn until_signal(self) -> Stopped {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            // Without signals there is nothing to wait for but the end of the process.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!(service = %self.name, "stopping");
        self.stop().await
    }

    /// Stops: takes nothing new, and waits for what it is at up to the [grace](Service::grace).
    pub async fn stop(self) -> Stopped {
        self.stop.cancel();
        if tokio::time::timeout(self.grace, self.tracker.wait()).await.is_ok() {
            return Stopped::Finished;
        }
        self.cancel.cancel();
        // What was cancelled only has to give back what it had.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tracker.wait()).await;
        Stopped::AtTheLimit
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Start {
    /// The service as it announces itself.
    fn instance<S>(&self, service: &Service<S>) -> Instance {
        let names = |contracts: &[Contract]| -> Vec<String> {
            contracts.iter().map(|contract| contract.name.to_owned()).collect()
        };
        Instance {
            service: service.name.clone(),
            version: service.version.clone(),
            instance: uuid::Uuid::now_v7().to_string(),
            started_ms: self.client.transport().now().0,
            endpoints: service.endpoints.clone(),
            consumes: self.topology.queues.iter().map(|queue| queue.name.clone()).collect(),
            publishes: names(&service.published),
            answers: service.responders.iter().flat_map(|responder| names(&responder.contracts)).collect::<Vec<_>>(),
        }
    }

    /// Begins to consume a queue. Each lane says when it has its consumer.
    fn consume<S>(
        &self,
        subscription: Subscription<S>,
        state: S,
    ) -> Vec<oneshot::Receiver<Result<(), TransportError>>> {
        let handler = (subscription.bind)(state);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        // Layers see all messages of a handler, so that there is one lane then. So it is for keyed queues with a breaker, and wherever one is enough.
        let lanes = match (&subscription.wrap, subscription.breaker) {
            (None, None) => threads.min(subscription.concurrency),
            _ => 1,
        };
        let concurrency = subscription.concurrency.div_ceil(lanes);
        let credit = concurrency.saturating_mul(CREDIT_AHEAD).min(MAX_CREDIT);
        let name = subscription.name.unwrap_or_default();
        let place = Place {
            service: Arc::clone(&self.name),
            handler: name.as_str().into(),
            source: subscription.spec.name.as_str().into(),
        };
        let task = Arc::new(ConsumerTask {
            client: self.client.clone(),
            place: Arc::new(place),
            queue: Arc::new(subscription.spec),
            topology: Arc::clone(&self.topology),
            concurrency,
            credit: u32::try_from(credit).unwrap_or(u32::MAX),
            timeout: subscription.timeout,
            breaker: subscription.breaker,
            stop: self.stop.clone(),
            cancel: self.cancel.clone(),
        });
        let mut layered: Option<BoxService<_, _, _>> =
            subscription.wrap.map(|wrap| wrap(HandlerService(Arc::clone(&handler))));
        (0..lanes)
            .map(|_| {
                let work = layered.take().map_or_else(|| Work::Bare(Arc::clone(&handler)), Work::Layered);
                let (begun, told) = oneshot::channel();
                self.tracker.spawn(Lane::new(Arc::clone(&task), work).run(begun));
                told
            })
            .collect()
    }

    async fn respond<S: Clone>(&self, responders: Vec<Responder<S>>, state: &S) -> Result<(), TransportError> {
        if responders.is_empty() {
            return Ok(());
        }
        let cancels = Cancels::default();
        let hears =
            CancelTask { client: self.client.clone(), cancels: Arc::clone(&cancels), stop: self.cancel.clone() };
        let listener = hears.listen().await?;
        // Not tracked: it hears cancellations until the last answer is out.
        tokio::spawn(hears.run(listener));
        for responder in responders {
            let Some(contract) = responder.contracts.first() else { continue };
            let place = Place {
                service: Arc::clone(&self.name),
                handler: contract.name.into(),
                source: question_subject(contract.name).as_str().into(),
            };
            let task = ResponderTask {
                client: self.client.clone(),
                place: Arc::new(place),
                handler: (responder.bind)(state.clone()),
                concurrency: responder.concurrency,
                timeout: responder.timeout,
                cancels: Arc::clone(&cancels),
                stop: self.stop.clone(),
                cancel: self.cancel.clone(),
            };
            let listener = task.listen().await?;
            self.tracker.spawn(task.run(listener));
        }
        Ok(())
    }

    async fn replay<S: Clone>(&self, replay: Replay<S>, state: &S) -> Result<(), TransportError> {
        let place = Place {
            service: Arc::clone(&self.name),
            handler: replay.name.as_str().into(),
            source: replay.topic.as_str().into(),
        };
        let kept_as = format!("{}/{}", replay.name, replay.version);
        let routes = replay.routes.into_iter().map(|(name, bind)| {
            let handler = bind(state.clone());
            let handler = match &replay.kept_in {
                Some(kept_in) => (kept_in.wrap)(handler, &kept_as),
                None => handler,
            };
            Route { name, handler }
        });
        let queue = replay_queue(&self.name, &replay.name);
        let task = ReaderTask {
            client: self.client.clone(),
            place: Arc::new(place),
            topic: replay.topic,
            checkpoint: (replay.kept && replay.kept_in.is_none()).then(|| match replay.version {
                1 => queue.clone(),
                later => format!("{queue}.v{later}"),
            }),
            from: replay.from,
            routes: routes.collect(),
            retry: replay.retry,
            timeout: replay.timeout,
            dead_letter_queue: dead_letter_queue(&queue),
            kept: replay.kept_in.as_ref().map(|kept_in| (kept_in.positions)(&kept_as)),
            stop: self.stop.clone(),
            cancel: self.cancel.clone(),
        };
        let reader = task.open().await?;
        self.tracker.spawn(task.run(reader));
        Ok(())
    }
}
