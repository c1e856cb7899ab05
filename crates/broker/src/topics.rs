//! Topics at work: their logs, dedup windows and producers, and who waits for records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use types::{EntityId, Message, Now, Timestamp};

use crate::dedup::DedupWindow;
use crate::definitions::TopicConfig;
use crate::errors::StorageError;
use crate::idempotence::ProducerWindow;
use crate::partition::{partition_of_key, partition_without_key};
use crate::policy::ResolvedTopic;
use crate::shared::Shared;
use crate::state_log::{StateLog, StateRecord};
use crate::transaction::Owned;

/// A topic's definition, and what holds with policies applied.
#[derive(Clone, Debug)]
pub(crate) struct TopicDefinition {
    pub(crate) config: TopicConfig,
    pub(crate) resolved: ResolvedTopic,
}

/// A topic. Shared by sessions and commits under way.
pub(crate) struct Topic {
    pub(crate) id: EntityId,
    pub(crate) name: Arc<str>,
    /// Its partitions' logs; none if it keeps no log.
    partitions: RwLock<Arc<[Owned]>>,
    pub(crate) state: Arc<StateLog>,
    definition: RwLock<Arc<TopicDefinition>>,
    dedup: Mutex<Option<DedupWindow>>,
    pub(crate) producers: Mutex<ProducerWindow>,
    appended: Notify,
    keyless: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) unrouted: AtomicU64,
    deleted: AtomicBool,
}

impl Topic {
    pub(crate) fn new(id: EntityId, name: &str, partitions: Vec<Owned>, state: Owned, definition: TopicDefinition) -> Self {
        let dedup = definition.resolved.dedup_window.map(DedupWindow::new);
        Self {
            id,
            name: name.into(),
            partitions: RwLock::new(partitions.into()),
            state: Arc::new(StateLog::new(state)),
            definition: RwLock::new(Arc::new(definition)),
            dedup: Mutex::new(dedup),
            producers: Mutex::new(ProducerWindow::default()),
            appended: Notify::new(),
            keyless: AtomicU64::new(0),
            published: AtomicU64::new(0),
            unrouted: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
        }
    }

    /// Takes up what the state log holds.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn recover(&self, shared: &Shared, now: Now) -> Result<(), StorageError> {
        let mut dedup = self.dedup.lock();
        let mut producers = self.producers.lock();
        self.state.replay(shared, |record| match record {
            StateRecord::Reset => {
                *producers = ProducerWindow::default();
            }
            StateRecord::Dedup { id, at } => {
                if let Some(dedup) = &mut *dedup {
                    dedup.observe(id, at, now.wall);
                }
            }
            StateRecord::Producer { id, epoch, sequence, count, base, .. } => {
                producers.observe(id, epoch, sequence, count, base, now.wall);
            }
            StateRecord::Retry(_) | StateRecord::Forget(_) | StateRecord::DeliveredTo(_) => {}
        })
    }

    pub(crate) fn definition(&self) -> Arc<TopicDefinition> {
        Arc::clone(&self.definition.read())
    }

    pub(crate) fn redefine(&self, definition: TopicDefinition, partitions: Vec<Owned>) {
        let mut dedup = self.dedup.lock();
        match (&mut *dedup, definition.resolved.dedup_window) {
            (Some(dedup), Some(window)) => dedup.set_window(window),
            (dedup, window) => *dedup = window.map(DedupWindow::new),
        }
        *self.partitions.write() = partitions.into();
        *self.definition.write() = Arc::new(definition);
    }

    /// The partitions' logs.
    pub(crate) fn partitions(&self) -> Arc<[Owned]> {
        Arc::clone(&self.partitions.read())
    }

    /// Where a message goes, of `count` partitions.
    pub(crate) fn partition_for(&self, message: &Message, count: u32) -> u32 {
        match &message.key {
            Some(key) => partition_of_key(key, count),
            None => partition_without_key(self.keyless.fetch_add(1, Ordering::Relaxed), count),
        }
    }

    /// Reserves a dedup id. `Ok(false)`: it is a duplicate.
    ///
    /// # Errors
    /// The number of ids that a full window holds.
    pub(crate) fn reserve_dedup(&self, id: u128, now: Now) -> Result<bool, u64> {
        match &mut *self.dedup.lock() {
            None => Ok(true),
            Some(dedup) => dedup.reserve(id, now.wall),
        }
    }

    pub(crate) fn has_dedup(&self) -> bool {
        self.dedup.lock().is_some()
    }

    pub(crate) fn confirm_dedup(&self, ids: &[u128], now: Now) {
        if let Some(dedup) = &mut *self.dedup.lock() {
            ids.iter().for_each(|id| dedup.confirm(*id, now.wall));
        }
    }

    pub(crate) fn cancel_dedup(&self, ids: &[u128]) {
        if let Some(dedup) = &mut *self.dedup.lock() {
            ids.iter().for_each(|id| dedup.cancel(*id));
        }
    }

    /// Records reached a partition.
    pub(crate) fn appended(&self) {
        self.appended.notify_waiters();
    }

    /// Is woken when records reach a partition, or the topic is deleted. Enable it before looking.
    pub(crate) fn wait(&self) -> tokio::sync::futures::Notified<'_> {
        self.appended.notified()
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.appended.notify_waiters();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Snapshots the state log when due.
    pub(crate) fn keep_state(&self, shared: &Arc<Shared>, now: Now) {
        if !self.state.wants_snapshot() {
            return;
        }
        let mut records = Vec::new();
        if let Some(dedup) = &*self.dedup.lock() {
            records.extend(dedup.entries(now.wall).map(|(id, at)| StateRecord::Dedup { id, at }));
        }
        records.extend(self.producers.lock().records());
        shared.snapshot_later(&self.state, records);
    }
}

/// The dedup or producer id's hash.
pub(crate) fn hash_id(id: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(id.as_bytes())
}

/// Whether `time` has passed.
pub(crate) fn is_past(time: Option<Timestamp>, now: Now) -> bool {
    time.is_some_and(|time| time <= now.wall)
}
