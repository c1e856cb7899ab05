//! Queues: declaring, changing, deleting, looking.

use std::sync::Arc;

use log::{Cleanup, LogConfig};
use types::{EntityId, check_name};

use super::admin::{Change, define_queue, difference, to_the_end};
use super::removal::remove_queues;
use super::{DeleteOptions, Session};
use crate::access::Action;
use crate::definitions::{DeadLetterConfig, NamespaceConfig, QueueConfig};
use crate::errors::{ConsumeError, DeclareError};
use crate::holder::Holder;
use crate::meta::MetaRecord;
use crate::policy::Policies;
use crate::queues::{QueueDefinition, QueueOwner};
use crate::shared::{Namespace, Shared, log_of, state_log_of};
use crate::state_log::StateRecord;
use crate::transaction::{Owned, Transaction};
use crate::validate::{invalid, validate_queue};
use crate::views::{Declared, QueueInfo};
use crate::webhook_target::check_declared;

impl Session {
    /// Makes a queue, and its dead-letter queue if that is missing. One that exists with the same definition is fine; with another
    /// definition it is changed if `update`, and refused otherwise.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn declare_queue(
        &self,
        name: &str,
        config: QueueConfig,
        update: bool,
    ) -> Result<(Declared, QueueInfo), DeclareError> {
        self.declare(name, config, update, None).await
    }

    pub(super) async fn declare(
        &self,
        name: &str,
        config: QueueConfig,
        update: bool,
        holder: Option<Arc<Holder>>,
    ) -> Result<(Declared, QueueInfo), DeclareError> {
        check_name(name)?;
        self.may(Action::Configure, "queue", name)?;
        self.may_dead_letter(&config)?;
        validate_queue(&config)?;
        self.check_webhook(&config)?;
        let (session, name) = (self.clone(), name.to_owned());
        to_the_end(async move { session.declare_queue_now(&name, config, update, holder).await }).await
    }

    /// A queue writes its dead letters, so whoever names their place must be allowed to.
    fn may_dead_letter(&self, config: &QueueConfig) -> Result<(), DeclareError> {
        match &config.dead_letter {
            Some(DeadLetterConfig::Queue(to)) => self.may(Action::Write, "queue", to)?,
            Some(DeadLetterConfig::Topic { topic, .. }) => self.may(Action::Write, "topic", topic)?,
            // Of messages that name a queue it is not known which: only who may write to every one may let them.
            Some(DeadLetterConfig::Named { subject, .. }) => {
                self.may(Action::Write, "queue", subject.as_deref().unwrap_or_default())?;
            }
            Some(DeadLetterConfig::None) | None => {}
        }
        Ok(())
    }

    /// Whatever protocol a declaration comes by, it cannot make the broker reach what only the broker reaches.
    fn check_webhook(&self, config: &QueueConfig) -> Result<(), DeclareError> {
        let Some(webhook) = &config.webhook else { return Ok(()) };
        let checked = check_declared(&webhook.url, self.shared().webhook_allow_private);
        checked.map_err(|why| invalid("webhook.url", format!("{why} (webhook.allow_private)")))
    }

    /// A dead-letter queue is made if it is missing; a topic, of which nobody knows what it should lead to, is not. What is dropped for want
    /// of it need not wait for it.
    fn check_dead_letter(&self, config: &QueueConfig) -> Result<(), DeclareError> {
        match &config.dead_letter {
            Some(DeadLetterConfig::Topic { topic, or_drop: false, .. }) if self.space.topic(topic).is_none() => {
                Err(Self::not_found("topic", topic))
            }
            _ => Ok(()),
        }
    }

    async fn declare_queue_now(
        &self,
        name: &str,
        config: QueueConfig,
        update: bool,
        holder: Option<Arc<Holder>>,
    ) -> Result<(Declared, QueueInfo), DeclareError> {
        let change = self.begin_change().await?;
        if let Some(queue) = self.space.queue(name) {
            self.check_held(&queue)?;
            if queue.holder.is_some() != holder.is_some() {
                let difference = format!("owned is {}, not {}", queue.holder.is_some(), holder.is_some());
                return Err(DeclareError::Conflict { entity: format!("queue {name:?}"), difference });
            }
            return self.redeclare_queue(change, &queue, config, update).await;
        }
        self.check_dead_letter(&config)?;
        let quota = self.space.config().quota.max_queues;
        Self::check_quota("max_queues", quota, self.space.entities.read().queues.len())?;
        let queue = make_queue(self.shared(), &self.space, change, (name, config), holder).await?;
        Ok((Declared::Created, self.queue_info(&queue)))
    }

    async fn redeclare_queue(
        &self,
        mut change: Change,
        queue: &Arc<QueueOwner>,
        mut config: QueueConfig,
        update: bool,
    ) -> Result<(Declared, QueueInfo), DeclareError> {
        let have = queue.definition();
        keep_secret(&mut config, &have.config);
        if have.config == config {
            queue.lock(self.now()).touch();
            return Ok((Declared::Unchanged, self.queue_info(queue)));
        }
        let entity = format!("queue {:?}", &*queue.name);
        if !update {
            return Err(DeclareError::Conflict { entity, difference: difference(&have.config, &config) });
        }
        if have.config.volatile != config.volatile {
            let difference = "volatile cannot change; delete the queue and make it anew".to_owned();
            return Err(DeclareError::Conflict { entity, difference });
        }
        if have.config.dead_letter != config.dead_letter {
            self.check_dead_letter(&config)?;
        }
        let definition = self.space.queue_definition(&queue.name, config.clone());
        let (namespace, id) = (self.space.id.0, queue.id.0);
        // A volatile queue's definition goes with it: a restart that found one would look for its log.
        if !config.volatile {
            let (name, config) = (queue.name.to_string(), Box::new(config));
            change.record(MetaRecord::PutQueue { namespace, id, name, config });
        }
        let dead_letter = dead_letter_to_make(&self.space, &definition.resolved.dead_letter);
        let dead_letter = dead_letter.map(|name| plan_queue(&self.space, &mut change, &name, dead_letter_config()));
        let _held = change.commit(self.shared()).await?;
        let now = self.now();
        if let Some(planned) = dead_letter {
            planned.install(self.shared(), &self.space);
        }
        queue.redefine(definition, now);
        queue.lock(now).touch();
        self.shared().changed();
        Ok((Declared::Updated, self.queue_info(queue)))
    }

    /// Deletes a queue with its messages and bindings. Gives the number of messages that went with it.
    ///
    /// # Errors
    /// See [`DeclareError`]. A queue that gets another's dead letters is in use.
    pub async fn delete_queue(&self, name: &str, if_unused: bool, if_empty: bool) -> Result<u64, DeclareError> {
        self.delete_queue_with(name, DeleteOptions { if_unused, if_empty, even_if_referenced: false }).await
    }

    /// As [`delete_queue`](Self::delete_queue), and if asked to, although another queue's dead letters go to it. They go then where that queue's
    /// definition says, which makes this one anew if it names it: a queue without bindings, made for dead letters.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_queue_with(&self, name: &str, options: DeleteOptions) -> Result<u64, DeclareError> {
        self.may(Action::Configure, "queue", name)?;
        let (session, name) = (self.clone(), name.to_owned());
        to_the_end(async move { session.delete_queue_now(&name, options).await }).await
    }

    async fn delete_queue_now(&self, name: &str, options: DeleteOptions) -> Result<u64, DeclareError> {
        let change = self.begin_change().await?;
        let queue = self.space.queue(name).ok_or_else(|| Self::not_found("queue", name))?;
        self.check_held(&queue)?;
        let entity = format!("queue {name:?}");
        let sources = if options.even_if_referenced { Vec::new() } else { self.space.dead_letter_sources(name) };
        if let Some(source) = sources.first() {
            let by = format!("dead letters of queue {source:?} go to it; delete that queue first, or change it");
            return Err(DeclareError::InUse { entity, by });
        }
        let info = self.queue_info(&queue);
        if options.if_unused && info.consumers > 0 {
            return Err(DeclareError::InUse { entity, by: format!("{} consumers", info.consumers) });
        }
        let depth = info.depth;
        let messages = depth.ready + depth.delayed + depth.parked + depth.in_flight;
        if options.if_empty && messages > 0 {
            return Err(DeclareError::InUse { entity, by: format!("{messages} messages") });
        }
        remove_queues(self.shared(), &self.space, change, vec![queue]).await?;
        Ok(messages)
    }

    /// One queue.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn queue(&self, name: &str) -> Result<QueueInfo, DeclareError> {
        let queue = self.space.queue(name).filter(|_| self.grants().is_ok_and(|grants| self.sees(&grants, name)));
        match queue {
            Some(queue) => Ok(self.queue_info(&queue)),
            None => {
                self.may(Action::Read, "queue", name)?;
                Err(Self::not_found("queue", name))
            }
        }
    }

    /// All queues that the user may see, by name.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn queues(&self) -> Result<Vec<QueueInfo>, DeclareError> {
        let grants = self.grants()?;
        let queues: Vec<Arc<QueueOwner>> = self.space.entities.read().queues.values().cloned().collect();
        Ok(queues.iter().filter(|queue| self.sees(&grants, &queue.name)).map(|queue| self.queue_info(queue)).collect())
    }

    /// Removes all messages that wait; gives their number.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn purge(&self, name: &str) -> Result<u64, DeclareError> {
        self.may(Action::Read, "queue", name)?;
        let queue = self.space.queue(name).ok_or_else(|| Self::not_found("queue", name))?;
        self.check_held(&queue)?;
        Ok(queue.purge(self.shared(), self.now()).await?)
    }

    fn queue_info(&self, queue: &QueueOwner) -> QueueInfo {
        queue.info(self.shared(), self.now())
    }
}

