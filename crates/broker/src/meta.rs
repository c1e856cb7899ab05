//! Definitions as records of the `_meta` log, and what replaying them gives. docs/formats/meta-records.md describes them.

use std::collections::BTreeMap;

use bytes::Bytes;
use log::Entry;
use log::batch::{BatchBuilder, BatchOptions, NO_HEADERS, RecordBatch};
use serde::{Deserialize, Serialize};
use types::{EntityId, Timestamp};

use crate::definitions::{
    BindingConfig, GroupConfig, NamespaceConfig, PolicyConfig, QueueConfig, TopicConfig, UserConfig,
};
use crate::errors::StorageError;

/// A change of the definitions. JSON, one a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub(crate) enum MetaRecord {
    /// Ids below this one were given out.
    NextId {
        id: u64,
    },
    PutNamespace {
        id: u64,
        name: String,
        config: NamespaceConfig,
    },
    DeleteNamespace {
        id: u64,
    },
    PutTopic {
        namespace: u64,
        id: u64,
        name: String,
        config: Box<TopicConfig>,
    },
    DeleteTopic {
        id: u64,
    },
    PutQueue {
        namespace: u64,
        id: u64,
        name: String,
        config: Box<QueueConfig>,
    },
    DeleteQueue {
        id: u64,
    },
    PutBinding {
        namespace: u64,
        id: u64,
        config: Box<BindingConfig>,
    },
    DeleteBinding {
        id: u64,
    },
    PutGroup {
        namespace: u64,
        id: u64,
        name: String,
        config: GroupConfig,
    },
    DeleteGroup {
        id: u64,
    },
    PutPolicy {
        namespace: u64,
        id: u64,
        name: String,
        config: Box<PolicyConfig>,
    },
    DeletePolicy {
        id: u64,
    },
    PutUser {
        name: String,
        config: UserConfig,
    },
    DeleteUser {
        name: String,
    },
}

/// A definition with its namespace and name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named<T> {
    pub(crate) namespace: EntityId,
    pub(crate) name: String,
    pub(crate) config: T,
}

/// What a replay of the `_meta` log gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Definitions {
    pub(crate) next_id: u64,
    pub(crate) namespaces: BTreeMap<EntityId, (String, NamespaceConfig)>,
    pub(crate) topics: BTreeMap<EntityId, Named<TopicConfig>>,
    pub(crate) queues: BTreeMap<EntityId, Named<QueueConfig>>,
    pub(crate) bindings: BTreeMap<EntityId, (EntityId, BindingConfig)>,
    pub(crate) groups: BTreeMap<EntityId, Named<GroupConfig>>,
    pub(crate) policies: BTreeMap<EntityId, Named<PolicyConfig>>,
    pub(crate) users: BTreeMap<String, UserConfig>,
    /// Records applied: when they are many more than what they define, a snapshot is written.
    pub(crate) applied: u64,
}

impl Definitions {
    pub(crate) fn apply(&mut self, record: MetaRecord) {
        self.applied += 1;
        let mut seen = |id: u64| {
            self.next_id = self.next_id.max(id + 1);
            EntityId(id)
        };
        match record {
            MetaRecord::NextId { id } => self.next_id = self.next_id.max(id),
            MetaRecord::PutNamespace { id, name, config } => {
                self.namespaces.insert(seen(id), (name, config));
            }
            MetaRecord::DeleteNamespace { id } => self.delete_namespace(EntityId(id)),
            MetaRecord::PutTopic { namespace, id, name, config } => {
                self.topics.insert(seen(id), Named { namespace: EntityId(namespace), name, config: *config });
            }
            MetaRecord::DeleteTopic { id } => drop(self.topics.remove(&EntityId(id))),
            MetaRecord::PutQueue { namespace, id, name, config } => {
                self.queues.insert(seen(id), Named { namespace: EntityId(namespace), name, config: *config });
            }
            MetaRecord::DeleteQueue { id } => drop(self.queues.remove(&EntityId(id))),
            MetaRecord::PutBinding { namespace, id, config } => {
                self.bindings.insert(seen(id), (EntityId(namespace), *config));
            }
            MetaRecord::DeleteBinding { id } => drop(self.bindings.remove(&EntityId(id))),
            MetaRecord::PutGroup { namespace, id, name, config } => {
                self.groups.insert(seen(id), Named { namespace: EntityId(namespace), name, config });
            }
            MetaRecord::DeleteGroup { id } => drop(self.groups.remove(&EntityId(id))),
            MetaRecord::PutPolicy { namespace, id, name, config } => {
                self.policies.insert(seen(id), Named { namespace: EntityId(namespace), name, config: *config });
            }
            MetaRecord::DeletePolicy { id } => drop(self.policies.remove(&EntityId(id))),
            MetaRecord::PutUser { name, config } => drop(self.users.insert(name, config)),
            MetaRecord::DeleteUser { name } => drop(self.users.remove(&name)),
        }
    }

    fn delete_namespace(&mut self, id: EntityId) {
        self.namespaces.remove(&id);
        self.topics.retain(|_, topic| topic.namespace != id);
        self.queues.retain(|_, queue| queue.namespace != id);
        self.bindings.retain(|_, (namespace, _)| *namespace != id);
        self.groups.retain(|_, group| group.namespace != id);
        self.policies.retain(|_, policy| policy.namespace != id);
    }

    /// How many records a snapshot has.
    pub(crate) fn len(&self) -> u64 {
        let count = self.namespaces.len()
            + self.topics.len()
            + self.queues.len()
            + self.bindings.len()
            + self.groups.len()
            + self.policies.len()
            + self.users.len();
        count as u64 + 1
    }

