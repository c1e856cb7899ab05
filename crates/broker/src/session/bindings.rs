//! Bindings.

use types::{EntityId, Filter};

use super::Session;
use super::admin::Change;
use crate::access::Action;
use crate::definitions::{BindingConfig, BindingTarget};
use crate::errors::DeclareError;
use crate::meta::MetaRecord;
use crate::router::{RouteTarget, RouterBinding, check};
use crate::shared::Entities;
use crate::views::{BindingInfo, Declared};

impl Session {
    /// Makes a binding; the same one again is fine.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn bind(&self, config: BindingConfig) -> Result<(Declared, BindingInfo), DeclareError> {
        self.may(Action::Read, "topic", &config.topic)?;
        let (kind, name) = named(&config.target);
        self.may(Action::Write, kind, name)?;
        let mut change = Change::begin(self.shared()).await;
        let same = |(_, have): &(&EntityId, &BindingConfig)| **have == config;
        let existing = self.space.entities.read().bindings.iter().find(same).map(|(id, _)| *id);
        if let Some(id) = existing {
            return Ok((Declared::Unchanged, BindingInfo { id, config }));
        }
        let quota = self.space.config().quota.max_bindings;
        Self::check_quota("max_bindings", quota, self.space.entities.read().bindings.len())?;
        let id = change.meta.new_id();
        let binding = router_binding(&self.space.entities.read(), id, &config)?;
        let topic = self.space.topic(&config.topic).ok_or_else(|| Self::not_found("topic", &config.topic))?;
        let router = super::topics::router_kind(&topic.definition().config.router);
        check(&router, &binding.filter, binding.weight).map_err(|error| invalid(&error))?;
        if !self.is_volatile_target(&config.target) {
            let (namespace, config) = (self.space.id.0, Box::new(config.clone()));
            change.record(MetaRecord::PutBinding { namespace, id: id.0, config });
        }
        let _held = change.commit(self.shared()).await?;
        {
            let mut entities = self.space.entities.write();
            entities.router.add_binding(binding).map_err(|error| invalid(&error))?;
            entities.bindings.insert(id, config.clone());
        }
        self.shared().changed();
        Ok((Declared::Created, BindingInfo { id, config }))
    }

    /// Deletes a binding.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn unbind(&self, id: EntityId) -> Result<(), DeclareError> {
        let mut change = Change::begin(self.shared()).await;
        let missing = || DeclareError::NotFound { entity: format!("binding {id}") };
        let config = self.space.entities.read().bindings.get(&id).cloned().ok_or_else(missing)?;
        self.may(Action::Read, "topic", &config.topic)?;
        let (kind, name) = named(&config.target);
        self.may(Action::Write, kind, name)?;
        change.record(MetaRecord::DeleteBinding { id: id.0 });
        let _held = change.commit(self.shared()).await?;
        let mut entities = self.space.entities.write();
        entities.bindings.remove(&id);
        entities.router.remove_binding(id);
        drop(entities);
        self.shared().changed();
        Ok(())
    }

    /// Bindings: of a topic, to a target, or all.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn bindings(
        &self,
        topic: Option<&str>,
        target: Option<&BindingTarget>,
    ) -> Result<Vec<BindingInfo>, DeclareError> {
        let grants = self.grants()?;
        let entities = self.space.entities.read();
        let wanted = |config: &&BindingConfig| {
            topic.is_none_or(|topic| config.topic == topic)
                && target.is_none_or(|target| config.target == *target)
                && self.sees(&grants, &config.topic)
        };
        let all = entities.bindings.iter().filter(|(_, config)| wanted(config));
        Ok(all.map(|(id, config)| BindingInfo { id: *id, config: config.clone() }).collect())
    }

    fn is_volatile_target(&self, target: &BindingTarget) -> bool {
        match target {
            BindingTarget::Queue(name) => {
                self.space.queue(name).is_some_and(|queue| queue.definition().config.volatile)
            }
            BindingTarget::Topic(_) => false,
        }
    }
}

fn named(target: &BindingTarget) -> (&'static str, &str) {
    match target {
        BindingTarget::Queue(name) => ("queue", name),
        BindingTarget::Topic(name) => ("topic", name),
    }
}

fn invalid(error: &dyn std::fmt::Display) -> DeclareError {
    DeclareError::Invalid { field: "filter".to_owned(), why: error.to_string() }
}

/// What the router must know of a binding.
///
/// # Errors
/// If what it names is missing, or its filter makes no sense.
pub(crate) fn router_binding(
    entities: &Entities,
    id: EntityId,
    config: &BindingConfig,
) -> Result<RouterBinding, DeclareError> {
    let missing = |kind: &str, name: &str| DeclareError::NotFound { entity: format!("{kind} {name:?}") };
    let source = entities.topics.get(&*config.topic).ok_or_else(|| missing("topic", &config.topic))?.id;
    let target = match &config.target {
        BindingTarget::Queue(name) => {
            RouteTarget::Queue(entities.queues.get(&**name).ok_or_else(|| missing("queue", name))?.id)
        }
        BindingTarget::Topic(name) => {
            RouteTarget::Topic(entities.topics.get(&**name).ok_or_else(|| missing("topic", name))?.id)
        }
    };
    let filter: Filter =
        config.filter.clone().try_into().map_err(|error: crate::filter::RecordError| invalid(&error))?;
    filter.validate().map_err(|error| invalid(&error))?;
    Ok(RouterBinding { id, source, target, filter, weight: config.weight.unwrap_or(1) })
}
