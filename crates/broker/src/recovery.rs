//! Starting: what the logs hold becomes what the broker knows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use log::{Append, Cleanup, Commit, CommitOutcome, Durability, Log, LogConfig, OpenError, Opened, Operation, Target};
use types::{Clock, EntityId, Epoch, LogId, Offset};

use crate::access::{Users, UsersOptions};
use crate::broker::{Broker, BrokerOptions, DEFAULT_NAMESPACE};
use crate::definitions::NamespaceConfig;
use crate::errors::StorageError;
use crate::groups::GroupOwner;
use crate::meta::{Definitions, MetaRecord, Named, meta_batch};
use crate::queues::QueueOwner;
use crate::session::{
    capture_rule, define_queue, define_topic, install_queue, install_topic, is_volatile, keep_log, router_binding,
    router_topic,
};
use crate::shared::{META_LOG, MetaState, Namespace, Shared, log_of, read_all, state_log_of};
use crate::topics::Topic;
use crate::transaction::{CommitFailure, Owned, Transaction};
use crate::views::PolicyInfo;

/// Records of definitions that a start tolerates beyond what they define, before it writes a snapshot.
const MAX_STALE_RECORDS: u64 = 1_000;

/// Logs just taken over.
type Logs = HashMap<LogId, Result<Opened, OpenError>>;

/// Starts a broker.
///
/// # Errors
/// If the log cannot be opened, or what it holds cannot be read.
pub(crate) fn open(log: Arc<dyn Log>, clock: Arc<dyn Clock>, options: BrokerOptions) -> Result<Broker, StorageError> {
    let meta = open_meta(&*log, &*clock)?;
    let mut definitions = read_definitions(&*log)?;
    if !definitions.namespaces.values().any(|(name, _)| name == DEFAULT_NAMESPACE) {
        let (id, name) = (definitions.next_id, DEFAULT_NAMESPACE.to_owned());
        let record = MetaRecord::PutNamespace { id, name, config: NamespaceConfig::default() };
        write_meta(&*log, &*clock, meta, std::slice::from_ref(&record))?;
        definitions.apply(record);
    } else if is_stale(definitions.applied, definitions.len(), options.snapshot_records) {
        snapshot_meta(&*log, &*clock, meta, &definitions)?;
        definitions.applied = definitions.len();
    }
    let (next_id, needed) = (definitions.next_id, definitions.len());
    let state = MetaState { owned: meta, next_id, recorded_ids: next_id, records: definitions.applied, needed };
    let users =
        Users::new(UsersOptions { anonymous: options.anonymous, cache: options.auth_cache, ..Default::default() })
            .map_err(|error| StorageError::Unavailable(error.to_string()))?;
    for (name, config) in std::mem::take(&mut definitions.users) {
        users.put(&name, config);
    }
    let shared = Arc::new(Shared::new(log, clock, options, state, users));
    restore(&shared, definitions)?;
    Ok(Broker::from_shared(shared))
}

/// Whether a log of definitions is so much longer than what it defines that a snapshot is due.
fn is_stale(records: u64, needed: u64, most: Option<u64>) -> bool {
    records.saturating_sub(needed) > most.unwrap_or(MAX_STALE_RECORDS) + needed
}

/// What the log of definitions says.
fn read_definitions(log: &dyn Log) -> Result<Definitions, StorageError> {
    let mut definitions = Definitions { next_id: 1, ..Definitions::default() };
    read_all(log, META_LOG, &mut |value| {
        definitions.apply(
            serde_json::from_slice(value).map_err(|error| {
                StorageError::Damaged(format!("a record of the definitions cannot be read: {error}"))
            })?,
        );
        Ok(())
    })?;
    Ok(definitions)
}

/// Snapshots the definitions while the broker runs, when that is due and nobody is changing any.
///
/// # Errors
/// If the log cannot be read or does not take the snapshot; nothing is lost then.
pub(crate) async fn shorten_definitions(shared: &Arc<Shared>) -> Result<(), StorageError> {
    let Ok(mut meta) = Arc::clone(&shared.meta).try_lock_owned() else { return Ok(()) };
    if !is_stale(meta.records, meta.needed, shared.snapshot_records) || shared.is_closed() {
        return Ok(());
    }
    let definitions = read_definitions(&*shared.log)?;
    meta.needed = definitions.len();
    if !is_stale(meta.records, meta.needed, shared.snapshot_records) {
        return Ok(());
    }
    let batch = meta_batch(&definitions.snapshot(), shared.clock.now().wall)?;
    let mut snapshot = Transaction::new();
    snapshot.at_least(Durability::Fsync);
    snapshot.uses_reserve();
    snapshot.operation(meta.owned.target(Operation::Append(Append { batch, selection: None, weight: 0 })));
    let written = snapshot.commit(shared).await?;
    if let Some(written) = written.first() {
        let mut trim = Transaction::new();
        trim.at_least(Durability::Os);
        trim.operation(meta.owned.target(Operation::Trim(written.base)));
        trim.commit(shared).await?;
        meta.records = meta.needed;
    }
    Ok(())
}