/// A push consumer's secret is never shown, so a definition that was shown and comes back without one keeps it.
fn keep_secret(config: &mut QueueConfig, have: &QueueConfig) {
    if let (Some(new), Some(old)) = (&mut config.webhook, &have.webhook)
        && new.secret.is_none()
    {
        new.secret.clone_from(&old.secret);
    }
}

/// A queue that is planned: its logs are made with the change that defines it.
pub(crate) struct PlannedQueue {
    id: EntityId,
    name: String,
    logs: (Owned, Owned),
    definition: QueueDefinition,
    holder: Option<Arc<Holder>>,
}

/// The definition of a dead-letter queue that is made by itself: nothing is ever lost there.
pub(crate) fn dead_letter_config() -> QueueConfig {
    QueueConfig {
        dead_letter: Some(DeadLetterConfig::None),
        retry: Some(crate::definitions::RetryConfig { max_attempts: Some(0), ..Default::default() }),
        ..QueueConfig::default()
    }
}

/// The name of the dead-letter queue, if one is named that does not exist.
pub(super) fn dead_letter_to_make(space: &Namespace, target: &DeadLetterConfig) -> Option<String> {
    match target {
        DeadLetterConfig::Queue(name) if space.queue(name).is_none() => Some(name.clone()),
        _ => None,
    }
}

