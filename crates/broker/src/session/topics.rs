//! Topics: declaring, changing, deleting, looking.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{Cleanup, LogConfig};
use types::{EntityId, SubjectPattern, check_name};

use super::admin::{Change, difference, to_the_end};
use super::removal::Removal;
use super::{DeclareTopic, DeleteOptions, Session};
use crate::access::Action;
use crate::definitions::{
    DeadLetterConfig, DurabilityConfig, HashProperty, RetentionConfig, RouterConfig, TopicConfig,
};
use crate::errors::DeclareError;
use crate::meta::MetaRecord;
use crate::router::{CaptureRule, HashOn, RouterBinding, RouterKind, RouterTopic, check};
use crate::shared::{Entities, Shared, log_of, state_log_of};
use crate::topics::{Topic, TopicDefinition};
use crate::transaction::Owned;
use crate::validate::validate_topic;
use crate::views::{Declared, PartitionInfo, TopicInfo};

/// How long a compacted topic keeps a removal unless it says otherwise.
const DEFAULT_TOMBSTONE: Duration = Duration::from_secs(24 * 60 * 60);

impl Session {
    /// Makes a topic. One that exists with the same definition is fine; with another definition it is changed if `update`, and refused
    /// otherwise.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn declare_topic(
        &self,
        name: &str,
        config: TopicConfig,
        update: bool,
    ) -> Result<(Declared, TopicInfo), DeclareError> {
        self.declare_topic_with(name, config, DeclareTopic { update, ..DeclareTopic::default() }).await
    }

    /// As [`declare_topic`](Self::declare_topic), with what else is asked for.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn declare_topic_with(
        &self,
        name: &str,
        config: TopicConfig,
        options: DeclareTopic,
    ) -> Result<(Declared, TopicInfo), DeclareError> {
        check_name(name)?;
        self.may(Action::Configure, "topic", name)?;
        // What a topic passes on or takes in is written and read in the name of whoever says so.
        if let Some(alternate) = &config.alternate {
            self.may(Action::Write, "topic", alternate)?;
        }
        for pattern in config.captures.iter().flatten() {
            self.may(Action::Read, "subject", pattern)?;
        }
        validate_topic(&config)?;
        let (session, name) = (self.clone(), name.to_owned());
        to_the_end(async move { session.declare_topic_now(&name, config, options).await }).await
    }

    async fn declare_topic_now(
        &self,
        name: &str,
        config: TopicConfig,
        options: DeclareTopic,
    ) -> Result<(Declared, TopicInfo), DeclareError> {
        let mut change = self.begin_change().await?;
        let there = self.space.topic(name);
        // One that is named already may have gone since, which is no matter of this declaration.
        let named = there.as_ref().is_some_and(|topic| topic.definition().config.alternate == config.alternate);
        if !options.alternate_may_be_missing && !named {
            self.check_alternate(name, &config)?;
        }
        if let Some(topic) = there {
            return self.redeclare_topic(change, &topic, config, options.update).await;
        }
        let quota = self.space.config().quota.max_topics;
        Self::check_quota("max_topics", quota, self.space.entities.read().topics.len())?;
        let id = change.meta.new_id();
        let rule = capture_rule(name, &config)?;
        self.space.entities.read().captures.check(id, &rule).map_err(|error| invalid("captures", &error))?;
        let definition = self.space.topic_definition(name, config.clone());
        let partitions = self.create_partitions(&mut change, id, name, &definition, 0);
        let state = change.create_log(state_log_of(id), state_config(&self.space.name, name, config.volatile));
        self.record_topic(&mut change, id, name, config);
        let _held = change.commit(self.shared()).await?;
        let topic = Arc::new(Topic::new(id, name, partitions, state, definition, self.now()));
        {
            let mut entities = self.space.entities.write();
            install_topic(&mut entities, &topic, rule)?;
            refresh_alternates(&mut entities, name)?;
        }
        self.shared().changed();
        Ok((Declared::Created, self.topic_info(&topic)))
    }

    async fn redeclare_topic(
        &self,
        mut change: Change,
        topic: &Arc<Topic>,
        config: TopicConfig,
        update: bool,
    ) -> Result<(Declared, TopicInfo), DeclareError> {
        let have = topic.definition();
        if have.config == config {
            return Ok((Declared::Unchanged, self.topic_info(topic)));
        }
        let entity = format!("topic {:?}", &*topic.name);
        if !update {
            return Err(DeclareError::Conflict { entity, difference: difference(&have.config, &config) });
        }
        let partitions = topic.partitions();
        let mut definition = self.space.topic_definition(&topic.name, config.clone());
        if have.config.retention.is_none() && config.retention.is_none() {
            // The log is there because a policy once said so. It stays.
            definition = keep_log_if_any(definition, partitions.len());
        }
        let wanted = partition_count(&definition);
        if wanted < partitions.len() as u32 {
            let difference = "partitions, and the log itself, cannot be taken away; delete the topic and make it anew";
            return Err(DeclareError::Conflict { entity, difference: difference.to_owned() });
        }
        if have.config.key_index != config.key_index && !partitions.is_empty() {
            let difference = "key_index cannot change once there is a log".to_owned();
            return Err(DeclareError::Conflict { entity, difference });
        }
        if have.config.volatile != config.volatile {
            let difference = "volatile cannot change; delete the topic and make it anew".to_owned();
            return Err(DeclareError::Conflict { entity, difference });
        }
        if is_volatile(&have.config) != is_volatile(&config) && !partitions.is_empty() {
            let difference = "durability cannot change to or from memory once there is a log".to_owned();
            return Err(DeclareError::Conflict { entity, difference });
        }
        self.check_bindings(topic, &config.router)?;
        let rule = capture_rule(&topic.name, &config)?;
        self.space.entities.read().captures.check(topic.id, &rule).map_err(|error| invalid("captures", &error))?;
        for owned in partitions.iter() {
            change.configure_log(*owned, log_config(&self.space.name, &topic.name, &definition));
        }
        let mut all = partitions.to_vec();
        all.extend(self.create_partitions(&mut change, topic.id, &topic.name, &definition, partitions.len() as u32));
        self.record_topic(&mut change, topic.id, &topic.name, config);
        let _held = change.commit(self.shared()).await?;
        {
            let mut entities = self.space.entities.write();
            topic.redefine(definition, all, self.now());
            let router = router_topic(&entities, topic);
            entities.router.update_topic(router).map_err(|error| invalid("router", &error))?;
            entities.captures.remove(topic.id);
            entities.captures.declare(topic.id, rule).map_err(|error| invalid("captures", &error))?;
        }
        self.shared().changed();
        Ok((Declared::Updated, self.topic_info(topic)))
    }

    /// A volatile topic's definition goes with it: a restart that found one would look for its log.
    fn record_topic(&self, change: &mut Change, id: EntityId, name: &str, config: TopicConfig) {
        if !config.volatile {
            let (namespace, id, name) = (self.space.id.0, id.0, name.to_owned());
            change.record(MetaRecord::PutTopic { namespace, id, name, config: Box::new(config) });
        }
    }

    /// Deletes a topic with its log and bindings. (`if_unused`: refused while it has bindings from it.)
    ///
    /// # Errors
    /// See [`DeclareError`]. A topic that is another's alternate, that a group reads or that dead letters go to is in use.
    pub async fn delete_topic(&self, name: &str, if_unused: bool) -> Result<(), DeclareError> {
        self.delete_topic_with(name, DeleteOptions { if_unused, ..DeleteOptions::default() }).await
    }

    /// As [`delete_topic`](Self::delete_topic), and if asked to, although it is another's alternate, a group reads it or dead letters go to it.
    /// Groups that read it go with it; alternates and dead letters find whatever has its name later.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_topic_with(&self, name: &str, options: DeleteOptions) -> Result<(), DeclareError> {
        self.may(Action::Configure, "topic", name)?;
        let (session, name) = (self.clone(), name.to_owned());
        to_the_end(async move { session.delete_topic_now(&name, options).await }).await
    }

    async fn delete_topic_now(&self, name: &str, options: DeleteOptions) -> Result<(), DeclareError> {
        let change = self.begin_change().await?;
        let topic = self.space.topic(name).ok_or_else(|| Self::not_found("topic", name))?;
        if !options.even_if_referenced {
            self.check_references(name)?;
        }
        let removal = {
            let entities = self.space.entities.read();
            let bindings = entities.router.bindings_from(topic.id).count();
            if options.if_unused && bindings > 0 {
                let by = format!("{bindings} bindings from it");
                return Err(DeclareError::InUse { entity: format!("topic {name:?}"), by });
            }
            Removal::of_topic(&entities, &topic)
        };
        removal.commit(self.shared(), &self.space, change).await
    }

    /// Whether definitions refer to the topic in a way that its deletion would break.
    fn check_references(&self, name: &str) -> Result<(), DeclareError> {
        let in_use = |by: String| DeclareError::InUse { entity: format!("topic {name:?}"), by };
        if let Some(other) = self.alternate_of(name) {
            return Err(in_use(format!("it is the alternate of topic {other:?}")));
        }
        if let Some(group) = self.group_on(name) {
            return Err(in_use(format!("group {group:?} reads it; delete that first")));
        }
        if let Some(queue) = self.dead_letters_into(name) {
            return Err(in_use(format!("dead letters of queue {queue:?} go to it; change that first")));
        }
        Ok(())
    }

    /// One topic.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn topic(&self, name: &str) -> Result<TopicInfo, DeclareError> {
        let topic = self.space.topic(name).filter(|_| self.grants().is_ok_and(|grants| self.sees(&grants, name)));
        match topic {
            Some(topic) => Ok(self.topic_info(&topic)),
            None => {
                self.may(Action::Read, "topic", name)?;
                Err(Self::not_found("topic", name))
            }
        }
    }

    /// All topics that the user may see, by name.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn topics(&self) -> Result<Vec<TopicInfo>, DeclareError> {
        let grants = self.grants()?;
        let topics: Vec<Arc<Topic>> = self.space.entities.read().topics.values().cloned().collect();
        Ok(topics.iter().filter(|topic| self.sees(&grants, &topic.name)).map(|topic| self.topic_info(topic)).collect())
    }

    fn topic_info(&self, topic: &Topic) -> TopicInfo {
        let bindings = self.space.entities.read().router.bindings_from(topic.id).count() as u64;
        topic.info(self.shared(), bindings)
    }

    /// The logs of partitions from `have` on.
    fn create_partitions(
        &self,
        change: &mut Change,
        id: EntityId,
        name: &str,
        definition: &TopicDefinition,
        have: u32,
    ) -> Vec<Owned> {
        let config = log_config(&self.space.name, name, definition);
        (have..partition_count(definition)).map(|n| change.create_log(log_of(id, n), config.clone())).collect()
    }

    fn check_alternate(&self, name: &str, config: &TopicConfig) -> Result<(), DeclareError> {
        match &config.alternate {
            Some(alternate) if alternate != name && self.space.topic(alternate).is_none() => {
                Err(Self::not_found("topic", alternate))
            }
            _ => Ok(()),
        }
    }

    fn alternate_of(&self, name: &str) -> Option<String> {
        let entities = self.space.entities.read();
        let uses = |topic: &&Arc<Topic>| {
            *topic.name != *name && topic.definition().resolved.alternate.as_deref() == Some(name)
        };
        entities.topics.values().find(uses).map(|topic| topic.name.to_string())
    }

    /// The bindings that are there must make sense under another kind of router too.
    fn check_bindings(&self, topic: &Topic, router: &RouterConfig) -> Result<(), DeclareError> {
        let (entities, kind) = (self.space.entities.read(), router_kind(router));
        let fits = |binding: &RouterBinding| check(&kind, &binding.filter, binding.weight);
        entities.router.bindings_from(topic.id).try_for_each(|binding| {
            let why = |error| DeclareError::Conflict {
                entity: format!("topic {:?}", &*topic.name),
                difference: format!("binding {} does not fit the new router: {error}", binding.id),
            };
            fits(binding).map_err(why)
        })
    }

    fn dead_letters_into(&self, name: &str) -> Option<String> {
        let into = |target: &DeadLetterConfig| matches!(target, DeadLetterConfig::Topic { topic, or_drop: false, .. } if topic == name);
        let entities = self.space.entities.read();
        let mut queues = entities.queues.values();
        queues.find(|queue| into(&queue.definition().resolved.dead_letter)).map(|queue| queue.name.to_string())
    }

    fn group_on(&self, topic: &str) -> Option<String> {
        let entities = self.space.entities.read();
        entities.groups.values().find(|group| group.config().topic == topic).map(|group| group.name.to_string())
    }
}

