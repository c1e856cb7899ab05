//! The routing table of a namespace: which logs and queues a message goes to.
//!
//! It is changed a binding at a time, at the price of that binding, and asked on every publish: subjects are found in a hash map,
//! patterns in a trie, and only other filters are asked one by one.

mod capture;
mod kind;
mod ring;
mod table;

use std::collections::{BTreeSet, HashMap, HashSet};

use types::limits::MAX_ROUTE_TOPICS;
use types::{EntityId, Fields, Filter};

pub use capture::{CaptureError, CaptureRule, Captures};
pub use kind::{HashOn, KindError, RouterKind, check};
use table::Table;

/// What the router must know of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterTopic {
    /// Its id.
    pub id: EntityId,
    /// What its bindings may filter on; see [`check`]. The router trusts that it was called.
    pub kind: RouterKind,
    /// Where messages go that no binding took.
    pub alternate: Option<EntityId>,
    /// Whether it keeps what it gets.
    pub has_log: bool,
}

/// Where a binding leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteTarget {
    /// To a queue.
    Queue(EntityId),
    /// To a topic, which routes on.
    Topic(EntityId),
}

/// What the router must know of a binding.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterBinding {
    /// Its id.
    pub id: EntityId,
    /// The topic that it takes messages from.
    pub source: EntityId,
    /// Where it leads.
    pub target: RouteTarget,
    /// What it takes.
    pub filter: Filter,
    /// Its share where a hash chooses among bindings, up to [`types::limits::MAX_BINDING_WEIGHT`]; 0 takes none. Elsewhere without meaning.
    pub weight: u32,
}

/// Why the table was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// The topic is there already.
    #[error("topic {0} is in the routing table already")]
    DuplicateTopic(EntityId),
    /// The binding is there already.
    #[error("binding {0} is in the routing table already")]
    DuplicateBinding(EntityId),
    /// There is no such topic.
    #[error("topic {0} is not in the routing table")]
    UnknownTopic(EntityId),
}

/// Why a message was not routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// There is no such topic.
    #[error("topic {0} is not in the routing table")]
    UnknownTopic(EntityId),
    /// See [`MAX_ROUTE_TOPICS`].
    #[error("the message would pass through more than {MAX_ROUTE_TOPICS} topics")]
    TooManyTopics,
}

/// So many queues or topics are told apart by looking at each; more by a hash set.
const FEW: usize = 16;

/// Where a message goes. Kept by the publisher from message to message, so that its buffers are too.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Topics whose logs keep the message, each once, the one published to first.
    pub logs: Vec<EntityId>,
    /// Queues that get the message, each once.
    pub queues: Vec<RoutedQueue>,
    /// All topics passed through, with a log or not, each once, the one published to first.
    pub topics: Vec<EntityId>,
    seen_queues: HashSet<EntityId>,
    seen_topics: HashSet<EntityId>,
}

/// A queue that gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutedQueue {
    /// Which queue.
    pub queue: EntityId,
    /// The first of the bindings that led there.
    pub binding: EntityId,
}

impl Routes {
    /// Whether nobody keeps the message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.queues.is_empty()
    }

    fn clear(&mut self) {
        self.logs.clear();
        self.queues.clear();
        self.topics.clear();
        self.seen_queues.clear();
        self.seen_topics.clear();
    }

    fn enter(&mut self, topic: EntityId) {
        if self.topics.len() < FEW {
            if self.topics.contains(&topic) {
                return;
            }
        } else {
            if self.seen_topics.is_empty() {
                self.seen_topics.extend(&self.topics);
            }
            if !self.seen_topics.insert(topic) {
                return;
            }
        }
        self.topics.push(topic);
    }

    fn queue(&mut self, queue: EntityId, binding: EntityId) {
        if self.queues.len() < FEW {
            if self.queues.iter().any(|have| have.queue == queue) {
                return;
            }
        } else {
            if self.seen_queues.is_empty() {
                self.seen_queues.extend(self.queues.iter().map(|have| have.queue));
            }
            if !self.seen_queues.insert(queue) {
                return;
            }
        }
        self.queues.push(RoutedQueue { queue, binding });
    }
}

/// The routing table of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Router {
    topics: HashMap<EntityId, Node>,
    bindings: HashMap<EntityId, RouterBinding>,
    by_target: HashMap<RouteTarget, BTreeSet<EntityId>>,
}

#[derive(Clone, Debug)]
struct Node {
    topic: RouterTopic,
    bindings: BTreeSet<EntityId>,
    table: Table,
}

impl Router {
    /// A table without topics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A table of these topics and bindings.
    ///
    /// # Errors
    /// See [`RouterError`].
    pub fn build(
        topics: impl IntoIterator<Item = RouterTopic>,
        bindings: impl IntoIterator<Item = RouterBinding>,
    ) -> Result<Self, RouterError> {
        let mut router = Self::new();
        topics.into_iter().try_for_each(|topic| router.add_topic(topic))?;
        bindings.into_iter().try_for_each(|binding| router.add_binding(binding))?;
        Ok(router)
    }

    /// Adds a topic.
    ///
    /// # Errors
    /// [`RouterError::DuplicateTopic`].
    pub fn add_topic(&mut self, topic: RouterTopic) -> Result<(), RouterError> {
        if self.topics.contains_key(&topic.id) {
            return Err(RouterError::DuplicateTopic(topic.id));
        }
        let table = Table::new(&topic.kind);
        self.topics.insert(topic.id, Node { topic, bindings: BTreeSet::new(), table });
        Ok(())
    }