pub(crate) fn queue_log_config(space: &str, name: &str, volatile: bool) -> (LogConfig, LogConfig) {
    let config = |label| LogConfig { label, cleanup: Cleanup::default(), key_index: false, volatile, apart: false };
    (config(format!("queue {space}/{name}")), config(format!("state of queue {space}/{name}")))
}

fn plan_queue(space: &Namespace, change: &mut Change, name: &str, config: QueueConfig) -> PlannedQueue {
    let id = change.meta.new_id();
    let (messages, state) = queue_log_config(&space.name, name, config.volatile);
    let logs = (change.create_log(log_of(id, 0), messages), change.create_log(state_log_of(id), state));
    if !config.volatile {
        let (namespace, config) = (space.id.0, Box::new(config.clone()));
        change.record(MetaRecord::PutQueue { namespace, id: id.0, name: name.to_owned(), config });
    }
    PlannedQueue { id, name: name.to_owned(), logs, definition: space.queue_definition(name, config), holder: None }
}

/// Plans a dead-letter queue under policies that are not in force yet.
pub(super) fn plan_dead_letter_queue(
    space: &Namespace,
    change: &mut Change,
    name: &str,
    policies: &Policies,
    namespace: &NamespaceConfig,
) -> PlannedQueue {
    let planned = plan_queue(space, change, name, dead_letter_config());
    PlannedQueue { definition: define_queue(name, dead_letter_config(), policies, namespace), ..planned }
}

impl PlannedQueue {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn definition(&self) -> &QueueDefinition {
        &self.definition
    }

    pub(super) fn install(self, shared: &Shared, space: &Namespace) -> Arc<QueueOwner> {
        let now = shared.clock.now();
        let mut owner = QueueOwner::new(self.id, space.id, &self.name, self.logs, self.definition, shared, now);
        owner.holder = self.holder;
        install_queue(shared, space, Arc::new(owner))
    }
}

/// Puts a queue into the namespace.
pub(crate) fn install_queue(shared: &Shared, space: &Namespace, owner: Arc<QueueOwner>) -> Arc<QueueOwner> {
    shared.queues.write().insert(owner.id, Arc::clone(&owner));
    let mut entities = space.entities.write();
    entities.queues.insert(Arc::clone(&owner.name), Arc::clone(&owner));
    entities.queues_by_id.insert(owner.id, Arc::clone(&owner));
    owner
}