fn invalid(field: &str, error: &dyn std::fmt::Display) -> DeclareError {
    DeclareError::Invalid { field: field.to_owned(), why: error.to_string() }
}

/// Partitions of the log; 0 without one.
fn partition_count(definition: &TopicDefinition) -> u32 {
    if definition.resolved.retention.is_some() { definition.config.partitions.unwrap_or(1) } else { 0 }
}

/// Whether the topic's log is in memory only. Its own definition alone says so, for a log cannot change it: what policies and the
/// namespace say of durability decides when a publish is confirmed, not whether it is written.
pub(crate) fn is_volatile(config: &TopicConfig) -> bool {
    config.volatile || config.durability == Some(DurabilityConfig::Memory)
}

/// What holds for a topic that has `partitions` logs or none: policies decide how long a log is kept, not whether there is one.
pub(crate) fn keep_log(mut definition: TopicDefinition, partitions: usize) -> TopicDefinition {
    if partitions == 0 {
        definition.resolved.retention = None;
    }
    keep_log_if_any(definition, partitions)
}

fn keep_log_if_any(mut definition: TopicDefinition, partitions: usize) -> TopicDefinition {
    if partitions > 0 {
        definition.resolved.retention.get_or_insert_default();
    }
    definition
}

/// Topics whose alternate is of this name find it.
///
/// # Errors
/// If the router does not know one of them.
fn refresh_alternates(entities: &mut Entities, name: &str) -> Result<(), DeclareError> {
    let names = |topic: &&Arc<Topic>| topic.definition().resolved.alternate.as_deref() == Some(name);
    let topics: Vec<_> = entities.topics.values().filter(names).cloned().collect();
    for topic in topics {
        let router = router_topic(entities, &topic);
        entities.router.update_topic(router).map_err(|error| invalid("alternate", &error))?;
    }
    Ok(())
}