fn open_meta(log: &dyn Log, _clock: &dyn Clock) -> Result<Owned, StorageError> {
    if log.logs().contains(&META_LOG) {
        let opened = log.open(&[META_LOG]).into_iter().next();
        let opened = opened.ok_or_else(|| StorageError::Unavailable("the definitions cannot be opened".to_owned()))?;
        let opened = opened.map_err(|error| StorageError::Unavailable(error.to_string()))?;
        if let Some(damage) = opened.damage {
            return Err(StorageError::Damaged(format!("the log of definitions is damaged: {damage}")));
        }
        return Ok(Owned { log: META_LOG, epoch: opened.epoch });
    }
    // Damage to messages must not take the definitions along: without them there is no start.
    let label = "definitions".to_owned();
    let config = LogConfig { label, cleanup: Cleanup::default(), key_index: false, volatile: false, apart: true };
    let owned = Owned { log: META_LOG, epoch: Epoch(1) };
    commit_now(log, vec![owned.target(Operation::Create(config))])?;
    Ok(owned)
}

/// Commits and waits, before there is anything else to do.
fn commit_now(log: &dyn Log, operations: Vec<Target>) -> Result<Vec<log::Written>, StorageError> {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let completion = move |outcome| drop(send.send(outcome));
    log.commit(Commit { durability: Durability::Fsync, operations, uses_reserve: false }, Box::new(completion));
    match receive.recv() {
        Ok(CommitOutcome::Committed(written)) => Ok(written),
        Ok(CommitOutcome::Refused(refusal)) => Err(CommitFailure::Refused(refusal).into()),
        Ok(CommitOutcome::Unknown(why)) => Err(StorageError::Unknown(why)),
        Err(_) => Err(StorageError::Unavailable("the storage stopped".to_owned())),
    }
}

fn write_meta(log: &dyn Log, clock: &dyn Clock, meta: Owned, records: &[MetaRecord]) -> Result<Offset, StorageError> {
    let batch = meta_batch(records, clock.now().wall)?;
    let append = Operation::Append(Append { batch, selection: None, weight: 0 });
    let written = commit_now(log, vec![meta.target(append)])?;
    Ok(written.first().map_or(Offset::ZERO, |written| written.base))
}

/// Writes all definitions anew, then drops what they replace. A crash in between leaves both, which give the same.
fn snapshot_meta(log: &dyn Log, clock: &dyn Clock, meta: Owned, definitions: &Definitions) -> Result<(), StorageError> {
    let base = write_meta(log, clock, meta, &definitions.snapshot())?;
    commit_now(log, vec![meta.target(Operation::Trim(base))]).map(|_| ())
}

fn restore(shared: &Arc<Shared>, definitions: Definitions) -> Result<(), StorageError> {
    let spaces: BTreeMap<EntityId, Arc<Namespace>> = definitions
        .namespaces
        .iter()
        .map(|(id, (name, config))| (*id, Arc::new(Namespace::new(*id, name, config.clone()))))
        .collect();
    for space in spaces.values() {
        shared.namespaces.write().insert(Arc::clone(&space.name), Arc::clone(space));
    }
    for (id, policy) in definitions.policies {
        if let Some(space) = spaces.get(&policy.namespace) {
            let info = PolicyInfo { name: policy.name, config: policy.config };
            space.entities.write().policies.insert(id, info);
        }
    }
    let logs = open_logs(shared, &definitions.topics, &definitions.queues, definitions.groups.keys());
    restore_topics(shared, &spaces, definitions.topics, &logs)?;
    restore_queues(shared, &spaces, definitions.queues, &logs)?;
    for (id, group) in definitions.groups {
        let Some(space) = spaces.get(&group.namespace) else { continue };
        let owned = owned(&logs, log_of(id, 0))?;
        let partitions = space.topic(&group.config.topic).map_or(0, |topic| topic.partitions().len());
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        let group = Arc::new(GroupOwner::new(id, &group.name, owned, group.config, partitions));
        group.recover(shared);
        space.entities.write().groups.insert(Arc::clone(&group.name), group);
    }
    for (id, (namespace, config)) in definitions.bindings {
        let Some(space) = spaces.get(&namespace) else { continue };
        let mut entities = space.entities.write();
        match router_binding(&entities, id, &config) {
            Ok(binding) => {
                if let Err(error) = entities.router.add_binding(binding) {
                    tracing::error!(binding = %id, %error, "a binding could not be restored");
                }
                entities.bindings.insert(id, config);
            }
            // Its queue was in memory only, and is gone.
            Err(error) => tracing::info!(binding = %id, %error, "a binding leads nowhere any more"),
        }
    }
    Ok(())
}

