//! The broker: what every session shares.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{EngineState, Log};
use types::{Clock, check_name};

use crate::access::{Credentials, Grants, Principal};
use crate::definitions::NamespaceConfig;
use crate::errors::{AccessError, DeclareError, StorageError};
use crate::meta::MetaRecord;
use crate::session::{Change, Resolved, Session, to_the_end};
use crate::shared::{Namespace, Shared};
use crate::topics::Topic;
use crate::validate::validate_namespace;
use crate::views::{Declared, NamespaceInfo, PushQueue, QueueInfo, TopicInfo};

/// The namespace that always exists.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// The broker. A cheap handle of what all sessions share.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

/// How the broker runs.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerOptions {
    /// Bytes of messages in flight through the broker above which publishers are held back.
    pub memory_high_bytes: u64,
    /// Bytes of waiting messages that all queues together hold in memory. What is beyond is read from the log as it is delivered.
    pub windows_bytes: u64,
    /// Whether unauthenticated sessions may do everything while there are no users.
    pub anonymous: bool,
    /// How long a successful password check is remembered.
    pub auth_cache: Duration,
    /// Records that a log of state or of definitions gathers beyond a snapshot before it is written anew; `None` is what suits each. For
    /// tests, in which thousands never come together.
    pub snapshot_records: Option<u64>,
    /// Whether webhooks may be given private, loopback and link-local targets. What pushes has a setting of the same kind.
    pub webhook_allow_private: bool,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            memory_high_bytes: 256 * 1024 * 1024,
            windows_bytes: crate::defaults::WINDOWS_BYTES,
            anonymous: true,
            auth_cache: crate::defaults::AUTH_CACHE,
            snapshot_records: None,
            webhook_allow_private: false,
        }
    }
}

/// Broker-wide counters and gauges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokerMetrics {
    /// Messages published and confirmed.
    pub published: u64,
    /// Bytes of messages that were accepted for publishing.
    pub published_bytes: u64,
    /// Publishes refused.
    pub publish_errors: u64,
    /// Handed to consumers of queues.
    pub delivered: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Moved to dead-letter targets.
    pub dead_lettered: u64,
    /// Dropped for want of a target.
    pub dropped: u64,
    /// Messages to live subscriptions.
    pub live_delivered: u64,
    /// Messages that live subscriptions were too slow for.
    pub live_lost: u64,
    /// Live subscriptions.
    pub live_subscriptions: u64,
    /// Requests that nobody answered.
    pub no_responders: u64,
    /// Bytes of messages in flight through the broker.
    pub memory_bytes: u64,
    /// Whether publishers are held back.
    pub memory_high: bool,
    /// Bytes of waiting messages that queues hold in memory.
    pub windows_bytes: u64,
}

impl Broker {
    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Starts a broker on a log: replays what it holds.
    ///
    /// # Errors
    /// If the log cannot be opened or the definitions in it cannot be read.
    pub fn open(log: Arc<dyn Log>, clock: Arc<dyn Clock>, options: BrokerOptions) -> Result<Self, StorageError> {
        crate::recovery::open(log, clock, options)
    }

    /// Ends sessions' waits, and closes the log once what is under way has ended. New operations are refused.
    pub async fn close(&self) {
        let _meta = self.shared.meta.lock().await;
        self.shared.closed.store(true, Ordering::Release);
        let spaces: Vec<_> = self.shared.namespaces.read().values().cloned().collect();
        for space in spaces {
            space.live.close();
            let topics: Vec<_> = space.entities.read().topics.values().cloned().collect();
            topics.iter().for_each(|topic| topic.appended());
        }
        let queues: Vec<_> = self.shared.queues.read().values().cloned().collect();
        let now = self.shared.clock.now();
        queues.iter().for_each(|queue| queue.wake_all(now));
        self.shared.flush();
        self.shared.log.close();
    }

    /// Checks credentials of a caller whose address is not known. A password that was not checked lately costs tens of milliseconds of CPU:
    /// call it off the runtime's workers.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`].
    pub fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AccessError> {
        self.authenticate_from(credentials, None)
    }