    /// Changes a topic's alternate, log or kind; its bindings stay.
    ///
    /// # Errors
    /// [`RouterError::UnknownTopic`].
    pub fn update_topic(&mut self, topic: RouterTopic) -> Result<(), RouterError> {
        let node = self.topics.get_mut(&topic.id).ok_or(RouterError::UnknownTopic(topic.id))?;
        if node.topic.kind != topic.kind {
            node.table = Table::new(&topic.kind);
            for binding in node.bindings.iter().filter_map(|id| self.bindings.get(id)) {
                node.table.insert(binding);
            }
        }
        node.topic = topic;
        Ok(())
    }

    /// Removes a topic with the bindings from it and to it, and gives those; none if there is no such topic. Where it was an
    /// alternate, there is none any more.
    pub fn remove_topic(&mut self, topic: EntityId) -> Vec<RouterBinding> {
        let Some(node) = self.topics.get(&topic) else { return Vec::new() };
        let mut gone = node.bindings.clone();
        gone.extend(self.by_target.get(&RouteTarget::Topic(topic)).into_iter().flatten());
        let removed = gone.into_iter().filter_map(|id| self.remove_binding(id)).collect();
        self.topics.remove(&topic);
        removed
    }

    /// Removes the bindings to a queue, and gives them.
    pub fn remove_queue(&mut self, queue: EntityId) -> Vec<RouterBinding> {
        let gone = self.by_target.get(&RouteTarget::Queue(queue)).cloned().unwrap_or_default();
        gone.into_iter().filter_map(|id| self.remove_binding(id)).collect()
    }

    /// Adds a binding. One to a topic that is not there (yet) leads nowhere.
    ///
    /// # Errors
    /// [`RouterError::DuplicateBinding`], or [`RouterError::UnknownTopic`] for its source.
    pub fn add_binding(&mut self, binding: RouterBinding) -> Result<(), RouterError> {
        if self.bindings.contains_key(&binding.id) {
            return Err(RouterError::DuplicateBinding(binding.id));
        }
        let node = self.topics.get_mut(&binding.source).ok_or(RouterError::UnknownTopic(binding.source))?;
        node.bindings.insert(binding.id);
        node.table.insert(&binding);
        self.by_target.entry(binding.target).or_default().insert(binding.id);
        self.bindings.insert(binding.id, binding);
        Ok(())
    }

    /// Removes a binding, and gives it if it was there.
    pub fn remove_binding(&mut self, id: EntityId) -> Option<RouterBinding> {
        let binding = self.bindings.remove(&id)?;
        if let Some(node) = self.topics.get_mut(&binding.source) {
            node.bindings.remove(&id);
            node.table.remove(&binding);
        }
        if let Some(others) = self.by_target.get_mut(&binding.target) {
            others.remove(&id);
            if others.is_empty() {
                self.by_target.remove(&binding.target);
            }
        }
        Some(binding)
    }

    /// A binding.
    #[must_use]
    pub fn binding(&self, id: EntityId) -> Option<&RouterBinding> {
        self.bindings.get(&id)
    }

    /// The bindings from a topic, in the order of their ids.
    pub fn bindings_from(&self, topic: EntityId) -> impl Iterator<Item = &RouterBinding> {
        let ids = self.topics.get(&topic).map(|node| &node.bindings);
        ids.into_iter().flatten().filter_map(|id| self.bindings.get(id))
    }

    /// The bindings to a target, in the order of their ids.
    pub fn bindings_to(&self, target: RouteTarget) -> impl Iterator<Item = &RouterBinding> {
        self.by_target.get(&target).into_iter().flatten().filter_map(|id| self.bindings.get(id))
    }

    /// Finds where a message published to `topic` goes: wherever its subject, or one of those that it is routed by besides, leads. Each topic is passed through once, so bindings may form a cycle; where no
    /// binding of a topic takes the message, its alternate gets it.
    ///
    /// # Errors
    /// See [`RouteError`]; `out` is empty then.
    pub fn route(&self, topic: EntityId, message: &dyn Fields, out: &mut Routes) -> Result<(), RouteError> {
        out.clear();
        if !self.topics.contains_key(&topic) {
            return Err(RouteError::UnknownTopic(topic));
        }
        out.enter(topic);
        let mut at = 0;
        while let Some(node) = out.topics.get(at).and_then(|topic| self.topics.get(topic)) {
            at += 1;
            if node.topic.has_log {
                out.logs.push(node.topic.id);
            }
            let mut taken = false;
            let follow = |slot: &table::Slot| match slot.target {
                RouteTarget::Queue(queue) => {
                    taken = true;
                    out.queue(queue, slot.binding);
                }
                RouteTarget::Topic(topic) if self.topics.contains_key(&topic) => {
                    taken = true;
                    out.enter(topic);
                }
                RouteTarget::Topic(_) => {}
            };
            node.table.for_taking_by_any(message, follow);
            if let Some(alternate) = node.topic.alternate.filter(|to| !taken && self.topics.contains_key(to)) {
                out.enter(alternate);
            }
            if out.topics.len() > MAX_ROUTE_TOPICS {
                out.clear();
                return Err(RouteError::TooManyTopics);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