/// Takes over all logs, in one go.
fn open_logs<'a>(
    shared: &Shared,
    topics: &BTreeMap<EntityId, Named<crate::definitions::TopicConfig>>,
    queues: &BTreeMap<EntityId, Named<crate::definitions::QueueConfig>>,
    groups: impl Iterator<Item = &'a EntityId>,
) -> Logs {
    let mut wanted = Vec::new();
    for (id, topic) in topics {
        wanted.extend((0..topic.config.partitions.unwrap_or(1)).map(|n| log_of(*id, n)));
        wanted.push(state_log_of(*id));
    }
    for id in queues.keys() {
        wanted.extend([log_of(*id, 0), state_log_of(*id)]);
    }
    wanted.extend(groups.map(|id| log_of(*id, 0)));
    let there: std::collections::HashSet<LogId> = shared.log.logs().into_iter().collect();
    wanted.retain(|log| there.contains(log));
    let opened = shared.log.open(&wanted);
    wanted.into_iter().zip(opened).collect()
}

fn opened(logs: &Logs, log: LogId) -> Result<&Opened, StorageError> {
    match logs.get(&log) {
        Some(Ok(opened)) => Ok(opened),
        Some(Err(OpenError::Unavailable(why))) => Err(StorageError::Unavailable(format!("log {log}: {why}"))),
        Some(Err(OpenError::NoSuchLog(_))) | None => {
            Err(StorageError::Damaged(format!("log {log} is missing, though the definitions name what it holds")))
        }
        Some(Err(error)) => Err(StorageError::Unavailable(error.to_string())),
    }
}

fn owned(logs: &Logs, log: LogId) -> Result<Owned, StorageError> {
    opened(logs, log).map(|opened| Owned { log, epoch: opened.epoch })
}

fn restore_topics(
    shared: &Arc<Shared>,
    spaces: &BTreeMap<EntityId, Arc<Namespace>>,
    topics: BTreeMap<EntityId, Named<crate::definitions::TopicConfig>>,
    logs: &Logs,
) -> Result<(), StorageError> {
    let now = shared.clock.now();
    for (id, topic) in topics {
        let Some(space) = spaces.get(&topic.namespace) else { continue };
        let rule = capture_rule(&topic.name, &topic.config).map_err(unreadable)?;
        let definition = define_topic(&topic.name, topic.config, &space.policies(), &space.config());
        // A log in memory is gone: its topic begins anew.
        let volatile = is_volatile(&definition.config);
        let has_log = definition.config.retention.is_some()
            || logs.contains_key(&log_of(id, 0))
            || (volatile && definition.resolved.retention.is_some());
        // Policies may have come and gone since: they do not decide whether there is a log.
        let count = if has_log { definition.config.partitions.unwrap_or(1) } else { 0 };
        let definition = keep_log(definition, count as usize);
        let mut partitions = Vec::new();
        for n in 0..count {
            match owned(logs, log_of(id, n)) {
                Ok(owned) => partitions.push(owned),
                Err(error) if !volatile => return Err(error),
                Err(_) => partitions.push(recreate(shared, space, &topic.name, &definition, log_of(id, n))?),
            }
        }
        let topic = Topic::new(id, &topic.name, partitions, owned(logs, state_log_of(id))?, definition, now);
        topic.recover(shared, now);
        install_topic(&mut space.entities.write(), &Arc::new(topic), rule).map_err(unreadable)?;
    }
    for space in spaces.values() {
        // Alternates may name topics that came later.
        let mut entities = space.entities.write();
        let topics: Vec<_> = entities.topics.values().cloned().collect();
        for topic in topics {
            let router = router_topic(&entities, &topic);
            entities.router.update_topic(router).map_err(|error| StorageError::Damaged(error.to_string()))?;
        }
    }
    Ok(())
}

fn recreate(
    shared: &Shared,
    space: &Namespace,
    name: &str,
    definition: &crate::topics::TopicDefinition,
    log: LogId,
) -> Result<Owned, StorageError> {
    let config = crate::session::log_config(&space.name, name, definition);
    let owned = Owned { log, epoch: Epoch(1) };
    commit_now(&*shared.log, vec![owned.target(Operation::Create(config))])?;
    Ok(owned)
}

fn restore_queues(
    shared: &Arc<Shared>,
    spaces: &BTreeMap<EntityId, Arc<Namespace>>,
    queues: BTreeMap<EntityId, Named<crate::definitions::QueueConfig>>,
    logs: &Logs,
) -> Result<(), StorageError> {
    let policies: BTreeMap<EntityId, _> = spaces.iter().map(|(id, space)| (*id, space.policies())).collect();
    for (id, queue) in queues {
        let (Some(space), Some(policies)) = (spaces.get(&queue.namespace), policies.get(&queue.namespace)) else {
            continue;
        };
        let messages = owned(logs, log_of(id, 0))?;
        let state = owned(logs, state_log_of(id))?;
        let opened = opened(logs, messages.log)?;
        let definition = define_queue(&queue.name, queue.config, policies, &space.config());
        let name = (id, space.id, &*queue.name);
        let owner = QueueOwner::recover(shared, name, (messages, state), definition, opened)?;
        install_queue(shared, space, Arc::new(owner));
    }
    Ok(())
}

fn unreadable(error: crate::errors::DeclareError) -> StorageError {
    StorageError::Damaged(format!("a definition cannot be restored: {error}"))
}