    /// The records that give these definitions from nothing.
    pub(crate) fn snapshot(&self) -> Vec<MetaRecord> {
        let mut records = vec![MetaRecord::NextId { id: self.next_id }];
        records.extend(self.namespaces.iter().map(|(id, (name, config))| MetaRecord::PutNamespace {
            id: id.0,
            name: name.clone(),
            config: config.clone(),
        }));
        records.extend(self.topics.iter().map(|(id, topic)| MetaRecord::PutTopic {
            namespace: topic.namespace.0,
            id: id.0,
            name: topic.name.clone(),
            config: Box::new(topic.config.clone()),
        }));
        records.extend(self.queues.iter().map(|(id, queue)| MetaRecord::PutQueue {
            namespace: queue.namespace.0,
            id: id.0,
            name: queue.name.clone(),
            config: Box::new(queue.config.clone()),
        }));
        records.extend(self.bindings.iter().map(|(id, (namespace, config))| MetaRecord::PutBinding {
            namespace: namespace.0,
            id: id.0,
            config: Box::new(config.clone()),
        }));
        records.extend(self.groups.iter().map(|(id, group)| MetaRecord::PutGroup {
            namespace: group.namespace.0,
            id: id.0,
            name: group.name.clone(),
            config: group.config.clone(),
        }));
        records.extend(self.policies.iter().map(|(id, policy)| MetaRecord::PutPolicy {
            namespace: policy.namespace.0,
            id: id.0,
            name: policy.name.clone(),
            config: Box::new(policy.config.clone()),
        }));
        records.extend(
            self.users.iter().map(|(name, config)| MetaRecord::PutUser { name: name.clone(), config: config.clone() }),
        );
        records
    }
}

/// Calls `each` with the value of every live record, in order.
pub(crate) fn for_each_record(
    entries: &[Entry],
    mut each: impl FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let damaged = |error: log::batch::BatchError| StorageError::Damaged(error.to_string());
    for entry in entries {
        let block = entry.batch.block().map_err(damaged)?;
        for record in block.refs() {
            let record = record.map_err(damaged)?;
            if entry.live.contains(record.offset_delta) {
                each(record.value.unwrap_or_default())?;
            }
        }
    }
    Ok(())
}

/// A batch of records without key and headers.
///
/// # Errors
/// If it is larger than a batch can be.
pub(crate) fn plain_batch(values: &[Bytes], now: Timestamp) -> Result<RecordBatch, StorageError> {
    let options = BatchOptions { base_timestamp_ms: Some(now.0), ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    let too_large = |error: log::batch::BuildError| StorageError::Unavailable(error.to_string());
    for value in values {
        builder.push(None, now.0, None, Some(value), NO_HEADERS).map_err(too_large)?;
    }
    builder.finish().map_err(too_large)
}

/// The batch that holds these records.
///
/// # Errors
/// See [`plain_batch`].
pub(crate) fn meta_batch(records: &[MetaRecord], now: Timestamp) -> Result<RecordBatch, StorageError> {
    let encoded: Result<Vec<Bytes>, _> =
        records.iter().map(|record| serde_json::to_vec(record).map(Bytes::from)).collect();
    plain_batch(&encoded.map_err(|error| StorageError::Unavailable(error.to_string()))?, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by the first version, and read by every later one.
    const FIXTURE: &str = r#"{"record":"next-id","id":1031}
{"record":"put-namespace","id":1,"name":"default","config":{}}
{"record":"put-topic","namespace":1,"id":2,"name":"t","config":{"router":{"kind":"consistent-hash","header":"h"},"retention":{"compact":true},"captures":["a.>"]}}
{"record":"put-queue","namespace":1,"id":3,"name":"q","config":{"dead_letter":{"topic":{"topic":"t","subject":null}},"retry":{"max_attempts":3}}}
{"record":"put-binding","namespace":1,"id":4,"config":{"topic":"t","target":{"queue":"q"},"filter":"all"}}
{"record":"put-group","namespace":1,"id":5,"name":"g","config":{"topic":"t","start":"latest"}}
{"record":"put-policy","namespace":1,"id":6,"name":"p","config":{"pattern":"*","applies_to":"all","overrides":{"ttl_ms":5}}}
{"record":"put-user","name":"u","config":{"admin":true}}
{"record":"put-queue","namespace":1,"id":7,"name":"gone","config":{}}
{"record":"delete-queue","id":7}"#;

    #[test]
    fn definitions_of_the_first_version_are_read_and_a_snapshot_of_them_gives_the_same() {
        let mut definitions = Definitions::default();
        FIXTURE.lines().for_each(|line| definitions.apply(serde_json::from_str(line).unwrap()));
        assert_eq!((definitions.next_id, definitions.applied, definitions.len()), (1_031, 10, 8));
        assert_eq!(definitions.queues.len(), 1);
        let topic = &definitions.topics[&EntityId(2)];
        assert_eq!((topic.name.as_str(), topic.config.captures.as_deref()), ("t", Some(&["a.>".to_owned()][..])));
        let mut again = Definitions::default();
        for record in definitions.snapshot() {
            let text = serde_json::to_string(&record).unwrap();
            again.apply(serde_json::from_str(&text).unwrap());
        }
        assert_eq!(again, Definitions { applied: again.applied, ..definitions.clone() });
        assert_eq!(again.applied, definitions.len());
        definitions.apply(MetaRecord::DeleteNamespace { id: 1 });
        assert_eq!(definitions.len(), 2, "the bound on ids, and the user");
        assert!(serde_json::from_str::<MetaRecord>(r#"{"record":"put-star","id":1}"#).is_err());
    }
}
