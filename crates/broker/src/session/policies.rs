//! Policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::{EntityId, check_name};

use super::Session;
use super::admin::{Change, define_queue, define_topic, to_the_end};
use super::queues::{PlannedQueue, dead_letter_to_make, plan_dead_letter_queue};
use super::topics::{keep_log, log_config, router_topic};
use crate::definitions::{NamespaceConfig, PolicyConfig, PolicyLayer};
use crate::errors::DeclareError;
use crate::meta::MetaRecord;
use crate::policy::Policies;
use crate::queues::{QueueDefinition, QueueOwner};
use crate::shared::{Namespace, Shared};
use crate::topics::{Topic, TopicDefinition};
use crate::validate::validate_policy;
use crate::views::{Declared, PolicyInfo};

impl Session {
    /// Sets a policy, and puts it into force for all that it may touch. Administrators only.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn put_policy(&self, name: &str, config: PolicyConfig) -> Result<Declared, DeclareError> {
        check_name(name)?;
        self.grants()?.require_admin("policies")?;
        validate_policy(&config)?;
        let (session, name) = (self.clone(), name.to_owned());
        to_the_end(async move { session.put_policy_now(&name, config).await }).await
    }

    async fn put_policy_now(&self, name: &str, config: PolicyConfig) -> Result<Declared, DeclareError> {
        let mut change = self.begin_change().await?;
        let mut policies = self.space.entities.read().policies.clone();
        let (id, declared) = match policies.iter().find(|(_, policy)| policy.is(config.layer, name)) {
            Some((_, have)) if have.config == config => return Ok(Declared::Unchanged),
            Some((id, _)) => (*id, Declared::Updated),
            None => (change.meta.new_id(), Declared::Created),
        };
        policies.insert(id, PolicyInfo { name: name.to_owned(), config: config.clone() });
        let (namespace, name) = (self.space.id.0, name.to_owned());
        change.record(MetaRecord::PutPolicy { namespace, id: id.0, name, config: Box::new(config) });
        self.commit_policies(change, policies).await?;
        Ok(declared)
    }

    /// Deletes a policy of the users' layer. Administrators only.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_policy(&self, name: &str) -> Result<(), DeclareError> {
        self.delete_policy_of(PolicyLayer::User, name).await
    }

    /// Deletes a policy. Administrators only.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_policy_of(&self, layer: PolicyLayer, name: &str) -> Result<(), DeclareError> {
        self.grants()?.require_admin("policies")?;
        let (session, name) = (self.clone(), name.to_owned());
        to_the_end(async move { session.delete_policy_now(layer, &name).await }).await
    }

    async fn delete_policy_now(&self, layer: PolicyLayer, name: &str) -> Result<(), DeclareError> {
        let mut change = self.begin_change().await?;
        let mut policies = self.space.entities.read().policies.clone();
        let id = policies.iter().find(|(_, policy)| policy.is(layer, name)).map(|(id, _)| *id);
        let id = id.ok_or_else(|| Self::not_found(if layer.is_user() { "policy" } else { "operator policy" }, name))?;
        policies.remove(&id);
        change.record(MetaRecord::DeletePolicy { id: id.0 });
        self.commit_policies(change, policies).await
    }

    async fn commit_policies(
        &self,
        mut change: Change,
        policies: BTreeMap<EntityId, PolicyInfo>,
    ) -> Result<(), DeclareError> {
        let resolved = Resolved::plan(&self.space, &mut change, &Namespace::ordered(&policies), &self.space.config());
        let _held = change.commit(self.shared()).await?;
        self.space.entities.write().policies = policies;
        resolved.put_into_force(self.shared(), &self.space);
        Ok(())
    }

    /// All policies of both layers, by name.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn policies(&self) -> Result<Vec<PolicyInfo>, DeclareError> {
        self.grants()?;
        let mut policies: Vec<PolicyInfo> = self.space.entities.read().policies.values().cloned().collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(policies)
    }
}

/// What policies and the namespace's own settings come to, for all that they may touch.
pub(crate) struct Resolved {
    queues: Vec<(Arc<QueueOwner>, QueueDefinition)>,
    topics: Vec<(Arc<Topic>, TopicDefinition)>,
    /// Dead-letter queues that are named now and do not exist.
    missing: Vec<PlannedQueue>,
}

impl Resolved {
    /// Works it out, and adds to the change what it means for the logs.
    pub(crate) fn plan(
        space: &Namespace,
        change: &mut Change,
        policies: &Policies,
        namespace: &NamespaceConfig,
    ) -> Self {
        let (queues, topics): (Vec<_>, Vec<_>) = {
            let entities = space.entities.read();
            (entities.queues.values().cloned().collect(), entities.topics.values().cloned().collect())
        };
        let redefine_queue = |queue: Arc<QueueOwner>| {
            let definition = define_queue(&queue.name, queue.definition().config.clone(), policies, namespace);
            (queue, definition)
        };
        let queues: Vec<_> = queues.into_iter().map(redefine_queue).collect();
        let redefine_topic = |topic: Arc<Topic>| {
            let config = topic.definition().config.clone();
            let partitions = topic.partitions();
            let definition = keep_log(define_topic(&topic.name, config, policies, namespace), partitions.len());
            let new = log_config(&space.name, &topic.name, &definition);
            if new != log_config(&space.name, &topic.name, &topic.definition()) {
                partitions.iter().for_each(|owned| change.configure_log(*owned, new.clone()));
            }
            (topic, definition)
        };
        let topics = topics.into_iter().map(redefine_topic).collect();
        let mut missing: Vec<PlannedQueue> = Vec::new();
        let named = |definition: &QueueDefinition| dead_letter_to_make(space, &definition.resolved.dead_letter);
        let mut wanted: Vec<String> = queues.iter().filter_map(|(_, definition)| named(definition)).collect();
        while let Some(name) = wanted.pop() {
            if missing.iter().all(|planned| planned.name() != name) {
                let planned = plan_dead_letter_queue(space, change, &name, policies, namespace);
                wanted.extend(named(planned.definition()));
                missing.push(planned);
            }
        }
        Self { queues, topics, missing }
    }

    /// Puts it into force, once it is durable.
    pub(crate) fn put_into_force(self, shared: &Shared, space: &Namespace) {
        let now = shared.clock.now();
        for planned in self.missing {
            planned.install(shared, space);
        }
        for (queue, definition) in self.queues {
            queue.redefine(definition, now);
        }
        for (topic, definition) in self.topics {
            topic.redefine(definition, topic.partitions().to_vec(), now);
            let mut entities = space.entities.write();
            let router = router_topic(&entities, &topic);
            if let Err(error) = entities.router.update_topic(router) {
                tracing::error!(topic = %topic.name, %error, "a policy's alternate could not be put into force");
            }
        }
        shared.changed();
    }
}