fn state_config(space: &str, name: &str, volatile: bool) -> LogConfig {
    let label = format!("state of topic {space}/{name}");
    LogConfig { label, cleanup: Cleanup::default(), key_index: false, volatile, apart: false }
}

/// How a topic's partitions are kept.
pub(crate) fn log_config(space: &str, name: &str, definition: &TopicDefinition) -> LogConfig {
    let retention = definition.resolved.retention.clone().unwrap_or_default();
    LogConfig {
        label: format!("topic {space}/{name}"),
        cleanup: cleanup(&retention, u64::from(partition_count(definition).max(1))),
        key_index: definition.config.key_index,
        volatile: is_volatile(&definition.config),
        apart: false,
    }
}

fn cleanup(retention: &RetentionConfig, partitions: u64) -> Cleanup {
    Cleanup {
        max_age: retention.max_age_ms.map(Duration::from_millis),
        max_bytes: retention.max_bytes.map(|bytes| bytes.div_ceil(partitions)),
        max_records: retention.max_records.map(|records| records.div_ceil(partitions)),
        compact: retention.compact.then(|| retention.tombstone_ms.map_or(DEFAULT_TOMBSTONE, Duration::from_millis)),
    }
}

/// What subjects a topic captures.
///
/// # Errors
/// If one of its filters is no subject pattern.
pub(crate) fn capture_rule(name: &str, config: &TopicConfig) -> Result<CaptureRule, DeclareError> {
    let Some(captures) = &config.captures else { return Ok(CaptureRule::Name(name.into())) };
    let parse = |text: &String| SubjectPattern::parse(text).map_err(|error| invalid("captures", &error));
    captures.iter().map(parse).collect::<Result<Vec<_>, _>>().map(CaptureRule::Patterns)
}