    /// As [`authenticate`](Self::authenticate), for a caller at this address. A user who may log in from a loopback address only is let in
    /// from nowhere else, and not from an address that is not known.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`], whatever was wrong; the reason is in the log where the secret was right.
    pub fn authenticate_from(&self, credentials: &Credentials, peer: Option<IpAddr>) -> Result<Principal, AccessError> {
        self.shared.users.authenticate_from(credentials, peer, self.shared.clock.now())
    }

    /// As [`authenticate_from`](Self::authenticate_from), for a task that must not be held up: a password that was not checked lately costs
    /// tens of milliseconds of hashing.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn login(&self, credentials: Credentials, peer: Option<IpAddr>) -> Result<Principal, AccessError> {
        if !matches!(credentials, Credentials::Password { .. }) {
            return self.authenticate_from(&credentials, peer);
        }
        let broker = self.clone();
        // The check itself does not panic, so that this fails only while the runtime ends.
        let checked = tokio::task::spawn_blocking(move || broker.authenticate_from(&credentials, peer)).await;
        checked.unwrap_or(Err(AccessError::Busy))
    }

    /// Whether there is any user. Without one, and with `anonymous` allowed, everybody may do everything.
    #[must_use]
    pub fn has_users(&self) -> bool {
        !self.shared.users.is_empty()
    }

    /// A session of this caller in this namespace. The default namespace is called `default` and always exists.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn session(&self, principal: &Principal, namespace: &str) -> Result<Session, AccessError> {
        let missing = || AccessError::NoSuchNamespace(namespace.to_owned());
        let space = self.shared.namespaces.read().get(namespace).cloned().ok_or_else(missing)?;
        let grants = self.grants(principal, namespace)?;
        if !grants.sees_namespace() {
            return Err(missing());
        }
        Ok(Session::new(self.clone(), principal.clone(), space))
    }

    pub(crate) fn grants(&self, by: &Principal, namespace: &str) -> Result<Grants, AccessError> {
        if by.expires().is_some_and(|end| end <= self.shared.clock.now().wall) {
            return Err(AccessError::Unauthenticated);
        }
        self.shared.users.grants(by, namespace).ok_or(AccessError::Unauthenticated)
    }

    pub(crate) fn require_admin(&self, by: &Principal, what: &str) -> Result<(), AccessError> {
        self.grants(by, DEFAULT_NAMESPACE)?.require_admin(what)
    }

    /// Makes or changes a namespace. Administrators only, as all below.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn put_namespace(
        &self,
        by: &Principal,
        name: &str,
        config: NamespaceConfig,
    ) -> Result<(Declared, NamespaceInfo), DeclareError> {
        check_name(name)?;
        self.require_admin(by, "namespaces")?;
        validate_namespace(&config)?;
        let (broker, name) = (self.clone(), name.to_owned());
        to_the_end(async move { broker.put_namespace_now(&name, config).await }).await
    }

    async fn put_namespace_now(
        &self,
        name: &str,
        config: NamespaceConfig,
    ) -> Result<(Declared, NamespaceInfo), DeclareError> {
        let mut change = Change::begin(&self.shared).await;
        let existing = self.shared.namespaces.read().get(name).cloned();
        let (id, declared) = match &existing {
            Some(space) if *space.config() == config => {
                return Ok((Declared::Unchanged, space.info(&self.shared)));
            }
            Some(space) => (space.id, Declared::Updated),
            None => (change.meta.new_id(), Declared::Created),
        };
        change.record(MetaRecord::PutNamespace { id: id.0, name: name.to_owned(), config: config.clone() });
        let resolved = existing.map(|space| {
            let resolved = Resolved::plan(&space, &mut change, &space.policies(), &config);
            (space, resolved)
        });
        let _held = change.commit(&self.shared).await?;
        let space = match resolved {
            Some((space, resolved)) => {
                *space.config.write() = Arc::new(config);
                resolved.put_into_force(&self.shared, &space);
                space
            }
            None => {
                let space = Arc::new(Namespace::new(id, name, config));
                self.shared.namespaces.write().insert(Arc::clone(&space.name), Arc::clone(&space));
                space
            }
        };
        self.shared.changed();
        Ok((declared, space.info(&self.shared)))
    }

    /// Deletes a namespace and all it holds, users' permissions in it included. `default` cannot be deleted.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_namespace(&self, by: &Principal, name: &str) -> Result<(), DeclareError> {
        self.require_admin(by, "namespaces")?;
        let entity = format!("namespace {name:?}");
        if name == DEFAULT_NAMESPACE {
            return Err(DeclareError::InUse { entity, by: "it is the default and always exists".to_owned() });
        }
        let (broker, name) = (self.clone(), name.to_owned());
        to_the_end(async move { broker.delete_namespace_now(&name).await }).await
    }

    async fn delete_namespace_now(&self, name: &str) -> Result<(), DeclareError> {
        let entity = format!("namespace {name:?}");
        let mut change = Change::begin(&self.shared).await;
        let space = self.shared.namespaces.read().get(name).cloned();
        let space = space.ok_or(DeclareError::NotFound { entity })?;
        let (queues, topics, groups) = {
            let entities = space.entities.read();
            let queues: Vec<_> = entities.queues.values().cloned().collect();
            let topics: Vec<_> = entities.topics.values().cloned().collect();
            let groups: Vec<_> = entities.groups.values().cloned().collect();
            (queues, topics, groups)
        };
        change.record(MetaRecord::DeleteNamespace { id: space.id.0 });
        for queue in &queues {
            change.remove_log(queue.owned());
            change.remove_log(queue.state.owned());
        }
        for topic in &topics {
            topic.partitions().iter().for_each(|owned| change.remove_log(*owned));
            change.remove_log(topic.state.owned());
        }
        groups.iter().for_each(|group| change.remove_log(group.owned()));
        // Another namespace of this name must not be open to those who could enter this one.
        let mut users = self.shared.users.list();
        users.retain_mut(|(_, config)| config.permissions.remove(name).is_some());
        for (name, config) in &users {
            change.record(MetaRecord::PutUser { name: name.clone(), config: config.clone() });
        }
        let _held = change.commit(&self.shared).await?;
        self.shared.namespaces.write().remove(name);
        space.delete();
        for (name, config) in users {
            self.shared.users.put(&name, config);
        }
        *space.entities.write() = crate::shared::Entities::default();
        let now = self.shared.clock.now();
        for queue in queues {
            self.shared.queues.write().remove(&queue.id);
            let counters = queue.lock(now).meter.counters;
            self.shared.totals.keep(&counters);
            queue.delete(now);
        }
        topics.iter().for_each(|topic| topic.delete());
        groups.iter().for_each(|group| group.delete());
        self.shared.changed();
        Ok(())
    }

    /// The namespaces that the caller may see.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn namespaces(&self, by: &Principal) -> Result<Vec<NamespaceInfo>, DeclareError> {
        let spaces: Vec<_> = self.shared.namespaces.read().values().cloned().collect();
        let mut visible = Vec::new();
        for space in spaces {
            let grants = self.grants(by, &space.name)?;
            if grants.sees_namespace() {
                visible.push(space.info(&self.shared));
            }
        }
        Ok(visible)
    }

    /// All namespaces, by name, for those who look after the broker.
    #[must_use]
    pub fn all_namespaces(&self) -> Vec<NamespaceInfo> {
        self.shared.namespaces.read().values().map(|space| space.info(&self.shared)).collect()
    }

    /// The log's health and counters.
    #[must_use]
    pub fn engine_state(&self) -> EngineState {
        self.shared.log.engine_state()
    }

    /// Why the broker is not ready to take publishes, if it is not.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        if self.shared.is_closed() {
            return Some("the broker is stopping".to_owned());
        }
        let state = self.engine_state();
        if let Some(why) = state.poisoned {
            return Some(format!("the storage has failed and takes no writes until a restart: {why}"));
        }
        state.disk_full.then(|| "the disk is full down to the reserve".to_owned())
    }

    /// Broker-wide counters.
    #[must_use]
    pub fn metrics(&self) -> BrokerMetrics {
        let (shared, totals) = (&self.shared, &self.shared.totals);
        let now = shared.clock.now();
        let mut metrics = BrokerMetrics {
            published: totals.published.load(Ordering::Relaxed),
            published_bytes: totals.published_bytes.load(Ordering::Relaxed),
            publish_errors: totals.publish_errors.load(Ordering::Relaxed),
            delivered: totals.delivered.load(Ordering::Relaxed),
            acked: totals.acked.load(Ordering::Relaxed),
            failed: totals.failed.load(Ordering::Relaxed),
            dead_lettered: totals.dead_lettered.load(Ordering::Relaxed),
            dropped: totals.dropped.load(Ordering::Relaxed),
            live_delivered: totals.live_delivered.load(Ordering::Relaxed),
            live_lost: totals.live_lost.load(Ordering::Relaxed),
            no_responders: totals.no_responders.load(Ordering::Relaxed),
            live_subscriptions: shared.namespaces.read().values().map(|space| space.live.len() as u64).sum(),
            memory_bytes: shared.memory.bytes(),
            memory_high: shared.memory.is_high(),
            windows_bytes: shared.windows.used_bytes(),
        };
        let queues: Vec<_> = shared.queues.read().values().cloned().collect();
        for queue in queues {
            let counters = queue.lock(now).meter.counters;
            metrics.delivered += counters.delivered;
            metrics.acked += counters.acked;
            metrics.failed += counters.failed;
        }
        metrics
    }

    /// Every queue of every namespace, for metrics: `(namespace, info)`.
    #[must_use]
    pub fn all_queues(&self) -> Vec<(String, QueueInfo)> {
        let now = self.shared.clock.now();
        let spaces: Vec<_> = self.shared.namespaces.read().values().cloned().collect();
        let mut all = Vec::new();
        for space in spaces {
            let queues: Vec<_> = space.entities.read().queues.values().cloned().collect();
            all.extend(queues.iter().map(|queue| (space.name.to_string(), queue.info(&self.shared, now))));
        }
        all
    }

    /// Every queue that is pushed to an endpoint.
    #[must_use]
    pub fn push_queues(&self) -> Vec<PushQueue> {
        let spaces: Vec<_> = self.shared.namespaces.read().values().cloned().collect();
        let mut all = Vec::new();
        for space in spaces {
            let entities = space.entities.read();
            all.extend(entities.queues.values().filter_map(|queue| {
                let webhook = queue.definition().config.webhook.clone()?;
                Some(PushQueue {
                    id: queue.id,
                    namespace: space.name.to_string(),
                    name: queue.name.to_string(),
                    webhook,
                })
            }));
        }
        all
    }

    /// Every topic of every namespace, for metrics: `(namespace, info)`.
    #[must_use]
    pub fn all_topics(&self) -> Vec<(String, TopicInfo)> {
        let spaces: Vec<_> = self.shared.namespaces.read().values().cloned().collect();
        let mut all = Vec::new();
        for space in spaces {
            let entities = space.entities.read();
            let info = |topic: &Arc<Topic>| {
                let bindings = entities.router.bindings_from(topic.id).count() as u64;
                (space.name.to_string(), topic.info(&self.shared, bindings))
            };
            all.extend(entities.topics.values().map(info));
        }
        all
    }

    /// Grows with each change of a definition. For what remembers definitions until they change.
    #[must_use]
    pub fn definitions_number(&self) -> u64 {
        self.shared.change_number.load(Ordering::Acquire)
    }

    /// Waits until a definition changes after `seen`; gives the new number. For what follows definitions, such as push consumers.
    pub async fn definitions_changed(&self, seen: u64) -> u64 {
        let mut changes = self.shared.changes.subscribe();
        // The sender lives as long as the broker, so waiting cannot fail while this handle is there.
        changes.wait_for(|number| *number > seen).await.map_or(seen, |number| *number)
    }

    /// A session of the broker's own: it may do everything. For parts of the server that act for a definition, such as push consumers.
    #[must_use]
    pub fn internal_session(&self, namespace: &str) -> Option<Session> {
        let space = self.shared.namespaces.read().get(namespace).cloned()?;
        Some(Session::new(self.clone(), Principal::internal(), space))
    }
}
