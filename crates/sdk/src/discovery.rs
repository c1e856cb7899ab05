//! Which services run, found through the broker: no registry beside it.
//!
//! Every [`Service`](crate::Service) on a transport with [`live`](crate::transport::Capabilities::live) messages announces itself: its name, version and instance, what it
//! consumes, publishes and answers, and its [endpoints](crate::Service::endpoint). It does so when it starts, when somebody asks, and every few seconds; when it
//! stops it says goodbye. A [`Directory`] hears that and keeps a list: an instance that was killed is gone from it
//! [`EXPIRES_AFTER`] later.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use types::Timestamp;

use crate::Envelope;
use crate::client::Client;
use crate::transport::{Destination, Listener, Outgoing, TransportError};

/// How often an instance says that it is there.
pub const ANNOUNCED_EVERY: Duration = Duration::from_secs(5);
/// How long an instance that says nothing is still listed.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(16);
/// Most instances that a directory keeps; those beyond are not listed.
pub const MAX_INSTANCES: usize = 10_000;

const SUBJECTS: &str = "svc.discovery.*";
const HERE: &str = "svc.discovery.here";
const GONE: &str = "svc.discovery.gone";
const WHO: &str = "svc.discovery.who";

/// A running instance of a service, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The service.
    pub service: String,
    /// Its version.
    pub version: String,
    /// What tells the instance from all others, of any time.
    pub instance: String,
    /// When it started, in milliseconds since 1970.
    pub started_ms: i64,
    /// Where it can be reached otherwise, by protocol or purpose: `http` to `http://10.0.0.7:8080`.
    #[serde(default)]
    pub endpoints: BTreeMap<String, String>,
    /// The queues that it consumes.
    #[serde(default)]
    pub consumes: Vec<String>,
    /// The messages that it publishes.
    #[serde(default)]
    pub publishes: Vec<String>,
    /// The questions that it answers.
    #[serde(default)]
    pub answers: Vec<String>,
}

/// Those who are there, and when each was heard of last.
type Heard = BTreeMap<String, (Instance, Timestamp)>;

/// The running instances, as this process has heard of them. Dropped, it listens no more.
pub struct Directory {
    client: Client,
    heard: Arc<Mutex<Heard>>,
    changes: watch::Receiver<u64>,
    _stop: DropGuard,
}

impl Directory {
    /// Begins to listen, and asks who is there. Answers take a moment: [`changed`](Self::changed) tells of each.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub async fn watch(client: &Client) -> Result<Self, TransportError> {
        let listener = client.transport().listen(SUBJECTS, None).await?;
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (changed, changes) = watch::channel(0);
        let stop = CancellationToken::new();
        let task = Hearing { client: client.clone(), heard: Arc::clone(&heard), changed, stop: stop.clone() };
        tokio::spawn(task.run(listener));
        say(client, WHO, None).await;
        Ok(Self { client: client.clone(), heard, changes, _stop: stop.drop_guard() })
    }

    /// All instances that are there, by service, then by when they started.
    #[must_use]
    pub fn all(&self) -> Vec<Instance> {
        let now = self.client.transport().now();
        let heard = self.heard.lock();
        let there = heard.values().filter(|(_, last)| now.since(*last) < EXPIRES_AFTER);
        let mut all: Vec<Instance> = there.map(|(instance, _)| instance.clone()).collect();
        all.sort_by(|a, b| (&a.service, a.started_ms, &a.instance).cmp(&(&b.service, b.started_ms, &b.instance)));
        all
    }

    /// The instances of a service.
    #[must_use]
    pub fn of(&self, service: &str) -> Vec<Instance> {
        let mut all = self.all();
        all.retain(|instance| instance.service == service);
        all
    }

    /// Waits until an instance has come, gone or expired since this was last awaited.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The transport was closed: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("instances", &self.heard.lock().len()).finish_non_exhaustive()
    }
}

/// Keeps a directory's list.
struct Hearing {
    client: Client,
    heard: Arc<Mutex<Heard>>,
    changed: watch::Sender<u64>,
    stop: CancellationToken,
}

impl Hearing {
    async fn run(self, mut listener: Box<dyn Listener>) {
        let transport = Arc::clone(self.client.transport());
        let mut look = transport.sleep(ANNOUNCED_EVERY);
        loop {
            let message = tokio::select! {
                () = self.stop.cancelled() => return,
                message = listener.next() => message,
                () = &mut look => {
                    look = transport.sleep(ANNOUNCED_EVERY);
                    self.forget(transport.now());
                    continue;
                }
            };
            let Some(message) = message else { return };
            self.hear(&message, transport.now());
        }
    }

    fn hear(&self, message: &Envelope, now: Timestamp) {
        let body = message.body.as_deref().unwrap_or_default();
        // What is nonsense is somebody else's.
        let Ok(instance) = serde_json::from_slice::<Instance>(body) else { return };
        let mut heard = self.heard.lock();
        let changed = if message.subject == GONE.as_bytes() {
            heard.remove(&instance.instance).is_some()
        } else if heard.len() >= MAX_INSTANCES && !heard.contains_key(&instance.instance) {
            false
        } else {
            let id = instance.instance.clone();
            let before = heard.insert(id, (instance.clone(), now));
            before.is_none_or(|(before, _)| before != instance)
        };
        drop(heard);
        if changed {
            self.changed.send_modify(|number| *number += 1);
        }
    }

    fn forget(&self, now: Timestamp) {
        let mut heard = self.heard.lock();
        let before = heard.len();
        heard.retain(|_, (_, last)| now.since(*last) < EXPIRES_AFTER);
        let changed = heard.len() != before;
        drop(heard);
        if changed {
            self.changed.send_modify(|number| *number += 1);
        }
    }
}

/// Says that an instance is there, for as long as it is.
pub(crate) struct Announcer {
    pub(crate) client: Client,
    pub(crate) instance: Instance,
    pub(crate) stop: CancellationToken,
}

impl Announcer {
    /// Begins to listen for those who ask.
    pub(crate) async fn listen(&self) -> Result<Box<dyn Listener>, TransportError> {
        self.client.transport().listen(WHO, None).await
    }

    pub(crate) async fn run(self, mut listener: Box<dyn Listener>) {
        let transport = Arc::clone(self.client.transport());
        loop {
            say(&self.client, HERE, Some(&self.instance)).await;
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = transport.sleep(ANNOUNCED_EVERY) => {}
                asked = listener.next() => if asked.is_none() { return },
            }
        }
        say(&self.client, GONE, Some(&self.instance)).await;
    }
}

/// Nobody may listen, and what is not heard is said again: nothing that goes wrong here is an error.
async fn say(client: &Client, subject: &'static str, instance: Option<&Instance>) {
    let body = instance.and_then(|instance| serde_json::to_vec(instance).ok()).unwrap_or_default();
    let mut message = Envelope::new(subject, body);
    message.durable = false;
    message.content_type = Some("application/json".into());
    let outgoing = Outgoing { to: Destination::Live, message };
    // Not watched: a trace of heartbeats helps nobody.
    if let Some(Err(error)) = client.transport().publish(vec![outgoing]).await.pop() {
        tracing::debug!(%error, "an announcement was not heard");
    }
}
