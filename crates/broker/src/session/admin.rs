//! Changing definitions: one change at a time, durable before it is in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use log::{Append, Operation};
use tokio::sync::OwnedMutexGuard;
use types::{EntityId, Epoch, LogId};

use super::Session;
use crate::definitions::{DeadLetterConfig, NamespaceConfig, QueueConfig, TopicConfig};
use crate::errors::{DeclareError, StorageError};
use crate::meta::{MetaRecord, meta_batch};
use crate::policy::{Policies, resolve_queue, resolve_topic};
use crate::queues::QueueDefinition;
use crate::shared::{Entities, MetaState, Namespace, Shared};
use crate::topics::TopicDefinition;
use crate::transaction::{Owned, Transaction};
use crate::views::PolicyInfo;

/// A change of definitions under way. While it is held nobody else changes any.
pub(crate) struct Change {
    pub(crate) meta: OwnedMutexGuard<MetaState>,
    records: Vec<MetaRecord>,
    transaction: Transaction,
}

impl Change {
    pub(crate) async fn begin(shared: &Arc<Shared>) -> Self {
        let meta = Arc::clone(&shared.meta).lock_owned().await;
        let mut transaction = Transaction::new();
        transaction.uses_reserve();
        Self { meta, records: Vec::new(), transaction }
    }

    pub(crate) fn record(&mut self, record: MetaRecord) {
        self.records.push(record);
    }

    /// Makes a log; it is owned from its creation.
    pub(crate) fn create_log(&mut self, log: LogId, config: log::LogConfig) -> Owned {
        let owned = Owned { log, epoch: Epoch(1) };
        self.transaction.operation(owned.target(Operation::Create(config)));
        owned
    }

    pub(crate) fn configure_log(&mut self, owned: Owned, config: log::LogConfig) {
        self.transaction.operation(owned.target(Operation::Configure(config)));
    }

    pub(crate) fn remove_log(&mut self, owned: Owned) {
        self.transaction.operation(owned.target(Operation::Remove));
    }

    /// Makes the change durable; then the caller puts it into force, while it still holds what this gives back.
    ///
    /// IMPORTANT: a caller that could be dropped here would leave a definition that is durable but not in force, and that a second try
    /// would record again. So changes run within [`to_the_end`].
    ///
    /// # Errors
    /// If the storage refuses; nothing has changed then.
    pub(crate) async fn commit(self, shared: &Arc<Shared>) -> Result<OwnedMutexGuard<MetaState>, StorageError> {
        let Self { mut meta, mut records, mut transaction } = self;
        let ids = meta.ids_to_record();
        records.extend(ids.map(|id| MetaRecord::NextId { id }));
        if !records.is_empty() {
            let batch = meta_batch(&records, shared.clock.now().wall)?;
            let append = Append { batch, selection: None, weight: 0 };
            transaction.operation(meta.owned.target(Operation::Append(append)));
        }
        // What records nothing is of queues and topics that go with the process: there is nothing to keep for them.
        transaction.at_least(if records.is_empty() { log::Durability::Os } else { log::Durability::Fsync });
        transaction.commit(shared).await?;
        meta.recorded_ids = ids.unwrap_or(meta.recorded_ids);
        meta.records += records.len() as u64;
        Ok(meta)
    }
}

/// Runs a change to its end even if nobody waits for it any more: a client that hangs up must not leave half of it.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime goes down, and this with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

impl Namespace {
    /// Policies as they stand, ready to be asked.
    pub(crate) fn policies(&self) -> Policies {
        Self::policies_of(&self.entities.read())
    }

    pub(crate) fn policies_of(entities: &Entities) -> Policies {
        Self::ordered(&entities.policies)
    }

    /// Policies, oldest first, ready to be asked.
    pub(crate) fn ordered(policies: &BTreeMap<EntityId, PolicyInfo>) -> Policies {
        Policies::new(policies.values().map(|policy| (policy.name.clone(), policy.config.clone())))
    }

    pub(crate) fn queue_definition(&self, name: &str, config: QueueConfig) -> QueueDefinition {
        define_queue(name, config, &self.policies(), &self.config())
    }

    pub(crate) fn topic_definition(&self, name: &str, config: TopicConfig) -> TopicDefinition {
        define_topic(name, config, &self.policies(), &self.config())
    }

    /// Queues, other than itself, whose dead letters go to the queue of this name.
    pub(crate) fn dead_letter_sources(&self, name: &str) -> Vec<String> {
        let is_target = |config: &DeadLetterConfig| matches!(config, DeadLetterConfig::Queue(to) if to == name);
        let entities = self.entities.read();
        let sources = entities.queues.values().filter(|queue| is_target(&queue.definition().resolved.dead_letter));
        sources.map(|queue| queue.name.to_string()).filter(|source| source != name).collect()
    }
}

pub(crate) fn define_queue(
    name: &str,
    config: QueueConfig,
    policies: &Policies,
    namespace: &NamespaceConfig,
) -> QueueDefinition {
    QueueDefinition { resolved: resolve_queue(name, &config, policies, namespace), config }
}

pub(crate) fn define_topic(
    name: &str,
    config: TopicConfig,
    policies: &Policies,
    namespace: &NamespaceConfig,
) -> TopicDefinition {
    TopicDefinition { resolved: resolve_topic(name, &config, policies, namespace), config }
}

impl Session {
    pub(super) fn not_found(kind: &str, name: &str) -> DeclareError {
        DeclareError::NotFound { entity: format!("{kind} {name:?}") }
    }

    /// Refuses one more of something once the namespace's quota is reached.
    pub(super) fn check_quota(limit: &'static str, value: Option<u64>, have: usize) -> Result<(), DeclareError> {
        match value {
            Some(value) if have as u64 >= value => Err(DeclareError::Quota { limit, value }),
            _ => Ok(()),
        }
    }
}

/// The first field in which two definitions differ, for people.
pub(crate) fn difference<T: serde::Serialize>(have: &T, want: &T) -> String {
    let (have, want) = (serde_json::to_value(have), serde_json::to_value(want));
    if let (Ok(serde_json::Value::Object(have)), Ok(serde_json::Value::Object(want))) = (have, want) {
        for (field, want) in &want {
            let there = have.get(field).unwrap_or(&serde_json::Value::Null);
            if there != want && field != "webhook" {
                return format!("{field} is {there}, not {want}");
            }
        }
    }
    "its settings differ".to_owned()
}
