//! What goes with something that is deleted, in one change: its bindings, topics that go with their last binding, their groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use types::EntityId;

use super::admin::Change;
use crate::errors::DeclareError;
use crate::groups::GroupOwner;
use crate::meta::MetaRecord;
use crate::queues::QueueOwner;
use crate::router::{RouteTarget, RouterBinding};
use crate::shared::{Entities, Namespace, Shared};
use crate::topics::Topic;

/// All that a deletion takes along.
#[derive(Default)]
pub(super) struct Removal {
    queues: Vec<Arc<QueueOwner>>,
    topics: BTreeMap<EntityId, Arc<Topic>>,
    groups: Vec<Arc<GroupOwner>>,
    bindings: BTreeSet<EntityId>,
    /// Topics that lose a binding, and are still to be looked at.
    losing: BTreeSet<EntityId>,
}

impl Removal {
    /// The removal of queues.
    pub(super) fn of_queues(entities: &Entities, queues: Vec<Arc<QueueOwner>>) -> Self {
        let mut removal = Self { queues, ..Self::default() };
        let targets: Vec<_> = removal.queues.iter().map(|queue| RouteTarget::Queue(queue.id)).collect();
        for binding in targets.into_iter().flat_map(|target| entities.router.bindings_to(target)) {
            removal.take_binding(binding);
        }
        removal.follow(entities)
    }

    /// The removal of a topic.
    pub(super) fn of_topic(entities: &Entities, topic: &Arc<Topic>) -> Self {
        let mut removal = Self::default();
        removal.take_topic(entities, topic);
        removal.follow(entities)
    }

    /// The removal of a binding.
    pub(super) fn of_binding(entities: &Entities, id: EntityId) -> Self {
        let mut removal = Self::default();
        if let Some(binding) = entities.router.binding(id) {
            removal.take_binding(binding);
        }
        removal.bindings.insert(id);
        removal.follow(entities)
    }

    fn take_binding(&mut self, binding: &RouterBinding) {
        if self.bindings.insert(binding.id) {
            self.losing.insert(binding.source);
        }
    }

    fn take_topic(&mut self, entities: &Entities, topic: &Arc<Topic>) {
        self.topics.insert(topic.id, Arc::clone(topic));
        let reads = |group: &&Arc<GroupOwner>| *group.config().topic == *topic.name;
        self.groups.extend(entities.groups.values().filter(reads).cloned());
        let to = entities.router.bindings_to(RouteTarget::Topic(topic.id));
        for binding in entities.router.bindings_from(topic.id).chain(to) {
            self.take_binding(binding);
        }
    }

    /// Takes along the topics that go with the last binding from them, and what that leads to.
    fn follow(mut self, entities: &Entities) -> Self {
        while let Some(id) = self.losing.pop_first() {
            let Some(topic) = entities.topics_by_id.get(&id).filter(|_| !self.topics.contains_key(&id)) else {
                continue;
            };
            let stays = |binding: &RouterBinding| !self.bindings.contains(&binding.id);
            if topic.definition().config.auto_delete && !entities.router.bindings_from(id).any(stays) {
                self.take_topic(entities, topic);
            }
        }
        self
    }

    /// Makes it durable and puts it into force.
    ///
    /// # Errors
    /// If the storage refuses; nothing is gone then.
    pub(super) async fn commit(
        self,
        shared: &Arc<Shared>,
        space: &Arc<Namespace>,
        mut change: Change,
    ) -> Result<(), DeclareError> {
        self.record(&space.entities.read(), &mut change);
        let _held = change.commit(shared).await?;
        self.put_into_force(shared, space);
        Ok(())
    }

    /// What of it was recorded when it was made is recorded as gone.
    fn record(&self, entities: &Entities, change: &mut Change) {
        for id in self.bindings.iter().filter(|id| is_recorded(entities, **id)) {
            change.record(MetaRecord::DeleteBinding { id: id.0 });
        }
        for queue in &self.queues {
            if !queue.definition().config.volatile {
                change.record(MetaRecord::DeleteQueue { id: queue.id.0 });
            }
            change.remove_log(queue.owned());
            change.remove_log(queue.state.owned());
        }
        for topic in self.topics.values() {
            if !topic.definition().config.volatile {
                change.record(MetaRecord::DeleteTopic { id: topic.id.0 });
            }
            topic.partitions().iter().for_each(|owned| change.remove_log(*owned));
            change.remove_log(topic.state.owned());
        }
        for group in &self.groups {
            change.record(MetaRecord::DeleteGroup { id: group.id.0 });
            change.remove_log(group.owned());
        }
    }

    fn put_into_force(self, shared: &Shared, space: &Namespace) {
        {
            let mut entities = space.entities.write();
            for binding in self.bindings {
                entities.bindings.remove(&binding);
                entities.router.remove_binding(binding);
            }
            for topic in self.topics.values() {
                entities.router.remove_topic(topic.id);
                entities.captures.remove(topic.id);
                entities.topics.remove(&topic.name);
                entities.topics_by_id.remove(&topic.id);
            }
            for group in &self.groups {
                entities.groups.remove(&group.name);
            }
            for queue in &self.queues {
                entities.queues.remove(&queue.name);
                entities.queues_by_id.remove(&queue.id);
            }
        }
        let now = shared.clock.now();
        for queue in self.queues {
            shared.queues.write().remove(&queue.id);
            let counters = queue.lock(now).meter.counters;
            shared.totals.keep(&counters);
            queue.delete(now);
            if let Some(holder) = &queue.holder {
                holder.let_go(queue.id);
            }
        }
        self.topics.values().for_each(|topic| topic.delete());
        self.groups.iter().for_each(|group| group.delete());
        shared.changed();
    }
}

/// Whether a binding outlives the process: what it leads from and to does.
fn is_recorded(entities: &Entities, id: EntityId) -> bool {
    entities.router.binding(id).is_none_or(|binding| is_lasting(entities, binding))
}

/// Whether what a binding leads from and to outlives the process.
pub(super) fn is_lasting(entities: &Entities, binding: &RouterBinding) -> bool {
    let topic = |id: &EntityId| entities.topics_by_id.get(id).is_none_or(|topic| !topic.definition().config.volatile);
    let target = match &binding.target {
        RouteTarget::Queue(id) => entities.queues_by_id.get(id).is_none_or(|queue| !queue.definition().config.volatile),
        RouteTarget::Topic(id) => topic(id),
    };
    target && topic(&binding.source)
}

/// Removes queues with their messages and bindings.
///
/// # Errors
/// If the storage refuses.
pub(crate) async fn remove_queues(
    shared: &Arc<Shared>,
    space: &Arc<Namespace>,
    change: Change,
    queues: Vec<Arc<QueueOwner>>,
) -> Result<(), DeclareError> {
    let removal = Removal::of_queues(&space.entities.read(), queues);
    removal.commit(shared, space, change).await
}