/// Makes a queue, and its dead-letter queue if that is missing, in one change.
///
/// # Errors
/// If the storage refuses.
pub(crate) async fn make_queue(
    shared: &Arc<Shared>,
    space: &Arc<Namespace>,
    mut change: Change,
    (name, config): (&str, QueueConfig),
    holder: Option<Arc<Holder>>,
) -> Result<Arc<QueueOwner>, DeclareError> {
    let mut planned = plan_queue(space, &mut change, name, config);
    let claim = holder.as_ref().map(|holder| holder.claim(planned.id));
    if claim.as_ref().is_some_and(Option::is_none) {
        return Err(DeclareError::Held { entity: format!("queue {name:?}") });
    }
    planned.holder = holder.clone();
    let target = &planned.definition.resolved.dead_letter;
    let dead_letter = dead_letter_to_make(space, target).filter(|target| target != name);
    let dead_letter = dead_letter.map(|name| plan_queue(space, &mut change, &name, dead_letter_config()));
    let _held = change.commit(shared).await?;
    if let Some(dead_letter) = dead_letter {
        dead_letter.install(shared, space);
    }
    let queue = planned.install(shared, space);
    if let Some(claim) = claim.flatten() {
        claim.keep();
    }
    shared.changed();
    Ok(queue)
}

impl QueueOwner {
    /// What there is to say of the queue, in O(1).
    pub(crate) fn info(&self, shared: &Shared, now: types::Now) -> QueueInfo {
        let definition = self.definition();
        let disk_bytes = shared.log.state(self.owned().log).map_or(0, |state| state.disk_bytes);
        let mut guard = self.lock(now);
        guard.meter.sample(now.mono);
        let depth = guard.machine.depth();
        QueueInfo {
            id: self.id,
            name: self.name.to_string(),
            config: definition.config.clone(),
            rules: definition.resolved.rules.clone(),
            dead_letter: definition.resolved.dead_letter.clone(),
            dedup_window: definition.resolved.dedup_window,
            expires: definition.resolved.expires,
            policy: definition.resolved.policy.clone(),
            operator_policy: definition.resolved.operator_policy.clone(),
            depth,
            counters: guard.meter.counters,
            rates: guard.meter.rates(),
            consumers: guard.consumers,
            paused_consumers: guard.machine.paused_consumers(),
            oldest_age: depth.oldest.map(|oldest| now.wall.since(oldest)),
            disk_bytes,
            redrive: Self::redrive_info(&guard),
            owned: self.holder.is_some(),
            damage: self.damage(shared),
        }
    }

    /// Removes all messages that wait; gives their number.
    ///
    /// # Errors
    /// If the storage refuses; the messages are in the queue again then.
    pub(crate) async fn purge(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        now: types::Now,
    ) -> Result<u64, crate::errors::StorageError> {
        let turn = Arc::clone(&self.purging).lock_owned().await;
        let (purge, retries, forgotten) = {
            let mut guard = self.lock(now);
            let retries = guard.machine.retries();
            let purge = guard.machine.purge(now);
            let gone = |offset: &types::Offset| purge.keep.binary_search(offset).is_err();
            let forgotten = retries.iter().map(|retry| retry.offset).filter(gone).map(StateRecord::Forget);
            let forgotten: Vec<StateRecord> = forgotten.collect();
            (purge, retries, forgotten)
        };
        let messages = purge.messages;
        if messages == 0 {
            return Ok(0);
        }
        let mut transaction = Transaction::new();
        transaction.at_least(self.durability());
        transaction.purge(self, purge, retries, turn);
        if let Err(error) = self.state.record(&mut transaction, &forgotten, now) {
            transaction.cancel(shared);
            return Err(error);
        }
        transaction.commit(shared).await?;
        Ok(messages)
    }
}

impl From<ConsumeError> for DeclareError {
    fn from(error: ConsumeError) -> Self {
        match error {
            ConsumeError::Access(error) => error.into(),
            ConsumeError::Storage(error) => error.into(),
            ConsumeError::NotFound { entity } => Self::NotFound { entity },
            ConsumeError::Held { entity } => Self::Held { entity },
            error => Self::Invalid { field: "queue".to_owned(), why: error.to_string() },
        }
    }
}
