//! The push consumers of a broker: one worker for each queue with a webhook, as its definition says now.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use broker::Broker;
use broker::definitions::WebhookConfig;
use broker::views::PushQueue;
use reqwest::{Client, redirect};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::clock::SystemClock;
use types::{Clock, EntityId};

use super::address::GuardedResolver;
use super::endpoint::Endpoint;
use super::limits::{CHANGES_SETTLE, CONNECT_TIMEOUT, IDLE_CONNECTIONS, IDLE_TIMEOUT, WORKER_RETRY};
use super::metrics::PushMetrics;
use super::request::Place;
use super::worker::Worker;

/// How push consumers run.
#[derive(Clone)]
pub struct PushOptions {
    /// Whether endpoints may be at private, loopback, link-local and other addresses that only this machine or its network reaches. Off
    /// by default: whoever may define a queue could otherwise reach them through the broker.
    pub allow_private: bool,
    /// How long requests under way may take to end when the pusher stops. What is left then goes back into its queue, and no attempt
    /// is counted.
    pub stop_timeout: Duration,
    /// Where timestamps come from.
    pub clock: Arc<dyn Clock>,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { allow_private: false, stop_timeout: Duration::from_secs(10), clock: Arc::new(SystemClock::new()) }
    }
}

impl fmt::Debug for PushOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushOptions")
            .field("allow_private", &self.allow_private)
            .field("stop_timeout", &self.stop_timeout)
            .finish_non_exhaustive()
    }
}

/// The push consumers. Dropping it stops them without waiting.
#[derive(Debug)]
pub struct Pusher {
    metrics: Arc<PushMetrics>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Pusher {
    /// Starts pushing, and follows the definitions from now on. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(broker: Broker, options: PushOptions) -> Self {
        let metrics = Arc::new(PushMetrics::default());
        let stop = CancellationToken::new();
        let manager = Manager {
            broker,
            options,
            metrics: Arc::clone(&metrics),
            stop: stop.clone(),
            client: None,
            running: HashMap::new(),
            workers: JoinSet::new(),
        };
        let task = tokio::spawn(manager.run());
        Self { metrics, stop: stop.drop_guard(), task }
    }

    /// What they count.
    #[must_use]
    pub fn metrics(&self) -> &Arc<PushMetrics> {
        &self.metrics
    }

    /// Takes no more messages, waits for the requests under way within [`PushOptions::stop_timeout`], and puts the messages of the rest
    /// back into their queues.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the push consumers ended unexpectedly");
        }
    }
}

/// A worker that runs.
struct Running {
    webhook: WebhookConfig,
    stop: CancellationToken,
    task: AbortHandle,
}

/// Keeps the workers in step with the definitions.
struct Manager {
    broker: Broker,
    options: PushOptions,
    metrics: Arc<PushMetrics>,
    stop: CancellationToken,
    /// Made when the first webhook needs it: reading the system's certificates takes a while.
    client: Option<Client>,
    running: HashMap<EntityId, Running>,
    workers: JoinSet<()>,
}

impl Manager {
    async fn run(mut self) {
        let (mut seen, stop, broker) = (0, self.stop.clone(), self.broker.clone());
        let mut complete = self.follow().await;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.workers.join_next(), if !self.workers.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a push consumer ended unexpectedly and is started again");
                        self.running.retain(|_, running| !running.task.is_finished());
                        complete = false;
                    }
                    continue;
                }
                now = broker.definitions_changed(seen) => seen = now,
                () = tokio::time::sleep(WORKER_RETRY), if !complete => {}
            }
            if stop.run_until_cancelled(tokio::time::sleep(CHANGES_SETTLE)).await.is_none() {
                break;
            }
            complete = self.follow().await;
        }
        self.drain().await;
    }

    /// Starts and stops workers as the definitions say. Says whether all that should run do.
    async fn follow(&mut self) -> bool {
        let wanted = self.broker.push_queues();
        let kept: HashSet<EntityId> = wanted
            .iter()
            .filter(|queue| self.running.get(&queue.id).is_some_and(|running| running.webhook == queue.webhook))
            .map(|queue| queue.id)
            .collect();
        // A stopped worker finishes what it has under way, while the next one of its queue sends already: a new URL is not held up by
        // the time-outs of the old one.
        self.running.retain(|id, running| {
            kept.contains(id) || {
                running.stop.cancel();
                false
            }
        });
        let mut complete = true;
        for queue in wanted.into_iter().filter(|queue| !kept.contains(&queue.id)) {
            complete &= self.begin(queue).await;
        }
        complete
    }

    async fn begin(&mut self, queue: PushQueue) -> bool {
        let Some(client) = self.client().await else { return false };
        let Some(session) = self.broker.internal_session(&queue.namespace) else { return true };
        let endpoint = Endpoint::new(&queue.webhook, self.options.allow_private);
        tracing::info!(namespace = %queue.namespace, queue = %queue.name, endpoint = %endpoint.origin, "pushing to a webhook");
        if let Err(refused) = &endpoint.target {
            tracing::error!(queue = %queue.name, endpoint = %endpoint.origin, error = %refused, "a webhook's target is refused; its messages fail");
        }
        let worker = Worker {
            session,
            place: Place { namespace: queue.namespace, queue: queue.name },
            endpoint,
            client,
            clock: Arc::clone(&self.options.clock),
            metrics: Arc::clone(&self.metrics),
            failing: AtomicBool::new(false),
        };
        let stop = self.stop.child_token();
        let task = self.workers.spawn(worker.run(stop.clone()));
        self.running.insert(queue.id, Running { webhook: queue.webhook, stop, task });
        true
    }

    async fn client(&mut self) -> Option<Client> {
        if self.client.is_none() {
            let allow_private = self.options.allow_private;
            self.client = tokio::task::spawn_blocking(move || client(allow_private)).await.unwrap_or_default();
        }
        self.client.clone()
    }

    async fn drain(mut self) {
        let ended = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(self.options.stop_timeout, ended).await.is_err() {
            tracing::warn!(
                requests = self.metrics.in_flight(),
                "webhook requests did not end in time; their messages go back into their queues"
            );
            self.workers.shutdown().await;
        }
    }
}

/// The one client of all workers, and so the one that knows which addresses may be connected to.
fn client(allow_private: bool) -> Option<Client> {
    // One provider for all of the process; that another part has chosen it already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .user_agent(concat!("Posthouse/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .dns_resolver(Arc::new(GuardedResolver { allow_private }))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIMEOUT)
    };
    let built = builder().build().or_else(|error| {
        tracing::warn!(%error, "the system's certificate authorities cannot be read: no https webhook will be trusted");
        builder().tls_certs_only([]).build()
    });
    built.map_err(|error| tracing::error!(%error, "no HTTP client can be made; webhooks wait")).ok()
}