/// What the router must know of a topic.
pub(crate) fn router_topic(entities: &Entities, topic: &Topic) -> RouterTopic {
    let definition = topic.definition();
    let alternate = definition.resolved.alternate.as_deref();
    RouterTopic {
        id: topic.id,
        kind: router_kind(&definition.config.router),
        alternate: alternate.and_then(|name| entities.topics.get(name)).map(|topic| topic.id),
        has_log: !topic.partitions().is_empty(),
    }
}

pub(crate) fn router_kind(config: &RouterConfig) -> RouterKind {
    match config {
        RouterConfig::Any => RouterKind::Any,
        RouterConfig::Exact => RouterKind::Exact,
        RouterConfig::Fanout => RouterKind::Fanout,
        RouterConfig::Subject => RouterKind::Subject,
        RouterConfig::Headers => RouterKind::Headers,
        RouterConfig::Attribute => RouterKind::Attribute,
        RouterConfig::ConsistentHash { header, property } => RouterKind::ConsistentHash(match (header, property) {
            (Some(name), _) => HashOn::Header(name.as_str().into()),
            (None, Some(HashProperty::MessageId)) => HashOn::MessageId,
            (None, Some(HashProperty::CorrelationId)) => HashOn::CorrelationId,
            (None, Some(HashProperty::Timestamp)) => HashOn::Timestamp,
            (None, None) => HashOn::Key,
        }),
    }
}

