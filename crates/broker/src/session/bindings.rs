//! Bindings.

use types::{EntityId, Filter};

use super::Session;
use super::admin::{Change, to_the_end};
use super::removal::{Removal, is_lasting};
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
        self.may_bind(&config)?;
        validate_binding(&config)?;
        let session = self.clone();
        to_the_end(async move { session.bind_now(config).await }).await
    }

    async fn bind_now(&self, config: BindingConfig) -> Result<(Declared, BindingInfo), DeclareError> {
        let mut change = self.begin_change().await?;
        self.check_target(&config.target)?;
        if let Some(id) = self.same_binding(&config) {
            return Ok((Declared::Unchanged, BindingInfo { id, config }));
        }
        let quota = self.space.config().quota.max_bindings;
        Self::check_quota("max_bindings", quota, self.space.entities.read().bindings.len())?;
        let id = change.meta.new_id();
        let (binding, is_lasting) = {
            let entities = self.space.entities.read();
            let binding = router_binding(&entities, id, &config)?;
            let is_lasting = is_lasting(&entities, &binding);
            (binding, is_lasting)
        };
        let topic = self.space.topic(&config.topic).ok_or_else(|| Self::not_found("topic", &config.topic))?;
        let router = super::topics::router_kind(&topic.definition().config.router);
        check(&router, &binding.filter, binding.weight).map_err(|error| invalid(&error))?;
        if is_lasting {
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

    /// Deletes the binding of just this definition. `false` if there is none.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn unbind_same(&self, config: BindingConfig) -> Result<bool, DeclareError> {
        self.may_bind(&config)?;
        let session = self.clone();
        to_the_end(async move {
            let change = session.begin_change().await?;
            session.check_target(&config.target)?;
            let Some(id) = session.same_binding(&config) else { return Ok(false) };
            session.remove_binding(change, id).await?;
            Ok(true)
        })
        .await
    }

    async fn unbind_now(&self, id: EntityId) -> Result<(), DeclareError> {
        let change = self.begin_change().await?;
        let missing = || DeclareError::NotFound { entity: format!("binding {id}") };
        let config = self.space.entities.read().bindings.get(&id).cloned().ok_or_else(missing)?;
        self.may_bind(&config)?;
        self.check_target(&config.target)?;
        self.remove_binding(change, id).await
    }

    async fn remove_binding(&self, change: Change, id: EntityId) -> Result<(), DeclareError> {
        let removal = Removal::of_binding(&self.space.entities.read(), id);
        removal.commit(self.shared(), &self.space, change).await
    }

    fn may_bind(&self, config: &BindingConfig) -> Result<(), DeclareError> {
        self.may(Action::Read, "topic", &config.topic)?;
        let (kind, name) = named(&config.target);
        Ok(self.may(Action::Write, kind, name)?)
    }

    /// A queue that another connection holds is bound by that one only.
    fn check_target(&self, target: &BindingTarget) -> Result<(), DeclareError> {
        let BindingTarget::Queue(name) = target else { return Ok(()) };
        self.space.queue(name).map_or(Ok(()), |queue| self.check_held(&queue))
    }

    /// Bindings: of a topic, to a target, or all. Costs as much as those of the topic or to the target, if one is given.
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
        let info = |id: EntityId| {
            let config = entities.bindings.get(&id)?;
            let wanted = topic.is_none_or(|topic| config.topic == topic)
                && target.is_none_or(|target| config.target == *target)
                && self.sees(&grants, &config.topic);
            wanted.then(|| BindingInfo { id, config: config.clone() })
        };
        let ids: Vec<EntityId> = match (topic, target) {
            (None, None) => entities.bindings.keys().copied().collect(),
            (_, Some(to)) => {
                let to = self::target(&entities, to).ok();
                to.into_iter().flat_map(|to| entities.router.bindings_to(to)).map(|binding| binding.id).collect()
            }
            (Some(topic), None) => {
                let topic = entities.topics.get(topic);
                let from = topic.into_iter().flat_map(|topic| entities.router.bindings_from(topic.id));
                from.map(|binding| binding.id).collect()
            }
        };
        Ok(ids.into_iter().filter_map(info).collect())
    }

    /// The binding that is just like this one. Only those to the same target are looked at.
    fn same_binding(&self, config: &BindingConfig) -> Option<EntityId> {
        let entities = self.space.entities.read();
        let target = target(&entities, &config.target).ok()?;
        let mut there = entities.router.bindings_to(target).map(|binding| binding.id);
        there.find(|id| entities.bindings.get(id) == Some(config))
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
