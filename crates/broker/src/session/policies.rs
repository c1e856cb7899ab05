//! Policies.

use types::check_name;

use super::Session;
use super::admin::{Change, define_queue, define_topic};
use crate::definitions::PolicyConfig;
use crate::errors::DeclareError;
use crate::meta::MetaRecord;
use crate::shared::{Namespace, Shared};
use crate::validate::validate_policy;
use crate::views::{Declared, PolicyInfo};

impl Session {
    /// Sets a policy. Administrators only.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn put_policy(&self, name: &str, config: PolicyConfig) -> Result<Declared, DeclareError> {
        check_name(name)?;
        self.grants()?.require_admin("policies")?;
        validate_policy(&config)?;
        let mut change = Change::begin(self.shared()).await;
        let same_name = |policy: &&PolicyInfo| policy.name == name;
        let existing = {
            let entities = self.space.entities.read();
            let mut policies = entities.policies.iter();
            policies.find(|(_, policy)| same_name(policy)).map(|(id, policy)| (*id, policy.config.clone()))
        };
        let (id, declared) = match existing {
            Some((_, have)) if have == config => return Ok(Declared::Unchanged),
            Some((id, _)) => (id, Declared::Updated),
            None => (change.meta.new_id(), Declared::Created),
        };
        let namespace = self.space.id.0;
        let record =
            MetaRecord::PutPolicy { namespace, id: id.0, name: name.to_owned(), config: Box::new(config.clone()) };
        change.record(record);
        let _held = change.commit(self.shared()).await?;
        self.space.entities.write().policies.insert(id, PolicyInfo { name: name.to_owned(), config });
        apply(self.shared(), &self.space);
        Ok(declared)
    }

    /// Deletes a policy. Administrators only.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_policy(&self, name: &str) -> Result<(), DeclareError> {
        self.grants()?.require_admin("policies")?;
        let mut change = Change::begin(self.shared()).await;
        let id = {
            let entities = self.space.entities.read();
            entities.policies.iter().find(|(_, policy)| policy.name == name).map(|(id, _)| *id)
        };
        let id = id.ok_or_else(|| Self::not_found("policy", name))?;
        change.record(MetaRecord::DeletePolicy { id: id.0 });
        let _held = change.commit(self.shared()).await?;
        self.space.entities.write().policies.remove(&id);
        apply(self.shared(), &self.space);
        Ok(())
    }

    /// All policies, by name.
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

/// Puts policies, as they stand, into force for all that they may touch.
pub(crate) fn apply(shared: &Shared, space: &Namespace) {
    let (now, namespace) = (shared.clock.now(), space.config());
    let (policies, queues, topics) = {
        let entities = space.entities.read();
        let queues: Vec<_> = entities.queues.values().cloned().collect();
        let topics: Vec<_> = entities.topics.values().cloned().collect();
        (Namespace::policies_of(&entities), queues, topics)
    };
    for queue in queues {
        let config = queue.definition().config.clone();
        queue.redefine(define_queue(&queue.name, config, &policies, &namespace), now);
    }
    for topic in topics {
        let config = topic.definition().config.clone();
        let mut definition = define_topic(&topic.name, config, &policies, &namespace);
        if topic.partitions().is_empty() {
            // A policy decides how long a log is kept; whether there is one is the topic's own definition.
            definition.resolved.retention = None;
        }
        topic.redefine(definition, topic.partitions().to_vec(), now);
        let mut entities = space.entities.write();
        let router = super::topics::router_topic(&entities, &topic);
        if let Err(error) = entities.router.update_topic(router) {
            tracing::error!(topic = %topic.name, %error, "a policy's alternate could not be put into force");
        }
    }
    shared.changed();
}