/// Puts a topic into the namespace.
///
/// # Errors
/// If its captures overlap another's; they were checked before.
pub(crate) fn install_topic(
    entities: &mut Entities,
    topic: &Arc<Topic>,
    rule: CaptureRule,
) -> Result<(), DeclareError> {
    entities.topics.insert(Arc::clone(&topic.name), Arc::clone(topic));
    entities.topics_by_id.insert(topic.id, Arc::clone(topic));
    let router = router_topic(entities, topic);
    entities.router.add_topic(router).map_err(|error| invalid("router", &error))?;
    entities.captures.declare(topic.id, rule).map_err(|error| invalid("captures", &error))
}

impl Topic {
    /// What there is to say of the topic.
    pub(crate) fn info(&self, shared: &Shared, bindings: u64) -> TopicInfo {
        let definition = self.definition();
        let partition = |owned: &Owned| {
            let state = shared.log.state(owned.log).unwrap_or_default();
            PartitionInfo {
                start: state.start,
                end: state.end,
                records: state.records,
                bytes: state.weight,
                disk_bytes: state.disk_bytes,
            }
        };
        TopicInfo {
            id: self.id,
            name: self.name.to_string(),
            config: definition.config.clone(),
            retention: definition.resolved.retention.clone(),
            policy: definition.resolved.policy.clone(),
            operator_policy: definition.resolved.operator_policy.clone(),
            partitions: self.partitions().iter().map(partition).collect(),
            bindings,
            published: self.published.load(Ordering::Relaxed),
            unrouted: self.unrouted.load(Ordering::Relaxed),
            damage: self.damage(shared),
        }
    }
}
