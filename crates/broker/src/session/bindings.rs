//! Bindings.

use types::{EntityId, Filter};

use super::Session;
use super::admin::to_the_end;
use crate::access::Action;
use crate::definitions::{BindingConfig, BindingTarget};
use crate::errors::DeclareError;
use crate::meta::MetaRecord;
use crate::router::{RouteTarget, RouterBinding, check};
use crate::shared::Entities;
use crate::validate::validate_binding;
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
        validate_binding(&config)?;
        let session = self.clone();
        to_the_end(async move { session.bind_now(config).await }).await
    }

    async fn bind_now(&self, config: BindingConfig) -> Result<(Declared, BindingInfo), DeclareError> {
        let mut change = self.begin_change().await?;
        if let Some(id) = self.same_binding(&config) {
            return Ok((Declared::Unchanged, BindingInfo { id, config }));
        }
        let quota = self.space.config().quota.max_bindings;
        Self::check_quota("max_bindings", quota, self.space.entities.read().bindings.len())?;
        let id = change.meta.new_id();
        let binding = router_binding(&self.space.entities.read(), id, &config)?;
        let topic = self.space.topic(&config.topic).ok_or_else(|| Self::not_found("topic", &config.topic))?;
        self.may_bind_with(&config.topic, &binding.filter)?;
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
        let session = self.clone();
        to_the_end(async move { session.unbind_now(id).await }).await
    }

    async fn unbind_now(&self, id: EntityId) -> Result<(), DeclareError> {
        let mut change = self.begin_change().await?;
        let missing = || DeclareError::NotFound { entity: format!("binding {id}") };
        let config = self.space.entities.read().bindings.get(&id).cloned().ok_or_else(missing)?;
        self.may(Action::Read, "topic", &config.topic)?;
        let (kind, name) = named(&config.target);
        self.may(Action::Write, kind, name)?;
        if let Ok(filter) = config.filter.clone().try_into() {
            self.may_bind_with(&config.topic, &filter)?;
        }
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

    /// The binding that is just like this one. Only those to the same target are looked at.
    fn same_binding(&self, config: &BindingConfig) -> Option<EntityId> {
        let entities = self.space.entities.read();
        let target = target(&entities, &config.target).ok()?;
        let mut there = entities.router.bindings_to(target).map(|binding| binding.id);
        there.find(|id| entities.bindings.get(id) == Some(config))
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

/// What a binding leads to.
///
/// # Errors
/// If it is missing.
fn target(entities: &Entities, target: &BindingTarget) -> Result<RouteTarget, DeclareError> {
    match target {
        BindingTarget::Queue(name) => {
            let queue = entities.queues.get(&**name).ok_or_else(|| Session::not_found("queue", name))?;
            Ok(RouteTarget::Queue(queue.id))
        }
        BindingTarget::Topic(name) => {
            let topic = entities.topics.get(&**name).ok_or_else(|| Session::not_found("topic", name))?;
            Ok(RouteTarget::Topic(topic.id))
        }
    }
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
    let source = entities.topics.get(&*config.topic).ok_or_else(|| Session::not_found("topic", &config.topic))?.id;
    let target = target(entities, &config.target)?;
    let filter: Filter =
        config.filter.clone().try_into().map_err(|error: crate::filter::RecordError| invalid(&error))?;
    filter.validate().map_err(|error| invalid(&error))?;
    Ok(RouterBinding { id, source, target, filter, weight: config.weight.unwrap_or(1) })
}
